"""What makes body and photograph one picture: the shadow at the feet and the sensor's noise."""

from functools import lru_cache
from typing import no_type_check

import numpy as np
from jaxtyping import Float32, Int8
from numba import njit

SHADOW_CELL_PX = 4
SHADOW_FADES_M = 0.22
VERTEX_AREA_M2 = 1.9 / (6890 / 4)
"""Skin of a vertex among the quarter of them that cast shadows."""
NOISE_ROOM_PX = 64


@njit(cache=True, error_model="numpy")
@no_type_check
def ground_shadow(vertices, floor, lens, strength, rgb):
    """Darken the background where the body stands close above the floor.

    Args:
        vertices: in the camera.
        floor: unit vector up in the camera frame, and the camera's height above the floor.
        lens: fx, fy, cx, cy.
        strength: 0 (none) to 1.
        rgb: background, changed in place.
    """
    fx, fy, cx, cy = lens
    ux, uy, uz, above = floor
    height, width = rgb.shape[0], rgb.shape[1]
    rows, columns = height // SHADOW_CELL_PX + 2, width // SHADOW_CELL_PX + 2
    cover = np.zeros((rows, columns), np.float32)
    for v in range(0, len(vertices), 4):
        x, y, z = vertices[v, 0], vertices[v, 1], vertices[v, 2]
        level = ux * x + uy * y + uz * z + above
        x, y, z = x - ux * level, y - uy * level, z - uz * level
        if z < 0.2 or level > 4 * SHADOW_FADES_M:
            continue
        column = (fx * x / z + cx) / SHADOW_CELL_PX
        row = (fy * y / z + cy) / SHADOW_CELL_PX
        if 0 <= row < rows - 1 and 0 <= column < columns - 1:
            r, c = int(row), int(column)
            fr, fc = np.float32(row - r), np.float32(column - c)
            # How many cells the vertex's piece of skin covers: the same body is as dark near as far.
            cells = VERTEX_AREA_M2 * fx * fy / (z * z * SHADOW_CELL_PX**2)
            weight = np.float32(np.exp(-max(level, 0.0) / SHADOW_FADES_M) * cells)
            cover[r, c] += weight * (1 - fr) * (1 - fc)
            cover[r, c + 1] += weight * (1 - fr) * fc
            cover[r + 1, c] += weight * fr * (1 - fc)
            cover[r + 1, c + 1] += weight * fr * fc
    _blurred(cover, 1)
    _blurred(cover, 2)
    for r in range(rows):
        for c in range(columns):
            cover[r, c] = strength * (1.0 - np.exp(-cover[r, c]))
    for r in range(rows - 1):
        for c in range(columns - 1):
            a00, a01, a10, a11 = cover[r, c], cover[r, c + 1], cover[r + 1, c], cover[r + 1, c + 1]
            if max(a00, a01, a10, a11) < 0.004:
                continue
            for y in range(r * SHADOW_CELL_PX, min((r + 1) * SHADOW_CELL_PX, height)):
                fr = np.float32(y - r * SHADOW_CELL_PX) / SHADOW_CELL_PX
                for x in range(c * SHADOW_CELL_PX, min((c + 1) * SHADOW_CELL_PX, width)):
                    fc = np.float32(x - c * SHADOW_CELL_PX) / SHADOW_CELL_PX
                    light = 1 - ((1 - fr) * ((1 - fc) * a00 + fc * a01) + fr * ((1 - fc) * a10 + fc * a11))
                    for i in range(3):
                        rgb[y, x, i] = np.uint8(rgb[y, x, i] * light)


@njit(cache=True)
@no_type_check
def _blurred(cover, times):
    """Blur in place, 1 2 1 along rows and `times` as often along columns of the picture: floors are seen flat."""
    rows, columns = cover.shape
    for _ in range(times):
        for r in range(rows):
            last = cover[r, 0]
            for c in range(1, columns - 1):
                here = cover[r, c]
                cover[r, c] = 0.25 * last + 0.5 * here + 0.25 * cover[r, c + 1]
                last = here
    for c in range(columns):
        last = cover[0, c]
        for r in range(1, rows - 1):
            here = cover[r, c]
            cover[r, c] = 0.25 * last + 0.5 * here + 0.25 * cover[r + 1, c]
            last = here


@njit(cache=True)
@no_type_check
def add_noise(rgb, noise, row, column):
    """The sensor's noise: a piece of a tile added to the picture, in place."""
    height, width, _ = rgb.shape
    for y in range(height):
        line, grain = rgb[y].reshape(3 * width), noise[row + y].reshape(-1)[3 * column : 3 * (column + width)]
        for i in range(3 * width):
            line[i] = min(max(np.int16(line[i]) + np.int16(grain[i]), np.int16(0)), np.int16(255))


@lru_cache(maxsize=4)
def _grain(height: int, width: int) -> Float32[np.ndarray, "h w 3"]:
    return np.random.default_rng(13).standard_normal((height, width, 3), dtype=np.float32)


def noise_tile(size_px: tuple[int, int], strength: float) -> Int8[np.ndarray, "h w 3"]:
    """A tile larger than the picture (w, h) by NOISE_ROOM_PX, so that each frame gets its own piece."""
    grain = _grain(size_px[1] + NOISE_ROOM_PX, size_px[0] + NOISE_ROOM_PX)
    return np.clip(np.rint(np.float32(strength) * grain), -100, 100).astype(np.int8)
