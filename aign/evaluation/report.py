"""From predictions to a report that says what was measured, on what, and under which protocol."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from aign.data.actions import ACTIONS_13, ACTIONS_15, canonical_action
from aign.data.datasets.h36m.h36m_takes import DAMAGED
from aign.evaluation.paired import Units, units_of
from aign.evaluation.pose import METRICS, Alignment, centre, is_flipped
from aign.evaluation.protocol import Protocol
from aign.evaluation.rows import Rows, selected
from aign.framework.errors import UserError

MIN_JOINTS = 4  # three points or fewer are always coplanar: an aligned error of them says nothing about depth
_MAX_BODY_M = 10.0  # half a body is under 2 m from its root; in millimetres it is hundreds


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Who predicted what: stands in every table.

    Args:
        method: row label, for example "AIGN".
        data: the data in words, for example "DeepMimic clips, held-out sequences".
        store_hash: hash of the store the targets came from.
    """

    method: str
    data: str
    store_hash: str


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One alignment's numbers in mm; None where there is nothing to average.

    Args:
        per_action: mean over each action's frames.
        mean_actions: unweighted mean of the protocol's actions that are there.
        mean_frames: mean over all frames of those actions.
        mean_13: mean of the slide's 13 actions, if all are there.
        mean_15: mean of the 15 actions, if all are there.
    """

    per_action: Mapping[str, float]
    mean_actions: float | None
    mean_frames: float | None
    mean_13: float | None
    mean_15: float | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything `evaluate` measured, ready for a table, a file or a registry.

    Args:
        method: see `Provenance`, as `data` and `store_hash`.
        protocol: id of the protocol.
        protocol_hash: its hash.
        aggregation: which mean is the headline, "actions" or "frames".
        columns: actions in column order, those without data included.
        scores: by alignment, the headline's first.
        flip_rate: fraction of poses that a mirror would have halved.
        num_frames: poses measured.
        num_skipped: poses selected but without a valid root or without four valid joints.
        frames_per_action: poses measured in each action.
        damaged: poses measured of each sequence whose published truth is known to be wrong.
        num_views: sequences by cameras that poses were measured of.
        of_views: those of Human3.6M that the protocol counts; 0 for open data.
        units: errors by alignment, and "flip_rate", of each sequence; empty in reports of before there were any.
    """

    method: str
    data: str
    store_hash: str
    protocol: str
    protocol_hash: str
    aggregation: str
    columns: tuple[str, ...]
    scores: Mapping[Alignment, Scores]
    flip_rate: float
    num_frames: int
    num_skipped: int
    frames_per_action: Mapping[str, int]
    damaged: Mapping[str, int] = field(default_factory=dict)
    num_views: int = 0
    of_views: int = 0
    units: Units = field(default_factory=dict)

    @property
    def headline(self) -> float | None:
        """The protocol's one number, in mm."""
        first = next(iter(self.scores.values()))
        return first.mean_actions if self.aggregation == "actions" else first.mean_frames

    def to_json(self) -> str:
        """One JSON object; numbers in mm."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """Inverse of `to_json`.

        Raises:
            UserError: not a report.
        """
        try:
            fields = json.loads(text)
            fields["scores"] = {name: Scores(**scores) for name, scores in fields["scores"].items()}
            return cls(**{**fields, "columns": tuple(fields["columns"])})
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"got text that is not an evaluation report ({error}); allowed is Report.to_json()"
            ) from error


def evaluate(
    pred_m: Float[Tensor, "n j 3"],
    target_m: Float[Tensor, "n j 3"],
    valid: Bool[Tensor, "n j"],
    rows: Rows,
    protocol: Protocol,
    provenance: Provenance,
) -> Report:
    """Measure predictions under a protocol.

    Args:
        pred_m: joints of the protocol's joint set (mostly H36M-17) in metres, in the target's frame (camera or world),
            root-relative or not; relative to the origin where the protocol has no root.
        target_m: the truth, likewise.
        valid: joints whose truth is known.
        rows: where each pose comes from.
        protocol: what counts; see `protocol.resolve`.
        provenance: what stands beside the numbers.

    Raises:
        UserError: wrong joint set, lengths that differ, NaN in a valid joint, millimetres for metres, an unknown
            action, or nothing left to measure.
    """
    _check_shapes(pred_m, target_m, valid, rows, protocol)
    chosen = torch.from_numpy(selected(rows, protocol))
    if not bool(chosen.any()):
        raise UserError(f"got no pose that {protocol.id} counts; it allows {protocol.selection_in_words}")
    actions = _canonical(rows.action[chosen.numpy()]) if protocol.human36m else rows.action[chosen.numpy()]
    pred, target, known = pred_m[chosen], target_m[chosen], valid[chosen]
    scored = known.clone()
    scored[:, [j for j in range(protocol.num_joints) if j not in protocol.joints]] = False
    usable = known[:, list(protocol.root)].all(dim=1) & (scored.sum(dim=1) >= MIN_JOINTS)
    if not bool(usable.any()):
        raise UserError(f"got {len(pred)} poses without a valid root and {MIN_JOINTS} valid joints; need at least one")
    pred, target, scored, actions = pred[usable], target[usable], scored[usable], actions[usable.numpy()]
    _check_values(pred, target, scored, protocol.root)
    found, counts = np.unique(actions, return_counts=True)
    sequences, cameras = (names[chosen.numpy()][usable.numpy()] for names in (rows.sequence, rows.camera))
    errors = {name: METRICS[name][1](pred, target, scored, protocol.root).numpy() for name in protocol.alignments}
    flipped = is_flipped(pred, target, scored).double().numpy()
    return Report(
        **dataclasses.asdict(provenance),
        protocol=protocol.id,
        protocol_hash=protocol.hash,
        aggregation=protocol.aggregation,
        columns=protocol.actions or tuple(found.tolist()),
        scores={name: _scores(value, actions, protocol.actions) for name, value in errors.items()},
        flip_rate=float(flipped.mean()),
        num_frames=len(pred),
        num_skipped=int((~usable).sum()),
        frames_per_action=dict(zip(found.tolist(), counts.tolist(), strict=True)),
        damaged={name: n for name in DAMAGED if (n := int((sequences == name).sum()))},
        num_views=len(set(zip(sequences.tolist(), cameras.tolist(), strict=True))),
        of_views=protocol.num_views,
        units=_units(errors, sequences, actions, protocol) | units_of({"flip_rate": flipped}, sequences),
    )


def _check_shapes(pred: Tensor, target: Tensor, valid: Tensor, rows: Rows, protocol: Protocol) -> None:
    lengths = {len(column) for column in vars(rows).values() if column is not None}
    j = protocol.num_joints
    if pred.shape != target.shape or pred.shape[1:] != (j, 3) or valid.shape != pred.shape[:2]:
        got = [tuple(x.shape) for x in (pred, target, valid)]
        raise UserError(
            f"got predictions, targets, valid of shapes {got}; allowed are [n, {j}, 3] twice and [n, {j}], because "
            f"{protocol.id} counts joints of {protocol.joint_set}"
        )
    if lengths != {len(pred)}:
        raise UserError(f"got {len(pred)} poses but rows of lengths {sorted(lengths)}; allowed is one row per pose")


def _check_values(pred: Tensor, target: Tensor, scored: Tensor, root: tuple[int, ...]) -> None:
    counted = scored.clone()
    counted[:, list(root)] = True
    for name, joints in (("predictions", pred), ("targets", target)):
        bad = int((~joints.isfinite().all(dim=-1) & counted).sum())
        if bad:
            raise UserError(f"got {bad} {name} that are NaN or infinite in valid joints; allowed are finite numbers")
    reach = centre(target, root[:1]).norm(dim=-1)[counted].median()
    if reach > _MAX_BODY_M:
        raise UserError(
            f"got targets whose joints are {float(reach):.0f} from the root; allowed are metres (mm given?)"
        )


def _canonical(names: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
    spellings, index = np.unique(names, return_inverse=True)
    return np.array([canonical_action(name) for name in spellings.tolist()])[index]


def _scores(values_mm: Float[np.ndarray, " n"], actions: Shaped[np.ndarray, " n"], columns: tuple[str, ...]) -> Scores:
    """Means of the values that exist (limb329 has none where a limb is not valid)."""
    exists = ~np.isnan(values_mm)
    values, names = values_mm[exists], actions[exists]
    per_action = {a: float(values[names == a].mean()) for a in np.unique(names).tolist()}
    counted = [a for a in (columns or per_action) if a in per_action]
    frames = values[np.isin(names, counted)]
    return Scores(
        per_action=per_action,
        mean_actions=_mean(per_action, tuple(counted)),
        mean_frames=float(frames.mean()) if len(frames) else None,
        mean_13=_mean(per_action, ACTIONS_13),
        mean_15=_mean(per_action, ACTIONS_15),
    )


def _units(
    errors: Mapping[Alignment, Float[np.ndarray, " n"]],
    sequences: Shaped[np.ndarray, " n"],
    actions: Shaped[np.ndarray, " n"],
    protocol: Protocol,
) -> dict[str, dict[str, list[float]]]:
    """By sequence, what the mean that the protocol names is made of."""
    counted = np.isin(actions, protocol.actions or np.unique(actions))
    kept = {str(name): np.where(counted, value, np.nan) for name, value in errors.items()}
    return units_of(kept, sequences, actions if protocol.aggregation == "actions" else None)


def _mean(per_action: Mapping[str, float], actions: tuple[str, ...]) -> float | None:
    if not actions or any(a not in per_action for a in actions):
        return None
    return float(np.mean([per_action[a] for a in actions]))
