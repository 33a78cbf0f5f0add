"""Videos of a store as they are lifted, shown and saved."""

import cv2
import numpy as np
import pytest
import torch

from aign.data.store import Store
from aign.framework.errors import UserError
from aign.geometry.camera import project
from aign.geometry.skeleton import H36M17
from aign.inference.video import lift_views, lifter_input, read_views, reprojection, save_joints, write_view
from tests.inference.recordings import PICTURE, RECORDING, edited, record

FRAMES = 137


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return record(str(tmp_path_factory.mktemp("video") / "store"), FRAMES)


def truth(recorded, index):
    """The person in a camera."""
    moved = recorded.cameras[index].world_to_cam.apply(torch.from_numpy(recorded.joints_world_m))
    return moved.float().numpy()


def test_views_are_whole_videos_again(recorded):
    assert [v.camera for v in recorded.views] == sorted(c.name for c in recorded.cameras)
    for index, view in enumerate(recorded.views):
        assert (view.sequence, view.fps, view.calibrated) == (RECORDING.sequence, 25.0, True)
        assert view.kp2d_px.shape == (FRAMES, 17, 2)
        assert len(view.pictures) == FRAMES
        flat = torch.from_numpy(truth(recorded, index)).double().reshape(-1, 3)
        px = project(flat, view.pinhole).reshape(FRAMES, 17, 2).numpy()
        seen = view.conf > 0
        assert seen.mean() > 0.9
        np.testing.assert_allclose(px[seen], view.kp2d_px[seen], atol=0.02)
        np.testing.assert_allclose(view.picture_scale * recorded.cameras[index].image_size_px, PICTURE)


def test_pictures_belong_to_their_frames_and_cameras_and_are_rgb(recorded):
    for index, view in enumerate(recorded.views):
        red = []
        for number, frame in enumerate(view.frames()):
            assert frame.shape == (PICTURE[1], PICTURE[0], 3)
            assert abs(int(frame[-20:, -20:].mean()) - (number % 200 + 20)) <= 2
            red.append(frame[4, 4])
        assert red[0][0] > red[0][2] + 40, "red is the first channel"
        np.testing.assert_array_equal(view.frame(3), list(view.frames())[3])
        assert index < 4


def test_a_store_without_pictures_has_no_views(demo_store):
    with pytest.raises(UserError, match="no table 'frames'"):
        read_views(demo_store)


def test_a_store_of_pictures_alone_says_what_is_missing(recorded):
    parts = tuple(p for p in recorded.store.manifest.parts if p.table == "frames")
    poor = Store(recorded.store.url, type(recorded.store.manifest)(skeleton="h36m17", num_joints=17, parts=parts))
    with pytest.raises(UserError, match="no table 'keypoints'"):
        read_views(poor)


def test_convention_a_lifters_input_is_undistorted_pixels_of_the_same_camera(recorded):
    """Convention: straight pixels u = fx x/z + cx of the joints, with fx, fy, cx, cy of the video."""
    view = recorded.views[1]
    kp2d, conf, intrinsics = lifter_input(view)
    joints = truth(recorded, 1)
    fx, fy, cx, cy = intrinsics[0]
    straight = joints[..., :2] / joints[..., 2:] * [fx, fy] + [cx, cy]
    seen = conf > 0
    np.testing.assert_allclose(kp2d[seen], straight[seen], atol=0.05)
    assert np.abs(kp2d - view.kp2d_px)[seen].max() > 0.5, "the lens bends"
    assert (kp2d[~seen] == 0).all()
    assert intrinsics.shape == (FRAMES, 4)
    assert (intrinsics == intrinsics[0]).all()
    assert {a.dtype for a in (kp2d, conf, intrinsics)} == {np.dtype(np.float32)}
    assert intrinsics.flags.writeable


def test_other_joint_sets_are_converted(tmp_path):
    view = record(str(tmp_path / "store"), 5, "blazepose33", views=1).views[0]
    assert view.kp2d_px.shape == (5, 33, 2)
    kp2d, conf, _ = lifter_input(view)
    assert kp2d.shape == (5, 17, 2)
    head, wrist = H36M17.index("head_top", "l_wrist")
    assert (conf[:, head] == 0).all(), "BlazePose has no top of the head"
    assert (conf[:, wrist] > 0).all()


def test_lifting_asks_the_model_once_and_gives_each_view_its_own(recorded):
    views = [
        edited(v, kp2d_px=v.kp2d_px[: 20 + i], conf=v.conf[: 20 + i], number=v.number[: 20 + i])
        for i, v in enumerate(recorded.views[:3])
    ]
    calls, clips = [], []

    def predict(kp2d, conf, intrinsics, /, *, clip):
        calls.append((kp2d.shape, conf.shape, intrinsics.shape))
        clips.extend(clip.tolist())
        out = np.zeros((len(kp2d), 17, 3), np.float32)
        out[..., :2] = kp2d
        out[..., 2] = intrinsics[:, :1]
        return out

    lifted = lift_views(views, predict)
    assert calls == [((63, 17, 2), (63, 17), (63, 4))]
    assert clips == [0] * 20 + [1] * 21 + [2] * 22
    for view, joints in zip(views, lifted, strict=True):
        np.testing.assert_array_equal(joints[..., :2], lifter_input(view)[0])
        assert (joints[..., 2] == view.pinhole.focal_px[0].float().numpy()).all()


def test_frames_round_a_gap_are_not_of_one_clip(recorded):
    whole = recorded.views[0]
    assert whole.number.tolist() == list(range(FRAMES)), "and clips of the store are put together"
    kept = np.r_[0:20, 25:60]
    gappy = edited(whole, kp2d_px=whole.kp2d_px[kept], conf=whole.conf[kept], number=whole.number[kept])
    given = []

    def predict(kp2d, conf, intrinsics, /, *, clip):
        given.append(clip)
        return np.zeros((len(kp2d), 17, 3), np.float32)

    lift_views([gappy, whole], predict)
    assert given[0].tolist() == [0] * 20 + [1] * 35 + [2] * FRAMES


def test_a_view_in_which_nobody_is_lifted_is_named(recorded):
    views = recorded.views[:2]

    def blind(kp2d, conf, intrinsics, /, *, clip):
        joints = np.zeros((len(kp2d), 17, 3), np.float32)
        joints[FRAMES:] = np.nan
        joints[:5] = np.nan
        return joints

    with pytest.raises(UserError, match=f"{views[1].camera}: no frame shows enough of a person"):
        lift_views(views, blind)


def test_convention_the_true_pose_reprojects_onto_the_detections(recorded):
    """Convention: `reprojection` is in the pixels of the video, the lens's distortion included."""
    for index, view in enumerate(recorded.views):
        px = reprojection(view, truth(recorded, index))
        seen = view.conf > 0
        np.testing.assert_allclose(px[seen], view.kp2d_px[seen], atol=0.02)
    nobody = truth(recorded, 0)
    nobody[3] = np.nan
    px = reprojection(recorded.views[0], nobody)
    assert np.isnan(px[3]).all()
    assert np.isfinite(px[[2, 4]]).all()


def test_the_overlay_is_a_video_of_every_frame(recorded, tmp_path):
    path = tmp_path / "overlay.mp4"
    view = edited(
        recorded.views[0],
        pictures=recorded.views[0].pictures[:12],
        kp2d_px=recorded.views[0].kp2d_px[:12],
        conf=recorded.views[0].conf[:12],
        number=recorded.views[0].number[:12],
    )
    joints = truth(recorded, 0)[:12]
    joints[4] = np.nan
    write_view(view, joints, path, slow=2.0)
    video = cv2.VideoCapture(str(path))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    frames = 0
    while video.read()[0]:
        frames += 1
    assert frames == 12
    assert [p.name for p in tmp_path.iterdir()] == ["overlay.mp4"]


def test_saved_joints_are_a_plain_npz(recorded, tmp_path):
    view, joints = recorded.views[0], truth(recorded, 0)
    path = tmp_path / "joints.npz"
    save_joints(path, view, joints)
    with np.load(path, allow_pickle=False) as file:
        got = dict(file)
    np.testing.assert_array_equal(got["joints_cam_m"], joints)
    assert got["joint_names"].tolist() == list(H36M17.joints)
    assert got["parents"].tolist() == list(H36M17.parents)
    np.testing.assert_array_equal(got["kp2d_px"], view.kp2d_px)
    assert got["fps"] == 25.0
    np.testing.assert_allclose(got["intrinsics_px"][:2], view.pinhole.focal_px.numpy())
    assert got["intrinsics_source"] == "calibration"
    assert [p.name for p in tmp_path.iterdir()] == ["joints.npz"]
