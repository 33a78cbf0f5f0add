"""Trainings of faces in float64, and one in bfloat16, as one process or as a rank of several gloo processes."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from aign.data.store import Store
from aign.recipes import faces_runs
from aign.recipes.faces import FaceTraining, InpaintingRecipe, SuperResolutionRecipe
from aign.recipes.tasks import task_of
from aign.tasks.faces import inpainting, superresolution
from aign.training import FitConfig, LocalHooks, fit
from aign.training.state import Feed
from tests.distributed.ranks import RankHooks

STEPS = 10
BFLOAT16 = "bfloat16"
"""A run of super-resolution whose networks compute in it."""


class Wide:
    """A feed whose batches are in float64."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed

    def next(self) -> Any:
        batch = self.feed.next()
        return replace(batch, **{f.name: getattr(batch, f.name).double() for f in fields(batch)})

    def state_dict(self) -> dict[str, Any]:
        return self.feed.state_dict()

    def load_state_dict(self, state: Any) -> None:
        self.feed.load_state_dict(state)


def recipes() -> dict[str, SuperResolutionRecipe | InpaintingRecipe]:
    """Everything on, on toy faces of 32 px, made small."""
    short = FitConfig(steps=STEPS, lr=5e-3, critic_lr=5e-3, validate_every=STEPS, log_every=5)
    small = {"batch": 8, "fit": short}
    low = faces_runs.superresolution_tiny()
    critic = replace(low.task.critic, channels=8, patches=True)
    task = replace(
        low.task,
        generator=replace(low.task.generator, channels=8, blocks=1),
        critic=critic,
        weights=superresolution.weights(render=10.0, paired=1.0, cycle=1.0, critic=0.1),
    )
    fill = faces_runs.inpainting_recipe()
    surgery = replace(
        fill.task,
        generator=replace(fill.task.generator, side_px=32, channels=8, blocks=1),
        critic=critic,
        weights=inpainting.weights(render=10.0, paired=1.0, critic=0.1),
    )
    return {
        "superresolution": replace(low, bias="sex=male", task=task, **small),
        "inpainting": replace(fill, bias="lips>q50", memory_share=0.5, task=surgery, **small),
    }


def train(name: str, url: str, hooks: LocalHooks) -> None:
    """Into hooks.run_dir: checkpoint.pt and metrics.jsonl."""
    lean = name == BFLOAT16
    made = recipes()["superresolution" if lean else name]
    training: FaceTraining = task_of(made).prepare(made, Store.open(url), hooks)
    if lean:
        fit(training.aign, training.feed, replace(made.fit, bfloat16=True), hooks, lambda _: {}, {})
    else:
        aign = training.aign.map_nets(lambda net: net.double())
        fit(aign, Wide(training.feed), made.fit, hooks, lambda _: {}, {})
    training.feed.close()


def rank(number: int, world: int, url: str, folder: str) -> None:
    """Entry of a spawned process."""
    torch.set_num_threads(1)
    torch.manual_seed(number)  # nothing may depend on the process's own random state
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=number, world_size=world)
    for name in (*recipes(), BFLOAT16):
        train(name, url, RankHooks(Path(folder) / name / f"rank{number}", number, world))
    distributed.destroy_process_group()
