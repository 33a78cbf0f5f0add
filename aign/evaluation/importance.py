"""Which of a search's numbers mattered: a forest of their logarithms, and what shuffling each one costs it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from aign.evaluation.trials import Search

MIN_TRIALS = 8
"""With fewer trials nothing is said."""
FORESTS = 5
TREES = 100


@dataclass(frozen=True, kw_only=True)
class Importance:
    """What mattered.

    Attributes:
        shares: by dotted name, largest first; they and `chance` sum to 1.
        chance: the share of a number that nobody used: what is not above it may be luck.
        directions: Spearman's rank correlation with the outcome; above 0: larger is worse. 0 may also mean that the
            middle is best.
    """

    shares: Mapping[str, float]
    chance: float
    directions: Mapping[str, float]


def importance(search: Search, seed: int = 0) -> Importance | None:
    """By permutation (Breiman, "Random Forests", 2001) of a forest that tells a trial's rank from its numbers.

    Ranks, because a trial that was stopped early has an error of an early step: it is worse than all that went on.

    Returns:
        None where there are too few trials to say anything, or they came out all alike.
    """
    from scipy.stats import spearmanr
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    ranked = [trial for trial in search.ranked() if trial.state != "open"]
    names = list(search.ranges)
    if len(ranked) < MIN_TRIALS or math.isinf(search.loss(ranked[0])):
        return None
    drawn = np.log([[trial.values[name] for name in names] for trial in ranked])
    rank = _ranks(search)
    random = np.random.default_rng(seed)
    found = np.zeros(len(names) + 1)
    for number in range(FORESTS):
        table = np.column_stack((drawn, random.uniform(size=len(drawn))))
        forest = RandomForestRegressor(n_estimators=TREES, min_samples_leaf=2, random_state=seed + number).fit(
            table, rank
        )
        found += permutation_importance(forest, table, rank, n_repeats=10, random_state=seed + number).importances_mean
    found = np.maximum(found, 0.0)
    if not found.any():
        return None
    shares = dict(zip(names, (found[:-1] / found.sum()).tolist(), strict=True))
    directions = {name: float(spearmanr(drawn[:, i], rank).statistic) for i, name in enumerate(names)}
    return Importance(
        shares=dict(sorted(shares.items(), key=lambda item: -item[1])),
        chance=float(found[-1] / found.sum()),
        directions=directions,
    )


def _ranks(search: Search) -> Float[np.ndarray, " n"]:
    """Places of the trials in their ranking; all that failed share the last."""
    ranked = [trial for trial in search.ranked() if trial.state != "open"]
    places = np.arange(len(ranked), dtype=float)
    failed = np.array([math.isinf(search.loss(trial)) for trial in ranked])
    if failed.any():
        places[failed] = places[failed].mean()
    return places
