"""A z-buffer rasteriser for closed meshes on one CPU core: which surface each pixel sees, where, and where it moves.

It makes numbers for data, not gradients. Every pixel centre is one sample: what it holds is what a ray through that
centre hits first.

Convention: camera frame +x right, +y down, +z forward, metres; pixel (0, 0) is the centre of the top-left pixel. Faces
run counter-clockwise seen from outside; those seen from inside are not drawn, so the mesh must be closed and the camera
outside of it.
"""

from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Float32, Float64, Int32
from numba import njit

from aign.framework.errors import UserError

NEAR_M = 0.05
"""A face with a corner nearer than this to the camera plane is left out and counted."""
EDGE_SLACK = 1e-9
"""Edge tests let this much of a square pixel through, so that no pixel falls between two faces by rounding."""


@dataclass(frozen=True, kw_only=True)
class Lens:
    """A pinhole without distortion and the picture behind it.

    Attributes:
        fx: focal length along x, pixels.
        fy: focal length along y, pixels.
        cx: principal point x, pixels.
        cy: principal point y, pixels.
        width: of the picture, pixels.
        height: of the picture, pixels.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def finer(self, times: int) -> "Lens":
        """The same view with `times` samples per pixel and axis; sample (times * x, times * y) is pixel (x, y)."""
        return Lens(
            fx=self.fx * times,
            fy=self.fy * times,
            cx=self.cx * times,
            cy=self.cy * times,
            width=self.width * times,
            height=self.height * times,
        )

    @property
    def intrinsics_px(self) -> Float32[np.ndarray, "4"]:
        """fx, fy, cx, cy."""
        return np.array([self.fx, self.fy, self.cx, self.cy], np.float32)


@dataclass(frozen=True, kw_only=True)
class Projected:
    """Vertices in a picture.

    Attributes:
        points_px: pixels; 0 where not in front of the camera.
        inverse_m: 1 / depth; 0 where not in front of the camera.
    """

    points_px: Float64[np.ndarray, "v 2"]
    inverse_m: Float64[np.ndarray, " v"]


@dataclass(frozen=True, kw_only=True)
class Raster:
    """What every pixel sees.

    Attributes:
        face_id: index of the face, -1 where there is none.
        inverse_m: 1 / depth, 0 where there is no face.
        faces_near: front faces left out because a corner lies nearer than NEAR_M.
    """

    face_id: Int32[np.ndarray, "h w"]
    inverse_m: Float32[np.ndarray, "h w"]
    faces_near: int


def project_vertices(vertices_cam_m: Float32[np.ndarray, "v 3"], lens: Lens) -> Projected:
    """Project vertices with a pinhole, in float64."""
    points, inverse = _project(vertices_cam_m, lens.fx, lens.fy, lens.cx, lens.cy)
    return Projected(points_px=points, inverse_m=inverse)


def front_faces(projected: Projected, faces: Int32[np.ndarray, "f 3"]) -> Int32[np.ndarray, " n"]:
    """Indices of the faces that look at the camera and have no corner nearer than NEAR_M.

    Only these can be seen, so `rasterise` and `visible_vertices` say the same of them as of all faces, sooner.
    """
    return _fronts(projected.points_px, projected.inverse_m, faces)  # type: ignore[no-any-return]


def rasterise(projected: Projected, faces: Int32[np.ndarray, "f 3"], lens: Lens) -> Raster:
    """Draw a closed mesh.

    Args:
        projected: its vertices, from `project_vertices` with the same lens.
        faces: its triangles, counter-clockwise seen from outside.
        lens: the camera.

    Raises:
        UserError: a face names a vertex that is not there, or the picture is empty.
    """
    if lens.width < 1 or lens.height < 1:
        raise UserError(f"a picture of {lens.width} x {lens.height} px was asked for; at least 1 x 1 is needed")
    vertices = len(projected.inverse_m)
    if len(faces) and not 0 <= faces.min() <= faces.max() < vertices:
        raise UserError(f"faces name vertices {faces.min()} to {faces.max()}; there are {vertices}")
    face_id = np.full((lens.height, lens.width), -1, np.int32)
    inverse = np.zeros((lens.height, lens.width), np.float32)
    near = _draw(projected.points_px, projected.inverse_m, faces, face_id, inverse)
    return Raster(face_id=face_id, inverse_m=inverse, faces_near=int(near))


def surface_points(
    raster: Raster, projected: Projected, faces: Int32[np.ndarray, "f 3"]
) -> tuple[Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "h w"]]:
    """Where on its face every pixel lies, and how deep.

    Returns:
        Barycentric coordinates of the surface point in space (perspective-correct, sum 1) and its depth in metres;
        both 0 where there is no face.
    """
    bary = np.zeros((*raster.face_id.shape, 3), np.float32)
    depth = np.zeros(raster.face_id.shape, np.float32)
    _locate(raster.face_id, projected.points_px, projected.inverse_m, faces, bary, depth)
    return bary, depth


def surface_flow(
    raster: Raster,
    projected: Projected,
    faces: Int32[np.ndarray, "f 3"],
    moved_cam_m: Float32[np.ndarray, "v 3"],
    lens: Lens,
) -> Float32[np.ndarray, "h w 2"]:
    """Motion in pixels of the surface point that each pixel sees, when the vertices move to `moved_cam_m`.

    Pixels without a face have 0: the camera stands still. A point that moves behind the camera has NaN.
    """
    flow = np.zeros((*raster.face_id.shape, 2), np.float32)
    flow_into(raster.face_id, projected.points_px, projected.inverse_m, faces, moved_cam_m, lens_row(lens), flow)
    return flow


def lens_row(lens: Lens) -> Float64[np.ndarray, "4"]:
    """fx, fy, cx, cy as the kernels take them."""
    return np.array([lens.fx, lens.fy, lens.cx, lens.cy], np.float64)


@njit(cache=True)
@no_type_check
def _project(vertices, fx, fy, cx, cy):
    points = np.zeros((len(vertices), 2), np.float64)
    inverse = np.zeros(len(vertices), np.float64)
    for v in range(len(vertices)):
        z = np.float64(vertices[v, 2])
        if z > NEAR_M:
            inverse[v] = 1.0 / z
            points[v, 0] = fx * vertices[v, 0] * inverse[v] + cx
            points[v, 1] = fy * vertices[v, 1] * inverse[v] + cy
    return points, inverse


@njit(cache=True)
@no_type_check
def _fronts(points, inverse, faces):
    fronts, count = np.empty(len(faces), np.int32), 0
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        # +y points down, so a face that is counter-clockwise from outside has a negative area when it faces us.
        across = (points[b, 0] - points[a, 0]) * (points[c, 1] - points[a, 1])
        area = across - (points[b, 1] - points[a, 1]) * (points[c, 0] - points[a, 0])
        fronts[count] = f
        count += (area < 0.0) & (inverse[a] > 0.0) & (inverse[b] > 0.0) & (inverse[c] > 0.0)
    return fronts[:count].copy()


@njit(cache=True, error_model="numpy")
@no_type_check
def _draw(points, inverse, faces, face_id, nearest):
    height, width = face_id.shape
    near = 0
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ia, ib, ic = inverse[a], inverse[b], inverse[c]
        if ia == 0.0 or ib == 0.0 or ic == 0.0:
            near += 1
            continue
        ax, ay, bx, by, cx, cy = points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area >= 0.0:
            continue
        left, right = max(np.ceil(min(ax, bx, cx)), 0.0), min(np.floor(max(ax, bx, cx)), width - 1.0)
        top, bottom = max(np.ceil(min(ay, by, cy)), 0.0), min(np.floor(max(ay, by, cy)), height - 1.0)
        if left > right or top > bottom:
            continue
        scale = 1.0 / area
        for y in range(int(top), int(bottom) + 1):
            for x in range(int(left), int(right) + 1):
                # Twice the signed areas opposite a and b; each is negative inside, as the whole is.
                wa = (bx - x) * (cy - y) - (by - y) * (cx - x)
                wb = (cx - x) * (ay - y) - (cy - y) * (ax - x)
                wc = area - wa - wb
                if wa <= EDGE_SLACK and wb <= EDGE_SLACK and wc <= EDGE_SLACK:
                    depth = np.float32((wa * ia + wb * ib + wc * ic) * scale)
                    if depth > nearest[y, x]:
                        nearest[y, x] = depth
                        face_id[y, x] = f
    return near


@njit(cache=True, inline="always")
@no_type_check
def weights_at(points, inverse, a, b, c, x, y):
    """Perspective-correct barycentric coordinates of pixel (x, y) on the face a, b, c, and 1 / depth there."""
    wa = (points[b, 0] - x) * (points[c, 1] - y) - (points[b, 1] - y) * (points[c, 0] - x)
    wb = (points[c, 0] - x) * (points[a, 1] - y) - (points[c, 1] - y) * (points[a, 0] - x)
    wc = (points[a, 0] - x) * (points[b, 1] - y) - (points[a, 1] - y) * (points[b, 0] - x)
    whole = 1.0 / (wa + wb + wc)
    wa, wb, wc = wa * inverse[a], wb * inverse[b], wc * inverse[c]
    total = wa + wb + wc
    share = 1.0 / total
    return wa * share, wb * share, wc * share, total * whole


@njit(cache=True, error_model="numpy")
@no_type_check
def _locate(face_id, points, inverse, faces, bary, depth):
    height, width = face_id.shape
    for y in range(height):
        for x in range(width):
            f = face_id[y, x]
            if f < 0:
                continue
            wa, wb, wc, near = weights_at(points, inverse, faces[f, 0], faces[f, 1], faces[f, 2], x, y)
            bary[y, x, 0], bary[y, x, 1], bary[y, x, 2] = wa, wb, wc
            depth[y, x] = 1.0 / near


@njit(cache=True, error_model="numpy")
@no_type_check
def flow_into(face_id, points, inverse, faces, moved, lens, flow):
    """`surface_flow` into an array that the caller owns and has zeroed; lens is fx, fy, cx, cy."""
    fx, fy, cx, cy = lens
    height, width = face_id.shape
    for y in range(height):
        for x in range(width):
            f = face_id[y, x]
            if f < 0:
                continue
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            wa, wb, wc, _ = weights_at(points, inverse, a, b, c, x, y)
            z = wa * moved[a, 2] + wb * moved[b, 2] + wc * moved[c, 2]
            if z > NEAR_M:
                flow[y, x, 0] = fx * (wa * moved[a, 0] + wb * moved[b, 0] + wc * moved[c, 0]) / z + cx - x
                flow[y, x, 1] = fy * (wa * moved[a, 1] + wb * moved[b, 1] + wc * moved[c, 1]) / z + cy - y
            else:
                flow[y, x, 0] = flow[y, x, 1] = np.nan
