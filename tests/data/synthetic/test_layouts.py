"""Files in SURREAL's and Human3.6M's layouts, read back by their loaders: labels and pictures must still agree."""

import numpy as np
import pytest
import scipy.io

from aign.data.datasets.bodies import surreal
from aign.data.datasets.h36m import h36m_official
from aign.data.datasets.job import Stored
from aign.data.motions import load_demo_motions
from aign.data.pixels import decode_depth, decode_flow, decode_jpeg, decode_mask, decode_parts
from aign.data.synthetic.layouts import surreal_scene, write_h36m, write_surreal
from aign.data.synthetic.scene import WIDE
from aign.framework.errors import UserError

NOTHING = Stored(url="", records={})


def motion(name):
    return next(m for m in load_demo_motions() if m.name == name)


@pytest.mark.parametrize("frames", [1, 8])
def test_surreal_comes_back_through_its_loader(tmp_path, panoramas, frames):
    shot = surreal_scene(WIDE, motion("punch"), (2, frames), frames)
    clip = write_surreal(tmp_path / "data/cmu/train/run0/01_01", "01_01_c0001", shot)
    (job,) = surreal.plan(tmp_path)
    (group,) = job.table_groups
    made = job.clips(group, NOTHING)
    assert set(group) >= {"frames", "keypoints", "labels", "masks", "parts", "depth", "flow", "flow_back", "body"}
    rows = {table: made.tables[table][0] for table in group}
    assert rows["keypoints"]["num_frames"] == frames
    np.testing.assert_allclose(rows["keypoints"]["kp2d_px"], clip.joints_px, atol=0.02)
    np.testing.assert_allclose(rows["labels"]["joints_cam_m"], clip.joints_cam_m, atol=2e-3)
    np.testing.assert_allclose(rows["body"]["betas"], np.tile(clip.betas, (frames, 1)), atol=1e-5)
    np.testing.assert_allclose(rows["body"]["body_trans_cam_m"], clip.trans_m, atol=2e-3)
    np.testing.assert_allclose(rows["body"]["body_pose_rad"][:, 1:], clip.pose_rad[:, 1:], atol=1e-3)
    assert rows["body"]["body_model"] == "aign-default"
    for t in range(frames):
        assert (decode_parts(rows["parts"]["parts_png"][t]) == clip.parts[t]).all()
        assert (decode_mask(rows["masks"]["mask_png"][t]) == clip.mask[t]).all()
        np.testing.assert_allclose(decode_depth(rows["depth"]["depth_zst"][t]), clip.depth_m[t], atol=1e-3)
        picture = decode_jpeg(rows["frames"]["image_jpeg"][t]).astype(float)
        # Not the mirror image: that is far off, JPEG and H.264 are near.
        assert np.abs(picture - clip.rgb[t]).mean() < 0.5 * np.abs(picture - clip.rgb[t][:, ::-1]).mean()
    if frames > 2:
        back, known = decode_flow(rows["flow_back"]["flow_back_zst"][3])
        assert known.all()
        np.testing.assert_allclose(back, clip.flow_back_px[3], atol=0.02)
        ahead, known = decode_flow(rows["flow"]["flow_zst"][3])
        sure = known & clip.mask[3]
        assert sure.sum() > 0.5 * clip.mask[3].sum()
        assert np.abs(ahead - clip.flow_px[3])[sure].mean() < 0.3


def test_convention_surreals_files_are_mirrored_and_keep_sides(tmp_path, panoramas):
    """The raw files, without the loader: pictures flipped, joints2D in them, parts and joints with their own sides."""
    shot = surreal_scene(WIDE, motion("punch"), (9,), 3)
    clip = write_surreal(tmp_path, "01_01_c0001", shot)
    info, segm = (scipy.io.loadmat(tmp_path / f"01_01_c0001_{name}.mat") for name in ("info", "segm"))
    assert (segm["segm_2"] == clip.parts[1][:, ::-1]).all()
    assert info["joints2D"].shape == (2, 24, 3)
    k = np.array([[600.0, 0, 160], [0, 600, 120], [0, 0, 1]])
    mirrored = np.array([[0.0, 0, -1], [0, 1, 0], [-1, 0, 0]])
    assert np.linalg.det(mirrored) == -1
    seen = (info["joints3D"][:, :, 1].T - info["camLoc"].T) @ mirrored.T @ k.T
    np.testing.assert_allclose(info["joints2D"][:, :, 1].T, seen[:, :2] / seen[:, 2:], atol=0.51)
    flow = scipy.io.loadmat(tmp_path / "01_01_c0001_gtflow.mat")["gtflow_2"]
    moved = np.diff(320 - (clip.joints_px[:2, :, 0] + 0.5), axis=0)[0]
    assert np.sign(np.median(flow[..., 0][clip.mask[1][:, ::-1]])) == -np.sign(np.median(moved))


def test_surreal_clips_are_at_most_100_frames():
    with pytest.raises(UserError, match="1 to 100"):
        surreal_scene(WIDE, motion("punch"), (0,), 101)


def test_h36m_comes_back_through_its_loader(tmp_path, panoramas):
    written = write_h36m(tmp_path, {"Walking 1": motion("walk")}, WIDE, 0, 5)
    world, pieces = written["Walking 1"]
    assert world.shape == (5, 32, 3)
    (job,) = h36m_official.plan(tmp_path)
    tables = [t for group in job.table_groups for t in group]
    made = job.clips(tables, NOTHING)
    assert {"frames", "keypoints", "labels", "memory_pose"} <= set(tables)
    for row, camera in zip(made.tables["labels"], pieces, strict=True):
        # Human3.6M's hips are the body's, give or take what the two skeletons call a hip.
        middle = row["joints_cam_m"][:, 0]
        np.testing.assert_allclose(middle, camera.joints_cam_m[:, 0], atol=0.12)
    frames = {row["camera"]: row for row in made.tables["frames"]}
    for keypoints, clip in zip(made.tables["keypoints"], pieces, strict=True):
        seen = keypoints["kp2d_px"][:, :7]
        rounded = np.rint(seen).astype(int)
        on_body = [clip.mask[t][tuple(rounded[t][:, ::-1].T)] for t in range(5)]
        assert np.mean(on_body) > 0.9  # hips, knees and ankles lie on the person
        picture = decode_jpeg(frames[keypoints["camera"]]["image_jpeg"][0])
        assert picture.std() > 5
