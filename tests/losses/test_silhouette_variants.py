"""The published forms, number by number, and what is wrong with them."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from aign.losses.silhouette import distance_maps
from aign.losses.silhouette_variants import as_released, product_form

D = torch.float64


def square(side=64):
    mask = np.zeros((1, side, side), bool)
    mask[0, side // 4 : side // 2, side // 4 : side // 2] = True
    return torch.from_numpy(mask)


def reference(points, mask, model, wanted):
    """Mean over pixels of wanted(S^M, C^M, S^I, C^I), pixel by pixel."""
    to_mask = distance_maps(mask.numpy())[0]
    total = 0.0
    for y in range(mask.shape[1]):
        for x in range(mask.shape[2]):
            occupied, empty = model(min(math.dist((x, y), p) for p in points))
            total += wanted(occupied, empty, float(mask[0, y, x]), to_mask[y, x])
    return total / mask[0].numel()


def test_product_form_equals_its_definition():
    mask, points = square(24), 24 * torch.rand(1, 40, 2, dtype=D)
    expected = reference(
        points[0].tolist(),
        mask,
        lambda d: (min(0.5, d) + 0.5 * (d < 0.5), max(0.5, d)),
        lambda sm, cm, si, ci: sm * ci + si * cm,
    )
    torch.testing.assert_close(product_form(points, mask).item(), expected, atol=1e-5, rtol=0)


def test_as_released_equals_its_definition_on_a_mask_of_its_own_size():
    mask, points = square(64), 64 * torch.rand(1, 60, 2, dtype=D)
    expected = reference(
        points[0].tolist(),
        mask,
        lambda d: (d + 0.5 if d < 0.5 else 0.0, d if d > 0.51 else 0.0),
        lambda sm, cm, si, ci: (0.5 * sm * ci + 0.5 * si * cm) ** 2,
    )
    torch.testing.assert_close(as_released(points, mask).item(), expected, atol=1e-5, rtol=0)


def test_as_released_halves_a_picture_of_128_and_fattens_its_mask():
    mask = torch.zeros(1, 128, 128, dtype=torch.bool)
    mask[0, 40, 61] = True
    small = torch.zeros(1, 64, 64, dtype=torch.bool)
    small[0, 20, 30] = True
    points = 64 * torch.rand(1, 50, 2, dtype=D)
    torch.testing.assert_close(as_released(2 * points + 0.5, mask), as_released(points, small))


@pytest.mark.parametrize("form", [product_form, as_released])
def test_a_vertex_outside_of_the_mask_is_drawn_to_its_pixel_and_not_to_the_mask(form):
    mask = square(64)  # 16 to 31
    inside = torch.stack(torch.meshgrid(torch.arange(16.0, 32), torch.arange(16.0, 32), indexing="xy"), -1).view(
        1, -1, 2
    )
    outside = torch.tensor([[[50.2, 24.0]]], requires_grad=True)
    loss = form(torch.cat((inside, outside), 1), mask)
    (grad,) = torch.autograd.grad(loss.sum(), outside)
    # It lies right of pixel 50 and of the mask; descending would move it left for either. Left of the pixel it tells.
    assert grad[0, 0, 0] > 0
    outside = torch.tensor([[[49.8, 24.0]]], requires_grad=True)
    (grad,) = torch.autograd.grad(form(torch.cat((inside, outside), 1), mask).sum(), outside)
    assert grad[0, 0, 0] < 0


@pytest.mark.parametrize("form", [product_form, as_released])
def test_gradients_and_empty_masks(form):
    points = torch.tensor([[[21.3, 40.2], [50.9, 18.7]]], dtype=D, requires_grad=True)
    assert gradcheck(lambda p: form(p, square(64)), (points,), eps=1e-7)
    on_pixels = torch.full((1, 5, 2), 20.0, requires_grad=True)
    for mask in (square(64), torch.zeros(1, 64, 64, dtype=torch.bool)):
        loss = form(on_pixels, mask)
        (grad,) = torch.autograd.grad(loss.sum(), on_pixels)
        assert loss.isfinite().all()
        assert grad.isfinite().all()
    assert loss.item() == 0
