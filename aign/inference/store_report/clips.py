"""Clips of a store across its tables, found in the manifest and read a row group at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aign.data.schema import TABLES, ClipKey
from aign.data.store import PartRecord, RowGroup, Selected, Store
from aign.data.store.codec import Block
from aign.data.store.files import one_line
from aign.framework.errors import UserError
from aign.inference.store_report.findings import MAKE_AGAIN, Finding, Place

SHOWING = ("frames", "faces", "keypoints", "labels", "memory_pose")
"""Tables that a person can be shown; a part's clips are those of the first that it has."""


@dataclass(frozen=True, kw_only=True)
class ClipRef:
    """A clip of one part."""

    part: int
    key: ClipKey

    @property
    def name(self) -> str:
        """What a person calls it."""
        last = self.key.frame_start + self.key.num_frames - 1
        frames = f"frames {self.key.frame_start} to {last}" if self.key.num_frames > 1 else f"frame {last}"
        return " \N{MIDDLE DOT} ".join(filter(None, (self.key.sequence, self.key.camera, frames)))


def clips_of(record: PartRecord) -> list[ClipRef]:
    """All clips of a part, in order."""
    return [ClipRef(part=record.part, key=key) for group in record.row_groups for key in group.clip_keys()]


def all_clips(store: Store, broken: Mapping[Place, str]) -> list[ClipRef]:
    """All clips that can be shown, each once, of the tables that are not broken."""
    found: dict[int, PartRecord] = {}
    for table in reversed(SHOWING):
        for record in store.manifest.tables.get(table, ()):
            if (table, record.part) not in broken:
                found[record.part] = record
    return [clip for _, record in sorted(found.items()) for clip in clips_of(record)]


def whole(part: int, index: int, group: RowGroup) -> Selected:
    """All rows of one row group; `first_frame` is not known and not needed for reading."""
    return Selected(part=part, index=index, first_frame=0, group=group, rows=tuple(range(len(group.clips))))


class ClipReader:
    """Reads clips, and goes on when a part is broken.

    Attributes:
        broken: parts that cannot be read; those that turn out to be are added.
        findings: one for each part that turned out to be broken.
    """

    def __init__(self, store: Store, broken: Mapping[Place, str]) -> None:
        self.store = store
        self.broken = dict(broken)
        self.findings: list[Finding] = []
        self._records = {(part.table, part.part): part for part in store.manifest.parts}
        self._last: dict[str, tuple[tuple[int, int], Block]] = {}

    def clip(self, table: str, columns: Sequence[str], clip: ClipRef) -> Block | None:
        """A clip's columns of one table; None where the table does not have the clip or is broken.

        Reading clips in the order of `clips_of`, with the same columns every time, reads every row group once.
        """
        record = self._records.get((table, clip.part))
        if record is None or (table, clip.part) in self.broken:
            return None
        for index, group in enumerate(record.row_groups):
            if group.sequence != clip.key.sequence:
                continue
            for row, span in enumerate(group.clips):
                if (span.camera, span.frame_start) == (clip.key.camera, clip.key.frame_start):
                    block = self.group(table, columns, clip.part, index)
                    types = {name: TABLES[table].columns[name] for name in columns}
                    return None if block is None else block.take([row], types)
        return None

    def group(self, table: str, columns: Sequence[str], part: int, index: int) -> Block | None:
        """A row group's columns; None where it is broken."""
        place = (part, index)
        if table in self._last and self._last[table][0] == place:
            return self._last[table][1]
        record = self._records[table, part]
        try:
            block = self.store.read_row_group(whole(part, index, record.row_groups[index]), {table: tuple(columns)})
        except UserError as error:
            self.mark(table, part, one_line(error))
            return None
        self._last[table] = (place, block)
        return block

    def mark(self, table: str, part: int, problem: str) -> None:
        """Note that a part is broken, once."""
        if (table, part) not in self.broken:
            self.broken[table, part] = problem
            path = self._records[table, part].path
            self.findings.append(Finding(level="broken", what=f"{path}: {problem}", remedy=MAKE_AGAIN))
