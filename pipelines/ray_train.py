"""A recipe on a store, trained by Ray Train workers or in this process."""

import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train as rt
import torch
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from aign.data.progress import progress
from aign.data.store import Store
from aign.framework.errors import UserError
from aign.recipes.lifting import LiftingRecipe, prepare
from aign.registry.run_log import RunLog
from aign.registry.tracking import Tracking
from aign.training import FitResult, Hooks, LocalHooks, fit
from aign.training.checkpoint import load_state, save_state
from aign.training.hooks import last_step
from aign.training.identity import flatten
from infra.cluster import cluster

CHECKPOINT = "checkpoint.pt"


class RayHooks(LocalHooks):
    """A Ray Train worker: gradients averaged over the workers, checkpoints through Ray, metrics by rank 0."""

    def __init__(self, job: "Job") -> None:
        context = rt.get_context()
        super().__init__(
            run_dir=job.run_dir, rank=context.get_world_rank(), world=context.get_world_size(), device=get_device()
        )
        self._log = job.run_log() if self.rank == 0 else None

    def wrap(self, net: nn.Module) -> nn.Module:
        """DistributedDataParallel, one network apart from the others; nothing to average for one worker."""
        return DistributedDataParallel(net) if self.world > 1 else net

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Rank 0 writes, into the run's folder and into MLflow."""
        if self.rank == 0:
            super().log(step, metrics)
            if self._log:
                self._log.log(step, metrics)

    def save(self, step: int, state: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Report a checkpoint to Ray, which keeps it whole or not at all; a barrier for all ranks."""
        if self.rank != 0:
            rt.report({})
            return
        if self._log:
            self._log.flush()
        folder = Path(tempfile.mkdtemp(prefix="aign-checkpoint-"))
        save_state(folder / CHECKPOINT, state)
        rt.report(
            {"step": step, **metrics},
            checkpoint=rt.Checkpoint.from_directory(folder),
            delete_local_checkpoint_after_upload=True,
        )

    def restore(self) -> dict[str, Any] | None:
        """The checkpoint that Ray hands a restarted worker or a resumed run."""
        checkpoint = rt.get_checkpoint()
        state = None
        if checkpoint is not None:
            with checkpoint.as_directory() as folder:
                state = load_state(Path(folder) / CHECKPOINT)
        if self.rank == 0:
            self.forget_after(state["step"] if state else 0)
        return state


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

    recipe: LiftingRecipe
    store_url: str
    run_dir: Path
    workers: int = 2
    tracking: Tracking | None = None
    run_id: str = ""

    def run_log(self) -> RunLog | None:
        """The MLflow log of this run."""
        return RunLog(self.tracking, self.run_id) if self.tracking else None


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A finished training.

    Attributes:
        lifter: state of the averaged generator.
        metrics: of the last validation.
        steps_per_second: of the loop.
    """

    lifter: dict[str, torch.Tensor]
    metrics: dict[str, float]
    steps_per_second: float


def run(job: Job, hooks: Hooks) -> FitResult:
    """Train in this process, as the rank that the hooks say."""
    store = Store.open(job.store_url)
    training = prepare(job.recipe, store, hooks)
    identity = {**flatten(job.recipe), "store_hash": store.hash}
    try:
        return fit(training.aign, training.feed, job.recipe.fit, hooks, training.validate, identity)
    finally:
        training.feed.close()


def _worker(config: dict[str, Any]) -> float:
    torch.set_num_threads(1)
    job: Job = config["job"]
    return run(job, RayHooks(job)).steps_per_second


def _on_ray(job: Job) -> tuple[Path, float]:
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=rt.ScalingConfig(num_workers=job.workers, resources_per_worker={"CPU": 1}),
        run_config=rt.RunConfig(
            name="ray",
            storage_path=str(job.run_dir),
            checkpoint_config=rt.CheckpointConfig(num_to_keep=2),
            failure_config=rt.FailureConfig(max_failures=2),
        ),
    )
    with _watched(job):
        result = trainer.fit()
    if result.checkpoint is None:
        raise UserError(f"run {job.run_dir.name} reported no checkpoint")
    return Path(result.checkpoint.path), float(result.return_value)


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
        UserError: the configuration differs from the run's, roles overlap, a loss is not finite.
    """
    if job.workers == 0:
        result = run(job, LocalHooks(job.run_dir))
        state = load_state(job.run_dir / CHECKPOINT)
        speed = result.steps_per_second
    else:
        with cluster(address):
            folder, speed = _unwrapped(job)
            state = load_state(folder / CHECKPOINT)
    averaged = {
        name.removeprefix("module."): value for name, value in state["ema"].items() if name.startswith("module.")
    }
    return Trained(lifter=averaged, metrics=dict(state["metrics"]), steps_per_second=speed)


def _unwrapped(job: Job) -> tuple[Path, float]:
    """A user's mistake found by a worker is told once, in one line, not as a stack of remote tracebacks."""
    try:
        return _on_ray(job)
    except rt.TrainingFailedError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UserError):
            failures = getattr(cause, "worker_failures", {})
            cause = next(iter(failures.values()), cause.__cause__)
        if isinstance(cause, UserError):
            raise cause from None
        raise
