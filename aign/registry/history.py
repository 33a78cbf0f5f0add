"""The history of a champion, as tags of its registered model: one tag each time it moved, nothing ever rewritten."""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

_PREFIX = "champion/"


@dataclass(frozen=True, kw_only=True)
class Move:
    """The alias went to a version.

    Attributes:
        version: the champion from then on.
        back: it was rolled back to, not promoted.
        reason: in words.
    """

    version: int
    back: bool
    reason: str


def read_history(tags: Mapping[str, str]) -> list[Move]:
    """All moves, oldest first."""
    keys = sorted(k for k in tags if k.startswith(_PREFIX))
    return [Move(**{k: v for k, v in json.loads(tags[key]).items() if k != "at"}) for key in keys]


def history_tag(move: Move, past: Sequence[Move]) -> tuple[str, str]:
    """Key and value of the tag that records a move after all past ones."""
    text = json.dumps({**dataclasses.asdict(move), "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
    return f"{_PREFIX}{len(past) + 1:06d}", text


def former_champion(history: Sequence[Move], now: int | None, there: Set[int]) -> int | None:
    """The champion before the present one, among the versions that still exist; None if there was none."""
    stack: list[int] = []
    for move in history:
        if move.back:
            while stack and stack[-1] != move.version:
                stack.pop()
        if not stack or stack[-1] != move.version:
            stack.append(move.version)
    if now in stack:
        stack = stack[: len(stack) - 1 - stack[::-1].index(now)]
    return next((v for v in reversed(stack) if v in there and v != now), None)
