"""How fast super-resolution of faces trains: `python benchmarks/faces_speed.py [--write] [--store URL]`.

`fit` (loader, JPEG decoding, area averages, mirroring, memory, checks, average, log; no checkpoints) against a bare
torch loop of the same networks, game and penalty on one resident batch, in turn, on one thread and on all cores that
the process may use (`taskset -c 0`: on one); and the bare loop with channels last, and in bfloat16 too. Wanted: 0.9 of
the bare loop's samples per second or more. Without --store: pictures of noise of the recipe's size, which decode slower
than faces.
"""

import argparse
import copy
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch

from aign.data.pixels import encode_jpeg
from aign.data.store import Manifest, Provenance, Stage, Store, commit, write_part
from aign.framework.aign import Aign
from aign.recipes import recipe
from aign.recipes.tasks import task_of
from aign.tasks.faces.superresolution import LowPicture
from aign.training import LocalHooks, fit
from aign.training.fit import start

ROUNDS, PICTURES = 3, 256
TARGET = 0.9
STEPS = {"superresolution-8-32": 50, "superresolution": 50, "superresolution-32-128": 3}
"""Of a round, by recipe. 50: as many as between two looks at the gradients, so that `fit` pays for one of them."""
Step = Callable[[], None]


class Unsaved(LocalHooks):
    """Without checkpoints: neither loop has them."""

    def save(self, step: int, state: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Nothing."""


def noise_store(url: str, side: int) -> Store:
    """Smooth noise as JPEGs in three partitions."""
    rng = np.random.default_rng(0)
    made = Provenance(
        source_hashes=(f"noise{side}",), stages=(Stage(name="noise", version="1", params={}),), skeleton="face5",
        num_joints=5, licence="CC0-1.0", producer="benchmark",
    )  # fmt: skip
    records = []
    for part, partition in enumerate(("train", "val", "test")):
        rows = []
        for number in range(PICTURES if partition == "train" else 2):
            small = rng.random((side // 8, side // 8, 3))
            image = np.kron(small, np.ones((8, 8, 1))) + 0.1 * rng.standard_normal((side, side, 3))
            rows.append(
                {
                    **{"sequence": f"noise/{partition}", "subject": "noise", "action": "face", "camera": ""},
                    **{"source": "noise", "frame_start": number, "num_frames": 1, "fps": 1.0},
                    "face_jpeg": [encode_jpeg((image.clip(0, 1) * 255).astype(np.uint8))],
                    "face_size_px": np.array([side, side], np.int32),
                    "landmarks_px": np.zeros((5, 2), np.float32),
                    "landmarks_valid": False,
                    "attributes": np.array([1.0], np.float32),
                    "attribute_names": "Male",
                    "identity": number,
                    "partition": partition,
                }
            )
        records += write_part(url, part, {"faces": rows}, made)
    commit(url, Manifest(skeleton="face5", num_joints=5).updated(records))
    return Store.open(url)


def bare_step(aign: Aign[Any, Any, Any], batch: LowPicture, channels_last: bool = False, halves: bool = False) -> Step:
    """The networks and the game alone: a generator and a critic step."""
    net, critic = copy.deepcopy(aign.encode), copy.deepcopy(aign.critics["critic"].net)
    game, weights = aign.critics["critic"].game, aign.weights
    real = aign.critics["critic"].memory.sample(batch.truth)
    if channels_last:
        net, critic = (n.to(memory_format=torch.channels_last) for n in (net, critic))
        real = real.contiguous(memory_format=torch.channels_last)
        batch = LowPicture(
            low=batch.low.contiguous(memory_format=torch.channels_last),
            truth=batch.truth.contiguous(memory_format=torch.channels_last),
        )
    adam_g, adam_d = (torch.optim.Adam(n.parameters(), lr=1e-4, fused=True) for n in (net, critic))

    def step() -> None:
        adam_g.zero_grad()
        critic.requires_grad_(False)
        with torch.autocast("cpu", torch.bfloat16, enabled=halves):
            z = net(batch)
            loss = weights["render"] * (aign.render(z, batch) - batch.low).square().mean()
            loss = loss + weights["critic"] * game.generator(critic(z.picture)).mean()
        loss.backward()
        adam_g.step()
        critic.requires_grad_(True)
        adam_d.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=halves):
            loss = game.critic(critic, real, z.picture.detach())
        loss.backward()
        adam_d.step()

    return step


def seconds(work: Callable[[], object], steps: int) -> tuple[float, float]:
    """Of one step: by the clock, and of this process's processor time, which neighbours do not lengthen."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - wall) / steps, (time.process_time() - cpu) / steps


def costs(name: str, url: str, threads: int) -> dict[str, list[tuple[float, float]]]:
    """Rounds of the three loops, in turn."""
    torch.set_num_threads(threads)
    chosen, steps = recipe(name), STEPS[name]
    chosen = dataclasses.replace(chosen, fit=dataclasses.replace(chosen.fit, steps=steps, validate_every=steps))
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(url) if url else noise_store(f"{folder}/store", chosen.task.generator.side_px)
        hooks = Unsaved(Path(folder) / "run")
        training = task_of(chosen).prepare(chosen, store, hooks)
        with closing(training.feed) as feed:
            batch = feed.next()
            aign = start(training.aign, feed, chosen.fit, hooks.device).aign

            def repeated(**how: bool) -> Callable[[], None]:
                step = bare_step(aign, batch, **how)
                return lambda: [step() for _ in range(steps)] and None

            halved = dataclasses.replace(chosen.fit, bfloat16=True)
            own = copy.deepcopy(training.aign)  # its networks change their layout
            loops = {
                "bare torch loop": repeated(),
                "bare, channels last": repeated(channels_last=True),
                "bare, channels last, bfloat16": repeated(channels_last=True, halves=True),
                "`fit`": lambda: fit(training.aign, feed, chosen.fit, hooks, lambda _: {}, {}),
                "`fit`, bfloat16": lambda: fit(own, feed, halved, hooks, lambda _: {}, {}),
            }
            found: dict[str, list[tuple[float, float]]] = {loop: [] for loop in loops}
            for _ in range(ROUNDS):
                for loop, work in loops.items():
                    found[loop].append(seconds(work, steps))
    return found


def rows(name: str, url: str, threads: int) -> list[str]:
    found, batch = costs(name, url, threads), recipe(name).batch
    middle = {loop: [statistics.median(column) for column in zip(*taken, strict=True)] for loop, taken in found.items()}
    bare_wall, bare_cpu = middle["bare torch loop"]
    lines = [
        f"| {name}, {threads} threads | {loop} | {batch / wall:.1f} | {1000 * wall:.0f} | {1000 * cpu:.0f} | "
        f"{bare_wall / wall:.2f} | {bare_cpu / cpu:.2f} |"
        for loop, (wall, cpu) in middle.items()
    ]
    print("\n".join(lines), file=sys.stderr)
    return lines


def report(url: str) -> list[str]:
    cores = len(os.sched_getaffinity(0))
    lines = [row for name in STEPS for threads in sorted({1, cores}) for row in rows(name, url, threads)]
    return [
        "# How fast super-resolution of faces trains",
        "",
        *machine.lines("taskset -c 0 python benchmarks/faces_speed.py --write", "torch"),
        f"Medians of {ROUNDS} rounds of {' or '.join(map(str, sorted(set(STEPS.values()))))} steps (3 at 128 px), the "
        f"loops taken in turn. Wanted: `fit` at {TARGET} of the bare loop or more; on a busy machine (see the load) "
        "only the fractions mean much, and of those the processor's.",
        "",
        "| recipe | loop | samples/s | ms/step | processor ms/step | of bare, wall | of bare, processor |",
        "|---|---|--:|--:|--:|--:|--:|",
        *lines,
        "",
        "Three steps at 128 px hold one look at the gradients, which `fit` takes every fiftieth. `--fit.bfloat16` "
        "takes channels last too.",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/faces_speed.md")
    parser.add_argument("--store", default="", help="a store of faces of 64 px or more")
    args = parser.parse_args()
    text = "\n".join(report(args.store))
    print(text)
    if args.write:
        machine.publish("faces_speed.md", text)


if __name__ == "__main__":
    main()
