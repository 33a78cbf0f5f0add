"""Where a training runs, as the four things `fit` needs to know of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from aign.framework.errors import UserError
from aign.training.checkpoint import load_state, save_state


@runtime_checkable
class Hooks(Protocol):
    """The edge of a training: processes, log and checkpoints. Ray's are in pipelines/train.py."""

    rank: int
    world: int
    device: torch.device

    def wrap(self, net: nn.Module) -> nn.Module:
        """Make a network average its gradients over the processes."""
        ...

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of a step; called on every rank, but validation metrics are rank 0's alone."""
        ...

    def save(self, step: int, state: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Keep a checkpoint; it is never seen half-written (called on every rank)."""
        ...

    def restore(self) -> dict[str, Any] | None:
        """The newest checkpoint, or None at the start."""
        ...


def last_step(run_dir: Path) -> int:
    """The newest step in a run's metrics.jsonl, 0 where there is none; a line that is being written does not count."""
    path = run_dir / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines[-2:] if line.endswith("\n")]
    return int(json.loads(whole[-1])["step"]) if whole else 0


@dataclass
class LocalHooks:
    """One process, a folder: the plain way to train, and the parity baseline of Ray's.

    Attributes:
        run_dir: receives metrics.jsonl and checkpoint.pt, each replaced or appended atomically.
    """

    run_dir: Path
    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")

    def __post_init__(self) -> None:
        try:
            self.run_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write the run to {self.run_dir}: {error.strerror}") from error

    def wrap(self, net: nn.Module) -> nn.Module:
        """Nothing to average."""
        return net

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append a line to metrics.jsonl."""
        with (self.run_dir / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")

    def save(self, step: int, state: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Replace checkpoint.pt."""
        save_state(self.run_dir / "checkpoint.pt", state)

    def restore(self) -> dict[str, Any] | None:
        """Read checkpoint.pt, if there is one; what was logged after it is done again, so it is taken out."""
        path = self.run_dir / "checkpoint.pt"
        state = load_state(path) if path.exists() else None
        self.forget_after(state["step"] if state else 0)
        return state

    def forget_after(self, step: int) -> None:
        """Drop logged steps later than `step`."""
        path = self.run_dir / "metrics.jsonl"
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= step]
            path.write_text("".join(line + "\n" for line in kept))
