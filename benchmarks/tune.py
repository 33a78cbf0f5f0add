"""What early stopping saves a search, and whether it keeps the cores busy: `python benchmarks/tune.py [--write]`.

One search of a small lifting-demo twice, by `aign tune`: nobody stopped (fifo), and ASHA; the same seed, so the same
trials. While a search runs its processes are watched. The machine may be busy with others, so beside the processor
time that the trials got stands the time in which they had it or stood in line for it (Linux, /proc/PID/schedstat):
that is what a search on a machine of its own would get. RAY_worker_niceness=0, because Ray else gives its workers
niceness 15, which is next to nothing beside others. Then both schedulers are told what the fifo trials reported, in
many orders: one order is luck. `--write` puts the tables into `benchmarks/results/tune.md`.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
import numpy as np
import psutil
import torch
from ray.tune.schedulers import TrialScheduler

from aign.data.sources import plan as data_plan
from aign.evaluation.trials import Search
from aign.recipes import recipe
from aign.recipes.search import anchor, space_of
from aign.recipes.tasks import Recipe, task_of
from aign.registry.tracking import RunFacts, open_tracking
from aign.training import LocalHooks
from infra.cluster import cluster
from pipelines.preprocess import preprocess
from pipelines.ray_train import Job, run
from pipelines.recipe_flags import parse_recipe
from pipelines.run_place import Place
from pipelines.tune import Arguments, result
from pipelines.tune_folder import SearchFolder
from pipelines.tune_search import Plan, Scheduler, scheduler_of
from pipelines.tune_trial import Searched

TRIALS, STEPS, ORDERS = 24, 1080, 400
CORES = os.cpu_count() or 1
FLAGS = ("--labelled-batch", "16", "--unlabelled-batch", "48", "--task.lifter.width", "128", "--task.critic-width",
         "128", "--fit.ema", "0.98")  # fmt: skip
SAMPLE_SECONDS = 0.5
TRAINS_SECONDS = 0.3
"""A thread of a worker that ran longer than this is one that trains, or imported torch; each trial is a thread."""
SAVED, BUSY = 0.5, 0.9
SCHEDULERS: tuple[Scheduler, ...] = ("fifo", "asha")
"""Which are run; the replay has them and "median"."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """Processor seconds of a search's processes, and the seconds in which they stood in line for a processor.

    Attributes:
        trials_s: of the workers that train.
        line_s: in which those stood in line.
        rest_s: of all other processes: the command, Ray's own.
        wall_s: from the first trial's beginning to the last one's end.
        command_s: of the whole command.
        load: average load of the machine at the end.
    """

    trials_s: float
    line_s: float
    rest_s: float
    wall_s: float
    command_s: float
    load: float


def watch(command: list[str], out: Path) -> Watched:
    """Run a search and sample its tree of processes."""
    began = time.time()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    trials, rest = dict[int, tuple[float, float]](), dict[int, float]()  # by thread; by process
    workers = set[int]()
    while process.poll() is None:
        time.sleep(SAMPLE_SECONDS)
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(process.pid)
            for one in (root, *root.children(recursive=True)):
                with contextlib.suppress(psutil.Error, OSError):
                    if "ImplicitFunc" in " ".join(one.cmdline()):  # Ray's title of a worker with a trial
                        workers.add(one.pid)
                    if one.pid in workers:
                        trials |= scheduled(one.pid)
                        rest.pop(one.pid, None)
                    else:
                        times = one.cpu_times()
                        rest[one.pid] = times.user + times.system
    assert process.stderr is not None, "a pipe was asked for"
    if process.returncode:
        raise SystemExit(process.stderr.read())
    begun = min(path.stat().st_mtime for path in out.glob("trials/*/trial.json"))
    ended = max(path.stat().st_mtime for path in out.glob("trials/*/end.json"))
    return Watched(
        trials_s=sum(ran for ran, _ in trials.values()),
        line_s=sum(waited for ran, waited in trials.values() if ran > TRAINS_SECONDS),
        rest_s=sum(rest.values()),
        wall_s=ended - begun,
        command_s=time.time() - began,
        load=os.getloadavg()[0],
    )


def scheduled(pid: int) -> dict[int, tuple[float, float]]:
    """By thread of a process, seconds in which it had a processor, and in which it stood in line for one."""
    threads = {}
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # a thread that ended meanwhile
            ran, waited, _ = path.read_text().split()
            threads[int(path.parent.name)] = (int(ran) / 1e9, int(waited) / 1e9)
    return threads


def small(trial_steps: int) -> Recipe:
    """The recipe of the searches."""
    parsed = parse_recipe(Arguments(store=""), recipe("lifting-demo"), "benchmark", FLAGS)
    return dataclasses.replace(parsed.recipe, fit=dataclasses.replace(parsed.recipe.fit, steps=trial_steps))


def useful_seconds(store_url: str, root: Path, search: Search) -> float:
    """Processor time that the search's steps and validations need in a process that does nothing else."""
    spent = {}
    for steps, validations in ((STEPS // 9, 1), (STEPS // 3, 1), (STEPS // 3, 3)):
        folder = root / f"alone-{steps}-{validations}"
        folder.mkdir()
        alone = small(steps)
        fit = dataclasses.replace(alone.fit, validate_every=steps // validations)
        began = time.process_time()
        run(
            Job(recipe=dataclasses.replace(alone, fit=fit), store_url=store_url, place=Place(folder=folder)),
            LocalHooks(folder),
        )
        spent[steps, validations] = time.process_time() - began
    validation = (spent[STEPS // 3, 3] - spent[STEPS // 3, 1]) / 2
    step = (spent[STEPS // 3, 1] - spent[STEPS // 9, 1]) / (STEPS // 3 - STEPS // 9)
    begin = spent[STEPS // 9, 1] - validation - step * (STEPS // 9)
    validations = sum(trial.step // (STEPS // 9) for trial in search.trials)
    return step * search.made + validation * validations + begin * len(search.trials)


class Told:
    """A trial as a scheduler knows one."""

    def __init__(self, number: int) -> None:
        self.trial_id = str(number)


def replayed(
    judge: TrialScheduler, search: Search, rows: Mapping[int, list[Any]], order: list[int]
) -> tuple[int, float]:
    """Steps, and the best of the trials that end, had they come in that order, `CORES` at once."""
    waiting, running, made, best = list(order), list[tuple[Told, Iterator[Any]]](), 0, float("inf")
    while waiting or running:
        while waiting and len(running) < CORES:
            number = waiting.pop(0)
            running.append((Told(number), iter(rows[number])))
            judge.on_trial_add(None, running[-1][0])
        trial, left = running.pop(0)
        row = next(left)
        last, said = row["step"] >= search.steps, TrialScheduler.CONTINUE
        if not last:
            said = judge.on_trial_result(None, trial, row)
        if last or said == TrialScheduler.STOP:
            made += row["step"]
            best = min(best, row[search.goal.metric.name]) if last else best
            judge.on_trial_complete(None, trial, row)
        else:
            running.append((trial, left))
    return made, best


def planned(out: Path, scheduler: Scheduler, store_url: str) -> Plan:
    """A search as the command makes it."""
    made = small(STEPS)
    goal = task_of(made).goal(made, None)
    place = SearchFolder(out=out, recipe=made, steps=STEPS, goal=goal)
    facts = RunFacts(recipe=made.name, store_hash="", licences=())
    searched = Searched(
        place=place, store_url=store_url, tracking=open_tracking(out), name="", parent="", facts=facts, gpus=0.0
    )
    return Plan(
        searched=searched, space=space_of(made), method="random", scheduler=scheduler, trials=TRIALS, seed=0,
        say=lambda _: None,
    )  # fmt: skip


def found_in(out: Path) -> tuple[Search, dict[int, list[Any]]]:
    """What a search left, and what each of its trials reported."""
    plan = planned(out, "fifo", "")
    place = plan.searched.place
    held = anchor(place.recipe)
    return result(place, plan.space, held), {n: place.validations(n) for n in place.numbers()}


def searched(scheduler: Scheduler, store_url: str, root: Path) -> tuple[Search, Watched, dict[int, list[Any]]]:
    """A search by the command."""
    out = root / scheduler
    command = [
        sys.executable, "-c", "import sys; from pipelines.cli import main; sys.exit(main())", "tune", "lifting-demo",
        "--store", store_url, "--trials", str(TRIALS), "--scheduler", scheduler, "--steps", str(STEPS), "--out",
        str(out), "--mlflow", str(root / f"mlflow-{scheduler}"), *FLAGS,
    ]  # fmt: skip
    seen = watch(command, out)
    search, rows = found_in(out)
    return search, seen, rows


def savings(found: Mapping[Scheduler, Search]) -> list[str]:
    """Steps and the best, side by side."""
    fifo, asha = found["fifo"], found["asha"]
    saved = 1 - asha.made / fifo.made
    lines = ["| scheduler | trials | through | steps | best trial | its val/mpjpe_mm |", "|---|--:|--:|--:|--:|--:|"]
    for name, search in found.items():
        through = sum(trial.state == "complete" for trial in search.trials)
        value = search.best.metrics[search.goal.metric.name]
        lines.append(
            f"| {name} | {len(search.trials)} | {through} | {search.made} | {search.best.number} | {value:.1f} |"
        )
    same = "the same best" if asha.best.number == fifo.best.number else "another best"
    lines += ["", f"ASHA makes {100 * saved:.0f} % fewer steps (wanted: {100 * SAVED:.0f} %) and finds {same}."]
    return lines


def orders(search: Search, rows: Mapping[int, list[Any]], empty: str) -> list[str]:
    """Both early stoppers on what the fifo trials reported, in many orders."""
    name, best = search.goal.metric.name, search.best.metrics[search.goal.metric.name]
    recipe_itself = rows[0][-1][name]
    shuffled = random.Random(0)
    lines = ["| scheduler | steps saved, median | 5 % of orders under | best is kept | best found, mean | worst |",
             "|---|--:|--:|--:|--:|--:|"]  # fmt: skip
    for scheduler in ("asha", "median"):
        saved, ends = [], []
        plan = planned(Path(empty), scheduler, "")
        for _ in range(ORDERS):
            others = [n for n in rows if n]
            shuffled.shuffle(others)
            made, end = replayed(scheduler_of(plan), search, rows, [0, *others])
            saved.append(1 - made / search.made)
            ends.append(end)
        kept = np.mean([end == best for end in ends])
        lines.append(
            f"| {scheduler} | {100 * np.median(saved):.0f} % | {100 * np.quantile(saved, 0.05):.0f} % | "
            f"{100 * kept:.0f} % | {np.mean(ends):.1f} | {max(ends):.1f} |"
        )
    spread = sorted(row[-1][name] for row in rows.values())
    told = f"All {len(rows)} trials to the end: best {best:.1f}, second {spread[1]:.1f}, median {np.median(spread):.1f}"
    return [*lines, "", f"{told}; the recipe as it is {recipe_itself:.1f}. {ORDERS} orders; trial 0 is always first."]


def business(seen: Mapping[Scheduler, Watched], useful: Mapping[Scheduler, float]) -> list[str]:
    """Who had the processors."""
    lines = [
        "| scheduler | wall, first trial to last end | trials ran | ran or stood in line | of it training | "
        "Ray and the command | whole command | load |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, one in seen.items():
        all_s = one.wall_s * CORES
        lines.append(
            f"| {name} | {one.wall_s:.0f} s | {100 * one.trials_s / all_s:.0f} % | "
            f"{100 * (one.trials_s + one.line_s) / all_s:.0f} % | {100 * useful[name] / one.trials_s:.0f} % | "
            f"{one.rest_s:.0f} s | {one.command_s:.0f} s | {one.load:.1f} |"
        )
    lines += [
        "",
        f"Shares are of wall x {CORES} cores; wanted: at least {100 * BUSY:.0f} % ran or stood in line (on a machine "
        "of its own, a search has what it stands in line for). Training: the processor time that the same steps and "
        "validations take in one process without Ray, beside what the trials' threads took. The rest: "
        "torch is imported once a core, checkpoints, MLflow, and what it costs to share the cores.",
    ]
    return lines


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--store", help="of the embedded motions; nothing: it is made")
    parser.add_argument("--keep", type=Path, help="folder that keeps the searches; nothing: a temporary one")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found, seen, useful, rows = dict[Scheduler, Search](), dict[Scheduler, Watched](), dict[Scheduler, float](), {}
    with tempfile.TemporaryDirectory() as temporary:
        root = args.keep or Path(temporary)
        url = args.store or str(root / "store")
        if not args.store:
            with cluster():
                preprocess(data_plan("demo-motions"), url)
        for scheduler in SCHEDULERS:
            found[scheduler], seen[scheduler], rows[scheduler] = searched(scheduler, url, root)
            print(json.dumps(dataclasses.asdict(seen[scheduler])), file=sys.stderr)
        for scheduler in SCHEDULERS:
            (root / f"useful-{scheduler}").mkdir()
            useful[scheduler] = useful_seconds(url, root / f"useful-{scheduler}", found[scheduler])
    with tempfile.TemporaryDirectory() as empty:
        tables = orders(found["fifo"], rows["fifo"], empty)
    text = "\n".join([
        "# A search: what early stopping saves, and whether the cores are busy", "",
        *machine.lines("RAY_worker_niceness=0 python benchmarks/tune.py --write", "torch", "ray", "numpy"),
        f"`aign tune lifting-demo --trials {TRIALS} --steps {STEPS} {' '.join(FLAGS)}`: six weights and rates, random "
        "search, one seed, trial 0 is the recipe; fifo and ASHA one after the other.", "",
        "## Early stopping", "", *savings(found), "",
        "## The same trials in other orders", "", *tables, "",
        "## Cores", "", *business(seen, useful), "",
    ])  # fmt: skip
    print(text)
    if args.write:
        machine.publish("tune.md", text)


if __name__ == "__main__":
    main()
