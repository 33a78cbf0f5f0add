"""Search spaces: what is searched by itself, what a user may say, and what some numbers make of a recipe."""

import dataclasses
import json
import math

import pytest
from pydantic import TypeAdapter

from aign.framework.errors import UserError
from aign.recipes import RECIPES, recipe
from aign.recipes.search import OWN, SPREAD, Range, anchor, space_of, values_of, with_values
from aign.recipes.tasks import task_of
from aign.training.identity import flatten

LIFTING = recipe("lifting-demo")


@pytest.mark.parametrize("name", list(RECIPES))
def test_by_itself_every_weight_but_the_anchor_and_the_rates_are_searched(name):
    made = recipe(name)
    space = space_of(made)
    on = {f"task.weights.{k}": w for k, w in made.task.weights.items() if w > 0}
    held = anchor(made)
    assert on[held] == max(on.values())
    plays = any(made.task.weights[critic] > 0 for critic in task_of(made).critics)
    assert set(space) == (on.keys() - {held}) | {"fit.lr"} | ({"fit.critic_lr"} if plays else set())
    for leaf, found in space.items():
        assert found.low * SPREAD == pytest.approx(flatten(made)[leaf]) == pytest.approx(found.high / SPREAD)


@pytest.mark.parametrize("name", list(RECIPES))
def test_the_critics_of_a_task_are_named(name):
    made = recipe(name)
    assert set(task_of(made).critics) < made.task.weights.keys()


def test_ranges_are_replaced_added_and_fixed():
    space = space_of(
        LIFTING,
        ["fit.lr=1e-4:1e-2", "task.weights.bones=0.01:1", "labelled_batch"],
        ["task.weights.pose", "fit.critic*"],
    )
    assert space["fit.lr"] == Range(low=1e-4, high=1e-2)
    assert space["task.weights.bones"] == Range(low=0.01, high=1.0)
    assert space["labelled_batch"] == Range(low=6.4, high=640.0)
    assert not {"task.weights.pose", "fit.critic_lr"} & space.keys()
    assert "task.weights.supervised" in space, "one weight is fixed, so another anchor is not needed"
    assert list(space) == [name for name in flatten(LIFTING) if name in space], "in the recipe's order"


@pytest.mark.parametrize(
    ("changes", "fixed", "said"),
    [
        (["task.weights.poze=1:2"], [], r"no number 'task.weights.poze' to search; near ones: task.weights.pose"),
        (["fit.l"], [], r"near ones: fit.lr"),
        (["camera"], [], r"near ones: task.weights.camera"),
        (["name"], [], r"no number 'name'"),
        (["task.game=1:2"], [], r"no number 'task.game'"),
        (["fit.lr=1e-3"], [], r"allowed: NAME=LOW:HIGH"),
        (["fit.lr=a:b"], [], r"allowed: NAME=LOW:HIGH"),
        (["fit.lr=1:2:3"], [], r"allowed: NAME=LOW:HIGH"),
        (["fit.lr=2:1"], [], r"0 < LOW < HIGH"),
        (["fit.lr=0:1"], [], r"0 < LOW < HIGH"),
        (["fit.lr=1:inf"], [], r"0 < LOW < HIGH"),
        (["fit.lr=nan:1"], [], r"0 < LOW < HIGH"),
        (["task.weights.bones"], [], r"the recipe has 0 there"),
        ([], ["task.weights.poze"], r"near ones: task.weights.pose"),
        ([], ["nothing.*"], r"no number 'nothing.\*'"),
        ([], ["*"], r"nothing to search"),
        (["fit.lr=1:2"], ["fit.*"], r"both to be searched and to be fixed"),
        *(([name], [], r"search's own") for name in OWN),
    ],
)
def test_what_cannot_be_searched_is_one_line(changes, fixed, said):
    with pytest.raises(UserError, match=said) as error:
        space_of(LIFTING, changes, fixed)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", list(RECIPES))
def test_numbers_make_a_recipe_and_their_own_make_it_again(name):
    made = recipe(name)
    space = space_of(made)
    assert with_values(made, values_of(made, space)) == made
    drawn = {leaf: math.sqrt(r.low * r.high) * 1.5 for leaf, r in space.items()}
    changed = flatten(with_values(made, drawn))
    assert {leaf: changed[leaf] for leaf in drawn} == drawn
    assert {k: v for k, v in changed.items() if k not in drawn} == {
        k: v for k, v in flatten(made).items() if k not in drawn
    }
    assert made == recipe(name), "the recipe itself is left alone"


def test_a_whole_number_stays_one():
    changed = with_values(LIFTING, {"labelled_batch": 33.6, "task.lifter.width": 100.0})
    assert (changed.labelled_batch, changed.task.lifter.width) == (34, 100)
    assert isinstance(changed.labelled_batch, int)
    with pytest.raises(UserError, match="near ones"):
        with_values(LIFTING, {"fit.lrr": 1.0})


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_recipe_comes_back_from_what_a_trial_writes_down(name):
    made = with_values(recipe(name), {"fit.lr": 1 / 3})
    text = json.dumps(dataclasses.asdict(made))
    assert TypeAdapter(type(made)).validate_python(json.loads(text)) == made
