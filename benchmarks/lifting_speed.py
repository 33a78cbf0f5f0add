"""How fast lifters train and answer: `python benchmarks/lifting_speed.py [--write]`.

Training: `fit` (loader, augmentation, every term and critic, checks, average, log; no checkpoints) against a bare
torch loop of the same networks on one resident batch (forward, backward, fused Adam, nothing else), one thread each,
taken in turn.
Answers: poses per second of `lift` and of the exported ONNX file on one core, and how far apart they are.
With a GPU: both loops on it, and the bare one as a CUDA graph. Without: said so.
`--write` puts the tables into `benchmarks/results/lifting_speed.md`.
"""

import argparse
import copy
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from torch import nn

from aign.data.datasets.job import run
from aign.data.sources import plan
from aign.data.store import Manifest, Store, commit
from aign.framework.aign import Aign
from aign.geometry.camera import Pinhole
from aign.inference.onnx_lifter import OnnxPredictor, export_onnx
from aign.inference.package import ModelCard, save_package
from aign.recipes import recipe
from aign.recipes.lifting import LiftingRecipe, prepare
from aign.tasks.lifting import LifterConfig, build_lifter, lift
from aign.tasks.lifting.frames import Frames
from aign.tasks.lifting.nets import Lifter
from aign.tasks.lifting.observation import Observation
from aign.training import LocalHooks, fit

ROUNDS, STEPS, HALF_BATCH, WIDTH = 5, 60, 128, 512
TARGET_RATIO, TARGET_M = 1.3, 1e-4
EPOCH_POSES = 1_560_000
"""VideoPose3D's epoch: every frame of Human3.6M's five training subjects and four cameras at 50 Hz."""
BATCHES = (1, 64, 4096)
SECONDS = 1.0
"""Each answer is asked for again for so long."""
Step = Callable[[], None]


def demo_store(url: str) -> Store:
    """The embedded motions, without Ray."""
    records = [record for number, job in enumerate(plan("demo-motions")) for record in run(job, url, number)]
    commit(url, Manifest(skeleton="h36m17", num_joints=17).updated(records))
    return Store.open(url)


class Unsaved(LocalHooks):
    """Without checkpoints: neither loop has them."""

    def save(self, step: int, state: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Nothing."""


def measured_recipe() -> LiftingRecipe:
    """The demo's data under the networks that Human3.6M is trained with."""
    base = recipe("lifting-demo")
    task = dataclasses.replace(base.task, lifter=LifterConfig(width=WIDTH))
    length = dataclasses.replace(base.fit, steps=STEPS, validate_every=STEPS)
    return dataclasses.replace(base, task=task, labelled_batch=HALF_BATCH, unlabelled_batch=HALF_BATCH, fit=length)


def bare_step(aign: Aign, batch: Observation, capturable: bool = False) -> Step:
    """The networks alone: a generator and a critic step, the labels as the only term."""

    def adam(net: nn.Module) -> torch.optim.Adam:
        return torch.optim.Adam(net.parameters(), lr=1e-4, fused=True, capturable=capturable)

    lifter, critics = copy.deepcopy(aign.encode), {n: copy.deepcopy(c.net) for n, c in aign.playing.items()}
    adam_g, adams = adam(lifter), {name: adam(net) for name, net in critics.items()}
    real = {name: c.memory.values[: len(batch.conf)].contiguous() for name, c in aign.playing.items()}

    def step() -> None:
        z = lifter(batch)
        views = {name: aign.critics[name].view(z, batch) for name in critics}
        for net in critics.values():
            net.requires_grad_(False)
        fooled = sum((net(views[name]) - 1).square().mean() for name, net in critics.items())
        adam_g.zero_grad()
        ((z.centred_m - batch.joints_m).square().mean() + fooled + 0.01 * z.trans_m.square().mean()).backward()
        adam_g.step()
        for name, net in critics.items():
            net.requires_grad_(True)
            made, true = net(torch.cat((views[name].detach(), real[name]))).split((len(batch.conf), len(real[name])))
            adams[name].zero_grad()
            (made.square().mean() + (true - 1).square().mean()).backward()
            adams[name].step()

    return step


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one step, seconds: by the clock, and of this process's processor time, which neighbours do not lengthen."""

    wall: float
    cpu: float


def cost(work: Callable[[], object], steps: int) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost((time.perf_counter() - wall) / steps, (time.process_time() - cpu) / steps)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def training_costs(root: Path, device: torch.device) -> tuple[list[Cost], list[Cost], Aign, Observation]:
    """Rounds of the bare loop and of `fit`, in turn."""
    chosen, hooks = measured_recipe(), Unsaved(root / device.type, device=device)
    training = prepare(chosen, demo_store(str(root / f"store-{device.type}")), hooks)
    with closing(training.feed) as feed:
        batch = feed.next()
        training.aign.encode.to(device)
        resident = training.aign.map_nets(lambda net: net.to(device))
        moved = {
            name: dataclasses.replace(c, memory=dataclasses.replace(c.memory, values=c.memory.values.to(device)))
            for name, c in resident.critics.items()
        }
        resident = dataclasses.replace(resident, critics=moved)
        step = bare_step(resident, batch)

        def bare() -> None:
            for _ in range(STEPS):
                step()
            wait(device)

        def ours() -> None:
            fit(training.aign, feed, chosen.fit, hooks, lambda _: {}, {})
            wait(device)

        bare(), ours()  # caches, and the store's row groups
        rounds = [(cost(bare, STEPS), cost(ours, STEPS)) for _ in range(ROUNDS)]
    return [b for b, _ in rounds], [o for _, o in rounds], resident, batch


def training_lines(bare: list[Cost], ours: list[Cost]) -> list[str]:
    rows, middle = [], {}
    for name, costs in (("bare torch loop", bare), ("`fit`", ours)):
        rates = sorted(1 / c.wall for c in costs)
        middle[name] = statistics.median(c.cpu for c in costs)
        epoch = EPOCH_POSES / (2 * HALF_BATCH) / statistics.median(rates)
        rows.append(
            f"| {name} | {statistics.median(rates):.1f} | {rates[0]:.1f} to {rates[-1]:.1f} | "
            f"{1000 * middle[name]:.1f} | {2 * HALF_BATCH * statistics.median(rates):,.0f} | {epoch:,.0f} |"
        )
    wall = statistics.median(o.wall / b.wall for b, o in zip(bare, ours, strict=True))
    cpu = statistics.median(o.cpu / b.cpu for b, o in zip(bare, ours, strict=True))
    return [
        "| loop | steps/s, median | range | processor ms/step | poses/s | s per epoch of 1.56 M poses |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        f"`fit` takes {cpu:.2f} times the processor time of the bare loop (wanted: at most {TARGET_RATIO}) and "
        f"{wall:.2f} times its wall time; medians of {ROUNDS} rounds of {STEPS} steps.",
    ]


def clip(frames: int) -> Frames:
    rng = torch.Generator().manual_seed(0)
    camera = Pinhole.of(
        torch.tensor((1145.0, 1144.0, 512.0, 515.0)).repeat(frames, 1),
        torch.tensor((-0.2, 0.24, -0.002, -0.001, -0.002)).repeat(frames, 1),
    )
    kp2d_px = 500 + 100 * torch.randn(frames, 17, 2, generator=rng)
    return Frames(kp2d_px=kp2d_px, conf=torch.ones(frames, 17), camera=camera, clip=torch.zeros(frames).long())


def exported(lifter: Lifter, config: LifterConfig, folder: Path) -> OnnxPredictor:
    blank = ModelCard(network=config, recipe="", store_hash="", sequences={}, licences=(), protocol="", metrics={})
    save_package(folder, lifter, blank)
    export_onnx(folder, folder / "lifter.onnx")
    return OnnxPredictor.of(folder / "lifter.onnx", threads=1)


def rate(answer: Callable[[], object], poses: int) -> float:
    answer()
    began, asked = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        answer()
        asked += 1
    return poses * asked / (time.perf_counter() - began)


def answer_row(lifter: Lifter, file: OnnxPredictor, batch: int) -> str:
    given = clip(batch)
    lens = torch.cat((given.camera.focal_px, given.camera.centre_px), dim=1).numpy()
    arrays = (given.kp2d_px.numpy(), given.conf.numpy(), lens, given.camera.distortion.numpy())

    def by_torch() -> torch.Tensor:
        return lift(lifter, given)

    def by_onnx() -> np.ndarray:
        return file.predict(*arrays)

    gap = float((torch.from_numpy(by_onnx()) - by_torch()).abs().max())
    assert gap <= TARGET_M, gap
    rates = [(rate(by_torch, batch), rate(by_onnx, batch)) for _ in range(3)]
    torch_rate, onnx_rate = (statistics.median(column) for column in zip(*rates, strict=True))
    return f"{batch:,} | {torch_rate:,.0f} | {onnx_rate:,.0f} | {onnx_rate / torch_rate:.1f}x | {gap:.0e} |"


def inference_lines(root: Path) -> list[str]:
    lines = ["| lifter | frames asked for at once | torch, poses/s | ONNX, poses/s | ratio | largest difference, m |"]
    lines += ["|---|---|---|---|---|---|"]
    for frames in (1, 27):
        config = LifterConfig(width=WIDTH, frames=frames)
        lifter = build_lifter(config, 0.3 * torch.randn(200, 17, 3, generator=torch.Generator().manual_seed(0)))
        file = exported(lifter.eval(), config, root / f"package-{frames}")
        sees = f"sees {frames} frame{'s' * (frames > 1)}"
        lines += [f"| {sees} | {answer_row(lifter, file, batch)}" for batch in BATCHES]
    return lines


def gpu_lines(root: Path) -> list[str]:
    """Both loops on the GPU, and the bare one without launches: as a CUDA graph."""
    if not torch.cuda.is_available():
        return ["Not run: this machine has no GPU. Nothing is claimed of one."]
    device = torch.device("cuda")
    bare, ours, aign, batch = training_costs(root, device)
    step = bare_step(aign, batch, capturable=True)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # CUDA graphs want a few steps on another stream before they record
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def replayed() -> None:
        for _ in range(STEPS):
            graph.replay()
        wait(device)

    replayed()
    seconds = statistics.median(cost(replayed, STEPS).wall for _ in range(ROUNDS))
    eager = statistics.median(c.wall for c in bare)
    return [
        *training_lines(bare, ours),
        "",
        f"{torch.cuda.get_device_name()}: the bare loop as a CUDA graph takes {1000 * seconds:.2f} ms a step; so "
        f"{1 - seconds / eager:.0%} of the eager loop's {1000 * eager:.2f} ms are launches.",
    ]


def report() -> list[str]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        bare, ours, _, _ = training_costs(root, torch.device("cpu"))
        answers, gpu = inference_lines(root), gpu_lines(root)
    return [
        "# How fast lifters train and answer",
        "",
        *machine.lines("python benchmarks/lifting_speed.py --write", "torch", "onnxruntime"),
        f"## Training, one thread: width {WIDTH}, 2 blocks, {HALF_BATCH} labelled and {HALF_BATCH} unlabelled poses",
        "",
        *training_lines(bare, ours),
        "",
        "Published, on OTHER hardware and for another network, so no comparison of methods: VideoPose3D takes 18, 8.3 "
        "and 4.5 minutes (1,080, 500 and 270 s) per epoch with 243, 81 and 27 frames on a high-end Pascal GPU (24, 11 "
        "and 6 h for 80 epochs: README of facebookresearch/VideoPose3D).",
        "",
        f"## Answers, one core: width {WIDTH}",
        "",
        *answers,
        "",
        "torch: `aign.tasks.lifting.lift`. ONNX: `OnnxPredictor.predict`, its checks of the input included. Wall "
        "time, taken in turn: on a busy machine (see the load) only the ratios mean much.",
        "",
        "## GPU",
        "",
        *gpu,
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/lifting_speed.md")
    args = parser.parse_args()
    text = "\n".join(report())
    print(text)
    if args.write:
        machine.publish("lifting_speed.md", text)


if __name__ == "__main__":
    main()
