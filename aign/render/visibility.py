"""Which vertices of a closed mesh a camera sees: exact, on CPU cores or on another device.

All rays to a camera pass through one point, so a list of the projected vertices per cell of a 2D grid and a test of
each triangle against those of its cells find every occluder; no picture resolution enters.

Convention: that of `aign.render.raster` (camera frame +z forward; faces counter-clockwise from outside; closed mesh,
camera outside). A vertex outside of the picture is not visible.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int32
from numba import njit
from torch import Tensor

from aign.framework.errors import UserError
from aign.render.occlusion import CELLS, RELATIVE_GAP, project_batch, visible_by_tensors
from aign.render.raster import Lens, Projected


def visible(
    vertices_cam_m: Float[Tensor, "n v 3"],
    faces: Int[Tensor, "f 3"],
    intrinsics_px: Float[Tensor, "n 4"],
    size_px: tuple[int, int],
) -> Bool[Tensor, "n v"]:
    """Vertices inside the picture that no face hides, for a batch of poses of one mesh. Has no gradient.

    On a CPU it runs the kernel of `visible_vertices` on up to `torch.get_num_threads()` threads, elsewhere
    `aign.render.occlusion.visible_by_tensors`; both are exact. A vertex at or behind the near plane
    (`aign.render.raster.NEAR_M`) or one that is not a number is not visible, and a face with such a corner hides
    nothing.

    Args:
        vertices_cam_m: vertices in the camera, metres.
        faces: the closed mesh, counter-clockwise from outside.
        intrinsics_px: fx, fy, cx, cy of each sample.
        size_px: width and height of the picture.

    Raises:
        UserError: a face names a vertex that is not there, or the picture is empty.
    """
    width, height = size_px
    if width < 1 or height < 1:
        raise UserError(f"a picture of {width} x {height} px was asked for; at least 1 x 1 is needed")
    vertices_cam_m, intrinsics_px = vertices_cam_m.detach(), intrinsics_px.detach()
    if vertices_cam_m.device.type != "cpu":
        return visible_by_tensors(vertices_cam_m, faces, intrinsics_px, size_px)
    first, last = (int(x) for x in torch.aminmax(faces)) if len(faces) else (0, -1)
    if first < 0 or last >= vertices_cam_m.shape[1]:
        raise UserError(f"faces name vertices {first} to {last}; there are {vertices_cam_m.shape[1]}")
    points, inverse = (x.numpy() for x in project_batch(vertices_cam_m, intrinsics_px))
    corners = faces.to(torch.int32).contiguous().numpy()
    seen = np.zeros(inverse.shape, np.bool_)
    threads = max(1, min(torch.get_num_threads(), len(seen)))
    parts = [slice(len(seen) * i // threads, len(seen) * (i + 1) // threads) for i in range(threads)]
    if threads == 1:
        _visible_batch(points, inverse, corners, width, height, seen)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda s: _visible_batch(points[s], inverse[s], corners, width, height, seen[s]), parts))
    return torch.from_numpy(seen)


def visible_vertices(projected: Projected, faces: Int32[np.ndarray, "f 3"], lens: Lens) -> Bool[np.ndarray, " v"]:
    """Vertices inside the picture that no face hides.

    Args:
        projected: all vertices, from `aign.render.raster.project_vertices` with the same lens.
        faces: the closed mesh.
        lens: the camera.
    """
    return _visible(projected.points_px, projected.inverse_m, faces, lens.width, lens.height)  # type: ignore[no-any-return]


@njit(cache=True, nogil=True)
@no_type_check
def _visible_batch(points, inverse, faces, width, height, seen):
    for i in range(len(seen)):
        seen[i] = _visible(points[i], inverse[i], faces, width, height)


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _visible(points, inverse, faces, width, height):
    # A closed mesh is entered through a front face, so back faces hide nothing that a front face does not.
    fronts, seen = _fronts(points, inverse, faces)
    for v in range(len(inverse)):
        x, y = points[v, 0], points[v, 1]
        seen[v] = seen[v] and -0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5
    if not seen.any():
        return seen
    left, top, cell = _grid(points, seen)
    order, starts = _listed(points, seen, left, top, cell)
    xs, ys, zs = np.empty(len(order)), np.empty(len(order)), np.empty(len(order))
    for i in range(len(order)):
        v = order[i]
        xs[i], ys[i], zs[i] = points[v, 0], points[v, 1], inverse[v] * (1.0 + RELATIVE_GAP)
    for f in fronts:
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


@njit(cache=True, nogil=True)
@no_type_check
def _fronts(points, inverse, faces):
    """The faces that look at the camera, as `aign.render.raster.front_faces`, and which vertices they have."""
    fronts, count = np.empty(len(faces), np.int32), 0
    seen = np.zeros(len(inverse), np.bool_)
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        across = (points[b, 0] - points[a, 0]) * (points[c, 1] - points[a, 1])
        area = across - (points[b, 1] - points[a, 1]) * (points[c, 0] - points[a, 0])
        if area < 0.0 and inverse[a] > 0.0 and inverse[b] > 0.0 and inverse[c] > 0.0:
            fronts[count] = f
            count += 1
            seen[a] = seen[b] = seen[c] = True
    return fronts[:count], seen


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
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
