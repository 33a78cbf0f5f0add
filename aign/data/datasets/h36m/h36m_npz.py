"""Human3.6M in VideoPose3D's layout: data_3d_h36m.npz, and if it is there data_2d_h36m_NAME.npz (protocols 3.5 b)."""

import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from aign.data.actions import canonical_action
from aign.data.datasets.h36m.h36m_cameras import calibrate, subject_rig
from aign.data.datasets.h36m.h36m_files import FPS, check_world, subject_number
from aign.data.datasets.job import (
    DETECTOR,
    PRODUCER,
    PROJECTED,
    Made,
    Recording,
    Stored,
    detector_stage,
    labelled_views,
    stage,
)
from aign.data.datasets.raw_files import sha256_of
from aign.data.datasets.rig import H36M_INTRINSICS, placed_rig
from aign.data.stages.detector_errors import measured_errors
from aign.data.store import Provenance
from aign.framework.errors import UserError
from aign.framework.safe_pickle import load_object_npz
from aign.geometry.camera import CalibratedCamera
from aign.geometry.skeleton import COCO17, H36M17, H36M32, MPII16, Skeleton, conversion, convert

T = TypeVar("T")

LAYOUTS = {("h36m", 17): H36M17, ("coco", 17): COCO17, ("mpii", 16): MPII16, ("h36m", 16): MPII16}
"""Joint sets of detections. Stacked-hourglass files have MPII's 16 also where they are named after Human3.6M."""
LICENCE = "human3.6m-layout: licence of the file's owner"


@lru_cache(maxsize=4)
def _load(path: str, key: str, _: int) -> Any:
    """One object of an npz; the file's modification time is part of the cache key."""
    members = load_object_npz(Path(path))
    if key not in members:
        raise UserError(f"{path} has {sorted(members)}; a file of this layout has {key!r}")
    value = members[key].item() if isinstance(members[key], np.ndarray) else members[key]
    if not isinstance(value, Mapping):
        raise UserError(f"{path}: {key} is a {type(value).__name__}; a dictionary by subject is needed")
    return value


def load(path: Path, key: str) -> Any:
    """The dictionary by subject that the file holds under `key`, read without running code."""
    if not path.is_file():
        raise UserError(f"no file {path}")
    return _load(str(path), key, path.stat().st_mtime_ns)


@dataclass(frozen=True, kw_only=True)
class H36mNpz:
    """One sequence of the file, in all its cameras.

    Attributes:
        path: data_3d_h36m.npz.
        detections: a data_2d file whose keypoints replace the projections, or None.
        subject: e.g. "S1".
        action: the file's own name, e.g. "Walking 1".
        cameras: where the cameras come from: "metadata.xml", "data_2d_h36m_gt.npz" or "placed".
        sha256: of the 3D file and of the detections.
        detector: whether the projections get a detector's errors.
    """

    path: Path
    detections: Path | None
    subject: str
    action: str
    cameras: str
    sha256: tuple[str, ...]
    detector: bool = False

    @property
    def source(self) -> str:
        """File and sequence."""
        return f"{self.path.name}:{self.subject}/{self.action}"

    @property
    def table_groups(self) -> tuple[tuple[str, ...], ...]:
        """Views of the cameras, and the memory."""
        return (("keypoints", "labels"), ("memory_pose",))

    def provenance(self, table: str) -> Provenance:
        """Hash of the files, the cameras and the keypoints."""
        name = self.detections.name if self.detections else "projection"
        errors = (detector_stage(),) if self.detector and table == "keypoints" else ()
        return Provenance(
            source_hashes=(*self.sha256, self.source),
            stages=(stage("h36m-npz", "1", cameras=self.cameras, keypoints=name), *errors),
            skeleton=H36M17.name,
            num_joints=len(H36M17),
            licence=LICENCE,
            producer=PRODUCER,
        )

    def joints_world_m(self) -> np.ndarray:
        """H36M-17 joints [t, 17, 3], metres, z up."""
        joints = np.asarray(load(self.path, "positions_3d")[self.subject][self.action])
        if joints.ndim != 3 or joints.shape[1:] != (32, 3) or len(joints) == 0:
            raise UserError(f"{self.source} has shape {joints.shape}; (frames, 32, 3) is needed, frames first")
        if not np.issubdtype(joints.dtype, np.floating):
            raise UserError(f"{self.source} has dtype {joints.dtype}; floating point metres are needed")
        converted, _ = convert(torch.from_numpy(joints.astype(np.float32)), H36M32, H36M17)
        check_world(converted.numpy(), self.source)
        return converted.numpy()

    def rig(self, joints_world_m: np.ndarray) -> tuple[CalibratedCamera, ...]:
        """The four cameras of this sequence."""
        if self.cameras == "metadata.xml":
            return subject_rig(self.path.with_name("metadata.xml"), self.subject)
        if self.cameras == "data_2d_h36m_gt.npz":
            world = dict(load(self.path, "positions_3d")[self.subject])
            pixels = _of_subject(load(self.path.with_name(self.cameras), "positions_2d"), self.subject, self.cameras)
            return calibrate(world, pixels, f"{self.path.parent}/{self.cameras}:{self.subject}")
        root = joints_world_m[:, 0, :2]
        middle = 0.5 * (root.min(0) + root.max(0))
        reach = float(np.linalg.norm(root - middle, axis=1).max())
        seed = zlib.crc32(f"{self.subject}/{self.action}".encode())
        return placed_rig((0, seed), (float(middle[0]), float(middle[1])), reach)

    def clips(self, wanted: Collection[str], stored: Stored) -> Made:
        """Keypoints, labels and memory of the sequence."""
        joints = self.joints_world_m()
        recording = Recording(
            sequence=f"{self.subject}/{self.action}",
            subject=self.subject,
            action=canonical_action(self.action),
            source=self.source,
            fps=FPS,
        )
        if self.detections is None:
            errors = measured_errors() if self.detector else None
            return Made(tables=labelled_views(recording, joints, self.rig(joints), errors=errors))
        layout, detected = self._detected()
        # Detections may be longer than the motion capture; the common part is kept (protocols 3.5 b).
        frames = min(len(joints), *(len(d) for d in detected))
        _, there = conversion(layout, H36M17)
        views = [convert(torch.from_numpy(d[:frames]), layout, H36M17)[0].numpy() for d in detected]
        tables = labelled_views(recording, joints[:frames], self.rig(joints), views)
        for clip in tables["keypoints"]:
            clip["kp2d_conf"][:, ~there.numpy()] = 0  # joints that this detector does not know
        return Made(tables=tables)

    def _detected(self) -> tuple[Skeleton, list[np.ndarray]]:
        """The detector's joints and what it saw in each camera."""
        assert self.detections is not None
        layout = detected_layout(self.detections)
        views = load(self.detections, "positions_2d").get(self.subject, {}).get(self.action)
        if views is None:
            raise UserError(f"{self.detections.name} has no {self.subject}/{self.action}, which {self.path.name} has")
        shapes = [np.shape(v) for v in views]
        if len(shapes) != len(H36M_INTRINSICS) or any(len(s) != 3 or s[1:] != (len(layout), 2) for s in shapes):
            raise UserError(
                f"{self.detections.name}: {self.subject}/{self.action} has shapes {shapes}; "
                f"4 of (frames, {len(layout)}, 2)"
            )
        return layout, [np.asarray(v, np.float32) for v in views]


def detected_layout(detections: Path) -> Skeleton:
    """The joint set of a data_2d file: `layout_name` and `num_joints` of its metadata, checked against its symmetry.

    Raises:
        UserError: a joint set that is not known, or sides that are not those of it.
    """
    content = load(detections, "metadata")
    name, count = str(content.get("layout_name", "h36m")), content.get("num_joints", 17)
    if (name, count) not in LAYOUTS:
        known = ", ".join(f"{n} ({c} joints)" for n, c in LAYOUTS)
        raise UserError(f"{detections.name} has layout {name!r} of {count} joints; allowed: {known}")
    layout = LAYOUTS[name, count]
    symmetry = content.get("keypoints_symmetry")
    sides = [{i for i, joint in enumerate(layout.joints) if joint.startswith(side)} for side in ("l_", "r_")]
    if symmetry is not None and [set(side) for side in symmetry] != sides:
        raise UserError(
            f"{detections.name}: left and right are {symmetry}, but {layout.name} has {[sorted(s) for s in sides]}"
        )
    return layout


def looks_like(path: Path) -> bool:
    """Whether a file or folder has this layout."""
    return _file(path).is_file() and _file(path).name == "data_3d_h36m.npz"


def missing(path: Path) -> list[str]:
    """What is needed and not there, and where it comes from."""
    return [] if _file(path).is_file() else ["data_3d_h36m.npz (from VideoPose3D's prepare_data_h36m.py)"]


def found(path: Path) -> str:
    """What is there, in one line."""
    positions = load(_file(path), "positions_3d")
    subjects = ", ".join(sorted(positions, key=subject_number))
    detections = _detections(_file(path))
    return (
        f"Human3.6M (VideoPose3D): {subjects}; {sum(map(len, positions.values()))} sequences; "
        f"2D: {', '.join(detections) or 'none, it is projected'}; "
        f"cameras: {next(iter(_calibrations(_file(path))), 'placed by us')}"
    )


def _file(path: Path) -> Path:
    return path / "data_3d_h36m.npz" if path.is_dir() else path


def _detections(file: Path) -> list[str]:
    return sorted(p.stem.removeprefix("data_2d_h36m_") for p in file.parent.glob("data_2d_h36m_*.npz"))


def _calibrations(file: Path) -> list[str]:
    return [name for name in ("metadata.xml", "data_2d_h36m_gt.npz") if file.with_name(name).is_file()]


def plan(path: Path, keypoints: str = "gt") -> list[H36mNpz]:
    """Jobs of a data_3d_h36m.npz or of the folder it lies in.

    Args:
        path: the file or folder.
        keypoints: "gt" for exact projections, "detector" for projections with the measured errors of a detector, or
            the NAME of data_2d_h36m_NAME.npz with detections.

    Raises:
        UserError: no such file, or it is not of this layout.
    """
    file = _file(path)
    positions = load(file, "positions_3d")
    detections = None if keypoints in PROJECTED else file.with_name(f"data_2d_h36m_{keypoints}.npz")
    if detections is not None and not detections.is_file():
        raise UserError(
            f"no {detections.name} beside {file.name}; there: {', '.join(_detections(file)) or 'none'}, or "
            f"{', '.join(PROJECTED)}"
        )
    if keypoints == DETECTOR and DETECTOR in _detections(file):
        raise UserError(
            f"--keypoints {DETECTOR} simulates a detector, but beside {file.name} lies data_2d_h36m_{DETECTOR}.npz; "
            "give that file another name"
        )
    calibrations = _calibrations(file)
    cameras = calibrations[0] if calibrations else "placed"
    if detections is not None and not calibrations:
        raise UserError(
            f"{detections.name} was seen by real cameras, so where they stood must be known: "
            f"put metadata.xml or data_2d_h36m_gt.npz beside {file.name}"
        )
    hashes = tuple(
        sha256_of(p) for p in (file, detections, *(file.with_name(name) for name in calibrations[:1])) if p is not None
    )
    return [
        H36mNpz(
            path=file,
            detections=detections,
            subject=s,
            action=a,
            cameras=cameras,
            sha256=hashes,
            detector=keypoints == DETECTOR,
        )
        for s in sorted(positions, key=subject_number)
        for a in sorted(positions[s])
    ]


def _of_subject(content: Mapping[str, T], subject: str, name: str) -> T:
    if subject not in content:
        raise UserError(f"{name} has no subject {subject}; it has {', '.join(sorted(content))}")
    return content[subject]
