"""People in COCO's keypoint format: annotations and results (Lin et al., "Microsoft COCO", 2014; protocols 3.5 k)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from aign.data.stages.detected import Detections, Footage, PeopleOfFrames, check_size, joint_triples, linked, read_json
from aign.framework.errors import UserError
from aign.geometry.skeleton import COCO17

PERSON = 1
"""COCO's category."""
MIN_SCORE = 0.2
"""Of a result: detectors list dozens of hardly believed people for each picture."""
_SIDES = {"l_": "left_", "r_": "right_"}
_NAMES = tuple(_SIDES.get(name[:2], name[:2]) + name[2:] for name in COCO17.joints)


def read_coco_results(path: Path, video: Footage) -> Detections:
    """COCO keypoints: annotations (`images` and `annotations`) or results (a list with `score`).

    Pictures are the video's frames, by the numbers in their file names; a list without pictures has frame numbers as
    image_id. The third number of a keypoint is a score in results, and in annotations the visibility: 2 (labelled and
    visible) becomes 1, 1 (labelled but hidden: its place is a guess) 0.5, 0 (not labelled) 0. Crowds are left out: they
    have no keypoints of one person, and their segmentation (RLE) is not read.

    Raises:
        UserError: not this format, not of this video, or with numbers that are not finite.
    """
    content = read_json(path)
    if isinstance(content, list):
        entries = _objects(content, ("image_id",), path)
        frame_of = _numbered(entries, path, video)
    elif isinstance(content, dict) and {"images", "annotations"} <= set(content):
        for category in _objects(content.get("categories", []), (), path):
            _check_category(category, path)
        entries = _objects(content["annotations"], ("image_id",), path)
        frame_of = _of_pictures(_objects(content["images"], ("id", "file_name"), path), path, video)
    else:
        raise UserError(f"{path}: neither COCO annotations (images, annotations) nor results (a list)")
    people: PeopleOfFrames = {}
    for entry in entries:
        score = float(entry.get("score", 1.0))
        if entry.get("iscrowd") or entry.get("category_id", PERSON) != PERSON or score < MIN_SCORE:
            continue
        if entry["image_id"] not in frame_of:
            raise UserError(f"{path}: image_id {entry['image_id']!r} is none of its pictures")
        frame = frame_of[entry["image_id"]]
        points = joint_triples(entry.get("keypoints", ()), COCO17, f"{path}: frame {frame}")
        if "score" not in entry:
            points[:, 2] = _visibility(points[:, 2], f"{path}: frame {frame}")
        people.setdefault(frame, []).append((points, score))
    return linked(people, COCO17, path, video)


def _objects(content: Any, keys: tuple[str, ...], path: Path) -> list[dict[str, Any]]:
    """A list of JSON objects that have these keys."""
    if not isinstance(content, list) or not all(isinstance(o, dict) and set(keys) <= set(o) for o in content):
        raise UserError(f"{path}: not in COCO's format; a list of objects with {', '.join(keys) or 'keys'} is needed")
    return content


def coco_bones(edges: Iterable[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    """Joint pairs of a COCO category's `skeleton`, which counts from 1; here from 0.

    Raises:
        UserError: an edge is not of COCO's 17 joints.
    """
    bones = tuple((int(a) - 1, int(b) - 1) for a, b in edges)
    if any(not 0 <= joint < len(COCO17) for bone in bones for joint in bone):
        raise UserError(f"a COCO skeleton has the edges {[list(e) for e in edges]}; its joints count from 1 to 17")
    return bones


def _check_category(category: Mapping[str, Any], path: Path) -> None:
    if category.get("id", PERSON) != PERSON:
        return
    names = tuple(category.get("keypoints", _NAMES))
    if names != _NAMES:
        raise UserError(f"{path} has the keypoints {', '.join(names)}; COCO's 17 are needed: {', '.join(_NAMES)}")
    try:
        coco_bones(category.get("skeleton", ()))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _of_pictures(images: Sequence[Mapping[str, Any]], path: Path, video: Footage) -> dict[Any, int]:
    """Frame of each image_id: the order of the numbers at the end of the pictures' names."""
    if len(images) != video.num_frames:
        raise UserError(f"{path} has {len(images)} pictures, {video.path.name} has {video.num_frames} frames")
    for image in images:
        if {"width", "height"} <= set(image):
            check_size((image["width"], image["height"]), f"{path}: {image['file_name']}", video)
    by_number = {_number(Path(image["file_name"]).stem): image["id"] for image in images}
    ordered = sorted(number for number in by_number if number is not None)
    if len(ordered) < len(images):
        raise UserError(f"{path}: its pictures ({images[0]['file_name']}, ...) are not numbered, each frame once")
    return {by_number[number]: frame for frame, number in enumerate(ordered)}


def _number(text: Any) -> int | None:
    digits = re.findall(r"\d+", str(text))
    return int(digits[-1]) if digits else None


def _numbered(entries: Sequence[Mapping[str, Any]], path: Path, video: Footage) -> dict[Any, int]:
    """Frame of each image_id of a list of results: counted from 0 or from 1, which only the ends can tell."""
    ids = {entry["image_id"] for entry in entries}
    numbers = {i: _number(Path(i).stem if isinstance(i, str) else i) for i in ids}
    values = [n for n in numbers.values() if n is not None]
    if len(set(values)) < len(ids):
        raise UserError(f"{path}: image_id must be a frame's number, got {sorted(map(str, ids))[:3]}")
    low, high = min(values, default=0), max(values, default=0)
    start = 0 if low == 0 else 1
    if high - start >= video.num_frames:
        raise UserError(f"{path} has a frame {high}, {video.path.name} has {video.num_frames} frames")
    if low > 0 and high < video.num_frames:
        raise UserError(
            f"{path} has frames {low} to {high} of {video.num_frames}, so they may count from 0 or from 1; "
            f"add an entry of score 0 for frame 0, or for frame {video.num_frames} if they count from 1"
        )
    return {i: number - start for i, number in numbers.items() if number is not None}


def _visibility(flags: Float[np.ndarray, " j"], where: str) -> Float[np.ndarray, " j"]:
    if not np.isin(flags, (0, 1, 2)).all():
        raise UserError(f"{where}: visibility {np.unique(flags).tolist()}; annotations have 0, 1 and 2 (and no score)")
    return flags / 2
