import numpy as np
import pandas as pd
import pytest

from aign.body.assets import load_body
from aign.geometry.skeleton import H36M17, SMPL24
from aign.inference.exports.trc import marker_names, write_trc

from ...body.toy_body import toy_arrays
from .clips import captured, skinned


def read(path):
    """As Pose2Sim reads it: five header lines, then a table under the last of them."""
    header = path.read_text().splitlines()[:5]
    table = pd.read_csv(path, sep="\t", skiprows=4, encoding="utf-8")
    return [line.split("\t") for line in header], table


def test_markers_are_the_joints_in_metres(tmp_path):
    clip = captured()
    write_trc(tmp_path / ".motion.unfinished.trc", clip)
    header, table = read(tmp_path / ".motion.unfinished.trc")
    assert header[0] == ["PathFileType", "4", "(X/Y/Z)", "motion.trc"]
    fields = dict(zip(header[1], header[2], strict=True))
    names = [name for name in header[3][2:] if name]
    frames = len(clip.known)
    assert fields == {
        "DataRate": "15", "CameraRate": "15", "NumFrames": str(frames), "NumMarkers": "28", "Units": "m",
        "OrigDataRate": "15", "OrigDataStartFrame": "0", "OrigNumFrames": str(frames),
    }  # fmt: skip
    assert tuple(names) == marker_names(clip)
    assert len(set(names)) == 28
    assert header[3][:2] == ["Frame#", "Time"]
    assert header[3][2::3] == [*names, ""], "a name stands over the first of its three columns"
    assert header[4][2:8] == ["X1", "Y1", "Z1", "X2", "Y2", "Z2"]
    numbers = table.to_numpy()[:, : 2 + 3 * 28]
    np.testing.assert_array_equal(numbers[:, 0], np.arange(frames))
    np.testing.assert_allclose(numbers[:, 1], np.arange(frames) / clip.motion.fps, atol=1e-6)
    vertices, joints = skinned(clip)
    markers = numbers[:, 2:].reshape(frames, 28, 3)
    np.testing.assert_allclose(markers[:, :24], joints, atol=1e-5)
    regressed = clip.body.h36m17_regressor.numpy()[H36M17.index("nose", "head_top")] @ vertices
    np.testing.assert_allclose(markers[:, 26:], regressed, atol=1e-5)


def test_a_body_whose_pelvis_is_not_its_origin(tmp_path, smpl_like_body):
    clip = captured(step=12, body=smpl_like_body)
    write_trc(tmp_path / "motion.trc", clip)
    markers = read(tmp_path / "motion.trc")[1].to_numpy()[:, 2 : 2 + 72].reshape(-1, 24, 3)
    np.testing.assert_allclose(markers, skinned(clip)[1], atol=1e-5)


def test_every_row_has_the_columns_of_the_header(tmp_path):
    write_trc(tmp_path / "motion.trc", captured(step=40))
    lines = (tmp_path / "motion.trc").read_text().splitlines()
    assert {len(line.rstrip("\t").split("\t")) for line in lines[4:]} == {2 + 3 * 28}


def test_midpoints_and_names_of_pose2sim(tmp_path):
    clip = captured("walk", step=5)
    write_trc(tmp_path / "motion.trc", clip)
    header, table = read(tmp_path / "motion.trc")
    names = [name for name in header[3][2:] if name]
    markers = table.to_numpy()[:, 2 : 2 + 84].reshape(len(clip.known), 28, 3)
    at = {name: markers[:, i] for i, name in enumerate(names)}
    np.testing.assert_allclose(at["Hip"], (at["LHip"] + at["RHip"]) / 2, atol=2e-6)
    np.testing.assert_allclose(at["Neck"], (at["LShoulder"] + at["RShoulder"]) / 2, atol=2e-6)
    heights = [at[name][:, 1].mean() for name in ("RAnkle", "RKnee", "Hip", "Neck", "NeckJoint", "HeadJoint", "Head")]
    assert heights == sorted(heights)
    assert heights[-1] - heights[-3] > 0.15


def test_a_body_that_does_not_say_where_its_nose_is(tmp_path):
    np.savez(tmp_path / "toy.npz", **toy_arrays())
    clip = captured(step=50, body=load_body(tmp_path / "toy.npz"))
    assert len(marker_names(clip)) == len(SMPL24) + 2
    write_trc(tmp_path / "motion.trc", clip)
    header, table = read(tmp_path / "motion.trc")
    assert header[2][3] == "26"
    assert table.shape[0] == len(clip.known)


@pytest.mark.parametrize("fps", [29.97, 240.0])
def test_odd_frame_rates(tmp_path, fps):
    clip = captured(step=1000)
    object.__setattr__(clip.motion, "fps", fps)
    write_trc(tmp_path / "motion.trc", clip)
    assert float(read(tmp_path / "motion.trc")[0][2][0]) == fps
