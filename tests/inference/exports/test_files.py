import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from aign.framework.errors import StorageError, UserError
from aign.geometry.rotation import from_axis_angle
from aign.inference.exports.files import write_exports

from .clips import HOSTILE, captured

NAMES = {"motion.npz", "motion.bvh", "motion.glb", "motion.trc", "joint_angles.csv", "README.txt"}


def test_all_files_and_nothing_else(tmp_path):
    folder = tmp_path / "new" / "take 1"
    files = write_exports(folder, captured(step=40), ["MIT"])
    assert {file.name for file in files} == {file.name for file in folder.iterdir()} == NAMES
    assert all(file.parent == folder for file in files)


def test_the_same_motion_gives_the_same_bytes(tmp_path):
    for part in "ab":
        write_exports(tmp_path / part, captured(step=40), ["MIT"])
    for name in NAMES - {"motion.npz"}:  # a zip holds the time of day
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_the_readme_says_units_axes_rate_frames_joints_and_licences(tmp_path):
    clip = captured()
    write_exports(tmp_path, clip, ["BSD-3-Clause (the video)", clip.body.licence])
    text = (tmp_path / "README.txt").read_text()
    for word in (
        *NAMES - {"README.txt"},
        "CENTIMETRES",
        "metres",
        "y up",
        "z up",
        "15 frames per second",
        "ZXY",
        "XZY",
    ):
        assert word in text
    assert f"{len(clip.known)} frames" in text
    assert f"seen in {int(clip.known.sum())} of them" in text
    assert "pelvis, l_hip, r_hip" in text
    assert "Hips, LeftUpLeg, RightUpLeg" in text
    licences = re.findall(r"^- (.*)$", text, re.MULTILINE)
    assert licences == ["BSD-3-Clause (the video)", clip.body.licence, "zlib (pybullet_data)"]


def test_a_hostile_name_or_licence_stays_text_on_one_line(tmp_path):
    clip = captured(step=80, name=HOSTILE)
    files = write_exports(tmp_path / "out", clip, ["two\nlines\tof \x1b[31mred"])
    assert {file.name for file in (tmp_path / "out").iterdir()} == NAMES
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    text = files[-1].read_text()
    assert text.count("Motion: ") == 1
    assert all(line.isprintable() for line in text.splitlines())
    assert "- two lines of ?[31mred" in text.splitlines()
    for name in ("motion.bvh", "motion.trc"):
        assert "passwd" not in (tmp_path / "out" / name).read_text()


def test_no_frame_was_seen_and_no_licence_given(tmp_path):
    clip = replace(captured(step=80), known=np.zeros(3, bool))
    write_exports(tmp_path, clip, [])
    assert "seen in 0 of them" in (tmp_path / "README.txt").read_text()


def turned(clip, frame, joint, matrix):
    rotmats = clip.motion.rotmats.copy()
    rotmats[frame, joint] = matrix
    return replace(clip, motion=replace(clip.motion, rotmats=rotmats))


BAD = {
    "fps inf": (lambda c: replace(c, motion=replace(c.motion, fps=float("inf"))), "at most 1000"),
    "fps 1e9": (lambda c: replace(c, motion=replace(c.motion, fps=1e9)), "at most 1000"),
    "betas nan": (lambda c: replace(c, betas=np.array([0, np.nan], np.float32)), "coefficient 1 is not a finite"),
    "betas 300": (lambda c: replace(c, betas=np.zeros(300, np.float32)), "300 shape coefficients"),
    "mirror": (lambda c: turned(c, 2, 4, np.diag([-1.0, 1, 1])), "frame 2: the matrix of l_knee is no rotation"),
    "zero": (lambda c: turned(c, 1, 0, np.zeros((3, 3))), "frame 1: the matrix of pelvis is no rotation"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_numbers_are_one_line_and_no_file(tmp_path, case):
    spoil, said = BAD[case]
    with pytest.raises(UserError, match=said) as found:
        write_exports(tmp_path / "out", spoil(captured(step=40)), ["MIT"])
    assert "\n" not in str(found.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(StorageError, match="cannot write to"):
        write_exports(tmp_path / "out", captured(step=40), ["MIT"])
    assert (tmp_path / "out").read_text() == "mine"


def test_a_file_that_cannot_be_replaced(tmp_path):
    (tmp_path / "motion.bvh" / "inside").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"motion\.bvh"):
        write_exports(tmp_path, captured(step=40), ["MIT"])
    assert not [p for p in tmp_path.iterdir() if "unfinished" in p.name]


def test_shorter_betas_are_a_shape(tmp_path):
    clip = replace(captured(step=40), betas=np.array([2.0], np.float32))
    write_exports(tmp_path, clip, ["MIT"])
    with np.load(tmp_path / "motion.npz") as file:
        assert file["betas"].tolist() == [2.0] + [0.0] * 15


def test_nearly_orthogonal_matrices_pass(tmp_path):
    """Rotations of a network in float32, and a tiny scale on top."""
    clip = captured(step=40)
    noise = from_axis_angle(1e-4 * torch.randn(len(clip.known), 24, 3)).numpy() * (1 + 1e-5)
    rotmats = (clip.motion.rotmats @ noise).astype(np.float32)
    write_exports(tmp_path, replace(clip, motion=replace(clip.motion, rotmats=rotmats)), ["MIT"])
