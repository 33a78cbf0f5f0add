"""MPI-INF-3DHP on fixtures in its exact layouts: MATLAB 5 cells for training, HDF5 for the test set."""

import pickle
import re

import cv2
import h5py
import numpy as np
import pytest
import scipy.io

from aign.data.datasets.bodies import mpi_inf_3dhp
from aign.data.datasets.bodies.mpi_inf_3dhp_files import (
    TEST_JOINTS,
    TEST_STANDS,
    TEST_TO_H36M,
    TRAIN_JOINTS,
    TRAIN_TO_H36M,
    read_calibration,
)
from aign.data.datasets.job import Stored, run
from aign.data.pixels import decode_jpeg
from aign.data.stages.crops import crop_points
from aign.data.stages.decode import write_mp4
from aign.data.store import Manifest, Quarantined, Store, commit
from aign.framework.errors import UserError
from aign.geometry.skeleton import H36M17

NOTHING = Stored(url="", records={})
SIZE = 2048
LENS = (1497.693, 1497.103, 1024.704, 1051.394)
# A standing body, metres, y up, facing +z, its left at +x.
REST = {
    **{"pelvis": (0, 0.95, 0), "spine": (0, 1.1, 0), "spine2": (0, 1.2, 0), "spine3": (0, 1.3, 0)},
    **{"spine4": (0, 1.4, 0), "neck": (0, 1.5, 0), "head": (0, 1.6, 0.05), "head_top": (0, 1.75, 0)},
    **{"l_clavicle": (0.05, 1.45, 0), "l_shoulder": (0.18, 1.45, 0), "l_elbow": (0.4, 1.3, 0)},
    **{"l_wrist": (0.6, 1.2, 0.1), "l_hand": (0.68, 1.2, 0.1), "l_hip": (0.1, 0.93, 0), "l_knee": (0.12, 0.5, 0)},
    **{"l_ankle": (0.12, 0.08, 0), "l_foot": (0.12, 0.02, 0.1), "l_toe": (0.12, 0.02, 0.2)},
}


def body(names, frames, seed=0):
    """Joints [t, j, 3], metres, y up, walking a little along x."""
    rest = {**REST, **{"r_" + n[2:]: (-x, y, z) for n, (x, y, z) in REST.items() if n.startswith("l_")}}
    points = np.array([rest[name] for name in names], float)
    time = np.arange(frames)[:, None, None] / 25
    sway = 0.05 * np.sin(5 * time + np.random.default_rng(seed).uniform(0, 6, points.shape))
    return points + sway + 0.3 * time * [1, 0, 0]


def extrinsic(camera):
    """World (y up, mm) to camera 4 x 4: cameras on an arc in front, 4 m away."""
    angle = 0.15 * (camera - 4)
    centre = np.array([4000 * np.sin(angle), 1200.0, 4000 * np.cos(angle)])
    forward = np.array([0, 1000.0, 0]) - centre
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 1.0, 0])
    right /= np.linalg.norm(right)
    rot = np.stack((right, np.cross(forward, right), forward))
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rot, -rot @ centre
    return pose


def calibration_text():
    lines = ["Skeletool Camera Calibration File V1.0"]
    for camera in range(14):
        fx, fy, cx, cy = LENS
        intrinsic = [fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1, 0, 0, 0, 0, 1]
        lines += [
            f"name          {camera}",
            "  sensor      10 10",
            f"  size        {SIZE} {SIZE}",
            "  animated    0",
            "  intrinsic   " + " ".join(f"{v:.8g}" for v in intrinsic) + " ",
            "  extrinsic   " + " ".join(f"{v:.9g}" for v in extrinsic(camera).reshape(-1)) + " ",
            "  radial      0",
        ]
    return "\n".join(lines) + "\n"


def projected(cam_mm, lens=LENS):
    return cam_mm[..., :2] / cam_mm[..., 2:] * lens[:2] + lens[2:]


def train_labels(frames, seed=0):
    """annot2 [14][t, 28, 2], annot3 [14][t, 28, 3] mm."""
    world = body(TRAIN_JOINTS, frames, seed) * 1000
    cams = [world @ extrinsic(c)[:3, :3].T + extrinsic(c)[:3, 3] for c in range(14)]
    return [projected(cam) for cam in cams], cams


def cells(arrays):
    out = np.empty((14, 1), object)
    for n, array in enumerate(arrays):
        out[n, 0] = np.asarray(array).reshape(len(array), -1)
    return out


def write_train(root, name="S1/Seq1", frames=20, change=None):
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    px, mm = train_labels(frames)
    univ = [1.1 * (cam - cam[:, 4:5]) + cam[:, 4:5] for cam in mm]
    content = {
        "annot2": cells(px),
        "annot3": cells(mm),
        "univ_annot3": cells(univ),
        "cameras": np.arange(14, dtype=np.uint8)[None],
        "frames": np.arange(frames, dtype=np.uint16)[:, None],
    }
    if change:
        change(content)
    scipy.io.savemat(folder / "annot.mat", content)
    (folder / "camera.calibration").write_text(calibration_text())
    return px, mm


def write_test(root, name="TS1", frames=20, valid=None, change=None):
    folder = root / "mpi_inf_3dhp_test_set" / name
    folder.mkdir(parents=True, exist_ok=True)
    stand = TEST_STANDS[name]
    rot = np.stack((stand.right, -np.array(stand.up), np.cross(stand.up, stand.right)))
    centre_mm = np.array(stand.origin_mm)
    forward = rot[2]
    walk = body(TEST_JOINTS, frames) * 1000
    place = centre_mm + 4000 * forward / np.linalg.norm(forward[[0, 2]])
    world = walk + place * [1, 0, 1]
    cam = (world - centre_mm) @ rot.T
    w, h = stand.image_size_px
    lens = (0.8 * w, 0.8 * w, w / 2 - 6, h / 2 + 9)
    content = {
        "annot2": projected(cam, lens)[:, None],
        "annot3": cam[:, None],
        "univ_annot3": 1.1 * cam[:, None],
        "valid_frame": (np.ones(frames) if valid is None else valid)[:, None],
        "activity_annotation": np.ones((frames, 1)),
        "bb_crop": np.zeros((frames, 34)),
    }
    if change:
        change(content)
    with h5py.File(folder / "annot_data.mat", "w") as file:
        for key, value in content.items():
            file[key] = value
    return cam, lens


def job_of(root, camera):
    (job,) = [job for job in mpi_inf_3dhp.plan(root) if job.camera == camera]
    return job


def test_the_28_and_17_joints_become_human36ms_17_right_leg_first():
    assert TRAIN_TO_H36M == (4, 23, 24, 25, 18, 19, 20, 3, 5, 6, 7, 9, 10, 11, 14, 15, 16)
    assert TEST_TO_H36M == (14, 8, 9, 10, 11, 12, 13, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4)
    renamed = {"neck": "thorax", "head": "nose"}
    for names, order in ((TRAIN_JOINTS, TRAIN_TO_H36M), (TEST_JOINTS, TEST_TO_H36M)):
        assert tuple(renamed.get(names[i], names[i]) for i in order) == H36M17.joints


def test_train_labels_are_annot3_in_metres_and_keypoints_annot2(tmp_path):
    px, mm = write_train(tmp_path)
    jobs = mpi_inf_3dhp.plan(tmp_path)
    assert [job.camera for job in jobs] == [0, 1, 2, 4, 5, 6, 7, 8]
    assert jobs[0].table_groups == (("keypoints", "labels"),)
    for job in jobs:
        tables = job.clips(("keypoints", "labels"), NOTHING).tables
        (labels,), (keypoints,) = tables["labels"], tables["keypoints"]
        np.testing.assert_allclose(labels["joints_cam_m"], mm[job.camera][:, list(TRAIN_TO_H36M)] / 1000, atol=1e-5)
        np.testing.assert_allclose(keypoints["kp2d_px"], px[job.camera][:, list(TRAIN_TO_H36M)], atol=1e-3)
        assert (labels["sequence"], labels["subject"], labels["action"]) == ("S1/Seq1", "S1", "train")
        assert labels["camera"] == str(job.camera)
        np.testing.assert_allclose(keypoints["intrinsics_px"], LENS, rtol=1e-6)


def test_convention_all_cameras_agree_on_one_upright_world(tmp_path):
    write_train(tmp_path)
    worlds = []
    for job in mpi_inf_3dhp.plan(tmp_path):
        (labels,) = job.clips(("labels",), NOTHING).tables["labels"]
        rot = labels["rot_world_to_cam"].reshape(3, 3).astype(float)
        assert np.linalg.det(rot) == pytest.approx(1, abs=1e-5)
        worlds.append((labels["joints_cam_m"] - labels["trans_world_to_cam_m"]) @ rot)
    for world in worlds:
        np.testing.assert_allclose(world, worlds[0], atol=1e-3)
    head, ankle = H36M17.index("head_top", "l_ankle")
    assert (worlds[0][:, head, 2] - worlds[0][:, ankle, 2] > 1.4).all()


def test_the_universal_skeleton_does_not_fit_the_picture_and_is_refused(tmp_path):
    write_train(tmp_path, change=lambda c: c.update(annot3=c["univ_annot3"]))
    with pytest.raises(UserError, match="univ_annot3"):
        job_of(tmp_path, 0).clips(("labels",), NOTHING)


@pytest.mark.parametrize(
    ("sequence", "fps"),
    [("S1/Seq1", 25), ("S1/Seq2", 50), ("S2/Seq2", 25), ("S3/Seq1", 50), ("S5/Seq2", 50), ("S8/Seq1", 25)],
)
def test_frame_rates(sequence, fps):
    assert mpi_inf_3dhp.train_fps(sequence) == fps


def test_the_sequence_with_flipped_frames_is_flagged(tmp_path):
    write_train(tmp_path, "S4/Seq2", frames=3)
    (line,) = job_of(tmp_path, 0).clips(("labels",), NOTHING).left_out
    assert "S4/Seq2" in line
    assert "left and right exchanged" in mpi_inf_3dhp.found(tmp_path)


@pytest.mark.parametrize("name", ["TS1", "TS6"])
def test_test_set_labels_and_its_fitted_camera(tmp_path, name):
    cam, lens = write_test(tmp_path, name)
    tables = job_of(tmp_path, None).clips(("keypoints", "labels"), NOTHING).tables
    (labels,), (keypoints,) = tables["labels"], tables["keypoints"]
    np.testing.assert_allclose(labels["joints_cam_m"], cam[:, list(TEST_TO_H36M)] / 1000, atol=1e-5)
    np.testing.assert_allclose(keypoints["intrinsics_px"], lens, rtol=1e-4)
    assert keypoints["image_size_px"].tolist() == list(TEST_STANDS[name].image_size_px)
    assert (labels["sequence"], labels["subject"], labels["action"]) == (name, name, "test")
    rot = labels["rot_world_to_cam"].reshape(3, 3)
    world = (labels["joints_cam_m"] - labels["trans_world_to_cam_m"]) @ rot
    head, ankle = H36M17.index("head_top", "l_ankle")
    assert (world[:, head, 2] - world[:, ankle, 2] > 1.4).all()
    np.testing.assert_allclose(world[:, ankle, 2].mean(), 0.08, atol=0.06)


def test_invalid_test_frames_are_cut_out_and_never_bridged(tmp_path):
    valid = np.ones(150)
    valid[[0, 7, 8]] = 0
    write_test(tmp_path, frames=150, valid=valid)
    made = job_of(tmp_path, None).clips(("labels",), NOTHING)
    assert [(c["frame_start"], c["num_frames"]) for c in made.tables["labels"]] == [(1, 6), (9, 128), (137, 13)]
    assert made.left_out == ("TS1: 3 of 150 frames that are not valid",)


def draw(px, t, size):
    image = np.full((size[1], size[0], 3), 60, np.uint8)
    names = {H36M17.index("l_wrist")[0]: (250, 0, 0), H36M17.index("r_wrist")[0]: (0, 0, 250)}
    for joint, rgb in names.items():
        cv2.circle(image, tuple(np.rint(px[t, joint]).astype(int).tolist()), 18, rgb, -1)
    return image


def check_pictures(tables):
    for frames, keypoints in zip(tables["frames"], tables["keypoints"], strict=True):
        for t in (0, frames["num_frames"] - 1):
            at = crop_points(keypoints["kp2d_px"][t], frames["crop_xyxy_px"], 256)
            picture = decode_jpeg(frames["image_jpeg"][t])
            for joint, channel in (("l_wrist", 0), ("r_wrist", 2)):
                x, y = np.rint(at[H36M17.index(joint)[0]]).astype(int)
                assert picture[y, x].argmax() == channel


def test_pictures_of_the_video_are_cut_to_the_person(tmp_path):
    px, _ = write_train(tmp_path, frames=6)
    images = tmp_path / "S1/Seq1/imageSequence"
    images.mkdir()
    order = list(TRAIN_TO_H36M)
    # The published files end in .avi; what is inside decides how they are read.
    write_mp4(tmp_path / "v.mp4", (draw(px[0][:, order], t, (SIZE, SIZE)) for t in range(6)), 25)
    (tmp_path / "v.mp4").rename(images / "video_0.avi")
    job = job_of(tmp_path, 0)
    assert job.table_groups == (("keypoints", "labels", "frames"),)
    tables = job.clips(job.table_groups[0], NOTHING).tables
    assert sum(c["num_frames"] for c in tables["frames"]) == 6
    check_pictures(tables)


def test_a_video_shorter_than_its_labels_ends_the_clips_of_all_tables(tmp_path):
    px, _ = write_train(tmp_path, frames=9)
    images = tmp_path / "S1/Seq1/imageSequence/video_2"
    images.mkdir(parents=True)
    for t in range(5):
        picture = draw(px[2][:, list(TRAIN_TO_H36M)], t, (SIZE, SIZE))
        cv2.imwrite(str(images / f"frame_{t + 1:06d}.jpg"), picture[..., ::-1])
    made = job_of(tmp_path, 2).clips(("labels", "keypoints", "frames"), NOTHING)
    assert sum(c["num_frames"] for c in made.tables["labels"]) == 5
    assert made.left_out == ("S1/Seq1/camera 2: 4 frames after the last of 5 pictures",)
    check_pictures(made.tables)
    (images / "frame_000003.jpg").unlink()
    with pytest.raises(UserError, match=r"frame_000003\.jpg: no such file"):
        job_of(tmp_path, 2).clips(("frames",), NOTHING)


def test_test_pictures_count_from_one(tmp_path):
    cam, lens = write_test(tmp_path, "TS5", frames=4)
    images = tmp_path / "mpi_inf_3dhp_test_set/TS5/imageSequence"
    images.mkdir()
    for t in range(4):
        picture = draw(projected(cam, lens)[:, list(TEST_TO_H36M)], t, (1920, 1080))
        cv2.imwrite(str(images / f"img_{t + 1:06d}.jpg"), picture[..., ::-1])
    check_pictures(job_of(tmp_path, None).clips(("frames", "keypoints"), NOTHING).tables)


def cell_change(key, camera, change):
    def apply(content):
        content[key][camera, 0] = change(content[key][camera, 0])

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("annot3"), "no annot3"),
        (lambda c: c.update(annot3=c["annot3"][:10]), r"a cell \(14, 1\)"),
        (lambda c: c.update(annot3=np.zeros((14, 84))), r"a cell \(14, 1\)"),
        (cell_change("annot3", 0, lambda v: v[:, :-3]), r"\(any, 84\)"),
        (cell_change("annot3", 0, lambda v: v[:-1]), "19 in annot3"),
        (cell_change("annot3", 0, lambda v: np.where(v == v.max(), np.nan, v)), "NaN"),
        (cell_change("annot3", 0, lambda v: v * 1000), "spans"),
        (cell_change("annot3", 0, lambda v: v / 1000), "spans"),
        (cell_change("annot3", 0, lambda v: -v), "in front of it|head below"),
        (cell_change("annot2", 0, lambda v: v + 40), "annot2 is .* px"),
        (cell_change("annot2", 0, lambda v: v.astype("U8")), "numbers are needed"),
    ],
)
def test_a_bad_view_is_quarantined_and_the_rest_goes_on(tmp_path, change, message):
    write_train(tmp_path, "S2/Seq1", change=change)
    write_train(tmp_path, "S3/Seq1", frames=3)
    jobs = {job.name: job for job in mpi_inf_3dhp.plan(tmp_path)}
    bad = run(jobs["S2/Seq1/camera 0"], str(tmp_path / "store"), 0)
    assert isinstance(bad, Quarantined)
    assert re.search(message, bad.error), bad.error
    assert "S2" in bad.error
    assert not isinstance(run(jobs["S3/Seq1/camera 0"], str(tmp_path / "store"), 1), Quarantined)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("valid_frame"), "no valid_frame"),
        (lambda c: c.update(annot3=c["annot3"][:, :, :16]), r"\(any, 1, 17, 3\)"),
        (lambda c: c.update(annot3=c["annot3"] * np.nan), "NaN"),
        (lambda c: c.update(annot3=c["annot3"] / 1000), "spans|annot2"),
        (lambda c: c.update(valid_frame=c["valid_frame"] * 0), "not one of"),
        (lambda c: c.update(annot2=c["annot2"][::-1, :, ::-1]), "annot2"),
        (lambda c: c.update(annot2=np.array("px", dtype="S2")), "numbers are needed"),
    ],
)
def test_a_bad_test_sequence_is_quarantined(tmp_path, change, message):
    write_test(tmp_path, change=change)
    bad = run(job_of(tmp_path, None), str(tmp_path / "store"), 0)
    assert isinstance(bad, Quarantined)
    assert re.search(message, bad.error), bad.error


def test_damaged_files_and_the_wrong_version_of_mat(tmp_path):
    write_train(tmp_path, frames=3)
    write_test(tmp_path, frames=3)
    train, test = tmp_path / "S1/Seq1/annot.mat", tmp_path / "mpi_inf_3dhp_test_set/TS1/annot_data.mat"
    old, new = train.read_bytes(), test.read_bytes()
    for broken in (old[: len(old) // 2], b"", b"no mat at all", new):
        train.write_bytes(broken)
        with pytest.raises(UserError, match=r"annot\.mat"):
            job_of(tmp_path, 0).clips(("labels",), NOTHING)
    for broken in (new[: len(new) // 2], b"", b"no mat at all", old):
        test.write_bytes(broken)
        with pytest.raises(UserError, match=r"annot_data\.mat"):
            job_of(tmp_path, None).clips(("labels",), NOTHING)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name          4\n", "name          44\n", "no camera 4"),
        ("  intrinsic   1497.693", "  intrinsic   x1497", "intrinsic of camera 0"),
        ("  intrinsic   1497.693", "  intrinsic   -1497.693", "not positive"),
        ("  size        2048 2048", "  size        2048", "size of camera"),
        ("  extrinsic   ", "  extrinsic   9 ", r"\(17,\)"),
        ("  extrinsic   ", "  extrinsic   2", "determinant"),
        ("name", "camera", "no camera in it"),
    ],
)
def test_bad_calibrations(tmp_path, old, new, message):
    write_train(tmp_path, frames=3)
    path = tmp_path / "S1/Seq1/camera.calibration"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=message):
        job_of(tmp_path, 4).clips(("labels",), NOTHING)


def test_a_missing_calibration_is_quarantined_and_named(tmp_path):
    write_train(tmp_path, frames=3)
    (tmp_path / "S1/Seq1/camera.calibration").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        read_calibration(tmp_path / "S1/Seq1/camera.calibration")
    assert isinstance(run(job_of(tmp_path, 0), str(tmp_path / "store"), 0), Quarantined)
    assert any("S1/Seq1/camera.calibration" in line for line in mpi_inf_3dhp.missing(tmp_path))


def test_found_missing_and_looks_like(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert not mpi_inf_3dhp.looks_like(empty)
    with pytest.raises(UserError, match="no MPI-INF-3DHP"):
        mpi_inf_3dhp.plan(empty)
    data = tmp_path / "data"
    write_train(data, frames=3)
    write_test(data, frames=3)
    for root in (data, tmp_path, data / "S1", data / "S1/Seq1", data / "mpi_inf_3dhp_test_set"):
        assert mpi_inf_3dhp.looks_like(root)
    assert mpi_inf_3dhp.found(data).startswith(
        "MPI-INF-3DHP: 1 training sequences in 8 cameras, 1 test sequences; 0 of 9 views with pictures"
    )
    lines = mpi_inf_3dhp.missing(data)
    assert any("S1/Seq2" in line and "15 training" in line and "vcai.mpi-inf.mpg.de" in line for line in lines)
    assert any("S1/Seq1/imageSequence/video_0.avi" in line for line in lines)
    assert any("TS2" in line and "mpi_inf_3dhp_test_set.zip" in line for line in lines)
    assert any("TS1/imageSequence/img_000001.jpg" in line for line in lines)
    assert all("univ" not in line for line in lines)
    assert any("S1/Seq1" in line for line in mpi_inf_3dhp.missing(empty))


def test_jobs_pickle_and_their_parts_go_into_a_store(tmp_path):
    write_train(tmp_path, frames=140)
    write_test(tmp_path, frames=10)
    url = str(tmp_path / "store")
    jobs = pickle.loads(pickle.dumps(mpi_inf_3dhp.plan(tmp_path)))
    assert len({job.source for job in jobs}) == len(jobs)
    records = [run(job, url, n) for n, job in enumerate(jobs)]
    assert not any(isinstance(r, Quarantined) for r in records), records
    commit(url, Manifest(skeleton="h36m17", num_joints=17).updated([r for rs in records for r in rs]))
    keys = Store.open(url).read({"labels": ("joints_cam_m",), "keypoints": ("kp2d_px",)}).keys
    assert sum(key.num_frames for key in keys) == 8 * 140 + 10
