"""The whole way through a real MLflow server."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from aign.inference.predictor import LiftingPredictor
from aign.registry.client import client_of
from aign.registry.models import list_models, pull, register, roll_back
from aign.registry.run_log import RunLog
from aign.registry.tracking import find_run, finish, log_files, open_tracking, start_run
from tests.registry.samples import CONFIG, FACTS, frames, score
from tests.registry.test_models import clean_process


@pytest.fixture
def server(tmp_path, empty_database, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shutil.copy(empty_database, tmp_path / "server.db")
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", str(tmp_path / "kept")),
    ]
    env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "server.log").open("wb") as log:
        # Its own session, so that ending its group ends its workers and nobody else.
        process = subprocess.Popen(command, env=env, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)
    uri = f"http://127.0.0.1:{port}"
    try:
        _wait(uri, process, tmp_path / "server.log")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(uri: str, process: subprocess.Popen, log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"{uri}/health", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_everything_on_a_server(server, package, tmp_path):
    tracking = open_tracking(tmp_path / "ignored", experiment="lifting")
    assert tracking.uri == server
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

    assert register(tracking, run_id, package, "lifting", score(80), frames()).promoted
    assert register(tracking, run_id, package, "lifting", score(70), frames()).promoted
    assert not register(tracking, run_id, package, "lifting", score(75), frames()).promoted
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
