"""Which vertices of a closed mesh a camera sees: exact, on one CPU core.

All rays to a camera pass through one point, so a list of the projected triangles per cell of a 2D grid and a test of
each vertex against those of its cell find every occluder; no picture resolution enters.

Convention: that of `aign.render.raster` (camera frame +z forward; faces counter-clockwise from outside; closed mesh,
camera outside). A vertex outside of the picture is not visible.
"""

from typing import no_type_check

import numpy as np
from jaxtyping import Bool, Int32
from numba import njit

from aign.render.raster import Lens, Projected, front_faces

CELLS = 192
"""Cells along the longer side of the box round the projected mesh."""
RELATIVE_GAP = 1e-7
"""An occluder is nearer than the vertex by more than this part of its depth: float32 vertices say no more."""


def visible_vertices(projected: Projected, faces: Int32[np.ndarray, "f 3"], lens: Lens) -> Bool[np.ndarray, " v"]:
    """Vertices inside the picture that no face hides.

    Args:
        projected: all vertices, from `aign.render.raster.project_vertices` with the same lens.
        faces: the closed mesh.
        lens: the camera.
    """
    # A closed mesh is entered through a front face, so back faces hide nothing that a front face does not.
    fronts = faces[front_faces(projected, faces)]
    return _visible(projected.points_px, projected.inverse_m, fronts, lens.width, lens.height)  # type: ignore[no-any-return]


@njit(cache=True, error_model="numpy")
@no_type_check
def _visible(points, inverse, faces, width, height):
    seen = np.zeros(len(inverse), np.bool_)
    for f in range(len(faces)):
        seen[faces[f, 0]] = seen[faces[f, 1]] = seen[faces[f, 2]] = True
    for v in range(len(inverse)):
        x, y = points[v, 0], points[v, 1]
        seen[v] = seen[v] and -0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5
    left, top, cell = _grid(points, seen)
    order, starts = _listed(points, seen, left, top, cell)
    xs, ys, zs = np.empty(len(order)), np.empty(len(order)), np.empty(len(order))
    for i in range(len(order)):
        v = order[i]
        xs[i], ys[i], zs[i] = points[v, 0], points[v, 1], inverse[v] * (1.0 + RELATIVE_GAP)
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, bx, by, cx, cy = points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1]
        x0, x1 = (min(ax, bx, cx) - left) * cell, (max(ax, bx, cx) - left) * cell
        y0, y1 = (min(ay, by, cy) - top) * cell, (max(ay, by, cy) - top) * cell
        if x1 < 0 or y1 < 0 or x0 >= CELLS or y0 >= CELLS:
            continue
        # Unsigned: numba then leaves out what makes negative indices count from the end.
        x0, x1 = np.uint64(max(x0, 0)), np.uint64(min(x1, CELLS - 1)) + np.uint64(1)
        ia, ib, ic = inverse[a], inverse[b], inverse[c]
        for row in range(int(max(y0, 0)), int(min(y1, CELLS - 1)) + 1):
            at = np.uint64(row * CELLS)
            for i in range(np.uint64(starts[at + x0]), np.uint64(starts[at + x1])):
                x, y, mine = xs[i], ys[i], zs[i]
                wa = (bx - x) * (cy - y) - (by - y) * (cx - x)
                wb = (cx - x) * (ay - y) - (cy - y) * (ax - x)
                wc = (ax - x) * (by - y) - (ay - y) * (bx - x)
                # Inside, the three areas are negative, and so the order of the weighted 1 / depth turns over.
                nearer = wa * (ia - mine) + wb * (ib - mine) + wc * (ic - mine)
                if max(wa, wb, wc) <= 0.0 and nearer < 0.0:
                    v = order[i]
                    seen[v] = seen[v] and v in (a, b, c)
    return seen


@njit(cache=True)
@no_type_check
def _grid(points, chosen):
    """Corner of the box round the chosen points, and cells per pixel."""
    left = top = np.inf
    right = bottom = -np.inf
    for v in range(len(chosen)):
        if chosen[v]:
            left, right = min(left, points[v, 0]), max(right, points[v, 0])
            top, bottom = min(top, points[v, 1]), max(bottom, points[v, 1])
    # A little more than the box, so that its far edge belongs to the last cell.
    return left, top, (CELLS - 1e-6) / max(right - left, bottom - top, 1e-6)


@njit(cache=True)
@no_type_check
def _listed(points, chosen, left, top, cell):
    """The chosen points sorted by cell, and where each cell starts."""
    starts, at = np.zeros(CELLS * CELLS + 1, np.int32), np.full(len(chosen), -1, np.int32)
    for v in range(len(chosen)):
        if chosen[v]:
            at[v] = int((points[v, 1] - top) * cell) * CELLS + int((points[v, 0] - left) * cell)
            starts[at[v] + 1] += 1
    for i in range(CELLS * CELLS):
        starts[i + 1] += starts[i]
    order, fill = np.empty(starts[-1], np.int32), starts[:-1].copy()
    for v in range(len(chosen)):
        if at[v] >= 0:
            order[fill[at[v]]] = v
            fill[at[v]] += 1
    return order, starts
