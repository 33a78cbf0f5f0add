"""The kernels that turn a rasterised body into a picture and its labels, one frame at a time on one core.

Light falls on vertices (harmonics of the normal), paint is looked up per pixel. At rims, where a pixel's centre tells
too little, four samples per pixel are drawn and averaged; labels always come from the centre.
"""

from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, UInt8
from numba import njit

from aign.data.synthetic.backgrounds import TONE_RANGE, TONE_STEPS
from aign.render.raster import weights_at

DEPTH_STEP = np.float32(0.02)
"""Neighbouring pixels whose depth differs by more than this part are a rim inside of the body."""
SAMPLES = np.array([(-0.125, -0.375), (0.375, -0.125), (0.125, 0.375), (-0.375, 0.125)])
"""Where the samples of a rim pixel lie: a turned square, so that no two share a row or a column."""
NEVER_BLACK = np.float32(0.02)
# Kernels mix float32 arrays with these: a plain 1.0 would make everything float64.
ZERO, ONE, EDGE = np.float32(0.0), np.float32(1.0), np.float32(1.01)
TONE_SCALE, TONE_LAST = np.float32(1 / TONE_RANGE), np.float32(TONE_STEPS - 1)


class Model(NamedTuple):
    """What stays for a clip: triangles, paint and the light in the camera frame."""

    faces: Int32[np.ndarray, "f 3"]
    doll: Float32[np.ndarray, "v 3"]
    occlusion: Float32[np.ndarray, " v"]
    paint: Float32[np.ndarray, "2 h w 3"]
    light: Float32[np.ndarray, "9 3"]
    tone: Float32[np.ndarray, " n"]


class Frame(NamedTuple):
    """Vertices now, before and after, front faces with their parts, and what the rasteriser found."""

    vertices: Float32[np.ndarray, "v 3"]
    before: Float32[np.ndarray, "v 3"]
    after: Float32[np.ndarray, "v 3"]
    points: Float64[np.ndarray, "v 2"]
    inverse: Float64[np.ndarray, " v"]
    fronts: Int32[np.ndarray, "n 3"]
    front_part: UInt8[np.ndarray, " n"]
    face_id: Int32[np.ndarray, "h w"]
    nearest: Float32[np.ndarray, "h w"]


class Outputs(NamedTuple):
    """What is written of a frame; flow arrays come zeroed."""

    rgb: UInt8[np.ndarray, "h w 3"]
    mask: Bool[np.ndarray, "h w"]
    parts: UInt8[np.ndarray, "h w"]
    depth: Float32[np.ndarray, "h w"]
    flow: Float32[np.ndarray, "h w 2"]
    flow_back: Float32[np.ndarray, "h w 2"]


@njit(cache=True, fastmath=True)
@no_type_check
def vertex_normals(vertices, faces):
    """Unit normals of vertices: the mean of their faces' normals by area."""
    normals = np.zeros_like(vertices)
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for v in (a, b, c):
            normals[v, 0] += nx
            normals[v, 1] += ny
            normals[v, 2] += nz
    for v in range(len(vertices)):
        x, y, z = normals[v, 0], normals[v, 1], normals[v, 2]
        scale = np.float32(1.0) / max(np.sqrt(x * x + y * y + z * z), np.float32(1e-12))
        normals[v, 0], normals[v, 1], normals[v, 2] = x * scale, y * scale, z * scale
    return normals


@njit(cache=True, fastmath=True)
@no_type_check
def lit_vertices(model, vertices):
    """[v, 6]: doll coordinates and exposed irradiance / pi (R, G, B) of every vertex."""
    normals, light = vertex_normals(vertices, model.faces), model.light
    doll, occlusion = model.doll, model.occlusion
    lit = np.empty((len(vertices), 6), np.float32)
    for v in range(len(vertices)):
        x, y, z = normals[v, 0], normals[v, 1], normals[v, 2]
        b1, b2, b3 = np.float32(0.488603) * y, np.float32(0.488603) * z, np.float32(0.488603) * x
        b4, b5, b7 = np.float32(1.092548) * x * y, np.float32(1.092548) * y * z, np.float32(1.092548) * x * z
        b6, b8 = np.float32(0.315392) * (3 * z * z - ONE), np.float32(0.546274) * (x * x - y * y)
        for i in range(3):
            total = np.float32(0.282095) * light[0, i] + b1 * light[1, i] + b2 * light[2, i] + b3 * light[3, i]
            total += b4 * light[4, i] + b5 * light[5, i] + b6 * light[6, i] + b7 * light[7, i] + b8 * light[8, i]
            lit[v, 3 + i] = max(total, NEVER_BLACK) * occlusion[v]
            lit[v, i] = doll[v, i]
    return lit


@njit(cache=True, fastmath=True, inline="always")
@no_type_check
def _look(paint, tone, lit, corners, weights):
    """Colour 0..255 of a surface point."""
    a, b, c = corners
    wa, wb, wc = weights
    side = 0 if wa * lit[a, 2] + wb * lit[b, 2] + wc * lit[c, 2] > 0.0 else 1
    column = min(max(wa * lit[a, 0] + wb * lit[b, 0] + wc * lit[c, 0], ZERO), paint.shape[2] - EDGE)
    row = min(max(wa * lit[a, 1] + wb * lit[b, 1] + wc * lit[c, 1], ZERO), paint.shape[1] - EDGE)
    x, y = int(column), int(row)
    fx, fy = column - x, row - y
    w00, w01, w10, w11 = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
    rgb = (ZERO, ZERO, ZERO)
    for i in range(3):
        albedo = w00 * paint[side, y, x, i] + w01 * paint[side, y, x + 1, i]
        albedo += w10 * paint[side, y + 1, x, i] + w11 * paint[side, y + 1, x + 1, i]
        light = wa * lit[a, 3 + i] + wb * lit[b, 3 + i] + wc * lit[c, 3 + i]
        radiance = min(albedo * light * TONE_SCALE, ONE)
        rgb = (rgb[1], rgb[2], tone[int(np.sqrt(radiance) * TONE_LAST)])
    return rgb


@njit(cache=True, error_model="numpy")
@no_type_check
def fill(model, frame, lens, lit, out):
    """Write every label of a frame and the colours of the body.

    `out.rgb` holds the background already, everything else of `out` zeros.
    """
    # Numba counts references whenever a field is read: once here, not once a pixel.
    faces, face_part, paint, tone = frame.fronts, frame.front_part, model.paint, model.tone
    before, after, points, inverse = frame.before, frame.after, frame.points, frame.inverse
    face_id, rgb, mask, parts, depth = frame.face_id, out.rgb, out.mask, out.parts, out.depth
    flow, flow_back = out.flow, out.flow_back
    fx, fy, cx, cy = lens
    height, width = face_id.shape
    for y in range(height):
        for x in range(width):
            f = face_id[y, x]
            if f < 0:
                continue
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            wa, wb, wc, near = weights_at(points, inverse, a, b, c, x, y)
            mask[y, x], parts[y, x], depth[y, x] = True, face_part[f], 1.0 / near
            z = 1.0 / (wa * after[a, 2] + wb * after[b, 2] + wc * after[c, 2])
            flow[y, x, 0] = fx * (wa * after[a, 0] + wb * after[b, 0] + wc * after[c, 0]) * z + cx - x
            flow[y, x, 1] = fy * (wa * after[a, 1] + wb * after[b, 1] + wc * after[c, 1]) * z + cy - y
            z = 1.0 / (wa * before[a, 2] + wb * before[b, 2] + wc * before[c, 2])
            flow_back[y, x, 0] = fx * (wa * before[a, 0] + wb * before[b, 0] + wc * before[c, 0]) * z + cx - x
            flow_back[y, x, 1] = fy * (wa * before[a, 1] + wb * before[b, 1] + wc * before[c, 1]) * z + cy - y
            weights = (np.float32(wa), np.float32(wb), np.float32(wc))
            rgb[y, x, 0], rgb[y, x, 1], rgb[y, x, 2] = _look(paint, tone, lit, (a, b, c), weights)


@njit(cache=True)
@no_type_check
def _rim_pixels(nearest):
    """[h, w] number of a rim pixel in the list, -1 elsewhere; and the list of their rows and columns."""
    height, width = nearest.shape
    number = np.full((height, width), -1, np.int32)
    for y in range(height):
        for x in range(width):
            here = nearest[y, x]
            if x + 1 < width:
                there = nearest[y, x + 1]
                if abs(there - here) > DEPTH_STEP * max(there, here):
                    number[y, x] = number[y, x + 1] = 0
            if y + 1 < height:
                there = nearest[y + 1, x]
                if abs(there - here) > DEPTH_STEP * max(there, here):
                    number[y, x] = number[y + 1, x] = 0
    rows, columns = np.nonzero(number == 0)
    for n in range(len(rows)):
        number[rows[n], columns[n]] = n
    return number, rows, columns


@njit(cache=True, error_model="numpy")
@no_type_check
def _draw_rims(points, inverse, faces, number, samples):
    """The z-buffer of the rims' samples: face and 1 / depth, [n, 4]."""
    height, width = number.shape
    face, nearest = np.full(4 * samples, -1, np.int32), np.zeros(4 * samples)
    sx, sy = SAMPLES[:, 0].copy(), SAMPLES[:, 1].copy()
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, bx, by, cx, cy = points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1]
        left, right = max(int(min(ax, bx, cx) + 0.5), 0), min(int(max(ax, bx, cx) + 0.5), width - 1)
        top, bottom = max(int(min(ay, by, cy) + 0.5), 0), min(int(max(ay, by, cy) + 0.5), height - 1)
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                n = number[y, x]
                if n < 0:
                    continue
                # Edge functions at the pixel's centre; they grow by these per pixel.
                gax, gay, gbx, gby, gcx, gcy = by - cy, cx - bx, cy - ay, ax - cx, ay - by, bx - ax
                wa, wb = (bx - x) * (cy - y) - (by - y) * (cx - x), (cx - x) * (ay - y) - (cy - y) * (ax - x)
                wc = (ax - x) * (by - y) - (ay - y) * (bx - x)
                ia, ib, ic, scale = inverse[a], inverse[b], inverse[c], 1.0 / (wa + wb + wc)
                base = np.uint64(4 * n)
                # Without branches: the four samples go through the processor side by side.
                for s in range(4):
                    dx, dy, at = sx[s], sy[s], base + np.uint64(s)
                    sa, sb, sc = wa + gax * dx + gay * dy, wb + gbx * dx + gby * dy, wc + gcx * dx + gcy * dy
                    depth = (sa * ia + sb * ib + sc * ic) * scale
                    here = (sa <= 0.0) & (sb <= 0.0) & (sc <= 0.0) & (depth > nearest[at])
                    nearest[at] = depth if here else nearest[at]
                    face[at] = f if here else face[at]
    return face.reshape(samples, 4)


@njit(cache=True, error_model="numpy")
@no_type_check
def smooth_rims(model, frame, lit, behind, rgb):
    """Replace the colour of rim pixels by the mean of four samples of body and `behind` (the background)."""
    faces, paint, tone, points, inverse = frame.fronts, model.paint, model.tone, frame.points, frame.inverse
    number, rows, columns = _rim_pixels(frame.nearest)
    samples = _draw_rims(points, inverse, faces, number, len(rows))
    for n in range(len(rows)):
        y, x = rows[n], columns[n]
        red = green = blue = ZERO
        for s in range(4):
            f = samples[n, s]
            if f < 0:
                red, green, blue = red + behind[y, x, 0], green + behind[y, x, 1], blue + behind[y, x, 2]
                continue
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            at = weights_at(points, inverse, a, b, c, x + SAMPLES[s, 0], y + SAMPLES[s, 1])
            weights = (np.float32(at[0]), np.float32(at[1]), np.float32(at[2]))
            colour = _look(paint, tone, lit, (a, b, c), weights)
            red, green, blue = red + colour[0], green + colour[1], blue + colour[2]
        rgb[y, x, 0], rgb[y, x, 1], rgb[y, x, 2] = red / 4, green / 4, blue / 4
