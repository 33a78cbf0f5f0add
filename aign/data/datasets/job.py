"""A unit of preprocessing: one source that becomes one part of each of its tables."""

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32

from aign import __version__
from aign.data.datasets.rig import see
from aign.data.stages.detector_errors import VERSION as DETECTOR_ERRORS
from aign.data.stages.detector_errors import DetectorErrors, apply_errors, measured_sha256
from aign.data.store import PartRecord, Provenance, Quarantined, Stage, find_part, write_part
from aign.data.store.reader import read_clips
from aign.data.store.writer import Clip, checked_keys
from aign.framework.errors import StorageError, UserError
from aign.geometry.camera import CalibratedCamera

PRODUCER = f"aign {__version__}"
DETECTOR = "detector"
PROJECTED = ("gt", DETECTOR)
"""Keypoints that are made of projections: exact, or with a detector's errors."""
CLIP_FRAMES = 128
"""Frames in one row of the store; a sequence's last clip may be shorter."""


@runtime_checkable
class Job(Protocol):
    """One source. It pickles, so it can run in any worker process."""

    @property
    def source(self) -> str:
        """What a person calls it; named in errors and in the quarantine."""
        ...

    @property
    def table_groups(self) -> tuple[tuple[str, ...], ...]:
        """Tables it makes, grouped by which hold the same clips."""
        ...

    def provenance(self, table: str) -> Provenance:
        """What decides a table's content, without making it: a stage that a table does not depend on is not in it.

        Raises:
            UserError: the source cannot be read.
        """
        ...

    def clips(self, wanted: Collection[str], stored: "Stored") -> "Made":
        """The clips of the wanted tables; others may be there too and are not written.

        Args:
            wanted: tables that have to be made.
            stored: those of this job's tables that are there already, for jobs that can start from them.

        Raises:
            UserError: the source cannot be used; it is quarantined with this message.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a job made.

    Attributes:
        tables: clips by table.
        left_out: what the source also held and why it is not among the clips, a line each.
    """

    tables: Mapping[str, Sequence[Clip]]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The tables of a job that its store already holds.

    Attributes:
        url: the store.
        records: by table.
    """

    url: str
    records: Mapping[str, PartRecord]

    def clips(self, table: str) -> list[dict[str, Any]]:
        """The clips of a stored table as they were written.

        Raises:
            UserError: the part is damaged.
        """
        return read_clips(self.url, self.records[table])


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A motion by one subject: the key of every clip cut from it."""

    sequence: str
    subject: str
    action: str
    source: str
    fps: float


def cut(
    recording: Recording, camera: str, per_frame: Mapping[str, Any], per_clip: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Cut consecutive clips of CLIP_FRAMES frames out of a recording."""
    total = len(next(iter(per_frame.values())))
    clips = []
    for start in range(0, total, CLIP_FRAMES):
        part = slice(start, start + CLIP_FRAMES)
        clips.append(
            {
                **vars(recording),
                "camera": camera,
                "frame_start": start,
                "num_frames": min(CLIP_FRAMES, total - start),
                **{name: values[part] for name, values in per_frame.items()},
                **per_clip,
            }
        )
    return clips


@dataclass(frozen=True, kw_only=True)
class Unusable:
    """A source that was found to be unusable while the work was planned: it goes to the quarantine like any other.

    Attributes:
        inner: the job it would have been.
        error: what is wrong with it.
    """

    inner: Job
    error: str

    @property
    def source(self) -> str:
        """Of the job it would have been."""
        return self.inner.source

    @property
    def table_groups(self) -> tuple[tuple[str, ...], ...]:
        """Of the job it would have been."""
        return self.inner.table_groups

    def provenance(self, table: str) -> Provenance:
        """Never.

        Raises:
            UserError: always.
        """
        raise UserError(self.error)

    def clips(self, wanted: Collection[str], stored: Stored) -> Made:
        """Never.

        Raises:
            UserError: always.
        """
        raise UserError(self.error)


def tables_of(job: Job) -> list[str]:
    """All tables a job makes."""
    return [table for group in job.table_groups for table in group]


def run(job: Job, store_url: str, part_number: int) -> tuple[PartRecord, ...] | Quarantined:
    """Make those of a job's parts that are not there; a source that cannot be used is quarantined.

    Raises:
        StorageError: the store cannot be written.
    """
    try:
        provenance = {table: job.provenance(table) for table in tables_of(job)}
    except UserError as error:
        return Quarantined(source=job.source, stage="read", error=str(error))
    found: dict[str, PartRecord] = {}
    for table, made_by in provenance.items():
        found |= find_part(store_url, part_number, (table,), made_by)
    wanted = [table for table in provenance if table not in found]
    if not wanted:
        return tuple(found[table] for table in provenance)
    try:
        made = job.clips(wanted, Stored(url=store_url, records=found))
        for group in job.table_groups:
            checked_keys({table: made.tables[table] for table in group if table in wanted})
        for table in wanted:
            clips = {table: made.tables[table]}
            (found[table],) = write_part(store_url, part_number, clips, provenance[table], made.left_out)
        return tuple(found[table] for table in provenance)
    except StorageError:
        raise
    except UserError as error:
        return Quarantined(source=job.source, stage=provenance[wanted[0]].stages[-1].name, error=str(error))


def stage(name: str, version: str, **params: Any) -> Stage:
    """A stage of the chain that is hashed into the names of what it makes."""
    return Stage(name=name, version=version, params=params)


def detector_stage() -> Stage:
    """The stage that puts the measured errors of a detector on projections."""
    return stage("detector-errors", DETECTOR_ERRORS, statistics=measured_sha256())


def labelled_views(
    recording: Recording,
    joints_world_m: Float[np.ndarray, "t j 3"],
    rig: Sequence[CalibratedCamera],
    detected_px: Sequence[Float[np.ndarray, "t j 2"]] | None = None,
    errors: DetectorErrors | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Tables keypoints, labels and memory_pose of a motion seen by a rig.

    Args:
        recording: its key.
        joints_world_m: the motion.
        rig: the views; keypoints projected outside an image have confidence 0.
        detected_px: keypoints of each view that take the place of the projections, with confidence 1.
        errors: a detector's, drawn for each view from the sequence's name and the camera's, and put on the projections.
    """
    keypoints: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    for view, camera in enumerate(rig):
        sight = see(camera, joints_world_m)
        kp2d, conf = sight.kp2d_px, sight.inside.astype(np.float32)
        if detected_px is not None:
            kp2d, conf = detected_px[view], np.ones_like(conf)
        if errors is not None:
            seed = zlib.crc32(f"{recording.sequence}/{camera.name}".encode())
            kp2d, conf = apply_errors(kp2d, conf, seed, errors, recording.fps)
        keypoints += cut(
            recording,
            camera.name,
            {"kp2d_px": kp2d, "kp2d_conf": conf},
            calibration(camera),
        )
        labels += cut(
            recording,
            camera.name,
            {"joints_cam_m": sight.joints_cam_m, "joints_valid": np.ones(sight.inside.shape, bool)},
            {
                "rot_world_to_cam": camera.world_to_cam.rot.float().numpy().reshape(9),
                "trans_world_to_cam_m": camera.world_to_cam.trans_m.float().numpy(),
            },
        )
    rotations = np.stack([c.world_to_cam.rot.float().numpy().reshape(9) for c in rig])
    memory = cut(recording, "", {"joints_world_m": joints_world_m}, {"rig_rot_world_to_cam": rotations})
    return {"keypoints": keypoints, "labels": labels, "memory_pose": memory}


def calibration(camera: CalibratedCamera, source: str = "calibration") -> dict[str, Any]:
    """The per-clip camera columns of the keypoints table; source is "calibration" or "assumed"."""
    lens = camera.pinhole
    return {
        "intrinsics_px": torch.cat((lens.focal_px, lens.centre_px)).float().numpy(),
        "distortion": lens.distortion.float().numpy(),
        "image_size_px": np.asarray(camera.image_size_px, np.int32),
        "intrinsics_source": source,
    }


def whole_picture(size_px: tuple[int, int]) -> Float32[np.ndarray, "4"]:
    """The crop that leaves nothing out of a picture of w, h pixels."""
    return np.array([-0.5, -0.5, size_px[0] - 0.5, size_px[1] - 0.5], np.float32)


def picture_columns(
    image_size_px: tuple[int, int],
    crop_xyxy_px: Float32[np.ndarray, "4"],
    frame_size_px: tuple[int, int],
    intrinsics_px: Float32[np.ndarray, "4"],
) -> dict[str, Any]:
    """The per-clip columns of the frames table.

    Args:
        image_size_px: w, h of the whole picture.
        crop_xyxy_px: the part of it that is stored.
        frame_size_px: w, h of the stored picture.
        intrinsics_px: fx, fy, cx, cy of the whole picture.
    """
    return {
        "frame_size_px": np.array(frame_size_px, np.int32),
        "image_size_px": np.array(image_size_px, np.int32),
        "crop_xyxy_px": crop_xyxy_px,
        "frame_intrinsics_px": crop_intrinsics(intrinsics_px, crop_xyxy_px, frame_size_px),
    }


def crop_intrinsics(
    intrinsics_px: Float[np.ndarray, "4"], crop_xyxy_px: Float[np.ndarray, "4"], frame_size_px: tuple[int, int]
) -> Float32[np.ndarray, "4"]:
    """Intrinsics of a picture that shows `crop_xyxy_px` of a larger one at another size.

    Convention: a crop's edges are continuous pixel coordinates, the top-left corner of a picture at (-0.5, -0.5), so
    that x_frame = (x - x0) * w / (x1 - x0) - 0.5.
    """
    low, high = crop_xyxy_px[:2].astype(np.float64), crop_xyxy_px[2:].astype(np.float64)
    scale = np.array(frame_size_px) / (high - low)
    return np.concatenate((intrinsics_px[:2] * scale, (intrinsics_px[2:] - low) * scale - 0.5)).astype(np.float32)
