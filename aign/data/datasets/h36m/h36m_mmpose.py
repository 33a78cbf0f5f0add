"""Human3.6M as mmpose's preparation leaves it: lists of pictures with joints, and cameras.pkl (protocols 3.5 c).

annotation_body3d/{cameras.pkl, fps50/h36m_{train,test}.npz, fps10/...}; pictures, if extracted, in images/ beside it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from aign.data.datasets.h36m.h36m_files import (
    CAMERAS,
    LICENCE,
    check_agreement,
    check_camera,
    check_world,
    subject_number,
    to_world,
)
from aign.data.datasets.h36m.h36m_lists import (
    Listed,
    ListedView,
    frame_numbers,
    has_picture,
    listed_tables,
    memory_clips,
    picture_files,
    pictures_sha256,
    sequences,
)
from aign.data.datasets.h36m.h36m_rows import NpzRows
from aign.data.datasets.h36m.h36m_views import View, crop_stage
from aign.data.datasets.job import PRODUCER, Made, Stored, stage
from aign.data.datasets.raw_files import numbers, sha256_of
from aign.data.datasets.rig import H36M_INTRINSICS, Intrinsics, h36m_camera, see
from aign.data.store import Provenance
from aign.data.store.writer import Clip
from aign.framework.errors import UserError
from aign.framework.safe_pickle import load_pickle
from aign.geometry.camera import CalibratedCamera, Rigid
from aign.geometry.skeleton import H36M17

LISTS = ("h36m_train.npz", "h36m_test.npz")
RATES = ("fps50", "fps10")


def read_cameras(path: Path) -> Mapping[tuple[str, str], CalibratedCamera]:
    """The cameras of cameras.pkl by subject and name.

    Convention: its R is the transpose of ours (camera to world) and T the camera's place in metres, so that
    x_world = R x_cam + T; f, c in pixels, k = k1 k2 k3, p = p1 p2.

    Raises:
        UserError: not such a file, or it asks for other things than arrays.
    """
    try:
        return _read_cameras(str(path), path.stat().st_mtime_ns)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


@lru_cache(maxsize=4)
def _read_cameras(path: str, _: int) -> Mapping[tuple[str, str], CalibratedCamera]:
    content = load_pickle(path)
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path} holds {type(content).__name__}; a dictionary by (subject, camera) is needed")
    return {_key(key, path): _camera(_key(key, path), value, path) for key, value in content.items()}


def _key(key: object, path: str) -> tuple[str, str]:
    if isinstance(key, tuple) and len(key) == 2 and isinstance(key[0], str) and key[1] in CAMERAS:
        return key[0], key[1]
    raise UserError(f"{path}: camera {key!r}; keys like ('S1', '54138969') are needed")


def _camera(key: tuple[str, str], value: object, path: str) -> CalibratedCamera:
    where = f"{path}: camera {key}"
    fields = {"R": 9, "T": 3, "f": 2, "c": 2, "k": 3, "p": 2}
    if not isinstance(value, Mapping) or not set(fields) <= set(value):
        raise UserError(f"{where} lacks one of {', '.join(fields)}")
    read = {name: _flat(value[name], size, f"{where}: {name}") for name, size in fields.items()}
    cam_to_world = read["R"].reshape(3, 3)
    if np.abs(cam_to_world @ cam_to_world.T - np.eye(3)).max() > 1e-3 or np.linalg.det(cam_to_world) < 0:
        raise UserError(f"{where}: R is not a rotation")
    if not 0.5 <= np.linalg.norm(read["T"]) <= 20:
        raise UserError(f"{where} stands {np.linalg.norm(read['T']):.4g} m from the middle; 0.5 to 20 m is allowed")
    known = H36M_INTRINSICS[CAMERAS.index(key[1])]
    width, height = value.get("w", known.image_size_px[0]), value.get("h", known.image_size_px[1])
    if not (isinstance(width, int | np.integer) and isinstance(height, int | np.integer)):
        raise UserError(f"{where}: w, h are {width!r}, {height!r}; whole pixels are needed")
    (fx, fy), (cx, cy), (k1, k2, k3), (p1, p2) = (read[name].tolist() for name in "fckp")
    lens = Intrinsics(
        name=key[1],
        intrinsics_px=(fx, fy, cx, cy),
        distortion=(k1, k2, k3, p1, p2),
        image_size_px=(int(width), int(height)),
    )
    rot = cam_to_world.T
    return h36m_camera(lens, Rigid(rot=torch.from_numpy(rot.copy()), trans_m=torch.from_numpy(-rot @ read["T"])))


def _flat(value: Any, size: int, where: str) -> Float64[np.ndarray, " n"]:
    array = np.asarray(value)
    if array.size != size:
        raise UserError(f"{where} has shape {array.shape}; {size} numbers are needed")
    return numbers(array.reshape(-1), (size,), where)


@dataclass(frozen=True, kw_only=True)
class MmposeSequence:
    """One sequence of one list in all its cameras.

    Attributes:
        file: the list.
        cameras: cameras.pkl.
        images: the folder that the pictures' names start from, or None without pictures.
        subject, stem: the sequence.
        views: its rows.
    """

    file: Path
    cameras: Path
    images: Path | None
    subject: str
    stem: str
    views: tuple[ListedView, ...]

    @property
    def source(self) -> str:
        """File and sequence."""
        return f"{self.file}:{self.subject}/{self.stem}"

    @property
    def table_groups(self) -> tuple[tuple[str, ...], ...]:
        """Views of the cameras, and the memory."""
        return ((*(("frames",) if self.images else ()), "keypoints", "labels"), ("memory_pose",))

    def provenance(self, table: str) -> Provenance:
        """Hash of the list, the cameras and, for frames, the pictures' names and sizes."""
        pictures: tuple[str, ...] = ()
        if self.images is not None and table == "frames":
            pictures = (pictures_sha256([self.images], NpzRows(self.file), self.views),)
        crop = (crop_stage(),) if self.images and table != "memory_pose" else ()
        return Provenance(
            source_hashes=(
                *(sha256_of(self.file), sha256_of(self.cameras), *pictures),
                f"{self.subject}/{self.stem}",
            ),
            stages=(stage("h36m-mmpose", "1"), *crop),
            skeleton=H36M17.name,
            num_joints=len(H36M17),
            licence=LICENCE,
            producer=PRODUCER,
        )

    def clips(self, wanted: Collection[str], stored: Stored) -> Made:
        """The wanted tables.

        Raises:
            UserError: rows, cameras or pictures are damaged, missing or do not fit together.
        """
        listed = [self._listed(view) for view in self.views]
        key = {"sequence": f"{self.subject}/{self.stem}", "subject": self.subject, "source": self.source}
        left_out: list[str] = []
        tables: dict[str, list[Clip]] = listed_tables(key, listed, wanted, left_out)
        if "memory_pose" in wanted:
            tables["memory_pose"] = memory_clips(key, listed)
        return Made(tables=tables, left_out=tuple(left_out))

    def _listed(self, view: ListedView) -> Listed:
        rows, where = NpzRows(self.file), f"{self.source} camera {view.camera}"
        names = rows.take("imgname", view.runs).tolist()
        order_numbers, order = frame_numbers(names, where)
        part = numbers(rows.take("part", view.runs), (None, 17, 3), f"{where}: part")[order]
        joints = numbers(rows.take("S", view.runs), (None, 17, 4), f"{where}: S")[order]
        camera = self._camera(view)
        check_camera(joints[..., :3], f"{where}: S")
        check_world(to_world(joints[..., :3], camera), f"{where}: S in the world of {self.cameras.name}")
        seen, valid = part[..., 2] > 0, joints[..., 3] > 0
        sight = see(camera, to_world(joints[..., :3], camera))
        check_agreement(part[..., :2], sight.kp2d_px, seen & valid & sight.inside, where)
        conf = seen.astype(np.float32)
        pictures = picture_files([self.images], [names[i] for i in order], self.source) if self.images else ()
        return Listed(
            view=View(
                camera=camera,
                kp2d_px=part[..., :2],
                kp2d_conf=conf,
                joints_cam_m=np.where(valid[..., None], joints[..., :3], 0),
                joints_valid=valid,
            ),
            numbers=order_numbers,
            pictures=pictures,
            boxes_px=part[..., :2],
            boxes_conf=conf,
        )

    def _camera(self, view: ListedView) -> CalibratedCamera:
        cameras = read_cameras(self.cameras)
        if (self.subject, view.camera) not in cameras:
            raise UserError(f"{self.cameras} has no camera {view.camera} of {self.subject}, which {self.file} has")
        return cameras[self.subject, view.camera]


def lists(path: Path) -> list[Path]:
    """The lists of a folder (of the highest frame rate that is there), or the one that is named."""
    if path.is_file():
        return [path]
    for folder in (path / "annotation_body3d", path):
        for rate in (*RATES, ""):
            found = [folder / rate / name for name in LISTS if (folder / rate / name).is_file()]
            if found:
                return found
    return []


def _cameras_of(file: Path) -> Path:
    beside = file.with_name("cameras.pkl")
    return beside if beside.is_file() else file.parent.parent / "cameras.pkl"


def looks_like(path: Path) -> bool:
    """Whether a folder (or list) has this layout."""
    return any(file.name in LISTS and _cameras_of(file).is_file() for file in lists(path)[:1])


def missing(path: Path) -> list[str]:
    """What is needed and not there, and where it comes from."""
    found = lists(path)
    if not found:
        return [f"annotation_body3d/{RATES[0]}/{LISTS[0]} (from mmpose's preprocess_h36m.py)"]
    cameras = _cameras_of(found[0])
    return [] if cameras.is_file() else [f"{cameras} (from mmpose's preprocess_h36m.py)"]


def found(path: Path) -> str:
    """What is there, in one line."""
    jobs = plan(path)
    subjects = list(dict.fromkeys(job.subject for job in jobs))
    files = ", ".join(f"{file.parent.name}/{file.name}" for file in lists(path))
    pictured = sum(job.images is not None for job in jobs)
    return f"Human3.6M (mmpose {files}): {', '.join(subjects)}; {len(jobs)} sequences, {pictured} with pictures"


def plan(path: Path) -> list[MmposeSequence]:
    """Jobs of the root folder, of annotation_body3d, of one rate's folder, or of one list.

    Raises:
        UserError: no list or no cameras.pkl there, or a list that is not of this layout.
    """
    lines = missing(path)
    if lines:
        raise UserError(f"{path} lacks {'; '.join(lines)}")
    jobs = []
    for file in lists(path):
        bases = [p for p in (file.parent, *file.parents[1:4]) if (p / "images").is_dir()]
        for (subject, stem), views in sequences(NpzRows(file)).items():
            folders = [p / "images" for p in bases if any(has_picture([p / "images"], v.first_name) for v in views)]
            jobs.append(
                MmposeSequence(
                    file=file,
                    cameras=_cameras_of(file),
                    images=folders[0] if folders else None,
                    subject=subject,
                    stem=stem,
                    views=views,
                )
            )
    return sorted(jobs, key=lambda job: (subject_number(job.subject), job.stem))
