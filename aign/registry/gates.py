"""Who may be champion: only a measured improvement, beyond luck, on the same test clips under the same protocol."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from aign.evaluation.paired import MIN_UNITS, Difference, Units, difference

_PREFIX = "score/"


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number with all that gives it meaning.

    Attributes:
        protocol: id.
        protocol_hash: its hash.
        store_hash: of the store it was measured on.
        metric: its name, e.g. "mpjpe_mm"; the unit stands at its end.
        value: the number.
        higher_is_better: of the metric.
        subject: what the model is for where the task alone does not say it: a bias and the pictures' side; "": nothing.
        test: hash of the names of the test units; "": they are not known.
    """

    protocol: str
    protocol_hash: str
    store_hash: str
    metric: str
    value: float
    higher_is_better: bool = False
    subject: str = ""
    test: str = ""

    @property
    def key(self) -> str:
        """The same for two scores that can be compared, else another."""
        same = (self.store_hash, self.protocol_hash, self.metric, self.higher_is_better, self.subject, self.test)
        return hashlib.sha256(json.dumps(same).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What an evaluation found: the gate's number, and all that `compare` shows.

    Attributes:
        score: the headline.
        numbers: all of the report, by name.
        units: of those that are means over test sequences or pictures, each one's part.
    """

    score: Score
    numbers: Mapping[str, float]
    units: Units = field(default_factory=dict)

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> "Measured":
        """Inverse of `to_json`."""
        content = json.loads(text)
        return Measured(
            score=Score(**content["score"]),
            numbers=content["numbers"],
            units=content["units"],
        )


def units_hash(units: Mapping[str, list[float]]) -> str:
    """Of the names of test units; "" of none."""
    return hashlib.sha256("\n".join(sorted(units)).encode()).hexdigest()[:12] if units else ""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether a model becomes champion, and why in one sentence."""

    promote: bool
    reason: str


def decide(candidate: Measured, champion: Measured | None) -> Decision:
    """Compare a candidate with the champion, None where there is none yet."""
    ours = candidate.score
    if refusal := _incomparable(ours, None if champion is None else champion.score):
        return Decision(promote=False, reason=refusal)
    said = f"{ours.metric} {ours.value:.2f}"
    if champion is None:
        return Decision(promote=True, reason=f"{said}; there was no champion")
    theirs = champion.score
    word = "higher" if ours.higher_is_better else "lower"
    than = f"{word} than the champion's {theirs.value:.2f}"
    if not (ours.value > theirs.value if ours.higher_is_better else ours.value < theirs.value):
        return Decision(promote=False, reason=f"{said} is not {than}")
    found = _difference(candidate, champion)
    if found is None:
        return Decision(promote=False, reason=f"{said} is {than}, but {_unknown(candidate, champion)}")
    interval = f"{found.value:+.2f}, 95 % interval {found.low:+.2f} to {found.high:+.2f} of {found.units} test units"
    if not found.significant:
        few = f"; {MIN_UNITS} units are needed to tell" if found.units < MIN_UNITS else ""
        return Decision(promote=False, reason=f"{said} is {than}, but that may be luck ({interval}{few})")
    return Decision(promote=True, reason=f"{said} is {than} ({interval})")


def _difference(candidate: Measured, champion: Measured) -> Difference | None:
    name = candidate.score.metric
    ours, theirs = candidate.units.get(name), champion.units.get(name)
    return difference(ours, theirs) if ours and theirs else None


def _unknown(candidate: Measured, champion: Measured) -> str:
    who = "candidate" if not candidate.units.get(candidate.score.metric) else "champion"
    return f"the {who} has no errors by test sequence, so that may be luck: evaluate it again"


def _incomparable(candidate: Score, champion: Score | None) -> str | None:
    if not _is_number(candidate):
        return f"{candidate.metric} of the candidate is {candidate.value}, which is no measured number"
    if champion is None:
        return None
    unknown = f"{champion.metric} of the champion is {champion.value}; evaluate the champion again first"
    checks = (
        (
            candidate.subject != champion.subject,
            f"the champion is for {_for(champion)}, the candidate for {_for(candidate)}: register it by another name",
        ),
        (
            candidate.store_hash != champion.store_hash,
            _first_evaluate("store", champion.store_hash, candidate.store_hash),
        ),
        (
            candidate.protocol_hash != champion.protocol_hash,
            _first_evaluate("protocol", _named(champion), _named(candidate)),
        ),
        (candidate.metric != champion.metric, _first_evaluate("metric", champion.metric, candidate.metric)),
        (
            candidate.test != champion.test,
            _first_evaluate("test clips", champion.test or "unknown", candidate.test or "unknown"),
        ),
        (not _is_number(champion), unknown),
    )
    return next((reason for wrong, reason in checks if wrong), None)


def _for(score: Score) -> str:
    return score.subject or "no target"


def _named(score: Score) -> str:
    return f"{score.protocol} ({score.protocol_hash})"


def _first_evaluate(what: str, old: str, new: str) -> str:
    return (
        f"the champion was measured with {what} {old}, the candidate with {new}: "
        "first evaluate the champion on the same store and protocol"
    )


def _is_number(score: Score) -> bool:
    """An error is no less than 0; points and decibels may be."""
    return math.isfinite(score.value) and (score.higher_is_better or score.value >= 0)


def score_tags(score: Score) -> dict[str, str]:
    """The tag of a model version that records a score; one for all scores that can be compared with one another."""
    return {f"{_PREFIX}{score.key}": json.dumps(dataclasses.asdict(score))}


def own_tags(score: Score) -> dict[str, str]:
    """The tags of the score that a version is registered with: readable, and recorded."""
    readable = {name: str(value) for name, value in dataclasses.asdict(score).items() if value != ""}
    return {**readable, **score_tags(score)}


def own_score(tags: Mapping[str, str]) -> Score | None:
    """The score a version was registered with; None where something else, or an older version, registered it."""
    texts = ("protocol", "protocol_hash", "store_hash", "metric")
    try:
        return Score(
            **{name: tags[name] for name in texts},
            subject=tags.get("subject", ""),
            test=tags.get("test", ""),
            value=float(tags["value"]),
            higher_is_better={"True": True, "False": False}[tags["higher_is_better"]],
        )
    except (KeyError, ValueError):
        return None


def scores_of(tags: Mapping[str, str]) -> dict[str, Score]:
    """All recorded scores of a version, by key."""
    return {
        key.removeprefix(_PREFIX): Score(**json.loads(text)) for key, text in tags.items() if key.startswith(_PREFIX)
    }


def judged_by(
    candidate: Mapping[str, str], champion: Mapping[str, str] | None
) -> tuple[Score, Score | None] | Decision:
    """From the tags of two versions the scores to compare: ones that they share if there are any.

    Returns:
        The candidate's and the champion's (None: there is no champion), or why there are none.
    """
    ours, theirs = scores_of(candidate), scores_of(champion or {})
    if not ours:
        return Decision(promote=False, reason="the candidate has no recorded score; evaluate it first")
    if champion is None:
        return _preferred(ours, candidate), None
    if not theirs:
        return Decision(promote=False, reason="the champion has no recorded score; evaluate it first")
    score = _preferred({key: score for key, score in ours.items() if key in theirs} or ours, candidate)
    return score, theirs.get(score.key) or _preferred(theirs, champion)


def _preferred(scores: Mapping[str, Score], tags: Mapping[str, str]) -> Score:
    own = own_score(tags)
    return scores[own.key] if own is not None and own.key in scores else scores[min(scores)]
