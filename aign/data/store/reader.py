"""Reading a store: which row groups are meant, and only the columns asked for."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int

from aign.data.schema import TABLES, ClipKey, Column
from aign.data.store.codec import Block, decode_block
from aign.data.store.files import is_local, one_line, open_url, sha256_file, storage_errors
from aign.data.store.manifest import Manifest, check_schema_version, read_manifest
from aign.data.store.records import PartRecord, RowGroup
from aign.data.store.selection import Selection
from aign.data.store.writer import METADATA_KEY
from aign.framework.errors import UserError

Columns = Mapping[str, Sequence[str]]
"""Table -> the columns wanted of it."""


@dataclass(frozen=True, kw_only=True)
class Selected:
    """One row group of which some rows are meant; it is at the same place in every table of its part.

    Args:
        part: part number.
        index: row group in the part.
        first_frame: frames of the part before this row group.
        group: all its rows.
        rows: those that are meant.
    """

    part: int
    index: int
    first_frame: int
    group: RowGroup
    rows: tuple[int, ...]

    @property
    def clip_frames(self) -> tuple[int, ...]:
        """Frames of each selected clip."""
        return tuple(self.group.clips[row].num_frames for row in self.rows)

    @property
    def frames(self) -> int:
        """Frames of the selected clips."""
        return sum(self.clip_frames)


@dataclass(frozen=True, kw_only=True)
class Clips:
    """What was read of a store, clips joined along the first axis.

    Args:
        arrays: by column: [frames, ...] for per-frame columns, [clips, ...] for per-clip ones and [sum of counts, ...]
            for ragged ones. Pictures are object arrays of bytes, strings are str arrays.
        clip_index: clip of every frame, so `arrays[per_clip][clip_index]` lies beside per-frame columns.
        keys: key columns of every clip.
        counts: items per clip of each ragged column.
    """

    arrays: Mapping[str, np.ndarray]
    clip_index: Int[np.ndarray, " n"]
    keys: tuple[ClipKey, ...]
    counts: Mapping[str, Int[np.ndarray, " m"]]


class Store:
    """A committed store, opened for reading.

    Args:
        url: local path or fsspec URL.
        manifest: its manifest; `Store.open` reads it.
    """

    def __init__(self, url: str, manifest: Manifest) -> None:
        self.url = url
        self.manifest = manifest
        self._fs, self._root = open_url(url)
        self._footers: dict[str, Any] = {}
        self._parts = {(part.table, part.part): part for part in manifest.parts}

    @classmethod
    def open(cls, url: str) -> "Store":
        """Open a store.

        Raises:
            UserError: if there is no manifest, or it is damaged or of another schema version.
        """
        return cls(url, read_manifest(url))

    @property
    def hash(self) -> str:
        """Identity of the content: sha256 over the sorted sha256s of the parts."""
        return self.manifest.hash

    def row_groups(
        self, tables: Sequence[str], selection: Selection | None = None, *, include_dropped: bool = False
    ) -> tuple[Selected, ...]:
        """Row groups of the parts that all these tables have, where the selection has clips in them.

        Clips that failed their quality limits are left out unless `include_dropped`. Needs the manifest only.

        Raises:
            UserError: if a table is not there, or nothing is selected.
        """
        parts = [self._records(table) for table in tables]
        common = sorted(set.intersection(*(set(records) for records in parts)))
        chosen = selection or Selection()
        found = []
        for number in common:
            groups = parts[0][number].row_groups
            dropped = frozenset() if include_dropped else self._dropped(number, groups)
            for table, records in zip(tables[1:], parts[1:], strict=True):
                if records[number].row_groups != groups:
                    raise UserError(
                        f"part {number} of {self.url} holds other clips in {table} than in {tables[0]}; "
                        "preprocess its source again"
                    )
            first = first_row = 0
            for index, group in enumerate(groups):
                rows = tuple(row for row in chosen.rows(group) if first_row + row not in dropped)
                if rows:
                    found.append(Selected(part=number, index=index, first_frame=first, group=group, rows=rows))
                first += group.frames
                first_row += len(group.clips)
        if not found:
            raise UserError(self._nothing_selected(tables, chosen))
        return tuple(found)

    def sequences(self, tables: Sequence[str], selection: Selection | None = None) -> frozenset[str]:
        """Sequence ids that are actually selected; see `row_groups`."""
        return frozenset(found.group.sequence for found in self.row_groups(tables, selection))

    def read(self, columns: Columns, selection: Selection | None = None, *, include_dropped: bool = False) -> Clips:
        """Read the columns of all selected clips.

        Args:
            columns: table -> column names; parts that lack one of the tables are left out.
            selection: which clips; None for all.
            include_dropped: also those that failed their quality limits.

        Raises:
            UserError: if a column is unknown, nothing is selected, or a part is damaged.
        """
        wanted = column_types(columns)
        groups = self.row_groups(tuple(columns), selection, include_dropped=include_dropped)
        blocks = [self.read_row_group(found, columns) for found in groups]
        keys = tuple(key for block in blocks for key in block.group.clip_keys())
        frames = np.array([key.num_frames for key in keys])
        ragged = [name for name, column in wanted.items() if column.ragged]
        return Clips(
            arrays={name: np.concatenate([block.arrays[name] for block in blocks]) for name in wanted},
            clip_index=np.repeat(np.arange(len(keys)), frames),
            keys=keys,
            counts={name: np.concatenate([block.counts[name] for block in blocks]) for name in ragged},
        )

    def read_row_group(self, found: Selected, columns: Columns) -> Block:
        """Read the selected rows of one row group, all tables' columns in one block.

        Raises:
            UserError: if the part is missing or damaged.
        """
        arrays: dict[str, np.ndarray] = {}
        counts: dict[str, np.ndarray] = {}
        for table, names in columns.items():
            part = self._parts[table, found.part]
            data = self._read_arrow(part, found.index, list(names))
            block = decode_block(table, data, found.group, self.manifest.num_joints)
            arrays.update(block.arrays)
            counts.update(block.counts)
        return Block(group=found.group, arrays=arrays, counts=counts).take(found.rows, column_types(columns))

    def verify(self) -> None:
        """Compare every part with the manifest, byte for byte.

        Raises:
            UserError: naming the parts that are missing or damaged.
        """
        bad = []
        for part in self.manifest.parts:
            path = f"{self._root}/{part.path}"
            try:
                with storage_errors(f"read {path}"):
                    size = int(self._fs.size(path))
                    problem = _size_problem(size, part) or (
                        "" if sha256_file(self._fs, path) == part.sha256 else "sha256 differs from the manifest"
                    )
            except UserError as error:
                problem = one_line(error)
            if problem:
                bad.append(f"{part.path} ({problem})")
        if bad:
            raise UserError(
                f"{len(bad)} of {len(self.manifest.parts)} parts of {self.url} are damaged: {'; '.join(bad)}. "
                "Remove them and run the same preprocessing again"
            )

    def _records(self, table: str) -> dict[int, PartRecord]:
        records = {part.part: part for part in self.manifest.parts if part.table == table}
        if not records:
            there = ", ".join(self.manifest.tables) or "none"
            raise UserError(f"store {self.url} has no table {table!r}; it has: {there}")
        return records

    def _dropped(self, number: int, groups: tuple[RowGroup, ...]) -> frozenset[int]:
        """Rows of a part that failed their quality limits; tables of other clips than the judged ones lose nothing."""
        verdict = self._parts.get(("quality", number))
        return frozenset(verdict.dropped) if verdict is not None and verdict.row_groups == groups else frozenset()

    def _nothing_selected(self, tables: Sequence[str], selection: Selection) -> str:
        groups = [group for record in self._records(tables[0]).values() for group in record.row_groups]
        subjects, actions = sorted({g.subject for g in groups}), sorted({g.action for g in groups})
        cameras = sorted({camera for g in groups for camera in g.cameras})
        return (
            f"{selection} selects no clip that all of {', '.join(tables)} have in {self.url}; "
            f"it has subjects {subjects[:12]}, actions {actions[:20]}, cameras {cameras[:12]}"
        )

    def _read_arrow(self, part: PartRecord, index: int, names: list[str]) -> Any:
        path = f"{self._root}/{part.path}"
        with storage_errors(f"read {path}"):
            footer = self._footers.get(part.path) or self._check_footer(part)
            # The size is known to be right, and an object store is asked for one range per column: no read-ahead.
            options = {} if is_local(self._fs) else {"size": part.bytes, "cache_type": "none"}
            try:
                with open_part(self._fs, path, options) as file:
                    reader = pq.ParquetFile(file, metadata=footer, pre_buffer=not is_local(self._fs))
                    return reader.read_row_group(index, columns=names, use_threads=False)
            except pa.ArrowInvalid as error:
                raise _damaged(part, one_line(error)) from error

    def _check_footer(self, part: PartRecord) -> Any:
        """Read a part's footer once, and refuse a part that the manifest does not describe."""
        path = f"{self._root}/{part.path}"
        problem = _size_problem(int(self._fs.size(path)), part)
        if problem:
            raise _damaged(part, problem)
        try:
            with open_part(self._fs, path, {}) as file:
                footer = pq.read_metadata(file)
            written = json.loads(footer.metadata[METADATA_KEY])
        except (pa.ArrowInvalid, KeyError, TypeError) as error:
            raise _damaged(part, one_line(error)) from error
        check_schema_version(written["schema_version"], part.path)
        if footer.num_row_groups != len(part.row_groups):
            raise _damaged(part, f"{footer.num_row_groups} row groups, the manifest says {len(part.row_groups)}")
        self._footers[part.path] = footer
        return footer


def read_clips(url: str, part: PartRecord) -> list[dict[str, Any]]:
    """All clips of one part, key columns and all, in the form that `write_part` takes.

    Raises:
        UserError: if the part is missing or damaged.
    """
    origin = part.provenance
    store = Store(url, Manifest(skeleton=origin.skeleton, num_joints=origin.num_joints, parts=(part,)))
    columns = TABLES[part.table].columns
    clips: list[dict[str, Any]] = []
    for found in store.row_groups((part.table,), include_dropped=True):
        block = store.read_row_group(found, {part.table: tuple(columns)})
        for row, key in enumerate(found.group.clip_keys()):
            one = block.take([row], columns)
            values = {
                n: one.arrays[n] if c.per == "frame" or c.ragged else one.arrays[n][0] for n, c in columns.items()
            }
            strings = {n: str(values[n]) for n, c in columns.items() if c.dtype == "string"}
            clips.append({**vars(key), **values, **strings})
    return clips


def open_part(fs: Any, path: str, options: Mapping[str, Any]) -> Any:
    """A part as a binary file: the only place where the bytes of a part are asked for."""
    return fs.open(path, "rb", **options)


def column_types(columns: Columns) -> dict[str, Column]:
    """Column descriptions by name.

    Raises:
        UserError: if a table or column is unknown, a name is asked of two tables, or nothing is asked.
    """
    types: dict[str, Column] = {}
    for table, names in columns.items():
        if table not in TABLES:
            raise UserError(f"got table {table!r}; allowed are {', '.join(TABLES)}")
        for name in names:
            if name not in TABLES[table].columns:
                raise UserError(f"got column {name!r} of {table}; allowed are {', '.join(TABLES[table].columns)}")
            if name in types:
                raise UserError(f"column {name!r} is asked for twice; once is allowed")
            types[name] = TABLES[table].columns[name]
    if not types:
        raise UserError("got no columns to read; at least one is needed")
    return types


def _size_problem(size: int, part: PartRecord) -> str:
    return "" if size == part.bytes else f"{size} bytes, the manifest says {part.bytes}"


def _damaged(part: PartRecord, why: str) -> UserError:
    return UserError(f"{part.path} is damaged ({why}); remove it and run the same preprocessing again")
