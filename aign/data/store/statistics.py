"""Mean and spread of a column, mergeable over parts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Count, mean and summed squared deviation of each number of an item.

    Two are merged by the pairwise update of Chan, Golub and LeVeque (1979): it keeps the digits sums of squares lose.

    Args:
        count: items seen.
        mean: float64 of the item's shape.
        squares: summed squared deviations from the mean, same shape.
    """

    count: int
    mean: Float[np.ndarray, "*item"]
    squares: Float[np.ndarray, "*item"]

    @staticmethod
    def of(values: Float[np.ndarray, "n *item"]) -> "Moments":
        """Moments over the first axis, which must not be empty."""
        wide = values.astype(np.float64)
        mean = wide.mean(axis=0)
        return Moments(count=len(wide), mean=np.asarray(mean), squares=np.asarray(((wide - mean) ** 2).sum(axis=0)))

    @staticmethod
    def merge(items: Iterable["Moments"]) -> "Moments":
        """Moments of all items together; at least one is needed."""
        first, *rest = items
        for other in rest:
            total = first.count + other.count
            delta = other.mean - first.mean
            first = Moments(
                count=total,
                mean=np.asarray(first.mean + delta * (other.count / total)),
                squares=np.asarray(first.squares + other.squares + delta**2 * (first.count * other.count / total)),
            )
        return first

    @property
    def std(self) -> Float[np.ndarray, "*item"]:
        """Standard deviation (population), the item's shape."""
        return np.asarray(np.sqrt(self.squares / self.count))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"count": self.count, "mean": self.mean.tolist(), "squares": self.squares.tolist()}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "Moments":
        """Inverse of `to_dict`."""
        return Moments(
            count=int(data["count"]),
            mean=np.asarray(data["mean"], np.float64),
            squares=np.asarray(data["squares"], np.float64),
        )
