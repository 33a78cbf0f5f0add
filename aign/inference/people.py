"""Who is who in a video: clips of a store, put together again to people."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from jaxtyping import Bool, Float32

from aign.data.schema import ClipKey

MAX_GAP_S = 1.0
MAX_JUMP = 0.35
"""From one clip of a person to the next, keypoints move on average by at most this share of the person's size,
the smaller of both ends."""
LEAST_SHARE = 0.25
"""Of the keypoints, that both ends must show."""


@dataclass(frozen=True, kw_only=True)
class FollowedClip:
    """A clip of a store and the keypoints that tell who it shows.

    Attributes:
        key: which clip.
        kp2d_px: detected keypoints, pixels of the video.
        conf: their confidences.
    """

    key: ClipKey
    kp2d_px: Float32[np.ndarray, "t j 2"]
    conf: Float32[np.ndarray, "t j"]

    @property
    def stop(self) -> int:
        """The frame after its last."""
        return self.key.frame_start + self.key.num_frames

    @property
    def importance(self) -> float:
        """Frames times how large the person is."""
        return float(sum(_size_px(px, conf > 0) for px, conf in zip(self.kp2d_px, self.conf, strict=True)))


def people_of(clips: Sequence[FollowedClip]) -> list[list[FollowedClip]]:
    """The clips of each person, in order; the person who is seen longest and largest first.

    A clip goes on with the person who stood where it begins, at most MAX_GAP_S before. Who comes back later, or after a
    cut, is someone new: nothing here knows faces.
    """
    people: list[list[FollowedClip]] = []
    for _, together in groupby(sorted(clips, key=_start), key=_start):
        new = list(together)
        jumps = np.array([[_jump(person[-1], clip) for clip in new] for person in people]).reshape(
            len(people), len(new)
        )
        while jumps.size and jumps.min() <= MAX_JUMP:
            index, which = np.unravel_index(jumps.argmin(), jumps.shape)
            people[index].append(new[which])
            jumps[index], jumps[:, which] = np.inf, np.inf
        known = {id(clip) for person in people for clip in person}
        people += [[clip] for clip in new if id(clip) not in known]
    return sorted(people, key=lambda person: -sum(clip.importance for clip in person))


def _start(clip: FollowedClip) -> int:
    return clip.key.frame_start


def _jump(before: FollowedClip, after: FollowedClip) -> float:
    """How far the ends of two clips are apart, as a share of the person's size; infinite where they cannot be one's."""
    gap = after.key.frame_start - before.stop
    if not 0 <= gap <= MAX_GAP_S * after.key.fps:
        return np.inf
    (here_px, here), (there_px, there) = _end(before, -1), _end(after, 0)
    both = here & there
    if both.sum() < LEAST_SHARE * len(both):
        return np.inf
    size = max(min(_size_px(here_px, here), _size_px(there_px, there)), 1.0)
    return float(np.linalg.norm(here_px[both] - there_px[both], axis=1).mean()) / size


def _end(clip: FollowedClip, index: int) -> tuple[Float32[np.ndarray, "j 2"], Bool[np.ndarray, " j"]]:
    """Keypoints at one end of a clip, of the nearest frame that has some."""
    seen = np.flatnonzero((clip.conf > 0).any(1))
    at = seen[index] if len(seen) else index
    return clip.kp2d_px[at], clip.conf[at] > 0


def _size_px(kp2d_px: Float32[np.ndarray, "j 2"], seen: Bool[np.ndarray, " j"]) -> float:
    return float(np.ptp(kp2d_px[seen], axis=0).max()) if seen.any() else 0.0
