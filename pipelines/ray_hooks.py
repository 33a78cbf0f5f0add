"""What a training needs to know of Ray: its hooks, and when Ray must not try again."""

import errno
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray.train as rt
from ray.train.torch import get_device
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from aign.framework.errors import UserError
from aign.registry.run_log import RunLog
from aign.training import LocalHooks
from aign.training.checkpoint import load_state, save_state

CHECKPOINT = "checkpoint.pt"
HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""What the system says of a place that will not take a file the next time either."""


class RayHooks(LocalHooks):
    """A Ray Train worker: gradients averaged over the workers, checkpoints through Ray, metrics by rank 0.

    Args:
        run_dir: of the run.
        log: makes the run's MLflow log, if it has one; only rank 0 asks.
    """

    def __init__(self, run_dir: Path, log: Callable[[], RunLog | None]) -> None:
        context = rt.get_context()
        super().__init__(
            run_dir=run_dir, rank=context.get_world_rank(), world=context.get_world_size(), device=get_device()
        )
        self._log = log() if self.rank == 0 else None

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


class GiveUp(rt.UserCallback):  # type: ignore[misc]
    """A user's mistake or a full disk would be the same again, so it ends the run at once; all else is tried again."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Called in Ray's controller, which does not restart workers when a callback raises."""
        for error in worker_exceptions.values():
            if isinstance(error, UserError) or (isinstance(error, OSError) and error.errno in HOPELESS):
                raise error
