"""Small trainings on the demo store, and processes that die while they train."""

import dataclasses
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from aign.data.store import Store
from aign.recipes.lifting import LiftingRecipe, lifting_demo, prepare
from aign.tasks.lifting import LifterConfig
from aign.training import FitConfig, FitResult, Hooks, LocalHooks, fit
from aign.training.identity import flatten


def small(steps: int = 12, **fit_options: Any) -> LiftingRecipe:
    """The demo's recipe with everything on, made small: 12 steps, checkpoints after 5, 10 and 12."""
    recipe = lifting_demo()
    task = dataclasses.replace(recipe.task, lifter=LifterConfig(components=8, width=24, blocks=1), critic_width=16)
    options = {"steps": steps, "log_every": 2, "validate_every": 5, **fit_options}
    return dataclasses.replace(recipe, task=task, labelled_batch=16, unlabelled_batch=24, fit=FitConfig(**options))


def weighted(recipe: LiftingRecipe, **weights: float) -> LiftingRecipe:
    task = dataclasses.replace(recipe.task, weights={**recipe.task.weights, **weights})
    return dataclasses.replace(recipe, task=task)


def train(recipe: LiftingRecipe, store: Store, hooks: Hooks) -> FitResult:
    """What `pipelines.ray_train.run` does."""
    training = prepare(recipe, store, hooks)
    try:
        identity = {**flatten(recipe), "store_hash": store.hash}
        return fit(training.aign, training.feed, recipe.fit, hooks, training.validate, identity)
    finally:
        training.feed.close()


class KilledError(RuntimeError):
    pass


@dataclass
class DyingHooks(LocalHooks):
    """Raises when it is to log `at_log`; kills its own process before or after the checkpoint `at_save`."""

    at_log: int = -1
    at_save: int = -1
    moment: str = ""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if step == self.at_log:
            raise KilledError
        super().log(step, metrics)

    def save(self, step: int, state: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        if step == self.at_save and self.moment == "before":
            die()
        if step == self.at_save and self.moment == "during":
            Path.replace = lambda *_: die()  # written, not yet published
        super().save(step, state, metrics)
        if step == self.at_save:
            die()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(url: str, run_dir: str, at_save: str, moment: str) -> None:
    """In a process of its own: train until killed."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    hooks = DyingHooks(Path(run_dir), at_save=int(at_save), moment=moment)
    train(small(), Store.open(url), hooks)


if __name__ == "__main__":
    main(*sys.argv[1:])
