"""Imported 2D detections: three formats become the same tracks, and what does not fit the video is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from aign.data.stages.coco import coco_bones, read_coco_results
from aign.data.stages.detected import Footage
from aign.data.stages.detections import find_detections, read_detections, read_openpose, read_videopose3d_custom
from aign.data.stages.linking import MAX_LOST_FRAMES, Seen, link
from aign.framework.errors import UserError
from aign.geometry.skeleton import COCO17, OPENPOSE25

VIDEO = Footage(path=Path("/videos/walk.mp4"), num_frames=4, size_px=(640, 480))
COCO_NAMES = [n.replace("l_", "left_").replace("r_", "right_") for n in COCO17.joints]
# COCO's own edges, counted from 1.
COCO_SKELETON = [
    [16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9], [8, 10], [9, 11],
    [2, 3], [1, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7],
]  # fmt: skip


def person(frame, joints=17, left=200.0):
    """Keypoints that move 5 px to the right each frame."""
    points = np.random.default_rng(joints).uniform(0, 1, (joints, 2)) * (60, 180) + (left, 120)
    return points + np.array([5.0 * frame, 0.0])


def flat(points, third):
    return np.concatenate((points, np.broadcast_to(np.reshape(third, (-1, 1)), (len(points), 1))), 1).ravel().tolist()


# ---------------------------------------------------------------------------------------------------------------- COCO


def annotations(frames=4, third=2):
    images = [{"id": 900 - f, "file_name": f"walk_{f + 1:06d}.jpg", "width": 640, "height": 480} for f in range(frames)]
    entries = [
        {"id": 10 + f, "image_id": 900 - f, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81.0, "iscrowd": 0}
        | {"num_keypoints": 17, "keypoints": flat(person(f), third), "segmentation": [[0, 0, 9, 0, 9, 9]]}
        for f in range(frames)
    ]
    category = {"id": 1, "name": "person", "keypoints": COCO_NAMES, "skeleton": COCO_SKELETON}
    return {"images": images[::-1], "annotations": entries, "categories": [category]}


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def test_coco_annotations_become_one_track_in_the_order_of_the_pictures(tmp_path):
    got = read_coco_results(write(tmp_path / "a.json", annotations()), VIDEO)
    assert got.skeleton is COCO17
    (track,) = got.people
    assert track.first_frame == 0
    np.testing.assert_allclose(track.kp2d_px, np.stack([person(f) for f in range(4)]), atol=1e-4)
    assert (track.conf == 1).all()


def test_convention_coco_visibility(tmp_path):
    """2 visible -> 1, 1 labelled but hidden -> 0.5, 0 not labelled -> 0 with no place."""
    flags = np.array([0, 1, 2] * 6)[:17]
    (track,) = read_coco_results(write(tmp_path / "a.json", annotations(third=flags)), VIDEO).people
    assert track.conf[0].tolist() == (flags / 2).tolist()
    assert (track.kp2d_px[:, flags == 0] == 0).all()
    assert (track.kp2d_px[:, flags > 0] > 0).all()


def test_coco_skeleton_counts_from_one():
    """Trap 18: [16, 14] is the left ankle and the left knee."""
    bones = {frozenset(COCO17.joints[j] for j in bone) for bone in coco_bones(COCO_SKELETON)}
    assert {"l_ankle", "l_knee"} in bones
    assert {"l_hip", "r_hip"} in bones
    assert {"nose", "l_eye"} in bones
    with pytest.raises(UserError, match="count from 1 to 17"):
        coco_bones([[a - 1, b - 1] for a, b in COCO_SKELETON])


def test_coco_crowds_and_other_categories_are_left_out(tmp_path):
    """Trap 18: a crowd's segmentation is RLE and it has no keypoints."""
    content = annotations()
    crowd = {"id": 99, "image_id": 900, "category_id": 1, "iscrowd": 1, "bbox": [0, 0, 600, 400], "num_keypoints": 0}
    crowd |= {"keypoints": [0] * 51, "segmentation": {"counts": [272, 2, 4], "size": [480, 640]}}
    horse = crowd | {"iscrowd": 0, "category_id": 19, "keypoints": [5] * 60}
    unlabelled = crowd | {"iscrowd": 0}
    content["annotations"] += [crowd, crowd | {"keypoints": []}, horse, unlabelled]
    assert len(read_coco_results(write(tmp_path / "a.json", content), VIDEO).people) == 1


def results(ids, **more):
    return [
        {"image_id": i, "category_id": 1, "keypoints": flat(person(f), 0.8), "score": 0.9, **more}
        for f, i in enumerate(ids)
    ]


@pytest.mark.parametrize("ids", [[0, 1, 2, 3], [1, 2, 3, 4], ["walk_0000.png", "walk_0001.png", "2", "3"]])
def test_coco_results_are_counted_from_zero_or_one(tmp_path, ids):
    (track,) = read_coco_results(write(tmp_path / "a.json", results(ids)), VIDEO).people
    assert track.first_frame == 0
    np.testing.assert_allclose(track.kp2d_px, np.stack([person(f) for f in range(4)]), atol=1e-4)
    np.testing.assert_allclose(track.conf, 0.8, atol=1e-6)


def test_coco_results_whose_count_cannot_be_told(tmp_path):
    seen = results([1, 2, 3])
    with pytest.raises(
        UserError, match="frames 1 to 3 of 4, so they may count from 0 or from 1; add an entry of score 0"
    ):
        read_coco_results(write(tmp_path / "a.json", seen), VIDEO)
    (track,) = read_coco_results(write(tmp_path / "a.json", [{"image_id": 0, "score": 0}, *seen]), VIDEO).people
    assert track.first_frame == 1
    (track,) = read_coco_results(write(tmp_path / "a.json", [*seen, {"image_id": 4, "score": 0}]), VIDEO).people
    assert track.first_frame == 0


def test_unlikely_and_double_results_are_dropped_and_scores_cut(tmp_path):
    ghost = results([0, 1, 2, 3], score=0.05)
    shadow = [r | {"keypoints": flat(person(f) + 2, 0.5), "score": 0.6} for f, r in enumerate(results([0, 1, 2, 3]))]
    sure = [r | {"keypoints": flat(person(f), 1.7)} for f, r in enumerate(results([0, 1, 2, 3]))]
    (track,) = read_coco_results(write(tmp_path / "a.json", ghost + shadow + sure), VIDEO).people
    np.testing.assert_allclose(track.kp2d_px, np.stack([person(f) for f in range(4)]), atol=1e-4)
    assert (track.conf == 1).all()


def changed(path, value):
    """The annotations with one thing changed."""
    content = annotations()
    *way, last = path
    inner = content
    for key in way:
        inner = inner[key]
    inner[last] = value
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", "not in COCO's format|neither COCO"),
        ({"people": []}, "neither COCO annotations"),
        ([1, 2], "not in COCO's format"),
        ([{"keypoints": []}], "list of objects with image_id"),
        (annotations(3), "has 3 pictures, walk.mp4 has 4 frames"),
        (changed(("images", 0, "width"), 320), "is of 320 x 480 px, walk.mp4 of 640 x 480 px"),
        (changed(("images", 0, "file_name"), "walk_000001.jpg"), "not numbered, each frame once"),
        (changed(("images", 0, "file_name"), "walk.jpg"), "not numbered, each frame once"),
        (changed(("annotations", 0, "image_id"), 5), "image_id 5 is none of its pictures"),
        (changed(("annotations", 0, "keypoints"), [1.0] * 54), "54 numbers in keypoints; coco17 has 17 x 3"),
        (changed(("annotations", 0, "keypoints"), ["x"] * 51), "other than numbers"),
        (changed(("annotations", 0, "keypoints"), [0.3] * 51), r"visibility \[0.3\]; annotations have 0, 1 and 2"),
        (
            changed(("annotations", 2, "keypoints"), [float("nan"), 1, 2] * 17),
            "frame 2 has a number that is not finite",
        ),
        (changed(("annotations", 0, "keypoints"), [0.5, 0.5, 2] * 17), "reach 0.5 in .* pixels are needed"),
        (changed(("categories", 0, "keypoints"), COCO_NAMES[::-1]), "COCO's 17 are needed"),
        (changed(("categories", 0, "skeleton"), [[0, 1]]), "count from 1 to 17"),
        (results([0, 1, 2, 4]), "has a frame 4, walk.mp4 has 4 frames"),
        (results([0, 1, "x", "y"]), "must be a frame's number"),
    ],
)
def test_coco_that_does_not_fit(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as error:
        read_coco_results(write(tmp_path / "a.json", content), VIDEO)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_truncated_json(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(annotations())[:300])
    with pytest.raises(UserError, match="not a complete JSON file"):
        read_coco_results(tmp_path / "a.json", VIDEO)


# ------------------------------------------------------------------------------------------------------------ OpenPose


def write_openpose(folder, frames, stem="walk"):
    """One file a frame; `frames` holds the flat keypoints of everybody in it."""
    folder.mkdir(exist_ok=True)
    for number, people in enumerate(frames):
        entries = [{"person_id": [-1], "pose_keypoints_2d": p, "face_keypoints_2d": []} for p in people]
        write(folder / f"{stem}_{number:012d}_keypoints.json", {"version": 1.3, "people": entries})
    return folder


def test_openpose_people_are_linked_and_listed_main_person_first(tmp_path):
    """The order of people changes from frame to frame; one of them is not seen in frame 1."""
    big = [person(f, 25) for f in range(4)]
    small = [0.5 * person(f, 25) + (350, 200) for f in range(4)]
    sure = [flat(p, 0.9) for p in big]
    frames = [[flat(small[0], 1.2), sure[0]], [sure[1]], [sure[2], flat(small[2], 0.5)], [flat(small[3], 0.5), sure[3]]]
    got = read_openpose(write_openpose(tmp_path / "walk", frames), VIDEO)
    assert got.skeleton is OPENPOSE25
    first, second = got.people
    np.testing.assert_allclose(first.kp2d_px, np.stack(big), atol=1e-4)
    np.testing.assert_allclose(second.kp2d_px[[0, 2, 3]], np.stack(small)[[0, 2, 3]], atol=1e-4)
    assert second.conf[:, 0].tolist() == [1.0, 0.0, 0.5, 0.5]
    assert (second.kp2d_px[1] == 0).all()


def test_convention_openpose_body_25():
    """Right before left; big toes before small toes; the neck is the middle of the shoulders, our thorax."""
    j = OPENPOSE25.joints
    assert (j[0], j[1], j[4], j[7], j[8], j[11], j[14]) == (
        ("nose", "thorax", "r_wrist", "l_wrist", "pelvis", "r_ankle", "l_ankle")
    )
    assert j[15:] == (
        ("r_eye", "l_eye", "r_ear", "l_ear", "l_toe", "l_small_toe", "l_heel", "r_toe", "r_small_toe", "r_heel")
    )


def test_openpose_frames_without_anybody(tmp_path):
    nobody = flat(np.zeros((25, 2)), 0)
    folder = write_openpose(tmp_path / "walk", [[], [nobody], [flat(person(2, 25), 0.4)], []])
    (track,) = read_openpose(folder, VIDEO).people
    assert (track.first_frame, len(track.conf)) == (2, 1)
    assert read_openpose(write_openpose(tmp_path / "walk", [[], [], [], []]), VIDEO).people == ()


@pytest.mark.parametrize(
    ("number", "content", "message"),
    [
        (3, None, "has 3 frames, walk.mp4 has 4; frame 3 is missing"),
        (4, {"people": []}, "has 5 frames, walk.mp4 has 4; frame 4 is too much"),
        (1, {"people": None}, "no list of people"),
        (1, {"people": [[1.0]]}, "no list of people"),
        (1, {"people": [{"pose_keypoints_2d": [1.0] * 54}]}, "54 numbers in keypoints; openpose25 has 25 x 3"),
        (1, {"people": [{}]}, "0 numbers in keypoints"),
        (1, {"people": [{"pose_keypoints_2d": [float("inf")] * 75}]}, "frame 1 has a number that is not finite"),
        (1, {"people": [{"pose_keypoints_2d": [0.4, 0.2, 0.9] * 25}]}, "pixels are needed"),
    ],
)
def test_openpose_that_does_not_fit(tmp_path, number, content, message):
    folder = write_openpose(tmp_path / "walk", [[flat(person(f, 25), 1)] for f in range(4)])
    file = folder / f"walk_{number:012d}_keypoints.json"
    if content is None:
        file.unlink()
    else:
        write(file, content)
    with pytest.raises(UserError, match=message):
        read_openpose(folder, VIDEO)


# -------------------------------------------------------------------------------------------------------- VideoPose3D


def write_custom(path, kp2d=None, name="walk.mp4", **metadata):
    kp2d = np.stack([person(f) for f in range(4)]).astype(np.float32) if kp2d is None else kp2d
    held = {"layout_name": "coco", "num_joints": 17, "keypoints_symmetry": [[1, 3], [2, 4]]}
    held |= {"video_metadata": {name: {"w": 640, "h": 480}}} | metadata
    np.savez_compressed(
        path, positions_2d=np.array({name: {"custom": [kp2d]}}, object), metadata=np.array(held, object)
    )
    return path


def test_videopose3d_custom(tmp_path):
    got = read_videopose3d_custom(write_custom(tmp_path / "data_2d_custom_mine.npz"), VIDEO)
    assert got.skeleton is COCO17
    (track,) = got.people
    np.testing.assert_allclose(track.kp2d_px, np.stack([person(f) for f in range(4)]), atol=1e-4)
    assert (track.conf == 1).all()
    h36m = read_videopose3d_custom(write_custom(tmp_path / "b.npz", layout_name="h36m"), VIDEO)
    assert h36m.skeleton.name == "h36m17"


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit",))


def test_videopose3d_custom_runs_no_code(tmp_path):
    """Trap 22: the file needs allow_pickle, so it is read by the restricted loader."""
    np.savez(tmp_path / "a.npz", positions_2d=np.array({"walk.mp4": Evil()}, object), metadata=np.array({}, object))
    with pytest.raises(UserError, match=r"builtins.exec, which is refused"):
        read_videopose3d_custom(tmp_path / "a.npz", VIDEO)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kp2d": np.ones((3, 17, 2), np.float32)}, "has 3 frames, walk.mp4 has 4"),
        ({"kp2d": np.ones((4, 16, 2), np.float32)}, r"shape \(4, 16, 2\); one array \(frames, 17, 2\)"),
        ({"kp2d": np.ones((17, 2), np.float32)}, r"shape \(17, 2\)"),
        ({"kp2d": np.full((4, 17, 2), np.nan, np.float32)}, "frame 0 has a number that is not finite"),
        ({"kp2d": np.full((4, 17, 2), 0.5, np.float32)}, "pixels are needed"),
        ({"layout_name": "mpii"}, r"shape \(4, 17, 2\); one array \(frames, 16, 2\)"),
        ({"layout_name": "mine"}, "layout 'mine'; allowed: coco, h36m, mpii"),
        ({"name": "run.mp4"}, "has no video walk; it has run.mp4"),
        ({"video_metadata": {"walk.mp4": {"w": 1280, "h": 960}}}, "of 1280 x 960 px, walk.mp4 of 640 x 480"),
    ],
)
def test_videopose3d_custom_that_does_not_fit(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        read_videopose3d_custom(write_custom(tmp_path / "a.npz", **changes), VIDEO)


def test_other_npz_files_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", poses=np.zeros(3))
    with pytest.raises(UserError, match="no dictionary positions_2d in it"):
        read_videopose3d_custom(tmp_path / "a.npz", VIDEO)


# ------------------------------------------------------------------------------------------------------------- finding


def others(folder):
    """Detections of other videos, some of similar names."""
    write_openpose(folder / "walker", [[]], "walker")
    write_openpose(folder, [[]] * 4, "walk_2")
    write(folder / "walks.json", [])
    write_custom(folder / "data_2d_custom_other.npz", name="run.mp4")


@pytest.mark.parametrize(
    ("make", "people"),
    [
        (lambda folder: write(folder / "walk.json", annotations()), 1),
        (lambda folder: write_custom(folder / "walk.npz"), 1),
        (lambda folder: write_custom(folder / "data_2d_custom_mine.npz"), 1),
        (lambda folder: write_openpose(folder / "walk", [[flat(person(f, 25), 1)] for f in range(4)]), 1),
        (lambda folder: write_openpose(folder, [[]] * 4), 0),
    ],
)
def test_detections_are_found_by_the_videos_name(tmp_path, make, people):
    video = Path("/elsewhere/walk.mp4")
    others(tmp_path)
    assert find_detections(tmp_path, video) is None
    path = make(tmp_path)
    assert find_detections(tmp_path, video) == path
    assert len(read_detections(path, VIDEO).people) == people


def test_two_detections_of_one_video_are_refused(tmp_path):
    write(tmp_path / "walk.json", annotations())
    write_custom(tmp_path / "walk.npz")
    with pytest.raises(UserError, match=r"several detections: .*walk.json, .*walk.npz"):
        find_detections(tmp_path, Path("walk.mp4"))


# ------------------------------------------------------------------------------------------------------------- linking


def seen(*people):
    points = np.stack(people)
    return Seen(kp2d_px=points, conf=np.ones(points.shape[:2]), score=np.ones(len(points)))


def test_people_who_cross_keep_their_tracks():
    """Where they pass, each is nearer to where the other one was than to where they were themselves."""
    rng = np.random.default_rng(3)
    shape = rng.uniform(0, 1, (17, 2)) * (50, 170)
    right = [shape + np.array([110 + 20 * f, 100]) for f in range(20)]
    left = [shape + np.array([490 - 20 * f, 112]) for f in range(20)]
    frames = {f: seen(*((a, b) if f % 3 else (b, a))) for f, (a, b) in enumerate(zip(right, left, strict=True))}
    tracks = link(frames)
    assert [len(track.conf) for track in tracks] == [20, 20]
    for want in (right, left):
        assert min(np.abs(track.kp2d_px - np.stack(want)).max() for track in tracks) < 1e-3


@pytest.mark.parametrize(("gap", "tracks"), [(MAX_LOST_FRAMES, 1), (MAX_LOST_FRAMES + 1, 2)])
def test_somebody_lost_for_long_is_somebody_else(gap, tracks):
    shown = [f for f in range(60) if not 20 <= f < 20 + gap]
    found = link({f: seen(person(f)) for f in shown})
    assert len(found) == tracks
    assert sorted(f + t.first_frame for t in found for f in np.flatnonzero(t.conf.any(1))) == shown


def test_somebody_elsewhere_is_somebody_else():
    found = link({0: seen(person(0)), 1: seen(person(1)), 2: seen(person(2, left=430.0))})
    assert sorted((t.first_frame, len(t.conf)) for t in found) == [(0, 2), (2, 1)]
