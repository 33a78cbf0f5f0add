"""What Ray costs a training, and whether the loader keeps up: `python benchmarks/train_throughput.py [--write]`.

The recipe lifting-demo on the store of the embedded motions. Steps per second of one Ray Train worker and of
`LocalHooks` in this process, one thread each, taken in turn while the same local Ray is up; then of two threads without
Ray, against which stands what the loader alone delivers. Validation is left out of all of them, MLflow too.
`--write` puts the table into `benchmarks/results/train_throughput.md`.
"""

import argparse
import dataclasses
import datetime
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import ray
import torch

from aign.data.loader import ClipLoader, LoaderConfig
from aign.data.sources import plan
from aign.data.store import Store
from aign.recipes import recipe
from aign.recipes.lifting import LiftingRecipe, prepare
from aign.tasks.lifting.feed import KEYPOINT_COLUMNS, LABEL_COLUMNS
from aign.training import LocalHooks
from infra.cluster import cluster
from pipelines.preprocess import preprocess
from pipelines.ray_train import Job, train
from pipelines.run_place import Place
from pipelines.workers import Workers

STEPS, REPEATS, BATCHES = 300, 3, 400
RAY_TARGET, LOADER_TARGET = 0.95, 20.0


def measured_recipe() -> LiftingRecipe:
    """The demo's, with one checkpoint at the end."""
    chosen = recipe("lifting-demo")
    return dataclasses.replace(chosen, fit=dataclasses.replace(chosen.fit, steps=STEPS, validate_every=STEPS))


def steps_per_second(store_url: str, root: Path, name: str, workers: int) -> float:
    folder = root / name
    folder.mkdir()
    job = Job(recipe=measured_recipe(), store_url=store_url, place=Place(folder=folder), workers=Workers.fixed(workers))
    return train(job).steps_per_second


def rate(step: Callable[[], object]) -> float:
    step()  # the first one waits for the threads to fill the buffer
    began = time.perf_counter()
    for _ in range(BATCHES):
        step()
    return BATCHES / (time.perf_counter() - began)


def loader_rate(store: Store) -> float:
    """Steps' worth of batches per second out of the two loaders, nothing done with them."""
    chosen = measured_recipe()
    config = LoaderConfig(
        batch_size=chosen.labelled_batch,
        streams=chosen.loader_streams,
        seed=0,
        window_frames=chosen.task.lifter.frames,
    )
    more = dataclasses.replace(config, batch_size=chosen.unlabelled_batch, seed=1)
    columns = {"keypoints": KEYPOINT_COLUMNS, "labels": LABEL_COLUMNS}
    with (
        ClipLoader(store, columns, chosen.roles.labelled, config) as labelled,
        ClipLoader(store, {"keypoints": KEYPOINT_COLUMNS}, chosen.roles.unlabelled, more) as unlabelled,
    ):
        batches = iter(labelled), iter(unlabelled)
        return rate(lambda: [next(batch) for batch in batches])


def feed_rate(store: Store, root: Path) -> float:
    """The same with what the task makes of them: cropped, mirrored, noisy observations."""
    with closing(prepare(measured_recipe(), store, LocalHooks(root / "feed")).feed) as feed:
        return rate(feed.next)


def measure(root: Path) -> list[tuple[str, list[float]]]:
    url = str(root / "store")
    rows: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        rows.setdefault(name, []).append(value)

    with cluster():
        preprocess(plan("demo-motions"), url)
        store = Store.open(url)
        for repeat in range(REPEATS):
            for workers, name in ((1, "Ray Train, 1 worker"), (0, "LocalHooks, 1 thread"))[:: 1 - 2 * (repeat % 2)]:
                torch.set_num_threads(1)
                note(name, steps_per_second(url, root, f"{repeat}-{workers}", workers))
    cores = os.cpu_count() or 1
    for repeat in range(REPEATS):
        torch.set_num_threads(min(2, cores))
        note("LocalHooks, 2 threads", steps_per_second(url, root, f"{repeat}-two", 0))
        note("loader alone", loader_rate(store))
        note("loader and augmentation", feed_rate(store, root))
    return list(rows.items())


def machine() -> str:
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    return (
        f"{datetime.date.today()}, commit {git.stdout.strip() or 'none'}, {cpu}, {os.cpu_count()} cores "
        f"(load {os.getloadavg()[0]:.1f}), Python {platform.python_version()}, torch {torch.__version__}, "
        f"ray {ray.__version__}, local disk"
    )


def table(where: str, rows: list[tuple[str, list[float]]]) -> list[str]:
    middle = {name: statistics.median(values) for name, values in rows}
    ratio = middle["Ray Train, 1 worker"] / middle["LocalHooks, 1 thread"]
    # Against the fastest step seen: a neighbour on a core slows two threads down far more than one.
    lead = middle["loader alone"] / max(dict(rows)["LocalHooks, 2 threads"])
    return [
        "# Ray Train against a plain loop, and the loader against the step",
        "",
        where + ".",
        "",
        "| what | steps/s, median | range |",
        "|---|---|---|",
        *(f"| {name} | {middle[name]:,.1f} | {min(values):,.1f} to {max(values):,.1f} |" for name, values in rows),
        "",
        f"One Ray worker reaches {ratio:.1%} of LocalHooks (wanted: at least {RAY_TARGET:.0%}); "
        f"the loader alone delivers {lead:.0f}x what the fastest 2-thread run consumes "
        f"(wanted: at least {LOADER_TARGET:.0f}x).",
        "",
        f"Recipe lifting-demo (batch 64 labelled + 192 unlabelled), {STEPS} steps, {REPEATS} repeats in turn.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/train_throughput.md")
    args = parser.parse_args()
    where = machine()
    with tempfile.TemporaryDirectory() as folder:
        lines = table(where, measure(Path(folder)))
    print("\n".join(lines))
    if args.write:
        path = Path(__file__).parent / "results" / "train_throughput.md"
        path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
