import numpy as np
import pytest
import torch

from aign.body.skinning import joints_only
from aign.data.datasets.motion.amass import read_amass
from aign.geometry.rotation import from_axis_angle
from aign.inference.exports.amass import write_amass
from aign.inference.exports.rig import world_m

from .clips import captured, of, posed, skinned


@pytest.mark.parametrize("name", ["cartwheel", "getup_faceup", "walk"])
def test_our_own_reader_reads_the_motion_back(tmp_path, name):
    clip = captured(name)
    write_amass(tmp_path / "motion.npz", clip, ["CC0-1.0"])
    back = read_amass(tmp_path / "motion.npz")
    assert back.fps == clip.motion.fps
    _, ours = world_m(clip)
    _, theirs = world_m(of(back))
    assert np.abs(ours - theirs).max() < 1e-5
    np.testing.assert_allclose(back.rotmats[:, :22], clip.motion.rotmats[:, :22], atol=1e-5)


def test_a_body_whose_pelvis_is_that_of_smplh_stands_where_amass_says(tmp_path, smpl_like_body):
    """trans is SMPL's transl: skinning a body like SMPL+H's mean with it gives our joints, turned to z up."""
    clip = captured(step=12, body=smpl_like_body)
    write_amass(tmp_path / "motion.npz", clip, [])
    with np.load(tmp_path / "motion.npz") as file:
        rotmats = from_axis_angle(torch.from_numpy(file["poses"][:, :72].reshape(-1, 24, 3))).float()
        trans, betas = torch.from_numpy(file["trans"]).float(), torch.from_numpy(file["betas"][:10]).float()
    got = joints_only(smpl_like_body, rotmats, betas.expand(len(trans), -1), trans)
    x, y, z = skinned(clip)[1].transpose(2, 0, 1)
    np.testing.assert_allclose(
        got, np.stack((x, -z, y), -1), atol=0.03, err_msg="the pelvis of another shape is cm off"
    )
    mean = joints_only(smpl_like_body, rotmats, torch.zeros(len(trans), 10), trans)[:, 0]
    np.testing.assert_allclose(mean, np.stack((x, -z, y), -1)[:, 0], atol=2e-3)


def test_fields_are_those_of_amass_and_need_no_pickle(tmp_path):
    clip = captured()
    write_amass(tmp_path / "motion.npz", clip, ["a", "b"])
    frames = len(clip.known)
    with np.load(tmp_path / "motion.npz", allow_pickle=False) as file:
        content = dict(file)
    shapes = {"trans": (frames, 3), "poses": (frames, 156), "betas": (16,), "dmpls": (frames, 8)}
    assert {key: content[key].shape for key in shapes} == shapes
    assert {content[key].dtype for key in shapes} == {np.dtype(np.float64)}
    assert str(content["gender"]) == "neutral"
    assert float(content["mocap_framerate"]) == float(content["mocap_frame_rate"]) == clip.motion.fps
    np.testing.assert_allclose(content["betas"], [*clip.betas, *[0] * 6])
    np.testing.assert_array_equal(content["known"], clip.known)
    np.testing.assert_array_equal(content["contact"], clip.contact)
    assert "metres" in str(content["units"])
    assert "z up" in str(content["axes"])
    assert content["licences"].tolist() == ["a", "b"]
    assert str(content["body"]) == "default_body"


def test_hands_are_kept_beside_the_poses(tmp_path):
    turned = np.tile(np.eye(3), (2, 24, 1, 1))
    turned[:, 22] = from_axis_angle(torch.tensor([0.0, 0.4, 0.0])).numpy()
    write_amass(tmp_path / "motion.npz", posed(turned), [])
    with np.load(tmp_path / "motion.npz") as file:
        np.testing.assert_allclose(file["smpl_hand_poses"], np.tile([0, 0.4, 0, 0, 0, 0], (2, 1)), atol=1e-6)
        assert not file["poses"][:, 66:].any()


def test_convention_amass_is_z_up_facing_minus_y(tmp_path):
    """A person who stands in the rest pose, facing our +z, one metre up, faces -y of the file, one metre up."""
    write_amass(tmp_path / "motion.npz", posed(np.tile(np.eye(3), (1, 24, 1, 1)), trans_m=(0.3, 1.0, -2.0)), [])
    with np.load(tmp_path / "motion.npz") as file:
        turn = from_axis_angle(torch.from_numpy(file["poses"][0, :3])).numpy()
        pelvis = file["trans"][0] + [-0.0018, -0.2233, 0.0282]
    np.testing.assert_allclose(turn @ [0, 0, 1], [0, -1, 0], atol=1e-6)
    np.testing.assert_allclose(turn @ [0, 1, 0], [0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(pelvis, [0.3, 2.0, 1.0], atol=1e-6)
