"""Which sample comes when: pure arithmetic on the manifest, the same on every rank and for every world size.

All samples of an epoch are laid on one line, row group after row group in a seeded random order, and the line is cut
into `streams` pieces of equal length. Each stream walks its piece in windows of a few row groups and shuffles inside
them. Step s takes the next samples of every stream, so nothing depends on how many ranks share the streams.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt64

_ORDER, _WINDOW = 0, 1  # what a random stream is for, so that no two share a key


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Samples start..end-1 of one unit (row group)."""

    unit: int
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Window:
    """Pieces that one stream shuffles together.

    Args:
        pieces: in the stream's order.
        first: position of the window's first sample in its stream.
        size: samples in the window.
        key: names the shuffle: (seed, epoch, stream, window).
    """

    pieces: tuple[Piece, ...]
    first: int
    size: int
    key: tuple[int, int, int, int]

    def order(self) -> Int[np.ndarray, " n"]:
        """The shuffle: positions in the joined pieces, in the order they are taken."""
        return np.random.default_rng((_WINDOW, *self.key)).permutation(self.size)


@dataclass(frozen=True, kw_only=True)
class Shuffle:
    """What decides the order of samples; see `aign.data.loader.LoaderConfig`."""

    seed: int
    streams: int
    mix: int


def epoch_windows(sizes: Sequence[int], shuffle: Shuffle, epoch: int) -> tuple[tuple[Window, ...], ...]:
    """Windows of every stream in one epoch.

    Args:
        sizes: samples of every unit.
        shuffle: seed, number of streams, pieces per window.
        epoch: from 0.

    Returns:
        one tuple of windows per stream; every stream has floor(sum(sizes) / streams) samples, each sample at most once.
    """
    order = np.random.default_rng((_ORDER, shuffle.seed, epoch)).permutation(len(sizes))
    starts = np.concatenate([[0], np.cumsum(np.asarray(sizes)[order])])
    length = int(starts[-1]) // shuffle.streams
    return tuple(
        _stream_windows(order, starts, (stream * length, (stream + 1) * length), (shuffle, epoch, stream))
        for stream in range(shuffle.streams)
    )


def _stream_windows(
    order: Int[np.ndarray, " u"],
    starts: Int[np.ndarray, " v"],
    span: tuple[int, int],
    key: tuple[Shuffle, int, int],
) -> tuple[Window, ...]:
    low, high = span
    shuffle, epoch, stream = key
    pieces = []
    for place in range(int(np.searchsorted(starts, low, side="right")) - 1, len(order)):
        begin, end = int(starts[place]), int(starts[place + 1])
        if begin >= high:
            break
        if end > begin:
            pieces.append(Piece(unit=int(order[place]), start=max(low, begin) - begin, end=min(high, end) - begin))
    windows, first = [], 0
    for index, at in enumerate(range(0, len(pieces), shuffle.mix)):
        mixed = tuple(pieces[at : at + shuffle.mix])
        size = sum(piece.end - piece.start for piece in mixed)
        windows.append(Window(pieces=mixed, first=first, size=size, key=(shuffle.seed, epoch, stream, index)))
        first += size
    return tuple(windows)


def window_at(windows: Sequence[Window], position: int) -> tuple[Window, Window | None]:
    """The window of a stream that holds a position, and the one after it if there is one."""
    index = bisect.bisect_right(windows, position, key=lambda window: window.first) - 1
    return windows[index], windows[index + 1] if index + 1 < len(windows) else None


def mix64(values: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Scramble 64-bit integers one to one (the finalizer of SplitMix64, Steele, Lea and Flood 2014)."""
    x = values + np.uint64(0x9E3779B97F4A7C15)  # wraps on purpose
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def sample_seeds(seed: int, epoch: int, sample_id: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """A non-negative int64 seed per sample and epoch, for augmentation that does not depend on the world size."""
    mask = (1 << 64) - 1
    base = mix64(np.array([(seed * 0x100000001B3 + epoch) & mask], np.uint64))
    return (mix64(sample_id.astype(np.uint64) ^ base) >> np.uint64(1)).astype(np.int64)
