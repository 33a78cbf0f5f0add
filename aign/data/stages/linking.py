"""People detected frame by frame become tracks: who is who from one frame to the next."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy.optimize import linear_sum_assignment

MAX_LOST_FRAMES = 10
"""So long may somebody be undetected and go on the same track."""
REACH = 0.15
"""Spread of a joint from one frame to the next, as a fraction of the person's size: COCO's similarity of keypoints
(OKS) with one width for all joints, because here it has to bear motion and not annotators' doubt."""
MIN_SIMILARITY = 0.3
DOUBLE = 0.7
"""Two detections of one frame that are this similar are one person found twice; the less certain one is dropped."""
MIN_COMMON_JOINTS = 3


@dataclass(frozen=True, kw_only=True)
class DetectedPerson:
    """One person in t consecutive frames; the first and the last one show the person.

    Attributes:
        first_frame: number of the first of the t frames.
        kp2d_px: keypoints; 0 where the confidence is 0.
        conf: 0..1; 0 in frames between in which the person was not detected.
    """

    first_frame: int
    kp2d_px: Float32[np.ndarray, "t j 2"]
    conf: Float32[np.ndarray, "t j"]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """n people of one frame.

    Attributes:
        kp2d_px: keypoints.
        conf: 0..1.
        score: of each whole person, any scale.
    """

    kp2d_px: Float[np.ndarray, "n j 2"]
    conf: Float[np.ndarray, "n j"]
    score: Float[np.ndarray, " n"]


class _Track:
    def __init__(self, frame: int, kp2d_px: Float[np.ndarray, "j 2"], conf: Float[np.ndarray, " j"]) -> None:
        self.rows = {frame: (kp2d_px, conf)}
        self.last_frame = frame
        self._step_px = np.zeros(2)

    def add(self, frame: int, kp2d_px: Float[np.ndarray, "j 2"], conf: Float[np.ndarray, " j"]) -> None:
        before, conf_before = self.rows[self.last_frame]
        both = (conf > 0) & (conf_before > 0)
        if both.sum() >= MIN_COMMON_JOINTS:
            self._step_px = (kp2d_px - before)[both].mean(0) / (frame - self.last_frame)
        self.rows[frame] = (kp2d_px, conf)
        self.last_frame = frame

    def expected(self, frame: int) -> tuple[Float[np.ndarray, "j 2"], Float[np.ndarray, " j"]]:
        """Where the person is in a later frame if they go on as they went: people who cross keep their tracks."""
        kp2d_px, conf = self.rows[self.last_frame]
        return kp2d_px + (frame - self.last_frame) * self._step_px, conf

    def person(self) -> DetectedPerson:
        first = min(self.rows)
        num_joints = len(self.rows[first][1])
        kp2d_px = np.zeros((self.last_frame - first + 1, num_joints, 2), np.float32)
        conf = np.zeros(kp2d_px.shape[:2], np.float32)
        for frame, (points, sure) in self.rows.items():
            kp2d_px[frame - first], conf[frame - first] = points, sure
        kp2d_px[conf == 0] = 0
        return DetectedPerson(first_frame=first, kp2d_px=kp2d_px, conf=conf)


def link(frames: Mapping[int, Seen]) -> tuple[DetectedPerson, ...]:
    """Tracks of everybody, the main person (most frames times largest) first.

    In each frame the tracks and the detections are paired so that the sum of their similarities is largest (Kuhn,
    "The Hungarian method for the assignment problem", 1955).

    Args:
        frames: the people of each frame by its number; frames with nobody may be missing.
    """
    done: list[_Track] = []
    alive: list[_Track] = []
    for frame, found in sorted(frames.items()):
        seen = _without_doubles(found)
        done += [track for track in alive if frame - track.last_frame > MAX_LOST_FRAMES + 1]
        alive = [track for track in alive if frame - track.last_frame <= MAX_LOST_FRAMES + 1]
        free = set(range(len(seen.conf)))
        if alive and free:
            expected = [track.expected(frame) for track in alive]
            alike = similarity(np.stack([e[0] for e in expected]), np.stack([e[1] for e in expected]), seen)
            for t, d in zip(*linear_sum_assignment(-alike), strict=True):
                if alike[t, d] >= MIN_SIMILARITY:
                    alive[t].add(frame, seen.kp2d_px[d], seen.conf[d])
                    free.remove(d)
        alive += [_Track(frame, seen.kp2d_px[d], seen.conf[d]) for d in sorted(free)]
    people = [track.person() for track in done + alive]
    return tuple(sorted(people, key=_importance, reverse=True))


def similarity(
    kp2d_px: Float[np.ndarray, "m j 2"], conf: Float[np.ndarray, "m j"], seen: Seen
) -> Float[np.ndarray, "m n"]:
    """Similarity 0..1 of m people and those seen: 0 where they have fewer than MIN_COMMON_JOINTS joints in common."""
    known, found = conf > 0, seen.conf > 0
    both = known[:, None] & found[None]
    apart_px = np.hypot(*np.moveaxis(kp2d_px[:, None] - seen.kp2d_px[None], -1, 0))
    size_px = np.maximum(_size_px(kp2d_px, known)[:, None], _size_px(seen.kp2d_px, found)[None])
    near = np.exp(-0.5 * (apart_px / (REACH * np.maximum(size_px, 1.0)[..., None])) ** 2)
    common = both.sum(-1)
    return np.where(common >= MIN_COMMON_JOINTS, (near * both).sum(-1) / np.maximum(common, 1), 0.0)


def _size_px(kp2d_px: Float[np.ndarray, "n j 2"], visible: Bool[np.ndarray, "n j"]) -> Float[np.ndarray, " n"]:
    """Longer side of the box round the visible joints."""
    low = np.where(visible[..., None], kp2d_px, np.inf).min(1)
    high = np.where(visible[..., None], kp2d_px, -np.inf).max(1)
    return np.where(visible.any(1), (high - low).max(1), 0.0)


def _without_doubles(seen: Seen) -> Seen:
    alike = similarity(seen.kp2d_px, seen.conf, seen)
    kept: list[int] = []
    for person in np.argsort(-seen.score, kind="stable"):
        if not any(alike[person, other] > DOUBLE for other in kept):
            kept.append(int(person))
    kept.sort()
    return Seen(kp2d_px=seen.kp2d_px[kept], conf=seen.conf[kept], score=seen.score[kept])


def _importance(person: DetectedPerson) -> float:
    visible = person.conf > 0
    found = visible.any(1)
    return float(found.sum() * np.median(_size_px(person.kp2d_px, visible)[found]))
