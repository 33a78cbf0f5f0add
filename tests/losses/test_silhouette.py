"""Eq. 5 against slow references, at its ugly points."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from aign.losses.silhouette import (
    CAP,
    distance_maps,
    map_distances,
    mask_to_vertices,
    nearest_distances,
    silhouette_pixels,
    two_sided,
    vertices_to_mask,
)

D = torch.float64
H, W = 14, 18


def masks() -> np.ndarray:
    """A rectangle, one pixel in a corner, everything, nothing."""
    made = np.zeros((4, H, W), bool)
    made[0, 4:9, 6:11] = made[1, 0, 0] = made[2] = True
    return made


def maps() -> torch.Tensor:
    return torch.from_numpy(distance_maps(masks()))


def interpolated(distance: np.ndarray, x: float, y: float) -> float:
    """Bilinear reading plus the way to the outermost pixel centres, one point."""
    cx, cy = min(max(x, 0.0), W - 1.0), min(max(y, 0.0), H - 1.0)
    x0, y0 = min(int(cx), W - 2), min(int(cy), H - 2)
    fx, fy = cx - x0, cy - y0
    rows = [distance[y0 + k, x0] * (1 - fx) + distance[y0 + k, x0 + 1] * fx for k in (0, 1)]
    return rows[0] * (1 - fy) + rows[1] * fy + math.hypot(x - cx, y - cy)


def test_distance_maps_are_those_of_trying_every_pixel():
    pixels = np.stack(np.meshgrid(np.arange(W), np.arange(H)), -1)
    for mask, distance in zip(masks()[:3], distance_maps(masks()), strict=False):
        away = np.linalg.norm(pixels[:, :, None] - pixels[mask][None, None], axis=-1).min(-1)
        np.testing.assert_allclose(distance, away, atol=1e-5)
    assert not distance_maps(masks())[3].any()


def test_convention_pixel_zero_is_the_centre_of_the_top_left_pixel():
    distance = torch.arange(H * W, dtype=D).view(1, H, W)
    read = map_distances(torch.tensor([[[0.0, 0.0], [3.0, 0.0], [0.0, 2.0], [W - 1, H - 1]]], dtype=D), distance)
    torch.testing.assert_close(read, torch.tensor([[0.0, 3.0, 2 * W, H * W - 1]], dtype=D))


def test_reading_equals_the_reference_also_beyond_the_picture():
    points = torch.rand(4, 60, 2, dtype=D) * torch.tensor([2 * W, 2 * H]) - torch.tensor([W / 2, H / 2])
    read = map_distances(points, maps())
    for n in range(4):
        expected = [interpolated(maps()[n].numpy(), *point) for point in points[n].tolist()]
        np.testing.assert_allclose(read[n], expected, atol=2e-6)


def test_vertices_to_mask_by_hand_and_in_any_order():
    points = torch.tensor([[[8.0, 6.0], [13.0, 6.0], [8.0, -4.0]]])  # on it, 3 px beside it, 4 + 4 px above it
    weight = torch.tensor([[5.0, 1.0, 2.0]])
    got = vertices_to_mask(points, weight, maps()[:1])
    torch.testing.assert_close(got, torch.tensor([(3 + 2 * 8) / 8]))
    order = [2, 0, 1]
    torch.testing.assert_close(vertices_to_mask(points[:, order], weight[:, order], maps()[:1]), got)


def test_gradcheck_of_both_sides():
    points = torch.rand(4, 30, 2, dtype=D) * torch.tensor([W + 8.0, H + 8.0]) - 4
    weight = torch.rand(4, 30, dtype=D).round() + torch.eye(4, 30, dtype=D)
    mask = torch.from_numpy(masks())
    pixels, pixel_weight = silhouette_pixels(mask, 40)
    pixels = pixels.to(D) + 0.01  # off the lines where two vertices are equally near
    points.requires_grad_()
    assert gradcheck(lambda p: vertices_to_mask(p, weight, maps()), (points,), eps=1e-7)
    assert gradcheck(lambda p: mask_to_vertices(pixels, pixel_weight.to(D), p, weight), (points,), eps=1e-7)
    assert gradcheck(lambda p: two_sided(p, weight, mask, maps(), 40), (points,), eps=1e-7)


@pytest.mark.parametrize(
    "place",
    [(5.0, 6.0), (6.0, 6.0), (10.0, 8.0), (0.0, 0.0), (W - 1.0, 3.0), (W - 0.5, H - 0.5), (4.0, H - 1.0), (-0.5, 5.0)],
)
def test_on_kinks_the_gradient_lies_between_the_slopes_on_either_side(place):
    points = torch.tensor([[place]], dtype=D, requires_grad=True)
    weight, mask = torch.ones(1, 1, dtype=D), torch.from_numpy(masks()[:1])

    def loss(p):
        return two_sided(p, weight, mask, maps()[:1], 30).sum()

    (grad,) = torch.autograd.grad(loss(points), points)
    assert grad.isfinite().all()
    for axis in range(2):
        step = torch.zeros(2, dtype=D)
        step[axis] = 1e-4
        with torch.no_grad():
            slopes = [(loss(points + step) - loss(points)) / 1e-4, (loss(points) - loss(points - step)) / 1e-4]
        # On the outermost pixel centres the map's own slope counts as 0: too weak there, never the wrong way.
        on_rim = {0: place[0] in (0.0, W - 1.0), 1: place[1] in (0.0, H - 1.0)}[axis]
        slopes += [torch.zeros(())] * on_rim
        assert min(slopes) - 5e-3 <= grad[0, 0, axis] <= max(slopes) + 5e-3


def test_points_on_pixels_have_gradient_zero_and_not_nan():
    pixels = torch.tensor([[[2.0, 3.0], [2.0, 3.0]]])
    points = pixels.clone().requires_grad_()
    loss = mask_to_vertices(pixels, torch.ones(1, 2), points, torch.ones(1, 2))
    loss.sum().backward()
    assert loss.item() == 0
    assert torch.equal(points.grad, torch.zeros_like(points))


def test_nothing_to_compare_is_zero_with_a_gradient_of_zero():
    points = (20 * torch.rand(2, 9, 2) - 4).requires_grad_()
    some, none = torch.ones(2, 9), torch.zeros(2, 9)
    empty = torch.zeros(2, H, W, dtype=torch.bool)
    full = torch.from_numpy(masks()[:2])
    losses = [
        two_sided(points, some, empty, torch.zeros(2, H, W), 20),
        two_sided(points, none, full, maps()[:2], 20),
        vertices_to_mask(points, none, maps()[:2]),
        mask_to_vertices(torch.rand(2, 5, 2), torch.zeros(2, 5), points, some),
        mask_to_vertices(torch.rand(2, 5, 2), torch.ones(2, 5), points, none),
    ]
    for loss in losses:
        assert torch.equal(loss, torch.zeros(2))
        (grad,) = torch.autograd.grad(loss.sum(), points)
        assert torch.equal(grad, torch.zeros_like(points))


@pytest.mark.parametrize("bad", [1e25, torch.inf, torch.nan])
def test_a_vertex_that_has_run_away_gives_no_nan(bad):
    points = torch.full((1, 3, 2), 5.0)
    points[0, 1] = bad
    points.requires_grad_()
    loss = two_sided(points, torch.ones(1, 3), torch.from_numpy(masks()[:1]), maps()[:1], 20)
    (grad,) = torch.autograd.grad(loss.sum(), points)
    assert loss.isfinite().all()
    assert grad.isfinite().all()


def test_pixels_are_the_masks_and_each_stands_for_its_share():
    rng = np.random.default_rng(0)
    mask = np.zeros((2, 40, 56), bool)
    mask[0, 5:35, 7:49] = True
    mask[1] = rng.random((40, 56)) < 0.5
    pixels, weight = silhouette_pixels(torch.from_numpy(mask), 64)
    assert weight.all()
    for one, chosen in zip(mask, pixels.long().numpy(), strict=True):
        assert one[chosen[:, 1], chosen[:, 0]].all()
        assert len(np.unique(chosen, axis=0)) == 64
    # 64 of 30 x 42 pixels: an even lattice would leave every pixel within 3.2 px of a chosen one.
    everywhere = torch.from_numpy(np.argwhere(mask[0])[:, ::-1].copy()).float()
    assert torch.cdist(everywhere, pixels[0]).min(1).values.max() < 6
    assert torch.equal(silhouette_pixels(torch.from_numpy(mask[:1]), 64)[0], pixels[:1])


def test_small_masks_give_each_pixel_once():
    pixels, weight = silhouette_pixels(torch.from_numpy(masks()), 25)
    assert weight.sum(1).tolist() == [25, 1, 25, 0]
    assert {tuple(p) for p in pixels[0].tolist()} == {(x, y) for x in range(6, 11) for y in range(4, 9)}
    assert pixels[1, 0].tolist() == [0, 0]
    assert ((pixels >= 0) & (pixels < torch.tensor([W, H]))).all()


def test_mask_to_vertices_equals_the_reference_and_ignores_vertices_of_weight_zero():
    pixels, points = 20 * torch.rand(2, 15, 2, dtype=D), 20 * torch.rand(2, 40, 2, dtype=D)
    pixel_weight = torch.rand(2, 15, dtype=D)
    weight = torch.rand(2, 40, dtype=D) * (torch.rand(2, 40) < 0.5)
    got = mask_to_vertices(pixels, pixel_weight, points, weight)
    for n in range(2):
        near = [min(math.dist(p, q) for q in points[n][weight[n] > 0].tolist()) for p in pixels[n].tolist()]
        expected = np.average(near, weights=pixel_weight[n])
        np.testing.assert_allclose(got[n], expected, atol=2e-6)


def test_two_sided_is_zero_exactly_where_mask_and_vertices_cover_each_other():
    mask = torch.from_numpy(masks()[:1])
    covering = torch.tensor([[[x, y] for y in range(4, 9) for x in range(6, 11)]], dtype=D)

    def loss(points):
        return two_sided(points, torch.ones(points.shape[:2], dtype=D), mask, maps()[:1], 25).item()

    assert loss(covering) == 0
    assert loss(covering[:, torch.randperm(25)]) == 0
    assert loss(covering + torch.tensor([0.5, 0.0])) == 0  # to the sides of the pixels' squares
    assert loss(covering + torch.tensor([0.0, -0.5])) == 0
    assert loss(covering + torch.tensor([0.51, 0.0])) > 0
    assert loss(covering[:, 1:]) > 0  # a pixel of the mask without a vertex
    assert loss(torch.cat((covering, torch.tensor([[[12.0, 6.0]]])), 1)) > 0  # a vertex beside the mask
    assert loss(covering + 1) > 0


def test_two_sided_is_the_sum_of_both_capped_distances():
    points, weight = 20 * torch.rand(3, 40, 2, dtype=D) - 2, torch.rand(3, 40, dtype=D)
    mask, cap = torch.from_numpy(masks()[:3]), CAP * W
    pixels, pixel_weight = silhouette_pixels(mask, 30)
    there = map_distances(points, maps()[:3])
    back = nearest_distances(pixels.to(D), points, weight > 0)
    there, back = (there - 0.5).clamp_min(0), (back - math.sqrt(0.5)).clamp_min(0)
    expected = sum(
        (cap * d / (cap + d) * w).sum(1) / w.sum(1) for d, w in ((there, weight), (back, pixel_weight.to(D)))
    )
    torch.testing.assert_close(two_sided(points, weight, mask, maps()[:3], 30), expected)
    assert (two_sided(points + 1e6, weight, mask, maps()[:3], 30) < 2 * cap).all()


def test_a_picture_four_times_the_size_has_four_times_the_loss():
    mask = np.zeros((1, 60, 60), bool)
    mask[0, 15:36, 18:42] = True
    large = mask.repeat(4, 1).repeat(4, 2)
    points = torch.rand(1, 60, 2, dtype=D) * 42 + 3
    weight = torch.ones(1, 60, dtype=D)
    small = two_sided(points, weight, torch.from_numpy(mask), torch.from_numpy(distance_maps(mask)), 504)
    maps_large = torch.from_numpy(distance_maps(large))
    got = two_sided(4 * points + 1.5, weight, torch.from_numpy(large), maps_large, 504)
    # Not exactly: what is forgiven is parts of a pixel.
    assert abs(got.item() / (4 * small.item()) - 1) < 0.15


def test_distance_maps_do_not_depend_on_threads():
    mask = np.zeros((1, 64, 64), bool)
    mask[0, 16:32, 16:32] = True
    first = distance_maps(mask)
    assert all(np.array_equal(first, distance_maps(mask)) for _ in range(100))
