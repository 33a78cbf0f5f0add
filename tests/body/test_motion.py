"""Motions: mirroring, other frame rates, and retargeting between rest poses."""

import numpy as np
import pytest
import torch

from aign.body.assets import load_body
from aign.body.motion import Motion, mirror, resample, sample_at, skin_translation
from aign.body.retarget import LIMB_CHILD, SourcePose, leg_length, retarget, smallest_rotation
from aign.body.skinning import forward_kinematics, joints_only, rest_joints
from aign.framework.errors import UserError
from aign.geometry.rotation import from_axis_angle, geodesic_rad
from aign.geometry.skeleton import SMPL24


def random_motion(frames=9, fps=30.0, spread=0.3):
    rotmats = from_axis_angle(spread * torch.randn(frames, 24, 3)).numpy()
    trans = np.random.default_rng(0).standard_normal((frames, 3)).astype(np.float32)
    return Motion(name="m", fps=fps, rotmats=rotmats, trans_m=trans, source="here", licence="CC0-1.0")


def joints_of(motion):
    body = load_body()
    rest = rest_joints(body, torch.zeros(1, 10))[0, 0]
    frames = len(motion.rotmats)
    trans = skin_translation(torch.from_numpy(motion.trans_m), rest)
    return joints_only(body, torch.from_numpy(motion.rotmats), torch.zeros(frames, 10), trans).numpy()


def test_convention_trans_is_the_pelvis_joint():
    motion = random_motion()
    np.testing.assert_allclose(joints_of(motion)[:, 0], motion.trans_m, atol=1e-5)


def test_convention_mirror_swaps_sides_and_negates_x():
    motion = random_motion()
    got, straight = joints_of(mirror(motion)), joints_of(motion)
    for ours, twin in (("l_wrist", "r_wrist"), ("r_ankle", "l_ankle"), ("head", "head")):
        want = straight[:, SMPL24.joints.index(twin)] * [-1, 1, 1]
        np.testing.assert_allclose(got[:, SMPL24.joints.index(ours)], want, atol=1e-4)
    np.testing.assert_allclose(np.linalg.det(mirror(motion).rotmats), 1, atol=1e-5)


def test_mirror_twice_is_the_motion():
    motion = random_motion()
    twice = mirror(mirror(motion))
    np.testing.assert_array_equal(twice.rotmats, motion.rotmats)
    np.testing.assert_array_equal(twice.trans_m, motion.trans_m)


def test_resample_keeps_known_frames_and_turns_evenly():
    motion = random_motion()
    double = resample(motion, 60.0)
    assert len(double.rotmats) == 17
    np.testing.assert_allclose(double.rotmats[::2], motion.rotmats, atol=1e-6)
    np.testing.assert_allclose(double.trans_m[::2], motion.trans_m, atol=1e-6)
    a, b, c = (torch.from_numpy(double.rotmats[k].astype(np.float64)) for k in (0, 1, 2))
    torch.testing.assert_close(geodesic_rad(a, b), geodesic_rad(b, c), atol=1e-5, rtol=0)
    np.testing.assert_allclose(double.trans_m[1], motion.trans_m[:2].mean(0), atol=1e-6)


@pytest.mark.parametrize(("fps", "frames"), [(10.0, 3), (30.0, 9), (25.0, 7), (50.0, 14), (1.0, 1)])
def test_resample_stays_within_the_clip(fps, frames):
    out = resample(random_motion(), fps)
    assert out.fps == fps
    assert len(out.rotmats) == frames


def test_resample_at_a_single_frame_and_bad_rates():
    one = random_motion(frames=1)
    np.testing.assert_allclose(resample(one, 60.0).rotmats, one.rotmats, atol=1e-6)
    for fps in (0.0, -5.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="positive"):
            resample(one, fps)


def test_sample_at_half_turn_is_a_rotation():
    rotmats = np.tile(np.eye(3, dtype=np.float32), (2, 24, 1, 1))
    rotmats[1, 0] = np.diag([1.0, -1.0, -1.0])
    motion = Motion(name="m", fps=1.0, rotmats=rotmats, trans_m=np.zeros((2, 3), np.float32), source="", licence="")
    middle = sample_at(motion, np.array([0.5]), 1.0).rotmats
    np.testing.assert_allclose(np.linalg.det(middle), 1, atol=1e-5)
    np.testing.assert_allclose(np.abs(middle[0, 0, 1, 2]), 1, atol=1e-4)


@pytest.mark.parametrize("end", [(0, -1, 0), (1, 0, 0), (-1, 0, 0), (0.3, -2, 0.5), (-1, 1e-9, 0)])
def test_smallest_rotation_takes_start_to_end(end):
    start, end = np.array([2.0, 0.0, 0.0]), np.array(end, dtype=np.float64)
    rot = smallest_rotation(start, end)
    np.testing.assert_allclose(rot @ start / 2, end / np.linalg.norm(end), atol=1e-6)
    np.testing.assert_allclose(rot.T @ rot, np.eye(3), atol=1e-9)
    assert np.linalg.det(rot) > 0.9
    assert np.trace(rot) >= 1 + 2 * end[0] / np.linalg.norm(end) - 1e-6  # no twist beyond the swing


def own_rest(frames=4):
    """A source that is the default body itself, so that retargeting must give its rotations back."""
    body = load_body().to(dtype=torch.float64)
    rotmats = from_axis_angle(0.4 * torch.randn(frames, 24, 3, dtype=torch.float64))
    rest = body.rest_joints_m.expand(frames, 24, 3)
    world, joints = forward_kinematics(rotmats, rest, body.parents)
    source = SourcePose(
        rot_world={j: world[:, j].numpy() for j in range(24)},
        limb_rest={j: (rest[0, c] - rest[0, j]).numpy() for j, c in LIMB_CHILD.items()},
        hip_centre=joints[:, 1:3].mean(1).numpy(),
        leg_length=leg_length(load_body()),
    )
    return source, rotmats, joints


def test_retargeting_a_body_to_itself_changes_only_its_height():
    source, rotmats, joints = own_rest()
    got, trans = retarget(load_body(), source)
    np.testing.assert_allclose(got, rotmats.numpy(), atol=1e-5)
    moved = trans - joints[:, 0].numpy()
    np.testing.assert_allclose(moved[:, [0, 2]], 0, atol=2e-3)
    assert np.ptp(moved[:, 1]) < 2e-3


def test_retargeting_puts_limbs_where_the_sources_point():
    """Arms that hang at rest in the source and are not turned must hang in the target, whose own rest spreads them."""
    frames = 2
    still = np.tile(np.eye(3), (frames, 1, 1))
    source = SourcePose(
        rot_world=dict.fromkeys((0, *LIMB_CHILD), still),
        limb_rest={j: np.array([0.0, -1.0, 0.0]) for j in LIMB_CHILD},
        hip_centre=np.zeros((frames, 3)),
        leg_length=2.0 * leg_length(load_body()),
    )
    rotmats, trans = retarget(load_body(), source)
    joints = joints_of(Motion(name="m", fps=1.0, rotmats=rotmats, trans_m=trans, source="", licence=""))[0]
    for joint, child in LIMB_CHILD.items():
        bone = joints[child] - joints[joint]
        np.testing.assert_allclose(bone / np.linalg.norm(bone), [0, -1, 0], atol=1e-5)
    soles = joints[[7, 8], 1]
    assert 0.05 < soles.min() < 0.12  # ankles stand a foot's height above the floor


def test_retargeting_without_a_limb_is_refused():
    source, _, _ = own_rest()
    lacking = {j: r for j, r in source.rot_world.items() if SMPL24.joints[j] != "l_knee"}
    broken = SourcePose(
        rot_world=lacking, limb_rest=source.limb_rest, hip_centre=source.hip_centre, leg_length=source.leg_length
    )
    with pytest.raises(UserError, match="l_knee"):
        retarget(load_body(), broken)
