"""How many workers a user may ask for, and how many of those that there are room for are used."""

import pytest
import ray.train as rt
from ray.exceptions import RayActorError

from aign.framework.errors import UserError
from pipelines import workers
from pipelines.ray_hooks import DEATHS, GiveUp
from pipelines.workers import Workers, _EqualShares


@pytest.mark.parametrize(("text", "least", "most"), [("2", 2, 2), ("0", 0, 0), ("1:4", 1, 4), ("3:3", 3, 3)])
def test_numbers_and_ranges(text, least, most):
    assert Workers.parse(text) == Workers(least=least, most=most)


@pytest.mark.parametrize("text", ["", "two", "-1", "4:1", "0:2", "1:2:3", "1.5", ":", "1:"])
def test_what_is_no_number_of_workers_is_one_line(text):
    if text == "1:":
        assert Workers.parse(text) == Workers.fixed(1)
        return
    with pytest.raises(UserError, match="got --workers"):
        Workers.parse(text)


@pytest.mark.parametrize("gpus", [-0.1, 1.5, float("nan")])
def test_a_worker_uses_one_gpu_at_most(gpus):
    with pytest.raises(UserError, match="allowed is 0 to 1"):
        Workers.parse("2", gpus)


@pytest.mark.parametrize(("gpus", "backend"), [(0.0, "gloo"), (0.5, "gloo"), (1.0, "nccl")])
def test_resources_and_backend(gpus, backend):
    chosen = Workers.parse("1:2", gpus)
    scaling = chosen.scaling
    assert (scaling.num_workers, scaling.use_gpu) == ((1, 2), gpus > 0)
    assert scaling.resources_per_worker == {"CPU": 1.0} | ({"GPU": gpus} if gpus else {})
    assert chosen.torch.backend == backend


@pytest.mark.parametrize("text", ["3", "5:7", "16"])
def test_numbers_that_do_not_share_the_streams_equally_are_refused(text):
    with pytest.raises(UserError, match=rf"got --workers {text}; allowed are divisors .* \(8\): 1, 2, 4, 8"):
        Workers.parse(text).check(8, local=False)


def test_more_than_the_machine_has_is_refused_but_a_cluster_may_grow(monkeypatch):
    monkeypatch.setattr(workers, "cpus", lambda: 2)
    monkeypatch.setattr(workers, "gpus", lambda: 0.0)
    Workers.parse("4").check(8, local=False)
    Workers.parse("2:8").check(8, local=True)
    with pytest.raises(UserError, match="got --workers 4, of one CPU each; this machine has 2"):
        Workers.parse("4").check(8, local=True)
    with pytest.raises(UserError, match=r"got 2 workers of 0\.5 GPUs; Ray finds 0 on this machine"):
        Workers.parse("2", 0.5).check(8, local=True)


@pytest.mark.parametrize(
    ("free", "used"), [([1], 1), ([1, 1], 2), ([1, 1, 1], 2), ([3, 2], 4), ([4, 4, 4], 4), ([], 0)]
)
def test_as_many_as_share_the_streams_equally(free, used):
    """Of 8 streams, up to four workers."""
    policy = _EqualShares(rt.ScalingConfig(num_workers=(1, 4), resources_per_worker={"CPU": 1}), 8)
    nodes = {f"node-{n}": {"CPU": float(count)} for n, count in enumerate(free)}
    assert policy._count_possible_workers(nodes) == used


def died(**how):
    return {1: RayActorError(**how)}


def test_deaths_in_a_row_end_a_run_and_a_checkpoint_between_them_forgives_them():
    watcher = GiveUp()
    for _ in range(2):
        for _ in range(DEATHS - 1):
            watcher.after_exception(None, {0: RuntimeError("peer closed"), 1: OSError(104, "reset")})
        watcher.after_report(None, [{}], None)
        watcher.after_report(None, [{"step": 8}], rt.Checkpoint("/somewhere"))
    for _ in range(DEATHS - 1):
        watcher.after_exception(None, {1: MemoryError("no room")})
    with pytest.raises(UserError, match=r"failed 3 times .* last time worker 1: MemoryError: no room"):
        watcher.after_exception(None, {1: MemoryError("no room")})


def test_a_node_that_was_taken_away_is_no_death():
    watcher = GiveUp()
    for _ in range(2 * DEATHS):
        watcher.after_exception(None, {0: RuntimeError("peer closed"), **died(preempted=True)})
    watcher.after_exception(None, died())
