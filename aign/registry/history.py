"""The audit trail of a registered model, as tags: one each time an alias moved or a gate spoke, nothing rewritten."""

import dataclasses
import getpass
import json
import os
import secrets
import socket
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

_MOVES, _DECISIONS = "alias/", "gate/"

Alias: TypeAlias = Literal["champion", "challenger"]


def user() -> str:
    """Of this process; its number where the system has no name for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without an entry in passwd
        return str(os.getuid())


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@dataclass(frozen=True, kw_only=True)
class Move:
    """An alias went to a version.

    Attributes:
        alias: which.
        version: that has it from then on.
        back: it was rolled back to, not promoted.
        reason: in words.
        user: who did it.
        host: from which machine.
        at: when, UTC.
    """

    alias: Alias
    version: int
    back: bool
    reason: str
    user: str = field(default_factory=user)
    host: str = field(default_factory=socket.gethostname)
    at: str = field(default_factory=_now)


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """What the gates said of a version.

    Attributes:
        promote: whether it became champion.
        reason: in words.
        user: who asked.
        host: from which machine.
        at: when, UTC.
    """

    promote: bool
    reason: str
    user: str = field(default_factory=user)
    host: str = field(default_factory=socket.gethostname)
    at: str = field(default_factory=_now)


def read_history(tags: Mapping[str, str]) -> list[Move]:
    """All moves of a registered model's aliases, oldest first."""
    return [Move(**json.loads(tags[key])) for key in sorted(k for k in tags if k.startswith(_MOVES))]


def read_rulings(tags: Mapping[str, str]) -> list[Ruling]:
    """All that the gates said of a version, oldest first."""
    return [Ruling(**json.loads(tags[key])) for key in sorted(k for k in tags if k.startswith(_DECISIONS))]


def history_tag(move: Move, past: Sequence[Move]) -> tuple[str, str]:
    """Key and value of the tag that records a move after all past ones."""
    return _key(_MOVES, len(past)), json.dumps(dataclasses.asdict(move))


def ruling_tag(ruling: Ruling, past: Sequence[Ruling]) -> tuple[str, str]:
    """Key and value of the tag that records what the gates said after all that they had said."""
    return _key(_DECISIONS, len(past)), json.dumps(dataclasses.asdict(ruling))


def _key(prefix: str, count: int) -> str:
    """Two processes at the same time write two tags, not one over the other."""
    return f"{prefix}{count + 1:06d}-{secrets.token_hex(3)}"


def former_champion(history: Sequence[Move], now: int | None, there: Set[int]) -> int | None:
    """The champion before the present one, among the versions that still exist; None if there was none."""
    stack: list[int] = []
    for move in (m for m in history if m.alias == "champion"):
        if move.back:
            while stack and stack[-1] != move.version:
                stack.pop()
        if not stack or stack[-1] != move.version:
            stack.append(move.version)
    if now in stack:
        stack = stack[: len(stack) - 1 - stack[::-1].index(now)]
    return next((v for v in reversed(stack) if v in there and v != now), None)
