"""Which loader reads what, and what is said where none does."""

from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from aign.data import sources
from aign.data.datasets.h36m.h36m_npz import H36mNpz
from aign.data.datasets.motion.motion_clips import MotionClip
from aign.data.sources import SourceOptions, detect, plan
from aign.framework.errors import UserError
from tests.data.test_h36m_npz import motion, save


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("walk.bvh",), "motion"),
        (("deep/down/walk.BVH",), "motion"),
        (("amass.npz",), "motion"),
        (("a.mp4",), "video"),
        (("a.MOV", "calibration.qca.txt"), "video"),
        (("a.mp4", "walk.bvh"), "video"),
        (("data_3d_h36m.npz",), "h36m-videopose3d"),
        (("data_3d_h36m.npz", "a.mp4", "other.npz"), "h36m-videopose3d"),
    ],
)
def test_a_folder_is_read_as_what_is_in_it(names, kind, tmp_path):
    files = [touch(tmp_path / "folder" / name) for name in names]
    assert detect(tmp_path / "folder") == kind
    if len(files) == 1:
        assert detect(files[0]) == kind


def test_every_kind_has_a_loader():
    assert {"auto", *sources.LOADERS} == set(get_args(sources.Dataset))


@pytest.mark.parametrize("kind", sources.LOADERS)
def test_the_options_of_a_loader_are_options(kind):
    assert set(sources.LOADERS[kind].options) <= {field.name for field in fields(SourceOptions)}


def test_an_option_that_the_data_set_does_not_have_is_refused_with_who_has_it(tmp_path):
    touch(tmp_path / "walk.bvh")
    with pytest.raises(UserError, match=r"--framing is for video; .* is read as motion"):
        plan(str(tmp_path), options=SourceOptions(framing="whole"))


@pytest.mark.parametrize("names", [(), ("notes.md", "picture.png")])
def test_nothing_to_read_says_what_could_be(names, tmp_path):
    for name in names:
        touch(tmp_path / name)
    with pytest.raises(UserError, match=r"nothing to read in .*; allowed: .mp4, .*h36m-videopose3d"):
        plan(str(tmp_path))


def test_what_is_not_there_is_said_with_the_embedded_names():
    with pytest.raises(
        UserError, match="no such file or folder: nowhere; or give demo-motions, demo-videos or demo-faces"
    ):
        plan("nowhere")


def test_the_embedded_motions_are_twenty_sound_jobs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jobs = plan("demo-motions")
    assert len(jobs) == len({job.source for job in jobs}) == 20
    assert all(isinstance(job, MotionClip) for job in jobs)
    assert [j.provenance("labels").hash for j in plan("demo-motions")] == [j.provenance("labels").hash for j in jobs]


def test_the_kind_can_be_told(tmp_path):
    touch(tmp_path / "a.mp4")
    touch(tmp_path / "walk.bvh")
    (job,) = plan(str(tmp_path), "motion")
    assert job.source == str(tmp_path / "walk.bvh")
    with pytest.raises(UserError, match=r"lacks metadata\.xml"):
        plan(str(tmp_path), "h36m")


def test_options_reach_their_loader_and_no_other(tmp_path):
    save(tmp_path / "data_3d_h36m.npz", positions_3d={"S1": {"Walking": motion(12)}})
    (plain,) = plan(str(tmp_path))
    assert isinstance(plain, H36mNpz)
    with pytest.raises(UserError, match=r"no data_2d_h36m_mine\.npz beside data_3d_h36m\.npz"):
        plan(str(tmp_path), options=SourceOptions(keypoints="mine"))
    with pytest.raises(UserError, match="--keypoints mine: motions have no detections; allowed: gt, detector"):
        plan("demo-motions", options=SourceOptions(keypoints="mine"))
