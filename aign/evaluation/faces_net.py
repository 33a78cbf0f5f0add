"""The network that judges faces: attributes, identity, and where lips, nose and eyes are, from one picture.

It is trained on the labels of the domain whose pictures it judges (`aign.evaluation.faces_judge_fit`), and no generator
ever sees it. Pictures are judged at 64 x 64 pixels, those of other sizes are resized to it.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

SIDE_PX = 64
FEATURES, EMBEDDING = 64, 64
PARTS = ("lips", "nose", "eyes")
"""Labels 1, 2, 3 of the table face_parts; 0 is everything else."""
_GROUPS = 8


@dataclass(frozen=True, kw_only=True)
class NetShape:
    """Sizes that the weights fit.

    Attributes:
        attributes: outputs, a logit of each sign and a standardised number of each other one.
        identities: of the training pictures; 0: no identity is known.
        parts: whether parts are labelled.
    """

    attributes: int
    identities: int
    parts: bool


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the network makes of pictures; `embedding` is of unit length."""

    attributes: Float[Tensor, "b k"]
    features: Float[Tensor, "b d"]
    embedding: Float[Tensor, "b e"]
    parts: Float[Tensor, "b 4 h w"] | None


def _conv(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, 1), nn.GroupNorm(_GROUPS, channels_out), nn.ReLU()
    )


class AttributeNet(nn.Module):
    """A small convolutional network with heads; 0.4 million weights."""

    def __init__(self, shape: NetShape) -> None:
        super().__init__()
        self.shape = shape
        self.stem = nn.Sequential(_conv(3, 16, 2), _conv(16, 32))
        self.quarter = nn.Sequential(_conv(32, 64, 2), _conv(64, 64))
        self.eighth = _conv(64, 128, 2)
        self.last = _conv(128, 128, 2)
        # Faces are aligned, so where something is says as much as what it is: no pooling over places.
        self.penultimate = nn.Linear(128 * (SIDE_PX // 16) ** 2, FEATURES)
        self.attributes = nn.Linear(FEATURES, shape.attributes)
        self.embedding = nn.Linear(FEATURES, EMBEDDING)
        # Trained, never asked: else features would forget what a blurred picture lacks, and so would FID and KID.
        self.blurred = nn.Linear(FEATURES, 1)
        self.identities = nn.Parameter(torch.randn(shape.identities, EMBEDDING))
        self.decoder = PartsDecoder() if shape.parts else None
        self.feature_scale: Tensor
        self.register_buffer("feature_scale", torch.ones(FEATURES))

    def forward(self, pictures: UInt8[Tensor, "b h w 3"]) -> Seen:
        """Judge pictures of SIDE_PX a side."""
        x = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
        half = self.stem(x)
        quarter = self.quarter(half)
        eighth = self.eighth(quarter)
        # Leaky: half of the features of a plain one never woke up.
        features = F.leaky_relu(self.penultimate(self.last(eighth).flatten(1)), 0.1)
        return Seen(
            attributes=self.attributes(features),
            features=features,
            embedding=F.normalize(self.embedding(features), dim=1),
            parts=self.decoder(x, half, quarter, eighth) if self.decoder is not None else None,
        )

    def gallery(self) -> Float[Tensor, "m e"]:
        """A unit vector for each training identity, near the embeddings of its pictures."""
        return F.normalize(self.identities, dim=1)


class PartsDecoder(nn.Module):
    """Parts at full size from the network's own maps, finer ones joined at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.from_eighth, self.from_quarter = nn.Conv2d(128, 32, 1), nn.Conv2d(64, 32, 1)
        self.at_quarter, self.at_half, self.at_full = _conv(64, 32), _conv(64, 16), _conv(19, 16)
        self.labels = nn.Conv2d(16, len(PARTS) + 1, 1)

    def forward(
        self,
        picture: Float[Tensor, "b 3 h w"],
        half: Float[Tensor, "b 32 h2 w2"],
        quarter: Float[Tensor, "b 64 h4 w4"],
        eighth: Float[Tensor, "b 128 h8 w8"],
    ) -> Float[Tensor, "b 4 h w"]:
        """Logits of nothing, lips, nose and eyes."""
        at_quarter = self.at_quarter(torch.cat((_doubled(self.from_eighth(eighth)), self.from_quarter(quarter)), 1))
        at_half = self.at_half(torch.cat((_doubled(at_quarter), half), 1))
        logits: Tensor = self.labels(self.at_full(torch.cat((_doubled(at_half), picture), 1)))
        return logits


def _doubled(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=2, mode="nearest")


def at_side(images: UInt8[np.ndarray, "n h w 3"], side_px: int) -> UInt8[np.ndarray, "n s s 3"]:
    """Square pictures of another size: averaged where they shrink, cubic where they grow."""
    if images.shape[1:3] == (side_px, side_px):
        return images
    how = cv2.INTER_AREA if images.shape[1] > side_px else cv2.INTER_CUBIC
    resized = [cv2.resize(image, (side_px, side_px), interpolation=how) for image in images]
    return np.stack(resized).astype(np.uint8) if resized else np.zeros((0, side_px, side_px, 3), np.uint8)


def parts_at_side(parts: UInt8[np.ndarray, "n h w"], side_px: int) -> UInt8[np.ndarray, "n s s"]:
    """Part labels of another size: that of the nearest pixel."""
    if parts.shape[1:] == (side_px, side_px):
        return parts
    resized = [cv2.resize(p, (side_px, side_px), interpolation=cv2.INTER_NEAREST_EXACT) for p in parts]
    return np.stack(resized).astype(np.uint8) if resized else np.zeros((0, side_px, side_px), np.uint8)
