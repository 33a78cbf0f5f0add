"""A recipe on a store, trained by Ray Train workers or in this process."""

import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import ray.train as rt
import torch

from aign.data.progress import progress
from aign.data.store import Store
from aign.data.store.files import one_line
from aign.evaluation.trials import Metric
from aign.framework.errors import StorageError, UserError
from aign.recipes.tasks import Recipe, task_of
from aign.recipes.training import train_recipe
from aign.registry.run_log import RunLog
from aign.registry.system_metrics import SystemMetrics
from aign.registry.tracking import Tracking
from aign.training import FitResult, Hooks
from aign.training.checkpoint import load_state
from aign.training.hooks import LOG
from infra.cluster import cluster, is_own
from infra.patience import patiently, ray_storage
from pipelines.ray_hooks import CHECKPOINT, GiveUp, RayHooks
from pipelines.run_place import CHECKPOINTS, Place, step_at
from pipelines.tracked_hooks import TrackedHooks
from pipelines.workers import EqualTrainer, Workers

BEST = 2
"""Checkpoints that are kept beside the last: the best of the run by its task's objective."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training.

    Attributes:
        recipe: what.
        store_url: on what.
        place: of the run; its folder is absolute, and that folder's name is the run's.
        workers: Ray Train workers; 0: this process, without Ray.
        tracking: MLflow, if the run is to be tracked.
        run_id: of its MLflow run.
    """

    recipe: Recipe
    store_url: str
    place: Place
    workers: Workers = Workers(least=2, most=2)
    tracking: Tracking | None = None
    run_id: str = ""

    def run_log(self) -> RunLog | None:
        """The MLflow log of this run."""
        return RunLog(self.tracking, self.run_id, SystemMetrics()) if self.tracking else None


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A finished training.

    Attributes:
        generator: state of the averaged one.
        metrics: of the last validation.
        steps_per_second: of the loop.
        dead: terms and critics that did nothing (`aign.training.gradients`).
    """

    generator: dict[str, torch.Tensor]
    metrics: dict[str, float]
    steps_per_second: float
    dead: tuple[str, ...]


Ended: TypeAlias = tuple[float, tuple[str, ...]]
"""Of a training, what is in no checkpoint: steps per second, and which terms were dead."""


def ended(result: FitResult) -> Ended:
    """What a worker returns, which has to be small."""
    return result.steps_per_second, result.dead


def run(job: Job, hooks: Hooks) -> FitResult:
    """Train in this process, as the rank that the hooks say."""
    return train_recipe(job.recipe, patiently(lambda: Store.open(job.store_url)), hooks)


def _worker(config: dict[str, Any]) -> Ended:
    torch.set_num_threads(1)
    job: Job = config["job"]
    with at_worker(job.place) as place:
        hooks = RayHooks(place, job.run_log, gpu=job.workers.gpus > 0, worst=config["worst"])
        return ended(run(job, hooks))


@contextmanager
def at_worker(place: Place) -> Iterator[Place]:
    """The same for all workers, but that a run at a URL has a folder of this process's own."""
    if not place.url:
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="aign-run-") as own:
        yield replace(place, folder=Path(own))


def _trainer(job: Job) -> EqualTrainer:
    storage, path = ray_storage(job.place.url) if job.place.url else (None, str(job.place.folder))
    best = best_of(job)
    return EqualTrainer(
        streams=job.recipe.loader_streams,
        train_loop_per_worker=_worker,
        train_loop_config={"job": job, "worst": worst_of(best)},
        torch_config=job.workers.torch,
        scaling_config=job.workers.scaling,
        run_config=rt.RunConfig(
            name=CHECKPOINTS,
            storage_path=path,
            storage_filesystem=storage,
            checkpoint_config=_kept(best),
            failure_config=rt.FailureConfig(max_failures=-1),  # GiveUp counts them
            callbacks=[GiveUp()],
        ),
    )


def _kept(best: Metric | None) -> rt.CheckpointConfig:
    """The best checkpoints, where there is anything to choose by, and always the last one, from which a run goes on."""
    if best is None:
        return rt.CheckpointConfig(num_to_keep=BEST)
    order = "max" if best.higher else "min"
    return rt.CheckpointConfig(num_to_keep=BEST, checkpoint_score_attribute=best.name, checkpoint_score_order=order)


def best_of(job: Job) -> Metric | None:
    """The validation metric that says which checkpoint is better; None where there is nothing to choose by.

    Asked once, by the command: of faces it may have to train the judge.
    """
    store = patiently(lambda: Store.open(job.store_url))
    try:
        return task_of(job.recipe).goal(job.recipe, store).metric
    except UserError:
        return None


def worst_of(best: Metric | None) -> dict[str, float]:
    """The metric that says which checkpoint is better, and its worst value; nothing to choose by: empty."""
    return {best.name: -sys.float_info.max if best.higher else sys.float_info.max} if best else {}


def _on_ray(job: Job) -> tuple[dict[str, Any], Ended]:
    """The last checkpoint and what is in none; the log of a run at a URL is brought into its folder."""
    with _watched(job), _interruptible():
        result = _trainer(job).fit()
    if result.checkpoint is None:
        raise UserError(f"run {job.place.folder.name} reported no checkpoint")
    with result.checkpoint.as_directory() as folder:
        if job.place.url:
            shutil.copyfile(Path(folder) / LOG, job.place.folder / LOG)
        return load_state(Path(folder) / CHECKPOINT), result.return_value


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C stops the workers through Ray's own handler, which leaves the process; here it is the usual exception."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if main:
            signal.signal(signal.SIGINT, before)


@contextmanager
def _watched(job: Job) -> Iterator[None]:
    """Show the steps that rank 0 has logged so far: Ray shows nothing of what its workers print."""
    ended, newest = threading.Event(), step_at(job.place)

    def watch(advance: Callable[[int], None]) -> None:
        shown = 0
        while not ended.wait(2.0 if job.place.url else 0.5):
            step = newest()
            advance(step - shown)
            shown = step
        advance(newest() - shown)

    title = f"train {job.recipe.name} on {job.workers.shown} workers"
    with progress(job.recipe.fit.steps, title, "steps") as advance:
        thread = threading.Thread(target=watch, args=(advance,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def train(job: Job, address: str | None = None) -> Trained:
    """Run a training to its end; a run of the same name and configuration goes on where it was.

    Raises:
        UserError: the configuration differs from the run's, roles overlap, a loss is not finite, the disk is full, the
            workers cannot be had or do not share the streams equally, or workers die again and again.
    """
    if job.workers.most == 0:
        state, (speed, dead) = _here(job)
    else:
        with cluster(address):
            job.workers.check(job.recipe.loader_streams, is_own(address))
            state, (speed, dead) = _unwrapped(job)
    averaged = {
        name.removeprefix("module."): value for name, value in state["ema"].items() if name.startswith("module.")
    }
    generator = task_of(job.recipe).generator_state(averaged)
    return Trained(generator=generator, metrics=dict(state["metrics"]), steps_per_second=speed, dead=dead)


def _here(job: Job) -> tuple[dict[str, Any], Ended]:
    """Without Ray, whose storage is what reaches a URL."""
    if job.place.url:
        raise UserError(f"got run {job.place.url} and --workers 0; allowed for a run at a URL is at least 1 worker")
    device = torch.device("cuda" if job.workers.gpus else "cpu")
    if job.workers.gpus and not torch.cuda.is_available():
        raise UserError(f"got --gpus-per-worker {job.workers.gpus:g}; torch finds no GPU on this machine")
    told = ended(run(job, TrackedHooks(job.place.folder, job.run_log(), device)))
    return load_state(job.place.folder / CHECKPOINT), told


def _unwrapped(job: Job) -> tuple[dict[str, Any], Ended]:
    """A user's mistake found by a worker is told once, in one line, not as a stack of remote tracebacks."""
    try:
        return _on_ray(job)
    except rt.TrainingFailedError as error:
        cause = error.controller_failure if isinstance(error, rt.ControllerError) else None
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, PermissionError) or (isinstance(cause, OSError) and cause.errno is not None):
            why = os.strerror(cause.errno) if cause.errno is not None else one_line(cause)
            raise StorageError(f"cannot write run {job.place.shown}: {why}") from None
        raise
