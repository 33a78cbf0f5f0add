"""The runs whose first 20 losses are kept: every family of lifting recipes, on stores that anybody can make."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from aign.data.store import Store
from aign.recipes import recipe
from aign.recipes.lifting import LiftingRecipe, prepare
from aign.recipes.lifting_tables import best
from aign.training import LocalHooks, fit
from tests.evaluation.human36m import human36m_store

STEPS = 20
FOLDER = Path(__file__).parent
HUMAN36M = "lifting-h36m"
_SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
_SEQUENCES = ("Directions 1", "Walking 1", "Walking")


def _direct() -> LiftingRecipe:
    base = recipe("lifting-demo")
    task = replace(base.task, lifter=replace(base.task.lifter, head="direct"), game="non-saturating")
    return replace(base, name="lifting-demo-direct-non-saturating", task=task)


def _everything() -> LiftingRecipe:
    """Nine frames, imagined samples with others' arms, every term and critic."""
    base = best(recipe("lifting-demo"))
    weights = {**base.task.weights, "chain": 0.1, "joints": 0.1, "picture": 0.1}
    task = replace(base.task, weights=weights, lifter=replace(base.task.lifter, width=64), critic_width=64)
    return replace(base, name="lifting-demo-everything", task=task)


def _human36m() -> LiftingRecipe:
    """The recipe as it is, with smaller networks."""
    base = recipe(HUMAN36M)
    task = replace(base.task, lifter=replace(base.task.lifter, width=64), critic_width=64)
    return replace(base, task=task)


def families() -> dict[str, LiftingRecipe]:
    """By name."""
    named = [recipe(n) for n in ("lifting-demo", "lifting-demo-forward", "lifting-demo-interpreter")]
    return {made.name: made for made in (*named, _direct(), _everything(), _human36m())}


def build_human36m_store(folder: Path) -> Store:
    """Random bodies that walk about under the names of Human3.6M's subjects and sequences, in its layout."""
    return human36m_store(folder, {subject: dict.fromkeys(_SEQUENCES, 64) for subject in _SUBJECTS})


def store_of(name: str, demo: Store, human36m: Store) -> Store:
    """The store a family is trained on."""
    return human36m if name == HUMAN36M else demo


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
    return {name: [row[name] for row in steps] for name in steps[0] if name.startswith("loss/")}
