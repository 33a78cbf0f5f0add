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
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import pairwise
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
HALF = -1
"""No workers, and half the batch: what each of two workers computes."""
WORKERS = (0, HALF, 1, 2)
TARGET = 0.03
EXTRAPOLATED = (2, 8, 64)
GIGABITS = (1, 10, 100)


class Clock:
    """Writes down when steps are logged: by the clock, by this process's processor time, and Ray's part of that."""

    run_dir: Path
    asked = 0.0
    """Processor time of this thread that went into what only Ray's hooks do."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """As the hooks beside this class, and the times."""
        super().log(step, metrics)  # type: ignore[misc]
        ours = time.thread_time() - self.asked + sum(map(processor_seconds, threading.enumerate()))
        all_threads = time.process_time()
        with (self.run_dir / f"clock-{os.getpid()}").open("a") as file:
            file.write(json.dumps([step, time.perf_counter(), all_threads, all_threads - ours]) + "\n")


def processor_seconds(thread: threading.Thread) -> float:
    """Of a loader's thread; 0 of another one."""
    loads = thread.name.startswith("aign-loader") and thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident)) if loads else 0.0  # type: ignore[arg-type]


class LocalClock(Clock, LocalHooks):
    """Without Ray."""


class RayClock(Clock, RayHooks):
    """In a worker."""

    def leaving(self) -> bool:
        """As a worker, and what it costs."""
        began = time.thread_time()
        try:
            return super().leaving()
        finally:
            self.asked += time.thread_time() - began


def clocked_worker(config: dict[str, Job]) -> ray_train.Ended:
    torch.set_num_threads(1)
    return ray_train.ended(ray_train.run(config["job"], RayClock(config["job"].place, config["job"].run_log)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """Milliseconds of a step, in each stretch between two logged steps.

    Attributes:
        clock_ms: by the clock.
        processor_ms: of the processor, all threads.
        ray_ms: of these, all but the thread that trains (without its questions to Ray) and the loader's.
    """

    clock_ms: tuple[float, ...]
    processor_ms: tuple[float, ...]
    ray_ms: tuple[float, ...]

    @staticmethod
    def all(costs: "Sequence[Cost]") -> "Cost":
        """Of several runs."""
        return Cost(
            clock_ms=tuple(ms for cost in costs for ms in cost.clock_ms),
            processor_ms=tuple(ms for cost in costs for ms in cost.processor_ms),
            ray_ms=tuple(ms for cost in costs for ms in cost.ray_ms),
        )


def low(values: Sequence[float]) -> float:
    """The lower quartile: what others do on the machine only ever adds."""
    return statistics.quantiles(values, n=4)[0]


def cost(folder: Path) -> Cost:
    """Of a run's busiest process."""
    found = []
    for path in folder.glob("clock-*"):
        rows = [json.loads(line) for line in path.read_text().splitlines()][:-1]  # the last one is validation's
        spent = [tuple(1000 * (y - x) / (b[0] - a[0]) for x, y in zip(a, b, strict=True)) for a, b in pairwise(rows)]
        _, clock, processor, ray = zip(*spent, strict=True)
        found.append(Cost(clock_ms=clock, processor_ms=processor, ray_ms=ray))
    return max(found, key=lambda cost: low(cost.processor_ms))


def measured_recipe() -> LiftingRecipe:
    """The demo's, with one checkpoint at the end."""
    chosen = recipe("lifting-demo")
    assert isinstance(chosen, LiftingRecipe)
    return dataclasses.replace(chosen, fit=dataclasses.replace(chosen.fit, steps=STEPS, validate_every=STEPS))


def halved(whole: LiftingRecipe) -> LiftingRecipe:
    """The same on half the batch."""
    batches = {"labelled_batch": whole.labelled_batch // 2, "unlabelled_batch": whole.unlabelled_batch // 2}
    return dataclasses.replace(whole, **batches)  # type: ignore[arg-type]


def measure(root: Path) -> tuple[dict[int, list[Cost]], str]:
    """Costs by number of workers, and the store they were measured on."""
    # With Ray's own niceness, 15, workers wait for whatever else the machine does.
    os.environ |= {"RAY_worker_niceness": "0"}
    url, found = str(root / "store"), {count: [] for count in WORKERS}
    ray_train._worker = clocked_worker
    with cluster():
        preprocess(plan("demo-motions"), url)
        for repeat in range(REPEATS):
            for count in WORKERS if repeat % 2 else WORKERS[::-1]:
                folder = root / f"{repeat}-{count}"
                folder.mkdir()
                chosen = halved(measured_recipe()) if count == HALF else measured_recipe()
                job = Job(
                    recipe=chosen, store_url=url, place=Place(folder=folder), workers=Workers.fixed(max(count, 0))
                )
                torch.set_num_threads(1)
                if count > 0:
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
    costs = {n: Cost.all(many) for n, many in found.items()}
    clock = {n: low(cost.clock_ms) for n, cost in costs.items()}
    processor = {n: low(cost.processor_ms) for n, cost in costs.items()}
    ray = {n: statistics.mean(cost.ray_ms) for n, cost in costs.items()}
    names = {
        0: "this process, without Ray",
        HALF: "the same with half the batch",
        1: "Ray Train, 1 worker",
        2: "Ray Train, 2 workers (half the batch each)",
    }
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
        f"Recipe lifting-demo (batch 64 labelled + 192 unlabelled), {STEPS} steps, {REPEATS} repeats in turn, one "
        "thread a process, gloo. No GPU was here. Lower quartiles over stretches of 20 steps, because what others do "
        "on the machine only ever adds; medians beside them.",
        "",
        "| what | ms/step by the clock | median | ms/step of the processor | median | of these, Ray's (mean) |",
        "|:--|--:|--:|--:|--:|--:|",
        *(
            f"| {names[n]} | {clock[n]:.1f} | {statistics.median(costs[n].clock_ms):.1f} | {processor[n]:.1f} | "
            f"{statistics.median(costs[n].processor_ms):.1f} | {ray[n]:.2f} |"
            for n in WORKERS
        ),
        "",
        f"Orchestration takes {ray[1] / processor[1]:.1%} of a worker's processor time (wanted: under {TARGET:.0%}):",
        "that of Ray's own threads in the worker, and of the question whether a node leaves. It is counted there, so",
        "nobody else is in it. Against the process without Ray, which others on the machine disturb too, one worker",
        f"takes {processor[1] / processor[0] - 1:+.1%} processor time per step and {clock[1] / clock[0] - 1:+.1%} by",
        f"the clock. Two workers make {clock[0] / clock[2]:.2f}x the steps of one process by the clock, each with",
        f"{processor[2] / processor[0]:.0%} of its processor time; Ray's threads hold gloo's there, which average.",
        f"Half the batch alone takes {processor[HALF] / processor[0]:.0%}: much of a small net's step is there",
        f"whatever its batch, so {processor[0] / processor[HALF]:.2f}x is the most that two could reach. They go",
        "in step: where others take one of the two cores for a while, both wait.",
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
