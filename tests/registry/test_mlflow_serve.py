"""MLflow's own server in front of a registered model."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from aign.inference.predictor import LiftingPredictor
from tests.registry.samples import add, frames, measured
from tests.registry.server import free_port
from tests.registry.test_models import ROOT


def ask(url, given):
    data = json.dumps({"inputs": {name: value.tolist() for name, value in given.items()}}).encode()
    request = urllib.request.Request(f"{url}/invocations", data=data, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.fixture
def served(tracking, run_id, package, tmp_path):
    add(tracking, run_id, package, "lifting", measured(80))
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", "models:/lifting@champion"),
        *("--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)),
    ]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # MLflow starts uvicorn by its name
    env = os.environ | {"MLFLOW_TRACKING_URI": tracking.uri, "PYTHONPATH": str(ROOT), "PATH": path}
    with (tmp_path / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + 180
        while True:
            assert process.poll() is None, (tmp_path / "serve.log").read_text()
            assert time.monotonic() < until, (tmp_path / "serve.log").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_it_answers_as_the_predictor_does(served, package):
    status, reply = ask(served, frames())
    assert status == 200, reply
    want = LiftingPredictor.of(package).predict(**frames())
    np.testing.assert_allclose(reply["predictions"]["joints_cam_m"], want, rtol=1e-4, atol=1e-5)
    short = {**frames(), "kp2d_px": frames()["kp2d_px"][:, :16]}
    assert ask(served, short)[0] == 400
