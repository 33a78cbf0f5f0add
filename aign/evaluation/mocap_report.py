"""What was measured of a motion-capture method, and the means that are made of values per frame."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from aign.evaluation.paired import Units, units_of
from aign.evaluation.protocol import Protocol
from aign.evaluation.report import Provenance
from aign.evaluation.rows import Rows, selected
from aign.framework.errors import UserError


@dataclass(frozen=True, kw_only=True)
class MocapReport:
    """Numbers by name; the unit stands at the end of the name (flip_rate and mask_iou are fractions).

    A frame counts in the mean of a number if it has one: the ends of a clip have no acceleration. So every number says
    of how many frames it is, and two may be compared only if those agree.

    Attributes:
        method: see `Provenance`, as `data` and `store_hash`.
        protocol: id of the protocol.
        protocol_hash: its hash.
        headline_name: the number that the protocol is about.
        numbers: mean over the frames that have it, or over the actions' means where the protocol says so.
        frames: how many frames have it.
        num_frames: frames that the protocol counts and that were measured.
        num_skipped: frames that it counts and that could not be measured, for want of known joints.
        per_action: means over each action's frames, by action and name.
        per_clip: means over the frames of each sequence seen by a camera, by "SEQUENCE@CAMERA" and name.
        frames_per_clip: frames measured of each.
        units: every number of each sequence, all its cameras together; empty in reports of before there were any.
    """

    method: str
    data: str
    store_hash: str
    protocol: str
    protocol_hash: str
    headline_name: str
    numbers: Mapping[str, float]
    frames: Mapping[str, int]
    num_frames: int
    num_skipped: int
    per_action: Mapping[str, Mapping[str, float]]
    per_clip: Mapping[str, Mapping[str, float]]
    frames_per_clip: Mapping[str, int]
    units: Units = field(default_factory=dict)

    @property
    def headline(self) -> float:
        """The protocol's one number."""
        return self.numbers[self.headline_name]

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "MocapReport":
        """Inverse of `to_json`.

        Raises:
            UserError: not such a report.
        """
        try:
            return cls(**json.loads(text))
        except (json.JSONDecodeError, TypeError) as error:
            raise UserError(
                f"got text that is not a motion-capture report ({error}); allowed is MocapReport.to_json()"
            ) from error


def runs(rows: Rows) -> Int64[np.ndarray, " n"]:
    """Number of the unbroken run of frames that each row belongs to: same sequence, same camera, next frame."""
    new = np.ones(len(rows.frame), dtype=bool)
    same = (rows.sequence[1:] == rows.sequence[:-1]) & (rows.camera[1:] == rows.camera[:-1])
    new[1:] = ~(same & (rows.frame[1:] == rows.frame[:-1] + 1))
    return np.cumsum(new, dtype=np.int64)


def summarise(
    values: Mapping[str, Float[Tensor, " n"]],
    headline_name: str,
    rows: Rows,
    protocol: Protocol,
    provenance: Provenance,
) -> MocapReport:
    """Means of values per frame.

    Args:
        values: by name, one per row; NaN where there is none. A name without any value is left out of the report.
        headline_name: of the protocol's one number. A frame without it is skipped in all.
        rows: where each frame comes from.
        protocol: which frames count, and how means are taken.
        provenance: what stands beside the numbers.

    Raises:
        UserError: no frame counts, or none that counts has the headline's value.
    """
    chosen = selected(rows, protocol)
    if not chosen.any():
        raise UserError(f"got no frame that {protocol.id} counts; it allows {protocol.selection_in_words}")
    arrays = {name: value.numpy() for name, value in values.items()}
    kept = chosen & ~np.isnan(arrays[headline_name])
    if not kept.any():
        raise UserError(f"got {chosen.sum()} frames, none with joints enough for {headline_name}; need at least one")
    clips = np.array([f"{s}@{c}" for s, c in zip(rows.sequence.tolist(), rows.camera.tolist(), strict=True)])
    per_action = _grouped(arrays, rows.action, kept)
    overall = _means(arrays, kept)
    if protocol.aggregation == "actions":
        by_name = {name: [means[name] for means in per_action.values() if name in means] for name in overall}
        overall = {name: float(np.mean(means)) for name, means in by_name.items()}
    return MocapReport(
        **dataclasses.asdict(provenance),
        protocol=protocol.id,
        protocol_hash=protocol.hash,
        headline_name=headline_name,
        numbers=overall,
        frames={name: int((kept & ~np.isnan(arrays[name])).sum()) for name in overall},
        num_frames=int(kept.sum()),
        num_skipped=int((chosen & ~kept).sum()),
        per_action=per_action,
        per_clip=_grouped(arrays, clips, kept),
        frames_per_clip={name: int((kept & (clips == name)).sum()) for name in np.unique(clips[kept]).tolist()},
        units=units_of(
            {name: np.where(kept, value, np.nan) for name, value in arrays.items()},
            rows.sequence,
            rows.action if protocol.aggregation == "actions" else None,
        ),
    )


def _grouped(
    arrays: Mapping[str, Float[np.ndarray, " n"]], names: Shaped[np.ndarray, " n"], kept: Bool[np.ndarray, " n"]
) -> dict[str, dict[str, float]]:
    return {group: _means(arrays, kept & (names == group)) for group in np.unique(names[kept]).tolist()}


def _means(arrays: Mapping[str, Float[np.ndarray, " n"]], kept: Bool[np.ndarray, " n"]) -> dict[str, float]:
    known = {name: value[kept & ~np.isnan(value)] for name, value in arrays.items()}
    return {name: float(value.mean()) for name, value in known.items() if len(value)}
