"""From a source to a pulled model, every step a job that a client without a secret submits to a two-node cluster."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ray.job_submission import JobSubmissionClient

from aign.inference.package import load_package
from tests.cluster.conftest import SECRETS
from tests.cluster.nodes import BIN
from tests.pipelines.samples import AIGN, TINY

pytestmark = [pytest.mark.ray, pytest.mark.timeout(2700)]
ROOT = Path(__file__).parents[2]
WAIT_S = 1200.0
TINY_FIT = ("--fit.steps", "6", "--fit.validate-every", "3", "--fit.log-every", "1")


@dataclass(frozen=True, kw_only=True)
class Client:
    """Somebody's laptop: the checkout, the token, and the names of the services; no secret of them."""

    environment: Mapping[str, str]
    dashboard: str
    folder: Path
    uri: str
    bucket: str
    seconds: dict[str, float] = field(default_factory=dict)

    def start(self, *argv: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            argv, cwd=ROOT, env=dict(self.environment), text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *argv: str) -> tuple[int, str, str]:
        began = time.monotonic()
        process = self.start(*argv)
        try:
            out, err = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
        self.seconds[" ".join(argv[-3:])[:60]] = time.monotonic() - began
        return process.returncode, out, err

    def aign(self, *argv: str) -> tuple[int, str, str]:
        return self.run(*AIGN, *argv)

    def submit(self, *command: str) -> tuple[int, str, str]:
        return self.aign("submit", "--folder", str(self.folder), "--", *command)

    def jobs(self) -> list[Any]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            headers = {"Authorization": f"Bearer {Path(self.environment['RAY_AUTH_TOKEN_PATH']).read_text()}"}
            return JobSubmissionClient(self.dashboard, headers=headers).list_jobs()


@pytest.fixture(scope="module")
def client(nodes, bucket) -> Client:
    cluster, uri = nodes
    passing = {name: value for name, value in os.environ.items() if name not in SECRETS and name != "RAY_ADDRESS"}
    environment = (
        passing
        | cluster.client
        | {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
            "RAY_API_SERVER_ADDRESS": cluster.dashboard,
            "MLFLOW_TRACKING_URI": uri,
        }
    )
    return Client(environment=environment, dashboard=cluster.dashboard, folder=cluster.folder, uri=uri, bucket=bucket)


def until(holds: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + WAIT_S
    while not (found := holds()):
        assert time.monotonic() < end, f"waited {WAIT_S} s for {what}"
        time.sleep(0.2)
    return found


def interrupted(client: Client, *command: str) -> tuple[str, str]:
    """Submit, and press Ctrl-C as soon as the job runs; its id, and what was said."""
    process = client.start(*AIGN, "submit", "--folder", str(client.folder), "--", *command)
    assert process.stdout is not None
    for line in process.stdout:
        if "Running entrypoint" in line:
            break
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130, said
    (job,) = re.findall(r"^submitted (\S+)$", said, re.MULTILINE)
    return job, said


def test_preprocess_train_tune_evaluate_register_pull(client, nodes, tmp_path):
    store, (cluster, _) = f"{client.bucket}/stores/motion", nodes
    # Ray's own command does it too; what it lacks is the variables of the client, so they are given by hand.
    variables = json.dumps({"env_vars": {"AWS_ENDPOINT_URL": client.environment["AWS_ENDPOINT_URL"]}})
    plain = (str(BIN / "ray"), "job", "submit", "--working-dir", ".", "--runtime-env-json", variables)
    code, out, err = client.run(*plain, "--", "aign", "preprocess", "demo-motions", "--store", store)
    assert code == 0, out + err
    assert f"{store}: 20 sources added" in out

    train = ("train", "lifting-demo", "--store", store, "--name", "tiny", *TINY_FIT, *TINY)
    job, said = interrupted(client, *train)
    assert said.rstrip().endswith(f"aign jobs follow {job} shows it again, aign jobs stop {job} ends it")
    code, out, err = client.aign("jobs", "follow", job)
    assert code == 0, out + err
    assert err.rstrip().endswith(f"job {job} succeeded")
    run = client.folder / "runs" / "tiny"
    assert (run / "run.json").is_file(), "relative paths of a job are in the shared folder"
    assert two_workers_on_two_nodes(cluster.logs)

    search = ("tune", "lifting-demo", "--store", store, "--trials", "2", "--steps", "9", *TINY)
    code, out, err = client.submit(*search)
    assert code == 0, out + err
    assert "trial 1 of 2" in out + err
    code, out, err = client.submit("evaluate", "runs/tiny", "baseline:mean-pose", "--store", store)
    assert code == 0, out + err
    assert "mean-pose" in out
    code, out, err = client.submit("register", "runs/tiny")
    assert code == 0, out + err
    assert "lifting version 1 is now the champion" in out
    code, out, err = client.submit("models", "pull", "models:/lifting@champion", "--out", "pulled")
    assert code == 0, out + err
    pulled = client.folder / out.strip().splitlines()[-1]
    assert (pulled / "model.safetensors").read_bytes() == (run / "package" / "model.safetensors").read_bytes()
    load_package(pulled)
    print({what: round(seconds, 1) for what, seconds in client.seconds.items()})


def two_workers_on_two_nodes(logs: tuple[Path, ...]) -> bool:
    """Each node has a log of a training worker of its own."""
    return all(any(folder.rglob("*/logs/train/*worker*")) for folder in logs)


def test_a_job_that_fails_says_why_last_and_passes_its_code_on(client):
    code, out, err = client.submit("data", "doctor", f"{client.bucket}/nothing")
    assert code == 2
    why = out.strip().splitlines()[-1]
    assert why.startswith("aign data: ")
    assert err.strip().splitlines()[-1].endswith(f"failed with exit code 2: {why}")
    job = re.findall(r"^submitted (\S+)$", err, re.MULTILINE)[0]
    code, shown, _ = client.aign("jobs", "show", job)
    assert code == 0
    assert shown.splitlines()[0] == f"{job} failed with exit code 2: {why}"


def test_a_stopped_job_ends_as_after_ctrl_c(client):
    long = ("train", "lifting-demo", "--store", f"{client.bucket}/stores/motion", "--name", "long", *TINY)
    job, _ = interrupted(client, *long, "--workers", "0", "--fit.steps", "1000000")
    metrics = client.folder / "runs" / "long" / "metrics.jsonl"
    until(metrics.is_file, "its first step")
    code, out, err = client.aign("jobs", "stop", job)
    assert (code, out.strip()) == (0, f"{job} was stopped"), err
    code, out, err = client.aign("jobs", "follow", job)
    assert code == 143
    assert "interrupted; what was finished is kept" in out


def test_a_client_without_the_token_is_refused_in_one_line(client, tmp_path):
    for mode, said in (("disabled", "it asks for a token"), ("token", "the token here is not the cluster's")):
        (tmp_path / "wrong").write_text("wrong")
        other = {"RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "wrong")}
        stranger = Client(**{**vars(client), "environment": client.environment | other})
        code, _, err = stranger.aign("jobs", "list")
        assert (code, err.count("\n")) == (2, 1), err
        assert said in err


def test_no_secret_is_in_logs_or_in_what_a_job_shows(client, nodes):
    """Runs last: it looks at what all jobs before it have left."""
    cluster, _ = nodes
    secrets = [SECRETS[name].encode() for name in SECRETS if name != "MLFLOW_TRACKING_USERNAME"]
    secrets.append(cluster.token.read_bytes())
    shown = " ".join(str(job) for job in client.jobs()).encode()
    assert b"AWS_ENDPOINT_URL" in shown, "this is where variables would be seen"
    assert not [secret for secret in secrets if secret in shown]
    files = [path for folder in cluster.logs for path in folder.rglob("logs/**/*") if path.is_file()]
    assert len(files) > 20
    assert not [(path, secret) for path in files for secret in secrets if secret in path.read_bytes()]
