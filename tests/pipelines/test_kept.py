"""Which checkpoints Ray keeps of what our hooks report, also after a resume; Ray's own manager, without a cluster."""

import asyncio
from pathlib import Path

import pytest
import ray.train as rt
from ray.train.v2._internal.execution.checkpoint.checkpoint_manager import CheckpointManager
from ray.train.v2._internal.execution.storage import StorageContext
from ray.train.v2._internal.execution.training_report import _TrainingReport

from aign.recipes import recipe
from pipelines import ray_hooks
from pipelines.ray_hooks import RayHooks
from pipelines.ray_train import Job, _kept, best_of, worst_of
from pipelines.run_place import Place


@pytest.fixture
def reported(monkeypatch, tmp_path):
    """What the hooks report of checkpoints: (step, metrics) -> metrics of Ray."""
    said = []
    context = type("Context", (), {"get_world_rank": lambda _: 0, "get_world_size": lambda _: 1})()
    monkeypatch.setattr(ray_hooks.rt, "get_context", lambda: context)
    monkeypatch.setattr(ray_hooks.rt, "report", lambda metrics, **_: said.append(metrics))
    monkeypatch.setattr(ray_hooks.tempfile, "mkdtemp", lambda prefix: str(tmp_path))

    def report(worst, step, metrics):
        hooks = RayHooks(Place(folder=tmp_path / "run"), lambda: None, worst=worst)
        hooks.log(step, metrics)
        hooks.save(step, {"step": step, "config": {}}, metrics)
        return said[-1]

    return report


def kept_steps(config, folder, reports):
    """Steps that are kept, the manager begun anew from its snapshot after every report."""

    async def run():
        for number, metrics in enumerate(reports):
            storage = StorageContext(storage_path=str(folder), experiment_dir_name="ray")
            manager = CheckpointManager(config, storage)
            path = Path(storage.build_checkpoint_path_from_name(f"checkpoint_{number}"))
            path.mkdir(parents=True)
            checkpoint = rt.Checkpoint(str(path), storage.storage_filesystem)
            manager.register_checkpoint(_TrainingReport(checkpoint=checkpoint, metrics=metrics, validation=False))
            await asyncio.sleep(0)
        assert manager.latest_checkpoint_result.metrics["step"] == reports[-1]["step"]
        return {one.metrics["step"] for one in manager._checkpoint_results}

    return asyncio.run(run())


def test_the_two_best_and_the_last_and_never_one_that_was_not_validated(demo_store, tmp_path, reported):
    job = Job(recipe=recipe("lifting-demo"), store_url=demo_store.url, place=Place(folder=tmp_path))
    best = best_of(job)
    config, name = _kept(best), "val/mpjpe_mm"
    errors = {10: 80.0, 20: 70.0, 25: None, 30: 60.0, 40: float("nan"), 50: 75.0}
    reports = [reported(worst_of(best), step, {} if e is None else {name: e}) for step, e in errors.items()]
    assert kept_steps(config, tmp_path / "all", reports) == {20, 30, 50}
    assert kept_steps(config, tmp_path / "three", reports[:3]) == {10, 20, 25}


def test_the_last_two_where_there_is_nothing_to_choose_by(tmp_path, reported):
    config = _kept(None)
    assert worst_of(None) == {}
    assert config.checkpoint_score_attribute is None
    reports = [reported({}, step, {"val/reprojection_px": 1.0 / step}) for step in (10, 20, 30, 40)]
    assert kept_steps(config, tmp_path / "all", reports) == {30, 40}
