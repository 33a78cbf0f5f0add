"""What `aign submit` sends and refuses, and what it makes of the answers; without a cluster."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray.job_submission import JobStatus

from aign.framework.errors import UserError
from pipelines import cli, job_client, submit
from pipelines.commit import commit

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    for name in (*submit.PASSED, "RAY_ADDRESS", "RAY_AUTH_MODE", cli.CLIENT_VERSION, "AIGN_COMMIT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")  # connect sets it; it is put back after the test


def test_the_command_stands_after_two_dashes():
    assert submit.split(["--env", "A", "--", "train", "x", "--", "y"]) == (["--env", "A"], ["train", "x", "--", "y"])


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "name the command after --"),
        (["train", "lifting-demo"], "name the command after --"),
        (["--"], "name the command after --"),
        (["--", "trian"], "got command 'trian'; allowed: demo"),
        (["--", "submit", "--", "train"], "got command 'submit'"),
        (["--", "train", "--store=s3://me:secret@host/x"], "a URL of the command holds a password"),
        (["--", "train", "--store", "s3://me:secret@host/x"], "a URL of the command holds a password"),
        (["--folder", "relative", "--", "train"], "it must be absolute"),
        (["--env", "AWS_SECRET_ACCESS_KEY", "--", "train"], "may be a secret"),
        (["--env", "NOT_SET_HERE", "--", "train"], "is not set here"),
        (["--address", "127.0.0.1:8265", "--", "train"], "jobs go to the dashboard's address"),
        (["--address", "http://host:port", "--", "train"], "jobs go to the dashboard's address"),
        (["--address", "http://[host", "--", "train"], "jobs go to the dashboard's address"),
        (["--address", "http://me:secret@host:8265", "--", "train"], "may not hold a password"),
        (["--address", "http://127.0.0.1:1", "--", "train"], "no Ray dashboard answers at http://127.0.0.1:1"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_sent(argv, said, capsys):
    assert cli.main(["submit", *argv]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert said in err
    assert "secret@" not in err


def test_only_named_variables_go_along(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hidden")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("MINE", "1")
    assert submit.environment() == {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    assert submit.environment(["MINE"])["MINE"] == "1"
    sent = submit.runtime_env(ROOT, submit.environment(["MINE"]))
    assert "hidden" not in json.dumps(sent)
    assert sent["env_vars"]["AIGN_COMMIT"] == commit()
    assert sent["env_vars"]["RAY_JOB_STOP_SIGNAL"] == "SIGINT"


@pytest.mark.parametrize(
    ("uri", "said"),
    [("sqlite:////home/me/mlflow.db", "a cluster needs a server"), ("http://me:pw@mlflow", "holds a password")],
)
def test_a_tracking_uri_that_cannot_go_along_is_refused(uri, said, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=said):
        submit.environment()


def test_the_upload_is_the_code_and_nothing_else(tmp_path):
    for name in ("aign/data/x.py", "pipelines/cli.py", "infra/y.py", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    for name in (".venv/lib/big.so", "stores/motion/part.parquet", "film.mp4", "aign/__pycache__/x.pyc", ".git/HEAD",
                 "mlflow/mlflow.db", ".env"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(1000))
    for name in (".gitignore", ".rayignore"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    upload = submit.measured(tmp_path)
    assert (upload.files, upload.size_bytes) == (4, 4)


def test_this_checkout_is_small_and_a_large_one_is_refused(monkeypatch, capsys):
    assert submit.checkout(ROOT) == ROOT
    upload = submit.measured(ROOT)
    assert 200 < upload.files < 2000
    assert upload.size_bytes < 10 * 2**20
    monkeypatch.setattr(submit, "UPLOAD_BYTES", 2**20)
    with pytest.raises(UserError, match=r"would upload .* MB in .* files; allowed are 1 MB. Largest: aign/body") as got:
        submit.checkout(ROOT)
    assert "\n" not in str(got.value)


def test_outside_a_checkout_nothing_is_uploaded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert submit.checkout(None) is None
    assert "the cluster's own aign" in capsys.readouterr().err
    with pytest.raises(UserError, match="is no checkout of aign"):
        submit.checkout(tmp_path)


@contextmanager
def server(status: int, body: object) -> Iterator[str]:
    """Answers everything alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, {"ray_version": "2.30.0"}, f"runs Ray 2.30.0, this machine {ray.__version__}; they must be equal"),
        (200, {"ray_version": "1.5.0"}, "Ray version 1.5.0 is running"),
        (200, {"other": "1"}, "is not a Ray dashboard"),
        (200, b"<html>", "is not a Ray dashboard"),
        (404, b"", "is not a Ray dashboard"),
        (500, b"", "is not a Ray dashboard"),
        (401, b"Unauthorized", "it asks for a token; set RAY_AUTH_MODE=token"),
        (403, b"Forbidden", "the token here is not the cluster's"),
    ],
)
def test_another_server_or_version_is_one_line(status, body, said):
    with server(status, body) as url, pytest.raises(UserError, match=said) as got:
        job_client.connect(url)
    assert "\n" not in str(got.value)


def test_the_flag_wins_over_the_variables(monkeypatch):
    assert job_client.dashboard_url(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "http://other:8265")
    assert job_client.dashboard_url(None) == "http://other:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://third:8265/")
    assert job_client.dashboard_url(None) == "http://third:8265"
    with server(200, {"ray_version": ray.__version__}) as url:
        assert job_client.connect(url).get_address() == url


def info(status: JobStatus, code: int | None = None, message: str = "") -> SimpleNamespace:
    return SimpleNamespace(status=status, driver_exit_code=code, message=message)


@pytest.mark.parametrize(
    ("details", "code", "said"),
    [
        (info(JobStatus.SUCCEEDED, 0), 0, "succeeded"),
        (info(JobStatus.FAILED, 2, "logs:\naign train: no\n\n"), 2, "failed with exit code 2: aign train: no"),
        (info(JobStatus.FAILED, 2, "cd: no\nRunning entrypoint for job x"), 2, "failed with exit code 2: cd: no"),
        (info(JobStatus.FAILED, -9), 137, "was killed by signal 9 (out of memory?)"),
        (info(JobStatus.FAILED, None, "no node\n  fits"), 1, "failed before its command ran to an end: fits"),
        (info(JobStatus.STOPPED), 143, "was stopped"),
        (info(JobStatus.RUNNING), 1, "running"),
    ],
)
def test_a_job_ends_with_its_commands_code_and_its_reason(details, code, said):
    assert job_client.exit_code(details) == code
    assert job_client.outcome(details) == said


class Flaky:
    """A job server whose connection breaks twice, and begins the log again each time."""

    def __init__(self, breaks: int) -> None:
        self.breaks = breaks

    def get_address(self):
        return "http://cluster:8265"

    def get_job_info(self, job):
        return info(JobStatus.SUCCEEDED, 0)

    async def tail_job_logs(self, job):
        yield "one\n"
        if self.breaks:
            self.breaks -= 1
            raise RuntimeError("WebSocket connection closed unexpectedly")
        yield "two\n"


@pytest.fixture
def _no_waiting(monkeypatch):
    real = asyncio.sleep
    monkeypatch.setattr(job_client.asyncio, "sleep", lambda _: real(0))


@pytest.mark.usefixtures("_no_waiting")
def test_a_broken_connection_comes_back_and_nothing_is_printed_twice(capsys):
    assert job_client.follow(Flaky(2), "a") == 0
    assert capsys.readouterr().out == "one\ntwo\n"


@pytest.mark.usefixtures("_no_waiting")
def test_a_connection_that_stays_broken_says_how_to_go_on():
    with pytest.raises(UserError, match=r"broke .*; the job goes on; aign jobs follow a shows it again"):
        job_client.follow(Flaky(100), "a")


def test_ctrl_c_leaves_the_job_running_and_says_how_to_go_on(capsys):
    class Interrupted(Flaky):
        async def tail_job_logs(self, job):
            yield "one\n"
            raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        job_client.follow(Interrupted(0), "a")
    assert stop.value.code == 130
    assert capsys.readouterr().err.strip().startswith("the job goes on; aign jobs follow a shows it again")


def test_another_aign_on_the_cluster_is_refused_in_one_line(monkeypatch, capsys):
    monkeypatch.setenv(cli.CLIENT_VERSION, "9.9")
    assert cli.main(["models", "list"]) == 2
    assert "installed, the job was submitted by aign 9.9; they must be equal" in capsys.readouterr().err


def test_a_job_logs_the_commit_it_was_submitted_from(monkeypatch):
    monkeypatch.setenv("AIGN_COMMIT", "abc")
    assert commit() == "abc"
