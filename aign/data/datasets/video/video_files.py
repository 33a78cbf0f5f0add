"""Ordinary videos: frames, BlazePose keypoints, and the calibration where there is one."""

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from aign.data.assets import path as asset_path
from aign.data.assets import pose_nets
from aign.data.datasets.job import (
    PRODUCER,
    Made,
    Recording,
    Stored,
    calibration,
    cut,
    picture_columns,
    stage,
    whole_picture,
)
from aign.data.datasets.raw_files import sha256_of
from aign.data.datasets.video.pose2sim import fit_to_frames, read_qca
from aign.data.pixels import JPEG_QUALITY, encode_jpeg
from aign.data.stages.blazepose import get_detector
from aign.data.stages.decode import read_frames
from aign.data.stages.video_index import index_video
from aign.data.store import Provenance
from aign.framework.errors import UserError
from aign.geometry.camera import CalibratedCamera, Pinhole, Rigid
from aign.geometry.skeleton import BLAZEPOSE33

EMBEDDED = "demo-videos"
SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
FRAME_SIDE_PX = 640
"""Longer side of the stored pictures; keypoints stay in the pixels of the video."""
ASSUMED_FOCAL = 1.1
"""Focal length over the longer side where nothing is known: 49 degrees, a usual camera. Marked "assumed"."""
USUAL_FPS = 30.0
CALIBRATION = "*.qca.txt"
"""Qualisys, as Pose2Sim has it."""


@dataclass(frozen=True, kw_only=True)
class VideoFile:
    """One video.

    Attributes:
        path: the file.
        sequence: id of the motion; synchronised cameras share it.
        camera: name of the view.
        calibrated: its calibration, or None.
        sha256: of the file.
        nets: which landmark net is used.
        licence: of the video.
    """

    path: Path
    sequence: str
    camera: str
    calibrated: CalibratedCamera | None
    sha256: str
    nets: str
    licence: str

    @property
    def source(self) -> str:
        """The file."""
        return str(self.path)

    @property
    def table_groups(self) -> tuple[tuple[str, ...], ...]:
        """Pictures and keypoints of the same clips."""
        return (("frames", "keypoints"),)

    def provenance(self, table: str) -> Provenance:
        """Hash of the file, the net and the calibration."""
        camera = "assumed" if self.calibrated is None else self.calibrated.name
        return Provenance(
            source_hashes=(self.sha256,),
            stages=(
                stage("decode", "2", side_px=FRAME_SIDE_PX, quality=JPEG_QUALITY),
                stage("blazepose", "1", net=self.nets, calibration=camera),
            ),
            skeleton=BLAZEPOSE33.name,
            num_joints=len(BLAZEPOSE33),
            licence=self.licence,
            producer=PRODUCER,
        )

    def clips(self, wanted: Collection[str], stored: Stored) -> Made:
        """Pictures and keypoints.

        Raises:
            UserError: not a video, damaged, or nobody in it.
        """
        index = index_video(self.path)
        size = (index.width_px, index.height_px)
        pictures: list[bytes] = []
        found = get_detector().track(_kept(self.path, pictures))
        if not found.found:
            raise UserError(f"{self.path}: no person found in {len(pictures)} frames; one is needed")
        camera = (
            assumed_camera(self.camera, *size) if self.calibrated is None else fit_to_frames(self.calibrated, *size)
        )
        recording = Recording(
            sequence=self.sequence,
            subject=self.sequence,
            action="video",
            source=self.source,
            fps=index.fps or USUAL_FPS,
        )
        lens = calibration(camera, "assumed" if self.calibrated is None else "calibration")
        sizes = picture_columns(size, whole_picture(size), frame_size(*size), lens["intrinsics_px"])
        times_s = index.time_s[: len(pictures)].astype(np.float32)
        return Made(
            tables={
                "frames": cut(recording, self.camera, {"image_jpeg": pictures, "time_s": times_s}, sizes),
                "keypoints": cut(
                    recording, self.camera, {"kp2d_px": found.kp2d_px, "kp2d_conf": found.kp2d_conf}, lens
                ),
            }
        )


def frame_size(width_px: int, height_px: int) -> tuple[int, int]:
    """Size of the stored pictures: never enlarged."""
    scale = min(1.0, FRAME_SIDE_PX / max(width_px, height_px))
    return max(1, round(width_px * scale)), max(1, round(height_px * scale))


def assumed_camera(name: str, width_px: int, height_px: int) -> CalibratedCamera:
    """A camera of a usual field of view, looking along its axis."""
    focal = ASSUMED_FOCAL * max(width_px, height_px)
    pinhole = Pinhole.of(torch.tensor([focal, focal, (width_px - 1) / 2, (height_px - 1) / 2], dtype=torch.float64))
    still = Rigid(rot=torch.eye(3, dtype=torch.float64), trans_m=torch.zeros(3, dtype=torch.float64))
    return CalibratedCamera(name=name, pinhole=pinhole, world_to_cam=still, image_size_px=(width_px, height_px))


def _kept(path: Path, pictures: list[bytes]) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The frames one by one, each also stored as a small JPEG."""
    for frame in read_frames(path):
        height, width = frame.shape[:2]
        small = np.asarray(cv2.resize(frame, frame_size(width, height), interpolation=cv2.INTER_AREA), np.uint8)
        pictures.append(encode_jpeg(small))
        yield frame


def looks_like(path: Path) -> bool:
    """Whether there is a video."""
    return str(path) == EMBEDDED or bool(_files(path))


def found(path: Path) -> str:
    """One line: how many videos, and whether their cameras are known."""
    if str(path) == EMBEDDED:
        return "video: the 4 calibrated views of the sample"
    known = "calibrated" if path.is_dir() and len(list(path.glob(CALIBRATION))) == 1 else "cameras not known: assumed"
    return f"video: {len(_files(path))} files, {known}"


def missing(path: Path) -> list[str]:
    """Nothing is missing: a calibration is welcome, not needed."""
    return []


def _files(path: Path) -> list[Path]:
    return sorted(p for p in ([path] if path.is_file() else path.rglob("*")) if p.suffix.lower() in SUFFIXES)


def plan(path: Path) -> list[VideoFile]:
    """Jobs of a video, of a folder of videos, or of the sample videos.

    A folder with exactly one Qualisys calibration (*.qca.txt) of as many cameras as it has videos is a synchronised
    recording, its videos in the calibration's order by name.

    Raises:
        UserError: no video there, or the nets were not pulled.
    """
    if str(path) == EMBEDDED:
        files = [asset_path(f"pose2sim_cam{n:02d}") for n in (1, 2, 3, 4)]
        return _jobs(files, read_qca(asset_path("pose2sim_calibration")), "pose2sim-demo", "BSD-3-Clause (Pose2Sim)")
    files = _files(path)
    if not files:
        raise UserError(f"no video in {path}; allowed endings: {', '.join(SUFFIXES)}")
    found = sorted(path.glob(CALIBRATION)) if path.is_dir() else []
    cameras = read_qca(found[0]) if len(found) == 1 else ()
    if cameras and len(cameras) != len(files):
        raise UserError(f"{found[0]} has {len(cameras)} cameras, {path} has {len(files)} videos; as many are needed")
    return _jobs(files, cameras, path.name, "licence of the video's owner")


def _jobs(files: list[Path], cameras: tuple[CalibratedCamera, ...], name: str, licence: str) -> list[VideoFile]:
    nets = pose_nets().kind
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
        digests = list(pool.map(sha256_of, files))
    return [
        VideoFile(
            path=file,
            sequence=name if cameras else f"{file.stem}-{digest[:8]}",
            camera=file.stem,
            calibrated=cameras[index] if cameras else None,
            sha256=digest,
            nets=nets,
            licence=licence,
        )
        for index, (file, digest) in enumerate(zip(files, digests, strict=True))
    ]
