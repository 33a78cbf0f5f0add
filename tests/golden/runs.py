"""The runs whose first 20 losses are kept: every family of lifting recipes, on the store of the embedded motions."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from aign.data.store import Store
from aign.recipes import recipe
from aign.recipes.lifting import LiftingRecipe, prepare
from aign.training import LocalHooks, fit

STEPS = 20
FOLDER = Path(__file__).parent


def _direct() -> LiftingRecipe:
    base = recipe("lifting-demo")
    task = replace(base.task, lifter=replace(base.task.lifter, kind="direct"), game="non-saturating")
    return replace(base, name="lifting-demo-direct-non-saturating", task=task)


def families() -> dict[str, LiftingRecipe]:
    """By name; lifting-h36m is the same code with other roles, and Human3.6M cannot be had here."""
    named = [recipe(n) for n in ("lifting-demo", "lifting-demo-forward", "lifting-demo-interpreter")]
    return {made.name: made for made in (*named, _direct())}


def path(name: str) -> Path:
    return FOLDER / f"{name}.json"


def losses(made: LiftingRecipe, store: Store) -> dict[str, list[float]]:
    """Every loss of the first 20 steps of a run of 20, one thread."""
    torch.set_num_threads(1)
    short = replace(made, fit=replace(made.fit, steps=STEPS, log_every=1, validate_every=STEPS))
    with tempfile.TemporaryDirectory() as folder:
        hooks = LocalHooks(Path(folder))
        training = prepare(short, store, hooks)
        fit(training.aign, training.feed, short.fit, hooks, lambda _: {}, {})
        training.feed.close()
        rows = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if len(row) > 1]
    assert [row["step"] for row in steps] == list(range(1, STEPS + 1))
    return {name: [row[name] for row in steps] for name in steps[0] if name != "step"}
