"""What the readers of detected 2D keypoints share: the video they are of, checks, and people linked into tracks."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from aign.data.stages.linking import DetectedPerson, Seen, link
from aign.framework.errors import UserError
from aign.geometry.skeleton import Skeleton


@dataclass(frozen=True, kw_only=True)
class Footage:
    """The video that detections belong to.

    Attributes:
        path: its file; detections are found by its name.
        num_frames: that decode.
        size_px: width and height as shown.
    """

    path: Path
    num_frames: int
    size_px: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Detections:
    """Everybody detected in one video.

    Attributes:
        skeleton: of the keypoints.
        people: the main person first; none if nobody was detected.
    """

    skeleton: Skeleton
    people: tuple[DetectedPerson, ...]


PeopleOfFrames: TypeAlias = dict[int, list[tuple[Float[np.ndarray, "j 3"], float]]]
"""By frame, each person's keypoints (x, y, confidence) and score."""


def joint_triples(numbers: Any, layout: Skeleton, where: str) -> Float[np.ndarray, "j 3"]:
    """x, y and the third number of each joint.

    Raises:
        UserError: not three numbers for each joint.
    """
    try:
        values = np.asarray(numbers, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: keypoints hold something other than numbers ({error})") from error
    if values.shape != (3 * len(layout),):
        raise UserError(f"{where}: {values.size} numbers in keypoints; {layout.name} has {len(layout)} x 3")
    return values.reshape(-1, 3).copy()


def linked(people: PeopleOfFrames, layout: Skeleton, path: Path, video: Footage) -> Detections:
    """Everybody as tracks; confidences are cut to 0..1.

    Raises:
        UserError: numbers that are not finite, or no pixels.
    """
    frames = {}
    for frame, found in people.items():
        points = np.stack([p for p, _ in found])
        check_points(points, path, video, frame)
        points[..., 2] = points[..., 2].clip(0, 1)
        there = (points[..., 2] > 0).any(1)
        if there.any():
            score = np.array([s for _, s in found])[there]
            frames[frame] = Seen(kp2d_px=points[there, :, :2], conf=points[there, :, 2], score=score)
    return Detections(skeleton=layout, people=link(frames))


def check_points(points: Float[np.ndarray, "n j 3"], path: Path, video: Footage, frame: int | None = None) -> None:
    """Refuse keypoints that are not finite or not in pixels.

    Args:
        points: (x, y, confidence) of n people of one frame, or of one person in n frames.
        path: where they are from.
        video: theirs.
        frame: theirs if they are of one.

    Raises:
        UserError: as said.
    """
    bad = ~np.isfinite(points).all((1, 2))
    if bad.any():
        at = int(np.argmax(bad)) if frame is None else frame
        raise UserError(f"{path}: frame {at} has a number that is not finite")
    sure = points[points[..., 2] > 0][:, :2]
    if sure.size and (np.abs(sure).max() <= 1.5 or np.abs(sure).max() > 10 * max(video.size_px)):
        reach, size = f"{np.abs(sure).max():.4g}", f"{video.size_px[0]} x {video.size_px[1]}"
        raise UserError(f"{path}: keypoints reach {reach} in pictures of {size} px; pixels are needed")


def check_size(size_px: tuple[int, int], where: str, video: Footage) -> None:
    """Refuse detections in pictures of another size than the video's.

    Raises:
        UserError: as said.
    """
    if size_px != video.size_px:
        got, want = (f"{width} x {height} px" for width, height in (size_px, video.size_px))
        raise UserError(f"{where} is of {got}, {video.path.name} of {want}; the same size is needed")


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: not a complete one.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not a complete JSON file ({error})") from error
