"""The first losses of faces are what they were when somebody last looked; see test_golden for the tolerance."""

import json
from dataclasses import replace

import pytest

from tests.golden.faces_runs import FOLDER, STEPS, build_store, families, losses

RELATIVE, ABSOLUTE = 2e-3, 1e-5
RUNS = families()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return build_store(tmp_path_factory.mktemp("faces"))


def compare(got, name):
    want = json.loads((FOLDER / f"{name}.json").read_text())
    assert got.keys() == want.keys()
    for loss, values in want.items():
        assert len(values) == STEPS
        assert got[loss] == pytest.approx(values, rel=RELATIVE, abs=ABSOLUTE), f"{loss}: see tests.golden.faces_runs"


@pytest.mark.parametrize("name", list(RUNS))
def test_first_losses_are_golden(store, name):
    compare(losses(RUNS[name], store), name)


def test_no_golden_is_left_over():
    assert {p.stem for p in FOLDER.glob("*.json")} == set(RUNS)


@pytest.mark.parametrize("change", ["weight", "gamma", "bias", "seed"])
def test_a_change_of_the_run_is_noticed(store, change):
    made = RUNS["superresolution"]
    task = made.task
    changed = {
        "weight": replace(made, task=replace(task, weights={**task.weights, "critic": 0.3})),
        "gamma": replace(made, task=replace(task, critic=replace(task.critic, gamma=10.0))),
        "bias": replace(made, bias="sex=female"),
        "seed": replace(made, seed=1),
    }[change]
    with pytest.raises(AssertionError):
        compare(losses(changed, store), "superresolution")
