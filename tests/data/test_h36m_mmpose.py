"""Human3.6M as mmpose prepares it (protocols 3.5 c, 3.6), and reading its large lists by rows."""

import os
import pickle
import re

import numpy as np
import pytest

from aign.data.datasets.h36m import h36m_mmpose
from aign.data.datasets.h36m.h36m_lists import parse_name, sequences
from aign.data.datasets.h36m.h36m_rows import NpzRows
from aign.data.datasets.job import Stored, run, tables_of
from aign.data.pixels import decode_jpeg
from aign.data.store import Quarantined
from aign.framework.errors import UserError
from tests.data.h36m_fixtures import CAMERAS, PICKED_17, cameras, grey, motion_m, write_mmpose

WORLD = motion_m(140, 3)
MOTIONS = {("S1", "Directions 1"): (WORLD, range(140)), ("S9", "Photo"): (motion_m(60, 4), range(0, 60, 5))}


@pytest.fixture
def folder(tmp_path):
    write_mmpose(tmp_path, MOTIONS)
    return tmp_path


def made(job):
    return job.clips(tables_of(job), Stored(url="", records={}))


def joined(clips, column, camera=None):
    return np.concatenate([clip[column] for clip in clips if camera in (None, clip["camera"])])


def edited(folder, name="fps50/h36m_train.npz", **change):
    file = folder / "annotation_body3d" / name
    with np.load(file) as held:
        arrays = dict(held)
    np.savez(file, **{key: change[key](value) if key in change else value for key, value in arrays.items()})


def test_convention_r_is_transposed_and_t_is_the_camera_in_metres(folder):
    """Trap 12, and trap 10: p is p1, p2."""
    read = h36m_mmpose.read_cameras(folder / "annotation_body3d/cameras.pkl")
    assert set(read) == {(s, c) for s in ("S1", "S9") for c in CAMERAS}
    for camera in cameras("S9"):
        ours = read["S9", camera.name]
        np.testing.assert_allclose(ours.world_to_cam.rot, camera.rot, atol=1e-12)
        np.testing.assert_allclose(ours.world_to_cam.trans_m, -camera.rot @ camera.place_m, atol=1e-12)
        np.testing.assert_allclose(ours.pinhole.distortion, camera.lens[4:])


def test_rows_become_the_sequences_they_were(folder):
    every, fifth = h36m_mmpose.plan(folder)
    assert (every.subject, every.stem, fifth.subject, fifth.stem) == ("S1", "Directions 1", "S9", "Photo")
    tables = made(every).tables
    for camera in cameras("S1"):
        labels = [c for c in tables["labels"] if c["camera"] == camera.name]
        assert [(c["frame_start"], c["num_frames"], c["fps"]) for c in labels] == [(0, 128, 50.0), (128, 12, 50.0)]
        np.testing.assert_allclose(joined(labels, "joints_cam_m"), camera.see(WORLD)[:, PICKED_17], atol=1e-6)
        px = joined(tables["keypoints"], "kp2d_px", camera.name)
        np.testing.assert_allclose(px, camera.project(WORLD)[:, PICKED_17], atol=1e-3)
    np.testing.assert_allclose(joined(tables["memory_pose"], "joints_world_m"), WORLD[:, PICKED_17], atol=1e-6)
    assert tables["labels"][0]["sequence"] == "S1/Directions 1"
    strided = made(fifth).tables["labels"]
    assert [(c["frame_start"], c["num_frames"], c["fps"]) for c in strided] == [(0, 12, 10.0)] * 4
    assert strided[0]["action"] == "Photo"


def test_gaps_and_irregular_steps_do_not_become_motion(tmp_path):
    world = motion_m(80, 1)
    kept = [0, 1, 2, 10, 11, 30, 45]
    write_mmpose(tmp_path, {("S5", "Eating"): (world, kept), ("S5", "Walking"): (world, [4, 9, 14, 24, 29])})
    eating, walking = (made(job).tables for job in h36m_mmpose.plan(tmp_path))
    one = [c for c in eating["labels"] if c["camera"] == CAMERAS[0]]
    assert [(c["frame_start"], c["num_frames"]) for c in one] == [(0, 3), (10, 2), (30, 1), (45, 1)]
    assert {c["fps"] for c in one} == {50.0}
    one = walking["memory_pose"]
    assert [(c["frame_start"], c["num_frames"], c["fps"]) for c in one] == [(0, 3, 10.0), (4, 2, 10.0)]


def test_shuffled_rows_are_sorted_by_their_numbers(folder):
    order = np.random.default_rng(0).permutation(140 * 4 + 12 * 4)
    before = made(h36m_mmpose.plan(folder)[0]).tables["labels"]
    edited(folder, **{key: lambda v: v[order] for key in ("imgname", "center", "scale", "part", "S")})
    after = made(h36m_mmpose.plan(folder)[0]).tables["labels"]
    np.testing.assert_array_equal(joined(after, "joints_cam_m"), joined(before, "joints_cam_m"))


@pytest.mark.parametrize("digits", [6, 5])
def test_frames_come_from_the_pictures(tmp_path, digits):
    """The code writes 6 digits, the documents show 5."""
    world = motion_m(10, 2)
    write_mmpose(tmp_path, {("S1", "Walking"): (world, range(0, 10, 5))}, "fps10/h36m_train.npz", images=True)
    if digits == 5:
        for file in (tmp_path / "images").rglob("*.jpg"):
            file.rename(file.with_name(file.name.replace("_0", "_", 1) if "_00" in file.name else file.name))
    (job,) = h36m_mmpose.plan(tmp_path)
    assert job.table_groups[0] == ("frames", "keypoints", "labels")
    tables = made(job).tables
    for clip in tables["frames"]:
        assert (clip["num_frames"], clip["fps"]) == (2, 10.0)
        np.testing.assert_allclose(clip["time_s"], [0, 0.1], atol=1e-6)
        for n, data in zip((0, 5), clip["image_jpeg"], strict=True):
            assert abs(int(decode_jpeg(data)[2, 2, 0]) - grey(n)) < 3
    assert "1 with pictures" in h36m_mmpose.found(tmp_path)
    next(iter((tmp_path / "images").rglob("*_*6.jpg"))).unlink()
    result = run(job, str(tmp_path / "store"), 0)
    assert isinstance(result, Quarantined)
    assert "1 of 2 pictures are not there: S1/S1_Walking." in result.error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"S": lambda v: v * [1000, 1000, 1000, 1]}, "projected|world|across"),
        ({"S": lambda v: v - v[:, :1] * [1, 1, 1, 0]}, "z > 0"),
        ({"S": lambda v: v * [1, -1, 1, 1]}, r"\+y is not down"),
        ({"S": lambda v: v[:, :16]}, r"\(any, 17, 4\) is needed"),
        ({"S": lambda v: np.where(np.arange(len(v))[:, None, None] == 3, np.nan, v)}, "NaN"),
        ({"part": lambda v: v + np.array([30.0, 0, 0])}, "px .median. from the projected"),
        ({"S": lambda v: v[:, [0, 4, 5, 6, 1, 2, 3, *range(7, 17)]]}, "px .median. from the projected"),
    ],
)
def test_bad_rows_are_quarantined_with_the_reason(folder, tmp_path, change, message):
    edited(folder, **change)
    result = run(h36m_mmpose.plan(folder)[0], str(tmp_path / "store"), 0)
    assert isinstance(result, Quarantined)
    assert re.search(message, result.error), result.error


def pickled(folder, edit):
    path = folder / "annotation_body3d/cameras.pkl"
    content = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps(edit(content)))
    return path


class Hostile:
    def __reduce__(self):
        return os.system, ("touch /tmp/aign-mmpose-was-here",)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: Hostile(), "system, which is refused"),
        (lambda c: {**c, ("S1", "54138969"): Hostile()}, "system, which is refused"),
        (lambda c: [1], "a dictionary by"),
        (lambda c: {"S1": next(iter(c.values()))}, "keys like"),
        (lambda c: {k: {**v, "T": v["T"] * 1000} for k, v in c.items()}, "0.5 to 20 m"),
        (lambda c: {k: {**v, "R": -v["R"]} for k, v in c.items()}, "R is not a rotation"),
        (lambda c: {k: {**v, "k": v["k"][:2]} for k, v in c.items()}, "3 numbers are needed"),
        (lambda c: {k: {n: x for n, x in v.items() if n != "p"} for k, v in c.items()}, "lacks one of"),
        (lambda c: {k: {**v, "f": np.array(["a", "b"])} for k, v in c.items()}, "numbers are needed"),
    ],
)
def test_bad_cameras_are_refused_and_run_nothing(folder, edit, message):
    """Trap 22."""
    with pytest.raises(UserError, match=message):
        h36m_mmpose.read_cameras(pickled(folder, edit))
    assert not os.path.exists("/tmp/aign-mmpose-was-here")


def test_the_untransposed_rotation_does_not_pass(folder, tmp_path):
    pickled(folder, lambda c: {k: {**v, "R": v["R"].T} for k, v in c.items()})
    result = run(h36m_mmpose.plan(folder)[0], str(tmp_path / "store"), 0)
    assert isinstance(result, Quarantined)
    assert "the world's +z is not up" in result.error or "projected" in result.error


def test_a_camera_that_is_not_there_is_named(folder, tmp_path):
    pickled(folder, lambda c: {k: v for k, v in c.items() if k != ("S1", CAMERAS[2])})
    result = run(h36m_mmpose.plan(folder)[0], str(tmp_path / "store"), 0)
    assert isinstance(result, Quarantined)
    assert f"no camera {CAMERAS[2]} of S1" in result.error


def test_every_way_to_name_the_folder_and_what_is_missing(folder, tmp_path):
    base = folder / "annotation_body3d"
    for path in (folder, base, base / "fps50", base / "fps50/h36m_train.npz"):
        assert h36m_mmpose.looks_like(path)
        assert len(h36m_mmpose.plan(path)) == 2
        assert h36m_mmpose.missing(path) == []
    assert "S1, S9; 2 sequences, 0 with pictures" in h36m_mmpose.found(folder)
    write_mmpose(folder, {("S1", "Walking"): (WORLD, range(0, 140, 5))}, "fps10/h36m_train.npz")
    write_mmpose(folder, MOTIONS)
    assert len(h36m_mmpose.plan(folder)) == 2, "the lower rate holds the same frames again"
    (base / "cameras.pkl").unlink()
    assert not h36m_mmpose.looks_like(folder)
    with pytest.raises(UserError, match=r"cameras.pkl \(from mmpose"):
        h36m_mmpose.plan(folder)
    with pytest.raises(UserError, match=r"h36m_train\.npz"):
        h36m_mmpose.plan(base / "fps60")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_rows_are_those_of_the_whole_array(tmp_path, save):
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(200_000, 5)).astype(np.float32)
    names = np.array([f"picture {n}" for n in range(200_000)])
    save(tmp_path / "a.npz", whole=whole, names=names)
    rows = NpzRows(tmp_path / "a.npz")
    runs = [(3, 10), (70_000, 70_001), (150_000, 200_000)]
    np.testing.assert_array_equal(rows.take("whole", runs), np.concatenate([whole[a:b] for a, b in runs]))
    np.testing.assert_array_equal(np.concatenate(list(rows.chunks("names"))), names)
    assert rows.shape("whole") == (200_000, 5)
    with pytest.raises(UserError, match="no other in it; it has whole, names"):
        rows.take("other", [(0, 1)])
    with pytest.raises(UserError, match="which has shape"):
        rows.take("whole", [(0, 200_001)])


def test_damaged_and_hostile_lists_are_refused(tmp_path):
    file = tmp_path / "a.npz"
    np.savez(file, S=np.zeros((9, 3)), imgname=np.array([Hostile()], dtype=object), turned=np.zeros((3, 4)).T)
    with pytest.raises(UserError, match="columns first"):
        NpzRows(file)
    np.savez(file, S=np.zeros((9, 3)), imgname=np.array([Hostile()], dtype=object))
    with pytest.raises(UserError, match="pickled objects, which are refused"):
        sequences(NpzRows(file))
    np.savez_compressed(file, S=np.random.default_rng(0).normal(size=(900, 3)))
    data = bytearray(file.read_bytes())
    data[2000:2040] = bytes(40)
    file.write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        NpzRows(file).take("S", [(0, 900)])
    file.write_bytes(data[:1000])
    with pytest.raises(UserError, match=r"not a whole \.npz"):
        NpzRows(file)
    with pytest.raises(UserError, match="no such file"):
        NpzRows(tmp_path / "b.npz")
    np.savez(file, imgname=np.array(["COCO_train2014_000000000009.jpg"]))
    with pytest.raises(UserError, match="names like S9_Directions_1"):
        sequences(NpzRows(file))


def test_names():
    assert parse_name("S1/S1_SittingDown_2.54138969/S1_SittingDown_2.54138969_00001.jpg", "") == (
        *("S1", "SittingDown 2", "54138969"),
        1,
    )
    with pytest.raises(UserError, match="names like"):
        parse_name("S1_Directions.12345678_000001.jpg", "a camera that is none")


def test_a_frame_that_is_there_twice_is_refused(folder, tmp_path):
    edited(folder, imgname=lambda v: np.where(np.arange(len(v)) == 1, v[0], v))
    result = run(h36m_mmpose.plan(folder)[0], str(tmp_path / "store"), 0)
    assert isinstance(result, Quarantined)
    assert "twice" in result.error
