"""One camera's view of a Human3.6M sequence as clips: keypoints, labels, and frames and masks where it has pictures.

With pictures a clip is as long as one square about the person can stay small; without, CLIP_FRAMES.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from aign.data.datasets.job import CLIP_FRAMES, Recording, calibration, picture_columns, stage
from aign.data.pixels import JPEG_QUALITY, encode_jpeg, encode_mask
from aign.data.stages.crops import MARGIN, MAX_TRAVEL, crop_image, split_by_travel, square_crop
from aign.data.store import Stage
from aign.framework.errors import UserError
from aign.geometry.camera import CalibratedCamera

SIDE_PX = 256
"""Side of the stored pictures."""

Picture = UInt8[np.ndarray, "h w 3"]
Mask = Bool[np.ndarray, "h w"]


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Which frames of a recording a view has.

    Attributes:
        numbers: place of each frame in the recording at the recording's own rate, ascending; a clip goes over no gap.
        boxes_px: points [t, p, 2] about which the pictures are cut; empty without pictures.
        boxes_conf: which of them count.
        margin: round the points, as a fraction of their extent.
    """

    numbers: Sequence[int]
    boxes_px: Float[np.ndarray, "t p 2"] | None
    boxes_conf: Float[np.ndarray, "t p"] | None
    margin: float = MARGIN


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One clip of a view.

    Attributes:
        rows: of the view's arrays.
        frame_start: of the recording.
        crop_xyxy_px: the stored square; None without pictures, or where nobody is in it.
    """

    rows: slice
    frame_start: int
    crop_xyxy_px: Float[np.ndarray, " 4"] | None


@dataclass(frozen=True, kw_only=True)
class View:
    """What is known of each frame of a view.

    Attributes:
        camera: that sees it.
        intrinsics_source: "calibration" or "assumed".
        kp2d_px, kp2d_conf: H36M-17 in the whole picture.
        joints_cam_m, joints_valid: H36M-17 in the camera.
    """

    camera: CalibratedCamera
    intrinsics_source: str = "calibration"
    kp2d_px: Float[np.ndarray, "t 17 2"]
    kp2d_conf: Float[np.ndarray, "t 17"]
    joints_cam_m: Float[np.ndarray, "t 17 3"]
    joints_valid: Bool[np.ndarray, "t 17"]


def crop_stage(**more: Any) -> Stage:
    """What decides clips and pictures of views with pictures."""
    params = {"side_px": SIDE_PX, "margin": MARGIN, "travel": MAX_TRAVEL, "quality": JPEG_QUALITY}
    return stage("h36m-crop", "1", **params, **more)


def cut_view(frames: Frames) -> list[Cut]:
    """The clips of a view. A clip in which nothing of the person is in the picture has no crop."""
    cuts = []
    for run in consecutive(frames.numbers):
        if frames.boxes_px is None or frames.boxes_conf is None:
            pieces = [slice(s, min(s + CLIP_FRAMES, run.stop)) for s in range(run.start, run.stop, CLIP_FRAMES)]
        else:
            found = split_by_travel(frames.boxes_px[run], frames.boxes_conf[run])
            pieces = [slice(run.start + piece.start, run.start + piece.stop) for piece in found]
        cuts += [
            Cut(rows=rows, frame_start=int(frames.numbers[rows.start]), crop_xyxy_px=_crop(frames, rows))
            for rows in pieces
        ]
    return cuts


def _crop(frames: Frames, rows: slice) -> Float[np.ndarray, " 4"] | None:
    if frames.boxes_px is None or frames.boxes_conf is None or not (frames.boxes_conf[rows] > 0).any():
        return None
    crop = square_crop(frames.boxes_px[rows], frames.boxes_conf[rows], frames.margin)
    return np.asarray(crop, np.float32)


def consecutive(numbers: Sequence[int]) -> list[slice]:
    """Runs of numbers that follow one another."""
    breaks = np.flatnonzero(np.diff(np.asarray(numbers)) != 1) + 1
    edges = [0, *breaks.tolist(), len(numbers)]
    return [slice(a, b) for a, b in pairwise(edges) if b > a]


def joint_clips(recording: Recording, view: View, cuts: Sequence[Cut]) -> dict[str, list[dict[str, Any]]]:
    """Tables keypoints and labels."""
    pose = view.camera.world_to_cam
    lens = calibration(view.camera, view.intrinsics_source)
    placed = {
        "rot_world_to_cam": pose.rot.float().numpy().reshape(9),
        "trans_world_to_cam_m": pose.trans_m.float().numpy(),
    }
    seen = (view.kp2d_conf > 0)[..., None]
    keypoints = {
        "kp2d_px": np.where(seen, view.kp2d_px, 0).astype(np.float32),
        "kp2d_conf": view.kp2d_conf.astype(np.float32),
    }
    labels = {"joints_cam_m": view.joints_cam_m.astype(np.float32), "joints_valid": view.joints_valid}
    return {
        "keypoints": [_clip(recording, view.camera, cut, keypoints, lens) for cut in cuts],
        "labels": [_clip(recording, view.camera, cut, labels, placed) for cut in cuts],
    }


def picture_clips(
    recording: Recording, camera: CalibratedCamera, cuts: Sequence[Cut], pictures: Iterator[Picture], lag: int = 0
) -> list[dict[str, Any]]:
    """Table frames: each picture is cut, made small and encoded as it comes; one whole picture is held at a time.

    Args:
        recording: the key.
        camera: that took the pictures.
        cuts: all of them with a crop.
        pictures: as many as the cuts have frames, in their order.
        lag: by how many frames the pictures are later than the joints beside them.

    Raises:
        UserError: a picture of another size than the camera's.
    """
    clips = []
    intrinsics_px = np.asarray(calibration(camera)["intrinsics_px"], np.float32)
    for cut in cuts:
        crop = _known(cut)
        count = cut.rows.stop - cut.rows.start
        encoded = []
        for _ in range(count):
            picture = next(pictures)
            _check_size(picture.shape[:2], camera, recording.source)
            encoded.append(encode_jpeg(crop_image(picture, crop, SIDE_PX)))
        times_s = (cut.frame_start + np.arange(count)) / recording.fps + lag / 50.0
        columns = picture_columns(camera.image_size_px, crop, (SIDE_PX, SIDE_PX), intrinsics_px)
        per_frame = {"image_jpeg": encoded, "time_s": times_s.astype(np.float32)}
        whole = Cut(rows=slice(0, count), frame_start=cut.frame_start, crop_xyxy_px=crop)
        clips.append(_clip(recording, camera, whole, per_frame, columns))
    return clips


def mask_clips(
    recording: Recording, camera: CalibratedCamera, cuts: Sequence[Cut], masks: Iterator[Mask]
) -> list[dict[str, Any]]:
    """Table masks, in the stored pictures' pixels.

    Raises:
        UserError: a mask of another size than the camera's picture.
    """
    clips = []
    for cut in cuts:
        encoded = []
        for _ in range(cut.rows.stop - cut.rows.start):
            mask = next(masks)
            _check_size(mask.shape, camera, recording.source)
            grey = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
            encoded.append(encode_mask(crop_image(grey, _known(cut), SIDE_PX)[..., 0] >= 128))
        whole = Cut(rows=slice(0, len(encoded)), frame_start=cut.frame_start, crop_xyxy_px=cut.crop_xyxy_px)
        clips.append(_clip(recording, camera, whole, {"mask_png": encoded}, {}))
    return clips


def _known(cut: Cut) -> Float[np.ndarray, " 4"]:
    assert cut.crop_xyxy_px is not None, "cuts without a crop are left out before"
    return cut.crop_xyxy_px


def _check_size(shape: tuple[int, ...], camera: CalibratedCamera, source: str) -> None:
    width, height = camera.image_size_px
    if shape != (height, width):
        raise UserError(
            f"{source}: a picture of {shape[1]} x {shape[0]} px of camera {camera.name}, "
            f"which is calibrated for {width} x {height}"
        )


def _clip(
    recording: Recording, camera: CalibratedCamera, cut: Cut, per_frame: dict[str, Any], per_clip: dict[str, Any]
) -> dict[str, Any]:
    return {
        **vars(recording),
        "camera": camera.name,
        "frame_start": cut.frame_start,
        "num_frames": cut.rows.stop - cut.rows.start,
        **{name: values[cut.rows] for name, values in per_frame.items()},
        **per_clip,
    }
