"""BlazePose's two nets on LiteRT: a frame to the regions of people, a region to landmarks and mask.

Convention: pixels (0, 0) at the centre of the top-left pixel, x right, y down, left = the person's left;
world landmarks in metres, hip-centred, on the camera's axes (+x right, +y down, +z away from the camera).
Source: Bazarevsky et al., "BlazePose: On-device Real-time Body Pose tracking", 2020, and the nets' own tensors.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8

from aign.data.stages.litert import Net, sigmoid, suppressed, warped

MASK_SIDE_PX = 256

Square: TypeAlias = tuple[float, float, float]
"""Of a picture: left and upper edge, and side, px."""

_DETECTOR_SIDE_PX = 224
_CROP_SIDE_PX = MASK_SIDE_PX
_NUM_NET_LANDMARKS = 39  # 33 body points, then the next frame's region (33, 34) and four helpers
_REGION_MARGIN = 1.25
_HEATMAP_KERNEL = 7
_MASK_STEPS_PER_LOGIT = 16


@dataclass(frozen=True, kw_only=True)
class Region:
    """A rotated square: its middle, and the images of the crop's unit axes (right, down), each `side` px long."""

    centre_px: Float[np.ndarray, " 2"]
    axes_px: Float[np.ndarray, "2 2"]

    @staticmethod
    def around(centre_px: Float[np.ndarray, " 2"], rim_px: Float[np.ndarray, " 2"]) -> "Region | None":
        """The square about the circle through `rim_px`, turned so that centre -> rim points up; None if degenerate."""
        down = (centre_px - rim_px).astype(np.float64)
        if not np.isfinite(down).all() or np.hypot(*down) < 1.0:
            return None
        down *= 2 * _REGION_MARGIN
        right = np.array([down[1], -down[0]])
        return Region(centre_px=centre_px.astype(np.float64), axes_px=np.stack((right, down), axis=1))

    @property
    def side_px(self) -> float:
        """Side of the square."""
        return float(np.hypot(*self.axes_px[:, 0]))

    @property
    def crop_to_image(self) -> Float64[np.ndarray, "2 3"]:
        """From pixels of the net's crop (and of its mask) to pixels of the image."""
        axes = self.axes_px / _CROP_SIDE_PX
        origin = self.centre_px - self.axes_px.sum(1) / 2 + axes.sum(1) / 2 - 0.5
        return np.column_stack((axes, origin)).astype(np.float64)

    def to_image(self, points_crop: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """Crop coordinates 0..1 to pixels of the image (continuous: a pixel's centre is at .5)."""
        return np.asarray(self.centre_px + (points_crop - 0.5) @ self.axes_px.T)

    def rotate(self, points_m: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Turn x, y from the crop's axes to the image's."""
        turned = points_m.copy()
        turned[:, :2] = points_m[:, :2] @ (self.axes_px / self.side_px).T
        return turned


@dataclass(frozen=True, kw_only=True)
class Landmarks:
    """What the landmark net says about one crop, in image pixels (continuous: a pixel's centre is at .5) and metres.

    Attributes:
        points_px: 33 body points, then the middle and the rim of the next frame's region, then four helpers.
        conf: visibility times presence, 0..1.
        flag: the net's belief that a person is in its crop, 0..1.
        world_m: the net's own monocular 3D guess, hip-centred.
        mask_logits: of the person, in the crop's pixels.
    """

    points_px: Float64[np.ndarray, "39 2"]
    conf: Float64[np.ndarray, " 39"]
    flag: float
    world_m: Float64[np.ndarray, "39 3"]
    mask_logits: Float32[np.ndarray, "256 256"]

    @property
    def next_region(self) -> Region | None:
        """Where to look in the next frame."""
        return Region.around(self.points_px[33], self.points_px[34])

    @property
    def mask(self) -> UInt8[np.ndarray, "256 256"]:
        """The logits in eight bits: 128 is undecided, and 16 steps are 1."""
        return np.asarray(np.clip(self.mask_logits * _MASK_STEPS_PER_LOGIT + 128, 0, 255), np.uint8)


class Nets:
    """Both interpreters, ready to run."""

    def __init__(self, detector: Path, landmark: Path, threads: int) -> None:
        self._detector = Net(detector, threads)
        self._landmark = Net(landmark, threads)
        self._anchors = _anchors()

    def detect(self, frame: UInt8[np.ndarray, "h w 3"], square: Square | None = None) -> list[Region | None]:
        """The region of each person, the most confident first; None for one whose keypoints are degenerate.

        Args:
            frame: RGB.
            square: where in it people are looked for, who are found from a fifth of its side on; None: the whole
                frame.
        """
        x, y, side = whole(*frame.shape[:2]) if square is None else square
        scale, corner = side / _DETECTOR_SIDE_PX, np.array([x, y])
        to_image = np.array([[scale, 0, scale / 2 - 0.5 + x], [0, scale, scale / 2 - 0.5 + y]])
        boxed = warped(frame, to_image, _DETECTOR_SIDE_PX)
        boxes, logits = self._detector(boxed.astype(np.float32) / 127.5 - 1)
        found = suppressed(boxes[0] / _DETECTOR_SIDE_PX, logits[0, :, 0], self._anchors)
        points_px = [person[4:8].reshape(2, 2) * side + corner for person in found]
        return [Region.around(middle, rim) for middle, rim in points_px]

    def landmarks(self, frame: UInt8[np.ndarray, "h w 3"], region: Region) -> Landmarks:
        """The landmarks inside one region."""
        crop = warped(frame, region.crop_to_image, _CROP_SIDE_PX)
        points, flag, mask, heatmaps, world = self._landmark(crop.astype(np.float32) / 255)
        points = points.reshape(_NUM_NET_LANDMARKS, 5).astype(np.float64)
        points_crop = _refine(points[:, :2] / _CROP_SIDE_PX, heatmaps[0])
        return Landmarks(
            points_px=region.to_image(points_crop),
            conf=sigmoid(points[:, 3]) * sigmoid(points[:, 4]),
            flag=float(np.clip(flag[0, 0], 0, 1)),
            world_m=region.rotate(world.reshape(_NUM_NET_LANDMARKS, 3).astype(np.float64)),
            mask_logits=mask[0, :, :, 0],
        )


@functools.cache
def load_nets(detector: Path, landmark: Path, threads: int) -> Nets:
    """The nets, loaded once per process and thread count.

    Raises:
        UserError: a net cannot be loaded.
    """
    return Nets(detector, landmark, threads)


def whole(height_px: int, width_px: int) -> Square:
    """A picture with what is missing to a square, half on either side."""
    side = max(height_px, width_px)
    return (width_px - side) / 2, (height_px - side) / 2, side


def closer(height_px: int, width_px: int) -> list[Square]:
    """Squares of half a picture's side that overlap by half and cover it: for people who are small in it."""
    side = max(height_px, width_px) / 2
    xs, ys = (
        np.linspace(0, length - side, 1 + round(2 * (length - side) / side)) if length > side else [(length - side) / 2]
        for length in (width_px, height_px)
    )
    return [(float(x), float(y), side) for y in ys for x in xs]


def _anchors() -> Float[np.ndarray, "2254 2"]:
    """Centres (x, y) in 0..1: grids of stride 8, 16 and 32 px with 2, 2 and 6 anchors a cell, row by row."""
    grids = []
    for stride, copies in ((8, 2), (16, 2), (32, 6)):
        n = _DETECTOR_SIDE_PX // stride
        y, x = np.mgrid[0:n, 0:n]
        grids.append(np.repeat(np.stack((x, y), axis=-1).reshape(-1, 2), copies, axis=0) + 0.5)
        grids[-1] /= n
    return np.concatenate(grids)


def _refine(points: Float[np.ndarray, "39 2"], heatmaps: Float[np.ndarray, "s s 39"]) -> Float[np.ndarray, "39 2"]:
    """Move each point (0..1) to the centre of mass of its heatmap nearby, where the heatmap is sure of itself.

    The regressed point alone is blunter; the heatmap alone confuses left and right: the window keeps it local. Cell i
    stands for i / side, not (i + 0.5) / side: on Pose2Sim's clip the former gives 12 px of reprojection error, the
    latter 16, no refinement 14 (heavy net).
    """
    side = heatmaps.shape[0]
    refined = points.copy()
    reach = _HEATMAP_KERNEL // 2
    for j, (x, y) in enumerate(np.floor(points * side).astype(int)):
        rows = slice(max(y - reach, 0), max(y + reach + 1, 0))
        cols = slice(max(x - reach, 0), max(x + reach + 1, 0))
        near = sigmoid(heatmaps[rows, cols, j].astype(np.float64))
        if near.size == 0 or near.max() < 0.5:
            continue
        ys, xs = np.arange(near.shape[0])[:, None], np.arange(near.shape[1])
        mass = near.sum()
        refined[j] = ((near * xs).sum() / mass + cols.start, (near * ys).sum() / mass + rows.start)
        refined[j] = refined[j] / side
    return refined
