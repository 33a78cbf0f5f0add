"""The first 20 losses of every recipe family are what they were when somebody last looked at them.

A refactor leaves them alone. A change that is meant to change them renews them (`python -m tests.golden.renew`) and its
commit says why. Tolerance: 2e-3 of the value, plus 1e-5. Runs on one machine repeat to the last digit; other
processors sum in another order: input noise of 1e-6 moves a loss by up to 1e-5 of its value within these 20 steps
(`test_rounding_noise_stays_far_below_the_tolerance`), and the rest is left for other linear algebra. A changed weight,
seed, augmentation or learning rate moves some loss by more (`test_a_change_of_the_run_is_noticed`).
"""

import json
from dataclasses import replace

import pytest
import torch

from aign.tasks.lifting import observation
from tests.golden.runs import STEPS, build_human36m_store, families, losses, path, store_of

RELATIVE, ABSOLUTE = 2e-3, 1e-5
RUNS = families()


def compare(got, want):
    assert got.keys() == want.keys()
    for name, values in want.items():
        assert len(values) == STEPS
        assert got[name] == pytest.approx(values, rel=RELATIVE, abs=ABSOLUTE), (
            f"{name}: see python -m tests.golden.renew"
        )


@pytest.fixture(scope="module")
def human36m(tmp_path_factory):
    return build_human36m_store(tmp_path_factory.mktemp("human36m"))


@pytest.mark.parametrize("name", list(RUNS))
def test_first_losses_are_golden(demo_store, human36m, name):
    compare(losses(RUNS[name], store_of(name, demo_store, human36m)), json.loads(path(name).read_text()))


def test_no_golden_is_left_over():
    assert {p.stem for p in path("x").parent.glob("*.json")} == set(RUNS)


def test_rounding_noise_stays_far_below_the_tolerance(demo_store, monkeypatch):
    real = observation.virtual_camera

    def noisy(rays, seen):
        return real(rays * (1 + 1e-6 * torch.sin(1e6 * rays)), seen)

    monkeypatch.setattr(observation, "virtual_camera", noisy)
    got, want = losses(RUNS["lifting-demo"], demo_store), json.loads(path("lifting-demo").read_text())
    worst = max(abs(a - b) / abs(b) for n in want for a, b in zip(got[n], want[n], strict=True))
    print(f"worst relative change of a loss by noise: {worst:.1e}")
    compare(got, want)


@pytest.mark.parametrize("change", ["seed", "weight", "lr", "noise"])
def test_a_change_of_the_run_is_noticed(demo_store, change):
    made = RUNS["lifting-demo"]
    task, fit = made.task, made.fit
    changed = {
        "seed": replace(made, seed=1),
        "weight": replace(made, task=replace(task, weights={**task.weights, "pose": task.weights["pose"] * 1.5})),
        "lr": replace(made, fit=replace(fit, lr=fit.lr * 1.1)),
        "noise": replace(made, task=replace(task, augmentation=replace(task.augmentation, noise=0.02))),
    }[change]
    with pytest.raises(AssertionError):
        compare(losses(changed, demo_store), json.loads(path("lifting-demo").read_text()))
