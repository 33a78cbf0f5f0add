"""Human3.6M lists in SPIN's layout: h36m_valid_protocol{1,2}.npz and lists with `part` beside S (protocols 3.5 d).

S is root-centred: joints_cam_m has the pelvis at the origin. Where `part` is missing there are no keypoints. Cameras
are turned as metadata.xml beside the list says; without it they are taken to be level, which Human3.6M's nearly are.
"""

import zipfile
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from aign.data.datasets.h36m.h36m_cameras import subject_rig
from aign.data.datasets.h36m.h36m_files import LICENCE, check_y_down, subject_number
from aign.data.datasets.h36m.h36m_lists import (
    Listed,
    ListedView,
    frame_numbers,
    has_picture,
    listed_tables,
    picture_files,
    pictures_sha256,
    sequences,
)
from aign.data.datasets.h36m.h36m_rows import NpzRows
from aign.data.datasets.h36m.h36m_views import View, crop_stage
from aign.data.datasets.job import PRODUCER, Made, Stored, stage
from aign.data.datasets.raw_files import numbers, sha256_of
from aign.data.datasets.rig import H36M_INTRINSICS, h36m_camera
from aign.data.schema import BODY_EXTENT_M
from aign.data.store import Provenance
from aign.framework.errors import UserError
from aign.geometry.camera import CalibratedCamera, Rigid
from aign.geometry.skeleton import H36M17

FROM_S24 = (14, 2, 1, 0, 3, 4, 5, 16, 12, 17, 18, 9, 10, 11, 8, 7, 6)
"""Slots of SPIN's 24 joints (LSP's 14, then pelvis, thorax, spine, jaw, head and face) in the order of H36M-17."""
NEEDED = ("imgname", "center", "scale", "S")
VALID_LISTS = ("h36m_valid_protocol1.npz", "h36m_valid_protocol2.npz")
BOX_PX = 200.0
"""`scale` is the side of the person's box over this."""
BOX_MARGIN = 0.1
"""SPIN makes Human3.6M's boxes 0.9 times the person's: this brings back hands and feet."""
_LEVEL = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
"""Of a level camera in a world with z up that looks along +y."""


@dataclass(frozen=True, kw_only=True)
class SpinSequence:
    """One sequence of one list in all its cameras.

    Attributes:
        file: the list.
        metadata: metadata.xml, or None.
        images: folders that the pictures' names may start from; empty without pictures.
        subject, stem: the sequence.
        views: its rows.
        has_2d: whether the list has `part`.
    """

    file: Path
    metadata: Path | None
    images: tuple[Path, ...]
    subject: str
    stem: str
    views: tuple[ListedView, ...]
    has_2d: bool

    @property
    def source(self) -> str:
        """File and sequence."""
        return f"{self.file}:{self.subject}/{self.stem}"

    @property
    def table_groups(self) -> tuple[tuple[str, ...], ...]:
        """Views of the cameras. Root-centred joints are no motion in a world, so there is no memory."""
        return ((*(("frames",) if self.images else ()), *(("keypoints",) if self.has_2d else ()), "labels"),)

    @property
    def picture_lag(self) -> int:
        """By how many frames pictures are later than the joints they are listed with.

        SPIN's preparation of the validation lists reads one frame before its loop, so that the picture saved for frame
        i is frame i + 1 (protocols 3.5 d). Their time_s is that of the picture.
        """
        return int(self.file.name in VALID_LISTS)

    def provenance(self, table: str) -> Provenance:
        """Hash of the list, the calibration and, for frames, the pictures' names and sizes."""
        pictures: tuple[str, ...] = ()
        if self.images and table == "frames":
            pictures = (pictures_sha256(self.images, NpzRows(self.file), self.views),)
        calibration = () if self.metadata is None else (sha256_of(self.metadata),)
        crop = (crop_stage(margin_of_box=BOX_MARGIN, lag=self.picture_lag),) if self.images else ()
        cameras = "level" if self.metadata is None else self.metadata.name
        return Provenance(
            source_hashes=(sha256_of(self.file), *calibration, *pictures, f"{self.subject}/{self.stem}"),
            stages=(stage("spin-npz", "1", joints="pelvis at the origin", cameras=cameras), *crop),
            skeleton=H36M17.name,
            num_joints=len(H36M17),
            licence=LICENCE,
            producer=PRODUCER,
        )

    def clips(self, wanted: Collection[str], stored: Stored) -> Made:
        """The wanted tables.

        Raises:
            UserError: rows or pictures are damaged, missing or not of this layout.
        """
        listed = [self._listed(view) for view in self.views]
        key = {"sequence": f"{self.subject}/{self.stem}", "subject": self.subject, "source": self.source}
        left_out: list[str] = []
        tables = listed_tables(key, listed, wanted, left_out, self.picture_lag)
        return Made(tables=tables, left_out=tuple(left_out))

    def _listed(self, view: ListedView) -> Listed:
        rows, where = NpzRows(self.file), f"{self.source} camera {view.camera}"
        names = rows.take("imgname", view.runs).tolist()
        order_numbers, order = frame_numbers(names, where)
        slots = numbers(rows.take("S", view.runs), (None, 24, 4), f"{where}: S")[order][:, FROM_S24]
        joints, valid = slots[..., :3], slots[..., 3] > 0
        _check_centred(joints, f"{where}: S")
        corners = self._corners(rows, view, where)[order]
        kp2d, conf = np.zeros((len(order), 17, 2)), np.zeros((len(order), 17), np.float32)
        boxes, boxes_conf = corners, np.ones(corners.shape[:2])
        if self.has_2d:
            part = numbers(rows.take("part", view.runs), (None, 24, 3), f"{where}: part")[order][:, FROM_S24]
            kp2d, conf = part[..., :2], (part[..., 2] > 0).astype(np.float32)
        pictures = picture_files(self.images, [names[i] for i in order], self.source) if self.images else ()
        return Listed(
            view=View(
                camera=self._camera(view.camera),
                kp2d_px=kp2d,
                kp2d_conf=conf,
                joints_cam_m=np.where(valid[..., None], joints, 0),
                joints_valid=valid,
            ),
            numbers=order_numbers,
            pictures=pictures,
            boxes_px=boxes,
            boxes_conf=boxes_conf,
            margin=BOX_MARGIN,
        )

    def _corners(self, rows: NpzRows, view: ListedView, where: str) -> Float64[np.ndarray, "t 2 2"]:
        """Two corners of the listed boxes, which are what a picture is cut about."""
        centre = numbers(rows.take("center", view.runs), (None, 2), f"{where}: center")
        half = numbers(rows.take("scale", view.runs), (None,), f"{where}: scale")[:, None] * BOX_PX / 2
        if (half <= 0).any() or (half > 5000).any():
            low, high = half.min() * 2 / BOX_PX, half.max() * 2 / BOX_PX
            raise UserError(f"{where}: scale is from {low:.4g} to {high:.4g}; above 0 and at most 50 is needed")
        return np.asarray(np.stack((centre - half, centre + half), axis=1), np.float64)

    def _camera(self, name: str) -> CalibratedCamera:
        """Published lens; the pelvis is the origin of camera and world, so there is no translation."""
        nowhere = torch.zeros(3, dtype=torch.float64)
        if self.metadata is None:
            (lens,) = (lens for lens in H36M_INTRINSICS if lens.name == name)
            return h36m_camera(lens, Rigid(rot=_LEVEL, trans_m=nowhere))
        (camera,) = (camera for camera in subject_rig(self.metadata, self.subject) if camera.name == name)
        return replace(camera, world_to_cam=Rigid(rot=camera.world_to_cam.rot, trans_m=nowhere))


def _check_centred(joints_m: Float64[np.ndarray, "t 17 3"], where: str) -> None:
    off = float(np.abs(joints_m[:, 0]).max())
    if off > 1e-3:
        raise UserError(f"{where}: the pelvis is up to {off:.4g} from the origin; root-centred metres are needed")
    extent, (low, high) = float(np.median(np.ptp(joints_m, axis=1).max(axis=1))), BODY_EXTENT_M
    if not low <= extent <= high:
        raise UserError(
            f"{where}: bodies {extent:.4g} across; {low:g} to {high:g} metres are needed (got millimetres?)"
        )
    check_y_down(joints_m, where)


def lists(path: Path) -> list[Path]:
    """The Human3.6M lists of a folder, or the one that is named. Protocol 2 is a part of protocol 1."""
    if path.is_file():
        return [path]
    found = sorted(file for file in path.glob("h36m_*.npz") if _is_list(file))
    first = [file for file in found if file.name == VALID_LISTS[0]]
    return [file for file in found if not (first and file.name == VALID_LISTS[1])]


def _is_list(file: Path) -> bool:
    """By the names of the members, without reading them; mmpose's lists have joints of 17 rows, not 24."""
    if file.suffix != ".npz" or not zipfile.is_zipfile(file):
        return False
    rows = NpzRows(file)
    return set(NEEDED) <= set(rows.names) and rows.shape("S")[1:] == (24, 4)


def looks_like(path: Path) -> bool:
    """Whether a list, or a folder with such lists, has this layout."""
    return any(_is_list(file) for file in lists(path)[:1])


def missing(path: Path) -> list[str]:
    """What is needed and not there, and where it comes from."""
    return [] if lists(path) else [f"{VALID_LISTS[0]} (from SPIN's preprocess_datasets.py --eval_files)"]


def found(path: Path) -> str:
    """What is there, in one line."""
    jobs = plan(path)
    subjects = list(dict.fromkeys(job.subject for job in jobs))
    files = ", ".join(file.name for file in lists(path))
    pictured = sum(bool(job.images) for job in jobs)
    cameras = "metadata.xml" if jobs[0].metadata else "taken to be level (no metadata.xml)"
    return (
        f"Human3.6M (SPIN {files}): {', '.join(subjects)}; {len(jobs)} sequences, {pictured} with pictures; "
        f"joints are root-centred; cameras {cameras}"
    )


def plan(path: Path) -> list[SpinSequence]:
    """Jobs of a list or of a folder of lists.

    Raises:
        UserError: no list there, or one that is not of this layout.
    """
    lines = missing(path)
    if lines:
        raise UserError(f"{path} lacks {'; '.join(lines)}")
    jobs = []
    for file in lists(path):
        rows = NpzRows(file)
        lacking = [name for name in NEEDED if name not in rows.names]
        if lacking:
            raise UserError(f"{file} lacks {', '.join(lacking)}; it has {', '.join(rows.names)}")
        metadata = [folder / "metadata.xml" for folder in file.parents[:2] if (folder / "metadata.xml").is_file()]
        bases = (*file.parents[:3], file.parent / "h36m")
        for (subject, stem), views in sequences(rows).items():
            pictured = tuple(base for base in bases if any(has_picture([base], view.first_name) for view in views))
            jobs.append(
                SpinSequence(
                    file=file,
                    metadata=metadata[0] if metadata else None,
                    images=pictured,
                    subject=subject,
                    stem=stem,
                    views=views,
                    has_2d="part" in rows.names,
                )
            )
    return sorted(jobs, key=lambda job: (subject_number(job.subject), job.stem))
