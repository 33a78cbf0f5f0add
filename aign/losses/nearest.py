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
    starts, gaps = np.empty(CELLS * CELLS + 2, np.int32), np.empty((CELLS, CELLS), np.int32)
    for n in range(len(queries)):
        left, top, scale = _box(queries[n], points[n], allowed[n])
        at = _cells(points[n], allowed[n], left, top, scale)
        _sort(points[n], at, order, sorted_xy, starts)
        if starts[CELLS * CELLS] == 0:
            continue
        _measure_gaps(starts, gaps)
        for q in range(queries.shape[1]):
            x, y = queries[n, q]
            # In cells, so that the search need not know the box.
            found[n, q] = order[_one(x, y, (x - left) * scale, (y - top) * scale, scale, sorted_xy, starts, gaps)]


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
def _measure_gaps(starts, gaps):
    """For each cell, how many rings round it are empty: 0 where it holds a point itself (a chessboard distance)."""
    for r in range(CELLS):
        for c in range(CELLS):
            gap = CELLS if starts[r * CELLS + c] == starts[r * CELLS + c + 1] else 0
            if c > 0:
                gap = min(gap, gaps[r, c - 1] + 1)
            if r > 0:
                for k in range(max(c - 1, 0), min(c + 2, CELLS)):
                    gap = min(gap, gaps[r - 1, k] + 1)
            gaps[r, c] = gap
    for r in range(CELLS - 1, -1, -1):
        for c in range(CELLS - 1, -1, -1):
            gap = gaps[r, c]
            if c < CELLS - 1:
                gap = min(gap, gaps[r, c + 1] + 1)
            if r < CELLS - 1:
                for k in range(max(c - 1, 0), min(c + 2, CELLS)):
                    gap = min(gap, gaps[r + 1, k] + 1)
            gaps[r, c] = gap


@njit(cache=True, nogil=True)
@no_type_check
def _one(x, y, across, down, scale, sorted_xy, starts, gaps):
    """Place in `sorted_xy` of the point nearest to (x, y): square rings of cells until none can be nearer."""
    column, row = _cell(across), _cell(down)
    inner = min(across - column, column + 1 - across, down - row, row + 1 - down)
    inner = max(inner, np.float32(0.0)) - np.float32(ROUNDING)
    best, place = np.float32(np.inf), 0
    for ring in range(gaps[row, column], CELLS):
        for r in range(max(row - ring, 0), min(row + ring, CELLS - 1) + 1):
            # The part of this row of cells that is not farther than what has been found.
            rest = best * scale * scale - max(r - down, down - r - 1, np.float32(0.0)) ** 2 + np.float32(ROUNDING)
            if rest < 0.0:
                continue
            half = np.sqrt(rest)
            low, high = _cell(across - half), _cell(across + half)
            # The ring's top and bottom are whole rows; between them it has two ends.
            whole = abs(r - row) == ring
            for end in range(1 if whole else 2):
                c0, c1 = max(column - ring, low), min(column + ring, high)
                if not whole:
                    c0 = c1 = column - ring if end == 0 else column + ring
                    if c0 < low or c0 > high:
                        continue
                for i in range(starts[r * CELLS + c0], starts[r * CELLS + c1 + 1]):
                    dx, dy = sorted_xy[i, 0] - x, sorted_xy[i, 1] - y
                    square = dx * dx + dy * dy
                    if square < best:
                        best, place = square, i
        reach = max((ring + inner) / scale, np.float32(0.0))
        if best <= reach * reach:
            break
    return place
