import cv2
import numpy as np
import pytest

from aign.data.stages.decode import probe, read_frames
from aign.framework.errors import UserError
from aign.geometry.skeleton import BLAZEPOSE33, H36M17
from aign.inference.overlay import MIN_CONF, SIDE_RGB, draw_pose, side, write_overlay

# LMS projections of Vienot, Brettel and Mollon 1999, on linear RGB, for eyes without L or M cones.
DEFICIENCIES = {
    "protan": [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]],
    "deutan": [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]],
}


def standing(width=200, height=240):
    """A frontal H36M-17 figure; the person's left is on the picture's right."""
    x = [0, -12, -12, -12, 12, 12, 12, 0, 0, 0, 0, 20, 26, 30, -20, -26, -30]
    y = [0, 0, 40, 80, 0, 40, 80, -25, -50, -62, -75, -48, -20, 8, -48, -20, 8]
    return (np.stack([x, y], axis=1) + np.array([width / 2, 0.45 * height])).astype(np.float32)


def grey(width=200, height=240):
    return np.full((height, width, 3), 128, np.uint8)


def ones(count=17):
    return np.ones(count, np.float32)


def near(picture, point, rgb, reach=3):
    x, y = np.rint(point).astype(int)
    patch = picture[y - reach : y + reach + 1, x - reach : x + reach + 1].astype(int)
    return (np.abs(patch - rgb).max(axis=-1) < 12).any()


def test_convention_left_is_the_persons_left():
    assert [side(name) for name in ("l_knee", "r_knee", "thorax", "left")] == ["left", "right", "centre", "centre"]
    pose = standing()
    picture = draw_pose(grey(), pose, ones(), H36M17)
    knee_to_ankle = (pose[H36M17.index("l_knee")[0]] + pose[H36M17.index("l_ankle")[0]]) / 2
    assert near(picture, knee_to_ankle, SIDE_RGB["left"])
    assert not near(picture, knee_to_ankle, SIDE_RGB["right"])
    mirrored = draw_pose(grey(), pose[list(H36M17.mirrored)], ones(), H36M17)
    assert near(mirrored, knee_to_ankle, SIDE_RGB["right"])


def test_convention_pixel_centres_are_whole_numbers():
    pose = np.full((17, 2), np.nan, np.float32)
    pose[0] = [60, 80]
    drawn = (draw_pose(grey(), pose, ones(), H36M17) != 128).any(axis=-1)
    rows, columns = np.nonzero(drawn)
    assert (columns.mean(), rows.mean()) == pytest.approx((60, 80), abs=0.15)


def test_the_frame_itself_is_not_drawn_on_and_read_only_frames_are_fine():
    frame = grey()
    frame.flags.writeable = False
    assert (draw_pose(frame, standing(), ones(), H36M17) != frame).any()


def test_unsure_and_unknown_joints_are_left_out_with_their_bones():
    pose, conf = standing(), ones()
    wrist, elbow = H36M17.index("l_wrist", "l_elbow")
    without = conf.copy()
    without[wrist] = MIN_CONF - 0.01
    unknown = pose.copy()
    unknown[wrist] = np.nan
    full = draw_pose(grey(), pose, conf, H36M17)
    by_conf, by_nan = draw_pose(grey(), pose, without, H36M17), draw_pose(grey(), unknown, conf, H36M17)
    assert np.array_equal(by_conf, by_nan)
    forearm = (pose[wrist] + pose[elbow]) / 2
    assert near(full, forearm, SIDE_RGB["left"])
    assert not near(by_conf, forearm, SIDE_RGB["left"])
    assert np.array_equal(draw_pose(grey(), pose, 0 * conf, H36M17), grey())


@pytest.mark.parametrize("far", [1e4, -1e9, 3e38])
def test_joints_far_outside_do_not_overflow(far):
    pose = standing()
    pose[H36M17.index("l_wrist")[0]] = far
    picture = draw_pose(grey(), pose, ones(), H36M17)
    assert near(picture, pose[H36M17.index("r_wrist")[0]] + [2, -14], SIDE_RGB["right"])


def test_limbs_are_anti_aliased():
    colours = np.unique(draw_pose(grey(), standing(), ones(), H36M17).reshape(-1, 3), axis=0)
    assert len(colours) > 30


def test_wrong_number_of_joints_is_refused():
    with pytest.raises(UserError, match="got 16 joints to draw; h36m17 has 17"):
        draw_pose(grey(), standing()[:16], ones(16), H36M17)


@pytest.mark.parametrize("eyes", DEFICIENCIES)
def test_sides_differ_for_colour_blind_eyes(eyes):
    rgb = np.array([SIDE_RGB[name] for name in ("left", "right", "centre")]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = (linear @ np.array(DEFICIENCIES[eyes]).T).clip(0, 1)
    display = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = cv2.cvtColor(display.astype(np.float32)[None], cv2.COLOR_RGB2LAB)[0]
    apart = [np.linalg.norm(lab[a] - lab[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert min(apart) > 20, apart  # 2.3 is just noticeable side by side


def test_overlay_video_has_rings_limbs_and_legend(tmp_path):
    seen = np.stack([standing(480, 640) * [1.0, 1.0]] * 5).astype(np.float32)
    lifted = seen + np.float32([60, 0])
    path = tmp_path / "overlay.mp4"
    write_overlay(path, [grey(480, 640)] * 5, seen, np.ones((5, 17), np.float32), lifted, 30)
    info, frames = probe(path), list(read_frames(path))
    assert (info.codec, info.width_px, info.height_px, info.fps, len(frames)) == ("h264", 480, 640, 30, 5)
    changed = np.abs(frames[2].astype(int) - 128).max(axis=-1) > 40
    head = np.rint(seen[2, 10]).astype(int)
    assert changed[head[1] - 12 : head[1] + 13, head[0] - 12 : head[0] + 13].any()  # a ring without limbs
    assert changed[head[1], head[0] + 60]  # a lifted joint
    assert changed[600:, :240].any()
    assert not changed[600:, 400:].any()
    assert list(tmp_path.iterdir()) == [path]


def test_overlay_of_large_frames_is_made_smaller_and_points_with_it(tmp_path):
    pose = np.full((1, 33, 2), np.nan, np.float32)
    pose[0, 0] = [1000, 500]
    write_overlay(
        tmp_path / "o.mp4", [grey(1920, 1080)], pose, np.ones((1, 33), np.float32), None, 25, skeleton=BLAZEPOSE33
    )
    (frame,) = read_frames(tmp_path / "o.mp4")
    assert frame.shape == (720, 1280, 3)
    rows, columns = np.nonzero(np.abs(frame[:500].astype(int) - 128).max(axis=-1) > 60)
    assert (columns.mean(), rows.mean()) == pytest.approx((1000 * 2 / 3, 500 * 2 / 3), abs=1.0)


@pytest.mark.parametrize(
    ("frames", "poses", "lifted", "message"),
    [
        (3, 5, None, "got 3 frames but keypoints of 5"),
        (5, 3, None, "got more frames than the 3"),
        (3, 3, 4, "got 3 frames of detections and 4 lifted"),
        (0, 3, None, "no frames"),
    ],
)
def test_lengths_that_differ_are_refused_and_leave_nothing(tmp_path, frames, poses, lifted, message):
    seen = np.stack([standing()] * poses)
    reprojected = None if lifted is None else np.stack([standing()] * lifted)
    with pytest.raises(UserError, match=message):
        write_overlay(tmp_path / "o.mp4", [grey()] * frames, seen, np.ones((poses, 17), np.float32), reprojected, 30)
    assert list(tmp_path.iterdir()) == []


def test_wrong_skeleton_is_refused_before_anything_is_read(tmp_path):
    def frames():
        raise AssertionError("read")
        yield

    with pytest.raises(UserError, match="got 33 joints to draw; h36m17 has 17"):
        write_overlay(
            tmp_path / "o.mp4", frames(), np.zeros((2, 33, 2), np.float32), np.ones((2, 33), np.float32), None, 30
        )


def test_tiny_frames_cut_the_legend(tmp_path):
    pose = np.zeros((1, 17, 2), np.float32)
    write_overlay(tmp_path / "o.mp4", [grey(24, 16)], pose, np.ones((1, 17), np.float32), None, 30)
    assert probe(tmp_path / "o.mp4").height_px == 16
