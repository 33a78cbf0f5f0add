"""What Ray Train costs per step, what a second worker brings, and what crosses the network.

`python benchmarks/scaling.py`. The recipe lifting-demo, one thread a process: in this process without Ray, on one Ray
Train worker and on two, in turn. Time by the clock and of the processor, per step, between the first and the last
logged step: without start, validation and the last checkpoint, with everything that a worker does beside (logging,
asking for notice of pre-emption). Processor time is what counts where others use the machine. The result is
`benchmarks/results/scaling.md`.
"""

import dataclasses
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import torch

from aign.data.sources import plan
from aign.data.store import Store
from aign.recipes import recipe
from aign.recipes.lifting import LiftingRecipe
from aign.recipes.tasks import Recipe
from aign.training import LocalHooks
from benchmarks.machine import lines, publish
from infra.cluster import cluster
from pipelines import ray_train
from pipelines.preprocess import preprocess
from pipelines.ray_hooks import RayHooks
from pipelines.ray_train import Job, train
from pipelines.run_place import Place
from pipelines.workers import Workers

STEPS, REPEATS = 200, 3
WORKERS = (0, 1, 2)
TARGET = 0.03
EXTRAPOLATED = (2, 8, 64)
GIGABITS = (1, 10, 100)


class Clock:
    """Writes down when steps are logged, by the clock and by this process's processor time."""

    run_dir: Path

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """As the hooks beside this class, and the times."""
        super().log(step, metrics)  # type: ignore[misc]
        with (self.run_dir / f"clock-{os.getpid()}").open("a") as file:
            file.write(json.dumps([step, time.perf_counter(), time.process_time()]) + "\n")


class LocalClock(Clock, LocalHooks):
    """Without Ray."""


class RayClock(Clock, RayHooks):
    """In a worker."""


def clocked_worker(config: dict[str, Job]) -> ray_train.Ended:
    torch.set_num_threads(1)
    return ray_train.ended(ray_train.run(config["job"], RayClock(config["job"].place, config["job"].run_log)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """Milliseconds of a step: by the clock, and of the busiest process's processor."""

    clock_ms: float
    processor_ms: float


def cost(folder: Path) -> Cost:
    found = []
    for path in folder.glob("clock-*"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        (first, clock, processor), (last, clock_end, processor_end) = rows[0], rows[-2]  # the last one is validation's
        steps = last - first
        found.append((1000 * (clock_end - clock) / steps, 1000 * (processor_end - processor) / steps))
    return Cost(clock_ms=max(one for one, _ in found), processor_ms=max(one for _, one in found))


def measured_recipe() -> LiftingRecipe:
    """The demo's, with one checkpoint at the end."""
    chosen = recipe("lifting-demo")
    assert isinstance(chosen, LiftingRecipe)
    return dataclasses.replace(chosen, fit=dataclasses.replace(chosen.fit, steps=STEPS, validate_every=STEPS))


def measure(root: Path) -> tuple[dict[int, list[Cost]], str]:
    """Costs by number of workers, and the store they were measured on."""
    url, found = str(root / "store"), {count: [] for count in WORKERS}
    ray_train._worker = clocked_worker
    with cluster():
        preprocess(plan("demo-motions"), url)
        for repeat in range(REPEATS):
            for count in WORKERS if repeat % 2 else WORKERS[::-1]:
                folder = root / f"{repeat}-{count}"
                folder.mkdir()
                job = Job(
                    recipe=measured_recipe(), store_url=url, place=Place(folder=folder), workers=Workers.fixed(count)
                )
                torch.set_num_threads(1)
                if count:
                    train(job)
                else:
                    ray_train.run(job, LocalClock(folder))
                found[count].append(cost(folder))
    return found, url


def gradient_bytes(chosen: Recipe, url: str, root: Path) -> dict[str, int]:
    """Bytes of the gradients of each network that learns: each is averaged once a step."""
    training = ray_train.task_of(chosen).prepare(chosen, Store.open(url), LocalHooks(root / "bytes"))
    with closing(training.feed):
        nets = {"generator": training.aign.encode, **{n: c.net for n, c in training.aign.playing.items()}}
        return {name: sum(4 * p.numel() for p in net.parameters() if p.requires_grad) for name, net in nets.items()}


def table(found: Mapping[int, Sequence[Cost]], sizes: Mapping[str, int]) -> list[str]:
    clock = {n: statistics.median(c.clock_ms for c in costs) for n, costs in found.items()}
    processor = {n: statistics.median(c.processor_ms for c in costs) for n, costs in found.items()}
    names = {0: "this process, without Ray", 1: "Ray Train, 1 worker", 2: "Ray Train, 2 workers (half the batch each)"}
    over = processor[1] / processor[0] - 1
    total = sum(sizes.values())
    alone = processor[0]
    rows = []
    for count in EXTRAPOLATED:
        moved = 2 * (count - 1) / count * total
        cells = []
        for gigabits in GIGABITS:
            wire_ms = 1000 * 8 * moved / (gigabits * 1e9)
            cells.append(f"{wire_ms:.2f} ms, {1 / (1 + wire_ms / alone):.0%}")
        rows.append(f"| {count} | {moved / 1e6:.2f} MB | {' | '.join(cells)} |")
    return [
        "# What Ray Train costs, and what more workers bring",
        "",
        f"Recipe lifting-demo (batch 64 labelled + 192 unlabelled), {STEPS} steps, {REPEATS} repeats in turn, medians, "
        "one thread a process, gloo. No GPU was here.",
        "",
        "| what | ms/step by the clock | range | ms/step of the processor | range |",
        "|:--|--:|:--|--:|:--|",
        *(
            f"| {names[n]} | {clock[n]:.1f} | {min(c.clock_ms for c in found[n]):.1f} to "
            f"{max(c.clock_ms for c in found[n]):.1f} | {processor[n]:.1f} | "
            f"{min(c.processor_ms for c in found[n]):.1f} to {max(c.processor_ms for c in found[n]):.1f} |"
            for n in WORKERS
        ),
        "",
        f"Orchestration costs {over:+.1%} of processor time per step on one worker (wanted: under {TARGET:.0%}),",
        f"{clock[1] / clock[0] - 1:+.1%} by the clock. Two workers take {clock[0] / clock[2]:.2f}x the steps of one",
        f"process by the clock, and {processor[2] / processor[0]:.0%} of its processor time each.",
        "",
        "## Bytes per step",
        "",
        f"Gradients of {', '.join(f'{name} {size / 1e6:.2f} MB' for name, size in sizes.items())}:",
        f"{total / 1e6:.2f} MB, each averaged once a step. A ring moves 2 (N - 1) / N of that through every worker.",
        "On paper, with the step above at its full batch on every worker and nothing hidden behind the backward",
        "pass: milliseconds on the wire, and the share of the time that is left for learning.",
        "",
        f"| workers | bytes a step and worker | {' | '.join(f'{g} Gbit/s' for g in GIGABITS)} |",
        f"|--:|--:|{'--:|' * len(GIGABITS)}",
        *rows,
        "",
        "`--fit.accumulate K` divides the bytes by K per batch. The head does nothing per step: workers meet there",
        "when a checkpoint is reported and, at logged steps and at most every 2 s, to ask whether a node leaves.",
        "",
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found, url = measure(Path(folder))
        sizes = gradient_bytes(measured_recipe(), url, Path(folder))
    text = "\n".join([*table(found, sizes), *lines("python benchmarks/scaling.py", "torch", "ray")])
    publish("scaling.md", text)
    print(text)


if __name__ == "__main__":
    main()
