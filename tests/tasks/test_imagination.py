import torch

from aign.geometry.camera import normalised
from aign.geometry.rotation import from_axis_angle
from aign.tasks.lifting import render
from aign.tasks.lifting.frames import neighbours
from aign.tasks.lifting.imagination import Imagination
from tests.tasks.scenes import DOUBLE, Oracle, people, scene

CLIPS = torch.tensor([0, 0, 0, 0, 1, 1])


def remembered(frames=1):
    turns = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    poses = people(6) + torch.arange(6, dtype=DOUBLE)[:, None, None]
    return Imagination(joints_world_m=poses, rig_rot=from_axis_angle(turns), windows=neighbours(CLIPS, frames // 2))


def matches(label, poses, rotations):
    """Which (pose, camera) the label is."""
    centred = poses - poses[:, :1]
    every = torch.einsum("ncij,nkj->ncki", rotations, centred).flatten(0, 1)
    # The virtual camera turns what the rig's camera saw a little, so shapes are compared and not axes.
    gap = (torch.cdist(label, label) - torch.cdist(every, every)).abs().amax((1, 2))
    return gap.min(), int(gap.argmin()) // rotations.shape[1]


def test_an_imagined_label_is_a_remembered_pose_and_its_picture_is_its_projection():
    memory = remembered()
    seed = 7919 * torch.arange(64)
    seen = memory.observe(seed, torch.full((64,), 4.0, dtype=DOUBLE))
    frames = set()
    for label in seen.joints_m:
        gap, frame = matches(label, memory.joints_world_m, memory.rig_rot)
        assert gap < 1e-9
        frames.add(frame)
    assert frames == set(range(6)), "all are drawn"
    assert (seen.joints_weight == 1).all()
    # P renders the label, at the depth that was asked for, onto the target.
    depth = seen.joints_m.new_tensor([0.0, 0, 4])
    off_axis = normalised(seen.joints_m + depth) / seen.half_extent[:, None, None] - seen.target2d
    assert off_axis.abs().max() < 0.35, "but for the little turn of the virtual camera"


def test_the_true_answer_renders_to_what_is_imagined():
    memory = remembered()
    seen = memory.observe(torch.arange(9), torch.full((9,), 5.0, dtype=DOUBLE))
    # The pelvis lies on the ray that its keypoint says; its distance from the camera is the depth asked for.
    ray = torch.nn.functional.pad(seen.target2d[:, 0] * seen.half_extent[:, None], (0, 1), value=1.0)
    pelvis = ray / ray.norm(dim=1, keepdim=True) * 5.0
    oracle = Oracle(seen.joints_m + pelvis.unsqueeze(1), torch.eye(3, dtype=DOUBLE).expand(9, 3, 3))
    torch.testing.assert_close(render(oracle(seen), seen), seen.target2d, atol=1e-6, rtol=0)


def test_what_is_drawn_belongs_to_the_seed_and_is_as_far_away_as_what_is_seen():
    memory, there = remembered(), scene(20).observed()
    seed = 31 * torch.arange(20)
    whole = memory.like(there, seed)
    part = memory.like(type(there)(**{n: v[5:9] for n, v in vars(there).items()}), seed[5:9])
    for name, value in vars(part).items():
        torch.testing.assert_close(value, vars(whole)[name][5:9], msg=name)
    ratio = whole.half_extent / there.half_extent
    assert ((ratio > 0.4) & (ratio < 2.5)).all()
    assert not torch.equal(memory.like(there, seed + 1).kp2d, whole.kp2d)


def test_windows_are_of_one_clip_and_seen_by_one_camera():
    memory = remembered(frames=3)
    seen = memory.observe(17 * torch.arange(50), torch.full((50,), 5.0, dtype=DOUBLE))
    assert seen.kp2d.shape == (50, 3, 17, 2)
    torch.testing.assert_close(seen.kp2d[:, 1], seen.target2d)
    still = Imagination(
        joints_world_m=people(1).expand(6, 17, 3), rig_rot=memory.rig_rot, windows=memory.windows
    ).observe(17 * torch.arange(50), torch.full((50,), 5.0, dtype=DOUBLE))
    torch.testing.assert_close(still.kp2d, still.target2d.unsqueeze(1).expand(50, 3, 17, 2))
