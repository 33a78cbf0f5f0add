import bvhio
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from aign.data.datasets.motion.bvh import bvh_world, parse_bvh, read_bvh
from aign.geometry.skeleton import SMPL24
from aign.inference.exports.bvh import write_bvh
from aign.inference.exports.rig import BONE_NAMES, continuous, euler_deg, world_m

from .clips import captured, of, posed, skinned, standing


def by_bvhio(path, frames):
    """Joints [t, 24, 3] in centimetres by another program's parser and its own forward kinematics."""
    root = bvhio.readAsHierarchy(str(path))
    found = {joint.Name: joint for joint, *_ in root.layout()}
    out = np.empty((frames, 24, 3))
    for frame in range(frames):
        root.loadPose(frame)
        out[frame] = [list(found[name].PositionWorld) for name in BONE_NAMES]
    return out


@pytest.mark.parametrize("name", ["cartwheel", "roll", "walk"])
def test_an_independent_reader_poses_the_same_joints_in_centimetres(tmp_path, name):
    clip = captured(name)
    write_bvh(tmp_path / "motion.bvh", clip)
    _, ours = skinned(clip)
    off = np.linalg.norm(by_bvhio(tmp_path / "motion.bvh", len(ours)) / 100 - ours, axis=-1)
    assert off.max() < 1e-4, "metres; 1 mm is promised"


def test_a_body_whose_pelvis_is_not_its_origin(tmp_path, smpl_like_body):
    clip = captured(step=12, body=smpl_like_body)
    write_bvh(tmp_path / "motion.bvh", clip)
    _, ours = skinned(clip)
    assert np.abs(by_bvhio(tmp_path / "motion.bvh", len(ours)) / 100 - ours).max() < 1e-4


def test_an_independent_reader_finds_rate_channels_and_end_sites(tmp_path):
    clip = captured()
    write_bvh(tmp_path / "motion.bvh", clip)
    found = bvhio.readAsBvh(str(tmp_path / "motion.bvh"))
    assert found.FrameCount == len(clip.known)
    assert found.FrameTime == pytest.approx(1 / clip.motion.fps, abs=1e-8)
    joints = [joint for joint, *_ in found.Root.layout()]
    assert {joint.Name for joint in joints} == set(BONE_NAMES)
    rotations = ["Zrotation", "Xrotation", "Yrotation"]
    assert joints[0].Channels == ["Xposition", "Yposition", "Zposition", *rotations]
    assert all(joint.Channels == rotations for joint in joints[1:])
    ends = {joint.Name: np.array(list(joint.EndSite)) for joint in joints if not joint.Children}
    assert set(ends) == {"Head", "LeftToeBase", "RightToeBase", "LeftHandMiddle1", "RightHandMiddle1"}
    assert ends["Head"][1] > 10, "the top of the head"
    assert ends["LeftToeBase"][2] > 2, "tips of the toes"
    assert ends["LeftHandMiddle1"][0] > 4, "finger tips"


def test_convention_the_rest_pose_stands_upright_and_faces_z(tmp_path):
    write_bvh(tmp_path / "motion.bvh", captured())
    bvh = parse_bvh(tmp_path / "motion.bvh")
    rest = np.zeros((len(bvh.joints), 3))
    for i, joint in enumerate(bvh.joints):
        rest[i] = joint.offset + (rest[joint.parent] if joint.parent >= 0 else 0)
    names = {joint.name: i for i, joint in enumerate(bvh.joints)}
    standing(rest / 100, {ours: names[theirs] for ours, theirs in zip(SMPL24.joints, BONE_NAMES, strict=True)})


def test_our_own_reader_knows_the_names(tmp_path):
    clip = captured("walk", step=1)
    write_bvh(tmp_path / "motion.bvh", clip)
    back = read_bvh(tmp_path / "motion.bvh")
    assert back.fps == 30.0
    assert len(back.rotmats) == len(clip.known)
    (_, ours), (_, theirs) = world_m(clip), world_m(of(back))
    off = (theirs - theirs[:, :1]) - (ours - ours[:, :1])
    assert np.linalg.norm(off, axis=-1).mean() < 0.03, "retargeted to a mean body by directions, hence not exact"


@pytest.mark.parametrize("degrees", [90.0, -90.0, 89.99999, 90.0001])
def test_gimbal_lock_keeps_the_rotation(tmp_path, degrees):
    """The middle channel at a right angle: a hip bent to sit, and an elbow."""
    turned = np.tile(np.eye(3), (3, 24, 1, 1))
    for frame, first in enumerate((0.0, 25.0, -170.0)):
        for joint in SMPL24.index("l_hip", "r_elbow", "pelvis"):
            turned[frame, joint] = Rotation.from_euler("ZXY", [first, degrees, 40.0], degrees=True).as_matrix()
    clip = posed(turned)
    write_bvh(tmp_path / "motion.bvh", clip)
    _, ours = skinned(clip)
    assert np.abs(by_bvhio(tmp_path / "motion.bvh", 3) / 100 - ours).max() < 1e-4


def test_angles_do_not_jump_between_frames():
    """A turn of 3 degrees a frame, twice around, and a bend that passes through the gimbal's right angle."""
    steps = np.arange(0, 720, 3.0)
    turning = Rotation.from_euler("Y", steps[:, None], degrees=True).as_matrix()
    bending = Rotation.from_euler("ZXY", np.stack((0 * steps + 5, steps, 0 * steps + 8), 1), degrees=True).as_matrix()
    rotmats = np.stack((turning, bending), 1)
    raw = euler_deg(rotmats, "ZXY")
    smooth = continuous(raw)
    assert np.abs(np.diff(raw, axis=0)).max() > 170
    assert np.abs(np.diff(smooth, axis=0)[:, 0]).max() == pytest.approx(3, abs=1e-3)
    assert np.abs(np.diff(smooth, axis=0)[:, 1]).max() < 20
    again = Rotation.from_euler("ZXY", smooth.reshape(-1, 3), degrees=True).as_matrix().reshape(rotmats.shape)
    np.testing.assert_allclose(again, rotmats, atol=1e-6)


def test_one_frame(tmp_path):
    clip = captured(step=1000)
    assert len(clip.known) == 1
    write_bvh(tmp_path / "motion.bvh", clip)
    _, positions = bvh_world(parse_bvh(tmp_path / "motion.bvh"))
    np.testing.assert_allclose(positions[0, 0] / 100, clip.motion.trans_m[0], atol=1e-6)
