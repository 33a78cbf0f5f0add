"""Declared biases: what may be written, whom it means, and what is refused."""

import numpy as np
import pytest

from aign.framework.errors import UserError
from aign.tasks.faces.bias import Bias, members, parse_bias, satisfied, settle

NAMES = ("Male", "age", "lips", "Smiling")
N = 40


def faces():
    """Male alternates; age 18, 20, ...; lips 0 .. 1, the last ten unknown; nobody smiles or not."""
    lips = np.linspace(0, 1, N)
    lips[30:] = np.nan
    columns = (np.where(np.arange(N) % 2, 1.0, -1.0), 18.0 + 2 * np.arange(N), lips, np.full(N, np.nan))
    return np.stack(columns, 1).astype(np.float32), NAMES, np.arange(N) % 2


@pytest.mark.parametrize(
    ("text", "attribute", "compare", "value", "quantile"),
    [
        ("sex=female", "Male", "<", 0, False),
        ("sex=male", "Male", ">", 0, False),
        ("age>50", "age", ">", 50, False),
        ("age < 30.5", "age", "<", 30.5, False),
        ("identity=7", "identity", "=", 7, False),
        ("lips>q90", "lips", ">", 0.9, True),
        ("nose<q5", "nose", "<", 0.05, True),
        ("Smiling>0", "Smiling", ">", 0, False),
        ("yaw<-1.5", "yaw", "<", -1.5, False),
    ],
)
def test_every_form(text, attribute, compare, value, quantile):
    assert parse_bias(text) == Bias(
        text=text, attribute=attribute, compare=compare, value=float(value), quantile=quantile
    )
    assert not parse_bias(text).none


def test_nothing_is_no_bias():
    assert parse_bias("").none
    assert parse_bias("  ").none
    assert members(parse_bias(""), *faces()).all()


@pytest.mark.parametrize(
    "text",
    [
        *("female", "sex=f", "sex>0", "age=50", "age>old", "identity=Tom", "identity>3", "lips>q0", "lips>q100"),
        *("age>nan", "age>inf", ">3", "lips>q-5", "age>50;sex=male", "q90", "=", "age>>5"),
    ],
)
def test_everything_else_is_refused_with_what_is_allowed(text):
    with pytest.raises(UserError, match="allowed are sex=female") as refused:
        parse_bias(text)
    assert repr(text) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("sex=male", np.arange(N) % 2 == 1),
        ("sex=female", np.arange(N) % 2 == 0),
        ("age>50", 18 + 2 * np.arange(N) > 50),
        ("identity=1", np.arange(N) % 2 == 1),
        ("lips<q70", np.arange(N) < 21),
    ],
)
def test_members(text, want):
    assert members(parse_bias(text), *faces()).tolist() == want.tolist()


def test_an_unknown_value_is_no_member_and_does_not_count_for_quantiles():
    values, names, identity = faces()
    settled = settle(parse_bias("lips>q50"), values, names)
    assert settled.value == pytest.approx(np.median(values[:30, 2]))
    assert not settled.quantile
    assert settled.text == "lips>q50"
    chosen = satisfied(settled, values, names, identity)
    assert chosen.tolist() == [15 <= i < 30 for i in range(N)]


def test_a_settled_bias_means_the_training_parts_number_in_every_part():
    values, names, identity = faces()
    settled = settle(parse_bias("age>q50"), values, names)
    older = values.copy()
    older[:, 1] += 100
    assert satisfied(settled, older, names, identity).all()
    assert settle(settled, older, names) == settled


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nose>q90", "no attribute nose; it has Male, Smiling, age, lips, and identity"),
        ("Smiling>0", "unknown of all 40 faces"),
        ("age>90", "3 of 40 faces satisfy it; at least 16"),
        ("identity=9", "0 of 40"),
    ],
)
def test_what_a_store_cannot_answer_is_refused_in_a_line(text, why):
    with pytest.raises(UserError, match=why) as refused:
        members(parse_bias(text), *faces())
    assert text in str(refused.value)
    assert "\n" not in str(refused.value)
