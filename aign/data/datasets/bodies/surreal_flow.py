"""SURREAL's gtflow: what its numbers mean, told from the clip itself, and both directions of flow made from it.

The data set does not say which way gtflow points. It is the first two channels of Blender's Speed pass; Blender's users
find those to be (-columns, +rows) of the motion since the frame before (google-research/kubric issue 152), and
SURREAL's author found the x channel inverted (gulvarol/surreal issue 3). That is `USUAL`; `flow_sign` checks it.
"""

from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32

FASTEST_PX = 200.0
"""Above this a value is no motion in a picture of 320 x 240 but an undefined one."""
LEAST_MOTION_PX = 0.2
"""Joints have to move this far a frame, on average, for a clip to tell anything."""
CLEARER = 0.8
"""An explanation counts when its error is below this share of the best one that contradicts it."""
INVERSION_STEPS = 4
CONSISTENT_PX = 0.25
"""A pixel whose flow there and back misses by more than this is not valid."""
TORN_PX = 1.0
"""Two motions from one pixel that differ by more are two things, one of them hidden."""


@dataclass(frozen=True, kw_only=True)
class FlowSign:
    """How the file's numbers become motion: (sign_x * u, sign_y * v) pixels of the file's picture.

    Attributes:
        since_last: the motion since the frame before; else the motion until the next frame.
        sign_x: +1 or -1.
        sign_y: +1 or -1.
        note: what the clip could not tell, so that `USUAL` was taken; empty where it told everything.
    """

    since_last: bool
    sign_x: int
    sign_y: int
    note: str = ""


USUAL = FlowSign(since_last=True, sign_x=-1, sign_y=1)


def flow_sign(raw_px: Float[np.ndarray, "t h w 2"], joints_px: Float[np.ndarray, "t j 2"]) -> FlowSign:
    """Tell direction and signs from a clip: the one under which the flow at the joints is the joints' motion.

    Args:
        raw_px: gtflow as it is in the file.
        joints_px: projected joints in the file's picture, unrounded, (0, 0) the middle of the top-left pixel.

    Returns:
        What the clip shows; where it shows nothing (too few frames, nothing moves, no clear winner) what is usual.
    """
    if len(raw_px) < 3:
        return _usual(f"{len(raw_px)} frames are too few")
    seen, at = _at_joints(raw_px[1:-1], joints_px[1:-1])
    motion = {True: (joints_px[1:-1] - joints_px[:-2])[seen], False: (joints_px[2:] - joints_px[1:-1])[seen]}
    moved = float(np.abs(motion[True]).mean()) if seen.any() else 0.0
    if moved < LEAST_MOTION_PX:
        return _usual(f"joints move {moved:.2g} px a frame, at least {LEAST_MOTION_PX} are needed")
    error = {
        (since, x, y): float(np.abs(at * (x, y) - motion[since]).mean())
        for since, x, y in product((True, False), (1, -1), (1, -1))
    }
    best = min(error, key=lambda k: error[k])
    since_last, sign_x, sign_y = best
    unclear = []
    for name, index in (("direction", 0), ("x sign", 1), ("y sign", 2)):
        rival = min(value for key, value in error.items() if key[index] != best[index])
        if error[best] >= CLEARER * rival:
            unclear.append(name)
    return FlowSign(
        since_last=USUAL.since_last if "direction" in unclear else since_last,
        sign_x=USUAL.sign_x if "x sign" in unclear else sign_x,
        sign_y=USUAL.sign_y if "y sign" in unclear else sign_y,
        note=f"the clip does not tell its {' and '.join(unclear)}" if unclear else "",
    )


def _usual(why: str) -> FlowSign:
    return FlowSign(since_last=USUAL.since_last, sign_x=USUAL.sign_x, sign_y=USUAL.sign_y, note=why)


def _at_joints(
    raw_px: Float[np.ndarray, "t h w 2"], joints_px: Float[np.ndarray, "t j 2"]
) -> tuple[Bool[np.ndarray, "t j"], Float[np.ndarray, "n 2"]]:
    """Which joints lie on pixels that have flow (the background has none), and the flow there."""
    _, height, width, _ = raw_px.shape
    column, row = np.rint(joints_px).astype(np.int64).transpose(2, 0, 1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    frame = np.broadcast_to(np.arange(len(raw_px))[:, None], inside.shape)
    there = raw_px[frame, row.clip(0, height - 1), column.clip(0, width - 1)].astype(np.float64)
    seen = inside & defined(there) & (there != 0).any(axis=-1)
    return seen, there[seen]


def defined(raw_px: Float[np.ndarray, "*b 2"]) -> Bool[np.ndarray, "*b"]:
    """Where a value can be a motion."""
    usable: np.ndarray = (np.abs(np.nan_to_num(raw_px, nan=np.inf)) <= FASTEST_PX).all(axis=-1)
    return usable


@dataclass(frozen=True, kw_only=True)
class BothWays:
    """Flow of a clip in its flipped pictures, pixels.

    Attributes:
        forward_px: t to t + 1.
        forward_valid: where it is known; nowhere in the last frame.
        back_px: t to t - 1.
        back_valid: where it is known; nowhere in the first frame.
    """

    forward_px: Float32[np.ndarray, "t h w 2"]
    forward_valid: Bool[np.ndarray, "t h w"]
    back_px: Float32[np.ndarray, "t h w 2"]
    back_valid: Bool[np.ndarray, "t h w"]


def both_ways(raw_px: Float[np.ndarray, "t h w 2"], sign: FlowSign) -> BothWays:
    """Forward and backward flow of the flipped pictures: one is the file's own, the other its inverse.

    Convention: flow_px[t, y, x] + (x, y) is where the thing at (x, y) in frame t is in frame t + 1 (forward) or t - 1
    (back); flipping turns columns round and changes the sign of x. The background of SURREAL's clips stands still, and
    its flow is 0.
    """
    raw = raw_px[:, :, ::-1]
    valid = defined(raw)
    motion = np.where(valid[..., None], raw, 0).astype(np.float32) * np.array([-sign.sign_x, sign.sign_y], np.float32)
    if sign.since_last:
        valid[:1] = False
        back = _known(-motion, valid)
        forward = _inverse(np.roll(back[0], -1, axis=0), np.roll(valid, -1, axis=0))
        return BothWays(forward_px=forward[0], forward_valid=forward[1], back_px=back[0], back_valid=back[1])
    valid[-1:] = False
    forward = _known(motion, valid)
    back = _inverse(np.roll(forward[0], 1, axis=0), np.roll(valid, 1, axis=0))
    return BothWays(forward_px=forward[0], forward_valid=forward[1], back_px=back[0], back_valid=back[1])


def _known(
    flow_px: Float32[np.ndarray, "t h w 2"], valid: Bool[np.ndarray, "t h w"]
) -> tuple[Float32[np.ndarray, "t h w 2"], Bool[np.ndarray, "t h w"]]:
    flow_px[~valid] = 0
    return flow_px, valid


def _inverse(
    flow_px: Float32[np.ndarray, "t h w 2"], valid: Bool[np.ndarray, "t h w"]
) -> tuple[Float32[np.ndarray, "t h w 2"], Bool[np.ndarray, "t h w"]]:
    """The flow the other way of each field: f with f(p) = -g(p + f(p)).

    Two things may have come from one pixel: what was seen there and what it hid. What moves wins over what stands
    still (the person is in front of the background); where two moving things disagree the pixel is left invalid. So is
    one that misses f(p) = -g(p + f(p)) by CONSISTENT_PX or lies at the rim of something that moves otherwise.
    """
    fields, known = np.zeros_like(flow_px), np.zeros_like(valid)
    for frame, (field, there) in enumerate(zip(flow_px, valid, strict=True)):
        moving = there & (field != 0).any(axis=-1)
        known[frame] = there & ~moving
        if moving.any():
            box = _reach(field, moving)
            guess, hit, torn = _splat(field[box], moving[box])
            found, holds = _refined(field[box], there[box], guess)
            holds &= ~torn
            known[frame][box] = holds | (known[frame][box] & ~hit)
            fields[frame][box] = np.where(holds[..., None], found, 0)
    return fields, known


def _reach(field: Float32[np.ndarray, "h w 2"], moving: Bool[np.ndarray, "h w"]) -> tuple[slice, slice]:
    """Rows and columns of what moves and of where it goes, with a little room."""
    row, column = np.nonzero(moving)
    there = np.stack((row, column)) + field[row, column, ::-1].T
    low = np.minimum((row.min(), column.min()), there.min(axis=1)) - 2
    high = np.maximum((row.max(), column.max()), there.max(axis=1)) + 3
    (top, left), (bottom, right) = low.clip(0).astype(int), np.minimum(np.ceil(high), moving.shape).astype(int)
    return slice(top, bottom), slice(left, right)


def _splat(
    field: Float32[np.ndarray, "h w 2"], moving: Bool[np.ndarray, "h w"]
) -> tuple[Float32[np.ndarray, "h w 2"], Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """-g carried to where it points: its mean (of neighbours in small holes), where it hits, where it disagrees."""
    height, width = moving.shape
    row, column = np.nonzero(moving)
    values = field[row, column]
    to = np.rint(np.stack((column, row), axis=-1) + values).astype(np.int64)
    inside = ((to >= 0) & (to < (width, height))).all(axis=-1)
    at, values = to[inside, 1] * width + to[inside, 0], -values[inside]
    count = np.bincount(at, minlength=height * width).reshape(height, width).astype(np.float32)
    total = np.stack([np.bincount(at, values[:, c], height * width) for c in (0, 1)], axis=-1)
    low, high = np.full((height * width, 2), np.inf, np.float32), np.full((height * width, 2), -np.inf, np.float32)
    np.minimum.at(low, at, values)
    np.maximum.at(high, at, values)
    torn = ((high - low) > TORN_PX).any(axis=-1).reshape(height, width)
    near = cv2.boxFilter(total.reshape(height, width, 2).astype(np.float32), -1, (3, 3), normalize=False)
    many = cv2.boxFilter(count, -1, (3, 3), normalize=False)
    mean = np.where(
        (count > 0)[..., None],
        total.reshape(height, width, 2) / np.maximum(count, 1)[..., None],
        near / np.maximum(many, 1)[..., None],
    )
    return mean.astype(np.float32), count > 0, torn


def _refined(
    field: Float32[np.ndarray, "h w 2"], there: Bool[np.ndarray, "h w"], guess: Float32[np.ndarray, "h w 2"]
) -> tuple[Float32[np.ndarray, "h w 2"], Bool[np.ndarray, "h w"]]:
    """Fixed-point steps from a guess, and where the result holds."""
    height, width = there.shape
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    found = guess
    for _ in range(INVERSION_STEPS):
        found = -_sample(field, grid + found, cv2.INTER_LINEAR)
    target = grid + found
    missed = np.linalg.norm(found + _sample(field, target, cv2.INTER_LINEAR), axis=-1)
    rim = np.linalg.norm(found + _sample(field, target, cv2.INTER_NEAREST), axis=-1)
    landed = _sample(there.astype(np.float32), target, cv2.INTER_LINEAR) > 1 - 1e-3
    return found, landed & (missed < CONSISTENT_PX) & (rim < 2 * CONSISTENT_PX) & (guess != 0).any(axis=-1)


def _sample(
    image: Float32[np.ndarray, "h w *c"], at_px: Float32[np.ndarray, "h w 2"], how: int
) -> Float32[np.ndarray, "h w *c"]:
    sampled: np.ndarray = cv2.remap(
        image, at_px[..., 0], at_px[..., 1], how, borderMode=cv2.BORDER_CONSTANT, borderValue=0
    )
    return sampled
