"""Which of many points in the plane is nearest: exact; a grid on one CPU core, all distances on a GPU.

Not differentiable: the index is constant almost everywhere, so a loss gathers the point it names and measures the
distance again.
"""

from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from numba import njit
from torch import Tensor

CELLS = 64
"""Cells along each side of the grid."""
ROUNDING = 1e-3
"""Part of a cell by which the search goes on too long, so that no point is lost to float32."""
DISTANCES = 2**25
"""Distances that `nearest_plain` holds at a time."""


def nearest(
    queries: Float[Tensor, "n p 2"], points: Float[Tensor, "n v 2"], allowed: Bool[Tensor, "n v"]
) -> Int64[Tensor, "n p"]:
    """Index of the allowed point nearest to each query; of equally near ones any.

    Distances are compared in float32. Points that are not finite are not allowed; without any allowed point it is 0.
    """
    if queries.device.type != "cpu":
        return nearest_plain(queries, points, allowed)
    found = torch.zeros(queries.shape[:2], dtype=torch.int64)
    given = (x.detach().float().contiguous().numpy() for x in (queries, points))
    _search(*given, allowed.detach().contiguous().numpy(), found.numpy())
    return found


def nearest_plain(
    queries: Float[Tensor, "n p 2"], points: Float[Tensor, "n v 2"], allowed: Bool[Tensor, "n v"]
) -> Int64[Tensor, "n p"]:
    """`nearest` by trying every point, on any device: the reference, and what a GPU does."""
    queries, points = queries.detach().float(), points.detach().float()
    usable = (allowed & points.isfinite().all(-1)).unsqueeze(1)
    points = torch.where(usable.mT, points, torch.zeros_like(points))
    found = []
    for some in torch.split(queries, max(1, DISTANCES // max(1, usable.numel())), dim=1):
        distance = torch.cdist(some, points, compute_mode="donot_use_mm_for_euclid_dist")
        found.append(distance.masked_fill_(~usable, torch.inf).argmin(-1))
    return torch.cat(found, 1)


@njit(cache=True, nogil=True)
@no_type_check
def _search(queries, points, allowed, found):
    count = points.shape[1]
    order, sorted_xy = np.empty(count, np.int32), np.empty((count, 2), np.float32)
    starts = np.empty(CELLS * CELLS + 2, np.int32)
    for n in range(len(queries)):
        left, top, scale = _box(queries[n], points[n], allowed[n])
        at = _cells(points[n], allowed[n], left, top, scale)
        _sort(points[n], at, order, sorted_xy, starts)
        if starts[CELLS * CELLS] == 0:
            continue
        place = 0
        for q in range(queries.shape[1]):
            x, y = queries[n, q]
            # In cells, so that the search need not know the box. Queries often come in an order in which neighbours
            # follow each other: what was nearest to the last one is not far from this one.
            place = _one(x, y, (x - left) * scale, (y - top) * scale, scale, sorted_xy, starts, place)
            found[n, q] = order[place]


@njit(cache=True, nogil=True)
@no_type_check
def _box(queries, points, allowed):
    """Corner of the square that the grid covers, and cells per pixel: queries and points, points far away left out.

    Any square that holds the queries is right, also with points outside of it: those go to the nearest cell of its
    rim, and moving a point to the nearest place of a convex set brings it no farther from what is inside.
    """
    left = top = np.float32(np.inf)
    right = bottom = np.float32(-np.inf)
    for q in range(len(queries)):
        x, y = queries[q, 0], queries[q, 1]
        if np.isfinite(x) and np.isfinite(y):
            left, right, top, bottom = min(left, x), max(right, x), min(top, y), max(bottom, y)
    reach = max(right - left, bottom - top)
    low_x, high_x, low_y, high_y = left - reach, right + reach, top - reach, bottom + reach
    for v in range(len(points)):
        x, y = points[v, 0], points[v, 1]
        if allowed[v] and low_x <= x <= high_x and low_y <= y <= high_y:
            left, right, top, bottom = min(left, x), max(right, x), min(top, y), max(bottom, y)
    return left, top, np.float32(CELLS / max(right - left, bottom - top, np.float32(1e-3)))


@njit(cache=True, nogil=True, inline="always")
@no_type_check
def _cell(place):
    if not place > 0.0:  # also what is not a number
        return 0
    return int(place) if place < CELLS - 1 else CELLS - 1


@njit(cache=True, nogil=True)
@no_type_check
def _cells(points, allowed, left, top, scale):
    """The cell of each point, -1 for those that are not to be found."""
    at = np.full(len(points), -1, np.int32)
    for v in range(len(points)):
        x, y = points[v, 0], points[v, 1]
        if allowed[v] and np.isfinite(x) and np.isfinite(y):
            at[v] = _cell((y - top) * scale) * CELLS + _cell((x - left) * scale)
    return at


@njit(cache=True, nogil=True)
@no_type_check
def _sort(points, at, order, sorted_xy, starts):
    """Sort the points by cell: those of cell c are starts[c] to starts[c + 1] of `order` and `sorted_xy`."""
    starts[:] = 0
    for v in range(len(at)):
        if at[v] >= 0:
            starts[at[v] + 2] += 1
    for c in range(1, CELLS * CELLS + 1):
        starts[c + 1] += starts[c]
    # Filling moves starts[c + 1] from where cell c starts to where it ends, which is where the next one starts.
    for v in range(len(at)):
        if at[v] >= 0:
            i = starts[at[v] + 1]
            starts[at[v] + 1] += 1
            order[i] = v
            sorted_xy[i, 0], sorted_xy[i, 1] = points[v, 0], points[v, 1]


@njit(cache=True, nogil=True)
@no_type_check
def _one(x, y, across, down, scale, sorted_xy, starts, place):
    """Place in `sorted_xy` of the point nearest to (x, y), given the place of one that is not far.

    Row of cells after row, away from the query's own to both sides, of each the cells that the circle through the
    nearest point so far meets; until it meets none.
    """
    best, row = (sorted_xy[place, 0] - x) ** 2 + (sorted_xy[place, 1] - y) ** 2, _cell(down)
    for away in range(CELLS):
        met = False
        for side in range(2 if away else 1):
            r = row - away if side else row + away
            rest = best * scale * scale - max(r - down, down - r - 1, np.float32(0.0)) ** 2 + np.float32(ROUNDING)
            if r < 0 or r >= CELLS or rest < 0.0:
                continue
            met = True
            half = np.sqrt(rest)
            for i in range(starts[r * CELLS + _cell(across - half)], starts[r * CELLS + _cell(across + half) + 1]):
                dx, dy = sorted_xy[i, 0] - x, sorted_xy[i, 1] - y
                square = dx * dx + dy * dy
                if square < best:
                    best, place = square, i
        if not met:
            break
    return place
