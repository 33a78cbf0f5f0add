"""Two reports on the same test units, compared unit by unit: is the difference more than luck?

A unit is what was drawn independently: a test sequence with all its cameras and frames, or a picture. A number of a
report is the weighted mean of its units' own numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Shaped
from scipy.stats import bootstrap

from aign.framework.errors import UserError

Units: TypeAlias = Mapping[str, Mapping[str, list[float]]]
"""By name of a number and of a unit: the unit's mean, and its weight in the report's mean."""

MIN_UNITS = 5
"""Of five units that all moved one way one says p = 1/32; of fewer nothing can be told at 95 %."""
RESAMPLES = 9999
_BATCH_VALUES = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Of a number, ours less theirs.

    Attributes:
        value: of the means over all units.
        low: end of the interval that holds 95 % of the bootstrap's differences, paired by unit.
        high: its other end.
        units: that both have.
    """

    value: float
    low: float
    high: float
    units: int

    @property
    def significant(self) -> bool:
        """Units enough, and zero lies outside of the interval."""
        return self.units >= MIN_UNITS and not self.low <= 0 <= self.high


def units_of(
    values: Mapping[str, Float[np.ndarray, " n"]],
    unit: Shaped[np.ndarray, " n"],
    group: Shaped[np.ndarray, " n"] | None = None,
) -> dict[str, dict[str, list[float]]]:
    """Means and weights by unit.

    Args:
        values: by name, one per frame or picture; NaN where there is none.
        unit: name of the unit of each.
        group: where the report's number is a mean of means: the action of each; None: of all alike.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for name, value in values.items():
        there = ~np.isnan(value)
        if not there.any():
            continue
        weight = _weights(there, group)
        names, index = np.unique(unit[there], return_inverse=True)
        share = np.bincount(index, weight[there])
        mean = np.bincount(index, weight[there] * value[there].astype(np.float64)) / share
        found[name] = {str(n): [float(m), float(w)] for n, m, w in zip(names, mean, share, strict=True)}
    return found


def _weights(there: Shaped[np.ndarray, " n"], group: Shaped[np.ndarray, " n"] | None) -> Float[np.ndarray, " n"]:
    """Of each value in the mean of all."""
    if group is None:
        return np.asarray(there / there.sum())
    _, index = np.unique(group, return_inverse=True)
    counts = np.bincount(index, there)
    return np.asarray(np.where(there, 1 / (np.maximum(counts, 1)[index] * (counts > 0).sum()), 0.0))


def difference(ours: Mapping[str, list[float]], theirs: Mapping[str, list[float]]) -> Difference:
    """Bootstrap of a number over the units of two reports; the random numbers are always the same.

    Args:
        ours: mean and weight by unit.
        theirs: of the same units.

    Raises:
        UserError: other units, or none.
    """
    if ours.keys() != theirs.keys() or not ours:
        alone = sorted(ours.keys() ^ theirs.keys())[:3]
        raise UserError(
            f"got reports of {len(ours)} and {len(theirs)} test units ({', '.join(alone)} in one alone); allowed are "
            "the same ones"
        )
    names = sorted(ours)
    mine, other = (np.array([side[name] for name in names]) for side in (ours, theirs))
    weighted = mine[:, 0] * mine[:, 1] - other[:, 0] * other[:, 1]
    if len(names) == 1:
        value = float(weighted[0])
        return Difference(value=value, low=value, high=value, units=1)
    done = bootstrap(
        (weighted, mine[:, 1]),
        _ratio,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=RESAMPLES,
        batch=max(1, _BATCH_VALUES // len(names)),
        rng=np.random.default_rng(0),
    )
    low, high = done.confidence_interval
    return Difference(value=float(weighted.sum()), low=float(low), high=float(high), units=len(names))


def _ratio(
    weighted: Float[np.ndarray, "..."], weight: Float[np.ndarray, "..."], axis: int = -1
) -> Float[np.ndarray, "..."]:
    """A resample's weights do not add up to one."""
    return np.asarray(weighted.sum(axis=axis) / weight.sum(axis=axis))
