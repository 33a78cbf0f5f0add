"""Row groups between numpy and Arrow, and the one validation both directions go through.

Columns are plain `list<number>` (list<binary> for pictures), so that pandas reads a part without us.
Measured on 2 shared cores, one thread, [J=17, 2] float32 of smooth motion, row groups of 2048 frames, page cache warm
(benchmarks/loader.py):

    type                     decode frames/s  bytes/frame
    list<float>, no codec             9.9 M         136
    list<float>, zstd                 5.2 M         125
    list<float>, split + zstd         7.5 M         103      <- used (split = BYTE_STREAM_SPLIT)
    list<fixed list>, split + zstd    5.8 M         104
    binary, no codec                 40.1 M         136
    binary, zstd                      8.6 M         125

Binary decodes faster but only our code could read it, and any of them is far ahead of what training takes. JPEG files
are stored without a codec: they do not shrink.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aign.data.schema import KEY_TYPES, TABLES, Column
from aign.data.store.records import RowGroup
from aign.framework.errors import UserError

_NUMPY = {"float32": np.float32, "int32": np.int32, "bool": np.bool_}
_ARROW = {
    "float32": pa.float32(),
    "int32": pa.int32(),
    "bool": pa.uint8(),
    "binary": pa.binary(),
    "string": pa.string(),
}


_MOST_BYTES = 2**31 - 1  # Arrow's binary arrays have 32-bit offsets


@dataclass(frozen=True, kw_only=True)
class Block:
    """Decoded clips of one row group.

    Args:
        group: which clips, in order.
        arrays: by column: [frames, ...] for per-frame columns, [clips, ...] for per-clip ones, [sum of counts, ...] for
            ragged ones; pictures and strings are object and str arrays.
        counts: items per clip of each ragged column.
    """

    group: RowGroup
    arrays: Mapping[str, np.ndarray]
    counts: Mapping[str, np.ndarray] = field(default_factory=dict)

    def take(self, rows: Sequence[int], columns: Mapping[str, Column]) -> "Block":
        """Only these clips; `columns` describes the arrays."""
        if tuple(rows) == tuple(range(len(self.group.clips))):
            return self
        clips = tuple(self.group.clips[row] for row in rows)
        frames = np.array([span.num_frames for span in self.group.clips])
        arrays = {}
        for name, values in self.arrays.items():
            column = columns[name]
            sizes = frames if column.per == "frame" else self.counts.get(name, np.ones(len(frames), np.int64))
            ends = np.cumsum(sizes)
            arrays[name] = np.concatenate([values[ends[row] - sizes[row] : ends[row]] for row in rows])
        counts = {name: count[list(rows)] for name, count in self.counts.items()}
        group = RowGroup(**{**self.group.__dict__, "clips": clips})
        return Block(group=group, arrays=arrays, counts=counts)


def arrow_schema(table: str) -> Any:
    """Arrow schema of a table, key columns first."""
    fields = [pa.field(name, _ARROW[kind], nullable=False) for name, kind in KEY_TYPES.items()]
    for name, column in TABLES[table].columns.items():
        value = _ARROW[column.dtype]
        nested = column.dtype != "string"
        fields.append(pa.field(name, pa.list_(pa.field("element", value, False)) if nested else value, nullable=False))
    return pa.schema(fields)


def parquet_options(table: str) -> dict[str, Any]:
    """How each column is packed: see the measurements above."""
    columns = TABLES[table].columns
    paths = {name: f"{name}.list.element" if c.dtype != "string" else name for name, c in columns.items()}
    return {
        "compression": {
            **dict.fromkeys(KEY_TYPES, "ZSTD"),
            **{paths[name]: "NONE" if c.dtype == "binary" else "ZSTD" for name, c in columns.items()},
        },
        "use_dictionary": [name for name, kind in KEY_TYPES.items() if kind == "string"],
        "column_encoding": {paths[name]: "BYTE_STREAM_SPLIT" for name, c in columns.items() if c.dtype == "float32"},
        "write_statistics": False,
    }


def block_from_clips(table: str, group: RowGroup, clips: Sequence[Mapping[str, Any]], num_joints: int) -> Block:
    """Stack the clips of one row group, checked.

    Args:
        table: name in `TABLES`.
        group: their keys.
        clips: column name -> values, one mapping per clip; pictures are a sequence of bytes.
        num_joints: size of "J" axes.

    Raises:
        UserError: if a value has the wrong type, shape or content.
    """
    arrays, counts = {}, {}
    for name, column in TABLES[table].columns.items():
        items = []
        for clip, span in zip(clips, group.clips, strict=True):
            items.append(
                _clip_values(clip[name], column, span.num_frames, num_joints, where=_where(table, name, group))
            )
        arrays[name] = np.concatenate(items)
        if column.ragged:
            counts[name] = np.array([len(values) for values in items])
    block = Block(group=group, arrays=arrays, counts=counts)
    check_block(table, block)
    return block


def _clip_values(values: Any, column: Column, num_frames: int, num_joints: int, *, where: str) -> np.ndarray:
    """One clip's values with the leading axis that blocks are joined along."""
    if column.dtype == "string":
        if not isinstance(values, str):
            raise UserError(f"{where}: got {type(values).__name__}; allowed is a string")
        return np.array([values])
    if column.dtype == "binary":
        if len(values) != num_frames or not all(isinstance(v, bytes) for v in values):
            raise UserError(f"{where}: got {len(values)} items; allowed are {num_frames} bytes objects, one a frame")
        pictures = np.empty(num_frames, object)
        pictures[:] = values
        return pictures
    array = np.asarray(values)
    dtype = _NUMPY[column.dtype]
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise UserError(f"{where}: got {array.dtype} numbers; allowed is {column.dtype}")
    lead = num_frames if column.per == "frame" else (len(array) if column.ragged and array.ndim else 1)
    if column.per == "clip" and not column.ragged:
        array = array[None]
    allowed = (lead, *column.item_shape(num_joints))
    if array.shape != allowed or lead == 0:
        got, want = (array.shape, allowed) if column.per == "frame" or column.ragged else (array.shape[1:], allowed[1:])
        count = f"[C >= 1, {', '.join(map(str, want[1:]))}]" if column.ragged else str(list(want))
        raise UserError(f"{where}: got shape {list(got)}; allowed is {count}")
    return array.astype(dtype, copy=False)


def encode_block(table: str, block: Block) -> Any:
    """Arrow table of one row group."""
    schema = arrow_schema(table)
    keys = block.group.clip_keys()
    columns = [pa.array([getattr(k, name) for k in keys], schema.field(name).type) for name in KEY_TYPES]
    frames = np.array([span.num_frames for span in block.group.clips])
    for name, column in TABLES[table].columns.items():
        values = block.arrays[name]
        if column.dtype == "string":
            columns.append(pa.array(values.tolist(), pa.string()))
            continue
        size = 1 if column.dtype == "binary" else int(np.prod(values.shape[1:]))
        items = frames if column.per == "frame" else block.counts.get(name, np.ones(len(frames), np.int64))
        if column.dtype == "binary" and sum(map(len, values)) > _MOST_BYTES:
            raise UserError(
                f"{_where(table, name, block.group)}: got over 2 GiB of pictures; cut it into shorter clips"
            )
        offsets = np.concatenate([[0], np.cumsum(items * size)]).astype(np.int32)
        flat = values.view(np.uint8) if column.dtype == "bool" else values
        array = pa.array(np.ascontiguousarray(flat).reshape(-1), _ARROW[column.dtype])
        columns.append(pa.ListArray.from_arrays(pa.array(offsets), array, type=schema.field(name).type))
    return pa.Table.from_arrays(columns, schema=schema)


def decode_block(table: str, data: Any, group: RowGroup, num_joints: int) -> Block:
    """Numpy arrays of the columns that `data` (an Arrow table of one row group) has, checked.

    Raises:
        UserError: if they are not what the manifest says, or fail the checks of the schema.
    """
    arrays, counts = {}, {}
    frames = np.array([span.num_frames for span in group.clips])
    for name in data.column_names:
        column = TABLES[table].columns[name]
        chunk = data[name].combine_chunks()
        if column.dtype == "string":
            arrays[name] = np.array(chunk.to_pylist(), dtype=np.str_)
            lengths_fit = len(chunk) == len(frames)
        else:
            size = 1 if column.dtype == "binary" else column.item_size(num_joints)
            lengths = np.asarray(pc.list_value_length(chunk))
            items = lengths // size if column.ragged else (frames if column.per == "frame" else np.ones_like(frames))
            lengths_fit = np.array_equal(lengths, items * size) and bool((items > 0).all())
            if lengths_fit:
                arrays[name] = _decode_values(chunk.flatten(), column, num_joints)
            if column.ragged:
                counts[name] = items
        if not lengths_fit:
            raise UserError(
                f"{_where(table, name, group)}: the part does not hold what the manifest says; it is damaged"
            )
    block = Block(group=group, arrays=arrays, counts=counts)
    check_block(table, block)
    return block


def _decode_values(flat: Any, column: Column, num_joints: int) -> np.ndarray:
    if column.dtype == "binary":
        pictures = np.empty(len(flat), object)
        pictures[:] = flat.to_pylist()
        return pictures
    values = np.asarray(flat).reshape(-1, *column.item_shape(num_joints))
    return values.view(np.bool_) if column.dtype == "bool" else values


def check_block(table: str, block: Block) -> None:
    """Run the schema's checks on the columns that are there.

    Raises:
        UserError: naming table, column, source, sequence and frame of the first bad item.
    """
    for name, values in block.arrays.items():
        column = TABLES[table].columns[name]
        judged = column.checks if column.valid_by is None or column.valid_by in block.arrays else ()
        valid = block.arrays.get(column.valid_by) if column.valid_by is not None else None
        for check in column.number_checks + judged:
            problem = check(values, valid)
            if problem is not None:
                index, what = problem
                place = _place(block, column, name, index)
                raise UserError(f"{_where(table, name, block.group)}, {place}: {what}")


def _place(block: Block, column: Column, name: str, index: int) -> str:
    if column.per == "clip":
        ends = np.cumsum(block.counts.get(name, np.ones(len(block.group.clips), np.int64)))
    else:
        ends = np.cumsum([span.num_frames for span in block.group.clips])
    row = int(np.searchsorted(ends, index, side="right"))
    span = block.group.clips[row]
    camera = f"camera {span.camera}, " if span.camera else ""
    if column.per == "clip":
        return f"{camera}clip at frame {span.frame_start}"
    return f"{camera}frame {span.frame_start + index - int(ends[row]) + span.num_frames}"


def _where(table: str, name: str, group: RowGroup) -> str:
    return f"{table}.{name} of sequence {group.sequence!r} from {group.source}"
