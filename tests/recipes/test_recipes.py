import dataclasses
from collections.abc import Iterator

import pytest

from aign.framework.errors import UserError
from aign.inference.package import blank
from aign.recipes import RECIPES, faces_task, recipe
from aign.recipes.lifting import LiftingRecipe, Roles, forward, interpreter, lifting_demo, lifting_h36m
from aign.recipes.tasks import task_of
from aign.tasks.lifting import GAMES
from aign.tasks.lifting.nets import HEADS
from aign.training import LocalHooks, fit
from aign.training.identity import flatten
from pipelines.train import test as judge
from tests.distributed import faces_ranks
from tests.pipelines.samples import tiny_mocap
from tests.tasks.toy_faces import toy_judge, toy_store
from tests.training.runs import prepare, small

MOST_LEAVES = 60
PAPER = ("supervised", "reprojection", "pose", "camera")


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_recipe_is_what_it_is_called_and_small(name):
    made = recipe(name)
    assert made.name == name
    assert len(flatten(made)) <= MOST_LEAVES
    assert made == recipe(name), "a recipe is a value"
    if isinstance(made, LiftingRecipe):
        assert made.task.lifter.head in HEADS
        assert made.task.game in GAMES


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("lifting-dmo", "did you mean lifting-demo"),
        ("lifting-h36m-foward", "did you mean lifting-h36m-forward"),
        ("xyzzy", "allowed: lifting-demo, "),
    ],
)
def test_an_unknown_recipe_is_refused_with_what_is_near(name, hint):
    with pytest.raises(UserError, match=hint) as refused:
        recipe(name)
    assert repr(name) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("base", [lifting_demo(), lifting_h36m()])
def test_baselines_are_the_same_problem_with_other_weights(base):
    supervised = base.task.weights["supervised"]
    only, style = forward(base), interpreter(base)
    assert {n: w for n, w in only.task.weights.items() if w} == {"supervised": supervised}
    assert {n: w for n, w in style.task.weights.items() if w} == {
        "supervised": supervised,
        "reprojection": base.task.weights["reprojection"],
    }
    assert only.task.weights.keys() == style.task.weights.keys() == base.task.weights.keys()
    assert only.unlabelled_batch == 0
    assert style.unlabelled_batch == base.unlabelled_batch > 0
    assert {n for n, w in base.task.weights.items() if w > 0} > set(PAPER)
    for made in (only, style):
        same = dataclasses.replace(made, name=base.name, task=base.task, unlabelled_batch=base.unlabelled_batch)
        assert same == base


# What is read: every leaf of the recipe changes something, or it would be a flag that does nothing.


class Spy(dict):
    """A mapping that notes which of its keys were asked for."""

    def __init__(self, content, note):
        super().__init__(content)
        self.note = note

    def __getitem__(self, key):
        self.note(key)
        return super().__getitem__(key)


def objects(value, prefix="") -> Iterator[tuple[str, object]]:
    """Every nested dataclass with its dotted path."""
    yield prefix, value
    for field in dataclasses.fields(value):
        inner = object.__getattribute__(value, field.name)
        if dataclasses.is_dataclass(inner):
            yield from objects(inner, f"{prefix}.{field.name}" if prefix else field.name)


def watched(value, monkeypatch) -> set[str]:
    """Leaves of a recipe that are read from now on, by name; fills as the recipe is used."""
    read: set[str] = set()
    paths = {id(inner): path for path, inner in objects(value)}
    leaves = set(flatten(value))

    def note(path: str) -> None:
        if path in leaves:
            read.add(path)

    def spying(self, name):
        path = paths.get(id(self))
        if path is not None:
            note(f"{path}.{name}" if path else name)
        return object.__getattribute__(self, name)

    for kind in {type(inner) for _, inner in objects(value)}:
        monkeypatch.setattr(kind, "__getattribute__", spying)
    weights = Spy(value.task.weights, lambda key: note(f"task.weights.{key}"))
    object.__setattr__(value.task, "weights", weights)
    return read


def unshared(value):
    """A copy in which no two parts are the same object, so that a read is of one path."""
    changes = {
        f.name: unshared(getattr(value, f.name))
        for f in dataclasses.fields(value)
        if dataclasses.is_dataclass(getattr(value, f.name))
    }
    return dataclasses.replace(value, **changes)


def test_every_leaf_is_read_by_a_run(demo_store, tmp_path, monkeypatch):
    made = unshared(dataclasses.replace(small(steps=2), imagined_batch=24, imagined_mix=0.5))
    leaves = set(flatten(made))
    read = watched(made, monkeypatch)
    hooks = LocalHooks(tmp_path)
    training = prepare(made, demo_store, hooks)
    result = fit(training.aign, training.feed, made.fit, hooks, training.validate, {})
    training.feed.close()
    judge(result.ema, made, demo_store, task_of(made).sources(made, demo_store))
    assert leaves - read == set(), "flags that do nothing"


def test_every_leaf_of_motion_capture_is_read_by_a_run(people_store, tmp_path, monkeypatch):
    made = unshared(tiny_mocap("mocap-selfsup", steps=2))
    leaves = set(flatten(made))
    read = watched(made, monkeypatch)
    hooks, task = LocalHooks(tmp_path), task_of(made)
    sources = task.sources(made, people_store)
    training = task.prepare(made, people_store, hooks)
    result = fit(training.aign, training.feed, made.fit, hooks, training.validate, {})
    training.feed.close()
    judge(result.ema, made, people_store, sources)
    only_of_another_store = {"replay_actions"}
    assert leaves - read == only_of_another_store, "flags that do nothing"


@pytest.mark.parametrize("name", ["superresolution", "inpainting"])
def test_every_leaf_of_faces_is_read_by_a_run(tmp_path, monkeypatch, name):
    store = toy_store(str(tmp_path / "store"))
    base = faces_ranks.recipes()[name]
    made = unshared(dataclasses.replace(base, fit=dataclasses.replace(base.fit, steps=2, validate_every=2)))
    monkeypatch.setattr(faces_task, "judge_of", lambda _: toy_judge())
    leaves = set(flatten(made))
    read = watched(made, monkeypatch)
    hooks, task = LocalHooks(tmp_path / "run"), task_of(made)
    sources = task.sources(made, store)
    training = task.prepare(made, store, hooks)
    result = fit(training.aign, training.feed, made.fit, hooks, training.validate, {})
    training.feed.close()
    model = blank(task.network(made))
    model.load_state_dict(task.generator_state(result.ema.state_dict()))
    report = judge(model, made, store, sources)
    assert {f"val/{n}" for n in report.numbers} >= result.metrics.keys() >= {"val/faithful_psnr_db"}
    assert task.read_report(report.to_json()) == report
    assert all(made.name in drawn for drawn in (task.draw([report], None).markdown, task.draw([report], None).csv))
    assert leaves - read == set(), "flags that do nothing"


def test_the_spy_sees_a_leaf_that_nobody_reads(monkeypatch):
    made = unshared(small())
    leaves = set(flatten(made))
    read = watched(made, monkeypatch)
    assert not read
    assert made.task.weights["pose"] >= 0
    assert made.fit.lr > 0
    assert read == {"task.weights.pose", "fit.lr"}
    assert len(leaves) > 40


def test_every_role_is_a_selection_or_nobody():
    for made in map(recipe, RECIPES):
        if not isinstance(made, LiftingRecipe):
            continue
        assert {f.name for f in dataclasses.fields(Roles)} == set(vars(made.roles))
        assert made.roles.memory != made.roles.test
