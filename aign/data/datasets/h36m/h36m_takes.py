"""Facts about Human3.6M's sequences that hold without any of its files: which trial a name is, and what is damaged.

Every loader names a sequence "S9/Waiting 1": the subject and the published file's stem. VideoPose3D's preparation says
Photo and WalkDog where S1's files say TakingPhoto and WalkingDog; that is the only difference between the loaders.
"""

import re
from collections.abc import Mapping

from aign.data.actions import ACTIONS_15, canonical_action

DAMAGED = ("S9/Greeting", "S9/SittingDown 1", "S9/Waiting 1")
"""Sequences whose published 3D joints are shifted. They are read; a protocol may leave them out by these ids."""

SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
"""Those whose 3D joints are published."""

_NAMES = (*ACTIONS_15, "TakingPhoto", "WalkingDog")
_USUAL = ("1", "")
_NUMBERS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("S1", "Eating"): ("2", ""),
    ("S1", "Sitting"): ("1", "2"),
    ("S1", "SittingDown"): ("2", ""),
    ("S5", "Directions"): ("1", "2"),
    ("S5", "Discussion"): ("2", "3"),
    ("S5", "Greeting"): ("1", "2"),
    ("S5", "SittingDown"): ("", "1"),
    ("S5", "Photo"): ("", "2"),
    ("S5", "Waiting"): ("1", "2"),
    ("S6", "Eating"): ("1", "2"),
    ("S6", "Posing"): ("2", ""),
    ("S6", "Sitting"): ("1", "2"),
    ("S6", "Photo"): ("", "1"),
    ("S6", "Waiting"): ("3", ""),
    ("S7", "Phoning"): ("2", ""),
    ("S7", "SittingDown"): ("", "1"),
    ("S7", "Photo"): ("", "1"),
    ("S7", "Waiting"): ("1", "2"),
    ("S7", "Walking"): ("1", "2"),
    ("S8", "SittingDown"): ("", "1"),
    ("S8", "WalkTogether"): ("1", "2"),
    ("S9", "Discussion"): ("1", "2"),
    ("S9", "SittingDown"): ("", "1"),
    ("S11", "Discussion"): ("1", "2"),
    ("S11", "Greeting"): ("2", ""),
    ("S11", "Phoning"): ("3", "2"),
    ("S11", "SittingDown"): ("", "1"),
    ("S11", "Smoking"): ("2", ""),
}
"""Numbers in the file names of trials 1 and 2, where they are not the usual 1 and none (metadata.xml's mapping)."""


def trial_of(sequence: str) -> int:
    """Trial (sub-action) 1 or 2 of a sequence id; the number in its name is another thing. 0 if it is not one of these.

    Args:
        sequence: for example "S9/SittingDown 1", which is trial 2.
    """
    subject, _, stem = sequence.partition("/")
    named = re.fullmatch(r"([A-Za-z]+)(?: (\d))?", stem)
    if subject not in SUBJECTS or named is None or named[1] not in _NAMES:
        return 0
    numbers, number = _NUMBERS.get((subject, canonical_action(stem)), _USUAL), named[2] or ""
    return numbers.index(number) + 1 if number in numbers else 0


def sequences_of(subject: str) -> Mapping[str, int]:
    """Trial of each of a subject's 30 sequences by id, with the names that are not S1's alone (Photo and WalkDog)."""
    found = {}
    for action in ACTIONS_15:
        for trial, number in enumerate(_NUMBERS.get((subject, action), _USUAL), 1):
            found[f"{subject}/{action} {number}".rstrip()] = trial
    return found
