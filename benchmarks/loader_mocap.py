"""The loader on the motion-capture row (RGB 256 px, mask, flow, keypoints) against webdataset, Mosaic and Lance.

    python benchmarks/loader_mocap.py [--rounds N] [--write]

Rows are made from Pose2Sim's videos (`aign assets pull pose2sim`): crops that drift over the picture in other colours
from clip to clip, DIS flow between them, a body of ellipses as mask. They are encoded once, and the same bytes are
written into all four formats; each is read shuffled, the way its users read it, and decoded by the same functions into
the same tensors, in batches of 64. Every way of reading runs once a round, in turns, in this process or its workers;
the clock runs from the third batch of an epoch to its last, after an epoch that filled caches and started workers. How
much of the machine other programs used meanwhile is measured too; on a machine that is shared, compare processor time.
The decode ceiling is what the same threads decode from a list of bytes in memory. (About 3 minutes on 2 idle cores.)

The peers are no dependencies of this project. One that is missing is skipped. To have all of them:

    python3 -m venv /tmp/peers
    /tmp/peers/bin/pip install -c constraints.txt torch webdataset pylance -e .
    /tmp/peers/bin/pip install --no-deps mosaicml-streaming==0.13.0
    /tmp/peers/bin/pip install -c constraints.txt transformers brotli python-snappy zstd xxhash catalogue tqdm
    /tmp/peers/bin/python benchmarks/loader_mocap.py

(mosaicml-streaming also asks for torchvision, whose wheels want a CUDA build of torch, and for an older numpy; reading
needs neither.)
"""

import argparse
import dataclasses
import datetime
import itertools
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module, metadata, util
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from aign.data import pixels
from aign.data.assets import path as asset
from aign.data.decoding import DECODINGS, Decoder
from aign.data.loader import ClipLoader, LoaderConfig
from aign.data.stages.decode import read_frames
from aign.data.store import Manifest, Provenance, Stage, Store, commit, write_part

SIDE, JOINTS, BATCH = 256, 17, 64
CLIPS, CLIP_FRAMES, SHARDS = 40, 50, 8
SKIPPED = 2
BYTES = ("image_jpeg", "mask_png", "flow_zst")
COLUMNS = {
    "frames": ("image_jpeg",),
    "masks": ("mask_png",),
    "flow": ("flow_zst",),
    "keypoints": ("kp2d_px", "kp2d_conf"),
}
CAMERAS = ("pose2sim_cam01", "pose2sim_cam02", "pose2sim_cam03", "pose2sim_cam04")
RESULT = Path(__file__).parent / "results" / "loader_mocap.md"

Row = dict[str, bytes]
Batches = Iterator[Mapping[str, Tensor]]


def clip_rows(rng: np.random.Generator, video: Sequence[np.ndarray]) -> list[Row]:
    """One clip: a crop that drifts, in colours of its own."""
    height, width = video[0].shape[:2]
    begin = int(rng.integers(0, len(video) - CLIP_FRAMES))
    side = int(rng.uniform(0.35, 0.6) * min(height, width))
    at = rng.uniform(0.2, 0.8, 2) * (height - side, width - side)
    gain, drift = rng.uniform(0.7, 1.3, 3), rng.uniform(-0.8, 0.8, 2)
    crops = []
    for t, frame in enumerate(video[begin : begin + CLIP_FRAMES]):
        y, x = (np.clip(at + t * drift, 0, (height - side, width - side))).astype(int)
        small = cv2.resize(frame[y : y + side, x : x + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        crops.append(np.clip(small * gain, 0, 255).astype(np.uint8))
    grey = [cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops]
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    rows = []
    for t, crop in enumerate(crops):
        flow_px = dis.calc(grey[t], grey[min(t + 1, CLIP_FRAMES - 1)], None)
        keypoints = rng.uniform(0, SIDE, (JOINTS, 2)), rng.uniform(0.5, 1, (JOINTS, 1))
        rows.append(
            {
                "image_jpeg": pixels.encode_jpeg(crop),
                "mask_png": pixels.encode_mask(blob(rng, t)),
                "flow_zst": pixels.encode_flow(flow_px, np.full((SIDE, SIDE), t + 1 < CLIP_FRAMES)),
                "keypoints": np.concatenate(keypoints, axis=1).astype(np.float32).tobytes(),
            }
        )
    return rows


def blob(rng: np.random.Generator, t: int) -> np.ndarray:
    """An upright body with arms: ellipses whose edges are as long as a person's."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    x, swing = 128 + int(20 * np.sin(t / 9)), int(40 * np.sin(t / 5))
    limbs = [((x, 60), (18, 22), 0), ((x, 125), (30, 55), 0), ((x - 45, 115), (12, 50), swing)]
    limbs += [((x + 45, 115), (12, 50), -swing), ((x - 15, 205), (14, 48), swing // 4), ((x + 15, 205), (14, 48), 0)]
    for centre, axes, angle in limbs:
        cv2.ellipse(mask, centre, tuple(a + int(rng.integers(-2, 3)) for a in axes), angle, 0, 360, 1, -1)
    return mask.astype(bool)


def all_rows() -> list[list[Row]]:
    videos = [list(read_frames(asset(name))) for name in CAMERAS]
    return [clip_rows(np.random.default_rng(clip), videos[clip % len(videos)]) for clip in range(CLIPS)]


def as_batch(rows: Sequence[Mapping[str, Any]], decoder: Decoder | None = None) -> dict[str, Tensor]:
    """Rows of bytes as tensors: what every peer calls, in its workers or in threads."""
    encoded = {name: np.empty(len(rows), object) for name in BYTES}
    for name, values in encoded.items():
        values[:] = [row[name] for row in rows]
    arrays = (decoder or Decoder(1)).decode(encoded, lambda name, index: f"{name} {index}")
    keypoints = np.frombuffer(b"".join(row["keypoints"] for row in rows), np.float32).reshape(-1, JOINTS, 3).copy()
    return {name: torch.from_numpy(values) for name, values in {**arrays, "keypoints": keypoints}.items()}


def write_store(folder: str, clips: Sequence[Sequence[Row]]) -> None:
    records: list[Any] = []
    for part in range(SHARDS):
        tables: dict[str, list[Any]] = {table: [] for table in COLUMNS}
        for number in range(part, len(clips), SHARDS):
            for table, clip in store_clips(number, clips[number]).items():
                tables[table].append(clip)
        origin = Provenance(
            source_hashes=(str(part),),
            stages=(Stage(name="benchmark", version="1", params={}),),
            skeleton="h36m_17",
            num_joints=JOINTS,
            licence="BSD-3-Clause",
            producer="benchmarks/loader_mocap.py",
        )
        records += write_part(folder, part, tables, origin)
    commit(folder, Manifest(skeleton="h36m_17", num_joints=JOINTS).updated(records))


def store_clips(number: int, rows: Sequence[Row]) -> dict[str, Mapping[str, Any]]:
    key = {"sequence": f"S1/Clip {number}", "subject": "S1", "action": "Clip", "camera": "0", "source": "pose2sim"}
    key |= {"frame_start": 0, "num_frames": len(rows), "fps": 60.0}
    keypoints = np.stack([np.frombuffer(row["keypoints"], np.float32).reshape(JOINTS, 3) for row in rows])
    size, pinhole = np.array([SIDE, SIDE]), np.array([300, 300, 127.5, 127.5])
    pictures = {name: [row[name] for row in rows] for name in BYTES}
    return {
        "frames": key
        | {
            "image_jpeg": pictures["image_jpeg"],
            "time_s": np.arange(len(rows)) / 60,
            "frame_size_px": size,
            "image_size_px": size,
            "crop_xyxy_px": np.array([-0.5, -0.5, SIDE - 0.5, SIDE - 0.5]),
            "frame_intrinsics_px": pinhole,
        },
        "masks": key | {"mask_png": pictures["mask_png"]},
        "flow": key | {"flow_zst": pictures["flow_zst"]},
        "keypoints": key
        | {
            "kp2d_px": keypoints[..., :2],
            "kp2d_conf": keypoints[..., 2],
            "intrinsics_px": pinhole,
            "distortion": np.zeros(5),
            "image_size_px": size,
            "intrinsics_source": "assumed",
        },
    }


class Ours:
    """This project's loader, its cache filled by the first epoch."""

    def __init__(self, folder: str, clips: Sequence[Sequence[Row]]) -> None:
        write_store(folder, clips)
        self._folder = folder

    def ways(self) -> dict[str, Callable[[], Batches]]:
        """One or two decoding threads."""
        return {f"aign, threads: {n}": self._reader(n) for n in (1, 2)}

    def _reader(self, threads: int) -> Callable[[], Batches]:
        config = LoaderConfig(batch_size=BATCH, decode_threads=threads)
        loader = ClipLoader(Store.open(self._folder), COLUMNS, None, config)
        return lambda: itertools.islice(loader, loader.steps_per_epoch)


class Peer:
    """A peer read in this process, by threads, and by the workers of torch's DataLoader."""

    name: str

    def rows(self) -> Iterable[Mapping[str, Any]]:
        """One shuffled epoch of encoded rows."""
        raise NotImplementedError

    def loader(self, workers: int) -> Iterable[Mapping[str, Tensor]]:
        """Shuffled batches from worker processes that live on between epochs."""
        raise NotImplementedError

    def ways(self) -> dict[str, Callable[[], Batches]]:
        """Every way of reading it."""
        made = {f"{self.name}, in process": lambda: (as_batch(rows) for rows in self._batches())}
        made[f"{self.name}, threads: 2"] = lambda: self._threaded(2)
        for workers in (1, 2):
            loader = self.loader(workers)
            made[f"{self.name}, workers: {workers}"] = lambda loader=loader: iter(loader)
        return made

    def _batches(self) -> Iterator[list[Mapping[str, Any]]]:
        rows = iter(self.rows())
        while len(batch := list(itertools.islice(rows, BATCH))) == BATCH:
            yield batch

    def _threaded(self, threads: int) -> Batches:
        """As our loader does: the next batch is read and decoded in the background."""
        decoder, batches = Decoder(threads), self._batches()

        def make() -> Mapping[str, Tensor] | None:
            rows = next(batches, None)
            return None if rows is None else as_batch(rows, decoder)

        with ThreadPoolExecutor(max_workers=1) as maker:
            coming = maker.submit(make)
            while (batch := coming.result()) is not None:
                coming = maker.submit(make)
                yield batch
        decoder.close()


class WebDataset(Peer):
    """Tar shards, shuffled among themselves and through a buffer; batched in the worker, as its manual advises."""

    name = "webdataset"

    def __init__(self, folder: str, clips: Sequence[Sequence[Row]]) -> None:
        import webdataset as wds

        for shard in range(SHARDS):
            with wds.TarWriter(f"{folder}/{shard}.tar") as tar:
                for number in range(shard, len(clips), SHARDS):
                    for t, row in enumerate(clips[number]):
                        tar.write({"__key__": f"{number:03d}_{t:03d}", **row})
        self._urls = [f"{folder}/{shard}.tar" for shard in range(SHARDS)]

    def rows(self) -> Iterable[Mapping[str, Any]]:  # noqa: D102
        import webdataset as wds

        return wds.WebDataset(self._urls, shardshuffle=SHARDS, empty_check=False).shuffle(1000)

    def loader(self, workers: int) -> Iterable[Mapping[str, Tensor]]:  # noqa: D102
        import webdataset as wds

        data = self.rows().batched(BATCH, collation_fn=as_batch, partial=False)
        return wds.WebLoader(
            data, batch_size=None, num_workers=workers, persistent_workers=True, worker_init_fn=one_thread
        )


class Mosaic(Peer):
    """MDS shards and the shuffle of StreamingDataset."""

    name = "mosaicml-streaming"

    def __init__(self, folder: str, clips: Sequence[Sequence[Row]]) -> None:
        streaming = import_streaming()
        columns = dict.fromkeys(clips[0][0], "bytes")
        with streaming.MDSWriter(out=folder, columns=columns, size_limit=1 << 24) as writer:
            for row in itertools.chain.from_iterable(clips):
                writer.write(row)
        self._folder = folder

    def rows(self) -> Iterable[Mapping[str, Any]]:  # noqa: D102
        return import_streaming().StreamingDataset(local=self._folder, shuffle=True, batch_size=BATCH)

    def loader(self, workers: int) -> Iterable[Mapping[str, Tensor]]:  # noqa: D102
        return DataLoader(
            self.rows(), BATCH, num_workers=workers, persistent_workers=True, collate_fn=as_batch, drop_last=True,
            worker_init_fn=one_thread,
        )  # fmt: skip


class Lance(Peer):
    """A Lance file, whose rows are taken in random order, a batch at a time."""

    name = "lance"

    def __init__(self, folder: str, clips: Sequence[Sequence[Row]]) -> None:
        import lance
        import pyarrow as pa

        rows = list(itertools.chain.from_iterable(clips))
        table = pa.table({name: pa.array([row[name] for row in rows], pa.large_binary()) for name in rows[0]})
        lance.write_dataset(table, f"{folder}/rows.lance")
        self._folder = f"{folder}/rows.lance"

    def rows(self) -> Iterable[Mapping[str, Any]]:  # noqa: D102
        from lance.torch.data import SafeLanceDataset

        data = SafeLanceDataset(self._folder)
        order = np.random.default_rng().permutation(len(data)).tolist()
        return itertools.chain.from_iterable(
            data.__getitems__(order[at : at + BATCH]) for at in range(0, len(order), BATCH)
        )

    def loader(self, workers: int) -> Iterable[Mapping[str, Tensor]]:  # noqa: D102
        from lance.torch.data import SafeLanceDataset

        return DataLoader(
            SafeLanceDataset(self._folder), BATCH, shuffle=True, num_workers=workers, persistent_workers=True,
            collate_fn=as_batch, drop_last=True, worker_init_fn=one_thread,
            multiprocessing_context=multiprocessing.get_context("spawn"),  # Lance's threads do not survive a fork
        )  # fmt: skip


PEERS: Mapping[str, type[Peer]] = {"webdataset": WebDataset, "streaming": Mosaic, "lance": Lance}


def one_thread(_: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def import_streaming() -> Any:
    """The base of mosaicml-streaming without its own __init__, which wants torchvision for its vision module."""
    if "streaming" not in sys.modules:
        found = util.find_spec("streaming")
        assert found is not None, "looked for before"
        sys.modules["streaming"] = types.ModuleType("streaming")
        sys.modules["streaming"].__path__ = list(found.submodule_search_locations or ())
    return import_module("streaming.base")


def ceiling(rows: Sequence[Row], threads: int) -> Batches:
    """No reading at all: bytes in a list to batches."""
    decoder = Decoder(threads)
    for at in range(0, len(rows) - BATCH + 1, BATCH):
        yield as_batch(rows[at : at + BATCH], decoder)
    decoder.close()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch.

    Args:
        rate: samples per second by the clock.
        cpu_ms: milliseconds of processor time per sample, workers included.
        others: how many of the machine's cores other programs used meanwhile.
    """

    rate: float
    cpu_ms: float
    others: float


def cpu_seconds() -> float:
    """Processor time of this process and its living workers."""
    ticks = 0
    for worker in multiprocessing.active_children():
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def busy_seconds() -> float:
    """Processor time of everything that runs on this machine."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def read_epoch(way: Callable[[], Batches]) -> Epoch:
    """The clock runs from the third batch on, so that starting an epoch does not count, and stops with the last one."""
    begin, start, count, cpu, busy = time.perf_counter(), 0.0, 0, cpu_seconds(), busy_seconds()
    for number, batch in enumerate(way()):
        assert batch["image_rgb"].shape == (BATCH, SIDE, SIDE, 3), "every way gives the same tensors"
        if number + 1 == SKIPPED:
            start = time.perf_counter()
        count += BATCH
    end = time.perf_counter()
    cpu, busy = cpu_seconds() - cpu, busy_seconds() - busy
    return Epoch(
        rate=(count - SKIPPED * BATCH) / (end - start),
        cpu_ms=cpu / count * 1e3,
        others=max(0.0, busy - cpu) / (end - begin),
    )


def flow_kinds(rows: Sequence[Row]) -> str:
    """What the loader's choice of int16 flow saves, on one thread."""
    ways = {"int16": DECODINGS["flow_zst"].decode, "float32 and mask": pixels.decode_flow}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _, (name, decode) in itertools.product(range(5), ways.items()):
        start = time.thread_time()
        for row in rows[:400]:
            decode(row["flow_zst"])
        times[name].append((time.thread_time() - start) / 400 * 1e3)
    sizes = {"int16": 4 * SIDE**2, "float32 and mask": 9 * SIDE**2}
    return "; ".join(f"{name} {min(times[name]):.2f} ms and {sizes[name] / 1e3:.0f} kB" for name in ways)


def measure(folder: Path, rounds: int) -> tuple[dict[str, list[Epoch]], dict[str, float], list[str]]:
    """Every way in every round, megabytes by format, and notes."""
    clips = all_rows()
    rows = list(itertools.chain.from_iterable(clips))
    formats: dict[str, Callable[..., Any]] = {"aign": Ours}
    notes = [f"skipped: {module} is not installed" for module in PEERS if util.find_spec(module) is None]
    formats |= {module: made for module, made in PEERS.items() if util.find_spec(module) is not None}
    ways: dict[str, Callable[[], Batches]] = {
        f"decode ceiling, threads: {n}": lambda n=n: ceiling(rows, n) for n in (1, 2)
    }
    sizes = {"the bytes themselves": sum(len(data) for row in rows for data in row.values()) / 1e6}
    for name, made in formats.items():
        (folder / name).mkdir()
        ways |= made(str(folder / name), clips).ways()
        sizes[name] = sum(file.stat().st_size for file in (folder / name).rglob("*") if file.is_file()) / 1e6
    epochs: dict[str, list[Epoch]] = {name: [] for name in ways}
    as_batch(rows[:BATCH])  # compiles
    for name, way in ways.items():
        if name.startswith("aign") or "workers" in name:  # fills the cache, starts the workers
            read_epoch(way)
    for _, (name, way) in itertools.product(range(rounds), ways.items()):
        epochs[name].append(read_epoch(way))
    mean = {name: np.mean([len(row[name]) for row in rows]) / 1e3 for name in BYTES}
    notes += [f"{len(rows)} rows; kB a row: " + ", ".join(f"{name} {size:.1f}" for name, size in mean.items())]
    return epochs, sizes, [*notes, f"flow of one frame as {flow_kinds(rows)}"]


def as_markdown(epochs: Mapping[str, list[Epoch]], sizes: Mapping[str, float], notes: Sequence[str]) -> str:
    peers = [name for name in epochs if not name.startswith(("aign", "decode ceiling"))]
    lines = ["# Motion-capture rows: this loader and its peers", ""]
    lines += [
        "| way | samples/s, quietest round | cores others used then | median | range | processor ms a sample | range |",
        "|:--|--:|--:|--:|--:|--:|--:|",
    ]
    for name, runs in epochs.items():
        rates, costs = sorted(e.rate for e in runs), sorted(e.cpu_ms for e in runs)
        quiet = quietest(runs)
        cells = (name, f"{quiet.rate:,.0f}", f"{quiet.others:.1f}", f"{statistics.median(rates):,.0f}")
        cells += (f"{rates[0]:,.0f} to {rates[-1]:,.0f}", f"{statistics.median(costs):.2f}")
        lines.append(f"| {' | '.join(cells)} | {costs[0]:.2f} to {costs[-1]:.2f} |")
    if peers:
        lines += ["", *verdict(epochs, peers)]
    lines += ["", "On disk, MB: " + ", ".join(f"{name} {size:.1f}" for name, size in sizes.items()) + ".", ""]
    return "\n".join([*lines, *(f"- {note}" for note in [*notes, *environment(len(next(iter(epochs.values()))))]), ""])


def quietest(runs: Sequence[Epoch]) -> Epoch:
    """The round in which other programs used the least of the machine."""
    return min(runs, key=lambda epoch: epoch.others)


def verdict(epochs: Mapping[str, list[Epoch]], peers: Sequence[str]) -> list[str]:
    """Ours over the best peer by three measures, each side by its best way."""
    own = [name for name in epochs if name.startswith("aign")]
    measures: dict[str, Callable[[list[Epoch]], float]] = {
        "samples/s, quietest round": lambda runs: quietest(runs).rate,
        "samples/s, median": lambda runs: statistics.median(e.rate for e in runs),
        "samples per second of processor time, median": lambda runs: 1e3 / statistics.median(e.cpu_ms for e in runs),
    }
    lines = ["| measure | ours | best peer | ratio (wanted: at least 0.9) |", "|:--|--:|--:|--:|"]
    for what, of in measures.items():
        (ours, mine), (best, theirs) = (max(((n, of(epochs[n])) for n in s), key=lambda x: x[1]) for s in (own, peers))
        lines.append(f"| {what} | {mine:,.0f} ({ours}) | {theirs:,.0f} ({best}) | {mine / theirs:.2f} |")
    return [
        *lines,
        "",
        "Other programs on the same cores halve the rate of whatever happens to run beside them, so rates are to be "
        "compared where the others used as little; processor time hardly changes with them.",
    ]


def environment(rounds: int) -> list[str]:
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    info = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), platform.processor())
    names = ("webdataset", "mosaicml-streaming", "pylance", "opencv-python-headless", "pyarrow", "torch")
    installed = {distribution.name: distribution.version for distribution in metadata.distributions()}
    versions = ", ".join(f"{name} {installed[name]}" for name in names if name in installed)
    return [
        f"batches of {BATCH}, {rounds} rounds in turns, page cache warm, one epoch a round from its third batch on",
        f"machine: {cpu}, {os.cpu_count()} logical cores; load average {os.getloadavg()[0]:.1f}",
        f"Python {platform.python_version()}, {versions}",
        f"date: {datetime.datetime.now(datetime.UTC):%Y-%m-%d}; commit: {git.stdout.strip() or 'not committed'}",
        "command: `python benchmarks/loader_mocap.py --write`, in an environment as the script describes",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often every way runs")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name} beside the other results")
    arguments = parser.parse_args()
    one_thread(0)
    with tempfile.TemporaryDirectory() as folder:
        text = as_markdown(*measure(Path(folder), arguments.rounds))
    print(text)
    if arguments.write:
        temporary = RESULT.with_suffix(".tmp")
        temporary.write_text(text)
        os.replace(temporary, RESULT)


if __name__ == "__main__":
    main()
