"""Which part of a face is hidden: a box round lips, nose or eyes, or the same with a ragged edge."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from aign.data.counter import uniform
from aign.data.store import Selection, Store
from aign.framework.errors import UserError
from aign.tasks.faces.pictures import read_pictures, window

Part: TypeAlias = Literal["lips", "nose", "eyes"]
PARTS: Mapping[str, int] = {"lips": 0, "nose": 1, "eyes": 2}
"""Row of `boxes_px`."""
Shape: TypeAlias = Literal["box", "free", "both"]
_BLOBS = 5
_LEAST_PX = 2.0


@dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """What is hidden.

    Attributes:
        part: of the face.
        shape: "box", "free" (discs round a box, a free form), or half of each.
        margin: the hidden box is this many times the part's.
        jitter: its sides and its middle differ by up to this share of its size.
    """

    part: Part = "lips"
    shape: Shape = "both"
    margin: float = 1.5
    jitter: float = 0.15

    def __post_init__(self) -> None:
        if not (1 <= self.margin <= 4 and 0 <= self.jitter < 0.5):
            raise UserError(f"got margin {self.margin:g}, jitter {self.jitter:g}; allowed: 1 to 4, 0 to under 0.5")


@dataclass(frozen=True, kw_only=True)
class PartBoxes:
    """Where a part of the face is in n pictures, in the order of the store.

    Attributes:
        boxes_px: edges x0 y0 x1 y1 in the pictures as they are stored.
        valid: whether they are known.
        size_px: width and height of the pictures.
        keys: sequence and number of each.
    """

    boxes_px: Float[np.ndarray, "n 4"]
    valid: Bool[np.ndarray, " n"]
    size_px: Float[np.ndarray, "n 2"]
    keys: tuple[tuple[str, int], ...]


def read_boxes(store: Store, selection: Selection, part: Part) -> PartBoxes:
    """Boxes of the selected pictures.

    Raises:
        UserError: the store has no parts of faces, or nothing is selected.
    """
    columns = {"faces": ("face_size_px",), "face_parts": ("boxes_px", "boxes_valid")}
    clips = store.read(columns, selection)
    row, n = PARTS[part], len(clips.keys)
    return PartBoxes(
        boxes_px=clips.arrays["boxes_px"].reshape(n, -1, 4)[:, row].astype(np.float32),
        valid=clips.arrays["boxes_valid"].reshape(n, -1)[:, row].astype(bool),
        size_px=clips.arrays["face_size_px"].astype(np.float32),
        keys=tuple((key.sequence, key.frame_start) for key in clips.keys),
    )


def read_windows(
    store: Store, selection: Selection, side_px: int, part: Part
) -> UInt8[Tensor, "n 3 {side_px//2} {side_px//2}"]:
    """What is round a part of the selected pictures, in the order of the store (`inpainting.view_part`).

    Raises:
        UserError: what `read_boxes` and `read_pictures` raise.
    """
    boxes = read_boxes(store, selection, part)
    at, size = torch.from_numpy(boxes.boxes_px), torch.from_numpy(boxes.size_px)
    return window(read_pictures(store, selection, side_px), in_square(at, size, side_px))


def in_square(boxes_px: Float[Tensor, "b 4"], size_px: Float[Tensor, "b 2"], side_px: int) -> Float[Tensor, "b 4"]:
    """Boxes of stored pictures in the pixels of their `squared`.

    Convention: (0, 0) is the centre of the top-left pixel before and after; edges meet edges.
    """
    short = size_px.amin(1, keepdim=True)
    margin = (size_px - short) // 2
    scale = side_px / short
    corners = boxes_px.reshape(-1, 2, 2)
    return ((corners + 0.5 - margin.unsqueeze(1)) * scale.unsqueeze(1) - 0.5).flatten(1)


def mirrored_boxes(boxes_px: Float[Tensor, "b 4"], side_px: int) -> Float[Tensor, "b 4"]:
    """The boxes in the mirrored pictures."""
    x0, y0, x1, y1 = boxes_px.unbind(1)
    return torch.stack((side_px - 1 - x1, y0, side_px - 1 - x0, y1), 1)


def part_masks(
    boxes_px: Float[Tensor, "b 4"], side_px: int, seed: Int64[Tensor, " b"], how: MaskConfig
) -> Float[Tensor, "b 1 s s"]:
    """1 where the picture is kept, 0 where it is hidden: all of the part's box, and some of what is round it.

    Args:
        boxes_px: of the part, in the square picture.
        side_px: of that.
        seed: decides the mask; one picture may be given many.
        how: which part, and how much round it.
    """
    draw = 2 * uniform(seed, 4, purpose=21).to(boxes_px.dtype) - 1
    middle = 0.5 * (boxes_px[:, :2] + boxes_px[:, 2:])
    half = (0.5 * (boxes_px[:, 2:] - boxes_px[:, :2])).clamp_min(_LEAST_PX)
    wide = half * (how.margin * (1 + how.jitter * draw[:, :2])).clamp_min(1)
    moved = middle + (wide - half) * how.jitter * draw[:, 2:]
    at = torch.arange(side_px, device=boxes_px.device, dtype=boxes_px.dtype)
    boxed = _inside(at, moved, wide)
    free = _inside(at, middle, half) | _blobs(at, moved, wide, seed)
    choice = uniform(seed, 1, purpose=22)[:, 0] < 0.5
    ragged = {"box": torch.zeros_like(choice), "free": torch.ones_like(choice), "both": choice}[how.shape]
    hidden = torch.where(ragged[:, None, None], free, boxed)
    return 1 - hidden.to(boxes_px.dtype).unsqueeze(1)


def _inside(at: Float[Tensor, " s"], middle: Float[Tensor, "b 2"], half: Float[Tensor, "b 2"]) -> Tensor:
    """Whether a pixel's centre is in the box [b, s, s]."""
    across, down = ((at - middle[:, i : i + 1]).abs() <= half[:, i : i + 1] for i in (0, 1))
    return down.unsqueeze(2) & across.unsqueeze(1)


def _blobs(
    at: Float[Tensor, " s"], middle: Float[Tensor, "b 2"], half: Float[Tensor, "b 2"], seed: Int64[Tensor, " b"]
) -> Tensor:
    """Whether a pixel's centre is in one of some discs about the box [b, s, s]."""
    draw = uniform(seed, 3 * _BLOBS, purpose=23).to(middle.dtype).reshape(-1, _BLOBS, 3)
    centre = middle.unsqueeze(1) + (2 * draw[..., :2] - 1) * half.unsqueeze(1)
    radius = (0.3 + 0.7 * draw[..., 2]) * half.amin(1, keepdim=True)
    across = (at - centre[..., :1]).square().unsqueeze(2)
    down = (at - centre[..., 1:]).square().unsqueeze(3)
    inside: Tensor = (across + down <= radius[..., None, None].square()).any(1)
    return inside
