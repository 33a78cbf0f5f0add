"""Per-unit numbers add up to a report's own, and the bootstrap tells luck from improvement."""

import numpy as np
import pytest

from aign.evaluation.paired import MIN_UNITS, difference, units_of
from aign.framework.errors import UserError


def test_units_add_up_to_the_mean_of_frames():
    rng = np.random.default_rng(0)
    value, unit = rng.uniform(10, 90, 200), rng.choice(["a", "b", "c"], 200)
    value[:7] = np.nan
    units = units_of({"error_mm": value, "none": np.full(200, np.nan)}, unit)
    assert units.keys() == {"error_mm"}
    assert sum(w for _, w in units["error_mm"].values()) == pytest.approx(1)
    assert sum(m * w for m, w in units["error_mm"].values()) == pytest.approx(np.nanmean(value))
    assert units["error_mm"]["b"][0] == pytest.approx(np.nanmean(value[unit == "b"]))


def test_units_add_up_to_the_mean_of_actions():
    value, action = np.array([1.0, 2, 3, 10, np.nan]), np.array(["walk", "walk", "walk", "sit", "run"])
    units = units_of({"x": value}, np.array(["s1", "s1", "s2", "s2", "s3"]), action)["x"]
    assert sum(m * w for m, w in units.values()) == pytest.approx((2 + 10) / 2)
    assert "s3" not in units


def side(errors: dict[str, float]) -> dict[str, list[float]]:
    return {name: [value, 1 / len(errors)] for name, value in errors.items()}


def drawn(shift: float, noise: float, units: int, seed: int = 1):
    rng = np.random.default_rng(seed)
    base = rng.uniform(50, 200, units)
    here, there = (dict(zip(map(str, range(units)), v, strict=True)) for v in (
        base + shift + noise * rng.standard_normal(units), base
    ))  # fmt: skip
    return side(here), side(there)


def test_a_small_steady_improvement_is_told_although_units_differ_much():
    found = difference(*drawn(-2, 1, 30))
    assert found.significant
    assert found.low < found.value < found.high < 0
    assert found.value == pytest.approx(-2, abs=0.6)


def test_noise_is_no_improvement_19_times_of_20():
    alarms = sum(difference(*drawn(0, 5, 30, seed)).significant for seed in range(100))
    assert 1 <= alarms <= 12


def test_few_units_tell_nothing():
    found = difference(*drawn(-50, 0.1, MIN_UNITS - 1))
    assert found.high < 0
    assert not found.significant
    assert difference(*drawn(-50, 0.1, MIN_UNITS)).significant
    assert not difference(*drawn(-50, 0.1, 1)).significant


def test_the_same_report_twice():
    one, _ = drawn(0, 1, 9)
    found = difference(one, one)
    assert (found.value, found.low, found.high, found.significant) == (0, 0, 0, False)


def test_long_units_weigh_more():
    ours, theirs = {"a": [0.0, 0.9], "b": [100.0, 0.1]}, {"a": [10.0, 0.9], "b": [0.0, 0.1]}
    assert difference(ours, theirs).value == pytest.approx(-9 + 10)


def test_other_units_are_refused():
    with pytest.raises(UserError, match=r"3 and 2 test units \(2 in one alone\)"):
        difference(side({"0": 1.0, "1": 2.0, "2": 3.0}), side({"0": 1.0, "1": 2.0}))
    with pytest.raises(UserError, match="0 and 0 test units"):
        difference({}, {})
