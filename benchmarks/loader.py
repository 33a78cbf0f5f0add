"""How fast the store and its loader feed training: `python benchmarks/loader.py [--write]`.

Random poses (never zeros, which any codec would swallow) are written to a temporary store. Printed are samples per
second of the lifting columns at batch 1024 on one thread: the first epoch (page cache dropped), later ones (from
the loader's memory), a store larger than the cache, and what the choice of Arrow type costs. `--write` puts the table
into `benchmarks/results/loader.md`.
"""

import argparse
import datetime
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from aign.data.loader import ClipLoader, LoaderConfig
from aign.data.store import Manifest, PartRecord, Provenance, Stage, Store, commit, write_part

JOINTS, CLIP_FRAMES, CLIPS = 17, 512, 4
COLUMNS = {"keypoints": ("kp2d_px", "kp2d_conf", "intrinsics_px"), "labels": ("joints_cam_m",)}
REPEATS = 3


def motion(rng: np.random.Generator, frames: int) -> np.ndarray:
    """A body that moves smoothly at random: [frames, J, 3] in metres."""
    steps = np.cumsum(rng.normal(scale=0.002, size=(frames, JOINTS, 3)), axis=0)
    return (rng.uniform(-0.7, 0.7, size=(JOINTS, 3)) + steps).astype(np.float32)


def clip_pair(rng: np.random.Generator, part: int, clip: int) -> tuple[dict[str, object], dict[str, object]]:
    key = {
        "sequence": f"S{part}/Walking 1",
        "subject": f"S{part}",
        "action": "Walking",
        "camera": f"camera{clip}",
        "source": "random",
        "frame_start": 0,
        "num_frames": CLIP_FRAMES,
        "fps": 50.0,
    }
    joints = motion(rng, CLIP_FRAMES) + np.array([0, 0, 5], np.float32)
    keypoints = {
        "kp2d_px": 1150 * joints[..., :2] / joints[..., 2:] + 500 + rng.normal(size=(CLIP_FRAMES, JOINTS, 2)),
        "kp2d_conf": rng.uniform(0.5, 1.0, size=(CLIP_FRAMES, JOINTS)),
        "intrinsics_px": np.array([1150, 1150, 500, 500]),
        "distortion": np.zeros(5),
        "image_size_px": np.array([1000, 1000]),
        "intrinsics_source": "calibration",
    }
    labels = {
        "joints_cam_m": joints,
        "joints_valid": np.ones((CLIP_FRAMES, JOINTS), bool),
        "rot_world_to_cam": np.eye(3).reshape(9),
        "trans_world_to_cam_m": np.zeros(3),
    }
    return key | keypoints, key | labels


def make_store(url: str, parts: int) -> Store:
    rng = np.random.default_rng(0)
    records: list[PartRecord] = []
    for part in range(parts):
        pairs = [clip_pair(rng, part, clip) for clip in range(CLIPS)]
        origin = Provenance(
            source_hashes=(str(part),),
            stages=(Stage(name="random", version="1", params={}),),
            skeleton="h36m_17",
            num_joints=JOINTS,
            licence="CC0-1.0",
            producer="benchmarks/loader.py",
        )
        tables = {"keypoints": [p[0] for p in pairs], "labels": [p[1] for p in pairs]}
        records += write_part(url, part, tables, origin)
    commit(url, Manifest(skeleton="h36m_17", num_joints=JOINTS).updated(records))
    return Store.open(url)


def rate(batches: Iterator[object], steps: int, batch_size: int) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        next(batches)
    return steps * batch_size / (time.perf_counter() - start)


def epoch_rates(store: Store, config: LoaderConfig) -> tuple[float, float]:
    """Samples per second of the first epoch, from files the page cache does not hold, and of the third."""
    for path in Path(store.url).rglob("*.parquet"):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with ClipLoader(store, COLUMNS, None, config) as loader:
        batches, steps = iter(loader), loader.steps_per_epoch
        first = rate(batches, steps, config.batch_size)
        rate(batches, steps, config.batch_size)
        return first, rate(batches, steps, config.batch_size)


def loader_rows(folder: str) -> list[tuple[str, float]]:
    start = time.perf_counter()
    store = make_store(folder, parts=96)
    frames = 96 * CLIPS * CLIP_FRAMES
    rows = [("write keypoints and labels, frames/s", frames / (time.perf_counter() - start))]
    cases = {
        "batch 1024": LoaderConfig(),
        "batch 1024, cache too small (32 MB)": LoaderConfig(cache_bytes=1 << 25),
        "batch 64": LoaderConfig(batch_size=64),
        "batch 128 of 27-frame windows": LoaderConfig(batch_size=128, window_frames=27),
    }
    for name, config in cases.items():
        pairs = [epoch_rates(store, config) for _ in range(REPEATS)]
        rows.append((f"{name}, first epoch (cold), samples/s", statistics.median(p[0] for p in pairs)))
        rows.append((f"{name}, later epochs, samples/s", statistics.median(p[1] for p in pairs)))
    start = time.perf_counter()
    store.read(COLUMNS)
    rows.append(("Store.read of everything, frames/s", frames / (time.perf_counter() - start)))
    return rows


def arrow_rows(folder: str) -> list[tuple[str, float]]:
    """Decoding one [J, 2] column from row groups of 2048 frames, by Arrow type and packing."""
    rng = np.random.default_rng(0)
    groups = [1150 * motion(rng, 2048)[..., :2] / 5 for _ in range(60)]
    lists = {"list<float>": pa.float32(), "list<fixed list>": pa.list_(pa.float32(), 2 * JOINTS), "binary": None}
    packings = {"no codec": ("NONE", False), "zstd": ("ZSTD", False), "split + zstd": ("ZSTD", True)}
    rows = []
    for kind, value in lists.items():
        for packing, (codec, split) in packings.items():
            if value is None and split:
                continue  # BYTE_STREAM_SPLIT needs numbers
            path = f"{folder}/types.parquet"
            write_type(path, groups, value, (codec, split))
            decode = decode_binary if value is None else decode_list
            seconds = min(read_all(path, decode) for _ in range(REPEATS))
            name = f"{kind}, {packing}"
            rows.append((f"decode {name}, frames/s", len(groups) * 2048 / seconds))
            rows.append((f"size {name}, bytes/frame", os.path.getsize(path) / (len(groups) * 2048)))
    return rows


def write_type(path: str, groups: list[np.ndarray], value: pa.DataType | None, packing: tuple[str, bool]) -> None:
    codec, split = packing
    kind = pa.binary() if value is None else pa.list_(value)
    leaf = "x.list.element" if value == pa.float32() else "x.list.element.list.element"
    encoding = {leaf: "BYTE_STREAM_SPLIT"} if split else None
    schema = pa.schema([("x", kind)])
    with pq.ParquetWriter(path, schema, use_dictionary=False, compression=codec, column_encoding=encoding) as writer:
        for group in groups:
            clips = np.split(group, 16)
            if value is None:
                column = pa.array([clip.tobytes() for clip in clips], kind)
            else:
                flat = pa.array(group.reshape(-1))
                items = flat if value == pa.float32() else pa.FixedSizeListArray.from_arrays(flat, 2 * JOINTS)
                column = pa.ListArray.from_arrays(np.linspace(0, len(items), 17).astype(np.int32), items)
            writer.write_table(pa.table([column], schema=schema))


def decode_list(column: pa.Array) -> np.ndarray:
    flat = column.flatten()
    return np.asarray(flat.flatten() if pa.types.is_fixed_size_list(flat.type) else flat).reshape(-1, JOINTS, 2)


def decode_binary(column: pa.Array) -> np.ndarray:
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int32)
    return np.frombuffer(data, np.float32, (ends[len(column)] - ends[0]) // 4, ends[0]).reshape(-1, JOINTS, 2)


def read_all(path: str, decode: Callable[[pa.Array], np.ndarray]) -> float:
    file = pq.ParquetFile(path)
    start = time.perf_counter()
    for index in range(file.num_row_groups):
        decode(file.read_row_group(index, use_threads=False)["x"].combine_chunks())
    return time.perf_counter() - start


def machine() -> str:
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    return (
        f"{datetime.date.today()}, commit {git.stdout.strip() or 'none'}, {cpu}, {os.cpu_count()} cores "
        f"(load {os.getloadavg()[0]:.1f}), Python {platform.python_version()}, pyarrow {pa.__version__}, "
        f"torch {torch.__version__}, one torch thread and one loader thread, local disk"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/loader.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    where = machine()
    with tempfile.TemporaryDirectory() as folder:
        rows = loader_rows(f"{folder}/store") + arrow_rows(folder)
    lines = ["# Store and loader", "", where + ".", "", "| what | measured |", "|---|---|"]
    lines += [f"| {name} | {value:,.0f} |" for name, value in rows]
    lines += [
        "",
        f"Medians of {REPEATS} runs for epochs, best of {REPEATS} for decoding. Random smooth motion, 17 joints.",
    ]
    print("\n".join(lines))
    if args.write:
        path = Path(__file__).parent / "results" / "loader.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
