"""The canonical frame of faces: alignment, cutting out and pasting back."""

import cv2
import numpy as np
import pytest

from aign.data.face_frame import CANONICAL, alignment, canonical_px, part_boxes
from aign.data.stages.faces import FoundFace, aligned, pasted_back
from aign.framework.errors import UserError


def turned(points, degrees, scale, shift):
    angle = np.radians(degrees)
    rot = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ rot.T * scale + shift


def smooth(side):
    y, x = np.mgrid[:side, :side] / side
    return (127 + 80 * np.stack([np.sin(5 * x + y), np.cos(6 * y), np.sin(4 * (x + y))], -1)).astype(np.uint8)


@pytest.mark.parametrize(("degrees", "scale"), [(0, 1), (25, 3.1), (-40, 0.4), (170, 2)])
def test_convention_landmarks_come_to_the_canonical_ones(degrees, scale):
    """Left eye (of the picture) at a share of 0.38, whatever the turn; the way back is the way back."""
    there = canonical_px(64)
    here = turned(there, degrees, scale, [300, -20])
    fit = alignment(here, 64)
    np.testing.assert_allclose(fit(here), there, atol=1e-9)
    np.testing.assert_allclose(fit.inverse(fit(here)), here, atol=1e-9)
    assert fit.scale == pytest.approx(1 / scale)
    assert fit(here)[0, 0] == pytest.approx(0.38 * 64 - 0.5)


def test_the_fit_is_the_best_similarity_of_eyes_and_mouth():
    rng = np.random.default_rng(0)
    here = CANONICAL * 90 + rng.normal(0, 4, (5, 2))
    fit, which = alignment(here, 64), [0, 1, 3, 4]

    def error(points):
        return ((points[which] - canonical_px(64)[which]) ** 2).sum()

    best = error(fit(here))
    for degrees, scale, shift in ((1, 1, 0), (-1, 1, 0), (0, 1.02, 0), (0, 0.98, 0), (0, 1, 0.2), (0, 1, -0.2)):
        assert error(turned(fit(here) - 32, degrees, scale, 32 + shift)) > best


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        (np.full((5, 2), np.nan), "not finite"),
        (np.zeros((5, 2)), "eyes 0 px apart; at least 2 px"),
    ],
)
def test_landmarks_of_no_face_are_refused(marks, message):
    with pytest.raises(UserError, match=message):
        alignment(marks, 64)


@pytest.mark.parametrize("scale", [0.6, 2.0, 5.0])
def test_cut_out_and_pasted_back_changes_nothing_that_can_be_seen(scale):
    side = round(110 * scale)
    image = smooth(side)
    marks = turned(canonical_px(64) - 32, 12, scale, side / 2)
    patch, fit = aligned(image, marks, 64)
    assert patch.shape == (64, 64, 3)
    back = pasted_back(image, patch, fit)
    assert np.abs(back.astype(int) - image).max() <= 6
    assert (back[0] == image[0]).all(), "far from the face nothing changes"


def test_pixels_come_from_where_the_transform_says():
    image = np.zeros((200, 200, 3), np.uint8)
    cv2.circle(image, (90, 120), 6, (255, 255, 255), -1)
    patch, fit = aligned(image, turned(canonical_px(64), 20, 2.2, [40, 20]), 64)
    y, x = np.nonzero(patch[..., 0] > 127)
    np.testing.assert_allclose([x.mean(), y.mean()], fit(np.array([[90.0, 120.0]]))[0], atol=0.3)


def test_only_what_is_wanted_is_pasted():
    image, where = smooth(128), np.zeros((64, 64), bool)
    where[30:40, 20:40] = True
    patch, fit = aligned(image, canonical_px(128), 64)
    back = pasted_back(image, 255 - patch, fit, where)
    moved = (back != image).any(-1)
    assert moved[66:74, 50:70].all()
    assert not moved[:52].any()
    assert not moved[88:].any()
    assert not moved[:, :32].any()


def test_boxes_are_edges_of_what_is_there():
    parts = np.zeros((9, 12), np.uint8)
    parts[2:4, 3:8] = 1
    parts[8, 11] = 3
    boxes, valid = part_boxes(parts)
    assert boxes.tolist() == [[2.5, 1.5, 7.5, 3.5], [-0.5, -0.5, 11.5, 8.5], [10.5, 7.5, 11.5, 8.5]]
    assert valid.tolist() == [True, False, True]


def test_contours_of_landmarks_become_parts():
    """A mesh whose mouth is an ellipse with a smaller one inside, and eyes above it."""
    from aign.data.stages import faces

    points = np.full((468, 2), 50.0)

    def ellipse(which, middle, reach):
        turn = np.linspace(np.pi, 3 * np.pi, len(which), endpoint=False)
        points[list(which)] = np.array(middle) + np.stack((np.cos(turn), -np.sin(turn)), 1) * reach

    ellipse(faces._LIPS, (50, 70), (15, 8))
    ellipse(faces._MOUTH, (50, 70), (9, 4))
    ellipse(faces._LEFT_EYE, (35, 35), (6, 3))
    ellipse(faces._RIGHT_EYE, (65, 35), (6, 3))
    ellipse(faces._NOSE, (50, 52), (7, 6))
    parts = FoundFace(points_px=points).parts(100, 90)
    assert parts.shape == (90, 100)
    assert parts[70, 50] == 0
    assert parts[64, 50] == 1
    assert parts[52, 50] == 2
    assert parts[35, 35] == parts[35, 65] == 3
    assert (parts == 1).sum() == pytest.approx(np.pi * (15 * 8 - 9 * 4), rel=0.12)
    marks = FoundFace(points_px=points).landmarks_px
    np.testing.assert_allclose(marks[:2], [[35, 35], [65, 35]], atol=1e-5)
    assert FoundFace(points_px=points * 2).parts(200, 180)[140, 100] == 0
