"""How long a self-supervised step of motion capture takes beside a supervised one, and the adaptation of a clip.

    python benchmarks/mocap_speed.py [--write] [--rounds N] [--store URL --replay URL]

Both steps are `train_step` with its feed (loader, decoding, augmentation): the recipe mocap-selfsup as it is, 16
labelled and 16 unlabelled windows with every term, critic and the teacher; and its network on 32 labelled windows with
the supervised terms alone. As many pictures, one process, one thread, in turns. What is compared is processor time,
that of the loader's threads with it, which neighbours on the machine lengthen least. Then each part of the
self-supervised step by itself, on batches of its own training; then `adapt` on a clip of 100 frames with its own
settings, but never stopped early: the longest that it can take.
Without --store people are rendered into two small stores.
`--write` puts the figures into benchmarks/results/mocap_speed.md.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import machine
import torch
from torch import Tensor, nn

from aign.body.assets import load_body
from aign.data.datasets.job import run
from aign.data.datasets.synthetic import SyntheticOptions, plan
from aign.data.store import Manifest, Store, commit
from aign.geometry.skeleton import SMPL24
from aign.recipes.mocap import MocapRecipe, load_bodies, new_encoder, prepare
from aign.recipes.mocap_runs import mocap_selfsup
from aign.render.visibility import visible
from aign.tasks.motion_capture import weights
from aign.tasks.motion_capture.clips import read_clips
from aign.tasks.motion_capture.factors import BodyFactors, skinned
from aign.tasks.motion_capture.feed import EVIDENCE_COLUMNS, PICTURE_COLUMNS, MotionCaptureFeed
from aign.tasks.motion_capture.memory import remember
from aign.tasks.motion_capture.nets import EncoderConfig
from aign.tasks.motion_capture.observation import project_px
from aign.tasks.motion_capture.render import BodyRender
from aign.tasks.motion_capture.terms import SUPERVISED, TERMS
from aign.training import FitConfig, LocalHooks
from aign.training.adaptation import AdaptConfig, adapt
from aign.training.fit import start, train_step
from aign.training.state import TrainState

SIDES = (64, 128)
STORE_PX = 128
FRAMES = 2560
CLIP_FRAMES = 16
ADAPTED_FRAMES = 100
STEPS, ROUNDS = 3, 9
PART_ROUNDS = 15
TARGET_RATIO, TARGET_S = 1.5, 300.0
DRAINED_S = 0.15
"""So long the loader's threads are waited for, that what a step made them do is counted with it."""
Run = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Training:
    """One of the two."""

    state: TrainState
    fit: FitConfig
    feed: MotionCaptureFeed

    def step(self) -> None:
        """Its next batch, learned from."""
        train_step(self.state, self.state.aign, self.fit, watched=False)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds by the clock, and of this process's processor time."""

    wall: float
    cpu: float


def rendered(url: str, options: SyntheticOptions) -> Store:
    """People as `aign preprocess demo-motions --dataset synthetic` renders them, without Ray."""
    records = [record for number, job in enumerate(plan(options)) for record in run(job, url, number)]
    commit(url, Manifest(skeleton="smpl24", num_joints=24).updated(records))
    return Store.open(url)


def people(url: str, domain: str, seed: int) -> str:
    options = SyntheticOptions(
        **{"frames": FRAMES, "clip_frames": CLIP_FRAMES, "side_px": STORE_PX, "seed": seed, "domain": domain},
        keypoints="detector",
    )
    return rendered(url, options).url


def recipes(side_px: int, replay: str) -> tuple[MocapRecipe, MocapRecipe]:
    """Supervised, self-supervised."""
    full = replace(mocap_selfsup(), replay=replay)
    full = replace(full, task=replace(full.task, encoder=replace(full.task.encoder, side_px=side_px)))
    labels = weights(**{name: full.task.weights[name] for name in SUPERVISED})
    pictures = full.labelled_batch + full.unlabelled_batch
    alone = replace(full, task=replace(full.task, weights=labels), labelled_batch=pictures, unlabelled_batch=0)
    return alone, full


def begun(recipe: MocapRecipe, store: Store, folder: Path) -> Training:
    hooks = LocalHooks(folder / f"{recipe.task.encoder.side_px}-{recipe.unlabelled_batch}")
    training = prepare(recipe, store, hooks)
    state = start(training.aign, training.feed, recipe.fit, hooks.device)
    return Training(state=state, fit=recipe.fit, feed=training.feed)


def cost(work: Run, times: int) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        work()
    wall = time.perf_counter() - wall
    time.sleep(DRAINED_S)
    return Cost(wall=wall / times, cpu=(time.process_time() - cpu) / times)


def in_turns(runs: Mapping[str, Run], rounds: int, times: int) -> dict[str, list[Cost]]:
    """All once before, then round by round."""
    found: dict[str, list[Cost]] = {name: [] for name in runs}
    for i in range(rounds + 1):
        for name, work in runs.items():
            took = cost(work, times)
            if i:
                found[name].append(took)
    return found


def leaves(z: BodyFactors) -> BodyFactors:
    return BodyFactors(**{name: value.detach().clone().requires_grad_() for name, value in vars(z).items()})


def pulled(*outputs: Tensor) -> None:
    """Backward from outputs, each pulled at as if by noise."""
    generator = torch.Generator().manual_seed(0)
    torch.autograd.backward(outputs, [torch.randn(x.shape, generator=generator) for x in outputs])


def parts(training: Training, body_px: int) -> dict[str, Run]:
    """Each part of a self-supervised step, forward and backward where it goes back; together they are the step."""
    aign, state, batch = training.state.aign, training.state, training.feed.next()
    z = aign.encode(batch).detach()
    count = len(BodyRender(z=z, seen=batch, body=load_body()).evidence.mask)
    intrinsics = batch.intrinsics_px[-count:]
    size = (3 * body_px, 3 * body_px)
    pupil: nn.Module = aign.encode

    def render(factors: BodyFactors) -> BodyRender:
        rendered: BodyRender = aign.render(factors, batch)
        return rendered

    surface = render(z).surface
    vertices = skinned(z.last(count), load_body()).vertices_m
    lens = (intrinsics + intrinsics.new_tensor((0, 0, body_px, body_px))).repeat_interleave(z.rotmats.shape[1], 0)

    def encoder() -> None:
        pulled(*vars(pupil(batch)).values())

    def skinning() -> None:
        leaf = leaves(z)
        points = skinned(leaf.last(count), load_body()).vertices_m
        pulled(project_px(points.reshape((*surface.vertices_px.shape[:3], 3)), intrinsics))

    def of_surface(name: str) -> Run:
        def term() -> None:
            leaf = surface.vertices_px.detach().clone().requires_grad_()
            made = render(z)
            vars(made)["surface"] = replace(surface, vertices_px=leaf)  # as its cached property would keep it
            TERMS[name](batch, z, made).mean().backward()

        return term

    def other_terms() -> None:
        leaf = leaves(z)
        made = render(leaf)
        names = ("keypoints", "smooth", *SUPERVISED)
        torch.stack([aign.weights[n] * aign.terms[n](batch, leaf, made).mean() for n in names]).sum().backward()

    def heard() -> None:
        leaf = leaves(z)
        for critic in aign.playing.values():
            critic.net.requires_grad_(False)
        losses = [c.game.generator(c.net(c.view(leaf, batch))).mean() for c in aign.playing.values()]
        torch.stack(losses).sum().backward()
        for critic in aign.playing.values():
            critic.net.requires_grad_(True)

    def critics() -> None:
        for loss in aign.critic_losses(batch, z).values():
            loss.backward()
        for name in aign.playing:
            state.optimizers[name].step()

    def update() -> None:
        nn.utils.clip_grad_norm_(pupil.parameters(), training.fit.clip_norm)
        state.optimizers["encode"].step()
        state.ema.update_parameters(pupil)

    return {
        "loader, decoding, augmentation": training.feed.next,
        "encoder": encoder,
        "teacher: `teacher`, forward alone": lambda: aign.terms["teacher"](batch, z, render(z)),
        "skinning and projection": skinning,
        "visibility": lambda: visible(vertices, load_body().faces, lens, size),
        "segmentation": of_surface("segmentation"),
        "motion": of_surface("motion"),
        "labels, keypoints, smoothness": other_terms,
        "critics, as the generator hears them": heard,
        "critics' own step": critics,
        "generator's clipping, Adam, average": update,
    }


def row(name: str, costs: list[Cost]) -> str:
    cpu, wall = sorted(1e3 * c.cpu for c in costs), statistics.median(c.wall for c in costs)
    return f"| {name} | {statistics.median(cpu):.0f} | {cpu[0]:.0f} | {1 / wall:.2f} |"


def step_lines(side_px: int, store: Store, replay: str, folder: Path, rounds: int) -> list[str]:
    alone, full = (begun(recipe, store, folder) for recipe in recipes(side_px, replay))
    with closing(alone.feed), closing(full.feed):
        for _ in range(3):  # critics and encoder are no longer as they were drawn
            alone.step(), full.step()
        took = in_turns({"supervised": alone.step, "self-supervised": full.step}, rounds, STEPS)
        each = in_turns(parts(full, STORE_PX), PART_ROUNDS, 1)
    ratio = [f.cpu / a.cpu for a, f in zip(took["supervised"], took["self-supervised"], strict=True)]
    least = min(c.cpu for c in took["self-supervised"]) / min(c.cpu for c in took["supervised"])
    middle = {name: 1e3 * statistics.median(c.cpu for c in costs) for name, costs in each.items()}
    whole = 1e3 * statistics.median(c.cpu for c in took["self-supervised"])
    rows = [f"| {name} | {ms:.0f} | {ms / whole:.0%} |" for name, ms in middle.items()]
    return [
        f"## {side_px} px",
        "",
        "| step | processor ms, median | least | steps/s by the clock, median |",
        "|:--|--:|--:|--:|",
        *(row(name, costs) for name, costs in took.items()),
        "",
        f"**{statistics.median(ratio):.2f}** times the supervised step (median of {rounds} rounds of {STEPS} steps; "
        f"{min(ratio):.2f} to {max(ratio):.2f}; least over least {least:.2f}). Wanted: at most {TARGET_RATIO}.",
        "",
        "| part of the self-supervised step | ms, median | of it |",
        "|:--|--:|--:|",
        *rows,
        f"| together | {sum(middle.values()):.0f} | {sum(middle.values()) / whole:.0%} |",
        "",
    ]


def adaptation_lines(folder: Path) -> list[str]:
    options = SyntheticOptions(
        **{"frames": 8 * ADAPTED_FRAMES, "clip_frames": ADAPTED_FRAMES, "side_px": STORE_PX, "seed": 3},
        domain="target",
        keypoints="detector",
    )
    store = rendered(str(folder / "clip"), options)
    clip = max(read_clips(store, {**PICTURE_COLUMNS, **EVIDENCE_COLUMNS}), key=lambda c: c.key.num_frames)
    bodies = load_bodies(store, None)
    config = AdaptConfig()
    config = replace(config, patience=config.steps)
    rows = []
    for side_px in SIDES:
        encoder = new_encoder(EncoderConfig(side_px=side_px), bodies)
        wall, cpu = time.perf_counter(), time.process_time()
        adapted = adapt(encoder, clip, SMPL24, load_body(), remember(bodies, config.frames), config)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        looks = len(adapted.history)
        rows.append(
            f"| {side_px} | {clip.key.num_frames} | {adapted.history[-1].step} | {looks} | {cpu:.0f} | {wall:.0f} |"
        )
    return [
        "## Adaptation of one clip",
        "",
        "| px | frames | steps | looks at what is held out | processor s | s by the clock |",
        "|--:|--:|--:|--:|--:|--:|",
        *rows,
        "",
        f"One thread. Wanted: at most {TARGET_S:.0f} s by the clock on two cores.",
        "",
    ]


def report(url: str, replay: str, rounds: int) -> list[str]:
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = Store.open(url or people(str(folder / "target"), "target", 2))
        replay = replay or people(str(folder / "source"), "source", 1)
        for side_px in SIDES:
            lines += step_lines(side_px, store, replay, folder, rounds)
        lines += adaptation_lines(folder)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default="", help="of unlabelled people")
    parser.add_argument("--replay", default="", help="of labelled people")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often both steps run")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/mocap_speed.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.manual_seed(0)
    first = machine.lines("python benchmarks/mocap_speed.py --write", "torch", "numba", "opencv-python-headless")
    text = "\n".join(
        [
            "# How fast motion capture learns",
            "",
            f"32 windows of {mocap_selfsup().frames} frames in a step, the recipe's network at two sizes of picture; "
            f"stored pictures of {STORE_PX} px.",
            "",
            *report(arguments.store, arguments.replay, arguments.rounds),
            *first,
        ]
    )
    print(text)
    if arguments.write:
        machine.publish("mocap_speed.md", text)


if __name__ == "__main__":
    main()
