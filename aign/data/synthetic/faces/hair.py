"""Hair as geometry: a second layer over the skull where hair grows, and a curtain that hangs round the head.

Lengths here are in the template's decimetres ("doll" coordinates): they name places of the head whatever its shape.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Float64, Int32

from aign.data.synthetic.faces.head import Head, load_head

CENTRE_Y, CENTRE_Z = 7.4, 0.4
"""Middle of the skull."""
_LINE_DEGREES = (0.0, 25.0, 45.0, 62.0, 80.0, 90.0, 100.0, 115.0, 140.0, 180.0)
_LINE_Y = (8.02, 8.0, 7.9, 7.62, 7.3, 7.1, 7.35, 6.95, 6.7, 6.6)
_NECK_Y = 6.0
_ROWS, _COLUMNS = 14, 25
_UNDER_SKIN = -0.04


@dataclass(frozen=True, kw_only=True)
class Style:
    """How hair is worn.

    Attributes:
        thickness: of the layer on the skull, decimetres; 0: bald.
        top: added to it on top.
        recede: how far the line of the forehead has gone back, 0 to 1.
        fringe: how far hair falls into the forehead, 0 to 1.
        length: how far it hangs below the middle of the skull, decimetres; 0: it does not hang.
        wide: of what hangs, in decimetres beside the head.
        open_degrees: half the angle about the face that what hangs leaves free.
    """

    thickness: float
    top: float
    recede: float
    fringe: float
    length: float
    wide: float
    open_degrees: float


@lru_cache(maxsize=1)
def _scalp() -> tuple[Int32[np.ndarray, "f 3"], Int32[np.ndarray, " n"], Float64[np.ndarray, " v"]]:
    """Skin triangles that hair may lie on, their vertices, and the angle of all vertices about the head, 0 in front."""
    head = load_head()
    doll = head.template_m.astype(np.float64) * 10
    skin = head.faces[head.material == 0]
    may = (doll[:, 1] > _NECK_Y) & (head.ears < 0.3) & (head.mouth < 0.3) & (head.nose < 0.3)
    faces = skin[may[skin].all(axis=1)]
    angle = np.degrees(np.arctan2(np.abs(doll[:, 0]), doll[:, 2] - CENTRE_Z))
    return faces, np.unique(faces).astype(np.int32), angle


def cap(
    head_m: Float32[np.ndarray, "v 3"], normals: Float32[np.ndarray, "v 3"], style: Style
) -> tuple[Float32[np.ndarray, "n 3"], Int32[np.ndarray, "f 3"], Int32[np.ndarray, " n"]]:
    """The layer over the skull: vertices, triangles, and the vertices of the head that they lie on.

    Where no hair grows the layer lies under the skin, so that the hairline is where both cross.
    """
    faces, members, angle = _scalp()
    doll = load_head().template_m[members].astype(np.float64) * 10
    line = np.interp(angle[members], _LINE_DEGREES, _LINE_Y)
    front = np.clip(1 - angle[members] / 62, 0, 1)
    temples = np.clip(1 - np.abs(angle[members] - 38) / 24, 0, 1)
    line += style.recede * (0.35 * front + 0.3 * temples) - 0.42 * style.fringe * np.clip(1.6 * front, 0, 1)
    grown = np.clip((doll[:, 1] - line) / 0.16, -1, 1)
    up = np.clip((doll[:, 1] - 7.9) / 0.5, 0, 1)
    thick = np.where(grown > 0, (style.thickness + style.top * up) * np.sqrt(np.maximum(grown, 0)), 0)
    lift = np.where(grown > 0, thick + 0.012 * grown, _UNDER_SKIN * np.minimum(-grown * 4, 1) - 0.004)
    number = np.full(len(head_m), -1, np.int32)
    number[members] = np.arange(len(members))
    out = head_m[members] + normals[members] * (lift[:, None] * 0.1)
    return out.astype(np.float32), number[faces].astype(np.int32), members


def curtain(
    head_m: Float32[np.ndarray, "v 3"], head: Head, style: Style
) -> tuple[Float32[np.ndarray, "n 3"], Int32[np.ndarray, "f 3"], Float32[np.ndarray, "n 3"]]:
    """What hangs: vertices, triangles of both sides, and doll coordinates; fitted to the skull's box."""
    _, members, _ = _scalp()
    over = members[head.template_m[members, 1] * 10 > 6.9]
    low, high = head.template_m[over].min(0).astype(np.float64), head.template_m[over].max(0).astype(np.float64)
    low_m, high_m = head_m[over].min(0).astype(np.float64), head_m[over].max(0).astype(np.float64)
    down = np.linspace(0, 1, _ROWS)[:, None]
    angle = np.radians(np.linspace(style.open_degrees - 360, -style.open_degrees, _COLUMNS))[None]
    y = CENTRE_Y + 0.75 - down * (style.length + 0.75)
    # Wider towards the ends, narrow where it leaves the skull.
    wide = np.sqrt(np.clip(down * 5, 0, 1)) * (0.6 + 0.4 * down) * style.wide
    side, depth = 0.68 + wide, 0.98 + 0.6 * wide
    doll = np.stack(np.broadcast_arrays(side * np.sin(angle), y, CENTRE_Z - 0.05 + depth * np.cos(angle)), axis=-1)
    doll = doll.reshape(-1, 3)
    fitted = low_m + (doll * 0.1 - low) * (high_m - low_m) / (high - low)
    at = np.arange(_ROWS * _COLUMNS).reshape(_ROWS, _COLUMNS)
    a, b, c, d = at[:-1, :-1].ravel(), at[:-1, 1:].ravel(), at[1:, 1:].ravel(), at[1:, :-1].ravel()
    outside = np.concatenate((np.stack((a, c, b), 1), np.stack((a, d, c), 1)))
    faces = np.concatenate((outside, outside[:, ::-1]))
    return fitted.astype(np.float32), np.ascontiguousarray(faces, np.int32), doll.astype(np.float32)
