from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch

from aign.data.datasets.job import crop_intrinsics
from aign.data.stages.crops import (
    FASTEST,
    MARGIN,
    MAX_CLIP_FRAMES,
    MAX_TRAVEL,
    MIN_CLIP_FRAMES,
    crop_image,
    crop_points,
    largest_component,
    rescale_points,
    split_by_travel,
    square_crop,
    warp_mask,
)
from aign.framework.errors import UserError
from aign.geometry.camera import Pinhole, project


def person(centres_px, size_px: float = 100.0) -> tuple[np.ndarray, np.ndarray]:
    """A box of landmarks about each centre."""
    centres = np.asarray(centres_px, np.float64).reshape(-1, 1, 2)
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5], [0, 0]]) * size_px
    points = (centres + corners).astype(np.float32)
    return points, np.ones(points.shape[:2], np.float32)


def side(points: np.ndarray) -> float:
    return float(np.ptp(points.reshape(-1, 2), axis=0).max())


def test_square_covers_the_person_with_margin_through_the_clip():
    points, conf = person([(200, 150), (230, 160), (190, 140)])
    crop = square_crop(points, conf)
    assert crop[2] - crop[0] == crop[3] - crop[1] == np.ceil(140 * (1 + 2 * MARGIN))
    assert (np.mod(crop, 1) == 0.5).all(), "edges on edges of pixels"
    assert (points.reshape(-1, 2) >= crop[:2] + 0.9 * MARGIN * 140).all()
    assert (points.reshape(-1, 2) <= crop[2:] - 0.9 * MARGIN * 140).all()


def test_unsure_and_broken_landmarks_do_not_widen_the_square():
    points, conf = person([(200, 150)] * 4)
    expected = square_crop(points, conf)
    points[1, 2], conf[1, 2] = 5000, 0.3  # feet guessed below the picture
    points[2, 3] = np.nan
    points[3] = 0  # a frame in which the person was lost
    conf[3] = 0
    assert square_crop(points, conf).tolist() == expected.tolist()


def test_unsure_landmarks_are_better_than_none():
    points, conf = person([(200, 150)])
    assert square_crop(points, conf * 0.2).tolist() == square_crop(points, conf).tolist()


@pytest.mark.parametrize("broken", ["conf 0", "nan", "no frame"])
def test_a_square_needs_a_landmark(broken):
    points, conf = person([(200, 150)] * 2)
    if broken == "conf 0":
        conf[:] = 0
    elif broken == "nan":
        points[:] = np.nan
    else:
        points, conf = points[:0], conf[:0]
    with pytest.raises(UserError, match=r"no landmark with confidence above 0 in [02] frames"):
        square_crop(points, conf)


def test_a_single_point_at_the_border_still_has_a_square():
    crop = square_crop(np.zeros((1, 1, 2), np.float32), np.ones((1, 1), np.float32))
    assert crop.tolist() == [-8.5, -8.5, 7.5, 7.5]


def check_cuts(cuts: list[slice], points: np.ndarray) -> None:
    assert cuts[0].start == 0
    assert cuts[-1].stop == len(points)
    assert all(a.stop == b.start for a, b in pairwise(cuts))
    for cut in cuts:
        assert cut.stop - cut.start <= MAX_CLIP_FRAMES
        own = np.median([side(frame) for frame in points[cut]])
        assert side(points[cut]) <= MAX_TRAVEL * own * (1 + 1e-6)


def test_somebody_who_stays_is_cut_only_by_length():
    points, conf = person([(200, 150)] * 300)
    cuts = split_by_travel(points, conf)
    check_cuts(cuts, points)
    assert [c.stop - c.start for c in cuts] == [100, 100, 100]
    assert split_by_travel(points[:128], conf[:128]) == [slice(0, 128)]


def test_somebody_who_walks_is_cut_by_travel():
    points, conf = person([(200 + 2 * t, 150) for t in range(100)])
    cuts = split_by_travel(points, conf)
    check_cuts(cuts, points)
    assert [c.stop - c.start for c in cuts] == [25, 25, 25, 25]


def test_somebody_who_runs_gets_clips_just_long_enough():
    """60 px in the frames that MAX_TRAVEL allows would be 7 frames; up to FASTEST they become 16."""
    points, conf = person([(200 + 10 * t, 150) for t in range(64)])
    assert [c.stop - c.start for c in split_by_travel(points, conf)] == [16, 16, 16, 16]
    points, conf = person([(200 + 15 * t, 150) for t in range(64)])  # 16 frames would be 3.25 times the size
    assert all(side(points[cut]) <= FASTEST * 100 for cut in split_by_travel(points, conf))


def test_a_short_rest_takes_frames_from_the_clip_before():
    """128 + 2 would lose two frames; 65 + 65 loses none."""
    points, conf = person([(200, 150)] * 130)
    assert [c.stop - c.start for c in split_by_travel(points, conf)] == [65, 65]


def test_where_short_clips_cannot_be_avoided_few_frames_are_lost():
    points, conf = person([(200, 150)] * 50 + [(2000, 150)] * 4 + [(200, 150)] * 50)
    assert split_by_travel(points, conf) == [slice(0, 50), slice(50, 54), slice(54, 104)]
    points, conf = person([(1000 * t, 150) for t in range(5)])
    assert len(split_by_travel(points, conf)) == 5
    assert MIN_CLIP_FRAMES == 16


def test_frames_without_anybody_do_not_cut():
    points, conf = person([(200, 150)] * 60)
    points[20:30] = 0
    conf[20:30] = 0
    points[30] = np.nan
    assert split_by_travel(points, conf) == [slice(0, 60)]
    assert split_by_travel(points, conf * 0) == [slice(0, 60)]
    assert split_by_travel(points[:1], conf[:1]) == [slice(0, 1)]
    assert split_by_travel(points[:0], conf[:0]) == []


def test_somebody_who_comes_closer_is_measured_by_the_clip_s_own_median():
    frames = [person([(500, 500)], 50 * 1.02**t) for t in range(100)]
    points, conf = (np.concatenate(column) for column in zip(*frames, strict=True))
    cuts = split_by_travel(points, conf)
    check_cuts(cuts, points)
    assert 1 < len(cuts) <= 4


@pytest.fixture
def photo() -> np.ndarray:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)
    return np.ascontiguousarray(cv2.resize(noise, (160, 120), interpolation=cv2.INTER_CUBIC))


def test_convention_a_crop_of_whole_pixels_is_a_slice(photo):
    crop = np.array([9.5, 19.5, 73.5, 83.5])
    assert (crop_image(photo, crop, 64) == photo[20:84, 10:74]).all()
    half = photo[20:84, 10:74].reshape(32, 2, 32, 2, 3).astype(float).mean((1, 3))
    assert np.abs(crop_image(photo, crop, 32) - half).max() <= 0.5, "each pixel is the mean of those it covers"


def test_outside_the_picture_is_black(photo):
    crop = np.array([-20.5, 59.5, 99.5, 179.5])
    cut = crop_image(photo, crop, 120)
    assert (cut[:60, 20:] == photo[60:, :100]).all()
    assert not cut[60:].any()
    assert not cut[:, :20].any()
    assert not crop_image(photo, np.array([-100.5, -100.5, -50.5, -50.5]), 16).any()
    assert not crop_image(photo, np.array([199.5, 0.5, 249.5, 50.5]), 16).any()


@pytest.mark.parametrize(
    "crop", [(0, 0, 10, 10), (-0.5, -0.5, 9.5, 8.5), (9.5, 9.5, -0.5, -0.5), (-0.5, -0.5, np.nan, 9.5), (0.5,) * 4]
)
def test_a_crop_is_a_square_of_whole_pixels(photo, crop):
    with pytest.raises(UserError, match="allowed: a square whose edges are whole pixels"):
        crop_image(photo, np.array(crop, np.float64), 8)


def test_convention_projection_with_the_crop_s_intrinsics_is_the_cropped_pixel(photo):
    """Through the camera and cut, or through the cut camera: the same pixel; and the picture agrees."""
    intrinsics = np.array([150.0, 140.0, 79.5, 59.5])
    points_m = np.random.default_rng(1).normal(size=(50, 3)) * 0.2 + (0, 0, 2)
    crop = np.array([30.5, -9.5, 110.5, 70.5])
    whole, cut = (
        project(torch.tensor(points_m), Pinhole.of(torch.tensor(i))).numpy()
        for i in (intrinsics, crop_intrinsics(intrinsics, crop, (48, 48)))
    )
    assert np.allclose(crop_points(whole, crop, 48), cut)
    # A dot at (75.5, 41.5), the corner of four pixels: its centre of mass is where the crop's coordinates put it.
    frame = np.zeros((120, 160, 3), np.uint8)
    frame[41:43, 75:77] = 255
    for side_px in (160, 80, 40):
        y, x = np.mgrid[:side_px, :side_px]
        grey = crop_image(frame, crop, side_px)[..., 0].astype(float)
        centre = np.array([(grey * x).sum(), (grey * y).sum()]) / grey.sum()
        assert np.allclose(centre, crop_points(np.array([75.5, 41.5]), crop, side_px), atol=0.02)


def test_convention_rescaled_pictures_keep_their_corners():
    assert rescale_points(np.array([[-0.5, -0.5], [639.5, 359.5]]), np.array([3.0, 3.0])).tolist() == [
        [-0.5, -0.5],
        [1919.5, 1079.5],
    ]


def test_convention_mask_and_picture_of_one_crop_agree():
    """A disc seen by the net in a turned region lands where the picture's disc is."""
    centre, radius = np.array([80.0, 60.0]), 20.0
    angle, scale = 0.6, 0.4
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    mask_to_frame = np.column_stack((turn, centre - turn @ (140, 100)))
    y, x = np.mgrid[:256, :256]
    soft = (255 / (1 + np.exp(np.hypot(x - 140, y - 100) - radius / scale))).astype(np.uint8)
    crop = np.array([29.5, 9.5, 129.5, 109.5])
    for side_px in (200, 64):
        mask = warp_mask(soft, mask_to_frame.astype(np.float32), crop, side_px)
        y, x = np.mgrid[:side_px, :side_px]
        middle = crop_points(centre, crop, side_px)
        expected = np.hypot(x - middle[0], y - middle[1]) < radius * side_px / 100
        assert (mask ^ expected).sum() < 0.03 * expected.sum()
        assert mask.any()


def test_a_mask_is_its_largest_part():
    mask = np.zeros((20, 20), bool)
    mask[1:4, 1:4] = mask[10:15, 10:15] = True
    mask[15, 15] = True  # touches by its corner
    kept = largest_component(mask)
    assert kept.sum() == 26
    assert kept[15, 15]
    assert not kept[:5].any()
    assert not largest_component(np.zeros((5, 5), bool)).any()
    assert largest_component(np.ones((5, 5), bool)).all()
    empty = warp_mask(np.zeros((256, 256), np.uint8), np.eye(2, 3), np.array([-0.5, -0.5, 9.5, 9.5]), 10)
    assert not empty.any()
