"""Two gloo processes on halves of the batches of faces end where one process does, R1 and the memory included."""

import json

import pytest
import torch

from aign.training import LocalHooks
from aign.training.checkpoint import load_state
from tests.distributed.faces_ranks import BFLOAT16, STEPS, rank, recipes, train
from tests.distributed.test_two_ranks import TOLERANCE, largest_gap, tensors
from tests.tasks.toy_faces import toy_store

NAMES = tuple(recipes())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    store = toy_store(str(folder / "store"), count=128)
    torch.multiprocessing.spawn(rank, args=(2, store.url, str(folder)), nprocs=2)
    torch.set_num_threads(1)
    for name in (*NAMES, BFLOAT16):
        train(name, store.url, LocalHooks(folder / name / "alone"))
    return folder


def state(runs, name, who):
    return load_state(runs / name / who / "checkpoint.pt")


@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_equal_one(runs, name):
    alone, ours, other = (state(runs, name, who) for who in ("alone", "rank0", "rank1"))
    gap = largest_gap(tensors(alone), tensors(ours))
    print(f"{name}: two ranks and one differ by {gap:.1e} after {STEPS} steps")
    assert gap <= TOLERANCE
    assert largest_gap(tensors(ours), tensors(other)) == 0
    assert str(ours["memories"]) == str(other["memories"]) == str(alone["memories"])
    for net in ("encode", "critic"):
        moments = alone["optimizers"][net]["state"].values()
        assert all(entry["step"] == STEPS for entry in moments), "it learned something meanwhile"
        assert max(float(entry["exp_avg"].abs().max()) for entry in moments) > 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_means_over_the_ranks(runs, name):
    alone, first = (
        [json.loads(line) for line in (runs / name / who / "metrics.jsonl").read_text().splitlines()]
        for who in ("alone", "rank0")
    )
    for one, ours in zip(alone, first, strict=True):
        assert ours == pytest.approx(one, abs=1e-6)


def test_in_bfloat16_two_ranks_are_one_but_for_rounding(runs):
    ours, other = (state(runs, BFLOAT16, who) for who in ("rank0", "rank1"))
    assert largest_gap(tensors(ours), tensors(other)) == 0
    alone, first = (
        [json.loads(line) for line in (runs / BFLOAT16 / who / "metrics.jsonl").read_text().splitlines()]
        for who in ("alone", "rank0")
    )
    for one, both in zip(alone, first, strict=True):
        losses = {name: value for name, value in one.items() if name.startswith("loss/")}
        assert {name: both[name] for name in losses} == pytest.approx(losses, rel=0.02, abs=1e-4)
