"""The runs whose first losses are kept: the families of recipes, on stores that anybody can make."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from aign.data.store import Store
from aign.recipes import recipe
from aign.recipes.lifting import LiftingRecipe
from aign.recipes.lifting_tables import best
from aign.recipes.mocap import MocapRecipe, Shares
from aign.recipes.tasks import Recipe, task_of
from aign.tasks.motion_capture import NAMES, MotionCaptureConfig
from aign.tasks.motion_capture.nets import EncoderConfig
from aign.training import FitConfig, LocalHooks, fit
from tests.evaluation.human36m import human36m_store

STEPS = 20
MOCAP_STEPS = 4
FOLDER = Path(__file__).parent
HUMAN36M = "lifting-h36m"
MOCAP = "mocap-everything"
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


def _mocap() -> MocapRecipe:
    """Windows of three frames, labelled and only seen; every term, critic and variant, and the teacher.

    Its weights are its own, for those of the recipes are still being chosen: kept is what the code does.
    """
    every = {**dict.fromkeys(NAMES, 1.0), "keypoints_released": 1e-3}  # of squared pixels
    encoder = EncoderConfig(side_px=32, channels=8, width=64)
    return MocapRecipe(
        name=MOCAP,
        task=MotionCaptureConfig(encoder=encoder, critic_width=32, weights=every),
        shares=Shares(validation=0.05, test=0.1),
        frames=3,
        labelled_batch=4,
        unlabelled_batch=4,
        fit=FitConfig(steps=MOCAP_STEPS, lr=1e-3, log_every=1, validate_every=MOCAP_STEPS),
    )


def families() -> dict[str, Recipe]:
    """By name."""
    named = [recipe(n) for n in ("lifting-demo", "lifting-demo-forward", "lifting-demo-interpreter")]
    lifting = [_short(made) for made in (*named, _direct(), _everything(), _human36m())]
    return {made.name: made for made in (*lifting, _mocap())}


def _short(made: LiftingRecipe) -> LiftingRecipe:
    return replace(made, fit=replace(made.fit, steps=STEPS, log_every=1, validate_every=STEPS))


def build_human36m_store(folder: Path) -> Store:
    """Random bodies that walk about under the names of Human3.6M's subjects and sequences, in its layout."""
    return human36m_store(folder, {subject: dict.fromkeys(_SEQUENCES, 64) for subject in _SUBJECTS})


def path(name: str) -> Path:
    return FOLDER / f"{name}.json"


def losses(made: Recipe, store: Store) -> dict[str, list[float]]:
    """Every loss of every step, one thread."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        hooks = LocalHooks(Path(folder))
        training = task_of(made).prepare(made, store, hooks)
        try:
            fit(training.aign, training.feed, made.fit, hooks, lambda _: {}, {})
        finally:
            training.feed.close()
        rows = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if len(row) > 1]
    assert [row["step"] for row in steps] == list(range(1, made.fit.steps + 1))
    return {name: [row[name] for row in steps] for name in steps[0] if name.startswith("loss/")}
