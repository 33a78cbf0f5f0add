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
TRADED = ("reprojection_px", "flip_rate")
"""What may be worse where the error is better, if it was measured."""


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
        objective: name of the metric; lower is better.
        steps: of a whole trial.
        held: the weight that stayed as it is, or None.
        ranges: ends of each range, by dotted name.
        trials: in the order of their numbers.
    """

    recipe: str
    objective: str
    steps: int
    held: str | None
    ranges: Mapping[str, tuple[float, float]]
    trials: tuple[Trial, ...]

    def loss(self, trial: Trial) -> float:
        """What a trial came to at its last validation; infinity where there is none, or it failed."""
        value = trial.metrics.get(self.objective, math.inf)
        return value if trial.state != "failed" and math.isfinite(value) else math.inf

    def ranked(self) -> tuple[Trial, ...]:
        """Best first: those that came furthest, and of them the lowest."""
        return tuple(sorted(self.trials, key=lambda t: (self.loss(t) == math.inf, -t.step, self.loss(t), t.number)))

    @property
    def best(self) -> Trial:
        """The lowest of those that made all their steps.

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
    def traded(self) -> tuple[str, ...]:
        """Metrics beside the objective that every trial that ended has, as full names."""
        ended = [t for t in self.trials if t.state == "complete"]
        prefix = self.objective.rpartition("/")[0]
        return tuple(n for n in (f"{prefix}/{name}" for name in TRADED) if ended and all(n in t.metrics for t in ended))

    def front(self) -> tuple[Trial, ...]:
        """Those that no other beats in everything: error, and what is traded against it; of whole trials alone."""
        ended = [t for t in self.ranked() if t.state == "complete"]
        if not ended:
            return ()
        names = (self.objective, *self.traded)
        kept = undominated(np.array([[t.metrics[name] for name in names] for t in ended]))
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
