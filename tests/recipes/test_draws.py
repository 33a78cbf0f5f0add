"""Draws: the same again with the same seed, log-uniform, and better where something is known."""

import math
import sys

import numpy as np
import pytest

from aign.framework.errors import UserError
from aign.recipes.draws import STARTUP, Known, check, draw
from aign.recipes.search import Range

SPACE = {"a": Range(low=1e-4, high=1.0), "b": Range(low=1.0, high=10.0)}


@pytest.mark.parametrize("method", ["random", "optuna"])
def test_one_seed_draws_the_same_trials_and_another_seed_others(method):
    known = [Known(values=draw("random", SPACE, 0, n, []), loss=float(n)) for n in range(STARTUP)]
    numbers = (1, 2, STARTUP, STARTUP + 1)
    first, again, other = ([draw(method, SPACE, seed, n, known) for n in numbers] for seed in (3, 3, 4))
    assert first == again
    assert not any(one == two for one, two in zip(first, other, strict=True))
    assert len({tuple(d.values()) for d in first}) == len(numbers)


def test_random_draws_need_nothing_but_their_number():
    known = [Known(values={"a": 0.1, "b": 2.0}, loss=1.0)]
    assert draw("random", SPACE, 0, 50, []) == draw("random", SPACE, 0, 50, known)


def test_draws_are_uniform_in_their_logarithm():
    drawn = np.array([list(draw("random", SPACE, 0, n, []).values()) for n in range(1, 2001)])
    shares = np.log(drawn / [1e-4, 1.0]) / np.log([1e4, 10.0])
    assert shares.min() >= 0
    assert shares.max() <= 1
    for column in shares.T:
        assert np.allclose(np.quantile(column, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.04)
    assert abs(np.corrcoef(shares.T)[0, 1]) < 0.06, "one number does not follow the other"


def loss(values):
    return math.log10(values["a"] / 0.01) ** 2 + math.log10(values["b"] / 3) ** 2


@pytest.mark.parametrize("failing", [False, True])
def test_optuna_looks_where_it_was_good(failing):
    pytest.importorskip("optuna")
    known = []
    for number in range(1, 40):
        values = draw("optuna", SPACE, 1, number, known)
        came = math.inf if failing and values["a"] > 0.3 else loss(values)
        known.append(Known(values=values, loss=came))
    late = np.mean([loss(k.values) for k in known[-15:]])
    by_chance = np.mean([loss(draw("random", SPACE, 0, n, [])) for n in range(1, 200)])
    assert late < 0.5 * by_chance


def test_optuna_is_told_of_running_trials_of_the_recipe_outside_the_ranges_and_of_nothing_but_failures():
    pytest.importorskip("optuna")
    for known in (
        [],
        [Known(values={"a": 0.1, "b": 2.0}, loss=None)],
        [Known(values={"a": 100.0, "b": 0.2}, loss=1.0)],
        [Known(values={"a": 0.1, "b": 2.0}, loss=math.inf)],
    ):
        values = draw("optuna", SPACE, 0, STARTUP, known)
        assert all(r.low <= values[name] <= r.high for name, r in SPACE.items())


def test_without_optuna_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    check("random")
    with pytest.raises(UserError, match=r"aign\[tune-optuna\]") as error:
        check("optuna")
    assert "\n" not in str(error.value)
