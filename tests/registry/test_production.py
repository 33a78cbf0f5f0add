"""What stands in production: an MLflow server on PostgreSQL and S3; from a training to the same answers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aign.inference.serving import serve
from aign.registry import promotion
from aign.registry.clean_check import clean_refusal
from aign.registry.client import client_of
from aign.registry.models import pull, show
from aign.registry.tracking import open_tracking
from pipelines.register import example_of, register
from pipelines.train import run_recipe
from tests.pipelines.samples import tiny
from tests.registry.postgres import postgres
from tests.registry.server import MlflowServer

ROOT = Path(__file__).parents[2]
S3 = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")


@pytest.fixture
def server(tmp_path, bucket, monkeypatch):
    pytest.importorskip("boto3")
    keys = {name: os.environ[name] for name in S3} | {"MLFLOW_S3_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"]}
    for name in S3:
        monkeypatch.delenv(name)  # the server's alone: a client needs no key of the bucket
    with postgres() as database:
        made = MlflowServer(folder=tmp_path, backend=database, artifacts=f"{bucket}/mlflow", env=keys)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
        made.start()
        try:
            made.wait()
            yield made
        finally:
            made.kill()


def test_from_training_to_the_same_numbers(server, demo_store, tmp_path, monkeypatch):
    monkeypatch.setattr(promotion, "clean_refusal", clean_refusal)
    tracking = open_tracking(tmp_path / "ignored")
    run = run_recipe(tiny(steps=6, validate_every=3), demo_store.url, tmp_path / "runs" / "first", tracking, workers=0)
    client = client_of(tracking.uri)
    kept = client.get_run(run.run_id)
    assert kept.info.artifact_uri.startswith("mlflow-artifacts:")
    assert [m.step for m in client.get_metric_history(run.run_id, "loss/supervised")] == list(range(1, 7))
    assert kept.data.metrics["test/mpjpe_mm"] == pytest.approx(run.report.headline)
    assert any(name.startswith("system/") for name in kept.data.metrics)
    (given,) = kept.inputs.dataset_inputs
    assert json.loads(given.dataset.source) == {"uri": demo_store.url}
    assert {"store_hash": demo_store.hash}.items() <= {tag.key: tag.value for tag in given.tags}.items()
    assert {"table.csv", "curves.png", "report.json", "package"} <= {f.path for f in client.list_artifacts(run.run_id)}
    table = Path(client.download_artifacts(run.run_id, "table.csv", str(tmp_path))).read_text()
    assert all(action in table for action in run.report.frames_per_action)

    done = register(run, "lifting", tracking)
    assert done.promoted, done.reason
    found = show(tracking, "models:/lifting@champion")
    assert found.measured[0].score.value == run.report.headline
    assert [move.alias for move in found.moves] == ["challenger", "champion"]
    again = register(run, "lifting", tracking)
    assert (again.version, again.promoted) == (1, False)

    example = example_of(run)
    want = serve(run.package).answer(example)["joints_cam_m"]
    folder = pull(tracking, "models:/lifting@champion", tmp_path / "pulled")
    np.testing.assert_array_equal(serve(folder).answer(example)["joints_cam_m"], want)
    np.savez(tmp_path / "in.npz", **example)
    command = [sys.executable, "-m", "aign.registry.predict_npz", "models:/lifting@champion", "in.npz", "out.npz"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    asked = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stderr
    with np.load(tmp_path / "out.npz") as content:
        np.testing.assert_allclose(content["joints_cam_m"], want, rtol=1e-4, atol=1e-5)
    assert not (tmp_path / "ignored").exists()
