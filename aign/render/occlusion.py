"""The visibility test of `aign.render.visibility` in plain torch: for accelerators, and the second opinion in tests.

Same grid, same tests: the vertices of a batch are sorted by cell, so that a triangle meets one run of them per row of
cells, and all pairs of all runs are tested at once, in slices of bounded size.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor

from aign.render.raster import NEAR_M

CELLS = 192
"""Cells along the longer side of the box round the projected mesh."""
RELATIVE_GAP = 1e-7
"""An occluder is nearer than the vertex by more than this part of its depth: float32 vertices say no more."""
PAIRS_AT_ONCE = 1 << 21
"""Runs, and pairs of a vertex and a face, that are laid out in memory at once (about 0.2 GiB)."""


def project_batch(
    vertices_cam_m: Float[Tensor, "n v 3"], intrinsics_px: Float[Tensor, "n 4"]
) -> tuple[Float64[Tensor, "n v 2"], Float64[Tensor, "n v"]]:
    """Pixels and 1 / depth of vertices, in float64; both 0 where not in front of the near plane."""
    vertices, lens = vertices_cam_m.double(), intrinsics_px.double()[:, None]
    ahead = vertices[..., 2] > NEAR_M
    inverse = torch.where(ahead, vertices[..., 2].reciprocal(), 0.0)
    points = lens[..., :2] * vertices[..., :2] * inverse[..., None] + lens[..., 2:]
    return torch.where(ahead[..., None], points, 0.0), inverse


def visible_by_tensors(
    vertices_cam_m: Float[Tensor, "n v 3"],
    faces: Int[Tensor, "f 3"],
    intrinsics_px: Float[Tensor, "n 4"],
    size_px: tuple[int, int],
) -> Bool[Tensor, "n v"]:
    """As `aign.render.visibility.visible`, on any device that knows float64."""
    points, inverse = project_batch(vertices_cam_m.detach(), intrinsics_px.detach())
    batch, count = inverse.shape
    corners = points[:, faces]
    sides = corners[:, :, 1:] - corners[:, :, :1]
    area = sides[..., 0, 0] * sides[..., 1, 1] - sides[..., 0, 1] * sides[..., 1, 0]
    sample, face = ((area < 0) & (inverse[:, faces] > 0).all(-1)).nonzero(as_tuple=True)
    front = sample[:, None] * count + faces[face]  # of the vertices of the whole batch in one row
    seen = torch.zeros(batch * count, dtype=torch.bool, device=points.device)
    seen[front.flatten()] = True
    end = points.new_tensor(size_px) - 0.5
    seen = seen.view(batch, count) & ((points >= -0.5) & (points <= end)).all(-1)
    grid = _grid(points, seen)
    seen, points, inverse = seen.flatten(), points.flatten(0, 1), inverse.flatten()
    hidden = torch.zeros_like(seen)
    for vertex, triangle in _pairs(grid, points, front, sample):
        corner = front[triangle]
        a, b, c = (points[corner] - points[vertex, None]).unbind(1)
        areas = torch.stack((_cross(b, c), _cross(c, a), _cross(a, b)), -1)
        gap = inverse[corner] - inverse[vertex, None] * (1.0 + RELATIVE_GAP)
        # Inside, the three areas are negative, and so the order of the weighted 1 / depth turns over.
        hides = (areas <= 0).all(-1) & ((areas * gap).sum(-1) < 0) & (corner != vertex[:, None]).all(-1)
        hidden[vertex[hides]] = True
    return (seen & ~hidden).view(batch, count)


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """Vertices of a batch by cell.

    Attributes:
        corner_px: of the box round each sample's vertices.
        per_px: cells per pixel.
        order: vertices of the whole batch, sorted by sample, row and column of their cell.
        starts: where each cell starts in `order`; one more at the end.
    """

    corner_px: Float64[Tensor, "n 2"]
    per_px: Float64[Tensor, " n"]
    order: Int64[Tensor, " o"]
    starts: Int64[Tensor, " c"]


def _grid(points_px: Float64[Tensor, "n v 2"], chosen: Bool[Tensor, "n v"]) -> _Grid:
    corner = torch.where(chosen[..., None], points_px, torch.inf).amin(1)
    size = torch.where(chosen[..., None], points_px, -torch.inf).amax(1) - corner
    # A little more than the box, so that its far edge belongs to the last cell.
    per_px = (CELLS - 1e-6) / size.amax(1).clamp(min=1e-6)
    chosen_of_all = chosen.flatten().nonzero()[:, 0]
    sample = chosen_of_all // chosen.shape[1]
    column, row = ((points_px.flatten(0, 1)[chosen_of_all] - corner[sample]) * per_px[sample, None]).long().unbind(1)
    key, order = torch.sort((sample * CELLS + row) * CELLS + column)
    starts = torch.searchsorted(key, torch.arange(len(chosen) * CELLS**2 + 1, device=key.device))
    return _Grid(corner_px=corner, per_px=per_px, order=chosen_of_all[order], starts=starts)


def _pairs(
    grid: _Grid, points_px: Float64[Tensor, "nv 2"], faces: Int64[Tensor, "m 3"], sample: Int64[Tensor, " m"]
) -> Iterator[tuple[Int64[Tensor, " p"], Int64[Tensor, " p"]]]:
    """Slices of (vertex, index into faces) whose cells touch; no pair that overlaps is left out."""
    box = torch.stack((points_px[faces].amin(1), points_px[faces].amax(1)))
    box = (box - grid.corner_px[sample]) * grid.per_px[sample, None]
    meets = ((box[1] >= 0) & (box[0] < CELLS)).all(-1).nonzero()[:, 0]
    low, high = box[:, meets].clamp(0, CELLS - 1).long()
    first = sample[meets] * CELLS + low[:, 1]
    for face, below in _spread(high[:, 1] - low[:, 1] + 1):
        row = (first[face] + below) * CELLS
        begin = grid.starts[row + low[face, 0]]
        length = grid.starts[row + high[face, 0] + 1] - begin
        for run, along in _spread(length):
            yield grid.order[begin[run] + along], meets[face[run]]


def _spread(lengths: Int64[Tensor, " r"]) -> Iterator[tuple[Int64[Tensor, " p"], Int64[Tensor, " p"]]]:
    """For runs of these lengths laid end to end: the run of each item and its place in the run, in slices."""
    ends = lengths.cumsum(0)
    total = int(ends[-1]) if len(ends) else 0
    for start in range(0, total, PAIRS_AT_ONCE):
        item = torch.arange(start, min(start + PAIRS_AT_ONCE, total), device=ends.device)
        run = torch.searchsorted(ends, item, right=True)
        yield run, item - ends[run] + lengths[run]


def _cross(a: Float64[Tensor, "p 2"], b: Float64[Tensor, "p 2"]) -> Float64[Tensor, " p"]:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
