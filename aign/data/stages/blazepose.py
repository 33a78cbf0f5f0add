"""Frames to the 33 body landmarks of one person with MediaPipe's BlazePose nets.

A detector finds the most confident person once; from then on each frame's landmarks say where to cut the next frame,
and the detector runs again only when the person is lost. (Several people: `aign.data.stages.people`.)

Convention: pixels (0, 0) at the centre of the top-left pixel, x right, y down, left = the person's left;
world landmarks in metres, hip-centred, on the camera's axes (+x right, +y down, +z away from the camera).
Source: Bazarevsky et al., "BlazePose: On-device Real-time Body Pose tracking", 2020.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from aign.data.assets import pose_nets
from aign.data.stages.blazepose_nets import Landmarks, Nets, Region, load_nets

NUM_LANDMARKS = 33
MIN_FLAG = 0.5
"""Below this pose flag (0..1) the landmarks are noise: the person counts as lost."""


@dataclass(frozen=True, kw_only=True)
class PoseTrack:
    """Landmarks of the one tracked person in t frames.

    Attributes:
        kp2d_px: BlazePose-33 landmarks in pixels of the whole frame; 0 where nobody was found.
        kp2d_conf: visibility times presence, 0..1; 0 where nobody was found.
        flag: the net's belief that a person is in its crop, 0..1.
        kp3d_world_m: the net's own monocular 3D guess, hip-centred, camera axes; 0 where nobody was found.
    """

    kp2d_px: Float32[np.ndarray, "t 33 2"]
    kp2d_conf: Float32[np.ndarray, "t 33"]
    flag: Float32[np.ndarray, " t"]
    kp3d_world_m: Float32[np.ndarray, "t 33 3"]

    @property
    def found(self) -> bool:
        """Whether a person was found in at least one frame."""
        return bool((self.flag >= MIN_FLAG).any())


@dataclass(frozen=True)
class BlazePose:
    """The tracker. Picklable: the nets are loaded on first use, once per process and thread count.

    LiteRT's interpreters are not safe to share between threads; use processes.

    Attributes:
        detector: path of pose_detection.tflite.
        landmark: path of pose_landmark_{lite,full,heavy}.tflite.
        threads: threads of the net.
    """

    detector: Path
    landmark: Path
    threads: int = 1

    def track(self, frames: Iterable[UInt8[np.ndarray, "h w 3"]]) -> PoseTrack:
        """Follow the most confident person through consecutive RGB frames.

        Raises:
            UserError: a net cannot be loaded.
        """
        nets = self.nets()
        rows: list[_Row] = []
        region: Region | None = None
        for frame in frames:
            seen = nets.landmarks(frame, region) if region else None
            if seen is None or seen.flag < MIN_FLAG:
                region = next(iter(nets.detect(frame)), None)
                seen = nets.landmarks(frame, region) if region else None
            if seen is None or seen.flag < MIN_FLAG:
                rows.append(_nobody(seen.flag if seen else 0.0))
                region = None
            else:
                rows.append(_somebody(seen))
                region = seen.next_region
        return _stack(rows)

    def nets(self) -> Nets:
        """The nets, loaded once per process.

        Raises:
            UserError: a net cannot be loaded.
        """
        return load_nets(self.detector, self.landmark, self.threads)


_Row = tuple[Any, Any, float, Any]
"""kp2d_px, kp2d_conf, flag, kp3d_world_m of one frame."""


def _somebody(seen: Landmarks) -> _Row:
    n = NUM_LANDMARKS
    return seen.points_px[:n] - 0.5, seen.conf[:n], seen.flag, seen.world_m[:n]


def _nobody(flag: float) -> _Row:
    n = NUM_LANDMARKS
    return np.zeros((n, 2)), np.zeros(n), flag, np.zeros((n, 3))


def _stack(rows: list[_Row]) -> PoseTrack:
    def stacked(column: int, *shape: int) -> Float32[np.ndarray, "..."]:
        return np.array([row[column] for row in rows], np.float32).reshape(len(rows), *shape)

    n = NUM_LANDMARKS
    return PoseTrack(kp2d_px=stacked(0, n, 2), kp2d_conf=stacked(1, n), flag=stacked(2), kp3d_world_m=stacked(3, n, 3))


def get_detector(threads: int = 1) -> BlazePose:
    """The tracker with the best nets on this machine (see `aign.data.assets.pose_nets`).

    Raises:
        UserError: the nets were not pulled.
    """
    nets = pose_nets()
    return BlazePose(detector=nets.detector, landmark=nets.landmark, threads=threads)
