"""What a search may change of a recipe, between which numbers, and the recipe that some numbers make.

A number of a recipe has a dotted name: task.weights.pose, fit.lr. Every range is log-uniform: what is not known of a
weight or a learning rate is its order of magnitude.
"""

import dataclasses
import difflib
import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from aign.framework.errors import UserError
from aign.recipes.tasks import Recipe, task_of
from aign.training.identity import flatten

R = TypeVar("R", bound=Recipe)

WEIGHTS = "task.weights."
RATES = ("fit.lr", "fit.critic_lr")
SPREAD = 10.0
"""A range of its own reaches from a tenth of the recipe's value to ten times of it."""
OWN = ("fit.steps", "fit.validate_every", "fit.log_every", "seed")
"""Numbers that a search sets itself, the same for all its trials."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """Log-uniform between two numbers, both positive."""

    low: float
    high: float


Space: TypeAlias = Mapping[str, Range]
"""Dotted name -> where it is looked for, in the order of the recipe."""


def anchor(recipe: Recipe, fixed: Iterable[str] = ()) -> str | None:
    """The weight that stays as the recipe has it, so that the others are measured in it; None where one is fixed.

    Multiplying all weights by one number changes nothing that Adam sees, and what it would change without Adam is the
    learning rate, which is searched anyway. The largest weight is taken: of that term one knows that it matters.
    """
    weights = _weights(recipe)
    if any(name in weights for name in fixed) or not weights:
        return None
    return max(weights, key=lambda name: weights[name])


def space_of(recipe: Recipe, changes: Sequence[str] = (), fixed: Sequence[str] = ()) -> Space:
    """Where to look: every weight above 0 but the anchor, and the learning rates, a decade to either side.

    Args:
        recipe: whose values the ranges are around.
        changes: "NAME=LOW:HIGH", in place of the range that NAME has, or added; "NAME" alone: a decade to either side.
        fixed: names that stay as they are; * stands for anything.

    Raises:
        UserError: a name that is none of the recipe's numbers, a range that is none, or nothing left to search.
    """
    numbers = _numbers(recipe)
    asked = dict(_parsed(text, numbers) for text in changes)
    still = set()
    for pattern in fixed:
        found = fnmatch.filter(numbers, pattern)
        if not found:
            _check(pattern, numbers)
        still |= set(found)
    if both := sorted(still & asked.keys()):
        raise UserError(f"got {', '.join(both)} both to be searched and to be fixed; allowed is one of them")
    weights = _weights(recipe)
    held = anchor(recipe, still)
    own = {name for name in weights if name != held}
    own |= {name for name in RATES if name != "fit.critic_lr" or _plays(recipe)}
    space = {name: _around(name, numbers) for name in numbers if name in own - still - asked.keys()} | asked
    if not space:
        raise UserError(
            "got nothing to search: every number is fixed; allowed: to leave one, or to name one in --space"
        )
    return {name: space[name] for name in numbers if name in space}


def values_of(recipe: Recipe, names: Iterable[str]) -> dict[str, float]:
    """What the recipe itself has there."""
    numbers = _numbers(recipe)
    return {name: float(numbers[name]) for name in names}


def with_values(recipe: R, values: Mapping[str, float]) -> R:
    """The recipe with other numbers; whole ones are rounded.

    Raises:
        UserError: a name that is none of the recipe's numbers.
    """
    numbers = _numbers(recipe)
    for name, value in values.items():
        _check(name, numbers)
        recipe = _replaced(recipe, name.split("."), round(value) if isinstance(numbers[name], int) else float(value))
    return recipe


def _replaced(inside: Any, path: Sequence[str], value: int | float) -> Any:
    first, *rest = path
    if isinstance(inside, Mapping):
        return {**inside, first: _replaced(inside[first], rest, value) if rest else value}
    held = vars(inside)[first]
    return dataclasses.replace(inside, **{first: _replaced(held, rest, value) if rest else value})


def _numbers(recipe: Recipe) -> dict[str, int | float]:
    """Every number of the recipe that a search may change."""
    leaves = flatten(recipe).items()
    return {k: v for k, v in leaves if isinstance(v, int | float) and not isinstance(v, bool) and k not in OWN}


def _weights(recipe: Recipe) -> dict[str, float]:
    return {k: v for k, v in _numbers(recipe).items() if k.startswith(WEIGHTS) and v > 0}


def _plays(recipe: Recipe) -> bool:
    """Whether there is a critic that learns."""
    return any(recipe.task.weights[name] > 0 for name in task_of(recipe).critics)


def _around(name: str, numbers: Mapping[str, int | float]) -> Range:
    value = float(numbers[name])
    if value <= 0:
        raise UserError(f"got --space {name} without a range, and the recipe has {value:g} there; allowed: LOW:HIGH")
    return Range(low=value / SPREAD, high=value * SPREAD)


def _parsed(text: str, numbers: Mapping[str, int | float]) -> tuple[str, Range]:
    name, is_range, ends = text.partition("=")
    _check(name, numbers)
    if not is_range:
        return name, _around(name, numbers)
    try:
        low, high = (float(end) for end in ends.split(":"))
    except ValueError:
        raise UserError(f"got --space {text}; allowed: NAME=LOW:HIGH with two numbers, or NAME alone") from None
    if not 0 < low < high < math.inf:
        raise UserError(f"got --space {text}; allowed: 0 < LOW < HIGH, because ranges are log-uniform")
    return name, Range(low=low, high=high)


def _check(name: str, numbers: Mapping[str, int | float]) -> None:
    if name in numbers:
        return
    if name in OWN:
        raise UserError(f"{name} is the search's own, the same for all trials; search another number")
    close = difflib.get_close_matches(name, numbers, n=3, cutoff=0.5)
    ends = [known for known in numbers if name and known.rpartition(".")[2] == name.rpartition(".")[2]]
    near = ", ".join(dict.fromkeys((*ends, *close))) or "task.weights.NAME, fit.lr, fit.critic_lr"
    raise UserError(f"the recipe has no number {name!r} to search; near ones: {near}")
