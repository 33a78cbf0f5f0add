"""Two-sided distance between the vertices of a body and a mask (papers.md 2.5, Eq. 5), in pixels.

Convention: pixel (0, 0) is the centre of the top-left pixel; +x right, +y down. A pixel of the mask is its centre.
"""

from functools import lru_cache

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor
from torch.nn.functional import grid_sample

from aign.losses.nearest import nearest
from aign.losses.points import SMOOTH, weighted_mean

CAP = 0.25
"""Largest distance that a vertex or a pixel can count for, as part of the picture's longer side (see `two_sided`)."""
HALF_PIXEL = 0.5
"""From a pixel's centre to its sides."""
HALF_DIAGONAL = 0.5**0.5
"""From a pixel's centre to its corners."""


def distance_maps(mask: Bool[np.ndarray, "n h w"]) -> Float32[np.ndarray, "n h w"]:
    """Distance of every pixel to the nearest pixel of the mask, 0 inside; all 0 where a mask is empty.

    Exact Euclidean distances, 0.2 ms for 128 x 128 px (docs/decisions/0009).
    """
    maps = np.zeros(mask.shape, np.float32)
    for one, distance in zip(mask, maps, strict=True):
        if one.any():
            outside = (~one).astype(np.uint8)
            distance[:] = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # The last bit depends on how OpenCV shares the rows among its threads; a squared distance is a whole number.
    return np.sqrt(np.rint(np.square(maps)))


def map_distances(points_px: Float[Tensor, "n v 2"], distance_px: Float[Tensor, "n h w"]) -> Float[Tensor, "n v"]:
    """Distance of points to the mask, read bilinearly from its map; differentiable in the points.

    Beyond the outermost pixel centres it is that of the nearest place on them plus the way there, so that a point
    outside of the picture is pulled back. Points that are not finite have 0.
    """
    height, width = distance_px.shape[1:]
    # x and y apart: on a last axis of two every operation takes several times as long.
    x, y = points_px.nan_to_num(0.0, 0.0, 0.0).unbind(-1)
    beyond_x, beyond_y = x - x.clamp(0, width - 1), y - y.clamp(0, height - 1)
    beyond = (beyond_x.square() + beyond_y.square() + SMOOTH**2).sqrt() - SMOOTH
    grid = torch.stack(((x + 0.5) * (2 / width) - 1, (y + 0.5) * (2 / height) - 1), -1)
    read = grid_sample(distance_px.to(points_px)[:, None], grid[:, None], padding_mode="border", align_corners=False)
    return read[:, 0, 0] + beyond


def vertices_to_mask(
    points_px: Float[Tensor, "n v 2"], weight: Float[Tensor, "n v"], distance_px: Float[Tensor, "n h w"]
) -> Float[Tensor, " n"]:
    """Mean distance of the vertices to the mask: what of the body lies outside of it.

    Args:
        points_px: projected vertices.
        weight: of each vertex, e.g. 1 where it is visible.
        distance_px: of `distance_maps`.
    """
    return weighted_mean(map_distances(points_px, distance_px), weight)


def silhouette_pixels(
    mask: Bool[Tensor, "n h w"], count: int
) -> tuple[Float32[Tensor, "n count 2"], Float32[Tensor, "n count"]]:
    """`count` pixels of each mask, spread evenly and always the same ones.

    Along a Z-order curve every (pixels / count)-th one is taken, so that each stands for a patch of equal area.

    Returns:
        Their centres, and weight 1; a mask with fewer pixels gives each once and weight 0 to the rest.
    """
    order = _z_order(mask.shape[1], mask.shape[2], mask.device)
    rank = mask.flatten(1)[:, order].cumsum(1, dtype=torch.int32)
    total = rank[:, -1:]
    turn = torch.arange(count, device=mask.device)
    wanted = torch.where(total > count, (2 * turn + 1) * total // (2 * count), turn)
    # Where there is no such pixel the search ends past the last one.
    place = torch.searchsorted(rank, (wanted + 1).int()).clamp_max(rank.shape[1] - 1)
    pixel = order[place]
    chosen = torch.stack((pixel % mask.shape[2], pixel // mask.shape[2]), -1).float()
    return chosen, (turn < total).float()


@lru_cache(maxsize=8)
def _z_order(height: int, width: int, device: torch.device) -> Int64[Tensor, " hw"]:
    """Flat indices of a picture's pixels along a Z-order curve."""
    y, x = np.divmod(np.arange(height * width, dtype=np.int64), width)
    key = np.zeros_like(x)
    for bit in range(max(height, width).bit_length()):
        key |= ((x >> bit & 1) << 2 * bit) | ((y >> bit & 1) << (2 * bit + 1))
    return torch.from_numpy(np.argsort(key)).to(device)


def nearest_distances(
    pixels_px: Float[Tensor, "n p 2"], points_px: Float[Tensor, "n v 2"], allowed: Bool[Tensor, "n v"]
) -> Float[Tensor, "n p"]:
    """Distance of each pixel to the nearest allowed point; the gradient goes to that point. 0 where none is allowed."""
    chosen = nearest(pixels_px, points_px, allowed)
    found = points_px.gather(1, chosen.unsqueeze(-1).expand(-1, -1, 2))
    gap = torch.where(allowed.any(1)[:, None, None], found - pixels_px, torch.zeros_like(found))
    return gap.square().sum(-1).add(SMOOTH**2).sqrt() - SMOOTH


def mask_to_vertices(
    pixels_px: Float[Tensor, "n p 2"],
    pixel_weight: Float[Tensor, "n p"],
    points_px: Float[Tensor, "n v 2"],
    weight: Float[Tensor, "n v"],
) -> Float[Tensor, " n"]:
    """Mean distance of pixels of the mask to their nearest vertex: what of the mask the body leaves empty.

    Args:
        pixels_px: of `silhouette_pixels`.
        pixel_weight: likewise.
        points_px: projected vertices.
        weight: a vertex of weight 0 is not there; otherwise its size does not matter.
    """
    return weighted_mean(nearest_distances(pixels_px, points_px, weight > 0), pixel_weight)


def two_sided(
    points_px: Float[Tensor, "n v 2"],
    weight: Float[Tensor, "n v"],
    mask: Bool[Tensor, "n h w"],
    distance_px: Float[Tensor, "n h w"],
    count: int,
) -> Float[Tensor, " n"]:
    """Mean distance from vertices to mask plus that from mask to vertices, each distance bounded; pixels.

    Eq. 5 sums squares; then the few pixels of somebody else's arm in the mask outweigh all the body's own. Here a
    distance d counts as c d / (c + d) with c = CAP of the picture's longer side: d while it is small, less than c, and
    still with a gradient (a quarter at d = c), so that a body which starts far away is pulled all the same.

    A pixel is a square: d counts from HALF_PIXEL for a vertex and HALF_DIAGONAL for a pixel. Without that the thousand
    vertices at a body's rim, right but a part of a pixel off the outermost centres, all pull it to be thinner: from the
    true pose, descent on this term alone goes 0.7 px wrong instead of 1.0 (128 px, 4 poses, 60 steps).

    0 exactly where no vertex lies more than half a pixel beside the mask's pixel centres and every pixel taken has a
    vertex; an empty mask and a body without vertices of any weight give 0.

    Args:
        points_px: projected vertices.
        weight: of each vertex, e.g. 1 where it is visible.
        mask: the person.
        distance_px: its map, of `distance_maps`.
        count: how many pixels of the mask are taken.
    """
    cap = CAP * max(mask.shape[1:])
    pixels_px, pixel_weight = silhouette_pixels(mask, count)
    there = map_distances(points_px, distance_px)
    # An empty mask has an all-zero map, but a vertex outside of the picture would still have a way to it.
    there = there * pixel_weight[:, :1].to(there)
    back = nearest_distances(pixels_px.to(points_px), points_px, weight > 0)
    # c d / (c + d), but finite for what is infinitely far.
    there, back = (
        cap - cap * cap / (cap + (d - inner).relu()) for d, inner in ((there, HALF_PIXEL), (back, HALF_DIAGONAL))
    )
    return weighted_mean(there, weight) + weighted_mean(back, pixel_weight.to(points_px))
