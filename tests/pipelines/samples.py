"""Small real inputs of the pipelines, and commands run as a user runs them."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aign.data.datasets.job import Job
from aign.data.store import Manifest
from aign.recipes import recipe
from aign.recipes.lifting import LiftingRecipe
from aign.recipes.mocap import MocapRecipe, Shares
from aign.tasks.motion_capture.nets import EncoderConfig
from aign.training import FitConfig
from tests.data.test_h36m_npz import motion, save

AIGN = [sys.executable, "-c", "import sys; from pipelines.cli import main; sys.exit(main())"]
"""The console script, without the need that it is installed on the path."""

TINY = ("--labelled-batch", "8", "--unlabelled-batch", "8", "--task.lifter.width", "32", "--task.critic-width", "32")


def tiny(name: str = "lifting-demo", *, steps: int = 6, validate_every: int = 3) -> LiftingRecipe:
    """A recipe of lifting that trains in a blink."""
    chosen = recipe(name)
    assert isinstance(chosen, LiftingRecipe)
    task = replace(chosen.task, lifter=replace(chosen.task.lifter, width=32), critic_width=32)
    seen = 8 if chosen.unlabelled_batch else 0
    fit = FitConfig(steps=steps, log_every=1, validate_every=validate_every)
    imagined = 8 if chosen.imagined_batch else 0
    return replace(chosen, task=task, labelled_batch=8, unlabelled_batch=seen, imagined_batch=imagined, fit=fit)


def tiny_mocap(name: str = "mocap-pretrain", *, steps: int = 4, validate_every: int = 2) -> MocapRecipe:
    """A recipe of motion capture that trains in a blink."""
    chosen = recipe(name)
    assert isinstance(chosen, MocapRecipe)
    encoder = EncoderConfig(side_px=32, channels=8, width=64)
    seen = 2 if chosen.unlabelled_batch else 0
    return replace(
        chosen,
        task=replace(chosen.task, encoder=encoder, critic_width=32),
        shares=Shares(validation=0.1, test=0.15),
        frames=min(chosen.frames, 3),
        labelled_batch=4,
        unlabelled_batch=seen,
        loader_streams=2,
        fit=FitConfig(steps=steps, log_every=1, validate_every=validate_every),
    )


def h36m_npz(folder: Path, subjects: dict[str, tuple[str, ...]], frames: int = 24) -> Path:
    """A file in VideoPose3D's layout of Human3.6M: random bodies that walk about."""
    seeds = iter(range(10_000))
    world = {s: {a: motion(frames, next(seeds)) for a in actions} for s, actions in subjects.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save(folder / "data_3d_h36m.npz", positions_3d=world)
    return folder / "data_3d_h36m.npz"


def start(*argv: str, cwd: Path) -> subprocess.Popen[str]:
    """A command in a process group of its own, as a terminal starts it."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*AIGN, *argv], cwd=cwd, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def content(manifest: Manifest) -> Any:
    """A manifest as what can be compared."""
    return json.loads(manifest.to_json())


def leftovers(folder: Path) -> list[str]:
    """Hidden files: locks and temporary names. None should be there when nobody writes."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob(".*") if "ray" not in p.relative_to(folder).parts)


@dataclass(frozen=True, kw_only=True)
class Wrapped:
    """A job that behaves as another one; the base of those that misbehave."""

    inner: Job

    @property
    def source(self):
        return self.inner.source

    @property
    def table_groups(self):
        return self.inner.table_groups

    def provenance(self, table):
        return self.inner.provenance(table)

    def clips(self, wanted, stored):
        return self.inner.clips(wanted, stored)
