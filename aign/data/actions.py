"""Human3.6M's fifteen actions: one name each, whatever a file calls them."""

import re
from collections.abc import Mapping

from aign.framework.errors import UserError

ACTIONS_15 = (
    *("Directions", "Discussion", "Eating", "Greeting", "Phoning", "Photo", "Posing", "Purchases"),
    *("Sitting", "SittingDown", "Smoking", "Waiting", "WalkDog", "Walking", "WalkTogether"),
)
"""Column order of nearly every paper."""

ACTIONS_13 = tuple(a for a in ACTIONS_15 if a not in ("WalkDog", "WalkTogether"))
"""The columns of the AIGN slide."""

SHORT_LABELS: Mapping[str, str] = {
    **{"Directions": "Dir", "Discussion": "Disc", "Eating": "Eat", "Greeting": "Greet", "Phoning": "Phone"},
    **{"Photo": "Photo", "Posing": "Pose", "Purchases": "Purch", "Sitting": "Sit", "SittingDown": "SitD"},
    **{"Smoking": "Smoke", "Waiting": "Wait", "WalkDog": "WalkD", "Walking": "Walk", "WalkTogether": "WalkT"},
}
"""Column heads that let fifteen columns stand side by side."""

_SPELLINGS: Mapping[str, str] = {
    **{name.lower(): name for name in ACTIONS_15},
    "takingphoto": "Photo",  # S1 only
    "walkingdog": "WalkDog",  # S1 only
    "wakingdog": "WalkDog",  # a typo in HMR's list that has travelled
    "walkingtogether": "WalkTogether",
}


def canonical_action(name: str) -> str:
    """The action a sequence or column name stands for: "Sitting Down 2", "SittingDown" and "sitting_down" are one.

    The whole name must match once the trial number is off, so Sitting is never SittingDown and Walking never WalkDog.

    Raises:
        UserError: not one of the fifteen (`_ALL` and Miscellaneous included: they are no actions).
    """
    stem = re.sub(r"[\s_-]*\d+$", "", name.strip())
    key = re.sub(r"[\s_-]+", "", stem).lower()
    if key not in _SPELLINGS:
        raise UserError(f"got action {name!r}; allowed are {', '.join(ACTIONS_15)} (a trial number may follow)")
    return _SPELLINGS[key]
