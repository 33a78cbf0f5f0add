"""P of pictures against OpenCV's area filter, and the projections that make it exact."""

import cv2
import numpy as np
import pytest
import torch

from aign.render.image import area_downsample, area_resize, back_projected, composited, masked


def pictures(side, n=3):
    return torch.rand(n, 3, side, side, dtype=torch.float64)


@pytest.mark.parametrize(("side", "low"), [(64, 16), (128, 32), (32, 8), (178, 64), (100, 33), (64, 64)])
def test_shrinking_is_opencvs_area_filter(side, low):
    given = pictures(side).float()
    want = np.stack(
        [cv2.resize(p, (low, low), interpolation=cv2.INTER_AREA) for p in given.permute(0, 2, 3, 1).numpy()]
    )
    got = area_resize(given, low)
    assert got.permute(0, 2, 3, 1).numpy() == pytest.approx(want, abs=2e-6)
    if side == 4 * low:
        assert torch.equal(got, area_downsample(given))


def test_convention_blocks_begin_at_the_first_pixel():
    given = torch.zeros(1, 1, 8, 8)
    given[0, 0, 3, 4] = 16
    assert area_downsample(given)[0, 0].tolist() == [[0, 1], [0, 0]]


def test_convention_edges_meet_edges():
    ramp = torch.arange(10.0).expand(1, 1, 10, 10)
    assert area_resize(ramp, 4)[0, 0, 0].tolist() == pytest.approx([(0 + 1 + 2 * 0.5) / 2.5, 3.3, 5.7, 8.2], abs=0.2)
    assert area_resize(ramp, 4).mean() == pytest.approx(4.5)


def test_a_back_projected_picture_renders_to_the_input_and_is_the_nearest_that_does():
    given, low = pictures(16), pictures(4)
    got = back_projected(given, low)
    assert area_downsample(got) == pytest.approx(low, abs=1e-12)
    unseen = pictures(16)
    other = got + unseen - torch.nn.functional.interpolate(area_downsample(unseen), scale_factor=4.0)
    assert area_downsample(other) == pytest.approx(low, abs=1e-12), "another picture of the same input"
    assert ((other - given) ** 2).sum() > ((got - given) ** 2).sum()


def test_back_projection_has_the_projections_gradient():
    given, low = pictures(8, 1).requires_grad_(), pictures(2, 1).requires_grad_()
    assert torch.autograd.gradcheck(back_projected, (given, low))


def test_a_composite_is_masked_to_what_was_given():
    keep = (torch.rand(3, 1, 16, 16) < 0.7).double()
    given = masked(pictures(16), keep)
    whole = composited(given, pictures(16), keep)
    assert torch.equal(masked(whole, keep), given)
    assert (masked(given, keep) == given).all()
