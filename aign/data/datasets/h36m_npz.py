"""Human3.6M in VideoPose3D's layout: data_3d_h36m.npz, and if it is there data_2d_h36m_NAME.npz (protocols 3.5 b)."""

import hashlib
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from aign.data.actions import canonical_action
from aign.data.datasets.h36m_cameras import calibrate, read_metadata
from aign.data.datasets.job import PRODUCER, Made, Recording, Stored, labelled_views, stage
from aign.data.datasets.rig import H36M_INTRINSICS, placed_rig
from aign.data.store import Provenance
from aign.framework.errors import UserError
from aign.framework.safe_pickle import load_object_npz
from aign.geometry.camera import CalibratedCamera
from aign.geometry.skeleton import H36M17, H36M32, convert

T = TypeVar("T")

FPS = 50.0
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
    """

    path: Path
    detections: Path | None
    subject: str
    action: str
    cameras: str
    sha256: tuple[str, ...]

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
        return Provenance(
            source_hashes=(*self.sha256, self.source),
            stages=(stage("h36m-npz", "1", cameras=self.cameras, keypoints=name),),
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
        return converted.numpy()

    def rig(self, joints_world_m: np.ndarray) -> tuple[CalibratedCamera, ...]:
        """The four cameras of this sequence."""
        if self.cameras == "metadata.xml":
            return _of_subject(read_metadata(self.path.with_name("metadata.xml")), self.subject, self.cameras)
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
        detected = None if self.detections is None else self._detected()
        frames = len(joints) if detected is None else min(len(joints), *(len(d) for d in detected))
        if detected is not None:
            # Detections may be longer than the motion capture; the common part is kept (protocols 3.5 b).
            detected = [d[:frames] for d in detected]
        return Made(tables=labelled_views(recording, joints[:frames], self.rig(joints), detected))

    def _detected(self) -> list[np.ndarray]:
        assert self.detections is not None
        layout = load(self.detections, "metadata").get("layout_name", "h36m")
        if layout != "h36m":
            raise UserError(f"{self.detections.name} has layout {layout!r}; h36m (17 joints in its order) can be read")
        views = load(self.detections, "positions_2d").get(self.subject, {}).get(self.action)
        if views is None:
            raise UserError(f"{self.detections.name} has no {self.subject}/{self.action}, which {self.path.name} has")
        if len(views) != len(H36M_INTRINSICS) or any(v.ndim != 3 or v.shape[1:] != (17, 2) for v in views):
            shapes = [np.shape(v) for v in views]
            raise UserError(
                f"{self.detections.name}: {self.subject}/{self.action} has shapes {shapes}; 4 of (frames, 17, 2)"
            )
        return [np.asarray(v, np.float32) for v in views]


def plan(path: Path, keypoints: str = "gt") -> list[H36mNpz]:
    """Jobs of a data_3d_h36m.npz or of the folder it lies in.

    Args:
        path: the file or folder.
        keypoints: "gt" for exact projections, or the NAME of data_2d_h36m_NAME.npz with detections.

    Raises:
        UserError: no such file, or it is not of this layout.
    """
    file = path / "data_3d_h36m.npz" if path.is_dir() else path
    positions = load(file, "positions_3d")
    detections = None if keypoints == "gt" else file.with_name(f"data_2d_h36m_{keypoints}.npz")
    if detections is not None and not detections.is_file():
        there = sorted(p.stem.removeprefix("data_2d_h36m_") for p in file.parent.glob("data_2d_h36m_*.npz"))
        raise UserError(f"no {detections.name} beside {file.name}; there: {', '.join(there) or 'none'}, or gt")
    found = [name for name in ("metadata.xml", "data_2d_h36m_gt.npz") if file.with_name(name).is_file()]
    cameras = found[0] if found else "placed"
    if detections is not None and not found:
        raise UserError(
            f"{detections.name} was seen by real cameras, so where they stood must be known: "
            f"put metadata.xml or data_2d_h36m_gt.npz beside {file.name}"
        )
    hashes = tuple(
        _sha256(p) for p in (file, detections, *(file.with_name(name) for name in found[:1])) if p is not None
    )
    return [
        H36mNpz(path=file, detections=detections, subject=s, action=a, cameras=cameras, sha256=hashes)
        for s in sorted(positions, key=_subject_number)
        for a in sorted(positions[s])
    ]


def _of_subject(content: Mapping[str, T], subject: str, name: str) -> T:
    if subject not in content:
        raise UserError(f"{name} has no subject {subject}; it has {', '.join(sorted(content))}")
    return content[subject]


def _subject_number(subject: str) -> tuple[int, str]:
    digits = "".join(c for c in subject if c.isdigit())
    return (int(digits) if digits else 0, subject)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
