"""A training in this process whose metrics go to MLflow while it runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from aign.registry.run_log import RunLog
from aign.training import LocalHooks


class TrackedHooks(LocalHooks):
    """One process and a folder, as `LocalHooks`, and a run.

    Args:
        run_dir: of the run.
        run_log: of the run; None: it is not tracked.
        device: of the networks.
    """

    def __init__(self, run_dir: Path, run_log: RunLog | None, device: torch.device) -> None:
        super().__init__(run_dir=run_dir, device=device)
        self._log = run_log

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Into the run's folder first: that is what is sent again where the run lacks it."""
        super().log(step, metrics)
        if self._log:
            self._log.log(step, metrics)

    def save(self, step: int, state: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """What was logged before a checkpoint is sent before it."""
        if self._log:
            self._log.flush()
        super().save(step, state, metrics)
