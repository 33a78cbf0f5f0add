"""The view from aside: it shows the people on the floor, and a wrong depth."""

import numpy as np

from aign.body.assets import load_body
from aign.inference.free_view import PAPER_RGB, beside, free_views

BODY = load_body()
STANDING = BODY.v_template_m.numpy() - np.float32((0, BODY.v_template_m[:, 1].min(), 0))


def painted(picture):
    """Where somebody is: blue or orange, not grey."""
    return np.abs(picture.astype(int).max(-1) - picture.astype(int).min(-1)) > 25


def test_somebody_stands_in_the_middle_and_feet_are_below_the_head():
    (picture,) = free_views([(STANDING,)], BODY, 200)
    rows, columns = np.nonzero(painted(picture))
    assert 60 < columns.mean() < 140
    assert 100 < np.ptp(rows) < 190
    assert (picture != PAPER_RGB).any(-1).sum() > painted(picture).sum(), "the floor has lines"


def test_depth_shows_from_aside():
    deep = STANDING - np.float32((0, 0, 1.2))
    one, both = (next(free_views([people], BODY, 200)) for people in ((STANDING,), (STANDING, deep)))
    assert np.ptp(np.nonzero(painted(both))[1]) > np.ptp(np.nonzero(painted(one))[1])


def test_nobody_is_an_empty_floor():
    nobody = np.full_like(STANDING, np.nan)
    empty, somebody = free_views([(nobody,), (STANDING,)], BODY, 64)
    assert not painted(empty).any()
    assert painted(somebody).any()
    (pair,) = beside([empty], [somebody])
    assert pair.shape == (64, 128, 3)
    (pair,) = beside([np.zeros((128, 90, 3), np.uint8)], [somebody])
    assert pair.shape == (64, 45 + 64, 3)
