"""The first losses of every recipe family (20 steps of lifting, 4 of motion capture) are what they were before.

A refactor leaves them alone. A change that is meant to change them renews them (`python -m tests.golden.renew`) and its
commit says why. Tolerance: 2e-3 of the value, plus 1e-5. Runs on one machine repeat to the last digit; other
processors sum in another order: input noise of 1e-6 moves a loss by up to 1e-5 of its value within 20 steps
(`test_rounding_noise_stays_far_below_the_tolerance`), and the rest is left for other linear algebra. A changed weight,
seed, augmentation or learning rate moves some loss by more (`test_a_change_of_the_run_is_noticed`).
"""

import json
from dataclasses import replace

import pytest
import torch

from aign.tasks.lifting import observation
from tests.golden.runs import HUMAN36M, MOCAP, MOCAP_STEPS, STEPS, build_human36m_store, families, losses, path

RELATIVE, ABSOLUTE = 2e-3, 1e-5
RUNS = families()


def compare(got, want, steps=STEPS):
    assert got.keys() == want.keys()
    for name, values in want.items():
        assert len(values) == steps
        assert got[name] == pytest.approx(values, rel=RELATIVE, abs=ABSOLUTE), (
            f"{name}: see python -m tests.golden.renew"
        )


@pytest.fixture(scope="module")
def human36m(tmp_path_factory):
    return build_human36m_store(tmp_path_factory.mktemp("human36m"))


@pytest.fixture(scope="module")
def mocap_losses(people_store):
    """Of the run as it is."""
    return losses(RUNS[MOCAP], people_store)


@pytest.mark.parametrize("name", [name for name in RUNS if name != MOCAP])
def test_first_losses_are_golden(demo_store, human36m, name):
    store = human36m if name == HUMAN36M else demo_store
    compare(losses(RUNS[name], store), json.loads(path(name).read_text()))


def test_first_losses_of_motion_capture_are_golden(mocap_losses):
    """Every term, critic and variant."""
    compare(mocap_losses, json.loads(path(MOCAP).read_text()), MOCAP_STEPS)


def test_motion_capture_repeats_to_the_last_bit_and_a_changed_weight_is_noticed(people_store, mocap_losses):
    assert losses(RUNS[MOCAP], people_store) == mocap_losses
    task = RUNS[MOCAP].task
    heavier = replace(task, weights={**task.weights, "segmentation": 1.5 * task.weights["segmentation"]})
    with pytest.raises(AssertionError):
        compare(losses(replace(RUNS[MOCAP], task=heavier), people_store), mocap_losses, MOCAP_STEPS)


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
