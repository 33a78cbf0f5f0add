"""The whole way through a real MLflow server."""

import json
import shutil
import time

import numpy as np
import pytest

from aign.framework.errors import StorageError
from aign.inference.predictor import LiftingPredictor
from aign.registry import run_log
from aign.registry.client import client_of
from aign.registry.models import list_models, pull
from aign.registry.promotion import roll_back
from aign.registry.run_log import UNTRACKED, RunLog
from aign.registry.tracking import Tracking, find_run, finish, log_files, open_tracking, start_run, wait_for
from pipelines.run_files import logged
from pipelines.tracked_hooks import TrackedHooks
from pipelines.train import run_recipe
from tests.pipelines.samples import tiny
from tests.registry.samples import CONFIG, FACTS, add, frames, measured
from tests.registry.server import MlflowServer, free_port
from tests.registry.test_models import clean_process


@pytest.fixture
def started(tmp_path, empty_database, monkeypatch):
    shutil.copy(empty_database, tmp_path / "server.db")
    made = MlflowServer(folder=tmp_path, backend=f"sqlite:///{tmp_path}/server.db", artifacts=str(tmp_path / "kept"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
    made.start()
    try:
        made.wait()
        yield made
    finally:
        made.kill()


def test_everything_on_a_server(started, package, tmp_path):
    tracking = open_tracking(tmp_path / "ignored", experiment="lifting")
    assert tracking.uri == started.uri
    run_id = start_run(tracking, "demo", CONFIG, FACTS)
    assert start_run(tracking, "demo", CONFIG, FACTS) == run_id == find_run(tracking, "demo")
    for steps in (range(30), range(20, 40)):  # killed at 30, resumed from 20
        log = RunLog(tracking, run_id)
        for step in steps:
            log.log(step, {"loss": float(step)})
        log.flush()
    found = client_of(tracking.uri).get_metric_history(run_id, "loss")
    assert [(m.step, m.value) for m in found] == [(s, float(s)) for s in range(40)]
    (tmp_path / "table.md").write_text("| a |")
    log_files(tracking, run_id, [tmp_path / "table.md"])

    assert add(tracking, run_id, package, "lifting", measured(80)).promoted
    assert add(tracking, run_id, package, "lifting", measured(70)).promoted
    assert not add(tracking, run_id, package, "lifting", measured(75)).promoted
    assert [(r.version, r.aliases) for r in list_models(tracking)] == [
        (3, ("challenger",)),
        (2, ("champion",)),
        (1, ()),
    ]
    assert roll_back(tracking, "lifting") == 1
    finish(tracking, run_id)

    folder = pull(tracking, "models:/lifting@champion", tmp_path / "cache")
    example = frames()
    expected = LiftingPredictor.of(folder).predict(**example)
    joints, refusals, _ = clean_process(tracking, tmp_path, "models:/lifting@champion")
    np.testing.assert_allclose(joints, expected, rtol=1e-5)
    assert all(refusals.values())
    assert not (tmp_path / "ignored").exists()
    assert list((tmp_path / "kept").rglob("model.safetensors")), "artifacts went through the server"


def test_a_training_goes_on_while_the_server_is_away(started, tmp_path, demo_store, monkeypatch, capsys):
    """Killed in the middle, started again before the end: the run has every number once, the training lost nothing."""
    monkeypatch.setattr(run_log, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(run_log, "FLUSH_SECONDS", 0.0)
    tracking, seen = open_tracking(tmp_path / "ignored"), []
    plain = TrackedHooks.log

    def log(self, step, metrics):
        plain(self, step, metrics)
        seen.append(len(metrics))
        if len(seen) == 6:
            started.kill()
        if len(seen) == 14:
            started.start()  # it comes back while the training goes on or ends

    monkeypatch.setattr(TrackedHooks, "log", log)
    run = run_recipe(tiny(steps=12, validate_every=4), demo_store.url, tmp_path / "run", tracking, workers=0)
    said = capsys.readouterr().err
    assert f"no MLflow server answers at {started.uri}" in said
    assert "the training goes on, its metrics are sent later" in said
    client = client_of(tracking.uri)
    assert client.get_run(run.run_id).info.status == "FINISHED"
    rows = logged(run.folder)
    assert rows[-1]["step"] == 12
    for name in {name for row in rows for name in row if not name.startswith(UNTRACKED)} - {"step"}:
        sent = [(m.step, m.value) for m in client.get_metric_history(run.run_id, name)]
        assert sorted(sent) == [(row["step"], pytest.approx(row[name])) for row in rows if name in row], name
    assert any(name.startswith("system/cpu") for name in client.get_run(run.run_id).data.metrics)
    (inputs,) = client.get_run(run.run_id).inputs.dataset_inputs
    assert demo_store.hash.startswith(inputs.dataset.digest)
    tags = {tag.key: tag.value for tag in inputs.tags}
    assert tags["store_hash"] == demo_store.hash
    assert tuple(json.loads(tags["licences"])) == demo_store.manifest.licences


def test_a_server_that_stays_away_is_told_in_one_line():
    away = Tracking(uri=f"http://127.0.0.1:{free_port()}", experiment="x")
    began = time.monotonic()
    with pytest.raises(StorageError, match="no MLflow server answers at"):
        wait_for(away, 0.1)
    log = RunLog(away, "0" * 32)
    for step in range(2000):
        log.log(step, {"loss": 1.0})
    log.flush()
    assert time.monotonic() - began < 30, "a training does not wait for it"
