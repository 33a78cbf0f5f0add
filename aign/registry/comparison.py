"""Two registered versions side by side, on what was measured of both alike."""

from dataclasses import dataclass

from aign.evaluation.paired import Difference, difference
from aign.framework.errors import UserError
from aign.registry.catalogue import resolve_uri, version_of
from aign.registry.evidence import read_measured
from aign.registry.gates import Measured, Score, own_score, scores_of
from aign.registry.tracking import Tracking


@dataclass(frozen=True, kw_only=True)
class NumberRow:
    """A number of two versions.

    Attributes:
        name: the unit stands at its end.
        first: of one.
        second: of the other.
        difference: second less first, with its interval; None: it is no mean over test units.
    """

    name: str
    first: float
    second: float
    difference: Difference | None


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two versions on the same test clips.

    Attributes:
        first: name and version.
        second: of the other.
        score: of the first; what both have in common.
        rows: the headline first.
    """

    first: str
    second: str
    score: Score
    rows: tuple[NumberRow, ...]


def compare(tracking: Tracking, first: str, second: str) -> Compared:
    """Compare two models:/ addresses.

    Raises:
        UserError: no such model, or nothing was measured of both on the same clips under the same protocol.
    """
    places = [resolve_uri(tracking, uri) for uri in (first, second)]
    versions = [version_of(tracking, *place) for place in places]
    ours, theirs = (scores_of(version.tags) for version in versions)
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        raise UserError(
            f"nothing was measured of {first} and {second} alike: {_told(ours)} and {_told(theirs)}; register a run "
            "tested on the same clips under the same protocol, which measures the champion too"
        )
    own = own_score(versions[1].tags)
    key = own.key if own is not None and own.key in shared else shared[0]
    one, other = (read_measured(tracking, v, s[key]) for v, s in zip(versions, (ours, theirs), strict=True))
    named = [f"{name} {version}" for name, version in places]
    return Compared(first=named[0], second=named[1], score=ours[key], rows=_rows(one, other))


def _rows(one: Measured, other: Measured) -> tuple[NumberRow, ...]:
    names = [name for name in one.numbers if name in other.numbers]
    names.sort(key=lambda name: name != one.score.metric)
    return tuple(
        NumberRow(
            name=name, first=one.numbers[name], second=other.numbers[name], difference=_difference(name, one, other)
        )
        for name in names
    )


def _difference(name: str, one: Measured, other: Measured) -> Difference | None:
    """None also where some unit has the number in one report alone."""
    first, second = one.units.get(name, {}), other.units.get(name, {})
    return difference(second, first) if first and first.keys() == second.keys() else None


def _told(scores: dict[str, Score]) -> str:
    told = [f"{s.metric} of {s.subject or s.protocol} on store {s.store_hash[:12]}" for s in scores.values()]
    return ", ".join(told) or "nothing"
