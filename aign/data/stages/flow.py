"""Optical flow between consecutive pictures, in both directions, and where it can be trusted.

Convention: flow(x) = position in the other picture minus position x in this one, in pixels of the stored picture,
x right, y down. `forward` lives on the first picture's pixels, `backward` on the second's.
"""

import functools
import math
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from aign.framework.errors import UserError

MIN_SIDE_PX = 16
CONSISTENCY_SLOPE = 0.01
CONSISTENCY_FLOOR_PX2 = 0.1
"""Of the test in `consistent`. The paper has 0.5 for pictures 480 px high. DIS errs by about as many pixels at 128 px
as at 512 (benchmarks/results/flow.md), so one floor serves all sizes: where a person moves 6 px in 256 px pictures, 0.1
drops 63 % of what is occluded and 5 % of what is right; 0.5 drops 44 % and 3 %."""

_PATCH_PX = 8
_NO_MAP = np.empty(0, np.float32)
_engines = threading.local()


@runtime_checkable
class FlowMethod(Protocol):
    """What a better flow has to offer to be plugged in. Name, version and params enter the hash of what it makes."""

    @property
    def name(self) -> str:
        """Its name, e.g. "dis"."""
        ...

    @property
    def version(self) -> str:
        """To be raised whenever the same params give other flow."""
        ...

    @property
    def params(self) -> Mapping[str, Any]:
        """Everything that decides its result, as JSON can hold it."""
        ...

    def __call__(
        self, picture: UInt8[np.ndarray, "h w 3"], other: UInt8[np.ndarray, "h w 3"]
    ) -> Float32[np.ndarray, "h w 2"]:
        """Where each pixel of `picture` is in `other`, minus where it is in `picture`; RGB."""
        ...


@dataclass(frozen=True, kw_only=True)
class Dis:
    """Dense inverse search (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016) of OpenCV.

    Attributes:
        finest_scale: the search stops at 1 / 2^finest_scale of the resolution.
        patch_stride: pixels between the 8 px patches at each scale.
        search_iterations: gradient descent steps per patch.
        refinement_iterations: variational refinement at each scale; 0 = none.
    """

    finest_scale: int
    patch_stride: int
    search_iterations: int
    refinement_iterations: int

    @property
    def name(self) -> str:
        """For the stage's name."""
        return "dis"

    @property
    def version(self) -> str:
        """OpenCV's release is not part of it: the figures would have to differ to matter, and tests compare them."""
        return "1"

    @property
    def params(self) -> Mapping[str, Any]:
        """The attributes."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __call__(
        self, picture: UInt8[np.ndarray, "h w 3"], other: UInt8[np.ndarray, "h w 3"]
    ) -> Float32[np.ndarray, "h w 2"]:
        """Flow of grey values.

        Raises:
            UserError: the pictures are too small or too wide for DIS.
        """
        height, width = picture.shape[:2]
        # At the coarsest scale OpenCV picks from the width, a patch must fit into the height: else it crashes.
        coarsest = max(2 * width // (5 * _PATCH_PX), 1).bit_length() - 1
        if min(height, width) < MIN_SIDE_PX or height >> coarsest < _PATCH_PX:
            raise UserError(
                f"flow of {height} x {width} px pictures; allowed: at least {MIN_SIDE_PX} px a side, at most 2.5 times "
                "as wide as high"
            )
        first, second = (cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) for rgb in (picture, other))
        return np.asarray(_engine(self, picture.shape[:2]).calc(first, second, None), np.float32)


DIS_FINE = Dis(finest_scale=0, patch_stride=4, search_iterations=12, refinement_iterations=5)
DIS_MEDIUM = Dis(finest_scale=1, patch_stride=3, search_iterations=25, refinement_iterations=5)
"""OpenCV's own preset of that name."""

DEFAULT_BY_SIDE: tuple[tuple[float, FlowMethod], ...] = ((320, DIS_FINE), (math.inf, DIS_MEDIUM))
"""Up to which longer side of the picture, in px, which method.

Measured in benchmarks/results/flow.md; a person moving 3 px over a static background, mean error on the person:
at 128 px fine 0.31 px (3 ms), medium 0.55 px (1 ms), the most expensive setting 0.29 px (13 ms);
at 256 px fine 0.20 px (13 ms), medium 0.35 px (5 ms), the most expensive setting 0.19 px (53 ms);
at 512 px fine 0.19 px (53 ms), medium 0.23 px (19 ms), the most expensive setting 0.18 px (200 ms).
So the finest scale nearly halves the error of small pictures and costs less than the landmark net (32 ms a frame) for
both directions; on large ones it gains a fifth and would cost three times as much as that net.
"""


def default_flow(side_px: int) -> FlowMethod:
    """The method for pictures of that longer side."""
    return next(method for largest, method in DEFAULT_BY_SIDE if side_px <= largest)


def _engine(settings: Dis, size: tuple[int, ...]) -> Any:
    """OpenCV's object, which keeps buffers: one per thread, and one per size.

    A small picture makes OpenCV lower the finest scale for good, so that larger ones would then have other flow.
    """
    made: dict[tuple[Dis, tuple[int, ...]], Any] = _engines.__dict__.setdefault("made", {})
    if (settings, size) not in made:
        engine: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        engine.setFinestScale(settings.finest_scale)
        engine.setPatchSize(_PATCH_PX)
        engine.setPatchStride(settings.patch_stride)
        engine.setGradientDescentIterations(settings.search_iterations)
        engine.setVariationalRefinementIterations(settings.refinement_iterations)
        made[settings, size] = engine
    return made[settings, size]


@dataclass(frozen=True, kw_only=True)
class PairFlow:
    """Flow between two pictures. Invalid pixels hold what the method said.

    Attributes:
        forward_px: first to second.
        forward_valid: where both directions agree and the target lies inside the picture.
        backward_px: second to first.
        backward_valid: likewise.
    """

    forward_px: Float32[np.ndarray, "h w 2"]
    forward_valid: Bool[np.ndarray, "h w"]
    backward_px: Float32[np.ndarray, "h w 2"]
    backward_valid: Bool[np.ndarray, "h w"]


def flow_pair(first: UInt8[np.ndarray, "h w 3"], second: UInt8[np.ndarray, "h w 3"], method: FlowMethod) -> PairFlow:
    """Flow in both directions; each direction's run also checks the other."""
    forward, backward = method(first, second), method(second, first)
    return PairFlow(
        forward_px=forward,
        forward_valid=consistent(forward, backward),
        backward_px=backward,
        backward_valid=consistent(backward, forward),
    )


def flow_pairs(frames: Iterable[UInt8[np.ndarray, "h w 3"]], method: FlowMethod) -> Iterator[PairFlow]:
    """Flow of each two consecutive frames, one pair at a time: memory does not grow with the clip."""
    for first, second in pairwise(frames):
        yield flow_pair(first, second, method)


def consistent(
    flow_px: Float32[np.ndarray, "h w 2"], reverse_px: Float32[np.ndarray, "h w 2"]
) -> Bool[np.ndarray, "h w"]:
    """Where going there and back ends up at the start, and the target lies inside the picture.

    |f(x) + b(x + f(x))|^2 < slope (|f(x)|^2 + |b(x + f(x))|^2) + floor (Sundaram, Brox, Keutzer, "Dense Point
    Trajectories by GPU-accelerated Large Displacement Optical Flow", ECCV 2010, eq. 5); false where flow is not finite.
    """
    height, width = flow_px.shape[:2]
    target = _grid(height, width) + flow_px
    back_px = cv2.remap(reverse_px, target, _NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    # Planes: numpy is several times faster on them than on a last axis of two.
    (u, v), (back_u, back_v), (x, y) = cv2.split(flow_px), cv2.split(back_px), cv2.split(target)
    gap = np.square(u + back_u) + np.square(v + back_v)
    length = np.square(u) + np.square(v) + np.square(back_u) + np.square(back_v)
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return np.asarray((gap < CONSISTENCY_SLOPE * length + CONSISTENCY_FLOOR_PX2) & inside)


@functools.lru_cache(maxsize=8)
def _grid(height: int, width: int) -> Float32[np.ndarray, "h w 2"]:
    """Pixel coordinates (x, y)."""
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    grid.flags.writeable = False
    return grid
