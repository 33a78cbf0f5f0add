"""2D keypoints that somebody detected already: COCO json, OpenPose's json folder, VideoPose3D's custom npz.

Convention: pixels of the whole picture, (0, 0) at the centre of the top-left pixel; confidence 0..1.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aign.data.stages.coco import read_coco_results
from aign.data.stages.detected import (
    Detections,
    Footage,
    PeopleOfFrames,
    check_points,
    check_size,
    joint_triples,
    linked,
    read_json,
)
from aign.data.stages.linking import DetectedPerson
from aign.framework.errors import UserError
from aign.framework.safe_pickle import load_object_npz
from aign.geometry.skeleton import COCO17, H36M17, MPII16, OPENPOSE25

_VIDEOPOSE3D_LAYOUTS = {"coco": COCO17, "h36m": H36M17, "mpii": MPII16}
_OPENPOSE_FILE = re.compile(r"(?P<stem>.*?)_?(?P<frame>\d+)_keypoints\.json")


def find_detections(folder: Path, video: Path) -> Path | None:
    """The detections of a video NAME.mp4 in a folder, or None.

    They are NAME.json (COCO), NAME.npz or a data_2d_custom_*.npz that holds the video (VideoPose3D), or OpenPose's
    NAME_000000000000_keypoints.json and so on, in the folder or in NAME/ in it.

    Raises:
        UserError: several of these, or a data_2d_custom_*.npz that cannot be read.
    """
    found = [p for p in (folder / f"{video.stem}{ending}" for ending in (".json", ".npz")) if p.is_file()]
    found += [p for p in (folder / video.stem, folder) if _openpose_files(p, video.stem)]
    shared = sorted(folder.glob("data_2d_custom_*.npz"))
    found += [npz for npz in shared if any(Path(name).stem == video.stem for name in _positions(npz))]
    if len(found) > 1:
        raise UserError(f"{video} has several detections: {', '.join(map(str, found))}; one is allowed")
    return found[0] if found else None


def read_detections(path: Path, video: Footage) -> Detections:
    """Read what `find_detections` found.

    Raises:
        UserError: not one of the formats, not of this video, or with numbers that are not finite.
    """
    if path.is_dir():
        return read_openpose(path, video)
    if path.suffix.lower() == ".npz":
        return read_videopose3d_custom(path, video)
    return read_coco_results(path, video)


def read_openpose(folder: Path, video: Footage) -> Detections:
    """OpenPose's output folder, one file a frame with BODY_25 keypoints; its confidences are cut at 1.

    Raises:
        UserError: as `read_detections`.
    """
    files = _openpose_files(folder, video.path.stem)
    if not files:
        raise UserError(f"{folder} has no file such as {video.path.stem}_000000000000_keypoints.json")
    wrong = sorted(set(range(video.num_frames)) ^ set(files))
    if wrong:
        first = f"frame {wrong[0]} is {'missing' if wrong[0] < video.num_frames else 'too much'}"
        raise UserError(f"{folder} has {len(files)} frames, {video.path.name} has {video.num_frames}; {first}")
    people: PeopleOfFrames = {}
    for frame, file in files.items():
        content = read_json(file)
        found = content.get("people") if isinstance(content, dict) else None
        if not isinstance(found, list) or not all(isinstance(person, dict) for person in found):
            raise UserError(f"{file}: no list of people; an OpenPose file has one, empty where nobody is")
        for person in found:
            points = joint_triples(person.get("pose_keypoints_2d", ()), OPENPOSE25, str(file))
            people.setdefault(frame, []).append((points, float(points[:, 2].sum())))
    return linked(people, OPENPOSE25, folder, video)


def read_videopose3d_custom(path: Path, video: Footage) -> Detections:
    """One video of VideoPose3D's data_2d_custom_NAME.npz: one person, always there, without confidences (taken as 1).

    Raises:
        UserError: as `read_detections`; or the file asks for code to be run.
    """
    positions, metadata = _positions(path), _dictionary(path, "metadata")
    name = next((n for n in positions if Path(n).stem == video.path.stem), None)
    if name is None:
        raise UserError(f"{path} has no video {video.path.stem}; it has {', '.join(sorted(positions))}")
    views: Sequence[Any] = positions[name].get("custom", ()) if isinstance(positions[name], Mapping) else ()
    kp2d_px = np.asarray(views[0]) if len(views) == 1 else np.zeros(0)
    layout = _VIDEOPOSE3D_LAYOUTS.get(str(metadata.get("layout_name", "coco")))
    if layout is None:
        allowed = ", ".join(_VIDEOPOSE3D_LAYOUTS)
        raise UserError(f"{path} has layout {metadata['layout_name']!r}; allowed: {allowed}")
    if kp2d_px.dtype.kind != "f" or kp2d_px.ndim != 3 or kp2d_px.shape[1:] != (len(layout), 2):
        raise UserError(f"{path}: {name} has shape {kp2d_px.shape}; one array (frames, {len(layout)}, 2) is needed")
    if len(kp2d_px) != video.num_frames:
        raise UserError(f"{path}: {name} has {len(kp2d_px)} frames, {video.path.name} has {video.num_frames}")
    size = metadata.get("video_metadata", {}).get(name)
    if size is not None:
        check_size((int(size["w"]), int(size["h"])), f"{path}: {name}", video)
    conf = np.ones((*kp2d_px.shape[:2], 1))
    points = np.concatenate((kp2d_px.astype(np.float64), conf), -1)
    check_points(points, path, video)
    person = DetectedPerson(first_frame=0, kp2d_px=kp2d_px.astype(np.float32), conf=conf[..., 0].astype(np.float32))
    return Detections(skeleton=layout, people=(person,))


def _openpose_files(folder: Path, stem: str) -> dict[int, Path]:
    """OpenPose's files of a video by frame."""
    found = {}
    for file in sorted(folder.glob("*_keypoints.json")):
        match = _OPENPOSE_FILE.fullmatch(file.name)
        if match and match["stem"] == stem:
            found[int(match["frame"])] = file
    return found


def _positions(path: Path) -> Mapping[str, Any]:
    return _dictionary(path, "positions_2d")


def _dictionary(path: Path, key: str) -> Mapping[str, Any]:
    content = load_object_npz(path)
    if not isinstance(content.get(key), Mapping):
        raise UserError(f"{path}: no dictionary {key} in it; VideoPose3D's custom files have positions_2d and metadata")
    found: Mapping[str, Any] = content[key]
    return found
