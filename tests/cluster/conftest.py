"""What a production cluster has beside Ray: an S3-compatible store, and an MLflow server that asks who is there."""

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.cluster.nodes import TwoNodes, free_ports, two_nodes

SECRETS = {
    "MLFLOW_TRACKING_USERNAME": "robot",
    "MLFLOW_TRACKING_PASSWORD": "a-password-nobody-may-see",
    "AWS_ACCESS_KEY_ID": "a-key-id-nobody-may-see",
    "AWS_SECRET_ACCESS_KEY": "a-secret-nobody-may-see",
}
"""On the nodes alone; the client that submits has none of them."""
ADMIN = ("admin", "of-the-server-alone")
AUTH = Path(__file__).parents[2] / "infra/mlflow/auth.ini"


@contextmanager
def mlflow_server(root: Path, bucket: str) -> Iterator[str]:
    """A server with authentication, its artifacts in a bucket; the URI before it answers, so others can start too."""
    database = r"^database_uri = .+$"  # the users' PostgreSQL is replaced; the rest is what production has
    (root / "auth.ini").write_text(
        re.sub(database, f"database_uri = sqlite:///{root}/users.db", AUTH.read_text(), flags=re.MULTILINE)
    )
    (port,) = free_ports(1)
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--app-name", "basic-auth", "--backend-store-uri", f"sqlite:///{root}/server.db"),
        *("--artifacts-destination", f"{bucket}/mlflow"),
    ]
    environment = os.environ | {
        "MLFLOW_AUTH_CONFIG_PATH": str(root / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN[0],
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "only-for-this-test",
        "MLFLOW_S3_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"],
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with (root / "server.log").open("wb") as log:
        # Its own session, so that ending its group ends its workers and nobody else.
        server = subprocess.Popen(command, env=environment, cwd=root, stdout=log, stderr=log, start_new_session=True)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, 9)
        server.wait()


def add_user(uri: str) -> None:
    """The jobs' user, who is no administrator."""
    user = {"username": SECRETS["MLFLOW_TRACKING_USERNAME"], "password": SECRETS["MLFLOW_TRACKING_PASSWORD"]}
    answer = requests.post(f"{uri}/api/2.0/mlflow/users/create", json=user, auth=ADMIN, timeout=60)
    assert answer.ok, answer.text


def wait_for(uri: str, log: Path) -> None:
    """Until the server answers."""
    end = time.monotonic() + 180
    while True:
        try:
            urllib.request.urlopen(f"{uri}/health", timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)


@pytest.fixture(scope="module")
def nodes(bucket: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TwoNodes, str]]:
    """Two nodes, and the URI of the MLflow server that their jobs use."""
    root = tmp_path_factory.mktemp("cluster")
    (root / "shared").mkdir()
    with mlflow_server(root, bucket) as uri, two_nodes(root / "shared", SECRETS) as cluster:
        wait_for(uri, root / "server.log")
        assert requests.get(f"{uri}/api/2.0/mlflow/experiments/get?experiment_id=0", timeout=60).status_code == 401
        add_user(uri)
        yield cluster, uri
