"""Lists of single Human3.6M pictures (mmpose, SPIN, h36m-fetch) back into sequences and clips.

A picture's name says which frame it is: S9_Directions_1.54138969_000006.jpg is frame 5 (from 0) of S9's "Directions 1".
"""

import hashlib
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int

from aign.data.actions import canonical_action
from aign.data.datasets.h36m.h36m_files import CAMERAS, FPS, to_world
from aign.data.datasets.h36m.h36m_rows import NpzRows
from aign.data.datasets.h36m.h36m_views import (
    Cut,
    Frames,
    Picture,
    View,
    consecutive,
    cut_view,
    joint_clips,
    picture_clips,
)
from aign.data.datasets.job import Recording, cut
from aign.data.datasets.raw_files import some
from aign.data.stages.crops import MARGIN
from aign.data.store.writer import Clip
from aign.framework.errors import UserError

_NAME = re.compile(r"(?:^|/)(S\d+)_([^/]+)\.(\d{8})_(\d{5,6})\.jpe?g$")


@dataclass(frozen=True, kw_only=True)
class ListedView:
    """The rows of one camera's pictures of a sequence.

    Attributes:
        camera: its name.
        runs: first and one past the last row, ascending.
        first_name: name of the first picture.
    """

    camera: str
    runs: tuple[tuple[int, int], ...]
    first_name: str


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One camera's pictures of a sequence with all that is known of them, in the order of their numbers.

    Attributes:
        view: cameras and joints.
        numbers: of the frames at 50 Hz, from 1.
        pictures: their files; empty without.
        boxes_px: points [t, p, 2] about which they are cut.
        boxes_conf: which of the points count.
        margin: round the points.
    """

    view: View
    numbers: Int[np.ndarray, " t"]
    pictures: tuple[Path, ...]
    boxes_px: Float[np.ndarray, "t p 2"]
    boxes_conf: Float[np.ndarray, "t p"]
    margin: float = MARGIN


def parse_name(name: str, where: str) -> tuple[str, str, str, int]:
    """Subject, file stem ("Directions 1"), camera and frame number (from 1) of a picture's name.

    Raises:
        UserError: it is not named so.
    """
    found = _NAME.search(name)
    if found is None or found[3] not in CAMERAS:
        raise UserError(f"{where}: picture {name!r}; names like S9_Directions_1.54138969_000001.jpg are needed")
    return found[1], found[2].replace("_", " "), found[3], int(found[4])


def sequences(rows: NpzRows) -> dict[tuple[str, str], tuple[ListedView, ...]]:
    """The sequences of a list, as subject and file stem, with the rows of each camera.

    Raises:
        UserError: the list is damaged, or a picture is not one of Human3.6M's.
    """
    runs: dict[str, list[list[int]]] = {}
    first: dict[str, str] = {}
    before, row = "", 0
    for chunk in rows.chunks("imgname"):
        for name in chunk.tolist():
            view = str(name).rpartition("_")[0]
            if view != before or not runs:
                runs.setdefault(view, []).append([row, row])
                first.setdefault(view, str(name))
            runs[view][-1][1] = row = row + 1
            before = view
    found: dict[tuple[str, str], list[ListedView]] = {}
    for view, spans in runs.items():
        subject, stem, camera, _ = parse_name(first[view], str(rows.path))
        listed = ListedView(camera=camera, runs=tuple((a, b) for a, b in spans), first_name=first[view])
        found.setdefault((subject, stem), []).append(listed)
    return {key: tuple(sorted(views, key=lambda v: v.camera)) for key, views in found.items()}


def frame_numbers(names: Sequence[str], where: str) -> tuple[Int[np.ndarray, " t"], Int[np.ndarray, " t"]]:
    """Frame numbers of pictures of one view, ascending, and the order that sorts them so.

    Raises:
        UserError: a frame that is there twice.
    """
    numbers = np.array([parse_name(name, where)[3] for name in names])
    order = np.argsort(numbers, kind="stable")
    if (np.diff(numbers[order]) == 0).any():
        raise UserError(f"{where}: {names[0]!r} and others are of one view, and a frame of it is there twice")
    return numbers[order], order


def picture_files(folders: Sequence[Path], names: Sequence[str], where: str) -> tuple[Path, ...]:
    """The files of pictures in the first of the folders that has them. mmpose's documents show 5 digits, its code 6.

    Raises:
        UserError: some are there and some are not.
    """
    files = [_find(folders, name) for name in names]
    lost = [name for name, file in zip(names, files, strict=True) if file is None]
    if lost:
        raise UserError(f"{where}: {len(lost)} of {len(names)} pictures are not there: {some(lost)}")
    return tuple(file for file in files if file is not None)


def pictures_sha256(folders: Sequence[Path], rows: NpzRows, views: Sequence[ListedView]) -> str:
    """Sha256 of the names and sizes of the pictures that are there: their content would take hours to hash."""
    names = (str(name) for view in views for name in rows.take("imgname", view.runs).tolist())
    found = [(name, _find(folders, name)) for name in names]
    there = "\n".join(f"{name} {file.stat().st_size}" for name, file in found if file is not None)
    return hashlib.sha256(there.encode()).hexdigest()


def has_picture(folders: Sequence[Path], name: str) -> bool:
    """Whether a picture is there."""
    return _find(folders, name) is not None


def _find(folders: Sequence[Path], name: str) -> Path | None:
    for folder in folders:
        for spelling in (name, re.sub(r"_0(\d{5}\.jpe?g)$", r"_\1", name)):
            if (folder / spelling).is_file():
                return folder / spelling
    return None


def listed_tables(
    key: Mapping[str, str], listed: Sequence[Listed], wanted: Collection[str], left_out: list[str], lag: int = 0
) -> dict[str, list[Clip]]:
    """Tables of a sequence; the frame rate is 50 Hz over the greatest common step of its frame numbers.

    So every fifth picture is a recording at 10 Hz, and pictures at irregular steps are clips of one frame at 50 Hz.

    Args:
        key: sequence, subject and source of the recording.
        listed: its views.
        wanted: "frames" is made only if it is here.
        left_out: takes a line for what is left out.
        lag: as in `picture_clips`.
    """
    recording = _recording(key, listed)
    tables: dict[str, list[Clip]] = {"frames": [], "keypoints": [], "labels": []}
    for one in listed:
        pictured = bool(one.pictures)
        frames = Frames(
            numbers=_places(one, listed),
            boxes_px=one.boxes_px if pictured else None,
            boxes_conf=one.boxes_conf if pictured else None,
            margin=one.margin,
        )
        cuts = cut_view(frames)
        kept = [c for c in cuts if not pictured or c.crop_xyxy_px is not None]
        if len(kept) < len(cuts):
            name = one.view.camera.name
            left_out.append(f"{key['sequence']} camera {name}: {len(cuts) - len(kept)} clips: nobody in the picture")
        for table, clips in joint_clips(recording, one.view, kept).items():
            tables[table] += clips
        if pictured and "frames" in wanted:
            tables["frames"] += picture_clips(recording, one.view.camera, kept, _read(one.pictures, kept), lag)
    return tables


def memory_clips(key: Mapping[str, str], listed: Sequence[Listed]) -> list[Clip]:
    """Table memory_pose: the motion in the world, as the view with the most frames has it."""
    longest = max(listed, key=lambda one: len(one.numbers))
    recording, places = _recording(key, listed), _places(longest, listed)
    rotations = np.stack([one.view.camera.world_to_cam.rot.float().numpy().reshape(9) for one in listed])
    world = to_world(longest.view.joints_cam_m, longest.view.camera).astype(np.float32)
    clips: list[Clip] = []
    for run in consecutive(places):
        pieces = cut(recording, "", {"joints_world_m": world[run]}, {"rig_rot_world_to_cam": rotations})
        clips += [{**piece, "frame_start": piece["frame_start"] + places[run.start]} for piece in pieces]
    return clips


def _step(listed: Sequence[Listed]) -> int:
    numbers = np.unique(np.concatenate([one.numbers for one in listed]))
    return math.gcd(*np.diff(numbers).tolist()) or 1


def _places(one: Listed, listed: Sequence[Listed]) -> list[int]:
    return [int(n) for n in (one.numbers - 1) // _step(listed)]


def _recording(key: Mapping[str, str], listed: Sequence[Listed]) -> Recording:
    stem = key["sequence"].removeprefix(f"{key['subject']}/")
    return Recording(**key, action=canonical_action(stem), fps=FPS / _step(listed))


def _read(files: Sequence[Path], cuts: Sequence[Cut]) -> Iterator[Picture]:
    for one in cuts:
        for file in files[one.rows]:
            image = cv2.imread(str(file), cv2.IMREAD_COLOR)
            if image is None:
                raise UserError(f"{file}: not a picture that can be decoded; it may be cut off")
            yield np.ascontiguousarray(image[..., ::-1])
