"""A method that makes faces, measured: is it faithful, does it do what its bias says, and what else does it change?

The method has run before; here are only its pictures. A change is told in standard deviations of the judge's training
labels, so that a target and what drifts with it can be compared. Every report holds the audit: every attribute, every
group, and how good the judge itself is.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from aign.evaluation.faces_image import Kid, area_down, fid, kid, psnr_db, ssim
from aign.evaluation.faces_judge import Judge, Reading, attribute_facts, nearest_identity
from aign.evaluation.faces_net import PARTS, parts_at_side
from aign.evaluation.faces_protocol import FaceProtocol
from aign.evaluation.faces_report import FaceReport, known
from aign.evaluation.faces_view import FaceView, groups_of
from aign.evaluation.paired import units_of
from aign.evaluation.report import Provenance
from aign.framework.errors import UserError
from aign.tasks.faces.bias import IDENTITY, Bias, satisfied

FAITHFUL = "faithful_psnr_db"
TARGET = "target_points"
Values = dict[str, Float[np.ndarray, " n"]]


def measure_faces(
    images: UInt8[np.ndarray, "n s s 3"], view: FaceView, protocol: FaceProtocol, provenance: Provenance
) -> FaceReport:
    """Everything that can be said of pictures a method made of a view's inputs.

    Args:
        images: one of each input.
        view: inputs, truth and judge.
        protocol: what P is.
        provenance: what stands beside the numbers.

    Raises:
        UserError: other counts or sizes than the view's, or no picture.
    """
    if images.shape != view.before.shape or not len(images):
        raise UserError(f"got pictures {list(images.shape)}; allowed are one of each input: {list(view.before.shape)}")
    by_picture = _pixel_values(images, view, protocol)
    numbers, counts = _means(by_picture)
    audit: dict[str, dict[str, float]] = {}
    groups: dict[str, dict[str, float]] = {}
    if view.judge is not None and view.read_before is not None:
        after = view.judge.read(images)
        for more, of in (
            _means(_identity_values(after, view)),
            _target_numbers(view.judge, after, view),
            _part_numbers(after, view),
            _realism(after, view, protocol),
        ):
            numbers, counts = numbers | more, counts | of
        by_picture |= _points(view.judge, after, view) if TARGET in numbers else {}
        audit = _audit(view.judge, after, view)
        groups = _groups(view.judge, after, view)
        drift = _drift(audit, view.target)
        numbers, counts = numbers | drift, counts | dict.fromkeys(drift, len(images))
    return FaceReport(
        method=provenance.method,
        data=provenance.data,
        store_hash=provenance.store_hash,
        protocol=protocol.id,
        protocol_hash=protocol.hash,
        headline_name=TARGET if TARGET in numbers else FAITHFUL,
        bias=view.target.text,
        side_px=images.shape[1],
        judge=view.judge.name if view.judge else "",
        judge_facts=known(view.judge.facts) if view.judge else {},
        numbers=numbers,
        counts=counts,
        num_pictures=len(images),
        audit=audit,
        groups=groups,
        units=_units(by_picture, view),
    )


def _means(values: Mapping[str, Float[np.ndarray, " n"]]) -> tuple[dict[str, float], dict[str, int]]:
    """Means over the pictures that have a value; a name that none has is left out."""
    there = {name: value[np.isfinite(value)] for name, value in values.items()}
    kept = {name: value for name, value in there.items() if len(value)}
    return {n: float(v.astype(np.float64).mean()) for n, v in kept.items()}, {n: len(v) for n, v in kept.items()}


def _pixel_values(images: UInt8[np.ndarray, "n s s 3"], view: FaceView, protocol: FaceProtocol) -> Values:
    """Faithfulness of the render to the input; closeness to the truth, inside of the hole where there is one."""
    values: Values = {}
    if view.hole is None:
        values[FAITHFUL] = psnr_db(area_down(images, protocol.factor), view.inputs)
    else:
        values[FAITHFUL] = psnr_db(images, view.inputs, ~view.hole)
    if view.truth is not None:
        values["psnr_db"], values["ssim"] = psnr_db(images, view.truth), ssim(images, view.truth)
        if view.hole is not None:
            values["hole_psnr_db"] = psnr_db(images, view.truth, view.hole)
    return values


def _identity_values(after: Reading, view: FaceView) -> Values:
    """Cosine distance from the truth's embedding, of the output and of what was there before."""
    truth, before = view.read_truth, view.read_before
    if truth is None or before is None or truth.embedding is None:
        return {}
    pairs = {"identity_distance": after.embedding, "identity_distance_before": before.embedding}
    return {n: 1 - (e.astype(np.float64) * truth.embedding).sum(1) for n, e in pairs.items() if e is not None}


def can_tell(judge: Judge, target: Bias) -> bool:
    """Whether the judge knows what the bias is of."""
    if target.none or (target.attribute == IDENTITY and int(target.value) not in judge.identities):
        return False
    return target.attribute == IDENTITY or target.attribute in judge.names


def has_target(judge: Judge, reading: Reading, target: Bias) -> Bool[np.ndarray, " n"] | None:
    """Which pictures the judge says have the target; None: it cannot tell."""
    if not can_tell(judge, target):
        return None
    return satisfied(target, reading.values, judge.names, nearest_identity(judge, reading))


def target_value(judge: Judge, reading: Reading, target: Bias) -> Float32[np.ndarray, " n"]:
    """How much of the target each picture has: the attribute, or the cosine to the identity."""
    if target.attribute == IDENTITY:
        assert judge.gallery is not None, "the judge knows the identity"
        assert reading.embedding is not None, "it has a gallery"
        return np.asarray(reading.embedding @ judge.gallery[judge.identities.index(int(target.value))])
    return reading.values[:, judge.names.index(target.attribute)]


def _target_numbers(judge: Judge, after: Reading, view: FaceView) -> tuple[dict[str, float], dict[str, int]]:
    """Shares of pictures with the target, and the change in points of those that do not have it by their label."""
    assert view.read_before is not None, "there is a judge"
    now, then = has_target(judge, after, view.target), has_target(judge, view.read_before, view.target)
    if now is None or then is None:
        return {}, {}
    mine, was = (target_value(judge, r, view.target) for r in (after, view.read_before))
    every: Values = {
        "target_rate_all": now.astype(np.float64),
        "target_rate_all_before": then.astype(np.float64),
        "target_mean": mine,
        "target_mean_before": was,
    }
    numbers, counts = _means(every)
    if view.target.attribute == IDENTITY or view.target.attribute in view.names:
        more, of = _others_numbers(judge, after, view)
        numbers, counts = numbers | more, counts | of
    return numbers, counts


def _others_numbers(judge: Judge, after: Reading, view: FaceView) -> tuple[dict[str, float], dict[str, int]]:
    """Shares of pictures with the target, of people who do not have it, and the points between them.

    A judge may fail on blurred pictures, so the true ones are asked beside what was there before.
    """
    others = _without(view)
    shares: Values = {}
    for name, reading in (("", after), ("_before", view.read_before), ("_truth", view.read_truth)):
        found = None if reading is None else has_target(judge, reading, view.target)
        if found is not None:
            shares[f"target_rate{name}"] = found[others].astype(np.float64)
    numbers, counts = _means(shares)
    for name, less in ((TARGET, "target_rate_before"), (f"{TARGET}_from_truth", "target_rate_truth")):
        if less in numbers:
            numbers[name] = 100 * (numbers["target_rate"] - numbers[less])
            counts[name] = counts["target_rate"]
    return numbers, counts


def _points(judge: Judge, after: Reading, view: FaceView) -> Values:
    """What each picture of people without the target adds to the points: 100, 0 or -100."""
    assert view.read_before is not None, "there is a judge"
    now, then = has_target(judge, after, view.target), has_target(judge, view.read_before, view.target)
    assert now is not None, "it can tell"
    assert then is not None, "it can tell"
    change = 100.0 * (now.astype(np.float64) - then.astype(np.float64))
    return {TARGET: np.where(_without(view), change, np.nan)}


def _units(values: Values, view: FaceView) -> dict[str, dict[str, list[float]]]:
    """By picture."""
    rows = zip(view.rows.sequence.tolist(), view.rows.frame.tolist(), strict=True)
    names = np.array([f"{sequence}#{number}" for sequence, number in rows])
    return units_of({name: np.where(np.isfinite(value), value, np.nan) for name, value in values.items()}, names)


def _without(view: FaceView) -> Bool[np.ndarray, " n"]:
    """Pictures that do not have the target by their label; one whose label is not known is neither."""
    if view.target.attribute == IDENTITY:
        there = view.identity >= 0
    else:
        there = ~np.isnan(view.attributes[:, view.names.index(view.target.attribute)])
    if not there.any():
        return there
    return np.asarray(there & ~satisfied(view.target, view.attributes, view.names, view.identity))


def _like_target(view: FaceView) -> Bool[np.ndarray, " n"]:
    """The true pictures that outputs should look like: those with the target, or all where nobody is known to."""
    every = np.ones(len(view.identity), dtype=bool)
    column = view.names.index(view.target.attribute) if view.target.attribute in view.names else None
    if view.target.attribute != IDENTITY and (column is None or np.isnan(view.attributes[:, column]).all()):
        return every
    chosen = satisfied(view.target, view.attributes, view.names, view.identity)
    return chosen if chosen.sum() > 1 else every


def _part_numbers(after: Reading, view: FaceView) -> tuple[dict[str, float], dict[str, int]]:
    """Change of the area of lips and nose, as a share of the area before; inside of the hole where there is one."""
    before = view.read_before
    if after.parts is None or before is None or before.parts is None:
        return {}, {}
    numbers: dict[str, float] = {}
    where = np.ones(after.parts.shape, dtype=bool)
    if view.hole is not None:
        where = parts_at_side(view.hole.astype(np.uint8), after.parts.shape[1]).astype(bool)
    for label, name in enumerate(PARTS, 1):
        was, now = (((r.parts == label) & where).sum() for r in (before, after))
        if was:
            numbers[f"{name}_area_change"] = float(now / was - 1)
    return numbers, dict.fromkeys(numbers, len(after.parts))


def _realism(after: Reading, view: FaceView, protocol: FaceProtocol) -> tuple[dict[str, float], dict[str, int]]:
    """FID and KID against true pictures: those that have the target by their label, if there are any, else all."""
    assert view.judge is not None, "it reads"
    if view.real is not None:
        real = view.judge.read(view.real).features
    elif view.read_truth is not None:
        real = view.read_truth.features[_like_target(view)]
    else:
        return {}, {}
    if min(len(real), len(after.features)) < 2:
        return {}, {}
    found: Kid = kid(after.features, real, subsets=protocol.kid_subsets, subset_size=protocol.kid_subset_size)
    numbers = {"fid": fid(after.features, real), "kid": found.mean}
    numbers |= {} if found.deviation is None else {"kid_deviation": found.deviation}
    # The smaller set limits what such a number can tell.
    return numbers, dict.fromkeys(numbers, min(len(real), len(after.features)))


def _audit(judge: Judge, after: Reading, view: FaceView) -> dict[str, dict[str, float]]:
    """By attribute: what the judge reads in truth, before and after, and how right it is on the first two."""
    before, truth = view.read_before, view.read_truth
    assert before is not None, "there is a judge"
    columns = [view.names.index(name) if name in view.names else None for name in judge.names]
    label = np.stack(
        [np.full(len(view.identity), np.nan) if c is None else view.attributes[:, c] for c in columns], axis=1
    ).astype(np.float32)
    sides = {"truth": truth, "before": before, "after": after}
    right = {
        side: attribute_facts(judge.names, judge.is_sign, reading.values, label)
        for side, reading in sides.items()
        if reading is not None and side != "after"
    }
    audit: dict[str, dict[str, float]] = {}
    for i, name in enumerate(judge.names):
        change = (after.values[:, i] - before.values[:, i]) / judge.scale[i]
        entry = {side: r.values[:, i].mean() for side, r in sides.items() if r is not None}
        entry |= {"change_sd": change.mean(), "change_abs_sd": np.abs(change).mean()}
        if truth is not None:
            entry["change_from_truth_sd"] = ((after.values[:, i] - truth.values[:, i]) / judge.scale[i]).mean()
        kind = "accuracy" if judge.is_sign[i] else "r"
        entry |= {
            f"judge_{kind}_{s}": facts[f"{name}_{kind}"] for s, facts in right.items() if f"{name}_{kind}" in facts
        }
        audit[name] = known({side: float(value) for side, value in entry.items()})
    return audit


def _groups(judge: Judge, after: Reading, view: FaceView) -> dict[str, dict[str, float]]:
    """By group: the mean change of every attribute in standard deviations."""
    assert view.read_before is not None, "there is a judge"
    change = (after.values - view.read_before.values) / judge.scale
    return {
        group: {
            "count": float(chosen.sum()),
            **known(dict(zip(judge.names, change[chosen].mean(0).tolist(), strict=True))),
        }
        for group, chosen in groups_of(view).items()
    }


def _drift(audit: Mapping[str, Mapping[str, float]], target: Bias) -> dict[str, float]:
    """How far the other attributes moved, and how much further the target did.

    The target's own relatives (age and Young) count as others: that they move with it is for the reader to see.
    """
    moved = {name: abs(entry["change_sd"]) for name, entry in audit.items() if name != target.attribute}
    if not moved:
        return {}
    drift = float(np.mean(list(moved.values())))
    numbers = {"drift_sd": drift, "drift_worst_sd": max(moved.values())}
    if target.attribute in audit:
        side = -1 if target.compare == "<" else 1
        numbers["target_change_sd"] = side * audit[target.attribute]["change_sd"]
        if drift > 0:
            numbers["target_per_drift"] = numbers["target_change_sd"] / drift
    return numbers
