"""Which file is which action and sub-action: the mapping table of Human3.6M's metadata.xml (protocols 3.1).

A file's number is not its sub-action ("Eating 2" is S1's first Eating); this table is the only truth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

from aign.data.actions import canonical_action
from aign.framework.errors import UserError

_ALL_ACTIONS = 1
"""Action number of the `_ALL` files: no action."""
_LAST_ROW = 33
"""A row of subject names, 32 rows of file stems, then one of actors' names."""


@dataclass(frozen=True, kw_only=True)
class Take:
    """One recorded sequence.

    Attributes:
        stem: start of its file names, e.g. "Eating 2".
        action: canonical name.
        trial: sub-action, 1 or 2.
    """

    stem: str
    action: str
    trial: int


def read_takes(path: Path) -> Mapping[str, tuple[Take, ...]]:
    """The sequences of every subject, in the table's order.

    Raises:
        UserError: the file cannot be read, has no such table, or names an unknown action.
    """
    try:
        return _read_takes(str(path), path.stat().st_mtime_ns)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


@lru_cache(maxsize=4)
def _read_takes(path: str, _: int) -> Mapping[str, tuple[Take, ...]]:
    try:
        table = ElementTree.parse(path).getroot().find("mapping")
    except ElementTree.ParseError as error:
        raise UserError(f"{path} is no XML ({error}); allowed: Human3.6M's metadata.xml") from error
    rows = [[(cell.text or "").strip() for cell in row] for row in (table if table is not None else ())]
    if not rows or not any(name.startswith("S") for name in rows[0]):
        raise UserError(f"{path} has no <mapping> table of file names by subject; Human3.6M's metadata.xml has one")
    takes: dict[str, tuple[Take, ...]] = {}
    for column, subject in enumerate(rows[0]):
        if subject.startswith("S"):
            found = (_take(row, column, path) for row in rows[1:_LAST_ROW])
            takes[subject] = tuple(take for take in found if take is not None)
    return takes


def _take(row: list[str], column: int, path: str) -> Take | None:
    """None for the `_ALL` files and for a subject without this sequence."""
    if len(row) <= max(column, 1) or not (row[0].isdigit() and row[1].isdigit()):
        raise UserError(f"{path}: row {row} of <mapping> is not action, sub-action and a file name per subject")
    stem = row[column]
    if int(row[0]) == _ALL_ACTIONS or not stem or stem.startswith("_ALL"):
        return None
    return Take(stem=stem, action=canonical_action(stem), trial=int(row[1]))


def stem_of(takes: Mapping[str, tuple[Take, ...]], subject: str, action: str, trial: int) -> str:
    """File stem of a subject's action and sub-action; the action's name may be of any spelling.

    Raises:
        UserError: no such subject or sequence in the table.
    """
    wanted = canonical_action(action)
    for take in takes.get(subject, ()):
        if (take.action, take.trial) == (wanted, trial):
            return take.stem
    raise UserError(f"metadata.xml has no {wanted} {trial} of subject {subject}; it has {', '.join(takes)}")
