"""Human3.6M lists in SPIN's layout (protocols 3.5 d, 3.6)."""

import numpy as np
import pytest

from aign.data.datasets.h36m import spin_npz
from aign.data.datasets.job import Stored, run, tables_of
from aign.data.pixels import decode_jpeg
from aign.data.stages.crops import crop_points
from aign.data.store import Quarantined
from aign.framework.errors import UserError
from tests.data.h36m_fixtures import (
    CAMERAS,
    PICKED_17,
    cameras,
    grey,
    motion_m,
    write_metadata,
    write_mmpose,
    write_spin,
)

WORLD = motion_m(60, 3)
MOTIONS = {("S9", "Directions 1"): (WORLD, range(0, 60, 5)), ("S11", "Phoning 3"): (motion_m(20, 4), range(0, 20, 5))}


def made(job):
    return job.clips(tables_of(job), Stored(url="", records={}))


def centred(camera, world):
    joints = camera.see(world)[:, PICKED_17]
    return joints - joints[:, :1]


def test_labels_are_root_centred_and_right_leg_first(tmp_path):
    """Trap 2: SPIN's 17 have the left leg first, and its 24 slots yet another order."""
    write_spin(tmp_path, MOTIONS)
    job, phoning = spin_npz.plan(tmp_path)
    assert (job.subject, job.stem, phoning.subject, phoning.stem) == ("S9", "Directions 1", "S11", "Phoning 3")
    assert job.table_groups == (("labels",),)
    assert job.provenance("labels").stages[0].params == {"joints": "pelvis at the origin", "cameras": "level"}
    tables = made(job).tables
    for camera in cameras("S9"):
        (clip,) = (c for c in tables["labels"] if c["camera"] == camera.name)
        np.testing.assert_allclose(clip["joints_cam_m"], centred(camera, WORLD)[::5], atol=1e-6)
        assert (clip["frame_start"], clip["num_frames"], clip["fps"]) == (0, 12, 10.0)
        assert clip["joints_valid"].all()
        assert (clip["trans_world_to_cam_m"] == 0).all()


def test_convention_cameras_are_those_of_metadata_or_level(tmp_path):
    write_spin(tmp_path, MOTIONS)
    level = made(spin_npz.plan(tmp_path)[0]).tables["labels"][0]["rot_world_to_cam"].reshape(3, 3)
    np.testing.assert_array_equal(level @ [0, 0, 1], [0, -1, 0])
    assert np.linalg.det(level) == pytest.approx(1)
    assert "taken to be level" in spin_npz.found(tmp_path)
    write_metadata(tmp_path / "metadata.xml")
    job = spin_npz.plan(tmp_path)[0]
    assert job.provenance("labels").stages[0].params["cameras"] == "metadata.xml"
    for clip in made(job).tables["labels"]:
        camera = cameras("S9")[CAMERAS.index(clip["camera"])]
        np.testing.assert_allclose(clip["rot_world_to_cam"].reshape(3, 3), camera.rot, atol=1e-6)


def test_part_gives_keypoints_with_their_visibility(tmp_path):
    write_spin(tmp_path, MOTIONS, "h36m_train.npz", part=True)
    with np.load(tmp_path / "h36m_train.npz") as held:
        arrays = dict(held)
    arrays["part"][:, 7, 2] = 0  # slot 7 is the right elbow
    np.savez(tmp_path / "h36m_train.npz", **arrays)
    job = spin_npz.plan(tmp_path)[0]
    assert job.table_groups == (("keypoints", "labels"),)
    for clip in made(job).tables["keypoints"]:
        camera = cameras("S9")[CAMERAS.index(clip["camera"])]
        px, seen = camera.project(WORLD)[::5, PICKED_17], np.arange(17) != 15
        np.testing.assert_allclose(clip["kp2d_px"][:, seen], px[:, seen], atol=1e-3)
        assert (clip["kp2d_px"][:, 15] == 0).all()
        assert (clip["kp2d_conf"] == seen).all()


@pytest.mark.parametrize(("name", "late"), [("h36m_valid_protocol1.npz", 1), ("h36m_train.npz", 0)])
def test_pictures_of_the_validation_lists_are_one_frame_late(tmp_path, name, late):
    """Trap 21: the picture under frame i's name is the video's frame i + 1, and its time says so."""
    world = motion_m(12, 2)
    write_spin(tmp_path, {("S9", "Walking"): (world, range(0, 12, 5))}, name, images=True)
    (job,) = spin_npz.plan(tmp_path)
    assert job.table_groups == (("frames", "labels"),)
    assert "1 with pictures" in spin_npz.found(tmp_path)
    for clip in made(job).tables["frames"]:
        np.testing.assert_allclose(clip["time_s"], np.array([0, 5, 10]) / 50 + late / 50, atol=1e-6)
        for n, data in zip((0, 5, 10), clip["image_jpeg"], strict=True):
            assert abs(int(decode_jpeg(data)[2, 2, 0]) - grey(n + 1)) < 3
        camera = cameras("S9")[CAMERAS.index(clip["camera"])]
        marks = crop_points(camera.project(world)[1:12:5, PICKED_17], clip["crop_xyxy_px"], 256)
        assert ((marks > 0) & (marks < 255)).all()


def test_protocol_2_is_not_read_beside_protocol_1(tmp_path):
    write_spin(tmp_path, MOTIONS)
    write_spin(tmp_path, MOTIONS, "h36m_valid_protocol2.npz")
    assert len(spin_npz.plan(tmp_path)) == 2
    assert len(spin_npz.plan(tmp_path / "h36m_valid_protocol2.npz")) == 2


def test_recognised_but_not_mmposes_lists(tmp_path):
    assert not spin_npz.looks_like(tmp_path)
    with pytest.raises(UserError, match=r"h36m_valid_protocol1.npz \(from SPIN's"):
        spin_npz.plan(tmp_path)
    write_mmpose(tmp_path, MOTIONS)
    assert not spin_npz.looks_like(tmp_path / "annotation_body3d/fps50")
    (tmp_path / "h36m_broken.npz").write_bytes(b"no zip")
    assert not spin_npz.looks_like(tmp_path)
    assert not spin_npz.looks_like(tmp_path / "h36m_broken.npz")
    write_spin(tmp_path, MOTIONS)
    assert spin_npz.looks_like(tmp_path)
    assert spin_npz.looks_like(tmp_path / "h36m_valid_protocol1.npz")


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("S", lambda v: v * [1000, 1000, 1000, 1], "metres are needed (got millimetres?)"),
        ("S", lambda v: v + np.array([0, 0, 5, 0]), "root-centred metres are needed"),
        ("S", lambda v: v * [1, -1, 1, 1], "+y is not down"),
        ("S", lambda v: np.where(np.arange(len(v))[:, None, None] == 2, np.nan, v), "NaN"),
        ("S", lambda v: v[:, :17], "(any, 24, 4) is needed"),
        ("scale", lambda v: v * 0, "above 0 and at most 50"),
        ("center", lambda v: v[:, :1], "(any, 2) is needed"),
    ],
)
def test_bad_rows_are_quarantined_with_the_reason(tmp_path, name, edit, message):
    write_spin(tmp_path, MOTIONS)
    file = tmp_path / "h36m_valid_protocol1.npz"
    with np.load(file) as held:
        arrays = dict(held)
    np.savez(file, **{**arrays, name: edit(arrays[name])})
    result = run(spin_npz.plan(file)[0], str(tmp_path / "store"), 0)
    assert isinstance(result, Quarantined)
    assert message in result.error


def test_a_list_without_its_columns_says_which(tmp_path):
    np.savez(tmp_path / "h36m_x.npz", imgname=np.array(["a"]), S=np.zeros((1, 24, 4)))
    with pytest.raises(UserError, match="lacks center, scale"):
        spin_npz.plan(tmp_path / "h36m_x.npz")
