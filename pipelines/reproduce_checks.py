"""What every `aign reproduce` refuses before anything takes time."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from aign.framework.errors import UserError
from pipelines.run_folder import publish


class Keyed(Protocol):
    """A row of a table."""

    @property
    def key(self) -> str:
        """Of its run."""

    @property
    def group(self) -> str:
        """The comparison that it belongs to."""


R = TypeVar("R", bound=Keyed)


def check_counts(workers: int, **counts: int) -> None:
    """Refuse what is too few.

    Raises:
        UserError: naming the flag and what was got.
    """
    for name, value in counts.items():
        if value < 1:
            raise UserError(f"got --{name} {value}; allowed: 1 or more")
    if workers < 0:
        raise UserError(f"got --workers {workers}; allowed: 0 (this process) or more")


def check_out(out: Path, config: Mapping[str, Any]) -> None:
    """Refuse a folder of another table, store or number of steps.

    Raises:
        UserError: naming what differs.
    """
    path = out / "reproduce.json"
    if not path.exists():
        publish(path, json.dumps(config, indent=1))
        return
    old = json.loads(path.read_text())
    names = dict.fromkeys((*config, *old))
    changed = [f"{name} {old.get(name)} -> {config.get(name)}" for name in names if old.get(name) != config.get(name)]
    if changed:
        raise UserError(f"{out} was begun otherwise: {', '.join(changed)}; name another --out")


def choose(every: Sequence[R], groups: Sequence[str], only: Sequence[str]) -> tuple[R, ...]:
    """Rows by key, or those of the groups.

    Raises:
        UserError: an unknown key, or nothing chosen.
    """
    by_key = {row.key: row for row in reversed(every)}  # a run that stands in several groups is taken from the first
    if unknown := [key for key in only if key not in by_key]:
        raise UserError(
            f"got --only {' '.join(unknown)}; allowed: {', '.join(dict.fromkeys(row.key for row in every))}"
        )
    chosen = tuple(
        row for row in every if (row.key in only and row is by_key[row.key] if only else row.group in groups)
    )
    if not chosen:
        there = dict.fromkeys(row.group for row in every)
        raise UserError(f"got --groups {' '.join(groups)}, which have no row here; allowed: {', '.join(there)}")
    return chosen
