"""Which licences reach a model's weights, and which a registered model accepts."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from aign.framework.errors import UserError

LicencePolicy: TypeAlias = Literal["permissive", "any"]
"""permissive: every licence lets the weights be used for anything; any: whoever uses the weights looks for himself."""

PERMISSIVE = frozenset(
    {
        "0bsd", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-3.0", "cc-by-4.0", "cc0-1.0", "isc", "mit",
        "ofl-1.1", "pddl-1.0", "public domain", "unlicense", "zlib",
    }
)  # fmt: skip
_RESTRICTED = re.compile(r"research|academic|non-?commercial|\bnc\b|only|owner|licen[cs]e of", re.IGNORECASE)
_COPYRIGHT = re.compile(r"\(c\)[^;,]*", re.IGNORECASE)
_REMARK = re.compile(r"\([^()]*\)")


def is_permissive(licence: str) -> bool:
    """Whether a licence tag of a store names permissive licences alone; what it does not know is not permissive.

    A tag is a list ("CC0-1.0 (body); motions: zlib (pybullet_data)") of identifiers with remarks in brackets.
    """
    if _RESTRICTED.search(licence):
        return False
    parts = re.split("[;,]", _REMARK.sub("", _COPYRIGHT.sub("", licence)))
    names = [part.rpartition(":")[2].strip().lower() for part in parts]
    return any(names) and all(name in PERMISSIVE for name in names if name)


def policy_of(licences: Sequence[str]) -> LicencePolicy:
    """The strictest policy that the licences fit."""
    return "permissive" if licences and all(map(is_permissive, licences)) else "any"


def licence_refusal(policy: LicencePolicy, licences: Sequence[str]) -> str | None:
    """Why a model of these licences may not be champion under a policy; None: it may."""
    if policy == "any" or policy_of(licences) == "permissive":
        return None
    wrong = [licence for licence in licences if not is_permissive(licence)] or ["data without a licence"]
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return f"the licence policy is permissive, and it was trained on {wrong[0]!r}{more}"


def check_policy(policy: LicencePolicy, origins: Mapping[str, Sequence[str]]) -> None:
    """Refuse what a model would be made of, before it is made.

    Args:
        policy: that everything has to fit.
        origins: licences by what they are of, as in `aign.recipes.task.Sources`.

    Raises:
        UserError: something does not; the line names each with the licences that are not permissive.
    """
    wrong = {
        name: [licence for licence in licences if not is_permissive(licence)] or ["none is known"]
        for name, licences in origins.items()
        if policy == "permissive" and policy_of(licences) != "permissive"
    }
    if wrong:
        told = "; ".join(f"{name} ({', '.join(licences)})" for name, licences in wrong.items())
        raise UserError(
            f"--license-policy permissive refuses {told}; allowed are data, bodies and models that anybody may use for "
            "anything, or --license-policy any"
        )
