"""What the critics of motion capture see, and the memories they compare it with."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from aign.body.motion import Motion, mirror
from aign.data.motions import load_demo_motions
from aign.framework.errors import UserError
from aign.framework.game import LeastSquares
from aign.framework.memory import Memory
from aign.geometry.rotation import from_6d, from_axis_angle
from aign.nets.mlp import MlpCritic
from aign.nets.pose_critic import MotionCritic, PoseCritic
from aign.tasks.motion_capture.factors import BodyFactors
from aign.tasks.motion_capture.memory import BodyClips, clips_of, mirrored, remember
from aign.tasks.motion_capture.views import PER_FRAME, motion, pose, view_motion, view_pose, view_shape

DOUBLE = torch.float64
FLIP = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=DOUBLE))


def people(b=3, t=4):
    torch.manual_seed(0)
    return BodyFactors(
        rotmats=from_axis_angle(torch.randn(b, t, 24, 3, dtype=DOUBLE)),
        betas=torch.randn(b, 10, dtype=DOUBLE),
        pelvis_cam_m=torch.randn(b, t, 3, dtype=DOUBLE),
    )


def seen_by_another(z, turn, shift):
    """The same people in a camera that stands elsewhere: x' = turn x + shift."""
    root = turn.unsqueeze(1) @ z.rotmats[:, :, 0]
    rotmats = torch.cat((root.unsqueeze(2), z.rotmats[:, :, 1:]), 2)
    pelvis = (turn.unsqueeze(1) @ z.pelvis_cam_m.unsqueeze(-1)).squeeze(-1) + shift
    return replace(z, rotmats=rotmats, pelvis_cam_m=pelvis)


def test_a_pose_is_every_frames_body_without_its_orientation():
    z = people()
    got = view_pose(z, None)
    assert got.shape == (12, 23, 9)
    for i in range(3):
        for f in range(4):
            for j in range(23):
                assert got[4 * i + f, j].tolist() == z.rotmats[i, f, j + 1].flatten().tolist()


def test_the_shape_is_the_factor_itself():
    z = people()
    assert torch.equal(view_shape(z, None), z.betas)


def test_convention_a_motion_is_in_its_first_frames_axes():
    """Convention: 6D of R_0^T R_i, 6D of the 23 body joints, R_0^T (p_i - p_0)."""
    z = people()
    got = view_motion(z, None)
    assert got.shape == (3, 4, PER_FRAME)
    for i in range(3):
        first, begin = z.rotmats[i, 0, 0], z.pelvis_cam_m[i, 0]
        for f in range(4):
            turned = from_6d(got[i, f, :144].reshape(24, 6))
            torch.testing.assert_close(first @ turned[0], z.rotmats[i, f, 0])
            torch.testing.assert_close(turned[1:], z.rotmats[i, f, 1:])
            torch.testing.assert_close(first @ got[i, f, 144:] + begin, z.pelvis_cam_m[i, f])


def test_no_camera_changes_a_pose_or_a_motion_but_the_motion_does():
    z = people()
    other = seen_by_another(z, from_axis_angle(torch.randn(3, 3, dtype=DOUBLE)), torch.randn(3, 1, 3, dtype=DOUBLE))
    assert not torch.allclose(other.rotmats, z.rotmats, atol=0.1)
    torch.testing.assert_close(view_motion(other, None), view_motion(z, None))
    assert torch.equal(view_pose(other, None), view_pose(z, None))
    still = replace(z, pelvis_cam_m=z.pelvis_cam_m[:, :1].expand(-1, 4, -1))
    assert not torch.allclose(view_motion(still, None), view_motion(z, None), atol=0.1)
    walk = replace(z, pelvis_cam_m=z.pelvis_cam_m[:, :1] + (z.pelvis_cam_m - z.pelvis_cam_m[:, :1]) * 1.01)
    assert not torch.allclose(view_motion(walk, None), view_motion(z, None), atol=1e-3)


def test_a_step_forward_is_forward_whatever_way_one_faces():
    z = people(1, 2)
    ahead = z.pelvis_cam_m[:, 0] + 0.5 * z.rotmats[:, 0, 0, :, 2]
    z = replace(z, pelvis_cam_m=torch.stack((z.pelvis_cam_m[:, 0], ahead), 1))
    torch.testing.assert_close(view_motion(z, None)[0, 1, 144:], torch.tensor([0, 0, 0.5], dtype=DOUBLE))


@pytest.mark.parametrize("still", [False, True])
def test_gradients_are_right(still):
    z = people(1, 2)
    if still:  # both frames alike
        z = replace(
            z, rotmats=z.rotmats[:, :1].repeat(1, 2, 1, 1, 1), pelvis_cam_m=z.pelvis_cam_m[:, :1].repeat(1, 2, 1)
        )
    rotmats, pelvis = z.rotmats.clone().requires_grad_(), z.pelvis_cam_m.clone().requires_grad_()
    assert gradcheck(motion, (rotmats, pelvis))
    assert gradcheck(pose, (rotmats,))


# Memory


def clips(lengths=(7, 3, 5), betas=2):
    torch.manual_seed(1)
    n = sum(lengths)
    return BodyClips(
        rotmats=from_axis_angle(torch.randn(n, 24, 3, dtype=DOUBLE)),
        pelvis_m=torch.randn(n, 3, dtype=DOUBLE),
        clip=torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths, dtype=torch.int64)),
        betas=torch.randn(betas, 10, dtype=DOUBLE),
    )


def plain_windows(made, frames):
    """A loop over clips and their windows, a half window apart."""
    found = []
    for number in made.clip.unique_consecutive().tolist():
        (rows,) = (made.clip == number).nonzero(as_tuple=True)
        found += [rows[i : i + frames] for i in range(0, len(rows) - frames + 1, (frames + 1) // 2)]
    return found


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 7])
def test_the_memory_is_every_pose_and_windows_that_stay_in_their_clips_and_the_mirror_image_of_both(frames):
    made = clips()
    got = remember(made, frames)
    assert torch.equal(got.pose, torch.cat((pose(made.rotmats), pose(mirrored(made.rotmats)))))
    assert torch.equal(got.betas, made.betas)
    rows = plain_windows(made, frames)
    assert len(rows) == {1: 15, 2: 12, 3: 6, 4: 3, 5: 2, 7: 1}[frames]
    pelvis = made.pelvis_m * torch.tensor([-1.0, 1, 1])
    want = [motion(made.rotmats[r], made.pelvis_m[r]) for r in rows]
    want += [motion(mirrored(made.rotmats)[r], pelvis[r]) for r in rows]
    torch.testing.assert_close(got.motion, torch.stack(want))


def test_no_clip_is_long_enough_gives_no_motion():
    for frames in (8, 15, 16, 100):
        got = remember(clips(), frames)
        assert got.motion.shape == (0, frames, PER_FRAME)
        assert len(got.pose) == 30
    with pytest.raises(UserError, match="memory is empty"):
        Memory(got.motion)


def test_a_clips_number_may_come_again():
    made = clips((4, 4, 4))
    again = replace(made, clip=torch.tensor([7] * 4 + [3] * 4 + [7] * 4))
    assert torch.equal(remember(again, 4).motion, remember(made, 4).motion)


@pytest.mark.parametrize("empty", ["poses", "shapes"])
def test_an_empty_memory_is_refused_in_one_line(empty):
    made = clips((), 2) if empty == "poses" else clips(betas=0)
    with pytest.raises(UserError, match=r"got (0 poses, 2 shapes|15 poses, 0 shapes)") as refused:
        remember(made, 3)
    assert "\n" not in str(refused.value)


def test_convention_the_mirror_image_is_that_of_motions_and_twice_is_once_none():
    made = clips((6,))
    as_motion = Motion(
        name="a",
        fps=30.0,
        rotmats=made.rotmats.float().numpy(),
        trans_m=made.pelvis_m.float().numpy(),
        source="",
        licence="",
    )
    np.testing.assert_allclose(mirrored(made.rotmats).float().numpy(), mirror(as_motion).rotmats, atol=1e-6)
    assert torch.equal(mirrored(mirrored(made.rotmats)), made.rotmats)
    first, image = remember(made, 6).motion
    # A step to the left becomes one to the right, in the body's own axes.
    torch.testing.assert_close(image[:, 144:], first[:, 144:] * torch.tensor([-1.0, 1, 1]))
    turned = from_6d(first[:, :6])
    torch.testing.assert_close(from_6d(image[:, :6]), FLIP @ turned @ FLIP)


def test_the_mirrored_view_is_the_view_of_the_mirrored_person_in_any_camera():
    """The memory is mirrored in its world, the critic sees cameras: the plane of the mirror must not matter."""
    made = clips((6,))
    turn = from_axis_angle(torch.randn(1, 3, dtype=DOUBLE))
    z = BodyFactors(rotmats=made.rotmats[None], betas=made.betas[:1], pelvis_cam_m=made.pelvis_m[None])
    z = seen_by_another(z, turn, torch.ones(1, 1, 3, dtype=DOUBLE))
    flipped = z.pelvis_cam_m * torch.tensor([-1.0, 1, 1])
    z = replace(z, rotmats=mirrored(z.rotmats[0])[None], pelvis_cam_m=flipped)
    torch.testing.assert_close(view_motion(z, None)[0], remember(made, 6).motion[1])


def test_motions_come_at_the_frame_rate_of_what_they_are_compared_with():
    motions = load_demo_motions()[:3]
    slow, fast = (clips_of(motions, fps, torch.zeros(1, 10)) for fps in (15.0, 30.0))
    assert fast.clip.unique().tolist() == [0, 1, 2]
    for number, one in enumerate(motions):
        frames = (fast.clip == number).sum()
        assert abs(frames - 30 * (len(one.trans_m) - 1) / one.fps) <= 1.001
    pace = [remember(c, 2).motion[:, 1, 144:].norm(dim=-1).mean() for c in (slow, fast)]
    assert 1.7 < pace[0] / pace[1] < 2.1, "twice as far in twice the time"
    with pytest.raises(UserError, match="got 0 motions"):
        clips_of([], 30.0, torch.zeros(1, 10))
    with pytest.raises(UserError, match="frames per second"):
        clips_of(motions, 0.0, torch.zeros(1, 10))


def test_every_view_has_the_shape_of_its_memory_and_its_critic_takes_both():
    kept = remember(clips_of(load_demo_motions()[:3], 30.0, torch.zeros(4, 10)), 4)
    z = people(2, 4)
    z = BodyFactors(**{name: value.float() for name, value in vars(z).items()})
    judged = [
        (view_pose, kept.pose, PoseCritic(16)),
        (view_shape, kept.betas, MlpCritic(10, 16)),
        (view_motion, kept.motion, MotionCritic(PER_FRAME, 16)),
    ]
    for view, values, critic in judged:
        made = view(z, None)
        real = Memory(values).sample(made)
        assert real.shape == made.shape
        assert real.dtype == made.dtype
        assert LeastSquares().critic(critic, real, made).isfinite()
        assert LeastSquares().generator(critic(made)).shape == (len(made),)
