"""One run, kept on S3, on three nodes, that loses two of the nodes and then its command: nothing else is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import psutil
import pytest
import torch

from aign.inference.package import load_package
from aign.registry.client import client_of
from aign.registry.tracking import open_tracking
from pipelines.ray_train import Job, train
from pipelines.run_files import logged
from pipelines.run_place import Place, opened
from pipelines.workers import Workers
from tests.pipelines.samples import tiny
from tests.pipelines.staged_run import COMMAND_DIES, EVERY, NODE_DIES, NODE_LEAVES, STEPS, starts

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(3000)]
PATIENCE_S = 900.0
NOTICE_S = 15
ROOT = Path(__file__).parents[2]
QUICK = {
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
}
NODES = """
import json, sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
cluster.wait_for_nodes()
def raylet(node):
    return next(p.process.pid for many in node.all_processes.values() for p in many if "raylet" in str(p.process.args))
print(json.dumps([cluster.address, {node.node_id: raylet(node) for node in nodes}]), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def nodes(bucket, tmp_path):
    """Address of a cluster of a head and two nodes of one CPU each, and the pids of the two's raylets by node."""
    process = subprocess.Popen(
        [sys.executable, "-c", NODES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, start_new_session=True, env={**os.environ, **QUICK, "AIGN_TEST_NOTES": str(tmp_path)},
    )  # fmt: skip
    try:
        yield json.loads(process.stdout.readline())
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        for child in [*children, psutil.Process(process.pid)]:
            child.kill()
        process.wait()


def wait_for(there, process):
    until = time.monotonic() + PATIENCE_S
    while not there():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.5)


def worker_off_the_head(folder, stage, raylets):
    """The node of a worker of a stage that is none of the head's, once all workers have started; else None."""
    rows = [row for row in starts(folder) if int(row[0]) == stage]
    whole = rows and len(rows) == int(rows[0][2])
    return next((row[3] for row in rows if row[3] in raylets), None) if whole else None


def drain(address, node):
    script = "import sys; from ray.scripts.scripts import cli; cli()"
    told = ("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot")
    where = ("--address", address, "--node-id", node, "--deadline-remaining-seconds", str(NOTICE_S))
    command = [sys.executable, "-c", script, "drain-node", *where, *told]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)


def test_a_run_loses_two_nodes_and_its_command(nodes, bucket, demo_store, tmp_path):
    address, raylets = nodes
    url, mlflow = f"{bucket}/runs", str(tmp_path / "mlflow")
    arguments = (demo_store.url, url, mlflow, address)
    environment = {**os.environ, **QUICK, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def command(workers):
        return subprocess.Popen(
            [sys.executable, "-m", "tests.pipelines.staged_run", *arguments, workers],
            env=environment, text=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip

    s3 = fsspec.filesystem("s3", use_listings_cache=False)

    def committed():
        path = f"{url.removeprefix('s3://')}/run/ray/checkpoint_manager_snapshot.json"
        return s3.exists(path) and json.loads(s3.cat_file(path))["latest_checkpoint_result"]["metrics"]["step"] == EVERY

    first = command("1:4")
    wait_for(lambda: worker_off_the_head(tmp_path, NODE_LEAVES, raylets), first)
    drain(address, worker_off_the_head(tmp_path, NODE_LEAVES, raylets))
    wait_for(lambda: worker_off_the_head(tmp_path, NODE_DIES, raylets), first)
    os.kill(raylets[worker_off_the_head(tmp_path, NODE_DIES, raylets)], signal.SIGKILL)
    wait_for(committed, first)
    first.kill()
    first.communicate()
    second = command("1")
    _, told = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 0, told
    assert_nothing_was_lost(url, demo_store, tmp_path)


def assert_nothing_was_lost(url, demo_store, folder):
    ours = [(int(stage), int(world), int(step)) for stage, rank, world, _, step in starts(folder) if rank == "0"]
    # Three CPUs, but two workers: three would not share eight streams equally. The notice came at step 1.
    assert ours == [(NODE_LEAVES, 2, 0), (NODE_DIES, 2, 1), (COMMAND_DIES, 1, 1), (4, 1, EVERY)]
    undisturbed = Job(
        recipe=tiny(steps=STEPS, validate_every=EVERY),
        store_url=demo_store.url,
        place=Place(folder=folder / "alone"),
        workers=Workers.fixed(0),
    )
    want = train(undisturbed).generator
    s3 = fsspec.filesystem("s3", use_listings_cache=False)
    snapshot = json.loads(s3.cat_file(f"{url}/run/ray/checkpoint_manager_snapshot.json"))
    # That of step 1 was never validated: it was the last one for a while, and none of the best.
    assert sorted(one["metrics"]["step"] for one in snapshot["checkpoint_results"]) == [EVERY, STEPS]
    with opened(f"{url}/run") as run:
        got = load_package(run.package)[0].state_dict()
        rows = logged(run.folder)
    for name, value in want.items():
        torch.testing.assert_close(got[name], value, atol=1e-5, rtol=0)
    for ours, theirs in zip(rows, logged(folder / "alone"), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)
    tracking = open_tracking(folder / "mlflow")
    (tracked,) = client_of(tracking.uri).search_runs(["1"])
    assert tracked.info.status == "FINISHED"
    history = client_of(tracking.uri).get_metric_history(tracked.info.run_id, "loss/supervised")
    assert [m.step for m in history] == list(range(1, STEPS + 1))
