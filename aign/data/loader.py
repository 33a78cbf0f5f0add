"""The training loader: any number of ranks sees the same global batches, and (epoch, step) is all there is to resume.

See `aign.data.epoch_plan` for the order of samples. Row groups that were read are kept in memory up to a limit; one
background thread prepares the next window of each stream while the current one is consumed.

Pictures are kept as the bytes that the store holds, and decoded when a batch is made, by `decode_threads` threads (see
`aign.data.decoding`): the next batch is made while the consumer has the present one. Memory: up to `cache_bytes` of row
groups, up to as much again of those that windows in use hold after the cache has dropped them, the row group that is
being read, and two batches.
Batches of numbers alone take less time than handing them from thread to thread, and are made when they are asked for.
"""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from aign.data.decoding import Decoder
from aign.data.epoch_plan import Shuffle, Window, epoch_windows, sample_seeds, window_at
from aign.data.row_groups import BatchRows, ReadyWindow, RowGroups
from aign.data.store.reader import Columns, Store
from aign.data.store.selection import Selection
from aign.framework.errors import UserError


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """How samples are batched and shuffled.

    Args:
        batch_size: samples of one step over all ranks; a multiple of `streams`.
        streams: canonical streams; a multiple of any world size that shall give the same batches.
        mix: row groups that a stream shuffles together.
        seed: of the order.
        window_frames: None for single frames, else consecutive frames of one clip per sample.
        cache_bytes: row groups kept in memory, pictures encoded as the store holds them.
        decode_threads: that decode pictures; None for one per core. Batches do not depend on it.
    """

    batch_size: int = 1024
    streams: int = 8
    mix: int = 8
    seed: int = 0
    window_frames: int | None = None
    cache_bytes: int = 1 << 30
    decode_threads: int | None = None

    def __post_init__(self) -> None:
        if min(self.batch_size, self.streams, self.mix) < 1:
            got = f"batch_size {self.batch_size}, streams {self.streams}, mix {self.mix}"
            raise UserError(f"got {got}; allowed is at least 1 each")
        if self.seed < 0:
            raise UserError(f"got seed {self.seed}; allowed is at least 0")
        if self.batch_size % self.streams:
            raise UserError(f"got batch_size {self.batch_size}; allowed are multiples of streams ({self.streams})")
        if self.window_frames is not None and self.window_frames < 1:
            raise UserError(f"got window_frames {self.window_frames}; allowed is None or at least 1")
        if self.decode_threads is not None and self.decode_threads < 1:
            raise UserError(f"got decode_threads {self.decode_threads}; allowed is None or at least 1")


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which part of the streams this process reads: rank `rank` of `world`."""

    rank: int = 0
    world: int = 1

    def streams(self, count: int) -> range:
        """This rank's contiguous streams.

        Raises:
            UserError: if the streams cannot be shared equally, or there is no such rank.
        """
        if self.world < 1 or count % self.world or not 0 <= self.rank < self.world:
            raise UserError(
                f"got rank {self.rank} of {self.world}; allowed are world sizes that divide streams ({count})"
            )
        each = count // self.world
        return range(self.rank * each, (self.rank + 1) * each)


class ClipLoader:
    """Endless shuffled batches of a store's samples.

    A sample is one frame, or `window_frames` consecutive frames of one clip (one sample for each first frame). The
    batch of a step over all ranks is the same for every world size that divides `config.streams`, and every rank has
    the same number of steps, so no rank waits for another at the end of an epoch. Fewer than streams + batch_size
    samples are left out of an epoch, others each time.

    Args:
        store: what to read.
        columns: table -> columns: numbers, and the byte columns of `aign.data.decoding.DECODINGS`. Parts that lack one
            of the tables are left out.
        selection: which clips; None for all.
        config: batching and shuffling.
        rank: of this process.
        world: number of processes.

    Raises:
        UserError: if nothing is selected, a column is neither number nor picture, there are too few samples for one
            step, the streams cannot be shared equally, or the pictures of their windows do not fit into `cache_bytes`.
    """

    def __init__(
        self,
        store: Store,
        columns: Columns,
        selection: Selection | None,
        config: LoaderConfig,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._config = config
        self._streams = Share(rank=rank, world=world).streams(config.streams)
        self._groups = RowGroups(store, columns, selection, config.window_frames, config.cache_bytes)
        self._shuffle = Shuffle(seed=config.seed, streams=config.streams, mix=config.mix)
        self._per_stream = config.batch_size // config.streams
        samples = sum(self._groups.sizes)
        self.steps_per_epoch = samples // config.streams // self._per_stream
        if not self.steps_per_epoch:
            what = "frames" if config.window_frames is None else f"windows of {config.window_frames} frames"
            raise UserError(f"got {samples} {what} in {store.url}; one step needs {config.batch_size} of them")
        self._check_memory()
        self._epoch, self._step = 0, 0
        self._plans: dict[int, tuple[tuple[Window, ...], ...]] = {}
        self._current: dict[int, ReadyWindow] = {}
        self._coming: dict[int, tuple[Window, Future[ReadyWindow]]] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="aign-loader")
        self._decoder = Decoder(config.decode_threads or os.cpu_count() or 1)
        self._maker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="aign-batches")
        self._next: tuple[tuple[int, int], Future[dict[str, Tensor]]] | None = None

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Yield batches from the present position on, for ever.

        Yields:
            per-frame columns [b, ...] ([b, window, ...] with `window_frames`; byte columns decoded and named as in
            `aign.data.decoding`), per-clip columns repeated for each sample [b, ...], "sample_id" int64 [b]
            (part << 32 | first frame in the part) and "sample_seed" int64 [b], a seed for augmentation that differs by
            sample and epoch and does not depend on the world size.

        Raises:
            UserError: naming a picture that is damaged or has not the size of the others, or a damaged part.
        """
        while True:
            batch = self._made() if self._groups.encoded else self._batch(self._epoch, self._step)
            self._epoch, self._step = self._after(self._epoch, self._step)
            if self._groups.encoded:
                self._make_ahead()
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Position of the next batch; the same on every rank, and valid for any world size."""
        return {"epoch": self._epoch, "step": self._step}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from a position, also while iterating.

        Raises:
            UserError: if there is no such position.
        """
        epoch, step = state["epoch"], state["step"]
        if epoch < 0 or not 0 <= step < self.steps_per_epoch:
            raise UserError(f"got epoch {epoch}, step {step}; allowed are steps 0 to {self.steps_per_epoch - 1}")
        self._epoch, self._step = epoch, step

    def close(self) -> None:
        """Stop the background threads."""
        for threads in (self._maker, self._thread):  # the first one waits for the second
            threads.shutdown(wait=True, cancel_futures=True)
        self._decoder.close()

    def __enter__(self) -> "ClipLoader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_memory(self) -> None:
        groups = 2 * len(self._streams) * self._config.mix  # windows in use and those being prepared
        needed, allowed = self._groups.encoded_bytes(groups), self._config.cache_bytes
        if needed > allowed:
            raise UserError(
                f"got windows of about {needed:,} bytes of pictures ({len(self._streams)} streams of mix "
                f"{self._config.mix}, twice); cache_bytes allows {allowed:,}: take fewer streams or a smaller mix, "
                "or allow more"
            )

    def _after(self, epoch: int, step: int) -> tuple[int, int]:
        return (epoch, step + 1) if step + 1 < self.steps_per_epoch else (epoch + 1, 0)

    def _made(self) -> dict[str, Tensor]:
        """The batch of the present position; only its own thread makes batches of pictures, one after the other."""
        at = self._epoch, self._step
        ahead, self._next = self._next, None
        if ahead is not None and ahead[0] == at:
            return ahead[1].result()
        if ahead is not None:
            ahead[1].cancel()
        return self._maker.submit(self._batch, *at).result()

    def _make_ahead(self) -> None:
        at = self._epoch, self._step
        self._next = at, self._maker.submit(self._batch, *at)

    def _batch(self, epoch: int, step: int) -> dict[str, Tensor]:
        batch = BatchRows(self._per_stream * len(self._streams))
        for number, stream in enumerate(self._streams):
            done = 0
            while done < self._per_stream:
                position = step * self._per_stream + done
                window, following = window_at(self._plan(epoch)[stream], position)
                ready = self._take(stream, window, following or self._plan(epoch + 1)[stream][0])
                first = position - window.first
                count = min(self._per_stream - done, window.size - first)
                begin = number * self._per_stream + done
                self._groups.gather(ready, range(first, first + count), batch, begin)
                done += count
        arrays = batch.arrays
        arrays["sample_seed"] = sample_seeds(self._config.seed, epoch, arrays["sample_id"])
        if self._groups.encoded:
            arrays |= self._decoded({name: arrays.pop(name) for name in self._groups.encoded}, arrays["sample_id"])
        return {name: torch.from_numpy(values) for name, values in arrays.items()}

    def _decoded(self, encoded: dict[str, np.ndarray], sample_id: np.ndarray) -> dict[str, np.ndarray]:
        def place(name: str, index: int) -> str:
            sample, frame = divmod(index, self._config.window_frames or 1)
            return self._groups.place(name, int(sample_id[sample]) + frame)

        return self._decoder.decode(encoded, place)

    def _plan(self, epoch: int) -> tuple[tuple[Window, ...], ...]:
        if epoch not in self._plans:
            used = self.steps_per_epoch * self._per_stream
            self._plans = {e: plan for e, plan in self._plans.items() if abs(e - epoch) == 1}
            windows = epoch_windows(self._groups.sizes, self._shuffle, epoch)
            self._plans[epoch] = tuple(tuple(w for w in stream if w.first < used) for stream in windows)
        return self._plans[epoch]

    def _take(self, stream: int, window: Window, following: Window) -> ReadyWindow:
        """The window in memory; the one after it is being prepared from now on."""
        if stream in self._current and self._current[stream].window is window:
            return self._current[stream]
        self._current.pop(stream, None)
        expected, future = self._coming.pop(stream, (None, None))
        if future is None or expected is not window:
            future = self._thread.submit(self._groups.prepare, window)
        self._current[stream] = future.result()
        self._coming[stream] = (following, self._thread.submit(self._groups.prepare, following))
        return self._current[stream]
