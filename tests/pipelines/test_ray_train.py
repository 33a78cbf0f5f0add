"""Two gloo workers on Ray Train: they equal one process, survive a death, and tell a user's mistake in one line."""

import errno
import json
import os
import signal
import time
from dataclasses import replace

import pytest
import ray.train as rt
import torch

from aign.framework.errors import StorageError, UserError
from aign.inference.package import load_package
from aign.registry.client import client_of
from aign.registry.tracking import open_tracking
from pipelines import cli, ray_train
from pipelines.ray_hooks import GiveUp, RayHooks
from pipelines.ray_train import Job, train
from pipelines.run_files import logged
from pipelines.run_folder import alone
from pipelines.run_place import Place
from pipelines.train import run_recipe
from pipelines.workers import Workers
from tests.pipelines.samples import tiny

pytestmark = pytest.mark.ray
STEPS, EVERY = 24, 8


@pytest.fixture(scope="module")
def undisturbed(demo_store, tmp_path_factory):
    """The run in this process, which the Ray runs must equal; and its folder."""
    folder = tmp_path_factory.mktemp("local") / "run"
    folder.mkdir()
    recipe = tiny(steps=STEPS, validate_every=EVERY)
    job = Job(recipe=recipe, store_url=demo_store.url, place=Place(folder=folder), workers=Workers.fixed(0))
    return train(job), folder


@pytest.fixture(scope="module")
def two_workers(ray_cluster, demo_store, tmp_path_factory):
    """A whole run on two workers, with its MLflow."""
    root = tmp_path_factory.mktemp("two")
    tracking = open_tracking(root / "mlflow")
    recipe = tiny(steps=STEPS, validate_every=EVERY)
    return run_recipe(recipe, demo_store.url, root / "run", tracking, 2), tracking, recipe


def steps_of(folder):
    return [row["step"] for row in logged(folder) if any(name.startswith("loss/") for name in row)]


def tracked_steps(tracking, run_id, name):
    return [m.step for m in client_of(tracking.uri).get_metric_history(run_id, name)]


def assert_same_weights(got, want, tolerance):
    assert got.keys() == want.keys()
    for name, value in want.items():
        torch.testing.assert_close(got[name], value, atol=tolerance, rtol=0)


def test_two_workers_equal_one_process(two_workers, undisturbed):
    run, tracking, _ = two_workers
    assert_same_weights(load_package(run.package)[0].state_dict(), undisturbed[0].generator, 1e-5)
    assert steps_of(run.folder) == list(range(1, STEPS + 1))
    for ours, theirs in zip(logged(run.folder), logged(undisturbed[1]), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)
    assert tracked_steps(tracking, run.run_id, "loss/supervised") == list(range(1, STEPS + 1))
    assert client_of(tracking.uri).get_run(run.run_id).info.status == "FINISHED"


def test_the_best_checkpoints_are_kept_by_the_objective(two_workers, demo_store):
    run, _, recipe = two_workers
    job = Job(recipe=recipe, store_url=demo_store.url, place=Place(folder=run.folder))
    kept = ray_train._kept(ray_train.best_of(job))
    assert (kept.checkpoint_score_attribute, kept.checkpoint_score_order) == ("val/mpjpe_mm", "min")
    snapshot = json.loads((run.folder / "ray" / "checkpoint_manager_snapshot.json").read_text())
    assert snapshot["latest_checkpoint_result"]["metrics"]["step"] == STEPS
    errors = {row["step"]: row["val/mpjpe_mm"] for row in logged(run.folder) if "val/mpjpe_mm" in row}
    best = sorted(errors, key=errors.get)[: kept.num_to_keep]
    assert {one["metrics"]["step"] for one in snapshot["checkpoint_results"]} == {*best, STEPS}
    for folder in (run.folder / "ray").glob("checkpoint_*/"):
        assert {p.name for p in folder.iterdir()} == {"checkpoint.pt", "metrics.jsonl"}


def test_a_finished_run_is_kept_and_nothing_is_started(two_workers, demo_store, monkeypatch):
    run, tracking, recipe = two_workers
    monkeypatch.setattr("pipelines.train.train", lambda *_: pytest.fail("trained again"))
    written = {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")}
    again = run_recipe(recipe, demo_store.url, run.folder, tracking, 2)
    assert (again.run_id, again.report, again.folder) == (run.run_id, run.report, run.folder)
    assert {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")} == written


def test_another_configuration_under_the_same_name_is_refused(two_workers, demo_store):
    run, tracking, recipe = two_workers
    other = replace(recipe, fit=replace(recipe.fit, lr=0.5), seed=3)
    with pytest.raises(UserError, match=r"another configuration: fit.lr 0.001 -> 0.5, seed 0 -> 3; give") as error:
        run_recipe(other, demo_store.url, run.folder, tracking, 2)
    assert "\n" not in str(error.value)


def test_a_second_process_on_the_same_run_is_refused(demo_store, tmp_path):
    tracking = open_tracking(tmp_path / "mlflow")
    (tmp_path / "run").mkdir()
    with alone(tmp_path / "run"), pytest.raises(UserError, match="is being trained by another process"):
        run_recipe(tiny(), demo_store.url, tmp_path / "run", tracking, 0)
    assert not list((tmp_path / "run").iterdir())


class Dying(RayHooks):
    """Rank 1 is killed at step 13, once; every start is noted."""

    def restore(self):
        state = super().restore()
        if self.rank == 1:
            with (self.run_dir / "starts").open("a") as file:
                file.write(f"{state['step'] if state else 0}\n")
        return state

    def log(self, step, metrics):
        super().log(step, metrics)
        mark = self.run_dir / "died"
        if self.rank == 1 and step == 13 and not mark.exists():
            mark.write_text("")
            rt.get_all_reported_checkpoints()  # which count when Ray's controller has seen them
            os.kill(os.getpid(), signal.SIGKILL)


def dying_worker(config):
    torch.set_num_threads(1)
    return ray_train.ended(ray_train.run(config["job"], Dying(config["job"].place, config["job"].run_log)))


def test_a_killed_worker_is_replaced_and_the_run_ends_the_same(
    ray_cluster, demo_store, undisturbed, tmp_path, monkeypatch
):
    monkeypatch.setattr(ray_train, "_worker", dying_worker)
    tracking = open_tracking(tmp_path / "mlflow")
    run = run_recipe(tiny(steps=STEPS, validate_every=EVERY), demo_store.url, tmp_path / "run", tracking, 2)
    assert (run.folder / "starts").read_text().split() == ["0", "8"]
    assert_same_weights(load_package(run.package)[0].state_dict(), undisturbed[0].generator, 1e-5)
    assert steps_of(run.folder) == list(range(1, STEPS + 1))
    assert tracked_steps(tracking, run.run_id, "loss/supervised") == list(range(1, STEPS + 1))
    assert tracked_steps(tracking, run.run_id, "val/mpjpe_mm") == list(range(EVERY, STEPS + 1, EVERY))
    assert len(client_of(tracking.uri).search_runs(["1"])) == 1


def test_roles_that_overlap_are_one_line_before_anything_starts(demo_store, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.train.train", lambda *_: pytest.fail("started"))
    recipe = tiny()
    overlapping = replace(recipe, roles=replace(recipe.roles, test=recipe.roles.memory))
    with pytest.raises(UserError, match="demo/backflip") as error:
        run_recipe(overlapping, demo_store.url, tmp_path / "run", open_tracking(tmp_path / "mlflow"), 2)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loss_that_is_not_finite_is_one_line(workers, ray_cluster, demo_store, tmp_path, capsys):
    flags = ("--fit.lr", "1e30", "--fit.steps", "20", "--labelled-batch", "8", "--unlabelled-batch", "8")
    places = ("--store", demo_store.url, "--runs", str(tmp_path / "runs"), "--mlflow", str(tmp_path / "mlflow"))
    began = time.monotonic()
    assert cli.main(["train", "lifting-demo", *places, *flags, "--workers", str(workers)]) == 2
    seconds = time.monotonic() - began
    last = capsys.readouterr().err.splitlines()[-1]
    assert "the loss is not finite at step" in last
    assert "Lower --fit.lr" in last
    assert seconds < 200, "it is not tried again"
    tracking = open_tracking(tmp_path / "mlflow")
    (run,) = client_of(tracking.uri).search_runs(["1"])
    assert run.info.status == "FAILED"
    assert not (tmp_path / "runs" / "lifting-demo" / "run.json").exists()


@pytest.mark.parametrize(
    "error",
    [UserError("lower it"), OSError(errno.ENOSPC, "no"), OSError(errno.EROFS, "no"), PermissionError("Access Denied")],
)
def test_what_would_fail_again_is_not_tried_again(error):
    with pytest.raises(type(error)) as raised:
        GiveUp().after_exception(None, {0: RuntimeError("connection closed by peer"), 1: error})
    assert raised.value is error


@pytest.mark.parametrize(
    ("error", "why"),
    [(PermissionError("Access\n Denied"), "Access Denied"), (OSError(errno.ENOSPC, "no"), "No space left on device")],
)
def test_a_place_that_refuses_checkpoints_is_one_line(error, why, monkeypatch, tmp_path):
    def refused(_):
        raise rt.ControllerError(error)

    monkeypatch.setattr(ray_train, "_on_ray", refused)
    job = Job(recipe=tiny(), store_url="", place=Place(folder=tmp_path, url="s3://bucket/runs/one"))
    with pytest.raises(StorageError) as raised:
        ray_train._unwrapped(job)
    assert str(raised.value) == f"cannot write run s3://bucket/runs/one: {why}"


@pytest.mark.parametrize("error", [RuntimeError("died"), OSError(errno.ECONNRESET, "reset"), MemoryError()])
def test_what_may_pass_is_left_to_ray(error):
    GiveUp().after_exception(None, {1: error})
