"""One trial of a search, in a Ray worker: the usual training, which tells Tune of every validation."""

import fcntl
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from ray import tune

from aign.framework.errors import StorageError, UserError
from aign.recipes.search import with_values
from aign.recipes.tasks import Recipe
from aign.registry.run_log import RunLog
from aign.registry.tracking import RunFacts, Tracking
from aign.training.gradients import dead_terms
from pipelines.ray_train import Job, run
from pipelines.run_folder import publish
from pipelines.run_place import Place
from pipelines.tracked_hooks import TrackedHooks
from pipelines.tune_folder import PROGRESS, SearchFolder

REDUCTION = 3
"""Of the trials that got to a cut a third goes on; the cuts are at 1/9 and 1/3 of the steps."""
VALIDATIONS = 9
"""Of a trial, so that the cuts are among them."""
LOCK_SECONDS = 60.0
"""How long a trial waits for a worker whose driver was killed to be gone."""


@dataclass(frozen=True, kw_only=True)
class Searched:
    """What every trial of a search shares; plain data.

    Attributes:
        place: its folder, recipe, steps and goal.
        store_url: what is trained on.
        tracking: MLflow.
        name: of its MLflow run.
        parent: id of that run, in which the trials' are nested.
        facts: tags of the runs.
        gpus: of a trial; more than 0: it computes there.
    """

    place: SearchFolder
    store_url: str
    tracking: Tracking
    name: str
    parent: str
    facts: RunFacts
    gpus: float

    @property
    def every(self) -> int:
        """Steps between validations."""
        return every(self.place.steps)

    def recipe(self, values: Mapping[str, float]) -> Recipe:
        """A trial's, with a trial's steps."""
        recipe = with_values(self.place.recipe, values)
        log_every = min(recipe.fit.log_every, self.every)
        fit = replace(recipe.fit, steps=self.place.steps, validate_every=self.every, log_every=log_every)
        return replace(recipe, fit=fit)


def every(steps: int) -> int:
    """Steps between the validations of a trial of so many: so that the cuts of ASHA are among them."""
    return max(1, -(-steps // VALIDATIONS))


class TuneHooks(TrackedHooks):
    """A trial's folder as a run's, and Tune told of every validation, after its checkpoint is safe.

    Args:
        searched: the search.
        number: of the trial.
        log: of its MLflow run.
    """

    def __init__(self, searched: Searched, number: int, log: RunLog) -> None:
        device = torch.device("cuda" if searched.gpus > 0 else "cpu")
        super().__init__(searched.place.folder(number), log, device)
        self._place, self._number = searched.place, number

    def save(self, step: int, state: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Checkpoint, then tell; Tune may stop the trial there.

        Raises:
            UserError: the goal's metric is not there, or not finite.
        """
        name = self._place.goal.metric.name
        value = metrics.get(name, math.nan)
        if not math.isfinite(value):
            raise UserError(f"{name} is {value if name in metrics else 'not measured'} at step {step}")
        super().save(step, state, metrics)
        dead = dead_terms(state["loudest"])
        publish(self.run_dir / PROGRESS, json.dumps({"step": step, "metrics": dict(metrics), "dead": dead}))
        tune.report({"step": step, name: value})

    def restore(self) -> dict[str, Any] | None:
        """The checkpoint; what was told before it is told again, for a scheduler that knows nothing of it."""
        state = super().restore()
        name = self._place.goal.metric.name
        for row in self._place.validations(self._number):
            tune.report({"step": int(row["step"]), name: row[name]})
        return state


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Train a trial when nobody else does any more; the system frees the lock however a process ends.

    Raises:
        StorageError: somebody still does after `LOCK_SECONDS`.
    """
    handle, until = os.open(folder, os.O_RDONLY), time.monotonic() + LOCK_SECONDS
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise StorageError(f"trial {folder} is still being trained by another process") from None
                time.sleep(0.2)
        yield
    finally:
        os.close(handle)


def run_trial(searched: Searched, number: int, values: Mapping[str, float], run_id: str) -> None:
    """Train a trial to its end, from where it was; a mistake that its numbers make (a loss that is not finite) ends it.

    Raises:
        StorageError: its folder, store or tracking cannot be used, which is no fault of its numbers.
    """
    torch.set_num_threads(1)
    place = searched.place
    folder = place.folder(number)
    with _alone(folder):
        if place.ended(number):  # and Tune could not be told, because MLflow did not answer
            return
        try:
            job = Job(recipe=searched.recipe(values), store_url=searched.store_url, place=Place(folder=folder))
            log = RunLog(searched.tracking, run_id)
            run(job, TuneHooks(searched, number, log))
            log.flush()
        except StorageError:
            raise
        except UserError as error:
            place.end(number, "failed", str(error))
        else:
            place.end(number, "complete")
