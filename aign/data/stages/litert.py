"""MediaPipe's nets on LiteRT: what all of them share."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from jaxtyping import Float, Float32, Float64, UInt8

from aign.framework.errors import UserError

_MIN_SCORE = 0.5
_MIN_IOU = 0.3


class Net:
    """One interpreter with the places of its tensors."""

    def __init__(self, path: Path, threads: int) -> None:
        if not path.is_file():
            raise UserError(f"no net at {path}; allowed: a .tflite file, e.g. from `aign assets pull`")
        try:
            self._net = Interpreter(model_path=str(path), num_threads=threads)
            self._net.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path} is not a net that LiteRT can run ({str(error).splitlines()[0]})") from error
        self._input: int = self._net.get_input_details()[0]["index"]
        self._outputs: list[int] = [out["index"] for out in self._net.get_output_details()]

    def __call__(self, image: Float32[np.ndarray, "s s 3"]) -> list[Any]:
        """Every output for one picture."""
        self._net.set_tensor(self._input, image[None])
        self._net.invoke()
        return [self._net.get_tensor(out) for out in self._outputs]


def warped(
    frame: UInt8[np.ndarray, "h w 3"], to_image: Float[np.ndarray, "2 3"], side_px: int
) -> UInt8[np.ndarray, "s s 3"]:
    """Cut a square, `to_image` being from its pixels to the frame's; black outside the frame."""
    return np.asarray(
        cv2.warpAffine(frame, to_image, (side_px, side_px), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP), np.uint8
    )


def sigmoid(x: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Logits to 0..1."""
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -50, 50))))


def suppressed(
    boxes: Float[np.ndarray, "n k"], logits: Float[np.ndarray, " n"], anchors: Float[np.ndarray, "n 2"]
) -> list[Float64[np.ndarray, " k"]]:
    """Weighted non-maximum suppression of single-shot detections.

    Args:
        boxes: x, y, w, h, then keypoints x, y, as offsets from their anchors.
        logits: how sure each is.
        anchors: in the boxes' units.

    Returns:
        of each instance, without the offsets, the surest first.
    """
    scores = sigmoid(logits.astype(np.float64))
    likely = scores >= _MIN_SCORE
    scores = scores[likely]
    found = boxes[likely].astype(np.float64)
    centres = anchors[likely]
    found[:, :2] += centres
    found[:, 4:] += np.tile(centres, boxes.shape[1] // 2 - 2)
    low, high = found[:, :2] - found[:, 2:4] / 2, found[:, :2] + found[:, 2:4] / 2
    area = (high - low).prod(1)
    left = np.ones(len(scores), bool)
    people = []
    while left.any():
        top = int(np.where(left, scores, -1.0).argmax())
        overlap = np.clip(np.minimum(high, high[top]) - np.maximum(low, low[top]), 0, None).prod(1)
        same = left & (overlap / np.maximum(area + area[top] - overlap, 1e-12) >= _MIN_IOU)
        same[top] = True
        people.append(np.asarray((found[same] * scores[same, None]).sum(0) / scores[same].sum()))
        left &= ~same
    return people
