"""Frames to 33 body landmarks with MediaPipe's BlazePose nets on LiteRT.

A detector finds the most confident person once; from then on each frame's landmarks say where to cut the next frame,
and the detector runs again only when the person is lost.

Convention: pixels (0, 0) at the centre of the top-left pixel, x right, y down, left = the person's left;
world landmarks in metres, hip-centred, on the camera's axes (+x right, +y down, +z away from the camera).
Source: Bazarevsky et al., "BlazePose: On-device Real-time Body Pose tracking", 2020, and the nets' own tensors.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from jaxtyping import Float, Float32, UInt8

from aign.data.assets import pose_nets
from aign.framework.errors import UserError

NUM_LANDMARKS = 33
MIN_FLAG = 0.5
"""Below this pose flag (0..1) the landmarks are noise: the person counts as lost."""

_DETECTOR_SIDE_PX = 224
_CROP_SIDE_PX = 256
_NUM_NET_LANDMARKS = 39  # 33 body points, then the next frame's region (33, 34) and four helpers
_MIN_SCORE = 0.5
_MIN_IOU = 0.3
_REGION_MARGIN = 1.25
_HEATMAP_KERNEL = 7


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


@dataclass(frozen=True, kw_only=True)
class _Region:
    """A rotated square: its middle, and the images of the crop's unit axes (right, down), each `side` px long."""

    centre_px: Float[np.ndarray, " 2"]
    axes_px: Float[np.ndarray, "2 2"]

    @staticmethod
    def around(centre_px: Float[np.ndarray, " 2"], rim_px: Float[np.ndarray, " 2"]) -> "_Region | None":
        """The square about the circle through `rim_px`, turned so that centre -> rim points up; None if degenerate."""
        down = (centre_px - rim_px).astype(np.float64)
        if not np.isfinite(down).all() or np.hypot(*down) < 1.0:
            return None
        down *= 2 * _REGION_MARGIN
        right = np.array([down[1], -down[0]])
        return _Region(centre_px=centre_px.astype(np.float64), axes_px=np.stack((right, down), axis=1))

    @property
    def side_px(self) -> float:
        return float(np.hypot(*self.axes_px[:, 0]))

    def to_image(self, points_crop: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """Crop coordinates 0..1 to pixels of the image (continuous: a pixel's centre is at .5)."""
        return np.asarray(self.centre_px + (points_crop - 0.5) @ self.axes_px.T)

    def rotate(self, points_m: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Turn x, y from the crop's axes to the image's."""
        turned = points_m.copy()
        turned[:, :2] = points_m[:, :2] @ (self.axes_px / self.side_px).T
        return turned


@dataclass(frozen=True, kw_only=True)
class _Landmarks:
    """What the landmark net says about one crop, in image pixels (continuous) and metres."""

    points_px: Float[np.ndarray, "39 2"]
    conf: Float[np.ndarray, " 39"]
    flag: float
    world_m: Float[np.ndarray, "39 3"]


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
        nets = _nets(self.detector, self.landmark, self.threads)
        rows: list[_Landmarks] = []
        region: _Region | None = None
        for frame in frames:
            seen = nets.landmarks(frame, region) if region else None
            if seen is None or seen.flag < MIN_FLAG:
                region = nets.detect(frame)
                seen = nets.landmarks(frame, region) if region else None
            if seen is None or seen.flag < MIN_FLAG:
                seen = _nobody(seen.flag if seen else 0.0)
                region = None
            else:
                region = _Region.around(seen.points_px[33], seen.points_px[34])
            rows.append(seen)
        return _stack(rows)


def _nobody(flag: float) -> _Landmarks:
    n = _NUM_NET_LANDMARKS
    return _Landmarks(points_px=np.full((n, 2), 0.5), conf=np.zeros(n), flag=flag, world_m=np.zeros((n, 3)))


def _stack(rows: list[_Landmarks]) -> PoseTrack:
    def stacked(items: list[Any], *shape: int) -> Float32[np.ndarray, "..."]:
        return np.array(items, np.float32).reshape(len(rows), *shape)

    n = NUM_LANDMARKS
    return PoseTrack(
        kp2d_px=stacked([r.points_px[:n] - 0.5 for r in rows], n, 2),
        kp2d_conf=stacked([r.conf[:n] for r in rows], n),
        flag=stacked([r.flag for r in rows]),
        kp3d_world_m=stacked([r.world_m[:n] for r in rows], n, 3),
    )


class _Nets:
    """Both interpreters, ready to run."""

    def __init__(self, detector: Path, landmark: Path, threads: int) -> None:
        self._detector = _load(detector, threads)
        self._landmark = _load(landmark, threads)
        self._anchors = _anchors()

    def detect(self, frame: UInt8[np.ndarray, "h w 3"]) -> _Region | None:
        """The region of the most confident person, or None."""
        height, width = frame.shape[:2]
        side = max(height, width)
        scale = side / _DETECTOR_SIDE_PX
        corner = np.array([(side - width) / 2, (side - height) / 2])
        to_image = np.array([[scale, 0, scale / 2 - 0.5 - corner[0]], [0, scale, scale / 2 - 0.5 - corner[1]]])
        boxed = _warp(frame, to_image, _DETECTOR_SIDE_PX)
        boxes, logits = _run(self._detector, boxed.astype(np.float32) / 127.5 - 1)
        best = _best(boxes[0] / _DETECTOR_SIDE_PX, logits[0, :, 0], self._anchors)
        if best is None:
            return None
        points_px = best[4:8].reshape(2, 2) * side - corner
        return _Region.around(points_px[0], points_px[1])

    def landmarks(self, frame: UInt8[np.ndarray, "h w 3"], region: _Region) -> _Landmarks:
        """The landmarks inside one region."""
        axes = region.axes_px / _CROP_SIDE_PX
        origin = region.centre_px - region.axes_px.sum(1) / 2 + axes.sum(1) / 2 - 0.5
        crop = _warp(frame, np.column_stack((axes, origin)), _CROP_SIDE_PX)
        points, flag, _mask, heatmaps, world = _run(self._landmark, crop.astype(np.float32) / 255)
        points = points.reshape(_NUM_NET_LANDMARKS, 5).astype(np.float64)
        points_crop = _refine(points[:, :2] / _CROP_SIDE_PX, heatmaps[0])
        return _Landmarks(
            points_px=region.to_image(points_crop),
            conf=_sigmoid(points[:, 3]) * _sigmoid(points[:, 4]),
            flag=float(np.clip(flag[0, 0], 0, 1)),
            world_m=region.rotate(world.reshape(_NUM_NET_LANDMARKS, 3).astype(np.float64)),
        )


def get_detector(threads: int = 1) -> BlazePose:
    """The tracker with the best nets on this machine (see `aign.data.assets.pose_nets`).

    Raises:
        UserError: the nets were not pulled.
    """
    nets = pose_nets()
    return BlazePose(detector=nets.detector, landmark=nets.landmark, threads=threads)


@functools.cache
def _nets(detector: Path, landmark: Path, threads: int) -> _Nets:
    return _Nets(detector, landmark, threads)


def _load(path: Path, threads: int) -> Any:
    if not path.is_file():
        raise UserError(f"no net at {path}; allowed: a .tflite file, e.g. from `aign assets pull`")
    try:
        net = Interpreter(model_path=str(path), num_threads=threads)
        net.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{path} is not a net that LiteRT can run ({str(error).splitlines()[0]})") from error
    return net


def _run(net: Any, image: Float32[np.ndarray, "s s 3"]) -> list[Any]:
    net.set_tensor(net.get_input_details()[0]["index"], image[None])
    net.invoke()
    return [net.get_tensor(out["index"]) for out in net.get_output_details()]


def _warp(
    frame: UInt8[np.ndarray, "h w 3"], to_image: Float[np.ndarray, "2 3"], side_px: int
) -> UInt8[np.ndarray, "s s 3"]:
    """Cut a square; black outside the frame."""
    return np.asarray(
        cv2.warpAffine(frame, to_image, (side_px, side_px), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP), np.uint8
    )


def _sigmoid(x: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -50, 50))))


def _anchors() -> Float[np.ndarray, "2254 2"]:
    """Centres (x, y) in 0..1: grids of stride 8, 16 and 32 px with 2, 2 and 6 anchors a cell, row by row."""
    grids = []
    for stride, copies in ((8, 2), (16, 2), (32, 6)):
        n = _DETECTOR_SIDE_PX // stride
        y, x = np.mgrid[0:n, 0:n]
        grids.append(np.repeat(np.stack((x, y), axis=-1).reshape(-1, 2), copies, axis=0) + 0.5)
        grids[-1] /= n
    return np.concatenate(grids)


def _best(
    boxes: Float[np.ndarray, "n 12"], logits: Float[np.ndarray, " n"], anchors: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, " 12"] | None:
    """Weighted non-maximum suppression around the best score: x, y, w, h, then 4 keypoints, all in 0..1."""
    scores = _sigmoid(logits.astype(np.float64))
    likely = scores >= _MIN_SCORE
    if not likely.any():
        return None
    scores = scores[likely]
    found = boxes[likely].astype(np.float64)
    centres = anchors[likely]
    found[:, :2] += centres
    found[:, 4:] += np.tile(centres, 4)
    low, high = found[:, :2] - found[:, 2:4] / 2, found[:, :2] + found[:, 2:4] / 2
    top = int(scores.argmax())
    overlap = np.clip(np.minimum(high, high[top]) - np.maximum(low, low[top]), 0, None).prod(1)
    area = (high - low).prod(1)
    same = overlap / np.maximum(area + area[top] - overlap, 1e-12) >= _MIN_IOU
    same[top] = True
    return np.asarray((found[same] * scores[same, None]).sum(0) / scores[same].sum())


def _refine(points: Float[np.ndarray, "39 2"], heatmaps: Float[np.ndarray, "s s 39"]) -> Float[np.ndarray, "39 2"]:
    """Move each point (0..1) to the centre of mass of its heatmap nearby, where the heatmap is sure of itself.

    The regressed point alone is blunter; the heatmap alone confuses left and right: the window keeps it local. Cell i
    stands for i / side, not (i + 0.5) / side: on Pose2Sim's clip the former gives 12 px of reprojection error, the
    latter 16, no refinement 14 (heavy net).
    """
    side = heatmaps.shape[0]
    heat = _sigmoid(heatmaps.astype(np.float64))
    refined = points.copy()
    reach = _HEATMAP_KERNEL // 2
    for j, (x, y) in enumerate(np.floor(points * side).astype(int)):
        rows = slice(max(y - reach, 0), max(y + reach + 1, 0))
        cols = slice(max(x - reach, 0), max(x + reach + 1, 0))
        near = heat[rows, cols, j]
        if near.size == 0 or near.max() < 0.5:
            continue
        ys, xs = np.mgrid[0 : near.shape[0], 0 : near.shape[1]]
        mass = near.sum()
        refined[j] = ((near * xs).sum() / mass + cols.start, (near * ys).sum() / mass + rows.start)
        refined[j] = refined[j] / side
    return refined
