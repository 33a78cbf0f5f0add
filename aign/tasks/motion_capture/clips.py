"""Whole clips of a store, frame by frame, and a generator run over them."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aign.body.assets import BodyAssets
from aign.data.decoding import Decoder
from aign.data.schema import ClipKey
from aign.data.store import Selection, Store
from aign.data.store.reader import Columns, column_types
from aign.geometry.skeleton import Skeleton
from aign.tasks.motion_capture.factors import BodyFactors
from aign.tasks.motion_capture.feed import observe
from aign.tasks.motion_capture.nets import Encoder
from aign.tasks.motion_capture.observation import Observation

CHUNK = 128
"""Frames that a generator sees at a time."""


@dataclass(frozen=True, kw_only=True)
class CapturedClip:
    """One clip of a store: its columns as the loader decodes them, one frame per sample.

    Attributes:
        key: which clip.
        columns: [n, 1, ...] per-frame columns, [n, ...] per-clip ones.
    """

    key: ClipKey
    columns: Mapping[str, Tensor]

    def windows(self, first: int, frames: int) -> dict[str, Tensor]:
        """A window for each frame: from `first` frames after it on, `frames` long; beyond an end the end's frame."""
        n = self.key.num_frames
        index = (torch.arange(n).unsqueeze(1) + first + torch.arange(frames)).clamp(0, n - 1)
        per_frame = {name for name, value in self.columns.items() if value.ndim > 1 and value.shape[1] == 1}
        chosen = {name: self.columns[name][:, 0][index] for name in per_frame}
        return {**self.columns, **chosen}


def read_clips(store: Store, columns: Columns, selection: Selection | None = None) -> Iterator[CapturedClip]:
    """The selected clips, one after the other.

    Raises:
        UserError: nothing is selected, or a part or picture is damaged.
    """
    types = column_types(columns)
    with closing(Decoder(1)) as decoder:
        for found in store.row_groups(tuple(columns), selection):
            block = store.read_row_group(found, columns)
            start = 0
            for row, key in enumerate(block.group.clip_keys()):
                stop = start + key.num_frames
                arrays = {
                    name: block.arrays[name][start:stop, None]
                    if types[name].per == "frame"
                    else np.repeat(block.arrays[name][row : row + 1], key.num_frames, 0)
                    for name in types
                }
                yield CapturedClip(key=key, columns=_decoded(arrays, decoder, key))
                start = stop


def _decoded(arrays: dict[str, np.ndarray], decoder: Decoder, key: ClipKey) -> dict[str, Tensor]:
    def place(name: str, index: int) -> str:
        return f"{name} of {key.sequence}, camera {key.camera}, frame {key.frame_start + index}"

    pictures = {name: arrays.pop(name) for name in list(arrays) if arrays[name].dtype == object}
    arrays |= decoder.decode(pictures, place)
    frames = len(next(iter(arrays.values())))
    return {
        **{name: torch.from_numpy(np.array(values)) for name, values in arrays.items()},
        "sample_seed": torch.zeros(frames, dtype=torch.int64),
    }


def observed(clip: CapturedClip, frames: int, source: Skeleton, side_px: int, body: BodyAssets) -> Observation:
    """Each frame of a clip with its neighbours, as the encoder sees it: nothing is disturbed."""
    return observe(clip.windows(-((frames - 1) // 2), frames), source, side_px, body)


@torch.no_grad()
def capture(encoder: Encoder, seen: Observation, device: torch.device | None = None) -> BodyFactors:
    """A generator over a clip's frames; each window's own frame is taken.

    Args:
        encoder: the generator.
        seen: of `observed` with the frames that the encoder sees.
        device: where the generator is; None: the CPU.
    """
    middle = (encoder.config.frames - 1) // 2
    parts = []
    for start in range(0, len(seen.conf), CHUNK):
        z = encoder(seen.part(slice(start, start + CHUNK)).to(device or torch.device("cpu")))
        own = slice(middle, middle + 1)
        parts.append(BodyFactors(rotmats=z.rotmats[:, own], betas=z.betas, pelvis_cam_m=z.pelvis_cam_m[:, own]))
    return BodyFactors(**{name: torch.cat([vars(p)[name] for p in parts]).cpu() for name in vars(parts[0])})
