"""Exactly once: a worker, the driver or a whole node is killed at any moment; run again, the store is the same."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import psutil
import pytest

from aign.data.store import Store, find_manifest
from tests.pipelines.samples import Wrapped, content, leftovers, start

pytestmark = pytest.mark.ray
DEADLINE_S = 90.0


@dataclass(frozen=True, kw_only=True)
class Slow(Wrapped):
    """Takes a while, so that there is time to kill something."""

    seconds: float

    def clips(self, wanted, stored):
        time.sleep(self.seconds)
        return self.inner.clips(wanted, stored)


def wait_until(holds, what):
    end = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end, f"waited {DEADLINE_S} s for {what}"
        time.sleep(0.05)


def parts(store):
    return list(store.glob("*/part-*.parquet"))


def test_a_store_on_s3_equals_the_local_one(demo_store, bucket, tmp_path):
    url = f"{bucket}/preprocessed/motion"
    command = start("preprocess", "demo-motions", "--store", url, cwd=tmp_path)
    _, told = command.communicate(timeout=2 * DEADLINE_S)
    assert command.returncode == 0, told
    assert content(find_manifest(url)) == content(demo_store.manifest)
    Store.open(url).verify()


TWO_NODES = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
other = cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
pids = [p.process.pid for many in other.all_processes.values() for p in many if "raylet" in str(p.process.args)]
print(cluster.address, *pids, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def two_nodes():
    """The address of a cluster of two nodes of one CPU each, and the pid of the second node's raylet."""
    process = subprocess.Popen(
        [sys.executable, "-c", TWO_NODES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        address, *pids = process.stdout.readline().split()
        yield address, [int(pid) for pid in pids]
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        for child in [*children, psutil.Process(process.pid)]:
            child.kill()
        process.wait()


DRIVER = """
import sys
from aign.data.sources import plan
from pipelines.preprocess import preprocess
from tests.pipelines.test_preprocess_faults import Slow
jobs = [Slow(inner=job, seconds=0.5) for job in plan("demo-motions")]
preprocess(jobs, sys.argv[1], sys.argv[2])
"""


def test_a_node_is_killed_and_the_run_goes_on_without_it(demo_store, two_nodes, tmp_path):
    address, raylets = two_nodes
    assert raylets, "the second node has a raylet"
    store = tmp_path / "store"
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(store), address], env=environment, text=True, stderr=subprocess.PIPE
    )
    wait_until(lambda: len(parts(store)) >= 9 or driver.poll() is not None, "a few parts")
    assert driver.poll() is None, driver.communicate()[1]
    for pid in raylets:
        os.kill(pid, signal.SIGKILL)
    _, told = driver.communicate(timeout=3 * DEADLINE_S)
    assert driver.returncode == 0, told
    assert content(find_manifest(str(store))) == content(demo_store.manifest)
    assert not leftovers(tmp_path)
