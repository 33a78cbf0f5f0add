"""Declared biases: which faces a memory remembers, as a filter on their attributes.

`sex=female`, `age>50`, `identity=7`, `lips>q90`, `Smiling>0`: an attribute of the store beside a number, or beside a
quantile of its known values. The paper's female, older, big-lipped or one person's memories are such filters
(papers.md 1.4, 1.5); there is no script of its own for any of them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int

from aign.framework.errors import UserError

Compare: TypeAlias = Literal["=", "<", ">"]
FORMS = "sex=female, sex=male, identity=7, age>50, age<30, lips>q90, NAME>NUMBER, NAME<NUMBER or nothing"
IDENTITY = "identity"
SEX = "Male"
"""CelebA's name: +1 male, -1 female."""
LEAST_MEMBERS = 16
LONGEST = 80
"""Characters of a bias."""
_FORM = re.compile(r"(?P<name>\w+)(?P<compare>[=<>])(?P<value>[-+.\w]+)")


@dataclass(frozen=True, kw_only=True)
class Bias:
    """One comparison.

    Attributes:
        text: as the user wrote it; "": no bias, and nothing else counts.
        attribute: of the store, or `IDENTITY`.
        compare: of the attribute with the value.
        value: the number, or the quantile as a share of the known values.
        quantile: whether it is one.
    """

    text: str = ""
    attribute: str = ""
    compare: Compare = ">"
    value: float = 0.0
    quantile: bool = False

    @property
    def none(self) -> bool:
        """Whether every face is a member."""
        return not self.text


def parse_bias(text: str) -> Bias:
    """The bias that a user wrote.

    Raises:
        UserError: it has none of the allowed forms.
    """
    if not text.strip():
        return Bias()
    found = _FORM.fullmatch(text.replace(" ", "")) if len(text) <= LONGEST else None
    refused = UserError(f"got bias {text!r}; allowed are {FORMS}")
    if found is None:
        raise refused
    name, compare, value = found.groups()
    if compare == "=":
        if name == IDENTITY and value.isdigit():
            return Bias(text=text, attribute=IDENTITY, compare="=", value=float(value))
        if name == "sex" and value in ("female", "male"):
            return Bias(text=text, attribute=SEX, compare=">" if value == "male" else "<")
        raise refused
    if name in (IDENTITY, "sex"):
        raise refused
    percent = re.fullmatch(r"q(\d{1,2})", value)
    try:
        number = int(percent[1]) / 100 if percent else float(value)
    except ValueError:
        raise refused from None
    if not np.isfinite(number) or (percent and not 0 < number < 1):
        raise refused
    side: Compare = ">" if compare == ">" else "<"
    return Bias(text=text, attribute=name, compare=side, value=number, quantile=percent is not None)


def settle(bias: Bias, attributes: Float[np.ndarray, "n k"], names: Sequence[str]) -> Bias:
    """The bias with its quantile as a number, taken over the known values of these faces (the training part's).

    Raises:
        UserError: no face has the attribute.
    """
    if not bias.quantile:
        return bias
    known = _known(bias, attributes, names)
    return replace(bias, value=float(np.quantile(known[~np.isnan(known)], bias.value)), quantile=False)


def members(
    bias: Bias, attributes: Float[np.ndarray, "n k"], names: Sequence[str], identity: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """Which faces satisfy the bias; an unknown value satisfies none.

    Args:
        bias: a quantile that is not settled is taken over these faces.
        attributes: NaN where unknown.
        names: of the attributes.
        identity: whose face; -1 where unknown.

    Raises:
        UserError: no face has the attribute, or fewer than `LEAST_MEMBERS` faces satisfy the bias.
    """
    chosen = satisfied(settle(bias, attributes, names), attributes, names, identity)
    if (count := int(chosen.sum())) < LEAST_MEMBERS:
        what = bias.text or "no bias"
        raise UserError(f"bias {what}: {count} of {len(chosen)} faces satisfy it; at least {LEAST_MEMBERS} are needed")
    return chosen


def satisfied(
    bias: Bias, attributes: Float[np.ndarray, "n k"], names: Sequence[str], identity: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """`members` of however few faces, for a bias whose quantile is settled.

    Raises:
        UserError: no face has the attribute.
    """
    assert not bias.quantile, "a quantile is of the training part"
    if bias.none:
        return np.ones(len(identity), bool)
    if bias.attribute == IDENTITY:
        return np.asarray(identity == int(bias.value))
    known = _known(bias, attributes, names)
    return np.asarray(known > bias.value if bias.compare == ">" else known < bias.value)


def _known(bias: Bias, attributes: Float[np.ndarray, "n k"], names: Sequence[str]) -> Float[np.ndarray, " n"]:
    """Values of the bias's attribute; NaN where unknown."""
    if bias.attribute not in names:
        there = ", ".join(sorted(names)) or "none"
        raise UserError(f"bias {bias.text}: the store has no attribute {bias.attribute}; it has {there}, and identity")
    values = attributes[:, list(names).index(bias.attribute)]
    if np.isnan(values).all():
        raise UserError(f"bias {bias.text}: {bias.attribute} is unknown of all {len(values)} faces")
    return np.asarray(values)
