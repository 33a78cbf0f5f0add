"""The canonical frame of faces: where eyes and mouth lie in every aligned picture, rendered or photographed.

Convention: landmarks are FACE5 (eyes, nose, mouth corners; left is the picture's left), pixels (0, 0) at the centre of
the top-left pixel; a share s of a picture of n pixels is the pixel s * n - 0.5.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, UInt8

from aign.framework.errors import UserError

CANONICAL = np.array([(0.38, 0.48), (0.62, 0.48), (0.5, 0.615), (0.415, 0.71), (0.585, 0.71)])
"""FACE5 as shares of a side: an average adult with chin, hair and some background in the picture."""
_MIN_EYES_PX = 2.0
# The nose moves with the turn of the head and tells nothing of scale.
_ALIGNED_BY = [0, 1, 3, 4]


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """Turn, scale and shift of a plane: p -> matrix p + shift.

    Attributes:
        matrix: scale times a rotation.
        shift: added afterwards.
    """

    matrix: Float64[np.ndarray, "2 2"]
    shift: Float64[np.ndarray, "2"]

    @property
    def scale(self) -> float:
        """How many pixels there one pixel here becomes."""
        return float(np.hypot(*self.matrix[0]))

    @property
    def affine(self) -> Float64[np.ndarray, "2 3"]:
        """As OpenCV takes it."""
        return np.column_stack((self.matrix, self.shift))

    @property
    def inverse(self) -> "Similarity":
        """The way back."""
        back = np.linalg.inv(self.matrix)
        return Similarity(matrix=back, shift=-back @ self.shift)

    def __call__(self, points_px: Float[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 2"]:
        """Points moved."""
        return np.asarray(points_px @ self.matrix.T + self.shift, np.float64)


def canonical_px(side_px: int) -> Float64[np.ndarray, "5 2"]:
    """Where FACE5 lie in an aligned picture of this side."""
    return CANONICAL * side_px - 0.5


def alignment(landmarks_px: Float[np.ndarray, "5 2"], side_px: int) -> Similarity:
    """From a picture to the canonical frame: the least-squares similarity of eyes and mouth corners, no reflection.

    Convention: the picture's left eye comes first and lands at a share of 0.38 of the side.

    Raises:
        UserError: landmarks that are not finite, or eyes that lie on one another or the wrong way round.
    """
    got = np.asarray(landmarks_px, np.float64)
    if not np.isfinite(got).all():
        raise UserError("landmarks that are not finite; five points in pixels are needed")
    apart = float(np.hypot(*(got[1] - got[0])))
    if apart < _MIN_EYES_PX:
        raise UserError(f"eyes {apart:.3g} px apart; at least {_MIN_EYES_PX:g} px are needed to align a face")
    # Complex numbers: a similarity is one multiplication and one addition.
    here, there = (p[_ALIGNED_BY] @ [1, 1j] for p in (got, canonical_px(side_px)))
    middle, goal = here.mean(), there.mean()
    turn = np.vdot(here - middle, there - goal) / np.vdot(here - middle, here - middle)
    if abs(turn) == 0:
        raise UserError(f"landmarks {got.round(1).tolist()} are of no face; left is the picture's left")
    matrix = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    shift = goal - turn * middle
    return Similarity(matrix=matrix, shift=np.array([shift.real, shift.imag]))


def part_boxes(parts: UInt8[np.ndarray, "h w"]) -> tuple[Float32[np.ndarray, "3 4"], Bool[np.ndarray, "3"]]:
    """Edges of the smallest box round each part, and whether there is any of it.

    Convention: a pixel reaches from x - 0.5 to x + 0.5; a part that is not there has the whole picture and False.
    """
    height, width = parts.shape
    boxes = np.tile(np.array([-0.5, -0.5, width - 0.5, height - 0.5], np.float32), (3, 1))
    valid = np.zeros(3, bool)
    for i in range(3):
        rows, columns = np.nonzero(parts == i + 1)
        if len(rows):
            boxes[i] = columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5
            valid[i] = True
    return boxes, valid
