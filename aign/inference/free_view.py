"""Captured people seen from aside, on a floor: what one camera cannot show, where a wrong depth cannot hide."""

import math
from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from aign.body.assets import BodyAssets
from aign.inference.body_video import drawn

YAW_DEG, PITCH_DEG = 60.0, 12.0
"""How far the view goes round the people, to the right of the camera, and above them."""
FIELD_DEG = 40.0
REACH_M = 1.3
"""Half of the height that is shown round one person."""
PAPER_RGB = (244, 245, 247)
LINE_RGB = (205, 209, 215)
GRID_M = 0.5
GRID_LINES = 8


def free_views(
    people_m: Iterable[Sequence[Float32[np.ndarray, "v 3"]]], body: BodyAssets, side_px: int
) -> Iterator[UInt8[np.ndarray, "s s 3"]]:
    """Square pictures of the people of each frame; the view goes along with them.

    Args:
        people_m: for each frame the vertices of each person, metres, y up and the floor at 0; not finite: not there.
        body: their model.
        side_px: of the pictures.
    """
    focal = side_px / 2 / math.tan(math.radians(FIELD_DEG / 2))
    lens = np.array((focal, focal, (side_px - 1) / 2, (side_px - 1) / 2), np.float32)
    middle, reach = np.zeros(3), REACH_M
    for people in people_m:
        there = [vertices for vertices in people if np.isfinite(vertices).all()]
        if there:
            centres = np.stack([(v.min(0) + v.max(0)) / 2 for v in there])
            wide = REACH_M + float(np.linalg.norm(centres - centres.mean(0), axis=1).max())
            goal = centres.mean(0) * (1, 0, 1) + (0, 0.9, 0)
            follow = 1.0 if not middle.any() else 0.15
            middle, reach = middle + follow * (goal - middle), reach + follow * (wide - reach)
        turn, place = _camera(middle, reach)
        paper = np.full((side_px, side_px, 3), PAPER_RGB, np.uint8)
        _draw_floor(paper, turn, place, middle, lens)
        seen = [((vertices - place) @ turn.T).astype(np.float32) for vertices in people]
        yield from drawn([paper], [seen], body, lens)


def beside(
    left: Iterable[UInt8[np.ndarray, "h w 3"]], right: Iterable[UInt8[np.ndarray, "s s 3"]]
) -> Iterator[UInt8[np.ndarray, "s x 3"]]:
    """Two series of pictures as one; those on the left are brought to the height of the others."""
    for one, other in zip(left, right, strict=True):
        size = round(one.shape[1] * len(other) / len(one)), len(other)
        small = one if len(one) == len(other) else cv2.resize(one, size, interpolation=cv2.INTER_AREA)
        yield np.concatenate((small, other), 1)


def _camera(
    middle_m: Float[np.ndarray, "3"], reach_m: float
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Rotation from the world to a camera (+x right, +y down, +z forward) that looks at a point, and its place."""
    yaw, pitch = math.radians(YAW_DEG), math.radians(PITCH_DEG)
    back = np.array((math.sin(yaw) * math.cos(pitch), math.sin(pitch), math.cos(yaw) * math.cos(pitch)))
    right = np.array((math.cos(yaw), 0, -math.sin(yaw)))
    down = -np.cross(back, right)
    return np.stack((right, down, -back)), middle_m + back * reach_m / math.tan(math.radians(FIELD_DEG / 2))


def _draw_floor(
    paper: UInt8[np.ndarray, "s s 3"],
    turn: Float[np.ndarray, "3 3"],
    place: Float[np.ndarray, "3"],
    middle_m: Float[np.ndarray, "3"],
    lens: Float32[np.ndarray, "4"],
) -> None:
    """Lines on the floor, half a metre apart; they stand while the view moves."""
    start = np.round(middle_m / GRID_M) * GRID_M
    half = GRID_LINES * GRID_M
    for i in range(-GRID_LINES, GRID_LINES + 1):
        for one, other in (((i * GRID_M, -half), (i * GRID_M, half)), ((-half, i * GRID_M), (half, i * GRID_M))):
            ends = np.array([(start[0] + x, 0, start[2] + z) for x, z in (one, other)])
            line = np.linspace(ends[0], ends[1], 2 * GRID_LINES + 1)
            seen = (line - place) @ turn.T
            at = seen[:, :2] / seen[:, 2:].clip(0.1) * lens[:2] + lens[2:]
            for a, b, near in zip(at[:-1], at[1:], np.minimum(seen[:-1, 2], seen[1:, 2]), strict=True):
                if near > 0.1:
                    cv2.line(paper, a.round().astype(int), b.round().astype(int), LINE_RGB, 1, cv2.LINE_AA)
