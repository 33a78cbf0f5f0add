"""3DPW on fixtures in its exact layout, with content from the free default body: 1-2 actors, a moving camera, y up."""

import os
import pickle
import re

import cv2
import numpy as np
import pytest
import torch

from aign.body.assets import load_body
from aign.body.skinning import joints_only
from aign.data.datasets.bodies import threedpw
from aign.data.datasets.job import Stored, run
from aign.data.pixels import decode_jpeg
from aign.data.stages.crops import crop_points
from aign.data.store import Manifest, Quarantined, Store, commit
from aign.framework.errors import UserError
from aign.geometry.rotation import from_axis_angle
from aign.geometry.skeleton import SMPL24

NOTHING = Stored(url="", records={})
K = np.array([[1960.0, 0, 960], [0, 1960, 540], [0, 0, 1]])
L_WRIST, R_WRIST = SMPL24.index("l_wrist", "r_wrist")


def actor(frames, seed, place):
    """pose [t, 72], trans [t, 3], betas [10], joints [t, 72] of the default body in a world with y up."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)[:, None, None] / 30
    pose = rng.normal(0, 0.1, (1, 24, 3)) + 0.2 * np.sin(4 * time + rng.uniform(0, 6, (1, 24, 3)))
    trans = np.array(place) + 0.3 * time[:, 0] * [1.0, 0, 0]
    betas = rng.normal(0, 1, 10)
    body = load_body(None).to(dtype=torch.float64)
    joints = joints_only(
        body,
        from_axis_angle(torch.from_numpy(pose)),
        torch.from_numpy(np.tile(betas, (frames, 1))),
        torch.from_numpy(trans),
    )
    return pose.reshape(frames, 72), trans, betas, joints.numpy().reshape(frames, 72)


def cameras(frames, z_m=5.0):
    """World (y up) to camera: it looks along -z from z_m in front of the people, and pans a little."""
    angle = 0.05 * np.sin(np.arange(frames) / 10)
    poses = np.tile(np.eye(4), (frames, 1, 1))
    down = np.diag([1.0, -1.0, -1.0])
    for t, a in enumerate(angle):
        turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
        rot = turn @ down
        poses[t, :3, :3], poses[t, :3, 3] = rot, -rot @ [0.0, 0.9, z_m]
    return poses


def sequence(frames=20, people=2, betas=10):
    actors = [actor(frames, n, (0.8 * n - 0.4, 1.0, 0.0)) for n in range(people)]
    return {
        "sequence": "downtown_x_00",
        "img_frame_ids": np.arange(frames) * 2,
        "cam_poses": cameras(frames),
        "campose_valid": [np.ones(frames, np.int64) for _ in actors],
        "cam_intrinsics": K.copy(),
        "genders": ["m", "f"][:people],
        "poses": [a[0] for a in actors],
        "trans": [a[1] for a in actors],
        "betas": [np.concatenate((a[2], np.full(betas - 10, 9.0))) for a in actors],
        "betas_clothed": [a[2] for a in actors],
        "v_template_clothed": [np.zeros((6890, 3)) for _ in actors],
        "poses_60Hz": [np.repeat(a[0], 2, axis=0) for a in actors],
        "trans_60Hz": [np.repeat(a[1], 2, axis=0) for a in actors],
        "poses2d": [np.zeros((frames, 3, 18)) for _ in actors],
        "jointPositions": [a[3] for a in actors],
        "texture_maps": [[] for _ in actors],
    }


def write(root, content, split="test", name="downtown_x_00"):
    folder = root / "sequenceFiles" / split
    folder.mkdir(parents=True, exist_ok=True)
    # Protocol 2 with numpy's old module names, as Python 2 wrote them.
    data = pickle.dumps(content, protocol=2).replace(b"numpy._core", b"numpy.core")
    (folder / f"{name}.pkl").write_bytes(data)
    return folder / f"{name}.pkl"


def projected(content, number):
    joints = content["jointPositions"][number].reshape(-1, 24, 3)
    cam = np.einsum("tij,tkj->tki", content["cam_poses"][:, :3, :3], joints) + content["cam_poses"][:, None, :3, 3]
    px = cam @ K.T
    with np.errstate(invalid="ignore"):  # frames without a camera pose
        return cam, px[..., :2] / px[..., 2:]


def write_pictures(root, content, name="downtown_x_00", first=0):
    folder = root / "imageFiles" / name
    folder.mkdir(parents=True, exist_ok=True)
    pixels = [projected(content, n)[1] for n in range(len(content["poses"]))]
    for t in range(first, len(pixels[0])):
        image = np.full((1080, 1920, 3), 60, np.uint8)
        for number, px in enumerate(pixels):
            for joint, bgr in ((L_WRIST, (0, 0, 250)), (R_WRIST, (250, 0, 0))):
                cv2.circle(image, tuple(np.rint(px[t, joint]).astype(int).tolist()), 16, bgr, -1)
            cv2.circle(image, tuple(np.rint(px[t, 15]).astype(int).tolist()), 16, (0, 250, 250 * number), -1)
        cv2.imwrite(str(folder / f"image_{t:05d}.jpg"), image)


def read(root, wanted=("keypoints", "labels", "body")):
    (job,) = threedpw.plan(root)
    return job, job.clips(wanted, NOTHING)


def test_each_actor_is_a_sequence_of_its_own_with_exact_keypoints(tmp_path):
    content = sequence()
    write(tmp_path, content)
    job, made = read(tmp_path)
    assert job.table_groups == (("keypoints", "labels", "body"),)
    assert [c["sequence"] for c in made.tables["labels"]] == ["test/downtown_x_00/0", "test/downtown_x_00/1"]
    assert {c["action"] for c in made.tables["labels"]} == {"test"}
    assert {c["fps"] for c in made.tables["labels"]} == {30.0}
    for number in (0, 1):
        cam, px = projected(content, number)
        labels, keypoints = made.tables["labels"][number], made.tables["keypoints"][number]
        np.testing.assert_allclose(labels["joints_cam_m"], cam, atol=1e-5)
        inside = ((px >= -0.5) & (px < np.array([1920, 1080]) - 0.5)).all(-1)
        np.testing.assert_array_equal(keypoints["kp2d_conf"], inside)
        np.testing.assert_allclose(keypoints["kp2d_px"][inside], px[inside], atol=1e-2)
        assert keypoints["image_size_px"].tolist() == [1920, 1080]


def test_convention_body_in_the_camera_gives_the_joints_without_a_body_file(tmp_path):
    content = sequence()
    write(tmp_path, content)
    _, made = read(tmp_path)
    for body, labels, model in zip(
        made.tables["body"], made.tables["labels"], ("smpl-male", "smpl-female"), strict=True
    ):
        joints = joints_only(
            load_body(None),
            from_axis_angle(torch.from_numpy(body["body_pose_rad"])),
            torch.from_numpy(body["betas"]),
            torch.from_numpy(body["body_trans_cam_m"]),
        )
        np.testing.assert_allclose(joints.numpy(), labels["joints_cam_m"], atol=2e-4)
        assert body["body_model"] == model


@pytest.mark.parametrize("up", ["y", "z", "-y"])
def test_convention_the_stored_world_has_z_up_whatever_the_files_had(tmp_path, up):
    content = sequence(people=1)
    turn = {
        "y": np.eye(3),
        "z": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
        "-y": np.diag([1.0, -1.0, -1.0]),
    }[up]
    joints = content["jointPositions"][0].reshape(-1, 24, 3) @ turn.T
    content["trans"][0] = joints[:, 0] - (content["jointPositions"][0][:, :3] - content["trans"][0])
    content["jointPositions"][0] = joints.reshape(-1, 72)
    content["cam_poses"][:, :3, :3] = content["cam_poses"][:, :3, :3] @ turn.T
    write(tmp_path, content)
    _, made = read(tmp_path)
    (labels,) = made.tables["labels"]
    rot, trans = labels["rot_world_to_cam"].reshape(3, 3), labels["trans_world_to_cam_m"]
    world = (labels["joints_cam_m"][0] - trans) @ rot
    head, foot = SMPL24.index("head", "l_foot")
    assert world[head, 2] - world[foot, 2] > 1.2
    assert np.linalg.det(rot) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("count", [10, 300])
def test_betas_are_10_or_300(tmp_path, count):
    content = sequence(people=1, betas=count)
    write(tmp_path, content)
    _, made = read(tmp_path)
    np.testing.assert_allclose(made.tables["body"][0]["betas"][0], content["betas"][0][:10], atol=1e-6)


def test_frames_without_a_camera_pose_are_cut_out_and_never_bridged(tmp_path):
    content = sequence(frames=40)
    bad = np.zeros(40, bool)
    bad[[0, 12, 13, 39]] = True
    content["campose_valid"][1][bad] = 0
    content["jointPositions"][1][12] = np.nan
    content["cam_poses"][13] = 0
    content["campose_valid"][0][13] = 0
    write(tmp_path, content)
    _, made = read(tmp_path)
    spans = [(c["sequence"][-1], c["frame_start"], c["num_frames"]) for c in made.tables["labels"]]
    assert spans == [("0", 0, 13), ("0", 14, 26), ("1", 1, 11), ("1", 14, 25)]
    np.testing.assert_allclose(made.tables["labels"][3]["joints_cam_m"], projected(content, 1)[0][14:39], atol=1e-5)
    assert made.left_out == (
        "test/downtown_x_00/0: 1 of 40 frames without a camera pose",
        "test/downtown_x_00/1: 4 of 40 frames without a camera pose",
    )


def test_pictures_are_cut_to_the_person_and_show_the_wrists_where_the_labels_say(tmp_path):
    content = sequence(frames=20)
    write(tmp_path, content)
    write_pictures(tmp_path, content)
    job, _ = read(tmp_path)
    assert job.table_groups == (("keypoints", "labels", "body", "frames"),)
    _, made = read(tmp_path, job.table_groups[0])
    keys = {
        name: [(c["sequence"], c["frame_start"], c["num_frames"]) for c in clips] for name, clips in made.tables.items()
    }
    assert len({tuple(k) for k in keys.values()}) == 1
    for frames, keypoints, labels in zip(*(made.tables[t] for t in ("frames", "keypoints", "labels")), strict=True):
        assert frames["frame_size_px"].tolist() == [256, 256]
        for t in (0, frames["num_frames"] - 1):
            picture = decode_jpeg(frames["image_jpeg"][t])
            at = crop_points(keypoints["kp2d_px"][t], frames["crop_xyxy_px"], 256)
            for joint, channel in ((L_WRIST, 0), (R_WRIST, 2)):
                x, y = np.rint(at[joint]).astype(int)
                assert picture[y, x].argmax() == channel
            fx, fy, cx, cy = frames["frame_intrinsics_px"]
            cam = labels["joints_cam_m"][t]
            again = np.stack((fx * cam[:, 0] / cam[:, 2] + cx, fy * cam[:, 1] / cam[:, 2] + cy), -1)
            seen = keypoints["kp2d_conf"][t] > 0
            np.testing.assert_allclose(again[seen], at[seen], atol=0.02)


def test_frames_with_nobody_in_the_picture_are_left_out_of_pictures(tmp_path):
    content = sequence(frames=30, people=1)
    content["jointPositions"][0][20:, ::3] += 30
    content["trans"][0][20:, 0] += 30
    write(tmp_path, content)
    write_pictures(tmp_path, content)
    job, _ = read(tmp_path)
    _, made = read(tmp_path, job.table_groups[0])
    assert sum(c["num_frames"] for c in made.tables["frames"]) == 20
    assert "10 frames with nobody in the picture" in made.left_out[0]


def test_portrait_pictures_and_missing_or_wrong_ones(tmp_path):
    content = sequence(frames=4, people=1)
    content["cam_intrinsics"][[0, 1], [2, 2]] = 540, 960
    write(tmp_path, content)
    _, made = read(tmp_path)
    assert made.tables["keypoints"][0]["image_size_px"].tolist() == [1080, 1920]
    write_pictures(tmp_path, content)
    with pytest.raises(UserError, match="1080 x 1920"):
        read(tmp_path, ("frames",))
    write(tmp_path, sequence(frames=4, people=1))
    (tmp_path / "imageFiles" / "downtown_x_00" / "image_00002.jpg").unlink()
    with pytest.raises(UserError, match=r"image_00002\.jpg: no such file"):
        read(tmp_path, ("frames",))
    (tmp_path / "imageFiles" / "downtown_x_00" / "image_00002.jpg").write_bytes(b"no jpeg")
    with pytest.raises(UserError, match="not a picture"):
        read(tmp_path, ("frames",))


class Hostile:
    def __reduce__(self):
        return os.system, ("touch /tmp/aign-3dpw-was-here",)


def dropped(key):
    return lambda content: content.pop(key)


def put(key, value):
    def change(content):
        content[key] = value(content[key])

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dropped("cam_poses"), "no cam_poses"),
        (dropped("jointPositions"), "no jointPositions"),
        (put("texture_maps", lambda _: Hostile()), "system"),
        (put("poses", lambda v: [p[:, :69] for p in v]), r"\(any, 72\)"),
        (put("poses", lambda v: [p.astype(str) for p in v]), "numbers are needed|allowed is an array"),
        (put("poses", lambda v: v * 2), "list of one or two"),
        (put("trans", lambda v: [t[:-1] for t in v]), "campose_valid has 20"),
        (put("trans", lambda v: [t * 1000 for t in v]), "from trans"),
        (put("jointPositions", lambda v: [j * 1000 for j in v]), "looks like millimetres"),
        (put("jointPositions", lambda v: [j * np.nan for j in v]), "NaN"),
        (put("genders", lambda _: ["x", "x"]), "gender of person 0 is 'x'"),
        (put("betas", lambda v: [b[:5] for b in v]), "5 betas"),
        (put("cam_poses", lambda v: v * [[[-1], [1], [1], [1]]]), "no rotation"),
        (put("cam_poses", lambda v: v * [[[1], [-1], [-1], [1]]]), "in front of it"),
        (put("cam_poses", lambda v: v * [[[-1], [-1], [1], [1]]]), "y has to point down"),
        (put("cam_intrinsics", lambda v: v * 0), "cam_intrinsics"),
        (put("campose_valid", lambda v: [c * 0 for c in v]), "not one frame"),
    ],
)
def test_a_bad_sequence_is_quarantined_with_the_reason_and_the_rest_goes_on(tmp_path, change, message):
    content = sequence()
    change(content)
    write(tmp_path, content, name="a_bad")
    write(tmp_path, sequence(frames=3), name="b_good")
    bad, good = (run(job, str(tmp_path / "store"), n) for n, job in enumerate(threedpw.plan(tmp_path)))
    assert isinstance(bad, Quarantined)
    assert re.search(message, bad.error), bad.error
    assert "a_bad" in bad.error
    assert not isinstance(good, Quarantined), good
    assert not os.path.exists("/tmp/aign-3dpw-was-here")


def test_truncated_and_foreign_pickles(tmp_path):
    path = write(tmp_path, sequence(frames=3))
    data = path.read_bytes()
    for broken in (data[: len(data) // 2], b"", b"junk", pickle.dumps([1, 2], protocol=2)):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"downtown_x_00\.pkl"):
            read(tmp_path)


def test_found_missing_and_looks_like(tmp_path):
    write(tmp_path, sequence(frames=3))
    write(tmp_path, sequence(frames=3), split="train", name="other_00")
    write_pictures(tmp_path, sequence(frames=3))
    for root in (tmp_path, tmp_path.parent, tmp_path / "sequenceFiles", tmp_path / "sequenceFiles" / "test"):
        assert threedpw.looks_like(root)
    assert threedpw.found(tmp_path) == "3DPW: 2 sequences (1 train, 1 test), 1 with pictures"
    lines = threedpw.missing(tmp_path)
    assert [line for line in lines if "sequenceFiles/validation" in line and "virtualhumans" in line]
    assert [line for line in lines if "other_00" in line and "imageFiles" in line]
    assert len(lines) == 2
    empty = tmp_path / "empty"
    empty.mkdir()
    assert not threedpw.looks_like(empty)
    assert "sequenceFiles" in threedpw.missing(empty)[0]
    with pytest.raises(UserError, match="no 3DPW sequence"):
        threedpw.plan(empty)


def test_pictures_change_only_what_depends_on_them(tmp_path):
    write(tmp_path, sequence(frames=4, people=1))
    write_pictures(tmp_path, sequence(frames=4, people=1))
    (job,) = threedpw.plan(tmp_path)
    before = {table: job.provenance(table).hash for table in job.table_groups[0]}
    (tmp_path / "imageFiles" / "downtown_x_00" / "image_00001.jpg").write_bytes(b"x")
    after = {table: job.provenance(table).hash for table in job.table_groups[0]}
    assert {table for table in before if before[table] != after[table]} == {"frames"}


def test_jobs_pickle_and_their_parts_go_into_a_store(tmp_path):
    content = sequence(frames=40)
    write(tmp_path, content)
    write_pictures(tmp_path, sequence(frames=1), first=0)
    for t in range(1, 40):
        source = tmp_path / "imageFiles" / "downtown_x_00" / "image_00000.jpg"
        source.with_name(f"image_{t:05d}.jpg").hardlink_to(source)
    url = str(tmp_path / "store")
    records = [run(job, url, n) for n, job in enumerate(pickle.loads(pickle.dumps(threedpw.plan(tmp_path))))]
    assert not any(isinstance(r, Quarantined) for r in records), records
    commit(url, Manifest(skeleton="smpl24", num_joints=24).updated([r for rs in records for r in rs]))
    clips = Store.open(url).read({"labels": ("joints_cam_m",), "frames": ("crop_xyxy_px",)})
    assert sum(key.num_frames for key in clips.keys) == 80
