"""h36m-fetch's processed/ folder (protocols 3.5 a, 3.6); its extracted/ is in test_h36m_official."""

import h5py
import numpy as np
import pytest

from aign.data.datasets.h36m import h36m_fetch
from aign.data.datasets.job import Stored, run, tables_of
from aign.data.pixels import decode_jpeg
from aign.data.store import Quarantined
from aign.framework.errors import UserError
from tests.data.h36m_fixtures import (
    CAMERAS,
    PICKED_17,
    cameras,
    grey,
    motion_m,
    write_metadata,
    write_poses,
    write_processed,
)

WORLD = motion_m(70, 5)


@pytest.fixture
def folder(tmp_path):
    write_processed(tmp_path, "S1", "Eating-1", WORLD, range(0, 70, 5))
    write_processed(tmp_path, "S1", "TakingPhoto-2", WORLD, range(0, 6, 5), images=True)
    write_metadata(tmp_path / "metadata.xml")
    return tmp_path


def made(job):
    return job.clips(tables_of(job), Stored(url="", records={}))


def test_folders_are_the_sequences_of_the_mapping_table(folder):
    eating, photo = h36m_fetch.plan(folder)
    tables = made(eating).tables
    # Trap 8: sub-action 1 of S1's Eating is the file "Eating 2".
    assert {c["sequence"] for c in tables["labels"]} == {"S1/Eating 2"}
    assert {(c["frame_start"], c["num_frames"], c["fps"]) for c in tables["labels"]} == {(0, 14, 10.0)}
    for camera in cameras("S1"):
        (labels,) = (c for c in tables["labels"] if c["camera"] == camera.name)
        np.testing.assert_allclose(labels["joints_cam_m"], camera.see(WORLD)[::5, PICKED_17], atol=1e-5)
        (keypoints,) = (c for c in tables["keypoints"] if c["camera"] == camera.name)
        np.testing.assert_allclose(keypoints["kp2d_px"], camera.project(WORLD)[::5, PICKED_17], atol=1e-3)
        np.testing.assert_allclose(keypoints["intrinsics_px"], camera.lens[:4], rtol=1e-6)
    (memory,) = tables["memory_pose"]
    np.testing.assert_allclose(memory["joints_world_m"], WORLD[::5, PICKED_17], atol=1e-5)
    tables = made(photo).tables
    assert {(c["sequence"], c["action"]) for c in tables["frames"]} == {("S1/TakingPhoto", "Photo")}
    for clip in tables["frames"]:
        for n, data in zip((0, 5), clip["image_jpeg"], strict=True):
            assert abs(int(decode_jpeg(data)[2, 2, 0]) - grey(n)) < 3


def test_recognised_and_described(folder, tmp_path):
    for path in (folder, folder / "processed"):
        assert h36m_fetch.looks_like(path)
        assert len(h36m_fetch.plan(path)) == 2
    assert "S1; 2 sequences, 1 with pictures" in h36m_fetch.found(folder)
    assert not h36m_fetch.looks_like(folder / "processed/S1")
    write_poses(folder / "extracted", "S1", "Eating 2", WORLD[:5], fetch=True)
    assert "extracted/ is there too" in h36m_fetch.found(folder)
    (job,) = h36m_fetch.plan(folder / "extracted")
    assert (job.stem, h36m_fetch.missing(folder / "extracted")) == ("Eating 2", [])
    (folder / f"extracted/S1/Poses_D3_Positions_mono/Eating 2.{CAMERAS[1]}.cdf").unlink()
    assert h36m_fetch.missing(folder / "extracted") == [
        f"S1/Poses_D3_Positions_mono/Eating 2.{CAMERAS[1]}.cdf (from Poses_D3_Positions_mono_S1.tgz)"
    ]
    assert "h36m-fetch extracted" in h36m_fetch.found(folder / "extracted")
    (folder / "metadata.xml").unlink()
    with pytest.raises(UserError, match=r"metadata\.xml"):
        h36m_fetch.plan(folder)
    with pytest.raises(UserError, match=r"process_all\.py"):
        h36m_fetch.plan(tmp_path / "processed/S1")


def replaced(file, name, edit):
    with h5py.File(file, "a") as held:
        value = np.asarray(held[name])
        del held[name]
        changed = edit(value)
        if changed is not None:
            held[name] = changed


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("pose/3d", lambda v: v / 1000, "millimetres (200 to 4000) are needed"),
        ("pose/3d", lambda v: v[:, :17], "(56, 32, 3) is needed"),
        ("pose/3d", lambda v: np.where(np.arange(56)[:, None, None] == 2, np.nan, v), "NaN"),
        ("pose/3d", lambda v: v * [1, -1, 1], "+y is not down"),
        ("pose/2d", lambda v: v + np.array([40.0, 0]), "px (median) from the projected"),
        ("camera", lambda v: v * 0 + 7, "cameras [7] are none of"),
        ("frame", lambda v: v * 0 + 1, "a number twice"),
        ("frame", lambda v: None, "lacks frame"),
    ],
)
def test_bad_annotations_are_quarantined_with_the_reason(folder, tmp_path, name, edit, message):
    replaced(folder / "processed/S1/Eating-1/annot.h5", name, edit)
    result = run(h36m_fetch.plan(folder)[0], str(tmp_path / "store"), 0)
    assert isinstance(result, Quarantined)
    assert message in result.error


def test_truncated_files_missing_pictures_and_strange_folders(folder, tmp_path):
    file = folder / "processed/S1/Eating-1/annot.h5"
    file.write_bytes(file.read_bytes()[:4000])
    lost = folder / f"processed/S1/TakingPhoto-2/imageSequence/{CAMERAS[0]}/img_000006.jpg"
    lost.unlink()
    eating, photo = (run(job, str(tmp_path / "store"), n) for n, job in enumerate(h36m_fetch.plan(folder)))
    assert isinstance(eating, Quarantined)
    assert "not a whole HDF5 file" in eating.error
    assert isinstance(photo, Quarantined)
    assert f"imageSequence/{CAMERAS[0]}/img_000006.jpg" in photo.error
    lost.write_bytes(b"\xff\xd8\xff")
    result = run(h36m_fetch.plan(folder)[1], str(tmp_path / "store"), 1)
    assert isinstance(result, Quarantined)
    assert "not a picture" in result.error
    write_processed(folder, "S1", "Eating1", WORLD, range(2))
    with pytest.raises(UserError, match="named like Directions-1"):
        h36m_fetch.plan(folder)
