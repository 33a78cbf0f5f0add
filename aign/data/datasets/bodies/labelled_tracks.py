"""A labelled person in a camera -> clips of the store, with pictures of the person cut out where there are some."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from aign.data.datasets.job import CLIP_FRAMES, Recording, picture_columns
from aign.data.datasets.raw_files import stretches
from aign.data.pixels import encode_jpeg
from aign.data.stages.crops import crop_image, split_by_travel, square_crop
from aign.framework.errors import UserError
from aign.geometry.skeleton import Skeleton

SIDE_PX = 256
"""Of the stored pictures."""
BODY_SPAN_M = (0.3, 4.0)
LEAST_DEPTH_M = 0.2
UPSIDE_DOWN = -0.5
"""Mean of the body's way up along the picture's; a recording below it has its y axis the wrong way round."""


@dataclass(frozen=True, kw_only=True)
class Track:
    """One person as one camera sees them, all frames of a recording.

    Attributes:
        recording: key of the clips.
        camera: its name.
        kp2d_px: keypoints in the whole picture, 0 where the confidence is.
        kp2d_conf: 1 where a keypoint is in the picture, else 0.
        valid: frames that may be used.
    """

    recording: Recording
    camera: str
    kp2d_px: Float32[np.ndarray, "t j 2"]
    kp2d_conf: Float32[np.ndarray, "t j"]
    valid: Bool[np.ndarray, " t"]

    def spans(self, pictures: bool) -> list[slice]:
        """Frames of each clip: never over an invalid frame, at most CLIP_FRAMES.

        With pictures, frames that show no joint are left out and a clip ends where the person has travelled far, so
        that one square shows them well (aign.data.stages.crops).
        """
        if not pictures:
            return [
                slice(start, min(start + CLIP_FRAMES, run.stop))
                for run in stretches(self.valid)
                for start in range(run.start, run.stop, CLIP_FRAMES)
            ]
        seen = self.valid & (self.kp2d_conf > 0).any(axis=1)
        return [
            slice(run.start + part.start, run.start + part.stop)
            for run in stretches(seen)
            for part in split_by_travel(self.kp2d_px[run], self.kp2d_conf[run])
        ]

    def table(
        self, spans: Sequence[slice], per_frame: Mapping[str, Any], per_clip: Callable[[slice], Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """One row a clip; `frame_start` counts all frames of the recording."""
        return [
            {
                **vars(self.recording),
                "camera": self.camera,
                "frame_start": span.start,
                "num_frames": span.stop - span.start,
                **{name: values[span] for name, values in per_frame.items()},
                **per_clip(span),
            }
            for span in spans
        ]

    def frames_table(
        self,
        spans: Sequence[slice],
        pictures: Iterable[UInt8[np.ndarray, "h w 3"]],
        size_px: tuple[int, int],
        intrinsics_px: Float32[np.ndarray, "4"],
    ) -> list[dict[str, Any]]:
        """The person cut out of the pictures, one square a clip.

        Args:
            spans: frames of each clip.
            pictures: of all frames of the recording, from the first one on; more are ignored.
            size_px: w, h they must have.
            intrinsics_px: fx, fy, cx, cy of the whole picture.

        Raises:
            UserError: pictures of another size, or fewer than the clips need.
        """
        crops = [square_crop(self.kp2d_px[span], self.kp2d_conf[span]).astype(np.float32) for span in spans]
        clip_of = {frame: clip for clip, span in enumerate(spans) for frame in range(span.start, span.stop)}
        needed = max(clip_of, default=-1) + 1
        cut_out: list[list[bytes]] = [[] for _ in spans]
        count = 0
        for frame, picture in zip(range(needed), pictures, strict=False):
            if picture.shape[1::-1] != size_px:
                raise UserError(
                    f"{self.recording.source}: picture {frame} has {picture.shape[1]} x {picture.shape[0]} px; its "
                    f"calibration is for {size_px[0]} x {size_px[1]}"
                )
            if frame in clip_of:
                clip = clip_of[frame]
                cut_out[clip].append(encode_jpeg(crop_image(picture, crops[clip], SIDE_PX)))
            count += 1
        if count < needed:
            raise UserError(f"{self.recording.source}: {count} pictures; {needed} are labelled")
        times_s = (np.arange(len(self.valid)) / self.recording.fps).astype(np.float32)
        return [
            {**row, "image_jpeg": jpegs, **picture_columns(size_px, crop, (SIDE_PX, SIDE_PX), intrinsics_px)}
            for row, jpegs, crop in zip(
                self.table(spans, {"time_s": times_s}, lambda _: {}), cut_out, crops, strict=True
            )
        ]


def read_picture(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """A picture file as RGB.

    Raises:
        UserError: not there, or not a whole picture.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if path.is_file() else None
    if image is None:
        raise UserError(f"{path}: {'not a picture that decodes' if path.is_file() else 'no such file'}")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def check_seen(joints_cam_m: Float[np.ndarray, "t j 3"], skeleton: Skeleton, where: str) -> None:
    """Refuse a recording whose units or axes cannot be: no body's size, behind the camera, or head down throughout.

    Raises:
        UserError: saying which.
    """
    span_m = float(np.median(np.ptp(joints_cam_m, axis=1).max(axis=-1)))
    low_m, high_m = BODY_SPAN_M
    if not low_m < span_m < high_m:
        hint = " (this looks like millimetres)" if 300 < span_m < 4000 else ""
        raise UserError(f"{where}: the body spans {span_m:.4g} m{hint}; allowed is {low_m} to {high_m}")
    depth_m = float(np.median(joints_cam_m[..., 2]))
    if depth_m < LEAST_DEPTH_M:
        raise UserError(f"{where}: the body is {depth_m:.3g} m along the camera's axis; it has to be in front of it")
    upright = -way_up(joints_cam_m, skeleton)[1]
    if upright < UPSIDE_DOWN:
        raise UserError(f"{where}: head below feet throughout (mean {upright:.2g}); y has to point down")


def way_up(joints_m: Float[np.ndarray, "t j 3"], skeleton: Skeleton) -> Float[np.ndarray, "3"]:
    """Mean over frames of the unit vector from between the ankles to between the shoulders."""
    top, bottom = skeleton.index("l_shoulder", "r_shoulder"), skeleton.index("l_ankle", "r_ankle")
    body = joints_m[:, top].mean(axis=1) - joints_m[:, bottom].mean(axis=1)
    return np.asarray((body / np.maximum(np.linalg.norm(body, axis=-1, keepdims=True), 1e-9)).mean(axis=0))
