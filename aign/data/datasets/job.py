"""A unit of preprocessing: one source that becomes one part of each of its tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from aign import __version__
from aign.data.datasets.rig import see
from aign.data.store import PartRecord, Provenance, Quarantined, Stage, find_part, write_part
from aign.data.store.writer import Clip
from aign.framework.errors import StorageError, UserError
from aign.geometry.camera import CalibratedCamera

PRODUCER = f"aign {__version__}"
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

    def provenance(self) -> Provenance:
        """What decides the content, without making it."""
        ...

    def clips(self) -> Mapping[str, Sequence[Clip]]:
        """The clips of every table.

        Raises:
            UserError: the source cannot be used; it is quarantined with this message.
        """
        ...


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


def run(job: Job, store_url: str, part_number: int) -> tuple[PartRecord, ...] | Quarantined:
    """Make a job's parts, or find them made; a source that cannot be used is quarantined.

    Raises:
        StorageError: the store cannot be written.
    """
    provenance = job.provenance()
    wanted = [table for group in job.table_groups for table in group]
    found = find_part(store_url, part_number, wanted, provenance)
    if set(found) == set(wanted):
        return tuple(found[table] for table in wanted)
    try:
        clips = job.clips()
        return tuple(
            record
            for group in job.table_groups
            for record in write_part(store_url, part_number, {table: clips[table] for table in group}, provenance)
        )
    except StorageError:
        raise
    except UserError as error:
        return Quarantined(source=job.source, stage=provenance.stages[-1].name, error=str(error))


def stage(name: str, version: str, **params: Any) -> Stage:
    """A stage of the chain that is hashed into the names of what it makes."""
    return Stage(name=name, version=version, params=params)


def labelled_views(
    recording: Recording,
    joints_world_m: Float[np.ndarray, "t j 3"],
    rig: Sequence[CalibratedCamera],
    detected_px: Sequence[Float[np.ndarray, "t j 2"]] | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Tables keypoints, labels and memory_pose of a motion seen by a rig.

    Args:
        recording: its key.
        joints_world_m: the motion.
        rig: the views; keypoints projected outside an image have confidence 0.
        detected_px: keypoints of each view that take the place of the projections, with confidence 1.
    """
    keypoints: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    for view, camera in enumerate(rig):
        sight = see(camera, joints_world_m)
        kp2d, conf = sight.kp2d_px, sight.inside.astype(np.float32)
        if detected_px is not None:
            kp2d, conf = detected_px[view], np.ones_like(conf)
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
