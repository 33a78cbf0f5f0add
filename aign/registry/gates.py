"""Who may be champion: only a measured improvement on the same store under the same protocol."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

_PREFIX = "score/"


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number with all that gives it meaning.

    Attributes:
        protocol: id.
        protocol_hash: its hash.
        store_hash: of the store it was measured on.
        metric: its name, e.g. "mpjpe_mm"; lower is better.
        value_mm: the number.
    """

    protocol: str
    protocol_hash: str
    store_hash: str
    metric: str
    value_mm: float


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether a model becomes champion, and why in one sentence."""

    promote: bool
    reason: str


def decide(candidate: Score, champion: Score | None) -> Decision:
    """Compare a candidate with the champion, None where there is none yet."""
    if refusal := _incomparable(candidate, champion):
        return Decision(promote=False, reason=refusal)
    measured = f"{candidate.metric} {candidate.value_mm:.2f}"
    if champion is None:
        return Decision(promote=True, reason=f"{measured}; there was no champion")
    if candidate.value_mm < champion.value_mm:
        return Decision(promote=True, reason=f"{measured} is lower than the champion's {champion.value_mm:.2f}")
    return Decision(promote=False, reason=f"{measured} is not lower than the champion's {champion.value_mm:.2f}")


def _incomparable(candidate: Score, champion: Score | None) -> str | None:
    if not _is_error(candidate.value_mm):
        return f"{candidate.metric} of the candidate is {candidate.value_mm}, which is no measured error"
    if champion is None:
        return None
    if candidate.store_hash != champion.store_hash:
        refusal = _first_evaluate("store", champion.store_hash, candidate.store_hash)
    elif candidate.protocol_hash != champion.protocol_hash:
        refusal = _first_evaluate("protocol", _named(champion), _named(candidate))
    elif candidate.metric != champion.metric:
        refusal = _first_evaluate("metric", champion.metric, candidate.metric)
    elif not _is_error(champion.value_mm):
        refusal = f"{champion.metric} of the champion is {champion.value_mm}; evaluate the champion again first"
    else:
        refusal = None
    return refusal


def _named(score: Score) -> str:
    return f"{score.protocol} ({score.protocol_hash})"


def _first_evaluate(what: str, old: str, new: str) -> str:
    return (
        f"the champion was measured with {what} {old}, the candidate with {new}: "
        "first evaluate the champion on the same store and protocol"
    )


def _is_error(value_mm: float) -> bool:
    return math.isfinite(value_mm) and value_mm >= 0


def score_tags(score: Score) -> dict[str, str]:
    """The tag of a model version that records a score; one for each store, protocol and metric."""
    return {_key(score): json.dumps(dataclasses.asdict(score))}


def own_tags(score: Score) -> dict[str, str]:
    """The tags of the score that a version is registered with: readable, and recorded."""
    return {**{name: str(value) for name, value in dataclasses.asdict(score).items()}, **score_tags(score)}


def own_score(tags: Mapping[str, str]) -> Score | None:
    """The score a version was registered with; None where something else registered it."""
    names = ("protocol", "protocol_hash", "store_hash", "metric")
    try:
        return Score(**{name: tags[name] for name in names}, value_mm=float(tags["value_mm"]))
    except (KeyError, ValueError):
        return None


def decide_versions(candidate: Mapping[str, str], champion: Mapping[str, str] | None) -> Decision:
    """`decide` on the tags of two versions, by a score they have in common if there is one; None: no champion."""
    ours, theirs = _scores(candidate), _scores(champion or {})
    if not ours:
        return Decision(promote=False, reason="the candidate has no recorded score; evaluate it first")
    if champion is None:
        return decide(_preferred(ours, candidate), None)
    if not theirs:
        return Decision(promote=False, reason="the champion has no recorded score; evaluate it first")
    common = {key: score for key, score in ours.items() if key in theirs}
    score = _preferred(common or ours, candidate)
    return decide(score, theirs.get(_key(score)) or _preferred(theirs, champion))


def _preferred(scores: Mapping[str, Score], tags: Mapping[str, str]) -> Score:
    own = own_score(tags)
    return scores[_key(own)] if own is not None and _key(own) in scores else scores[min(scores)]


def _scores(tags: Mapping[str, str]) -> dict[str, Score]:
    return {key: Score(**json.loads(text)) for key, text in tags.items() if key.startswith(_PREFIX)}


def _key(score: Score) -> str:
    return f"{_PREFIX}{score.store_hash}/{score.protocol_hash}/{score.metric}"
