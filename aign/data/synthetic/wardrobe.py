"""Clothes, skin and hair, painted on a paper doll: the default body in its T-pose, seen from the front and the back.

A point of the body is painted at its x and y in the T-pose, on the front or the back sheet by where its normal points.
So a hem is a line, a sleeve ends where |x| says, and a pattern has no seams but along the body's outline.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32

from aign.data.synthetic.backgrounds import from_srgb

TEXEL_M = 0.006
LEFT_M, TOP_M = -0.92, 0.80
WIDTH, HEIGHT = 307, 300
"""The sheets' size in texels: 1.84 by 1.80 m round the T-pose."""
ALBEDO_MOST = 0.8
LEGS_M = 0.3
"""Both legs and the trunk lie within this |x|."""
Texture = Literal["plain", "patterned", "mixed"]

SKIN = np.array(
    [(244, 214, 190), (233, 193, 162), (214, 167, 132), (188, 138, 101), (152, 104, 73), (112, 73, 50), (76, 49, 36)]
)
HAIR = np.array(
    [(28, 24, 22), (52, 36, 26), (84, 56, 36), (128, 88, 52), (176, 140, 90), (120, 60, 34), (150, 150, 148)]
)


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Coordinates of the texels: x, y in metres of the T-pose, front (0) and back (1) sheet."""

    x: Float32[np.ndarray, "1 1 w"]
    y: Float32[np.ndarray, "1 h 1"]
    front: Bool[np.ndarray, "2 1 1"]

    def part(self, top_m: float, bottom_m: float, side_m: float) -> tuple["Sheet", slice, slice]:
        """The texels between two heights and within |x| <= side_m, and their rows and columns: small is quick."""
        rows = slice(max(0, round((TOP_M - top_m) / TEXEL_M)), min(HEIGHT, round((TOP_M - bottom_m) / TEXEL_M)))
        columns = slice(round((-side_m - LEFT_M) / TEXEL_M), round((side_m - LEFT_M) / TEXEL_M))
        return Sheet(x=self.x[..., columns], y=self.y[:, rows], front=self.front), rows, columns


@lru_cache(maxsize=1)
def sheet() -> Sheet:
    """Where the texels lie."""
    return Sheet(
        x=(LEFT_M + TEXEL_M * np.arange(WIDTH, dtype=np.float32))[None, None, :],
        y=(TOP_M - TEXEL_M * np.arange(HEIGHT, dtype=np.float32))[None, :, None],
        front=np.array([True, False])[:, None, None],
    )


def dress(rng: np.random.Generator, texture: Texture) -> Float32[np.ndarray, "2 300 307 3"]:
    """Paint a person: linear albedo of the front and the back sheet.

    Args:
        rng: decides on everything.
        texture: whether clothes have patterns.
    """
    s = sheet()
    paint = np.empty((2, HEIGHT, WIDTH, 3), np.float32)
    tone = rng.uniform(0, len(SKIN) - 1)
    skin, hair = _between(SKIN, tone), _between(HAIR, rng.uniform(0, len(HAIR) - 1) * min(1.0, 1.3 - tone / 6))
    paint[:] = _linear(skin)
    head, rows, columns = s.part(0.80, 0.42, 0.13)
    _face(paint[:, rows, columns], head, skin, hair, rng)
    one_piece, waist = rng.random() < 0.15, rng.uniform(-0.06, 0.08)
    top = _cloth(rng, skin, texture)
    bottom = _cloth(rng, skin, "plain" if rng.random() < 0.7 else texture)
    hem = rng.uniform(-0.45, -0.3) if one_piece else rng.choice([-0.42, -0.62, -0.855], p=[0.25, 0.1, 0.65])
    _fill(paint, (s.y < 0.09) & (s.y > hem) & (np.abs(s.x) < LEGS_M), top if one_piece else bottom)
    _fill(paint, (s.y > waist) & _shirt(rng, s), top)
    belt = (waist + 0.018, waist - 0.018)
    socks, shoes = (-0.79, -0.86), (-0.85, TOP_M - HEIGHT * TEXEL_M)
    for (high, low), wanted in ((belt, 0.0 if one_piece else 0.4), (socks, 0.5), (shoes, 1.0)):
        _, rows, columns = s.part(high, low, LEGS_M)
        if rng.random() < wanted:
            paint[:, rows, columns] = _linear(_colour(rng) * rng.choice([0.3, 0.6, 1.0]))
    paint *= _folds(rng)
    return np.clip(paint, 0.01, ALBEDO_MOST, out=paint)


def doll_coordinates(
    template_m: Float32[np.ndarray, "v 3"], normals: Float32[np.ndarray, "v 3"]
) -> Float32[np.ndarray, "v 3"]:
    """Column, row (in texels) and front-ness (> 0: front sheet) of the T-pose's vertices."""
    return np.stack(
        ((template_m[:, 0] - LEFT_M) / TEXEL_M, (TOP_M - template_m[:, 1]) / TEXEL_M, normals[:, 2]), axis=1
    ).astype(np.float32)


def _shirt(rng: np.random.Generator, s: Sheet) -> Bool[np.ndarray, "2 h w"]:
    """Where a shirt covers the body above its lower hem."""
    sleeve = rng.choice([0.185, 0.30, 0.43, 0.665], p=[0.12, 0.43, 0.1, 0.35])
    deep = rng.uniform(0.0, 0.09) if rng.random() < 0.5 else 0.0
    neck = rng.uniform(0.09, 0.13)
    round_neck = s.x**2 + (s.y - 0.56) ** 2 > neck**2
    v_neck = ~(s.front & (np.abs(s.x) * 1.6 < s.y - (0.46 - deep)))
    collar = rng.random() < 0.3
    top_edge = (s.y < 0.535) if collar else (round_neck & v_neck)
    return np.broadcast_to((np.abs(s.x) < sleeve) & (s.y < 0.55) & top_edge, (2, HEIGHT, WIDTH))


def _face(
    paint: Float32[np.ndarray, "2 h w 3"], s: Sheet, skin: Float[np.ndarray, "3"], hair: Float[np.ndarray, "3"],
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Lips, eyes, brows, beard and hair; measures are those of the default body's head."""
    side = np.abs(s.x)
    head = (side < 0.12) & (s.y > 0.515)
    hair_linear = _linear(hair)
    if rng.random() < 0.2:
        beard = s.front & (side < 0.065) & (s.y > 0.535) & (s.y < 0.60) & ~((side < 0.02) & (s.y > 0.585))
        _fill(paint, beard, 0.5 * hair_linear + 0.5 * _linear(skin))
    lips = s.front & ((s.x / 0.024) ** 2 + ((s.y - 0.572) / 0.010) ** 2 < 1)
    _fill(paint, lips, _linear(skin * np.array([0.80, 0.55, 0.55])))
    eye = s.front & (((side - 0.031) / 0.017) ** 2 + ((s.y - 0.646) / 0.0075) ** 2 < 1)
    _fill(paint, eye, _linear(np.array([225.0, 222, 218])))
    _fill(paint, eye & (np.abs(side - 0.031) < 0.008), _linear(np.array([40.0, 32, 28])))
    _fill(paint, s.front & (np.abs(s.y - 0.664) < 0.005) & (side > 0.014) & (side < 0.05), hair_linear)
    if rng.random() < 0.92:
        line = rng.uniform(0.69, 0.715)
        nape = rng.choice([0.585, 0.53, 0.43])
        front = s.front & ((s.y > line - 0.4 * side * (side > 0.045)) | ((side > 0.068) & (s.y > max(nape, 0.6))))
        back = ~s.front & (s.y > nape)
        _fill(paint, (head | (~s.front & (side < 0.085) & (s.y > nape))) & (front | back), hair_linear)


def _cloth(
    rng: np.random.Generator, skin: Float[np.ndarray, "3"], texture: Texture
) -> Float32[np.ndarray, "2 h w 3"] | Float32[np.ndarray, "3"]:
    """Linear colour of a garment: one, or one for each texel."""
    s = sheet()
    first, second = _linear(_colour(rng, skin)), _linear(_colour(rng, skin))
    patterned = texture == "patterned" or (texture == "mixed" and rng.random() < 0.5)
    kind, size, shift, share = rng.integers(6), rng.uniform(0.03, 0.12), rng.uniform(0, 1), rng.uniform(0.25, 0.6)
    if not patterned:
        return first
    across, down = (s.x / size + shift) % 1, (s.y / size + shift) % 1
    middle = s.front & (np.abs(s.x) < 1.2 * size) & (np.abs(s.y - 0.3) < size)
    patterns = (
        down < share,
        across < share,
        (across < share) ^ (down < share),
        (across - 0.5) ** 2 + (down - 0.5) ** 2 < 0.09,
        s.y > 0.1 + 2 * size,
        middle,
    )
    return np.where(np.broadcast_to(patterns[kind], (2, HEIGHT, WIDTH))[..., None], second, first)


@lru_cache(maxsize=1)
def _noise() -> Float32[np.ndarray, "560 560"]:
    """Smooth creases of unit size, the same for everybody; `_folds` takes a piece of it."""
    rng = np.random.default_rng(7)
    total: Float32[np.ndarray, "560 560"] = np.zeros((560, 560), np.float32)
    for blur, strength in ((14.0, 1.0), (6.0, 0.7), (2.0, 0.4)):
        field = rng.standard_normal((560, 560)).astype(np.float32)
        creased: Float32[np.ndarray, "560 560"] = cv2.GaussianBlur(field, (0, 0), blur / 2.2, sigmaY=blur)
        total += np.asarray(strength / creased.std() * creased, np.float32)
    return np.asarray(total / total.std(), np.float32)


def _folds(rng: np.random.Generator) -> Float32[np.ndarray, "2 h w 1"]:
    """Uneven cloth: a factor to the albedo."""
    depth = rng.uniform(0.03, 0.10)
    rows, columns = rng.integers(0, 560 - HEIGHT, 2), rng.integers(0, 560 - WIDTH, 2)
    pieces = [_noise()[r : r + HEIGHT, c : c + WIDTH] for r, c in zip(rows, columns, strict=True)]
    return (1 + depth * np.stack(pieces)).astype(np.float32)[..., None]


def _fill(
    paint: Float32[np.ndarray, "2 h w 3"], where: Bool[np.ndarray, "..."], colour: Float32[np.ndarray, "... 3"]
) -> None:
    mask = np.broadcast_to(where, paint.shape[:3])
    paint[mask] = colour[mask] if colour.ndim == 4 else colour


def _colour(rng: np.random.Generator, skin: Float[np.ndarray, "3"] | None = None) -> Float[np.ndarray, "3"]:
    """An sRGB colour of clothes: often grey, black, white or blue, else any, but not that of the skin."""
    value, strength, hue = rng.uniform(0.12, 0.95), rng.uniform(0.15, 0.85), rng.uniform(0, 360)
    if rng.random() < 0.35:
        strength = rng.uniform(0, 0.08)
    elif rng.random() < 0.3:
        hue = rng.uniform(205, 240)
    sector = (np.array([5.0, 3.0, 1.0]) + hue / 60) % 6
    rgb = 255 * value * (1 - strength * np.clip(np.minimum(sector, 4 - sector), 0, 1))
    if skin is not None and np.ptp((rgb - skin) / skin.mean()) < 0.25 and np.abs(rgb - skin).max() < 90:
        rgb = rgb[::-1].copy()  # another hue, as light
    return np.asarray(rgb, np.float64)


def _between(table: Float[np.ndarray, "n 3"] | np.ndarray, at: float) -> Float[np.ndarray, "3"]:
    low = int(min(at, len(table) - 2))
    mixed: Float[np.ndarray, 3] = table[low] + (at - low) * (table[low + 1] - table[low])
    return mixed


def _linear(srgb: Float[np.ndarray, "3"]) -> Float32[np.ndarray, "3"]:
    return (from_srgb(srgb / 255) * ALBEDO_MOST).astype(np.float32)
