"""Where one shot ends and the next begins: hard cuts, found while the frames stream by."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

CONTEXT_FRAMES = 7
"""A decision looks at no frame further away than this: a range read with such a margin has the same cuts inside."""
MIN_CHANGE = 0.06
"""Below this no change is a cut. Pose2Sim's clips change by 0.03 at most, cut into one another by 0.2 to 0.35, and two
recordings of one camera by 0.1."""
MIN_RATIO = 3.0
"""A cut changes the picture so many times more than anything nearby on either side: a pan or a fade goes on longer."""
FLASH_FRAMES = 4
"""What looks as before after at most so many frames was a flash, or something in front of the camera."""
FLASH_RETURN = 0.35
"""It looks as before if less than this fraction of the change remains."""

_NEARBY = CONTEXT_FRAMES - 1  # changes on each side; each is between two frames
_SIZE_PX = (64, 48)
_HISTOGRAM_WEIGHT = 0.25
_BINS = (12, 4, 8)  # hue, saturation, value


@dataclass(frozen=True, kw_only=True)
class _Small:
    """What is compared: a small picture and its share of each colour."""

    picture: UInt8[np.ndarray, "48 64 3"]
    colours: Float32[np.ndarray, "12 4 8"]


def shot_cuts(frames: Iterable[UInt8[np.ndarray, "h w 3"]]) -> Iterator[tuple[UInt8[np.ndarray, "h w 3"], bool]]:
    """Hand on each RGB frame with whether a new shot begins with it (never with the first).

    The change from frame to frame is the mean difference of small pictures plus a quarter of the share of pixels
    whose colour went elsewhere; a cut is a change that stands out from its neighbourhood and does not go back.
    Frames are held back by up to CONTEXT_FRAMES.
    """
    waiting: deque[UInt8[np.ndarray, "h w 3"]] = deque()
    smalls: deque[_Small] = deque(maxlen=2 * _NEARBY + 2)
    changes: deque[float] = deque(maxlen=2 * _NEARBY + 1)
    for frame in frames:
        waiting.append(frame)
        small = _small(frame)
        changes.append(_change(smalls[-1], small) if smalls else 0.0)
        smalls.append(small)
        if len(waiting) > _NEARBY:
            yield waiting.popleft(), _is_cut(smalls, changes, _NEARBY)
    while waiting:
        ahead = len(waiting) - 1
        yield waiting.popleft(), _is_cut(smalls, changes, ahead)


def _is_cut(smalls: deque[_Small], changes: deque[float], ahead: int) -> bool:
    """Whether a shot begins `ahead` frames before the latest one."""
    now = len(changes) - 1 - ahead
    change = changes[now]
    around = list(changes)
    before, after = around[max(0, now - _NEARBY) : now], around[now + 1 :]
    usual = max(_second_largest(before), _second_largest(after))
    if change < max(MIN_CHANGE, MIN_RATIO * usual):
        return False
    pictures = list(smalls)
    at = len(pictures) - 1 - ahead
    old, new = pictures[at - 1], pictures[at]
    later, earlier = pictures[at + 1 : at + 1 + FLASH_FRAMES], pictures[max(0, at - 1 - FLASH_FRAMES) : at - 1]
    returns = [_change(old, other) for other in later] + [_change(new, other) for other in earlier]
    return min(returns, default=np.inf) >= FLASH_RETURN * change


def _second_largest(changes: list[float]) -> float:
    """What goes on nearby; the largest may be another cut, and repeated frames make the median 0."""
    return sorted(changes)[-2] if len(changes) > 1 else 0.0


def _small(frame: UInt8[np.ndarray, "h w 3"]) -> _Small:
    # Averaging every pixel of a large frame takes 2 ms; some 16 for each of the small picture's take 0.3 ms.
    sampled = cv2.resize(frame, (4 * _SIZE_PX[0], 4 * _SIZE_PX[1]), interpolation=cv2.INTER_NEAREST)
    picture = np.asarray(cv2.resize(sampled, _SIZE_PX, interpolation=cv2.INTER_AREA), np.uint8)
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    colours = cv2.calcHist([hsv], [0, 1, 2], None, _BINS, (0, 180, 0, 256, 0, 256))
    return _Small(picture=picture, colours=np.asarray(colours / colours.sum(), np.float32))


def _change(one: _Small, other: _Small) -> float:
    moved = float(cv2.absdiff(one.picture, other.picture).mean()) / 255
    recoloured = float(np.abs(one.colours - other.colours).sum()) / 2
    return moved + _HISTOGRAM_WEIGHT * recoloured
