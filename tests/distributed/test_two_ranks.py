"""Two gloo processes on halves of the global batches end where one process on the whole ones does."""

import json

import pytest
import torch

from aign.training import LocalHooks
from aign.training.checkpoint import load_state
from tests.distributed.ranks import RUNS, STEPS, rank, recipe, train

TOLERANCE = 1e-6
NETS = {"encode", "pose", "camera", "chain", "joints", "picture"}


@pytest.fixture(scope="module")
def runs(demo_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(rank, args=(2, demo_store.url, str(folder)), nprocs=2)
    torch.set_num_threads(1)
    for name, dtype, accumulate in RUNS:
        train(demo_store.url, LocalHooks(folder / name / "alone"), dtype, accumulate)
    return folder


def state(folder, dtype, who):
    return load_state(folder / dtype / who / "checkpoint.pt")


def tensors(state, what=("nets", "ema")):
    """Every network, the averaged generator and the optimizers' moments, by name."""
    found = {}

    def walk(value, path):
        if isinstance(value, torch.Tensor):
            found[path] = value
        elif isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{path}/{key}")

    for name in what:
        walk(state[name], name)
    return found


def largest_gap(a, b):
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_two_ranks_equal_one(runs, dtype):
    alone, ours = (tensors(state(runs, dtype, who)) for who in ("alone", "rank0"))
    assert {name.split("/")[1] for name in alone if name.startswith("nets")} == NETS
    gap = largest_gap(alone, ours)
    print(f"{dtype}: two ranks and one differ by {gap:.1e} after {STEPS} steps")
    assert gap <= TOLERANCE
    moments = ("optimizers",)
    assert largest_gap(*(tensors(state(runs, dtype, who), moments) for who in ("alone", "rank0"))) <= 1e-5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_learned_something_meanwhile(runs, dtype):
    """Or equality would mean nothing."""
    moved = state(runs, dtype, "alone")["optimizers"]
    for name in NETS:
        assert all(entry["step"] == STEPS for entry in moved[name]["state"].values())
        assert max(float(entry["exp_avg"].abs().max()) for entry in moved[name]["state"].values()) > 1e-5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ranks_are_identical(runs, dtype):
    first, second = (tensors(state(runs, dtype, f"rank{n}"), ("nets", "ema", "optimizers")) for n in (0, 1))
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name
    for what in ("memories", "feed", "step"):
        a, b = (state(runs, dtype, f"rank{n}")[what] for n in (0, 1))
        assert str(a) == str(b)


@pytest.mark.parametrize("who", ["alone", "rank0"])
def test_two_batches_a_step_equal_one_of_twice_the_size(runs, who):
    """In one process and in two ranks: networks, critics, averages and moments, on the same samples."""
    whole, halves = (state(runs, name, who) for name in ("float64", "accumulated"))
    gap = largest_gap(tensors(whole), tensors(halves))
    print(f"{who}: one batch a step and two of half the size differ by {gap:.1e} after {STEPS} steps")
    assert gap <= 1e-9
    assert largest_gap(*(tensors(one, ("optimizers",)) for one in (whole, halves))) <= 1e-9
    for one, ours in zip(rows(runs, "float64", who), rows(runs, "accumulated", who), strict=True):
        assert ours == pytest.approx(one, abs=1e-9)


def test_ranks_see_halves_of_the_global_batches(runs):
    whole, *halves = (torch.load(runs / "float32" / who / "targets.pt") for who in ("alone", "rank0", "rank1"))
    sizes = [recipe().labelled_batch, recipe().unlabelled_batch, recipe().imagined_batch]
    assert whole.shape == (STEPS, sum(sizes), 17, 2)
    blocks = zip(*(half.split([size // 2 for size in sizes], dim=1) for half in halves), strict=True)
    together = torch.cat([torch.cat(block, dim=1) for block in blocks], dim=1)
    assert torch.equal(together, whole)
    assert not torch.equal(halves[0], halves[1])


def rows(folder, name, who):
    return [json.loads(line) for line in (folder / name / who / "metrics.jsonl").read_text().splitlines()]


def test_losses_are_logged_as_means_over_the_ranks(runs):
    three = (rows(runs, "float64", who) for who in ("alone", "rank0", "rank1"))
    for alone, first, second in zip(*three, strict=True):
        assert first == second
        assert first == pytest.approx(alone, abs=1e-6)
