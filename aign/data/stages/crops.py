"""The square of a person: where it lies, what is in it, and what it does to camera and mask.

Convention: a crop is crop_xyxy_px = left, top, right, bottom edges in continuous pixel coordinates of the whole
picture, where (0, 0) is the middle of the top-left pixel and (-0.5, -0.5) its corner; it may reach outside. Its
picture of s x s pixels has the same convention of its own: u_crop = (u - left) * s / (right - left) - 0.5.
"""

from bisect import insort

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float64, UInt8

from aign.framework.errors import UserError

MIN_CONF = 0.5
"""Below this confidence a landmark does not widen the crop (feet outside the picture are guessed, for example)."""
MARGIN = 0.2
"""Added on each side, as a fraction of the person's extent: landmarks lie inside the body, and hands swing."""
MIN_SIDE_PX = 16
MAX_TRAVEL = 1.6
"""A clip's square, margin aside, is at most this many times the median person's own, else the person is too small."""
FASTEST = 3.0
"""As MAX_TRAVEL, where a clip would be too short otherwise: 16 frames of a runner at 25 fps are 2.4 times his size."""
MAX_CLIP_FRAMES = 128
MIN_CLIP_FRAMES = 16

_Boxes = Float64[np.ndarray, "t 4"]


def square_crop(
    kp2d_px: Float[np.ndarray, "t j 2"], conf: Float[np.ndarray, "t j"], margin: float = MARGIN
) -> Float64[np.ndarray, " 4"]:
    """One square about a person for a whole clip, its edges on edges of pixels (so that `crop_image` needs no shift).

    Raises:
        UserError: no landmark of any confidence in the whole clip.
    """
    box = _union(_boxes(kp2d_px, conf))
    if not np.isfinite(box).all():
        raise UserError(f"no landmark with confidence above 0 in {len(conf)} frames; at least one is needed")
    side = max(np.ceil(max(box[2] - box[0], box[3] - box[1]) * (1 + 2 * margin)), MIN_SIDE_PX)
    corner = np.round((box[:2] + box[2:]) / 2 - side / 2) - 0.5
    return np.concatenate((corner, corner + side))


def split_by_travel(kp2d_px: Float[np.ndarray, "t j 2"], conf: Float[np.ndarray, "t j"]) -> list[slice]:
    """Cut a track into clips in which the person does not travel far.

    Each clip has at most MAX_CLIP_FRAMES frames and a square of at most MAX_TRAVEL times its median frame's own; who
    is faster gets clips of MIN_CLIP_FRAMES and squares of at most FASTEST times. Of all such cuts: the fewest frames in
    clips below MIN_CLIP_FRAMES, then the fewest clips, then the most equal ones.
    """
    reach = _reach(_boxes(kp2d_px, conf))
    # cost[i] of the best cut of the first i frames, and where its last clip begins.
    cost: list[tuple[int, int, int]] = [(0, 0, 0)] + [(len(reach) + 1, 0, 0)] * len(reach)
    begins = [0] * (len(reach) + 1)
    for begin, longest in enumerate(reach):
        short, clips, uneven = cost[begin]
        for length in range(1, longest + 1):
            lost = length if length < MIN_CLIP_FRAMES else 0
            candidate = (short + lost, clips + 1, uneven + length * length)
            if candidate < cost[begin + length]:
                cost[begin + length] = candidate
                begins[begin + length] = begin
    cuts: list[slice] = []
    end = len(reach)
    while end > 0:
        cuts.insert(0, slice(begins[end], end))
        end = begins[end]
    return cuts


def crop_image(
    frame: UInt8[np.ndarray, "h w 3"], crop_xyxy_px: Float[np.ndarray, " 4"], side_px: int
) -> UInt8[np.ndarray, "{side_px} {side_px} 3"]:
    """Cut the square out and resample it once: averaged where it shrinks (no aliasing), bilinear where it grows.

    Outside the picture it is black, as the landmark net sees it: repeated edge pixels would be streaks that move with
    the camera's edge, which optical flow follows and a person net takes for limbs.

    Raises:
        UserError: the crop is not a square with its edges on edges of pixels.
    """
    edges = np.asarray(crop_xyxy_px, np.float64) + 0.5
    if (
        not np.isfinite(edges).all()
        or (edges != np.round(edges)).any()
        or not 0 < edges[2] - edges[0] == edges[3] - edges[1]
    ):
        raise UserError(f"crop {list(map(float, crop_xyxy_px))}; allowed: a square whose edges are whole pixels - 0.5")
    left, top, right, bottom = edges.astype(int)
    height, width = frame.shape[:2]
    square = np.zeros((bottom - top, right - left, 3), np.uint8)
    inside = frame[max(top, 0) : max(min(bottom, height), 0), max(left, 0) : max(min(right, width), 0)]
    y, x = max(-top, 0), max(-left, 0)
    square[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    method = cv2.INTER_AREA if side_px < right - left else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (side_px, side_px), interpolation=method), np.uint8)


def crop_points(
    points_px: Float[np.ndarray, "*n 2"], crop_xyxy_px: Float[np.ndarray, " 4"], side_px: int
) -> Float64[np.ndarray, "*n 2"]:
    """Where points of the whole picture lie in the crop's picture."""
    scale = side_px / (crop_xyxy_px[2:] - crop_xyxy_px[:2]).astype(np.float64)
    return np.asarray((points_px - crop_xyxy_px[:2]) * scale - 0.5, np.float64)


def rescale_points(points_px: Float[np.ndarray, "*n 2"], scale: Float[np.ndarray, " 2"]) -> Float64[np.ndarray, "*n 2"]:
    """Points (or corners of a crop) when the picture is made `scale` times as wide and high."""
    return np.asarray((points_px + 0.5) * scale - 0.5, np.float64)


def warp_mask(
    mask: UInt8[np.ndarray, "m m"],
    mask_to_frame: Float[np.ndarray, "2 3"],
    crop_xyxy_px: Float[np.ndarray, " 4"],
    side_px: int,
) -> Bool[np.ndarray, "{side_px} {side_px}"]:
    """A net's soft mask (255 = surely the person) of its own region as a hard mask of the crop's picture.

    Args:
        mask: 0..255, in the region's pixels.
        mask_to_frame: from pixels of the mask to pixels of the frame that the crop is cut from.
        crop_xyxy_px: the crop, in the same frame.
        side_px: of the crop's picture.

    Returns:
        The largest connected part of what is at least half sure; all False where nothing is.
    """
    scale = (crop_xyxy_px[2] - crop_xyxy_px[0]) / side_px
    crop_to_frame = np.array(
        [[scale, 0, crop_xyxy_px[0] + scale / 2], [0, scale, crop_xyxy_px[1] + scale / 2], [0, 0, 1]]
    )
    frame_to_mask = np.linalg.inv(np.vstack((mask_to_frame, (0, 0, 1))).astype(np.float64))
    soft = cv2.warpAffine(
        mask,
        (frame_to_mask @ crop_to_frame)[:2],
        (side_px, side_px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )
    return largest_component(np.asarray(soft >= 128))


def largest_component(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The largest part whose pixels touch by edge or corner; the first in reading order of equal ones."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count == 1:
        return np.zeros_like(mask)
    return np.asarray(labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()))


def _boxes(kp2d_px: Float[np.ndarray, "t j 2"], conf: Float[np.ndarray, "t j"]) -> _Boxes:
    """Each frame's box of sure landmarks (of any above 0 where none is sure); empty boxes (inf, inf, -inf, -inf)."""
    usable = np.isfinite(kp2d_px).all(-1) & (conf > 0)
    sure = usable & (conf >= MIN_CONF)
    counted = (sure if sure.any() else usable)[..., None]
    low = np.where(counted, kp2d_px, np.inf).min(1, initial=np.inf)
    high = np.where(counted, kp2d_px, -np.inf).max(1, initial=-np.inf)
    return np.concatenate((low, high), axis=1).astype(np.float64)


def _union(boxes: _Boxes) -> Float64[np.ndarray, " 4"]:
    low, high = boxes[:, :2].min(0, initial=np.inf), boxes[:, 2:].max(0, initial=-np.inf)
    return np.concatenate((low, high))


def _reach(boxes: _Boxes) -> list[int]:
    """How long a clip may be that begins at each frame. Frames without a person stretch nothing."""
    low, high = boxes[:, :2], boxes[:, 2:]
    sides = (high - low).max(1)
    reach = []
    for begin in range(len(boxes)):
        end = min(begin + MAX_CLIP_FRAMES, len(boxes))
        left = np.minimum.accumulate(low[begin:end])
        right = np.maximum.accumulate(high[begin:end])
        seen: list[float] = []
        length = 0
        for square, side in zip((right - left).max(1), sides[begin:end], strict=True):
            if np.isfinite(side):
                insort(seen, max(float(side), 1.0))
                limit = MAX_TRAVEL if length >= MIN_CLIP_FRAMES else FASTEST
                if length and square > limit * seen[len(seen) // 2]:
                    break
            length += 1
        reach.append(length)
    return reach
