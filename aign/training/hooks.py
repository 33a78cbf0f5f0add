"""Where a training runs, as the five things `fit` needs to know of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from aign.data.publish import published
from aign.framework.errors import UserError
from aign.training.checkpoint import load_state, save_state


@runtime_checkable
class Hooks(Protocol):
    """The edge of a training: processes, log and checkpoints. Ray's are in pipelines/ray_hooks.py."""

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

    def leaving(self) -> bool:
        """Is this the moment to save, because a process will soon be taken away? The same answer on every rank."""
        ...


LOG = "metrics.jsonl"


def logged_lines(run_dir: Path) -> list[str]:
    """Lines of a run's metrics.jsonl; one that is being written, or was when its process died, does not count."""
    path = run_dir / LOG
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [line for line in lines if line.endswith("\n")]


def last_step(run_dir: Path) -> int:
    """The newest step in a run's metrics.jsonl, 0 where there is none."""
    lines = logged_lines(run_dir)
    return int(json.loads(lines[-1])["step"]) if lines else 0


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
        path = self.run_dir / LOG
        try:
            with path.open("a") as file:
                file.write(json.dumps({"step": step, **metrics}) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}; the last checkpoint is good") from error

    def save(self, step: int, state: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Replace checkpoint.pt."""
        save_state(self.run_dir / "checkpoint.pt", state)

    def restore(self) -> dict[str, Any] | None:
        """Read checkpoint.pt, if there is one; what was logged after it is done again, so it is taken out."""
        path = self.run_dir / "checkpoint.pt"
        state = load_state(path) if path.exists() else None
        self.forget_after(state["step"] if state else 0)
        return state

    def leaving(self) -> bool:
        """Nobody gives notice to a process of its own."""
        return False

    def forget_after(self, step: int) -> None:
        """Drop logged steps later than `step`."""
        path = self.run_dir / LOG
        if path.exists():
            kept = [line for line in logged_lines(self.run_dir) if json.loads(line)["step"] <= step]
            with published(path) as unfinished:
                unfinished.write_text("".join(kept))
