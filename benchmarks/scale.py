"""What grows with a cluster, from the code itself: `python benchmarks/scale.py [--write]`.

Of each recipe the bytes of gradients that a step averages over its workers, and the bytes of a checkpoint; the time of
such an average between two gloo processes on this machine; and what a part of a store costs the manifest that the
driver commits. `--write` puts it into `benchmarks/results/scale.md`.
"""

import argparse
import io
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import machine
import torch
from torch import nn
from torch.multiprocessing import spawn

from aign.body.assets import load_body
from aign.data.datasets.job import run
from aign.data.sources import plan
from aign.data.store import Manifest, commit
from aign.framework.aign import Aign
from aign.inference.package import blank
from aign.recipes import RECIPES, recipe
from aign.recipes.faces import SuperResolutionRecipe
from aign.recipes.lifting import LiftingRecipe
from aign.recipes.mocap import MocapRecipe
from aign.recipes.tasks import Recipe, task_of
from aign.tasks import lifting, motion_capture
from aign.tasks.faces import inpainting, superresolution
from aign.tasks.faces.critic import Remembered
from aign.tasks.lifting.factors import PoseMemory
from aign.tasks.motion_capture.memory import BodyMemory
from aign.training.state import averaged, nets

ROUNDS, COMMITS = 50, 3
PARTS = (100, 1_000, 10_000)


def problem(chosen: Recipe) -> Aign[Any, Any, Any]:
    """The networks of a recipe, untrained, with a memory of noise: sizes do not depend on it."""
    if isinstance(chosen, LiftingRecipe):
        poses = torch.randn(50, 17, 3)
        memory = PoseMemory(
            canonical_m=poses,
            camera_6d=torch.randn(50, 6),
            seen2d=poses[..., :2].contiguous(),
            shown=torch.ones(17, dtype=torch.bool),
        )
        return lifting.build(chosen.task, memory)
    network = task_of(chosen).network(chosen)
    generator: Any = blank(network)
    if isinstance(chosen, MocapRecipe):
        frames = max(chosen.frames, 2)
        known = BodyMemory(pose=torch.randn(9, 23, 9), betas=torch.randn(9, 10), motion=torch.randn(9, frames, 147))
        return motion_capture.build(chosen.task, generator, load_body(), known)
    side_px = chosen.task.generator.side_px
    remembered = Remembered(pictures=torch.zeros(1, 3, side_px, side_px, dtype=torch.uint8))
    if isinstance(chosen, SuperResolutionRecipe):
        return superresolution.build(chosen.task, generator, remembered)
    return inpainting.build(chosen.task, generator, remembered)


def size_bytes(net: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in net.parameters() if p.requires_grad)


def gradients(aign: Aign[Any, Any, Any]) -> tuple[int, int]:
    """Bytes that a step averages: the generator's, and those of the critics that play."""
    return size_bytes(aign.encode), sum(size_bytes(aign.critics[name].net) for name in aign.playing)


def checkpoint_bytes(aign: Aign[Any, Any, Any]) -> int:
    """Networks, average and Adam's two moments as they are saved; the few kB of positions are left out."""
    saved: dict[str, Any] = {"ema": averaged(aign.encode, 0.9).state_dict()}
    for name, net in nets(aign).items():
        optimizer = torch.optim.Adam(net.parameters())
        if name in ("encode", *aign.playing):
            for parameter in net.parameters():
                parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
        saved[name] = (net.state_dict(), optimizer.state_dict())
    content = io.BytesIO()
    torch.save(saved, content)
    return content.tell()


def _average(rank: int, port_file: str, sizes: list[int], results: Any) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{port_file}", rank=rank, world_size=2)
    for number, size in enumerate(sizes):
        values = torch.zeros(max(size // 4, 1))
        seconds = []
        for _ in range(ROUNDS):
            torch.distributed.barrier()
            began = time.perf_counter()
            torch.distributed.all_reduce(values)
            seconds.append(time.perf_counter() - began)
        if rank == 0:
            results[number] = min(seconds)
    torch.distributed.destroy_process_group()


def average_seconds(sizes: list[int]) -> list[float]:
    """Best time of an all-reduce of so many bytes between two processes."""
    with tempfile.TemporaryDirectory() as folder:
        results = torch.zeros(len(sizes), dtype=torch.float64).share_memory_()
        spawn(_average, args=(f"{folder}/meet", sizes, results), nprocs=2)
        return [float(value) for value in results]


def manifest_costs() -> list[tuple[int, float, float]]:
    """By number of parts: bytes of the manifest a part, seconds of a commit."""
    with tempfile.TemporaryDirectory() as url:
        record = run(plan("demo-motions")[0], url, 0)[0]
        rows = []
        for count in PARTS:
            parts = [replace(record, part=number) for number in range(count)]
            manifest = Manifest(skeleton="h36m17", num_joints=17).updated(parts)
            seconds = []
            for _ in range(COMMITS):
                began = time.perf_counter()
                commit(url, manifest)
                seconds.append(time.perf_counter() - began)
            rows.append((count, len(manifest.to_json()) / count, min(seconds)))
        return rows


def table(found: Mapping[str, tuple[int, int, int]], seconds: Mapping[str, float]) -> list[str]:
    rows = [
        f"| {name} | {g / 1e6:.2f} | {c / 1e6:.2f} | {(g + c) / 1e6:.2f} | {saved / 1e6:.1f} | "
        f"{1e3 * seconds[name]:.1f} |"
        for name, (g, c, saved) in found.items()
    ]
    return [
        "| recipe | generator, MB | critics, MB | averaged a step, MB | checkpoint, MB | average of 2 processes, ms |",
        "|:--|--:|--:|--:|--:|--:|",
        *rows,
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    found = {}
    for name in RECIPES:
        aign = problem(recipe(name))
        found[name] = (*gradients(aign), checkpoint_bytes(aign))
    sizes = sorted({g + c for g, c, _ in found.values()})
    took = dict(zip(sizes, average_seconds(sizes), strict=True))
    text = "\n".join([
        "# What grows with a cluster",
        "",
        *table(found, {name: took[g + c] for name, (g, c, _) in found.items()}),
        "",
        "Exact: every trained parameter is a float32 whose gradient is averaged once a step. The last column is gloo's",
        "all-reduce over this machine's loopback, best of 50: what the method costs before any network.",
        "",
        "| parts in a store | bytes of manifest a part | one commit, s |",
        "|--:|--:|--:|",
        *(f"| {count:,} | {per:.0f} | {seconds:.3f} |" for count, per, seconds in manifest_costs()),
        "",
        "A commit is the driver's, to a local disk, best of 3; commits take at most 2 % of its time.",
        "",
        *machine.lines("python benchmarks/scale.py --write", "torch", "numpy"),
    ])  # fmt: skip
    print(text)
    if write:
        machine.publish("scale.md", text)


if __name__ == "__main__":
    main()
