"""Human3.6M as h36m-fetch leaves it (protocols 3.5 a): extracted/ (archives) and processed/ (annot.h5 and pictures).

processed/S1/Directions-1/{annot.h5, imageSequence/54138969/img_000001.jpg}: the frames it kept, numbered from 1, all
cameras one after another, joints in millimetres in each camera. metadata.xml says where the cameras stand, and which
sequence "Directions-1" is. processed/ is read where it is there; else extracted/, which has every frame.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float64, Int64

from aign.data.datasets.h36m.h36m_cameras import subject_rig
from aign.data.datasets.h36m.h36m_files import (
    LICENCE,
    check_agreement,
    check_camera,
    check_world,
    find_metadata,
    select_17,
    subject_folders,
    subject_number,
    to_world,
)
from aign.data.datasets.h36m.h36m_lists import Listed, listed_tables, memory_clips
from aign.data.datasets.h36m.h36m_metadata import read_takes, stem_of
from aign.data.datasets.h36m.h36m_official import found_of, jobs, missing_of
from aign.data.datasets.h36m.h36m_sequence import EXTRACTED, H36mSequence
from aign.data.datasets.h36m.h36m_silhouettes import BROKEN_HDF5
from aign.data.datasets.h36m.h36m_views import View, crop_stage
from aign.data.datasets.job import PRODUCER, Made, Stored, stage
from aign.data.datasets.raw_files import listing_sha256, numbers, sha256_of, some
from aign.data.datasets.rig import see
from aign.data.store import Provenance
from aign.data.store.writer import Clip
from aign.framework.errors import UserError
from aign.geometry.camera import CalibratedCamera
from aign.geometry.skeleton import H36M17

_FOLDER = re.compile(r"([A-Za-z]+)-(\d)")
_BODY_MM = (200.0, 4000.0)


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """annot.h5, with H36M-17 in metres."""

    kp2d_px: Float64[np.ndarray, "m 17 2"]
    joints_cam_m: Float64[np.ndarray, "m 17 3"]
    numbers: Int64[np.ndarray, " m"]
    cameras: Int64[np.ndarray, " m"]


def read_annotations(path: Path) -> Annotations:
    """Read annot.h5 (pose/2d, pose/3d, frame, camera; the universal skeleton and the fitted lenses are not used).

    Raises:
        UserError: missing, damaged, of other shapes, or not in millimetres.
    """
    names = ("pose/2d", "pose/3d", "frame", "camera")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            lost = [name for name in names if not isinstance(file.get(name), h5py.Dataset)]
            if lost:
                raise UserError(f"{path} lacks {', '.join(lost)}; it has {', '.join(file)}")
            kp2d, joints, frame, camera = (np.asarray(file[name]) for name in names)
    except BROKEN_HDF5 as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not a whole HDF5 file ({type(error).__name__}: {error})") from error
    rows = len(frame)
    joints_mm = select_17(numbers(joints, (rows, 32, 3), f"{path}: pose/3d"))
    extent, (low, high) = float(np.median(np.ptp(joints_mm, axis=1).max(axis=1))), _BODY_MM
    if not low <= extent <= high:
        raise UserError(f"{path}: bodies {extent:.4g} across; millimetres ({low:g} to {high:g}) are needed")
    return Annotations(
        kp2d_px=select_17(numbers(kp2d, (rows, 32, 2), f"{path}: pose/2d")),
        joints_cam_m=joints_mm / 1000,
        numbers=numbers(frame, (rows,), f"{path}: frame").astype(np.int64),
        cameras=numbers(camera, (rows,), f"{path}: camera").astype(np.int64),
    )


@dataclass(frozen=True, kw_only=True)
class FetchSequence:
    """One folder of processed/.

    Attributes:
        folder: with annot.h5.
        subject: e.g. "S1".
        action, trial: of the folder's name.
        metadata: the file with the calibration and the naming.
        pictured: whether there are pictures.
    """

    folder: Path
    subject: str
    action: str
    trial: int
    metadata: Path
    pictured: bool

    @property
    def source(self) -> str:
        """The folder."""
        return str(self.folder)

    @property
    def table_groups(self) -> tuple[tuple[str, ...], ...]:
        """Views of the cameras, and the memory."""
        return ((*(("frames",) if self.pictured else ()), "keypoints", "labels"), ("memory_pose",))

    def provenance(self, table: str) -> Provenance:
        """Hash of annot.h5, the calibration and, for frames, the pictures' names and sizes."""
        pictures: tuple[str, ...] = ()
        if self.pictured and table == "frames":
            pictures = (listing_sha256(list((self.folder / "imageSequence").glob("*/*.jpg"))),)
        crop = (crop_stage(),) if self.pictured and table != "memory_pose" else ()
        return Provenance(
            source_hashes=(
                *(sha256_of(self.folder / "annot.h5"), sha256_of(self.metadata), *pictures),
                f"{self.subject}/{self.folder.name}",
            ),
            stages=(stage("h36m-fetch", "1"), *crop),
            skeleton=H36M17.name,
            num_joints=len(H36M17),
            licence=LICENCE,
            producer=PRODUCER,
        )

    def clips(self, wanted: Collection[str], stored: Stored) -> Made:
        """The wanted tables.

        Raises:
            UserError: a file is missing, damaged, or does not fit the others.
        """
        stem = stem_of(read_takes(self.metadata), self.subject, self.action, self.trial)
        rig = subject_rig(self.metadata, self.subject)
        read = read_annotations(self.folder / "annot.h5")
        unknown = set(read.cameras.tolist()) - {int(camera.name) for camera in rig}
        if unknown:
            raise UserError(f"{self.source}: cameras {sorted(unknown)} are none of Human3.6M's")
        listed = [self._listed(camera, read) for camera in rig if (read.cameras == int(camera.name)).any()]
        key = {"sequence": f"{self.subject}/{stem}", "subject": self.subject, "source": self.source}
        left_out: list[str] = []
        tables: dict[str, list[Clip]] = listed_tables(key, listed, wanted, left_out)
        tables["memory_pose"] = memory_clips(key, listed)
        return Made(tables=tables, left_out=tuple(left_out))

    def _listed(self, camera: CalibratedCamera, read: Annotations) -> Listed:
        where = f"{self.source} camera {camera.name}"
        mine = np.flatnonzero(read.cameras == int(camera.name))
        mine = mine[np.argsort(read.numbers[mine], kind="stable")]
        found, joints = read.numbers[mine], read.joints_cam_m[mine]
        if found[0] < 1 or (np.diff(found) == 0).any():
            raise UserError(f"{where}: frame has numbers below 1 or a number twice")
        check_camera(joints, where)
        world = to_world(joints, camera)
        check_world(world, where)
        sight = see(camera, world)
        check_agreement(read.kp2d_px[mine], sight.kp2d_px, sight.inside, where)
        conf = sight.inside.astype(np.float32)
        return Listed(
            view=View(
                camera=camera,
                kp2d_px=read.kp2d_px[mine],
                kp2d_conf=conf,
                joints_cam_m=joints,
                joints_valid=np.ones(conf.shape, bool),
            ),
            numbers=found,
            pictures=self._pictures(camera.name, found) if self.pictured else (),
            boxes_px=read.kp2d_px[mine],
            boxes_conf=conf,
        )

    def _pictures(self, camera: str, found: Int64[np.ndarray, " t"]) -> tuple[Path, ...]:
        files = [self.folder / "imageSequence" / camera / f"img_{n:06d}.jpg" for n in found]
        lost = [str(file.relative_to(self.folder)) for file in files if not file.is_file()]
        if lost:
            raise UserError(f"{self.source}: {len(lost)} pictures of annot.h5 are not there: {some(lost)}")
        return tuple(files)


def _processed(path: Path) -> Path | None:
    """The folder of S1, S5, ... with annot.h5 in their folders."""
    for folder in (path / "processed", path):
        if any(True for subject in subject_folders(folder) for _ in subject.glob("*/annot.h5")):
            return folder
    return None


def _extracted(path: Path) -> Path | None:
    for folder in (path / "extracted", path):
        if any((s / where).is_dir() for s in subject_folders(folder) for where in _POSES):
            return folder
    return None


_POSES = (EXTRACTED.poses_3d, EXTRACTED.poses_mono, EXTRACTED.poses_2d)


def looks_like(path: Path) -> bool:
    """Whether a folder is h36m-fetch's, or its processed/ or extracted/."""
    return _processed(path) is not None or _extracted(path) is not None


def missing(path: Path) -> list[str]:
    """What is needed and not there, and where it comes from."""
    processed, extracted = _processed(path), _extracted(path)
    if processed is None and extracted is not None:
        return missing_of(extracted, EXTRACTED)
    if processed is None:
        return ["processed/S1/*/annot.h5 (from h36m-fetch's process_all.py)"]
    return [] if find_metadata(processed) else ["metadata.xml (from h36m-fetch, or from code-v1.2.zip)"]


def found(path: Path) -> str:
    """What is there, in one line."""
    processed, extracted = _processed(path), _extracted(path)
    if processed is None and extracted is not None:
        return found_of(extracted, EXTRACTED)
    there = [job for job in plan(path) if isinstance(job, FetchSequence)]
    subjects = list(dict.fromkeys(job.subject for job in there))
    pictured = sum(job.pictured for job in there)
    also = "; extracted/ is there too and not read: name it to have every frame" if extracted else ""
    return f"Human3.6M (h36m-fetch): {', '.join(subjects)}; {len(there)} sequences, {pictured} with pictures{also}"


def plan(path: Path) -> list[FetchSequence] | list[H36mSequence]:
    """Jobs of h36m-fetch's folder, or of its processed/ or extracted/.

    Raises:
        UserError: none of the files, or no metadata.xml.
    """
    processed, extracted = _processed(path), _extracted(path)
    if processed is None and extracted is not None:
        return jobs(extracted, EXTRACTED)
    lines = missing(path)
    metadata = None if processed is None else find_metadata(processed)
    if lines or processed is None or metadata is None:
        raise UserError(f"{path} lacks {'; '.join(lines)}")
    return [
        FetchSequence(
            folder=folder,
            subject=subject.name,
            action=named[1],
            trial=int(named[2]),
            metadata=metadata,
            pictured=any(True for _ in (folder / "imageSequence").glob("*/*.jpg")),
        )
        for subject in sorted(subject_folders(processed), key=lambda p: subject_number(p.name))
        for folder in sorted(file.parent for file in subject.glob("*/annot.h5"))
        for named in [_named(folder)]
    ]


def _named(folder: Path) -> re.Match[str]:
    match = _FOLDER.fullmatch(folder.name)
    if match is None:
        raise UserError(f"{folder}: folders of processed/ are named like Directions-1")
    return match
