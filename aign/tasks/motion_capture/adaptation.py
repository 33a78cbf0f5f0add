"""The evidence of one clip: what bodies are fitted to, or an encoder is adapted to; no label is ever in it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from torch import Tensor

from aign.body.assets import BodyAssets
from aign.data import pixels
from aign.framework.errors import UserError
from aign.geometry.skeleton import Skeleton
from aign.tasks.motion_capture.clips import CapturedClip
from aign.tasks.motion_capture.feed import (
    BODY_COLUMNS,
    EVIDENCE_TENSORS,
    STILL,
    Augmentation,
    keypoints_in_frame,
    observe,
)
from aign.tasks.motion_capture.observation import Observation

FLOWS = ("flow_64th_px", "flow_back_64th_px")
OF_MASK = ("segmentation", "segmentation_product", "segmentation_released")
OF_FLOW = ("motion", "motion_everywhere")
OF_EVIDENCE = ("keypoints", *OF_MASK, *OF_FLOW)
"""The terms that compare renders with a clip."""
HELD_EVERY = 5
"""One in so many blocks of a clip is held out."""
HIDDEN = replace(STILL, drop=0.3)
"""Of the held-out windows, a share of the keypoints is hidden from the encoder: those it must guess are scored."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows of consecutive frames.

    Attributes:
        starts: their first frames.
        length: frames of each.
        seed: of random changes of each.
    """

    starts: Int64[Tensor, " b"]
    length: int
    seed: Int64[Tensor, " b"]


@dataclass(frozen=True, kw_only=True)
class ClipEvidence:
    """A clip without labels, and which terms it can answer.

    Attributes:
        clip: its columns; masks and flow are there, but say nothing where the store had none.
        source: joint set of the keypoints.
        weights: of the terms that are left.
        notes: one line for each term that was left out.
    """

    clip: CapturedClip
    source: Skeleton
    weights: Mapping[str, float]
    notes: tuple[str, ...]

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.clip.key.num_frames

    def observe(self, windows: Windows, side_px: int, body: BodyAssets, how: Augmentation = STILL) -> Observation:
        """Some windows as the encoder sees them."""
        starts, length = windows.starts, windows.length
        index = starts.unsqueeze(1) + torch.arange(length)
        assert int(index.max()) < self.frames, "windows lie in the clip"
        columns = self.clip.columns
        batch = {n: v[:, 0][index] if v.ndim > 1 and v.shape[1] == 1 else v[starts] for n, v in columns.items()}
        return observe({**batch, "sample_seed": windows.seed}, self.source, side_px, body, how)


def evidence_of(clip: CapturedClip, source: Skeleton, weights: Mapping[str, float]) -> ClipEvidence:
    """A clip as evidence; terms whose mask or flow it does not have are left out.

    Args:
        clip: with PICTURE_COLUMNS, and what there is of EVIDENCE_COLUMNS.
        source: joint set of the store.
        weights: of the terms that one would like.

    Raises:
        UserError: no keypoint with confidence, one that is not finite, or no term is left.
    """
    name = f"{clip.key.sequence}, camera {clip.key.camera}"
    kept = {n: v for n, v in clip.columns.items() if n not in BODY_COLUMNS["body"]}
    px, conf = kept["kp2d_px"], kept["kp2d_conf"]
    if (wrong := ~(conf.isfinite() & (px.isfinite().all(-1) | (conf == 0)))).any():
        raise UserError(
            f"{name}: got {int(wrong.sum())} keypoints that are not finite; allowed are numbers, or confidence 0"
        )
    # Joint sets are converted by weights, and 0 times NaN is NaN.
    kept["kp2d_px"] = torch.where((conf > 0).unsqueeze(-1), px, torch.zeros_like(px))
    _, conf = keypoints_in_frame(kept, source)
    if not (conf > 0).any():
        raise UserError(f"{name}: got no keypoint with confidence; at least one frame with a person is needed")
    notes, left = [], dict(weights)
    # One frame alone moves nowhere.
    has_flow = all(flow in kept for flow in FLOWS) and clip.key.num_frames > 1
    for what, there, terms in (("masks", "mask" in kept, OF_MASK), ("flow", has_flow, OF_FLOW)):
        if not there and (without := [t for t in terms if left.pop(t, 0.0) > 0]):
            notes.append(f"{name} has no {what}: {', '.join(without)} left out")
    if not any(left.get(term, 0.0) > 0 for term in OF_EVIDENCE):
        on = ", ".join(term for term, weight in weights.items() if weight > 0)
        raise UserError(
            f"{name}: got weights for {on}; allowed are some that the clip's keypoints, masks or flow answer"
        )
    return ClipEvidence(clip=replace(clip, columns=_completed(kept)), source=source, weights=left, notes=tuple(notes))


def _completed(columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With masks and flow that say nothing where there are none, if there is one of them."""
    if not EVIDENCE_TENSORS & columns.keys():
        return dict(columns)
    n, _, height, width = columns["image_rgb"].shape[:4]
    nobody = torch.zeros(n, 1, height, width, dtype=torch.bool)
    unknown = torch.full((n, 1, 2, height, width), pixels.FLOW_INVALID, dtype=torch.int16)
    return {"mask": nobody, **dict.fromkeys(FLOWS, unknown), **columns}


def hold_out(frames: int, length: int) -> tuple[Int64[Tensor, " train"], Int64[Tensor, " held"]]:
    """First frames of the windows to train on and of those held out, which share no frame.

    The clip is cut into blocks of `length` frames, and the third of every five is held out: frames between two that are
    trained on would be no test, they look like those.

    Raises:
        UserError: fewer than two blocks.
    """
    blocks = torch.arange(frames // length) * length
    if len(blocks) < 2:
        raise UserError(f"got a clip of {frames} frames; adaptation in windows of {length} needs at least {2 * length}")
    held = blocks[HELD_EVERY // 2 :: HELD_EVERY] if len(blocks) > HELD_EVERY // 2 else blocks[-1:]
    starts = torch.arange(frames - length + 1)
    apart = (starts.unsqueeze(1) - held).abs() >= length
    return starts[apart.all(1)], held


def guessed(seen: Observation) -> Observation:
    """The same, its target the keypoints alone that the encoder does not get."""
    return replace(seen, target_conf=seen.target_conf * (seen.conf == 0))
