"""A recipe on a store, trained by Ray Train workers or in this process."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import ray.train as rt
import torch
from ray.train.torch import TorchConfig, TorchTrainer

from aign.data.progress import progress
from aign.data.store import Store
from aign.framework.errors import StorageError, UserError
from aign.recipes.tasks import Recipe, task_of
from aign.registry.run_log import RunLog
from aign.registry.system_metrics import SystemMetrics
from aign.registry.tracking import Tracking
from aign.training import FitResult, Hooks, fit
from aign.training.checkpoint import load_state
from aign.training.hooks import last_step
from aign.training.identity import flatten
from infra.cluster import cluster
from pipelines.ray_hooks import CHECKPOINT, GiveUp, RayHooks
from pipelines.tracked_hooks import TrackedHooks

MAX_FAILURES = 2
"""How often all workers start again from the last checkpoint after one of them died."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training.

    Attributes:
        recipe: what.
        store_url: on what.
        run_dir: absolute folder of the run; its name is the run's name.
        workers: Ray Train workers; 0: this process, without Ray.
        tracking: MLflow, if the run is to be tracked.
        run_id: of its MLflow run.
    """

    recipe: Recipe
    store_url: str
    run_dir: Path
    workers: int = 2
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
    store = Store.open(job.store_url)
    training = task_of(job.recipe).prepare(job.recipe, store, hooks)
    identity = {**flatten(job.recipe), "store_hash": store.hash}
    try:
        return fit(training.aign, training.feed, job.recipe.fit, hooks, training.validate, identity)
    finally:
        training.feed.close()


def _worker(config: dict[str, Any]) -> Ended:
    torch.set_num_threads(1)
    job: Job = config["job"]
    return ended(run(job, RayHooks(job.run_dir, job.run_log)))


def _on_ray(job: Job) -> tuple[Path, Ended]:
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=rt.ScalingConfig(num_workers=job.workers, resources_per_worker={"CPU": 1}),
        run_config=rt.RunConfig(
            name="ray",
            storage_path=str(job.run_dir),
            checkpoint_config=rt.CheckpointConfig(num_to_keep=2),
            failure_config=rt.FailureConfig(max_failures=MAX_FAILURES),
            callbacks=[GiveUp()],
        ),
    )
    with _watched(job), _interruptible():
        result = trainer.fit()
    if result.checkpoint is None:
        raise UserError(f"run {job.run_dir.name} reported no checkpoint")
    return Path(result.checkpoint.path), result.return_value


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
    ended = threading.Event()

    def watch(advance: Callable[[int], None]) -> None:
        shown = 0
        while not ended.wait(0.5):
            step = last_step(job.run_dir)
            advance(step - shown)
            shown = step
        advance(last_step(job.run_dir) - shown)

    with progress(job.recipe.fit.steps, f"train {job.recipe.name} on {job.workers} workers", "steps") as advance:
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
        UserError: the configuration differs from the run's, roles overlap, a loss is not finite, the disk is full.
    """
    if job.workers == 0:
        speed, dead = ended(run(job, TrackedHooks(job.run_dir, job.run_log())))
        state = load_state(job.run_dir / CHECKPOINT)
    else:
        with cluster(address):
            folder, (speed, dead) = _unwrapped(job)
            state = load_state(folder / CHECKPOINT)
    averaged = {
        name.removeprefix("module."): value for name, value in state["ema"].items() if name.startswith("module.")
    }
    generator = task_of(job.recipe).generator_state(averaged)
    return Trained(generator=generator, metrics=dict(state["metrics"]), steps_per_second=speed, dead=dead)


def _unwrapped(job: Job) -> tuple[Path, Ended]:
    """A user's mistake found by a worker is told once, in one line, not as a stack of remote tracebacks."""
    try:
        return _on_ray(job)
    except rt.TrainingFailedError as error:
        cause = error.controller_failure if isinstance(error, rt.ControllerError) else None
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, OSError) and cause.errno is not None:
            raise StorageError(f"cannot write run {job.run_dir}: {os.strerror(cause.errno)}") from None
        raise
