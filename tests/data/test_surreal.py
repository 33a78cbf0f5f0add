"""SURREAL's cmu part, on fixtures in its exact layout, with content: joints, parts, flow and depth can be checked."""

import pickle
import re
import shutil

import numpy as np
import pytest
import scipy.io
import torch

from aign.body.assets import DEFAULT_BODY, load_body
from aign.body.skinning import joints_only
from aign.data.datasets.bodies import surreal
from aign.data.datasets.bodies.surreal_camera import MIRRORED_ROT, camera, in_file
from aign.data.datasets.bodies.surreal_flow import USUAL, FlowSign, both_ways, flow_sign
from aign.data.datasets.bodies.surreal_info import MEAN_PELVIS_M
from aign.data.datasets.job import Stored, run
from aign.data.pixels import decode_depth, decode_flow, decode_jpeg, decode_mask, decode_parts
from aign.data.store import Manifest, Quarantined, Store, commit
from aign.framework.errors import UserError
from aign.geometry.camera import Pinhole, project
from aign.geometry.rotation import from_axis_angle
from aign.geometry.skeleton import SMPL24
from tests.data.surreal_fixtures import LEFT_WRIST, RIGHT_WRIST, write_clip

NOTHING = Stored(url="", records={})


def folder(tmp_path, split="train", number=0, sequence="01_01"):
    return tmp_path / "SURREAL" / "data" / "cmu" / split / f"run{number}" / sequence


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    root = tmp_path_factory.mktemp("surreal")
    truth = write_clip(folder(root), frames=6, source="aign")
    (job,) = surreal.plan(root)
    made = job.clips(job.tables, NOTHING)
    return job, truth, {name: clips[0] for name, clips in made.tables.items()}, made


def test_all_tables_of_a_clip_are_there_with_one_key(clip):
    job, _, tables, made = clip
    assert job.table_groups == (
        ("frames", "keypoints", "labels", "body", "masks", "parts", "flow", "flow_back", "depth"),
    )
    assert set(tables) == set(job.tables)
    keys = {
        (t["sequence"], t["subject"], t["action"], t["camera"], t["frame_start"], t["num_frames"])
        for t in tables.values()
    }
    assert keys == {("train/run0/01_01_c0001", "01", "train", "surreal", 0, 6)}
    assert made.left_out == ()


def test_convention_projected_joints_are_keypoints_and_round_to_joints2d(clip):
    _, truth, tables, _ = clip
    joints, kp = tables["labels"]["joints_cam_m"], tables["keypoints"]["kp2d_px"]
    assert (tables["keypoints"]["kp2d_conf"] == 1).all()
    lens = Pinhole.of(torch.from_numpy(tables["keypoints"]["intrinsics_px"]))
    np.testing.assert_allclose(
        project(torch.from_numpy(joints).flatten(0, 1), lens).numpy(), kp.reshape(-1, 2), atol=1e-3
    )
    np.testing.assert_allclose(kp[..., 0], 319 - (truth.file_px[..., 0] - 0.5), atol=1e-3)
    np.testing.assert_allclose(kp[..., 1], truth.file_px[..., 1] - 0.5, atol=1e-3)
    np.testing.assert_array_equal(np.rint(in_file(kp)), np.rint(truth.file_px))


def test_convention_the_camera_is_proper_and_the_body_stands_upright():
    assert np.linalg.det(MIRRORED_ROT) == pytest.approx(-1)
    pose = camera(np.array([6.0, -1.0, 0.0])).world_to_cam
    assert torch.linalg.det(pose.rot).item() == pytest.approx(1)
    floor, head = torch.tensor([[0.0, 0, 0], [0, 0, 1.7]], dtype=torch.float64)
    seen = pose.apply(torch.stack((floor, head)))
    assert seen[1, 1] < seen[0, 1], "z up in the world is -y in the picture"
    assert (seen[:, 2] > 5).all(), "in front of the camera"


def test_a_person_facing_the_camera_has_the_left_side_on_the_right(clip):
    _, _, tables, _ = clip
    kp = tables["keypoints"]["kp2d_px"]
    for side in ("shoulder", "hip"):
        left, right = SMPL24.index(f"l_{side}", f"r_{side}")
        assert (kp[:, left, 0] > kp[:, right, 0]).all()


def test_the_stored_picture_shows_what_keypoints_and_parts_say(clip):
    _, _, tables, _ = clip
    kp, depth = tables["keypoints"]["kp2d_px"], tables["labels"]["joints_cam_m"][..., 2]
    checked = 0
    for t in range(6):
        rgb = decode_jpeg(tables["frames"]["image_jpeg"][t])
        parts, mask = decode_parts(tables["parts"]["parts_png"][t]), decode_mask(tables["masks"]["mask_png"][t])
        metres = decode_depth(tables["depth"]["depth_zst"][t])
        np.testing.assert_array_equal(mask, parts > 0)
        for j in range(24):
            x, y = np.rint(kp[t, j]).astype(int)
            others = np.linalg.norm(kp[t] - kp[t, j], axis=-1)
            others[j] = 99
            if others.min() > 9:
                checked += 1
                assert parts[y, x] == j + 1
                assert metres[y, x] == pytest.approx(depth[t, j], abs=2e-3)
        for wrist, channel in ((LEFT_WRIST, 0), (RIGHT_WRIST, 2)):
            x, y = np.rint(kp[t, wrist]).astype(int)
            assert rgb[y, x].argmax() == channel, "the left wrist is red, the right one blue"
        assert metres[0, 0] == 0, "the background at 1e10 is nothing"
    assert checked > 40


def test_frames_are_whole_pictures_with_the_clips_intrinsics(clip):
    frames = clip[2]["frames"]
    np.testing.assert_array_equal(frames["crop_xyxy_px"], [-0.5, -0.5, 319.5, 239.5])
    np.testing.assert_allclose(frames["frame_intrinsics_px"], [600, 600, 159.5, 119.5])
    np.testing.assert_allclose(np.diff(frames["time_s"]), 1 / 30, atol=1e-6)


def fk(tables):
    pose = from_axis_angle(torch.from_numpy(tables["body"]["body_pose_rad"]))
    body = tables["body"]
    joints = joints_only(
        load_body(None), pose, torch.from_numpy(body["betas"]), torch.from_numpy(body["body_trans_cam_m"])
    )
    return joints.numpy()


def test_convention_body_pose_shape_and_translation_give_the_joints(clip):
    _, _, tables, _ = clip
    assert tables["body"]["body_model"] == "aign-default"
    np.testing.assert_allclose(fk(tables), tables["labels"]["joints_cam_m"], atol=1e-4)


def test_the_licensed_body_is_used_where_it_lies(tmp_path):
    write_clip(folder(tmp_path), frames=2, skip=(".mp4", "_segm.mat", "_gtflow.mat", "_depth.mat"))
    (tmp_path / "smpl").mkdir()
    shutil.copy(DEFAULT_BODY, tmp_path / "smpl" / "SMPL_FEMALE.npz")  # stands for the licensed one
    (job,) = surreal.plan(tmp_path)
    assert job.tables == ("keypoints", "labels", "body")
    tables = {k: v[0] for k, v in job.clips(job.tables, NOTHING).tables.items()}
    assert tables["body"]["body_model"] == "smpl-female"
    np.testing.assert_allclose(fk(tables), tables["labels"]["joints_cam_m"], atol=1e-4)


@pytest.mark.parametrize(("gender", "model"), [(0, "smpl-female"), (1, "smpl-male")])
def test_gender_0_is_female_and_without_a_body_its_mean_pelvis_is_taken(tmp_path, gender, model):
    write_clip(folder(tmp_path), frames=2, gender=gender, skip=(".mp4", "_segm.mat", "_gtflow.mat", "_depth.mat"))
    (job,) = surreal.plan(tmp_path)
    tables = job.clips(("body", "labels"), NOTHING).tables
    assert tables["body"][0]["body_model"] == model
    pelvis = tables["labels"][0]["joints_cam_m"][:, 0]
    np.testing.assert_allclose(tables["body"][0]["body_trans_cam_m"] + MEAN_PELVIS_M[model], pelvis, atol=1e-5)


def test_zrot_turns_the_body(tmp_path):
    away = folder(tmp_path, sequence="02_01")
    write_clip(away, "02_01_c0001", frames=2, zrot=-np.pi / 2, source="aign", skip=("_segm.mat", "_gtflow.mat"))
    (job,) = surreal.plan(tmp_path)
    tables = {k: v[0] for k, v in job.clips(job.tables, NOTHING).tables.items()}
    np.testing.assert_allclose(fk(tables), tables["labels"]["joints_cam_m"], atol=1e-4)
    left, right = SMPL24.index("l_shoulder", "r_shoulder")
    kp = tables["keypoints"]["kp2d_px"]
    assert (kp[:, left, 0] < kp[:, right, 0]).all(), "seen from behind"


def test_a_clip_of_one_frame_has_lost_its_last_axis(tmp_path):
    truth = write_clip(folder(tmp_path), frames=1, source="aign")
    stored = scipy.io.loadmat(next(tmp_path.rglob("*_info.mat")))
    assert stored["joints2D"].shape == (2, 24)
    (job,) = surreal.plan(tmp_path)
    made = job.clips(job.tables, NOTHING)
    tables = {k: v[0] for k, v in made.tables.items()}
    assert {t["num_frames"] for t in tables.values()} == {1}
    np.testing.assert_array_equal(np.rint(in_file(tables["keypoints"]["kp2d_px"])), np.rint(truth.file_px))
    np.testing.assert_allclose(fk(tables), tables["labels"]["joints_cam_m"], atol=1e-4)
    for table, column in (("flow", "flow_zst"), ("flow_back", "flow_back_zst")):
        assert not decode_flow(tables[table][column][0])[1].any()
    assert "too few" in made.left_out[0]


def test_flow_both_ways_follows_the_keypoints(tmp_path):
    write_clip(folder(tmp_path), frames=8, wave=0.5)
    (job,) = surreal.plan(tmp_path)
    tables = {k: v[0] for k, v in job.clips(("keypoints", "flow", "flow_back"), NOTHING).tables.items()}
    kp = tables["keypoints"]["kp2d_px"]
    checked = {"flow": 0, "flow_back": 0}
    for table, step in (("flow", 1), ("flow_back", -1)):
        for t in range(8):
            field, valid = decode_flow(tables[table][f"{table}_zst"][t])
            if not 0 <= t + step < 8:
                assert not valid.any(), "there is no frame to flow to"
                continue
            assert valid[5, 5], "the background stands still, and that is known"
            assert not field[5, 5].any()
            for j in range(24):
                gap = np.linalg.norm(kp[[t, t + step]] - kp[[t, t + step], j : j + 1], axis=-1)
                gap[:, j] = 99
                x, y = np.rint(kp[t, j]).astype(int)
                if gap.min() > 12 and valid[y, x]:
                    checked[table] += 1
                    np.testing.assert_allclose(field[y, x], kp[t + step, j] - kp[t, j], atol=0.05)
    assert min(checked.values()) > 30


CONVENTIONS = [f"{x}u {y}v {d}" for x in "+-" for y in "+-" for d in ("since", "until")]


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_meaning_of_flow_is_told_from_the_clip(tmp_path, convention):
    truth = write_clip(folder(tmp_path), frames=12, wave=0.5, flow=convention, skip=(".mp4", "_segm.mat", "_depth.mat"))
    mat = scipy.io.loadmat(next(tmp_path.rglob("*_gtflow.mat")))
    raw = np.stack([mat[f"gtflow_{t}"] for t in range(1, 13)])
    sign = flow_sign(raw, truth.file_px - 0.5)
    assert sign.note == ""
    assert (sign.since_last, sign.sign_x, sign.sign_y) == (
        convention.endswith("since"),
        1 if convention[0] == "+" else -1,
        1 if convention[3] == "+" else -1,
    )


def test_where_nothing_moves_the_usual_meaning_is_taken_and_said(tmp_path):
    write_clip(folder(tmp_path), frames=5, wave=0.0)
    (job,) = surreal.plan(tmp_path)
    (line,) = job.clips(("flow",), NOTHING).left_out
    assert "0 px a frame" in line
    assert "usual" in line
    assert "since the frame before" in line
    assert "-1 u, +1 v" in line


def test_even_motion_does_not_tell_the_direction_but_the_signs():
    joints = np.zeros((6, 24, 2)) + np.arange(6)[:, None, None] * [2.0, 1.0] + 50 + 5 * np.arange(24)[:, None]
    raw = np.zeros((6, 240, 320, 2), np.float32) + np.float32([2.0, -1.0])
    sign = flow_sign(raw, joints)
    assert (sign.since_last, sign.sign_x, sign.sign_y) == (USUAL.since_last, 1, -1)
    assert "direction" in sign.note
    assert "sign" not in sign.note


def test_undefined_flow_is_invalid_and_what_gets_covered_too():
    raw = np.zeros((3, 240, 320, 2), np.float32)
    raw[1, 10, 10], raw[1, 20, 20] = np.nan, 1e10
    # A block of 20 x 20 that came 10 px from the left, in frame 1, in the file's own (mirrored) picture.
    raw[1, 100:120, 100:120, 0] = -10
    flow = both_ways(raw, FlowSign(since_last=True, sign_x=-1, sign_y=1))
    assert not flow.back_valid[0].any()
    assert not flow.back_valid[1, 10, 309]
    assert not flow.back_valid[1, 20, 299]
    np.testing.assert_array_equal(flow.back_px[1, 110, 210], [10, 0])
    # Frame 0 shows the block 10 px to its left in the file, so to its right in the flipped picture: 210..229.
    np.testing.assert_allclose(flow.forward_px[0, 110, 220], [-10, 0], atol=1e-4)
    assert flow.forward_valid[0, 110, 220]
    assert not flow.forward_valid[0, 110, 202], "background that the block covers next"
    block = flow.forward_valid[0, 100:120, 210:230]
    assert block.mean() > 0.8
    assert (flow.forward_px[0, 100:120, 210:230][block] == [-10, 0]).all(), "no pixel of the block stands still"


def test_of_two_things_from_one_place_none_is_believed():
    raw = np.zeros((2, 240, 320, 2), np.float32)
    raw[1, 100:120, 100:120, 0], raw[1, 100:120, 160:180, 0] = 20, -20
    flow = both_ways(raw[:, :, ::-1] * [-1, 1], FlowSign(since_last=True, sign_x=-1, sign_y=1))
    # In frame 0 they were side by side, at columns 120..139 and 140..159; then both at 140..159.
    assert flow.forward_valid[0, 110, [130, 150]].all()
    raw[1, 100:120, 100:120, 0] = 40
    flow = both_ways(raw[:, :, ::-1] * [-1, 1], FlowSign(since_last=True, sign_x=-1, sign_y=1))
    assert not flow.forward_valid[0, 102:118, 142:158].any()


def spoiled(key, value):
    def change(info):
        info[key] = value(info[key]) if callable(value) else value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda info: info.pop("zrot"), "no zrot"),
        (lambda info: info.pop("joints3D"), "no joints3D"),
        (spoiled("joints3D", lambda v: v * 1000), "span 1.* a body in metres"),
        (spoiled("joints3D", lambda v: v * [[[-1]], [[1]], [[1]]]), "joints2D are"),
        (spoiled("joints2D", lambda v: 320 - v), "mirrored camera"),
        (spoiled("joints3D", lambda v: v * np.nan), "NaN"),
        (spoiled("pose", lambda v: v[:60]), r"\(72, any\) is needed"),
        (spoiled("pose", lambda v: v[:, :3]), "zrot.* is needed"),
        (spoiled("gender", lambda v: v + 2), r"gender is \[2.0\]"),
        (spoiled("gender", lambda v: np.arange(len(v))[:, None] % 2), "one of 0"),
        (spoiled("shape", np.array(["ten"])), "numbers are needed|is needed"),
    ],
)
def test_a_bad_info_is_quarantined_and_the_rest_goes_on(tmp_path, change, message):
    light = (".mp4", "_segm.mat", "_gtflow.mat", "_depth.mat")
    write_clip(folder(tmp_path), "01_01_c0001", frames=4, skip=light, change=change)
    write_clip(folder(tmp_path), "01_01_c0002", frames=4, skip=light)
    bad, good = (run(job, str(tmp_path / "store"), n) for n, job in enumerate(surreal.plan(tmp_path)))
    assert isinstance(bad, Quarantined)
    assert re.search(message, bad.error), bad.error
    assert "01_01_c0001" in bad.error
    assert not isinstance(good, Quarantined)


def test_damaged_files_are_quarantined(tmp_path):
    write_clip(folder(tmp_path), frames=4)
    for name in ("info.mat", "segm.mat", "gtflow.mat", "depth.mat"):
        path = next(tmp_path.rglob(f"*_{name}"))
        whole = path.read_bytes()
        for broken in (whole[: len(whole) // 2], whole[:100] + b"\xff" * 400 + whole[500:], b"", b"not a mat"):
            path.write_bytes(broken)
            (job,) = surreal.plan(tmp_path)
            with pytest.raises(UserError, match=r"MATLAB|no |numbers|shape|parts are"):
                job.clips(("labels", "masks", "flow", "depth"), NOTHING)
        path.write_bytes(whole)


def test_a_video_shorter_than_its_labels_and_of_another_size(tmp_path):
    write_clip(folder(tmp_path), "01_01_c0001", frames=4)
    write_clip(folder(tmp_path), "01_01_c0002", frames=6, skip=(".mp4",))
    shutil.copy(next(tmp_path.rglob("*1.mp4")), folder(tmp_path) / "01_01_c0002.mp4")
    _, longer = surreal.plan(tmp_path)
    with pytest.raises(UserError, match="4 pictures, but its"):
        longer.clips(("frames",), NOTHING)


def test_monsters_are_left_out_counted_and_named(tmp_path):
    light = (".mp4", "_segm.mat", "_gtflow.mat", "_depth.mat")
    names = ("18_05_c0001", "19_02_c0003", "143_21_c0001", "ung_18_01_c0001", "143_22_c0001", "118_01_c0001")
    for name in names:
        write_clip(folder(tmp_path, sequence=name[:-6]), name, frames=1, skip=light)
    jobs = surreal.plan(tmp_path)
    assert [job.stem.name for job in jobs] == ["118_01_c0001", "143_22_c0001"]
    line = surreal.found(tmp_path)
    assert "2 clips of 2 subjects" in line
    assert "left out as broken" in line
    for name in names[:4]:
        assert name in line


def test_splits_runs_and_subjects_come_from_the_folders(tmp_path):
    light = (".mp4", "_segm.mat", "_gtflow.mat", "_depth.mat")
    write_clip(folder(tmp_path, "test", 2, "ung_74_01"), "ung_74_01_c0012", frames=1, skip=light)
    (job,) = surreal.plan(tmp_path / "SURREAL" / "data" / "cmu" / "test")
    clip = job.clips(("labels",), NOTHING).tables["labels"][0]
    assert (clip["sequence"], clip["subject"], clip["action"]) == ("test/run2/ung_74_01_c0012", "74", "test")
    assert "1 test/run2" in surreal.found(tmp_path)


def test_what_is_missing_is_named_with_where_it_comes_from(tmp_path):
    write_clip(folder(tmp_path), frames=1, skip=("_gtflow.mat",))
    assert surreal.looks_like(tmp_path)
    lines = surreal.missing(tmp_path)
    assert [line for line in lines if "01_01_c0001_gtflow.mat" in line and "di.ens.fr" in line and "flow_back" in line]
    assert [line for line in lines if "SMPL_FEMALE.pkl" in line and "smpl.is.tue.mpg.de" in line]
    assert len(lines) == 3
    empty = tmp_path / "empty"
    empty.mkdir()
    assert not surreal.looks_like(empty)
    assert "_info.mat" in surreal.missing(empty)[0]
    with pytest.raises(UserError, match="no SURREAL clip"):
        surreal.plan(empty)


def test_only_the_tables_that_depend_on_a_file_change_with_it(tmp_path):
    write_clip(folder(tmp_path), frames=2)
    (job,) = surreal.plan(tmp_path)
    before = {table: job.provenance(table).hash for table in job.tables}
    # A .mat file's header has the time of day in it, so only the flow may be written anew.
    kept = {path: path.read_bytes() for path in folder(tmp_path).iterdir() if "gtflow" not in path.name}
    write_clip(folder(tmp_path), frames=2, flow="+u +v until")
    for path, data in kept.items():
        path.write_bytes(data)
    after = {table: job.provenance(table).hash for table in job.tables}
    changed = {table for table in before if before[table] != after[table]}
    assert changed == {"flow", "flow_back"}


def test_jobs_pickle_and_their_parts_go_into_a_store(tmp_path):
    write_clip(folder(tmp_path), "01_01_c0001", frames=3)
    write_clip(folder(tmp_path), "01_01_c0002", frames=2, seed=4)
    jobs = pickle.loads(pickle.dumps(surreal.plan(tmp_path)))
    url = str(tmp_path / "store")
    records = [run(job, url, n) for n, job in enumerate(jobs)]
    assert not any(isinstance(r, Quarantined) for r in records), records
    commit(url, Manifest(skeleton="smpl24", num_joints=24).updated([r for rs in records for r in rs]))
    clips = Store.open(url).read({"labels": ("joints_cam_m",), "body": ("body_pose_rad",)})
    assert [key.num_frames for key in clips.keys] == [3, 2]
