"""BlazeFace and FaceMesh on LiteRT: a picture to the 468 landmarks of each face.

Convention: pixels (0, 0) at the centre of the top-left pixel, x right, y down.
Source: Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs", 2019; Kartynnik et al.,
"Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs", 2019; and the nets' own tensors.
"""

import functools
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64, UInt8

from aign.data import assets
from aign.data.stages.litert import Net, sigmoid, suppressed, warped

NUM_POINTS = 468
_DETECTOR_SIDE_PX = 128
_CROP_SIDE_PX = 192
_MARGIN = 1.5
_MIN_FLAG = 0.5
_MIN_SIDE_PX = 8.0


class FaceNets:
    """Both interpreters, ready to run; not to be shared between threads."""

    def __init__(self, detector: Path, landmark: Path, threads: int = 1) -> None:
        self._detector = Net(detector, threads)
        self._landmark = Net(landmark, threads)
        self._anchors = _anchors()

    def faces(self, image: UInt8[np.ndarray, "h w 3"]) -> list[Float64[np.ndarray, "468 2"]]:
        """Landmarks of each face in pixels, the surest first; empty where none is found."""
        found = [self._mesh(image, *region) for region in self._regions(image)]
        return [points for points in found if points is not None]

    def _regions(self, image: UInt8[np.ndarray, "h w 3"]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Middle [2] and axes [2, 2] (right, down; a side long) of the square round each face, eyes level."""
        height, width = image.shape[:2]
        side = max(height, width)
        scale = side / _DETECTOR_SIDE_PX
        corner = np.array([(side - width) / 2, (side - height) / 2])
        to_image = np.array([[scale, 0, scale / 2 - 0.5 - corner[0]], [0, scale, scale / 2 - 0.5 - corner[1]]])
        boxed = warped(image, to_image, _DETECTOR_SIDE_PX).astype(np.float32) / 127.5 - 1
        boxes, logits = sorted(self._detector(boxed), key=lambda out: -out.shape[-1])
        regions = []
        for face in suppressed(boxes[0] / _DETECTOR_SIDE_PX, logits[0, :, 0], self._anchors):
            middle = face[:2] * side - corner
            eyes = face[4:8].reshape(2, 2) * side
            level, reach = eyes[1] - eyes[0], float(face[2:4].max()) * side * _MARGIN
            if reach >= _MIN_SIDE_PX and np.hypot(*level) > 1:
                right = level / np.hypot(*level) * reach
                regions.append((middle, np.stack((right, [-right[1], right[0]]), axis=1)))
        return regions

    def _mesh(
        self, image: UInt8[np.ndarray, "h w 3"], middle: Float[np.ndarray, "2"], axes: Float[np.ndarray, "2 2"]
    ) -> Float64[np.ndarray, "468 2"] | None:
        """Landmarks inside one square; None where the net sees no face in it."""
        steps = axes / _CROP_SIDE_PX
        origin = middle - axes.sum(1) / 2 + steps.sum(1) / 2 - 0.5
        crop = warped(image, np.column_stack((steps, origin)), _CROP_SIDE_PX)
        points, flag = sorted(self._landmark(crop.astype(np.float32) / 255), key=lambda out: -out.size)[:2]
        if float(sigmoid(flag.reshape(-1)[:1].astype(np.float64))[0]) < _MIN_FLAG:
            return None
        inside = points.reshape(NUM_POINTS, 3)[:, :2].astype(np.float64) / _CROP_SIDE_PX
        return np.asarray(middle + (inside - 0.5) @ axes.T - 0.5, np.float64)


@functools.cache
def load_face_nets(threads: int = 1) -> FaceNets:
    """The nets of this machine, loaded once per process and thread count.

    Raises:
        UserError: they were not pulled (`aign assets pull face`).
    """
    return FaceNets(assets.path("face_detector"), assets.path("face_landmark"), threads)


def _anchors() -> Float[np.ndarray, "896 2"]:
    """Centres (x, y) in 0..1: grids of stride 8 and 16 px with 2 and 6 anchors a cell, row by row."""
    grids = []
    for stride, copies in ((8, 2), (16, 6)):
        n = _DETECTOR_SIDE_PX // stride
        y, x = np.mgrid[0:n, 0:n]
        grids.append((np.repeat(np.stack((x, y), axis=-1).reshape(-1, 2), copies, axis=0) + 0.5) / n)
    return np.concatenate(grids)
