"""The kernel that turns rasterised samples of a head into colours and parts.

Places on the head are the template's decimetres ("doll" coordinates), so that brows, beard and wrinkles move with it.
"""

from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float32, Float64, Int32
from numba import njit

from aign.data.synthetic.faces.head import CAP, CURTAIN, EYES, SKIN, TEETH
from aign.render.raster import weights_at

NOTHING, LIPS, NOSE, EYE = range(4)
"""What `face_parts` says of a pixel."""
EYE_X, EYE_Y = 0.308, 7.284
NORMAL, DOLL, LIP, MOUTH, NOSY, CHANNELS = 0, 3, 6, 7, 8, 9
"""Where what is interpolated over a triangle lies."""


class Look(NamedTuple):
    """Colours (linear, 0..1) and numbers of a picture.

    Attributes:
        skin, lips, hair, brows, iris, clothes: colours.
        light: direction towards the light in the camera frame.
        key: colour of its light.
        ambient: colour of the light from everywhere.
        traits: beard, make-up, age 0..1, gaze x, gaze y, brows' thickness, curl.
    """

    skin: Float32[np.ndarray, "3"]
    lips: Float32[np.ndarray, "3"]
    hair: Float32[np.ndarray, "3"]
    brows: Float32[np.ndarray, "3"]
    iris: Float32[np.ndarray, "3"]
    clothes: Float32[np.ndarray, "3"]
    light: Float32[np.ndarray, "3"]
    key: Float32[np.ndarray, "3"]
    ambient: Float32[np.ndarray, "3"]
    traits: Float32[np.ndarray, "7"]


class Drawn(NamedTuple):
    """A rasterised head: samples, triangles, their materials, projected vertices and what they carry."""

    face_id: Int32[np.ndarray, "h w"]
    faces: Int32[np.ndarray, "f 3"]
    material: Int32[np.ndarray, " f"]
    points: Float64[np.ndarray, "v 2"]
    inverse: Float64[np.ndarray, " v"]
    carried: Float32[np.ndarray, "v c"]


@njit(cache=True, inline="always")
@no_type_check
def _step(low, high, x):
    """0 below, 1 above, smooth between."""
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


@njit(cache=True, inline="always")
@no_type_check
def _bump(x, middle, reach):
    """1 in the middle, 0 from `reach` on."""
    t = min(abs(x - middle) / reach, 1.0)
    return (1.0 - t * t) * (1.0 - t * t)


@njit(cache=True)
@no_type_check
def _brow(x, y, thick):
    """How much of a brow there is at a place of the face."""
    along = (x - 0.12) / 0.42
    if along < 0.0 or along > 1.0:
        return 0.0
    middle = 7.452 + 0.055 * np.sin(np.pi * min(along * 0.8 + 0.08, 1.0)) - 0.05 * max(along - 0.7, 0.0)
    return _bump(y, middle, thick * (1.1 - 0.65 * along)) * _step(0.0, 0.12, along) * _step(1.0, 0.85, along)


@njit(cache=True)
@no_type_check
def _bearded(x, y, z):
    """Where a beard grows: chin, jaw and upper lip."""
    line = 6.76 + 0.42 * min(x / 0.72, 1.0) ** 2
    cheek = _step(line + 0.05, line - 0.06, y) * _step(6.0, 6.2, y) * _step(0.1, 0.3, z)
    lip = _bump(y, 6.78, 0.11) * _step(0.36, 0.28, x)
    return max(cheek, lip)


@njit(cache=True)
@no_type_check
def _lines(x, y):
    """How deep the lines of an old face are here."""
    fold = _bump(x, 0.19 + 0.42 * max(7.0 - y, 0.0), 0.06) * _step(6.58, 6.68, y) * _step(7.02, 6.9, y)
    under = _bump(y, 7.13, 0.07) * _bump(x, 0.31, 0.24)
    brow = _bump((y * 8.0) % 1.0, 0.5, 0.3) * _step(7.6, 7.66, y) * _step(7.98, 7.9, y) * _step(0.55, 0.3, x)
    crow = _bump((y * 14.0) % 1.0, 0.5, 0.4) * _bump(x, 0.58, 0.09) * _bump(y, 7.27, 0.14)
    return fold + 0.8 * under + 0.6 * brow + 0.6 * crow


@njit(cache=True)
@no_type_check
def _skin(look, at, colour):
    """Colour of the skin, painted; returns what part it is."""
    x, y, z = abs(at[DOLL]), at[DOLL + 1], at[DOLL + 2]
    beard, make_up, age, thick = look.traits[0], look.traits[1], look.traits[2], look.traits[5]
    lip = _step(0.4, 0.6, at[LIP]) * (1.0 - _step(0.5, 0.7, at[MOUTH]))
    blush = (0.07 + 0.12 * make_up) * _bump(x, 0.45, 0.3) * _bump(y, 6.98, 0.3)
    brow = 0.92 * _brow(x, y, thick)
    ex, ey = (x - EYE_X) / 0.175, (y - EYE_Y) / 0.085
    rim = _bump(np.sqrt(ex * ex + ey * ey), 1.0, 0.42) * (0.85 if y > EYE_Y else 0.35) * (0.4 + 0.55 * make_up)
    shadow = 0.25 * make_up * _bump(y, 7.38, 0.1) * _bump(x, 0.31, 0.25)
    hairy = beard * _bearded(x, y, z) * (1.0 - lip)
    dark = (1.0 - 0.42 * age * min(_lines(x, y), 1.0)) * (1.0 - 0.55 * _step(6.22, 6.02, y) * _step(0.2, 0.6, z + 0.4))
    inner = _step(0.45, 0.75, at[MOUTH])
    for i in range(3):
        c = look.skin[i] * (1.0 + (0.35 if i == 0 else -0.5) * blush)
        c += hairy * 0.85 * (look.hair[i] * 0.8 - c)
        c += lip * (look.lips[i] - c)
        c *= dark
        c += brow * (look.brows[i] - c)
        c *= (1.0 - rim) * (1.0 - shadow)
        c += inner * ((0.10 if i == 0 else 0.02) - c)
        colour[i] = c
    if at[LIP] >= 0.5 and at[MOUTH] < 0.5:
        return LIPS
    return NOSE if at[NOSY] >= 0.5 else NOTHING


@njit(cache=True)
@no_type_check
def _eye(look, at, colour):
    """Colour of an eyeball: white, iris, pupil and a glint."""
    side = 1.0 if at[DOLL] > 0.0 else -1.0
    x = at[DOLL] - side * EYE_X - 0.06 * look.traits[3]
    y = at[DOLL + 1] - EYE_Y - 0.06 * look.traits[4]
    r = np.sqrt(x * x + y * y)
    white = _step(0.066, 0.078, r)
    pupil = _step(0.034, 0.026, r)
    glint = _step(0.022, 0.014, np.sqrt((x - 0.022) ** 2 + (y - 0.03) ** 2))
    lid = 1.0 - 0.45 * _step(0.03, 0.09, at[DOLL + 1] - EYE_Y)
    for i in range(3):
        c = look.iris[i] + white * (0.72 - look.iris[i])
        c *= 1.0 - pupil * 0.95
        colour[i] = (c + glint * (1.0 - c)) * lid


@njit(cache=True)
@no_type_check
def _hair(look, at, colour):
    """Colour of hair: strands, or curls."""
    angle = np.arctan2(at[DOLL], at[DOLL + 2] - 0.4)
    y, curl = at[DOLL + 1], look.traits[6]
    strand = np.sin(34.0 * angle + 4.0 * np.sin(3.0 * y + 2.0 * angle)) * (1.0 - curl)
    strand += curl * np.sin(31.0 * angle) * np.sin(24.0 * y + 7.0 * at[DOLL + 2])
    for i in range(3):
        colour[i] = look.hair[i] * (1.0 + 0.2 * strand)


@njit(cache=True, error_model="numpy")
@no_type_check
def paint(drawn, look, rgb, part):
    """Write colour (linear) and part of every sample that sees the head; `rgb` holds the background."""
    face_id, faces, material = drawn.face_id, drawn.faces, drawn.material
    points, inverse, carried = drawn.points, drawn.inverse, drawn.carried
    at, colour = np.empty(CHANNELS, np.float64), np.empty(3, np.float64)
    light, key, ambient = look.light, look.key, look.ambient
    height, width = face_id.shape
    for row in range(height):
        for column in range(width):
            f = face_id[row, column]
            if f < 0:
                continue
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            wa, wb, wc, _ = weights_at(points, inverse, a, b, c, column, row)
            for i in range(CHANNELS):
                at[i] = wa * carried[a, i] + wb * carried[b, i] + wc * carried[c, i]
            what, gloss = material[f], 0.0
            if what == SKIN:
                part[row, column] = _skin(look, at, colour)
                gloss = 0.07 + (0.12 if part[row, column] == LIPS else 0.0)
            elif what == EYES:
                _eye(look, at, colour)
                part[row, column] = EYE
            elif what in (CAP, CURTAIN):
                _hair(look, at, colour)
                gloss = 0.05
            else:
                for i in range(3):
                    colour[i] = 0.75 - 0.05 * i if what == TEETH else look.clothes[i]
            nx, ny, nz = at[NORMAL], at[NORMAL + 1], at[NORMAL + 2]
            size = 1.0 / max(np.sqrt(nx * nx + ny * ny + nz * nz), 1e-9)
            nx, ny, nz = nx * size, ny * size, nz * size
            if nz > 0.0 and what == CURTAIN:  # the side of a sheet that looks away
                nx, ny, nz = -nx, -ny, -nz
            along = nx * light[0] + ny * light[1] + nz * light[2]
            lit = max(0.85 * along + 0.15, 0.0)
            sky = 0.72 - 0.28 * ny  # y points down
            # The half-way direction between light and camera, for a little gloss.
            hz = light[2] - 1.0
            h = np.sqrt(light[0] * light[0] + light[1] * light[1] + hz * hz)
            shine = gloss * max((nx * light[0] + ny * light[1] + nz * hz) / h, 0.0) ** 18
            for i in range(3):
                rgb[row, column, i] = colour[i] * (key[i] * lit + ambient[i] * sky) + key[i] * shine


@njit(cache=True)
@no_type_check
def settle(rgb, part, out, parts):
    """Four samples to a pixel: colours are averaged in linear light, a part has at least two of four.

    Returns the share of all samples that are lips.
    """
    height, width = parts.shape
    lips, count = 0, np.zeros(4, np.int64)
    for y in range(height):
        for x in range(width):
            count[:] = 0
            for i in range(3):
                total = np.float32(0.0)
                for dy in range(2):
                    for dx in range(2):
                        total += rgb[2 * y + dy, 2 * x + dx, i]
                value = min(max(total * np.float32(0.25), np.float32(0.0)), np.float32(1.0))
                out[y, x, i] = np.uint8(255.0 * value ** (1.0 / 2.2) + 0.5)
            for dy in range(2):
                for dx in range(2):
                    count[part[2 * y + dy, 2 * x + dx]] += 1
            lips += count[1]
            best = 1
            for which in range(2, 4):
                if count[which] > count[best]:
                    best = which
            parts[y, x] = best if count[best] >= 2 else 0
    return lips / (4.0 * height * width)
