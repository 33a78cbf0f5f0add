"""What CMU's motions show: the text index of the database, `cmu-mocap-index-text.txt`, as it lies beside the files.

After a preamble it has a heading for each subject, `Subject #7 (walk)`, and a line for each trial, its id and what it
shows with a tab between, `07_01<TAB>walk`; copies of it have spaces there.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from aign.framework.errors import UserError

NAMES = "cmu-mocap-index*.txt"
TRIAL = re.compile(r"(\d{2,3})_(\d{2,3})")
"""A trial's id, which is the name of its file: subject and number."""
_LINE = re.compile(rf"\s*({TRIAL.pattern})\s+(\S.*)")
_PHRASE_END = re.compile(r"[,;(]| - ")
_GAITS: Mapping[str, str] = {"walk": "Walking", "walking": "Walking", "run": "Running", "jog": "Running"}
UNKNOWN = "unknown"
"""What the index says where CMU says nothing."""


def read_index(path: Path) -> dict[str, str]:
    """Action of each trial that the index describes, by id.

    Raises:
        UserError: it cannot be read, or describes no trial.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()  # a quotation mark may be in any code
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    found = [match for match in map(_LINE.fullmatch, lines) if match]
    if not found:
        raise UserError(f"{path}: no line of an index in it, such as '07_01  walk'")
    actions = {match[1]: action_of(match[4]) for match in found}
    return {trial: action for trial, action in actions.items() if action.lower() != UNKNOWN}


def action_of(description: str) -> str:
    """One name for what a trial shows: the description's first phrase, or Walking or Running if that is a gait.

    "slow walk, stop" is Walking, "run/jog, veer left" is Running, "basketball - forward dribble" is Basketball.
    """
    phrase = _PHRASE_END.split(description.strip())[0].strip() or description.strip()
    for word in re.findall(r"[a-z]+", phrase.lower()):
        if word in _GAITS:
            return _GAITS[word]
    return phrase[:1].upper() + phrase[1:]
