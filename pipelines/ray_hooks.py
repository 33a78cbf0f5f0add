"""What a training needs to know of Ray: its hooks, and when Ray must not try again."""

import errno
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ray.train as rt
import torch
from ray.exceptions import RayActorError
from ray.train.torch import get_device
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from aign.data.publish import published
from aign.framework.errors import UserError
from aign.registry.run_log import RunLog
from aign.training import LocalHooks
from aign.training.checkpoint import load_state, save_state
from aign.training.hooks import LOG
from pipelines.run_place import Mirror, Place

CHECKPOINT = "checkpoint.pt"
NONE: Mapping[str, float] = MappingProxyType({})
ASK_SECONDS = 2.0
"""Between questions whether a node will be taken away: the answer is a meeting of all ranks at one Ray actor."""
DEATHS = 3
"""In a row, without a new checkpoint between them, are one cause that stays."""
HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""What the system says of a place that will not take a file the next time either."""


class RayHooks(LocalHooks):
    """A Ray Train worker: gradients averaged over the workers, checkpoints through Ray, metrics by rank 0.

    Checkpoints go to where Ray keeps the run while the training goes on. One that was reported counts when Ray has
    written down that it is whole; only a process that is about to be taken away waits for that.

    Args:
        place: of the run; for one at a URL its folder is this process's own.
        log: makes the run's MLflow log, if it has one; only rank 0 asks.
        gpu: whether the worker owns a GPU, or a part of one.
        worst: the metric that the best checkpoints are kept by, with its worst value; empty: there is none.
    """

    def __init__(
        self, place: Place, log: Callable[[], RunLog | None], gpu: bool = False, worst: Mapping[str, float] = NONE
    ) -> None:
        context = rt.get_context()
        device = get_device() if gpu else torch.device("cpu")
        super().__init__(
            run_dir=place.folder, rank=context.get_world_rank(), world=context.get_world_size(), device=device
        )
        self._log = log() if self.rank == 0 else None
        # What was not validated has to have a value: a missing one is the best to Ray where the smallest is, and one
        # that is not finite is null in its snapshot, from which no run goes on.
        self._worst = worst
        self._mirror = Mirror(place) if place.url and self.rank == 0 else None
        self._asked_at, self._leaving = time.monotonic(), False

    def wrap(self, net: nn.Module) -> nn.Module:
        """DistributedDataParallel, one network apart from the others; nothing to average for one worker."""
        return DistributedDataParallel(net) if self.world > 1 else net

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Rank 0 writes, into the run's folder and into MLflow."""
        if self.rank == 0:
            super().log(step, metrics)
            if self._mirror:
                self._mirror.refresh()
            if self._log:
                self._log.log(step, metrics)

    def save(self, step: int, state: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Report a checkpoint to Ray, which keeps it whole or not at all; a meeting of all ranks."""
        mode = rt.CheckpointUploadMode.SYNC if self._leaving else rt.CheckpointUploadMode.ASYNC
        if self.rank != 0:
            rt.report({}, checkpoint_upload_mode=mode)
        else:
            if self._log:
                self._log.flush()
            folder = Path(tempfile.mkdtemp(prefix="aign-checkpoint-"))
            save_state(folder / CHECKPOINT, state)
            shutil.copyfile(self.run_dir / LOG, folder / LOG)
            rt.report(
                {"step": step, **self._worst, **{n: value for n, value in metrics.items() if math.isfinite(value)}},
                checkpoint=rt.Checkpoint.from_directory(folder),
                checkpoint_upload_mode=mode,
                delete_local_checkpoint_after_upload=True,
            )
        if self._leaving:
            rt.get_all_reported_checkpoints(consistency_mode=rt.CheckpointConsistencyMode.COMMITTED)

    def restore(self) -> dict[str, Any] | None:
        """The checkpoint that Ray hands a restarted worker or a resumed run; the log is what it was then."""
        checkpoint = rt.get_checkpoint()
        if checkpoint is None:
            if self.rank == 0:
                self.forget_after(0)
            return None
        with checkpoint.as_directory() as folder:
            if self.rank == 0:
                with published(self.run_dir / LOG) as unfinished:
                    shutil.copyfile(Path(folder) / LOG, unfinished)
            return load_state(Path(folder) / CHECKPOINT)

    def leaving(self) -> bool:
        """True once, when Ray has been told that the node of one of the workers will be taken away."""
        due = torch.tensor(float(time.monotonic() - self._asked_at > ASK_SECONDS), device=self.device)
        if self.world > 1:
            torch.distributed.broadcast(due, 0)  # rank 0's clock, because all ranks have to ask
        if self._leaving or not due:
            return False
        self._asked_at = time.monotonic()
        self._leaving = rt.get_preemption_info() is not None
        return self._leaving


class GiveUp(rt.UserCallback):  # type: ignore[misc]
    """Ends a run that would fail the same way again; all else is tried again.

    So is everything but a user's mistake, a place that takes no file, and workers that die again and again without
    getting to a new checkpoint. That a node was taken away is no death.
    """

    def __init__(self) -> None:
        self._deaths = 0

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: rt.Checkpoint | None) -> None:
        """A new checkpoint."""
        if checkpoint is not None:
            self._deaths = 0

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Called in Ray's controller, which does not restart workers when a callback raises."""
        for error in worker_exceptions.values():
            # What a server refuses has no number.
            hopeless = isinstance(error, OSError) and error.errno in HOPELESS
            if hopeless or isinstance(error, UserError | PermissionError):
                raise error
        if any(isinstance(error, RayActorError) and error.preempted for error in worker_exceptions.values()):
            return
        self._deaths += 1
        if self._deaths == DEATHS:
            rank, error = min(worker_exceptions.items())
            why = next(iter(str(error).strip().splitlines()), "")
            raise UserError(
                f"workers failed {DEATHS} times without getting to a new checkpoint; the last time worker {rank}: "
                f"{type(error).__name__}: {why}"
            )
