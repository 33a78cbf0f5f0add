"""The trials of a search: which is best, which are worth a look, and what pulled against what."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float

from aign.framework.errors import UserError

State: TypeAlias = Literal["complete", "stopped", "failed", "open"]
"""Through all its steps; stopped early; ended by a mistake; or cut off, to go on when the search does."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that trials are compared by.

    Attributes:
        name: as validations log it.
        higher: is better; else lower is.
    """

    name: str
    higher: bool = False

    def loss(self, value: float) -> float:
        """Lower is better; its own inverse."""
        return -value if self.higher else value


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What the trials of a search are judged by.

    Attributes:
        metric: that the best is the best in.
        traded: what may be worse where that is better, if it is measured.
    """

    metric: Metric
    traded: tuple[Metric, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training of a search.

    Attributes:
        number: 0 is the recipe as it is.
        values: what was drawn, by dotted name.
        state: how it ended.
        step: of the last validation.
        metrics: of the last validation, of the averaged generator.
        dead: terms and critics that did nothing.
        cosines: of the terms' gradients, mean over the training, by "one|other".
        why: of a failure.
    """

    number: int
    values: Mapping[str, float]
    state: State
    step: int = 0
    metrics: Mapping[str, float]
    dead: tuple[str, ...] = ()
    cosines: Mapping[str, float]
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Search:
    """Some trials, and what they are judged by.

    Attributes:
        recipe: that they vary.
        goal: what they are judged by.
        steps: of a whole trial.
        held: the weight that stayed as it is, or None.
        ranges: ends of each range, by dotted name.
        trials: in the order of their numbers.
    """

    recipe: str
    goal: Goal
    steps: int
    held: str | None
    ranges: Mapping[str, tuple[float, float]]
    trials: tuple[Trial, ...]

    def loss(self, trial: Trial) -> float:
        """What a trial came to at its last validation, lower is better; infinity where there is none, or it failed."""
        value = trial.metrics.get(self.goal.metric.name, math.inf)
        return self.goal.metric.loss(value) if trial.state != "failed" and math.isfinite(value) else math.inf

    def ranked(self) -> tuple[Trial, ...]:
        """Best first: those that came furthest, and of them the best."""
        return tuple(sorted(self.trials, key=lambda t: (self.loss(t) == math.inf, -t.step, self.loss(t), t.number)))

    @property
    def best(self) -> Trial:
        """The best of those that made all their steps.

        Raises:
            UserError: none did.
        """
        first = next(iter(self.ranked()), None)
        if first is None or first.state != "complete":
            why = next((t.why for t in self.trials if t.why), "no trial made all its steps")
            raise UserError(f"no trial of {self.recipe} ended: {why}")
        return first

    @property
    def made(self) -> int:
        """Steps of all trials."""
        return sum(trial.step for trial in self.trials)

    @property
    def traded(self) -> tuple[Metric, ...]:
        """Metrics beside the goal's own that every trial that ended has."""
        ended = [t for t in self.trials if t.state == "complete"]
        return tuple(m for m in self.goal.traded if ended and all(m.name in t.metrics for t in ended))

    @property
    def varied(self) -> tuple[Metric, ...]:
        """Those of the traded in which trials that ended differ: of others there is nothing to draw."""
        ended = [t for t in self.trials if t.state == "complete"]
        return tuple(m for m in self.traded if len({t.metrics[m.name] for t in ended}) > 1)

    def front(self) -> tuple[Trial, ...]:
        """Those that no other beats in everything: the goal, and what is traded for it; of whole trials alone."""
        ended = [t for t in self.ranked() if t.state == "complete"]
        if not ended:
            return ()
        judged = (self.goal.metric, *self.traded)
        kept = undominated(np.array([[m.loss(t.metrics[m.name]) for m in judged] for t in ended]))
        return tuple(t for t, keep in zip(ended, kept, strict=True) if keep)

    def conflicts(self) -> tuple[tuple[str, ...], Float[np.ndarray, "n n"]]:
        """Names of terms and the cosines of their gradients, mean over the trials; NaN where two never met.

        Of the trials too whose weights differ: a weight changes a gradient's length and not its direction.
        """
        found: dict[str, list[float]] = {}
        for trial in self.trials:
            for pair, value in trial.cosines.items():
                found.setdefault(pair, []).append(value)
        names = tuple(dict.fromkeys(name for pair in found for name in pair.split("|")))
        table = np.full((len(names), len(names)), np.nan)
        np.fill_diagonal(table, 1.0)
        for pair, values in found.items():
            one, other = (names.index(name) for name in pair.split("|"))
            table[one, other] = table[other, one] = math.fsum(values) / len(values)
        return names, table

    def dead(self) -> dict[str, int]:
        """In how many trials each term or critic did nothing, where there are any."""
        count: dict[str, int] = {}
        for trial in self.trials:
            for name in trial.dead:
                count[name] = count.get(name, 0) + 1
        return dict(sorted(count.items(), key=lambda item: -item[1]))


def undominated(points: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
    """Points that no other point equals or beats in every coordinate and beats in one; lower is better."""
    no_worse = (points[:, None] <= points[None]).all(-1)
    better = (points[:, None] < points[None]).any(-1)
    return np.array(~(no_worse & better).any(axis=0))


def mean_cosines(rows: Sequence[Mapping[str, float | int]]) -> dict[str, float]:
    """Of the rows that a training logs, the mean of each "cosine/one|other"."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if name.startswith("cosine/"):
                found.setdefault(name.removeprefix("cosine/"), []).append(value)
    return {pair: math.fsum(values) / len(values) for pair, values in found.items()}
