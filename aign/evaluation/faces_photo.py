"""The judge of photographs: the age and gender net of @vladmandic/face-api (MIT), in plain PyTorch.

Its weights are quantised to 8 bits, and a manifest says how; both are pinned assets (`aign assets pull face_judge`). It
was trained on photographs and does not transfer to rendered faces. Pictures are to be aligned (`aign.data.face_frame`);
of them the net is given the square that a face fills.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from aign.data import assets
from aign.evaluation.faces_judge import Judge, Reading
from aign.evaluation.faces_net import at_side
from aign.framework.errors import UserError

SIDE_PX = 112
MEAN_RGB = (122.782, 117.001, 104.298)
BLOCKS = 2
FACE_SQUARE = (0.15, 0.2, 0.7)
"""Left, top and side of the face in an aligned picture, as shares of its side (benchmarks/faces.py compares others)."""
AGE_SCALE = 15.0
"""Years: the standard deviation of adults' ages, in which drift is told."""
FACTS: Mapping[str, float] = {
    "Male_accuracy": 1.0, "age_mae": 6.8, "age_r": 0.89,
    "Male_accuracy_of_bicubic": 0.65, "age_mae_of_bicubic": 11.5, "age_r_of_bicubic": 0.54,
}  # fmt: skip
"""On 120 AI-generated portraits whose prompts are the labels, at 64 px, and on their bicubic enlargements from 16 px,
where it is hardly better than chance (benchmarks/results/faces_judge.md)."""
_CHUNK = 128

Weights = Mapping[str, Tensor]


def read_weights(manifest: Path, binary: Path) -> dict[str, Tensor]:
    """Weights of a tensorflow.js manifest, brought back to float: min + scale * q.

    Raises:
        UserError: the two files do not belong together.
    """
    data, at = binary.read_bytes(), 0
    weights: dict[str, Tensor] = {}
    try:
        for entry in (e for group in json.loads(manifest.read_text()) for e in group["weights"]):
            value, at = _weight(entry, data, at)
            weights[entry["name"]] = value
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{manifest} is no manifest of the weights in {binary.name}: {error}") from error
    if at != len(data):
        raise UserError(f"{manifest} tells of {at} bytes; {binary} has {len(data)}")
    return weights


def _weight(entry: Mapping[str, Any], data: bytes, at: int) -> tuple[Tensor, int]:
    shape, quantised = entry["shape"], entry.get("quantization")
    count = int(np.prod(shape))
    kind = np.dtype(np.uint8 if quantised else "<f4")
    raw = np.frombuffer(data, kind, count, at).astype(np.float64)
    value = raw * quantised["scale"] + quantised["min"] if quantised else raw
    return torch.from_numpy(value.reshape(shape).astype(np.float32)), at + count * kind.itemsize


def _convolved(x: Tensor, weights: Weights, name: str, stride: int = 1) -> Tensor:
    """A convolution padded as TensorFlow's "same": what does not fit evenly comes at the right and below."""
    filters = weights[f"{name}/filters"].permute(3, 2, 0, 1)
    return F.conv2d(_padded(x, filters.shape[-1], stride), filters, weights[f"{name}/bias"], stride)


def _padded(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    more = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[2:]]
    (top, left) = (m // 2 for m in more)
    return F.pad(x, (left, more[1] - left, top, more[0] - top), value=value)


def _separable(x: Tensor, weights: Weights, name: str) -> Tensor:
    depthwise = weights[f"{name}/depthwise_filter"].permute(2, 3, 0, 1)
    pointwise = weights[f"{name}/pointwise_filter"].permute(3, 2, 0, 1)
    spread = F.conv2d(x, depthwise, padding=1, groups=x.shape[1])
    return F.conv2d(spread, pointwise, weights[f"{name}/bias"])


def _reduced(x: Tensor, weights: Weights, name: str, first: bool = False) -> Tensor:
    """A block that halves the size, beside a shortcut."""
    out = _separable(x if first else F.relu(x), weights, f"{name}/separable_conv0")
    out = _separable(F.relu(out), weights, f"{name}/separable_conv1")
    out = F.max_pool2d(_padded(out, 3, 2, -torch.inf), 3, 2)
    return out + _convolved(x, weights, f"{name}/expansion_conv", 2)


@torch.no_grad()
def age_gender(
    weights: Weights, images: UInt8[Tensor, "b 112 112 3"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"], Float[Tensor, "b 512"]]:
    """Age in years, the probability of being male, and the features both are read from.

    The network is a small Xception (Chollet, 2017) of two middle blocks, as the package's AgeGenderNet builds it.
    """
    x = (images.float() - torch.tensor(MEAN_RGB)).permute(0, 3, 1, 2) / 255
    x = F.relu(_convolved(x, weights, "entry_flow/conv_in", 2))
    x = _reduced(x, weights, "entry_flow/reduction_block_0", first=True)
    x = _reduced(x, weights, "entry_flow/reduction_block_1")
    for block in range(BLOCKS):
        out = x
        for i in range(3):
            out = _separable(F.relu(out), weights, f"middle_flow/main_block_{block}/separable_conv{i}")
        x = x + out
    x = _reduced(x, weights, "exit_flow/reduction_block")
    features = F.relu(_separable(x, weights, "exit_flow/separable_conv")).mean((2, 3))
    age = features @ weights["fc/age/weights"][:, 0] + weights["fc/age/bias"]
    male = F.softmax(features @ weights["fc/gender/weights"] + weights["fc/gender/bias"], dim=1)[:, 0]
    return age, male, features


def face_square(
    images: UInt8[np.ndarray, "n s s 3"], square: tuple[float, float, float] = FACE_SQUARE
) -> UInt8[np.ndarray, "n a a 3"]:
    """What a face fills of aligned pictures."""
    left, top, side = (round(share * images.shape[1]) for share in square)
    return np.ascontiguousarray(images[:, top : top + side, left : left + side])


def photo_judge(square: tuple[float, float, float] = FACE_SQUARE) -> Judge:
    """The judge of photographs; attributes Male and age.

    Args:
        square: of an aligned picture, that the net sees.

    Raises:
        UserError: its weights were not pulled, or are not those.
    """
    weights = read_weights(assets.path("age_gender_manifest"), assets.path("age_gender_weights"))

    def read(images: UInt8[np.ndarray, "n s s 3"]) -> Reading:
        faces = torch.from_numpy(at_side(face_square(images, square), SIDE_PX))
        parts = [age_gender(weights, faces[i : i + _CHUNK]) for i in range(0, max(len(faces), 1), _CHUNK)]
        age, male, features = (torch.cat([part[i] for part in parts]).numpy() for i in range(3))
        return Reading(values=np.stack((2 * male - 1, age), 1), features=features)

    return Judge(
        name="age and gender net of @vladmandic/face-api 1.7.15 (MIT), trained on photographs",
        names=("Male", "age"),
        is_sign=(True, False),
        scale=np.array((1.0, AGE_SCALE), np.float32),
        read=read,
        facts=FACTS,
    )
