"""Parts: written once, under a name that says what made them.

The name holds a hash of inputs and stage chain: a repeated task finds its part finished, a changed one writes another.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aign.data.schema import KEY_TYPES, SCHEMA_VERSION, TABLES, ClipKey
from aign.data.store.codec import Block, arrow_schema, block_from_clips, encode_block, parquet_options
from aign.data.store.files import atomic_file, open_url, sha256_file, storage_errors
from aign.data.store.records import ClipSpan, PartRecord, Provenance, RowGroup
from aign.data.store.statistics import Moments
from aign.framework.errors import UserError

# A row group closes before it exceeds this: a unit of the loader is then about 1 MB of poses or 45 MB of pictures.
ROW_GROUP_FRAMES = 2048
METADATA_KEY = b"aign"

Clip = Mapping[str, Any]
"""Key columns and one table's columns of one clip, by name."""


def part_path(table: str, part_number: int, provenance: Provenance) -> str:
    """Path of a part inside its store."""
    return f"{table}/part-{part_number:05d}-{provenance.hash[:12]}.parquet"


def find_part(store_url: str, part_number: int, tables: Iterable[str], provenance: Provenance) -> dict[str, PartRecord]:
    """Records of those of the tables whose part is already there, made from the same inputs by the same stages.

    Reads the files whole for their sha256. A file without a sound footer counts as absent.

    Raises:
        UserError: if the store cannot be read.
    """
    found = {}
    for table in tables:
        record = _existing(store_url, table, part_number, provenance)
        if record is not None:
            found[table] = record
    return found


def write_part(
    store_url: str,
    part_number: int,
    tables: Mapping[str, Sequence[Clip]],
    provenance: Provenance,
    left_out: tuple[str, ...] = (),
) -> tuple[PartRecord, ...]:
    """Write one part of each given table; parts that are already there are kept as they are.

    Arguments and result pickle, so it runs in any worker process. Nothing reads the part before `commit` names it.

    Args:
        store_url: local path or fsspec URL.
        part_number: the same for all tables.
        tables: table -> clips. Tables given together hold the same clips in the same order; clips of one sequence
            follow one another.
        provenance: what made the data.
        left_out: what the source also held and why it is not among the clips, a line each.

    Returns:
        one record per table, for the manifest.

    Raises:
        UserError: if the clips are not what the schema allows, or the store cannot be written.
    """
    keys = checked_keys(tables)
    records = []
    for table, clips in tables.items():
        record = _existing(store_url, table, part_number, provenance)
        if record is None:
            blocks = _blocks(table, clips, keys[table], provenance.num_joints)
            record = _write(store_url, table, part_number, blocks, provenance, left_out)
        records.append(record)
    return tuple(records)


def checked_keys(tables: Mapping[str, Sequence[Clip]]) -> dict[str, list[ClipKey]]:
    """The clips' keys by table, once the tables are known to hold the same clips.

    Raises:
        UserError: if a clip is not what the schema allows, or tables hold different clips.
    """
    keys = {table: _keys(table, clips) for table, clips in tables.items()}
    for first, second in pairwise(keys):
        if keys[first] != keys[second]:
            raise UserError(
                f"{first} ({len(keys[first])} clips) and {second} ({len(keys[second])} clips) hold "
                "different clips; a part needs the same ones in the same order"
            )
    return keys


def _keys(table: str, clips: Sequence[Clip]) -> list[ClipKey]:
    """Key columns of the clips, checked."""
    if table not in TABLES:
        raise UserError(f"got table {table!r}; allowed are {', '.join(TABLES)}")
    if not clips:
        raise UserError(f"{table}: got no clips; at least one is needed")
    allowed = {*KEY_TYPES, *TABLES[table].columns}
    keys = []
    for clip in clips:
        if set(clip) != allowed:
            missing, unknown = sorted(allowed - set(clip)), sorted(set(clip) - allowed)
            raise UserError(f"{table}: a clip lacks {missing} and has unknown {unknown}; allowed are {sorted(allowed)}")
        casts = {"string": str, "int32": int, "float32": float}  # numpy scalars would not become JSON
        key = ClipKey(**{name: casts[kind](clip[name]) for name, kind in KEY_TYPES.items()})
        _check_key(table, key)
        keys.append(key)
    if len({(k.sequence, k.camera, k.frame_start) for k in keys}) < len(keys):
        raise UserError(f"{table}: two clips of {keys[0].source} have the same sequence, camera and first frame")
    return keys


def _check_key(table: str, key: ClipKey) -> None:
    where = f"{table}: sequence {key.sequence!r} from {key.source}"
    if not key.sequence:
        raise UserError(f"{where}: got an empty sequence id; a unique one is needed")
    if key.camera and not TABLES[table].has_camera:
        raise UserError(f"{where}: got camera {key.camera!r}; this table allows none")
    if key.num_frames < 1 or key.frame_start < 0 or not 0 < key.fps < float("inf"):
        raise UserError(
            f"{where}: got num_frames {key.num_frames}, frame_start {key.frame_start}, fps {key.fps:g}; "
            "allowed are at least 1, at least 0, above 0"
        )


def _blocks(table: str, clips: Sequence[Clip], keys: Sequence[ClipKey], num_joints: int) -> list[Block]:
    return [
        block_from_clips(table, group, clips[start : start + len(group.clips)], num_joints)
        for start, group in _row_groups(keys)
    ]


def _row_groups(keys: Sequence[ClipKey]) -> Iterator[tuple[int, RowGroup]]:
    """First row and content of each row group: decided by the keys alone, so equal in all tables of a part."""
    start = 0
    for end in range(1, len(keys) + 1):
        frames = sum(key.num_frames for key in keys[start : end + 1])
        if end == len(keys) or _motion(keys[end]) != _motion(keys[start]) or frames > ROW_GROUP_FRAMES:
            sequence, subject, action, source, fps = _motion(keys[start])
            spans = tuple(
                ClipSpan(camera=k.camera, frame_start=k.frame_start, num_frames=k.num_frames) for k in keys[start:end]
            )
            yield (
                start,
                RowGroup(sequence=sequence, subject=subject, action=action, source=source, fps=fps, clips=spans),
            )
            start = end


def _motion(key: ClipKey) -> tuple[str, str, str, str, float]:
    return key.sequence, key.subject, key.action, key.source, float(key.fps)


def _moments(table: str, blocks: Sequence[Block]) -> dict[str, Moments]:
    names = [n for n, c in TABLES[table].columns.items() if c.dtype == "float32" and not c.ragged]
    return {name: Moments.merge([Moments.of(block.arrays[name]) for block in blocks]) for name in names}


def _dropped(blocks: Sequence[Block]) -> tuple[int, ...]:
    passed = np.concatenate([block.arrays["passed"] for block in blocks])
    return tuple(np.flatnonzero(~passed).tolist())


def _write(
    store_url: str,
    table: str,
    part_number: int,
    blocks: Sequence[Block],
    provenance: Provenance,
    left_out: tuple[str, ...],
) -> PartRecord:
    fs, root = open_url(store_url)
    path = part_path(table, part_number, provenance)
    groups, statistics = tuple(block.group for block in blocks), _moments(table, blocks)
    dropped = _dropped(blocks) if table == "quality" else ()
    footer = {
        "schema_version": SCHEMA_VERSION,
        "table": table,
        **asdict(provenance),
        "row_groups": [asdict(group) for group in groups],
        "statistics": {name: moments.to_dict() for name, moments in statistics.items()},
        "left_out": left_out,
        "dropped": dropped,
    }
    schema = arrow_schema(table).with_metadata({METADATA_KEY: json.dumps(footer, sort_keys=True).encode()})
    with atomic_file(fs, f"{root}/{path}") as temp:
        with pq.ParquetWriter(str(temp), schema, **parquet_options(table)) as writer:
            for block in blocks:
                rows = encode_block(table, block)
                writer.write_table(rows, row_group_size=len(rows))
        with open(temp, "rb") as file:
            size, sha256 = temp.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
    return PartRecord(
        table=table, part=part_number, path=path, bytes=size, sha256=sha256, provenance=provenance,
        row_groups=groups, statistics=statistics, left_out=left_out, dropped=dropped,
    )  # fmt: skip


def _existing(store_url: str, table: str, part_number: int, provenance: Provenance) -> PartRecord | None:
    """The record of a finished part from its own footer; None if it is absent or its footer is not sound."""
    fs, root = open_url(store_url)
    path = part_path(table, part_number, provenance)
    full = f"{root}/{path}"
    with storage_errors(f"read {full}"):
        if not fs.exists(full):
            return None
        try:
            with fs.open(full, "rb") as file:
                footer = json.loads(pq.read_metadata(file).metadata[METADATA_KEY])
            origin = Provenance.from_dict({field.name: footer[field.name] for field in fields(Provenance)})
        except (pa.ArrowInvalid, KeyError, TypeError, ValueError):
            return None  # damaged after it was published: it is written again
        if origin.hash != provenance.hash:
            return None
        size, sha256 = int(fs.size(full)), sha256_file(fs, full)
    return PartRecord(
        table=table, part=part_number, path=path, bytes=size, sha256=sha256, provenance=origin,
        row_groups=tuple(RowGroup.from_dict(group) for group in footer["row_groups"]),
        statistics={name: Moments.from_dict(moments) for name, moments in footer["statistics"].items()},
        left_out=tuple(footer["left_out"]), dropped=tuple(footer["dropped"]),
    )  # fmt: skip
