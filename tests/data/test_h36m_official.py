"""Human3.6M's published files, and the same flattened by h36m-fetch (protocols 3.1, 3.5 a, 3.6)."""

import os
import pickle
import re
import time

import cdflib
import h5py
import numpy as np
import pytest

from aign.data.datasets.h36m import h36m_fetch, h36m_official
from aign.data.datasets.h36m.h36m_cameras import read_metadata, subject_rig
from aign.data.datasets.h36m.h36m_files import check_camera, check_world, read_joints_3d, read_pose
from aign.data.datasets.h36m.h36m_metadata import read_takes, stem_of
from aign.data.datasets.h36m.h36m_silhouettes import read_silhouettes
from aign.data.datasets.h36m.h36m_takes import DAMAGED
from aign.data.datasets.job import Stored, run, tables_of
from aign.data.pixels import decode_jpeg, decode_mask
from aign.data.stages.crops import crop_points
from aign.data.store import Manifest, Quarantined, Store, commit
from aign.framework.errors import UserError
from tests.data.h36m_fixtures import (
    ACTIONS,
    CAMERAS,
    COPIES,
    LEFT_WRIST,
    PICKED_17,
    RIGHT_WRIST,
    SIZES,
    SPIN_17,
    cameras,
    grey,
    motion_m,
    silhouette,
    stems,
    write_cdf,
    write_masks,
    write_metadata,
    write_poses,
    write_videos,
)

FRAMES = 12
MOTION = motion_m(FRAMES, 1)


@pytest.fixture
def poses(tmp_path):
    """S1 and S9 with CDF files only."""
    root = tmp_path / "h36m"
    for n, (subject, stem) in enumerate((("S1", "Sitting 2"), ("S1", "SittingDown 2"), ("S9", "Greeting"))):
        write_poses(root, subject, stem, motion_m(140, n))
    write_poses(root, "S1", "_ALL 1", motion_m(5))
    write_metadata(root / "metadata.xml")
    return root


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """One sequence with videos and silhouettes; nobody may change it."""
    root = tmp_path_factory.mktemp("filmed")
    write_poses(root, "S5", "Directions 2", MOTION)
    write_videos(root, "S5", "Directions 2", MOTION)
    write_masks(root, "S5", "Directions 2", MOTION)
    write_metadata(root / "metadata.xml")
    return root


def made(job, wanted=None):
    return job.clips(wanted or tables_of(job), Stored(url="", records={}))


def view(clips, camera):
    return [clip for clip in clips if clip["camera"] == camera]


def joined(clips, column):
    return np.concatenate([clip[column] for clip in clips])


def test_labels_keypoints_and_memory_are_those_of_the_files(poses):
    job = next(j for j in h36m_official.plan(poses) if j.stem == "Sitting 2")
    assert job.table_groups == (("keypoints", "labels"), ("memory_pose",))
    tables, world = made(job).tables, motion_m(140, 0)
    for camera in cameras("S1"):
        labels = view(tables["labels"], camera.name)
        assert [(c["frame_start"], c["num_frames"]) for c in labels] == [(0, 128), (128, 12)]
        np.testing.assert_allclose(joined(labels, "joints_cam_m"), camera.see(world)[:, PICKED_17], atol=2e-5)
        px = joined(view(tables["keypoints"], camera.name), "kp2d_px")
        np.testing.assert_allclose(px, camera.project(world)[:, PICKED_17], atol=2e-3)
        np.testing.assert_allclose(labels[0]["rot_world_to_cam"].reshape(3, 3), camera.rot, atol=1e-6)
    np.testing.assert_allclose(joined(tables["memory_pose"], "joints_world_m"), world[:, PICKED_17], atol=1e-6)
    assert {c["camera"] for c in tables["memory_pose"]} == {""}
    key = tables["labels"][0]
    assert (key["sequence"], key["subject"], key["action"], key["fps"]) == ("S1/Sitting 2", "S1", "Sitting", 50.0)


def test_a_store_is_made_and_made_once(poses, tmp_path):
    url = str(tmp_path / "store")
    jobs = h36m_official.plan(poses)
    records = [run(job, url, n) for n, job in enumerate(jobs)]
    assert not any(isinstance(r, Quarantined) for r in records), records
    commit(url, Manifest(skeleton="h36m17", num_joints=17).updated([r for rs in records for r in rs]))
    actions = {g.group.sequence: g.group.action for g in Store.open(url).row_groups(("labels",))}
    # The "Sitting" prefix trap, and `_ALL` is no action.
    assert actions == {"S1/Sitting 2": "Sitting", "S1/SittingDown 2": "SittingDown", "S9/Greeting": "Greeting"}
    again = [run(pickle.loads(pickle.dumps(job)), url, n) for n, job in enumerate(jobs)]
    assert [r.sha256 for rs in again for r in rs] == [r.sha256 for rs in records for r in rs]


def test_without_d2_the_projection_is_the_published_one(poses):
    """Trap 10: tangential p1, p2 and no doubled cross terms; D2_Positions would not agree within 0.01 px otherwise."""
    (poses / "S9/MyPoseFeatures/D2_Positions").rename(poses / "away")
    (job,) = (j for j in h36m_official.plan(poses) if j.subject == "S9")
    assert job.provenance("keypoints").stages[0].params["keypoints"] == "projection"
    px = joined(view(made(job).tables["keypoints"], CAMERAS[2]), "kp2d_px")
    np.testing.assert_allclose(px, cameras("S9")[2].project(motion_m(140, 2))[:, PICKED_17], atol=2e-3)


def test_flattened_mono_files_give_the_same_world(tmp_path):
    write_poses(tmp_path, "S7", "Eating", MOTION, fetch=True)
    write_metadata(tmp_path / "metadata.xml")
    (job,) = h36m_fetch.plan(tmp_path)
    np.testing.assert_allclose(
        joined(made(job).tables["memory_pose"], "joints_world_m"), MOTION[:, PICKED_17], atol=1e-5
    )


def test_duplicate_joints_and_the_other_17_order():
    """Traps 1 and 2: the copies stand where their originals do, and SPIN's order is ours with the left leg first."""
    for copy, original in COPIES:
        np.testing.assert_array_equal(MOTION[:, copy], MOTION[:, original])
    left_first = [0, 4, 5, 6, 1, 2, 3, *range(7, 17)]
    np.testing.assert_array_equal(MOTION[:, SPIN_17], MOTION[:, PICKED_17][:, left_first])


def test_convention_videopose3d_quaternions_are_wxyz_and_camera_to_world(poses):
    """Trap 11: VideoPose3D's world_to_camera (inverse rotation by its quaternion of X - t) is our x_cam = R X + t."""
    for ours, theirs in zip(subject_rig(poses / "metadata.xml", "S9"), cameras("S9"), strict=True):
        back = theirs.rot.T
        w = 0.5 * np.sqrt(1 + np.trace(back))
        axis = np.array([back[2, 1] - back[1, 2], back[0, 2] - back[2, 0], back[1, 0] - back[0, 1]]) / (4 * w)
        wxyz = np.array([w, *axis])
        inverse = wxyz * [1, -1, -1, -1]
        offset = MOTION - theirs.place_m
        uv = np.cross(inverse[1:], offset)
        rotated = offset + 2 * (inverse[0] * uv + np.cross(inverse[1:], uv))
        got = MOTION @ ours.world_to_cam.rot.numpy().T + ours.world_to_cam.trans_m.numpy()
        np.testing.assert_allclose(got, rotated, atol=1e-9)


def test_convention_axes_and_the_silhouettes_transpose(filmed):
    """World z up; camera y down and z forward; MATLAB's masks are W x H in the file."""
    world = MOTION[:, PICKED_17]
    check_world(world, "world")
    check_camera(cameras()[0].see(world), "camera")
    with pytest.raises(UserError, match="world's \\+z is not up"):
        check_world(world[..., [0, 2, 1]], "y up")
    with pytest.raises(UserError, match=r"\+y is not down"):
        check_camera(cameras()[0].see(world) * [1, -1, 1], "y up")
    with pytest.raises(UserError, match="z > 0"):
        check_camera(-cameras()[0].see(world), "behind")
    path = filmed / f"S5/MySegmentsMat/ground_truth_bs/Directions 2.{CAMERAS[0]}.mat"
    masks = list(read_silhouettes(path, [slice(3, 5)], SIZES[0], []))
    np.testing.assert_array_equal(masks[0], silhouette(cameras("S5")[0], MOTION[3]) > 0)


def test_frames_are_squares_about_the_person_with_the_joints_where_they_are(filmed):
    (job,) = h36m_official.plan(filmed)
    assert job.table_groups == (("frames", "keypoints", "labels", "masks"), ("memory_pose",))
    tables = made(job).tables
    for camera, size in zip(cameras("S5"), SIZES, strict=True):
        (clip,) = view(tables["frames"], camera.name)
        # Trap 7: cameras 2 and 3 have more pictures than there are joints.
        assert clip["num_frames"] == len(clip["image_jpeg"]) == FRAMES
        np.testing.assert_allclose(clip["time_s"], np.arange(FRAMES) / 50)
        assert tuple(clip["image_size_px"]) == size
        assert tuple(clip["frame_size_px"]) == (256, 256)
        marks = crop_points(camera.project(MOTION), clip["crop_xyxy_px"], 256)
        assert (marks[:, [0, 15, 3, 8]] > 0).all()
        assert (marks[:, [0, 15, 3, 8]] < 255).all()
        for n, data in enumerate(clip["image_jpeg"]):
            image = decode_jpeg(data).astype(int)
            assert abs(image[2, 2, 0] - grey(n)) < 3, "the picture is of another frame"
            at_left, at_right = (image[tuple(marks[n, j].round().astype(int)[::-1])] for j in (LEFT_WRIST, RIGHT_WRIST))
            if np.linalg.norm(marks[n, LEFT_WRIST] - marks[n, RIGHT_WRIST]) > 20:
                assert at_left[0] > at_left[2] + 60
                assert at_right[2] > at_right[0] + 60
        (held,) = view(tables["masks"], camera.name)
        for n, data in enumerate(held["mask_png"]):
            mask = decode_mask(data)
            inside = marks[n, [0, 12, 13]].round().astype(int)
            assert mask[inside[:, 1], inside[:, 0]].all()
            assert 0.05 < mask.mean() < 0.6
    assert len({c["num_frames"] for table in ("frames", "keypoints", "labels", "masks") for c in tables[table]}) == 1


def test_only_what_is_wanted_is_decoded(filmed, monkeypatch):
    (job,) = h36m_official.plan(filmed)
    monkeypatch.setattr(
        "aign.data.datasets.h36m.h36m_sequence.read_range", lambda *_: pytest.fail("a video was decoded")
    )
    tables = made(job, ("keypoints", "labels")).tables
    assert len(tables["keypoints"]) == len(tables["labels"]) == 4
    assert tables["frames"] == tables["masks"] == []


def test_a_stage_changes_only_the_tables_that_depend_on_it(filmed, poses):
    (job,) = h36m_official.plan(filmed)
    assert job.provenance("memory_pose").hash != job.provenance("keypoints").hash
    before = {table: job.provenance(table).hash for table in tables_of(job)}
    path = filmed / f"S5/MySegmentsMat/ground_truth_bs/Directions 2.{CAMERAS[0]}.mat"
    data = path.read_bytes()
    try:
        path.write_bytes(data + b"\0")
        after = {table: job.provenance(table).hash for table in tables_of(job)}
    finally:
        path.write_bytes(data)
    assert {table for table in before if before[table] != after[table]} == {"masks"}


def test_a_longer_mocap_ends_with_the_video(tmp_path):
    write_poses(tmp_path, "S6", "Waiting 1", MOTION)
    write_videos(tmp_path, "S6", "Waiting 1", MOTION, extra=(-4, 0, 0, 0))
    write_metadata(tmp_path / "metadata.xml")
    (job,) = h36m_official.plan(tmp_path)
    tables = made(job, ("keypoints", "labels", "memory_pose")).tables
    assert [c["num_frames"] for c in tables["labels"]] == [FRAMES - 4, FRAMES, FRAMES, FRAMES]
    assert joined(tables["memory_pose"], "joints_world_m").shape[0] == FRAMES


def test_s11_directions_lacks_one_video_and_keeps_the_other_cameras(tmp_path):
    """Trap 9. With pictures that view is left out and a line says so; without videos all four views stay."""
    write_poses(tmp_path, "S11", "Directions", MOTION)
    write_metadata(tmp_path / "metadata.xml")
    (job,) = h36m_official.plan(tmp_path)
    assert len(made(job).tables["labels"]) == 4
    write_videos(tmp_path, "S11", "Directions", MOTION)
    video = tmp_path / f"S11/Videos/Directions.{CAMERAS[0]}.mp4"
    for spoil in (lambda: video.write_bytes(b"no video"), video.unlink):
        spoil()
        assert h36m_official.missing(tmp_path) == []
        (job,) = h36m_official.plan(tmp_path)
        got = made(job, ("keypoints", "labels"))
        assert [c["camera"] for c in got.tables["labels"]] == list(CAMERAS[1:])
        assert re.fullmatch(r"S11/Directions camera 54138969: .*missing or corrupt", got.left_out[0])


def test_damaged_sequences_keep_their_ids_and_are_named(poses):
    assert DAMAGED == ("S9/Greeting", "S9/SittingDown 1", "S9/Waiting 1")
    assert "S9/Greeting have shifted 3D joints" in h36m_official.found(poses)
    assert "S1, S9; 3 of 60 sequences; 0 videos" in h36m_official.found(poses)


def test_missing_files_are_named_one_by_one_with_their_archives(filmed, tmp_path, poses):
    videos = poses / "S1/Videos"
    videos.mkdir()
    for camera in CAMERAS:
        (videos / f"Sitting 2.{camera}.mp4").write_bytes(b"-")
        if camera != CAMERAS[1]:
            (videos / f"SittingDown 2.{camera}.mp4").write_bytes(b"-")
    (poses / f"S1/MyPoseFeatures/D2_Positions/Sitting 2.{CAMERAS[3]}.cdf").unlink()
    (poses / "S9/MyPoseFeatures/D3_Positions/Greeting.cdf").unlink()
    assert h36m_official.missing(poses) == [
        "S1/MyPoseFeatures/D2_Positions/Sitting 2.60457274.cdf (from Poses_D2_Positions_S1.tgz)",
        "S1/Videos/SittingDown 2.55011271.mp4 (from Videos_S1.tgz)",
        "S9/MyPoseFeatures/D3_Positions/Greeting.cdf (from Poses_D3_Positions_S9.tgz)",
    ]
    result = run(h36m_official.plan(poses)[1], str(tmp_path / "store"), 0)
    assert isinstance(result, Quarantined)
    assert "S1/Videos/SittingDown 2.55011271.mp4 (from Videos_S1.tgz)" in result.error
    (poses / "metadata.xml").unlink()
    with pytest.raises(UserError, match=r"metadata.xml \(from code-v1.2.zip\)"):
        h36m_official.plan(poses)
    assert h36m_official.missing(poses) == ["metadata.xml (from code-v1.2.zip)"]


def test_the_layout_is_recognised(poses, tmp_path):
    assert h36m_official.looks_like(poses)
    assert not h36m_official.looks_like(tmp_path)
    assert not h36m_official.looks_like(poses / "metadata.xml")
    (tmp_path / "empty").mkdir()
    write_metadata(tmp_path / "empty/metadata.xml")
    with pytest.raises(UserError, match="has no joints"):
        h36m_official.plan(tmp_path / "empty")


def test_the_mapping_table_is_the_only_truth(poses):
    """Trap 8: S1 alone says TakingPhoto, a file's number is not its sub-action, no prefix is mistaken."""
    takes = read_takes(poses / "metadata.xml")
    assert len(takes) == 11
    assert all(len(t) == 30 for t in takes.values())
    assert stem_of(takes, "S1", "Eating", 1) == "Eating 2"
    assert stem_of(takes, "S1", "Photo", 2) == "TakingPhoto"
    assert stem_of(takes, "S5", "TakingPhoto", 2) == "Photo"
    assert stem_of(takes, "S1", "WalkDog", 1) == "WalkingDog 1"
    assert stem_of(takes, "S9", "SittingDown", 2) == "SittingDown 1"
    assert stem_of(takes, "S1", "Sitting", 2) == "Sitting 2"
    for subject, action, trial in (("S5", "Discussion", 2), ("S11", "Phoning", 1)):
        assert stem_of(takes, subject, action, trial) == stems(subject, action)[trial - 1]
    assert {t.action for t in takes["S1"]} == set(ACTIONS)
    with pytest.raises(UserError, match="no Eating 3"):
        stem_of(takes, "S1", "Eating", 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<metadata>", "no XML"),
        ("<metadata><w0>[1]</w0></metadata>", "no <mapping>"),
        ("<m><mapping><tr><td>a</td><td>b</td><td>S1</td></tr><tr><td>x</td></tr></mapping></m>", "is not action"),
        (
            "<m><mapping><tr><td>a</td><td>b</td><td>S1</td></tr>"
            "<tr><td>2</td><td>1</td><td>Flying 1</td></tr></mapping></m>",
            "Flying",
        ),
    ],
)
def test_metadata_without_the_table_says_so(tmp_path, text, message):
    (tmp_path / "metadata.xml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_takes(tmp_path / "metadata.xml")


def test_a_calibration_that_lacks_cameras_says_which(poses):
    path = poses / "metadata.xml"
    head, numbers, tail = re.split(r"<w0>\[|\]</w0>", path.read_text())
    w0 = np.array(numbers.split(), float)
    w0[6 * (1 * 11 + 8) :][:6] = 0
    path.write_text(f"{head}<w0>[{' '.join(map(str, w0))}]</w0>{tail}")
    with pytest.raises(UserError, match=r"camera 55011271 of S9 stands 0 m .*the calibration lacks it"):
        subject_rig(path, "S9")
    assert len(subject_rig(path, "S8")) == 4
    with pytest.raises(UserError, match="no cameras of S12"):
        subject_rig(path, "S12")
    for bad in ("nan", "x"):
        path.write_text(f"{head}<w0>[{' '.join([bad] * 300)}]</w0>{tail}")
        with pytest.raises(UserError, match="w0"):
            read_metadata(path)


@pytest.mark.parametrize("dtype", [44, 45])
def test_cdf_floats_and_doubles_with_and_without_the_record_axis(tmp_path, dtype, monkeypatch):
    """Trap 6: cdflib gives (1, T, 96)."""
    pose = 1000 * MOTION.reshape(FRAMES, 96)
    write_cdf(tmp_path / "a.cdf", pose, dtype=dtype)
    np.testing.assert_allclose(read_pose(tmp_path / "a.cdf", 96), pose, atol=1e-3)
    whole = cdflib.cdfread.CDF.varget
    monkeypatch.setattr(cdflib.cdfread.CDF, "varget", lambda *a: whole(*a)[0])
    np.testing.assert_allclose(read_pose(tmp_path / "a.cdf", 96), pose, atol=1e-3)


@pytest.mark.parametrize(
    ("pose", "message"),
    [
        (MOTION.reshape(FRAMES, 96), "look like metres"),
        (1e6 * MOTION.reshape(FRAMES, 96), "another unit"),
        (1000 * MOTION.reshape(FRAMES, 96) + 1e5, "at most 20000"),
        (1000 * MOTION.reshape(FRAMES, 96).T, "transposed: frames come first"),
        (1000 * MOTION.reshape(FRAMES, 96)[:, :78], r"\(1, frames, 96\)"),
        (np.where(np.arange(FRAMES)[:, None] == 5, np.nan, 1000 * MOTION.reshape(FRAMES, 96)), "the first is 5"),
    ],
)
def test_bad_joints_are_refused_with_the_reason(tmp_path, pose, message):
    """Traps 3 and 5, and what is not finite."""
    write_cdf(tmp_path / "a.cdf", pose)
    with pytest.raises(UserError, match=message):
        read_joints_3d(tmp_path / "a.cdf")


def test_truncated_and_foreign_cdf_files(tmp_path):
    path = tmp_path / "a.cdf"
    write_cdf(path, 1000 * MOTION.reshape(FRAMES, 96))
    data = path.read_bytes()
    for length in (0, 3, 8, 40, 300, 340, 500, 700, len(data) // 2):
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"a\.cdf"):
            read_pose(path, 96)
    path.write_bytes(b"PK\x03\x04" + data[4:])
    with pytest.raises(UserError, match="not a whole CDF"):
        read_pose(path, 96)
    write_cdf(path, 1000 * MOTION.reshape(FRAMES, 96), variable="Pose2")
    with pytest.raises(UserError, match="it has Pose2"):
        read_pose(path, 96)
    with pytest.raises(UserError, match="no such file"):
        read_pose(tmp_path / "b.cdf", 96)


def test_2d_of_another_camera_or_subject_is_refused(poses, tmp_path):
    folder = poses / "S9/MyPoseFeatures/D2_Positions"
    (folder / f"Greeting.{CAMERAS[0]}.cdf").replace(folder / "kept")
    (folder / f"Greeting.{CAMERAS[1]}.cdf").replace(folder / f"Greeting.{CAMERAS[0]}.cdf")
    (folder / "kept").replace(folder / f"Greeting.{CAMERAS[1]}.cdf")
    (job,) = (j for j in h36m_official.plan(poses) if j.subject == "S9")
    result = run(job, str(tmp_path / "store"), 0)
    assert isinstance(result, Quarantined)
    assert "px (median) from the projected 3D joint" in result.error


def test_a_file_that_is_no_action_is_quarantined(poses, tmp_path):
    write_poses(poses, "S9", "Flying 1", MOTION)
    (job,) = (j for j in h36m_official.plan(poses) if j.stem == "Flying 1")
    result = run(job, str(tmp_path / "store"), 0)
    assert isinstance(result, Quarantined)
    assert "'Flying 1'" in result.error


def test_silhouettes_that_are_damaged_short_or_of_another_size(filmed, tmp_path):
    source = filmed / f"S5/MySegmentsMat/ground_truth_bs/Directions 2.{CAMERAS[0]}.mat"
    lines: list[str] = []
    masks = list(read_silhouettes(source, [slice(10, 14)], SIZES[0], lines))
    assert [m.any() for m in masks] == [True, True, False, False]
    assert "frames 12 to 14 are not there" in lines[0]
    with pytest.raises(UserError, match="1000 x 1000 px are needed"):
        next(read_silhouettes(source, [slice(0, 1)], SIZES[1], []))
    path = tmp_path / "m.mat"
    path.write_bytes(source.read_bytes()[:3000])
    with pytest.raises(UserError, match="not a whole MATLAB"):
        next(read_silhouettes(path, [slice(0, 1)], SIZES[0], []))
    with h5py.File(path, "w") as file:
        file["Masks"] = np.zeros((4, 1))
    with pytest.raises(UserError, match="object references"):
        next(read_silhouettes(path, [slice(0, 1)], SIZES[0], []))
    with pytest.raises(UserError, match="no such file"):
        next(read_silhouettes(tmp_path / "no.mat", [slice(0, 1)], SIZES[0], []))


def test_a_sequence_of_3000_frames_is_read_in_milliseconds(tmp_path):
    write_cdf(tmp_path / "a.cdf", 1000 * motion_m(3000).reshape(3000, 96))
    read_joints_3d(tmp_path / "a.cdf")
    began = time.process_time()
    assert read_joints_3d(tmp_path / "a.cdf").shape == (3000, 17, 3)
    # 12 ms alone on the machine this was written on.
    assert time.process_time() - began < 0.5


def test_no_file_is_run(tmp_path):
    """Trap 22 for CDF: a pickle in its place is no CDF."""

    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/was-here",)

    (tmp_path / "a.cdf").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(UserError, match="not a whole CDF"):
        read_pose(tmp_path / "a.cdf", 96)
    assert not (tmp_path / "was-here").exists()
