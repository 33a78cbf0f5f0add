"""Row groups in memory for the loader: read once, joined into windows, gathered into batches.

Pictures stay encoded here, so that many of them fit; `aign.data.decoding` decodes those of a batch.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from aign.data.decoding import DECODINGS
from aign.data.epoch_plan import Window
from aign.data.schema import Column
from aign.data.store.codec import Block
from aign.data.store.reader import Columns, Selected, Store, column_types
from aign.data.store.selection import Selection
from aign.framework.errors import UserError

# A sample id is (part << 32) + frame of the part: room for 2^31 parts of 2^32 frames.
PART_SHIFT = 32


@dataclass(frozen=True, kw_only=True)
class ReadyWindow:
    """A window in memory: its pieces joined.

    Args:
        window: which.
        arrays: per-frame columns [f, ...] (byte columns: objects [f]), per-clip columns [c, ...].
        starts: first frame of every sample, in the shuffled order.
        clip: clip of every frame.
        frame_id: sample id of every frame.
    """

    window: Window
    arrays: dict[str, np.ndarray]
    starts: Int[np.ndarray, " n"]
    clip: Int[np.ndarray, " f"]
    frame_id: Int[np.ndarray, " f"]


class RowGroups:
    """The selected row groups of a store as units of samples.

    Those that were read are kept in a least-recently-used cache; `prepare` must be called from one thread only.
    """

    def __init__(
        self,
        store: Store,
        columns: Columns,
        selection: Selection | None,
        window_frames: int | None,
        cache_bytes: int,
    ) -> None:
        self._types = _loadable(columns)
        self.encoded = tuple(name for name, column in self._types.items() if not column.numeric)
        self._store, self._columns = store, columns
        self._window_frames = window_frames
        self._cache_bytes, self._cached_bytes = cache_bytes, 0
        self._cache: OrderedDict[int, Block] = OrderedDict()
        self._units = store.row_groups(tuple(columns), selection)
        self._length = window_frames or 1
        self.sizes = tuple(sum(max(0, n - self._length + 1) for n in unit.clip_frames) for unit in self._units)

    def prepare(self, window: Window) -> ReadyWindow:
        """Read and join the pieces of a window.

        Raises:
            UserError: if a part is damaged, or clips hold different counts of a ragged column.
        """
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self._types}
        starts, clips, ids = [], [], []
        frames = rows = 0
        for piece in window.pieces:
            unit, block = self._units[piece.unit], self._block(piece.unit)
            wanted = self._starts(unit)[piece.start : piece.end]
            low, high = int(wanted[0]), int(wanted[-1]) + self._length
            for name, column in self._types.items():
                values = block.arrays[name]
                parts[name].append(values[low:high] if column.per == "frame" else self._per_clip(block, name))
            starts.append(wanted - low + frames)
            clips.append(np.repeat(np.arange(len(unit.rows)), unit.clip_frames)[low:high] + rows)
            ids.append(_frame_ids(unit)[low:high])
            frames, rows = frames + high - low, rows + len(unit.rows)
        return ReadyWindow(
            window=window,
            arrays={name: self._join(name, values) for name, values in parts.items()},
            starts=np.concatenate(starts)[window.order()],
            clip=np.concatenate(clips),
            frame_id=np.concatenate(ids),
        )

    def gather(self, ready: ReadyWindow, samples: range, batch: "BatchRows", first: int) -> None:
        """Copy samples of a window, given by positions in its shuffled order, into the rows of a batch from `first` on.

        Byte columns become objects: the bytes themselves are not copied.

        Raises:
            UserError: if clips hold different counts of a ragged column.
        """
        starts = ready.starts[samples.start : samples.stop]
        frames = starts if self._window_frames is None else starts[:, None] + np.arange(self._length)
        places = {"frame": frames, "clip": ready.clip[starts]}
        for name, column in self._types.items():
            batch.fill(name, ready.arrays[name], places[column.per], first)
        batch.fill("sample_id", ready.frame_id, starts, first)

    def encoded_bytes(self, groups: int) -> int:
        """About what the byte columns of so many row groups take, if they are the largest: from the files' sizes."""
        tables = {table for table, names in self._columns.items() if set(names) & set(self.encoded)}
        frame_bytes: Counter[int] = Counter()
        for part in self._store.manifest.parts:
            if part.table in tables:
                frame_bytes[part.part] += -(-part.bytes // sum(group.frames for group in part.row_groups))
        return sum(sorted((unit.frames * frame_bytes[unit.part] for unit in self._units), reverse=True)[:groups])

    def place(self, name: str, frame_id: int) -> str:
        """What a person calls one item of a per-frame column, for errors."""
        number, frame = frame_id >> PART_SHIFT, frame_id % (1 << PART_SHIFT)
        units = [unit for unit in self._units if unit.part == number and unit.first_frame <= frame]
        group, frame = units[-1].group, frame - units[-1].first_frame
        for span in group.clips:
            if frame < span.num_frames:
                break
            frame -= span.num_frames
        (table,) = [table for table, names in self._columns.items() if name in names]
        camera = f", camera {span.camera}" if span.camera else ""
        where = f"{table}.{name} of sequence {group.sequence!r} from {group.source}"
        return f"{where}{camera}, frame {span.frame_start + frame}"

    def _starts(self, unit: Selected) -> Int[np.ndarray, " n"]:
        """First frame of every sample, among the selected frames."""
        if self._window_frames is None:
            return np.arange(unit.frames)
        ends = np.cumsum(unit.clip_frames)
        return np.concatenate(
            [np.arange(end - n, end - self._length + 1) for end, n in zip(ends, unit.clip_frames, strict=True)]
        )

    def _block(self, index: int) -> Block:
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        block = self._store.read_row_group(self._units[index], self._columns)
        self._cache[index] = block
        self._cached_bytes += _size(block)
        while self._cached_bytes > self._cache_bytes:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= _size(dropped)
        return block

    def _per_clip(self, block: Block, name: str) -> np.ndarray:
        """A per-clip column, ragged ones as [clips, count, ...]."""
        if name not in block.counts:
            return block.arrays[name]
        counts = block.counts[name]
        if (counts != counts[0]).any():
            raise _uneven(name, int(counts.min()), int(counts.max()))
        return block.arrays[name].reshape(len(counts), int(counts[0]), *block.arrays[name].shape[1:])

    def _join(self, name: str, values: list[np.ndarray]) -> np.ndarray:
        if self._types[name].ragged:
            counts = [len(v[0]) for v in values]
            if min(counts) != max(counts):
                raise _uneven(name, min(counts), max(counts))
        return np.concatenate(values)


class BatchRows:
    """A batch that is being filled, some rows at a time; arrays are made when their first rows come.

    Args:
        size: rows of the whole batch.
    """

    def __init__(self, size: int) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._size = size

    def fill(self, name: str, values: np.ndarray, places: Int[np.ndarray, "n *window"], first: int) -> None:
        """Copy `values[places]` into the rows of one array from `first` on."""
        shape = (*places.shape[1:], *values.shape[1:])
        if name not in self.arrays:
            self.arrays[name] = np.empty((self._size, *shape), values.dtype)
        array = self.arrays[name]
        if array.shape[1:] != shape:
            raise _uneven(name, array.shape[1], shape[0])
        # mode="clip" skips a second buffer; the places are ours, never out of range.
        np.take(values, places, axis=0, out=array[first : first + len(places)], mode="clip")


def _loadable(columns: Columns) -> dict[str, Column]:
    types = column_types(columns)
    for name, column in types.items():
        if not column.numeric and name not in DECODINGS:
            raise UserError(
                f"column {name!r} holds {column.dtype} values; a loader allows numbers and {', '.join(DECODINGS)}: "
                "use Store.read"
            )
    return types


def _frame_ids(unit: Selected) -> Int[np.ndarray, " f"]:
    """Sample id of every selected frame."""
    base = (unit.part << PART_SHIFT) + unit.first_frame
    ends = np.cumsum([span.num_frames for span in unit.group.clips])
    return np.concatenate(
        [base + np.arange(ends[row] - unit.group.clips[row].num_frames, ends[row]) for row in unit.rows]
    )


def _size(block: Block) -> int:
    """Bytes of a block, those of its pictures among them."""
    arrays = block.arrays.values()
    return sum(sum(map(len, values)) if values.dtype == object else values.nbytes for values in arrays)


def _uneven(name: str, one: int, other: int) -> UserError:
    return UserError(f"{name}: got clips with {one} and with {other} items; a batch needs one count: select one rig")
