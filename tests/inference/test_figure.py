import cv2
import numpy as np
import pytest

from aign.framework.errors import UserError
from aign.geometry.skeleton import H36M17
from aign.inference.curves import training_curves
from aign.inference.figure import Moment, _two_views, levelled, side_by_side
from aign.inference.overlay import SIDE_RGB

STANDING_M = np.array(
    [
        *([0, 0, 0], [-0.12, 0, 0], [-0.13, 0.45, 0.05], [-0.13, 0.9, 0]),
        *([0.12, 0, 0], [0.13, 0.45, 0.05], [0.13, 0.9, 0]),
        *([0, -0.25, 0], [0, -0.5, 0], [0, -0.6, -0.1], [0, -0.72, 0]),
        *([0.2, -0.48, 0], [0.25, -0.2, 0], [0.28, 0.05, -0.1]),
        *([-0.2, -0.48, 0], [-0.25, -0.2, 0], [-0.28, 0.05, -0.1]),
    ],
    np.float32,
)


def moment(**changes):
    given = {
        "frame": np.full((240, 320, 3), 90, np.uint8),
        "kp2d_px": (STANDING_M[:, :2] * 80 + [160, 120]).astype(np.float32),
        "conf": np.ones(17, np.float32),
        "joints_cam_m": STANDING_M + np.float32([0.3, 0.1, 4.0]),
        "reference_m": None,
        "label": "frame 0",
    }
    return Moment(**{**given, **changes})


def picture(path):
    return cv2.imread(str(path))[..., ::-1].astype(int)


def count(image, rgb, off=3):
    return int((np.abs(image - rgb).max(axis=-1) < off).sum())


def test_picture_has_a_row_a_moment_and_is_1200_px_wide(tmp_path):
    striding = STANDING_M.copy()
    striding[H36M17.index("l_knee", "l_ankle"), 2] -= 0.4  # else the right leg hides it from the side
    side_by_side(tmp_path / "one.png", [moment(joints_cam_m=striding)])
    side_by_side(tmp_path / "three.png", [moment(joints_cam_m=striding)] * 3)
    one, three = picture(tmp_path / "one.png"), picture(tmp_path / "three.png")
    assert one.shape[1] == three.shape[1] == 1200
    assert three.shape[0] - one.shape[0] == 800
    for third in np.split(one[60:420], 3, axis=1):  # frame, front and side all show all three colours
        assert all(count(third, rgb, off=30) > 50 for rgb in SIDE_RGB.values())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.png", "three.png"]


def test_reference_is_grey_and_only_there_if_given(tmp_path):
    side_by_side(tmp_path / "without.png", [moment()])
    shifted = moment(reference_m=STANDING_M * np.float32([1.4, 1, 1]))
    side_by_side(tmp_path / "with.png", [shifted], reference_name="triangulated")
    grey_pixels = [
        ((np.ptp(image, axis=-1) < 16) & (image.mean(axis=-1) > 140) & (image.mean(axis=-1) < 200))[60:420, 420:].sum()
        for image in (picture(tmp_path / "without.png"), picture(tmp_path / "with.png"))
    ]
    assert grey_pixels[1] > grey_pixels[0] + 500


def test_convention_second_view_is_from_the_cameras_right():
    """Far away is to the right, the camera's right is near."""
    (front,), (turned,) = _two_views(moment())
    assert np.allclose(front, STANDING_M, atol=1e-6)
    wrist = H36M17.index("l_wrist")[0]
    assert STANDING_M[wrist, 2] < 0
    assert turned[wrist, 0] < 0
    assert STANDING_M[wrist, 0] > 0
    assert turned[wrist, 2] < 0


def test_convention_levelled_turns_up_to_minus_y():
    rng = np.random.default_rng(0)
    for up in [*rng.normal(size=(20, 3)), np.array([0, 1.0, 0]), np.array([0, -3.0, 0]), np.array([1e-9, 1.0, 0])]:
        body = np.zeros((17, 3))
        body[1:] = rng.normal(size=(16, 3))
        body[5] = up / np.linalg.norm(up)
        upright = levelled(body + 7, up)
        assert np.allclose(upright[5], [0, -1, 0], atol=1e-7)
        assert np.allclose(upright @ upright.T, body @ body.T, atol=1e-7)  # lengths and angles stay
        assert np.linalg.det(np.linalg.lstsq(body, upright, rcond=None)[0]) == pytest.approx(1)  # and handedness
    assert np.array_equal(levelled(STANDING_M, None), STANDING_M)
    assert np.allclose(levelled(STANDING_M, np.array([0, -2.0, 0])), STANDING_M)
    with pytest.raises(UserError, match="direction up"):
        levelled(STANDING_M, np.zeros(3))


def test_missing_joints_empty_detections_and_people_at_the_border_are_drawn_around(tmp_path):
    holes = STANDING_M.copy()
    holes[10] = np.nan
    outside = moment(kp2d_px=moment().kp2d_px + np.float32([150, 100]), joints_cam_m=holes, reference_m=holes)
    nobody = moment(conf=np.zeros(17, np.float32))
    side_by_side(tmp_path / "p.png", [outside, nobody])
    assert picture(tmp_path / "p.png").shape[1] == 1200


@pytest.mark.parametrize(
    ("moments", "message"),
    [([], "no moment"), ([moment(joints_cam_m=np.full((17, 3), np.nan, np.float32))], "no pose with a finite")],
)
def test_nothing_to_draw_is_refused(tmp_path, moments, message):
    with pytest.raises(UserError, match=message):
        side_by_side(tmp_path / "p.png", moments)
    assert list(tmp_path.iterdir()) == []


def test_missing_folder_is_one_clear_error(tmp_path):
    with pytest.raises(UserError, match=r"cannot write .*p\.png: No such file"):
        side_by_side(tmp_path / "nowhere" / "p.png", [moment()])


def curve(scale):
    return [{"step": s, "loss/pose": scale / s} for s in range(1, 50)] + [{"step": 50, "mpjpe_mm": 90.0 * scale}]


def test_training_curves_have_a_panel_a_metric(tmp_path):
    curves = {"AIGN": curve(1.0), "Forward2Dto3D": [*curve(2.0), {"step": 50, "a/b": 1.0, "c": float("nan"), "d": 2.0}]}
    training_curves(tmp_path / "five.png", curves)
    training_curves(tmp_path / "two.png", {"AIGN": curve(1.0)})
    five, two = picture(tmp_path / "five.png"), picture(tmp_path / "two.png")
    assert five.shape[1] == two.shape[1] == 1200
    assert five.shape[0] - two.shape[0] == 290  # five panels: two rows
    assert count(two, (0, 114, 178)) > 200
    assert count(two, (213, 94, 0)) == 0
    assert count(five, (213, 94, 0)) > 200
    assert sorted(p.name for p in tmp_path.iterdir()) == ["five.png", "two.png"]


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({}, "no metric of any method"),
        ({"AIGN": [{"step": 1}]}, "no metric of .'AIGN'."),
        ({"AIGN": [{"loss": 1.0}]}, 'without "step"'),
    ],
)
def test_curves_without_content_are_refused(tmp_path, curves, message):
    with pytest.raises(UserError, match=message):
        training_curves(tmp_path / "c.png", curves)
    assert list(tmp_path.iterdir()) == []
