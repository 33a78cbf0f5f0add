"""Pictures of a store as squares of one side, and which of them are meant."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from aign.data.decoding import Decoder
from aign.data.store import Selection, Store
from aign.data.store.records import RowGroup
from aign.framework.errors import UserError
from aign.render.image import area_resize
from aign.tasks.faces.labels import FaceLabels

PICTURE = "face_jpeg"
_CHUNK = 256


@dataclass(frozen=True, kw_only=True)
class PictureSelection(Selection):
    """Single pictures of a selection.

    Attributes:
        keys: sequence and number in it of every picture that is meant.
    """

    keys: frozenset[tuple[str, int]] = field(default=frozenset(), repr=False)

    def rows(self, group: RowGroup) -> tuple[int, ...]:
        """Rows of the group that are meant, in order."""
        clips = group.clips
        return tuple(row for row in super().rows(group) if (group.sequence, clips[row].frame_start) in self.keys)


def chosen(labels: FaceLabels, which: Bool[np.ndarray, " n"]) -> PictureSelection:
    """The pictures that are marked."""
    pairs = zip(labels.sequence[which].tolist(), labels.number[which].tolist(), strict=True)
    return PictureSelection(keys=frozenset(pairs))


def squared(rgb: UInt8[Tensor, "b h w 3"], side_px: int) -> Float[Tensor, "b 3 {side_px} {side_px}"]:
    """Pictures in 0..1: the square in the middle, shrunk by area.

    CelebA's aligned pictures lose 20 rows above and below.
    """
    h, w = rgb.shape[1:3]
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    inner = rgb[:, top : top + side, left : left + side].permute(0, 3, 1, 2)
    return area_resize(inner.to(torch.get_default_dtype()) / 255, side_px)


def resized(pictures: UInt8[np.ndarray, "n h w 3"], side_px: int) -> UInt8[np.ndarray, "n {side_px} {side_px} 3"]:
    """Pictures as files hold them, `squared`.

    Raises:
        UserError: they are smaller than the side.
    """
    if min(pictures.shape[1:3]) < side_px:
        got = f"{pictures.shape[2]} x {pictures.shape[1]}"
        raise UserError(f"got pictures of {got} px; allowed are {side_px} x {side_px} and larger")
    small = (squared(torch.from_numpy(pictures), side_px) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(small.permute(0, 2, 3, 1).numpy())


def check_size(labels: FaceLabels, side_px: int) -> None:
    """Refuse to invent pixels.

    Raises:
        UserError: a picture is smaller than the side.
    """
    small = labels.size_px.min(axis=1) < side_px
    if small.any():
        some = "x".join(map(str, labels.size_px[small][0].tolist()))
        raise UserError(
            f"{int(small.sum())} of {len(small)} pictures are smaller than {side_px} px (one is {some}); allowed are "
            "larger ones, or a smaller --task.generator side"
        )


def read_pictures(store: Store, selection: Selection, side_px: int) -> UInt8[Tensor, "n 3 s s"]:
    """The selected pictures as `squared`, 8 bits a channel, in the order of the store.

    Raises:
        UserError: nothing is selected, or a picture is damaged.
    """
    parts = [(squared(rgb, side_px) * 255).round().to(torch.uint8) for rgb in _decoded(store, selection)]
    return torch.cat(parts)


def _place(rows: Int[np.ndarray, " n"], where: str, _: str, index: int) -> str:
    """A picture in errors."""
    return f"row {rows[index]} of {where}"


def _decoded(store: Store, selection: Selection) -> Iterator[UInt8[Tensor, "b h w 3"]]:
    """Pictures as they are stored, some of one size at a time."""
    decoder = Decoder(1)
    try:
        for found in store.row_groups(("faces",), selection):
            encoded = store.read_row_group(found, {"faces": (PICTURE, "face_size_px")}).arrays
            sizes, data = encoded["face_size_px"], encoded[PICTURE]
            turns = np.flatnonzero((sizes[1:] != sizes[:-1]).any(axis=1)) + 1
            for run in np.split(np.arange(len(data)), turns):
                for start in range(0, len(run), _CHUNK):
                    part = run[start : start + _CHUNK]
                    where = f"{found.group.sequence} from {found.group.source}"
                    rgb = decoder.decode({PICTURE: data[part]}, partial(_place, part, where))
                    yield torch.from_numpy(rgb["face_rgb"])
    finally:
        decoder.close()
