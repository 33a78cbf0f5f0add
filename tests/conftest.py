"""What every test needs: a fixed seed and one thread, so that a failure comes again; and one small real store."""

import os
import signal
import socket
from collections.abc import Iterator

import pytest
import torch

from aign.data import assets
from aign.data.datasets.job import run
from aign.data.datasets.synthetic import SyntheticOptions
from aign.data.datasets.synthetic import plan as synthetic_plan
from aign.data.sources import plan
from aign.data.store import Manifest, Quarantined, Store, commit
from aign.data.synthetic.backgrounds import check_pulled
from aign.framework.errors import UserError

# Ray gives its workers niceness 15, with which they starve for minutes where something else computes.
os.environ.setdefault("RAY_worker_niceness", "0")
# A runner that was started in the background ignores SIGINT, and so would every process that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow files first, so that at the end of a run on several cores none of these is left to one alone."""
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)


@pytest.fixture(autouse=True)
def _repeatable():
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _registry_forgotten():
    """`mlflow.set_registry_uri` sets a variable that every process which a later test starts would obey."""
    yield
    os.environ.pop("MLFLOW_REGISTRY_URI", None)


def build_demo_store(url: str) -> Store:
    """The embedded motions as `aign preprocess demo-motions` makes them, without Ray."""
    torch.set_num_threads(1)
    results = [run(job, url, number) for number, job in enumerate(plan("demo-motions"))]
    assert not any(isinstance(result, Quarantined) for result in results), results
    records = [record for result in results for record in result]
    commit(url, Manifest(skeleton="h36m17", num_joints=17).updated(records))
    return Store.open(url)


@pytest.fixture(scope="session")
def demo_store(tmp_path_factory) -> Store:
    """The store of the 20 embedded motions, made once; nobody may change it."""
    return build_demo_store(str(tmp_path_factory.mktemp("demo") / "store"))


PEOPLE = SyntheticOptions(frames=480, clip_frames=8, side_px=64, seed=5)
"""Of `people_store`."""


def build_people_store(url: str, options: SyntheticOptions) -> Store:
    """Rendered people as `aign preprocess MOTIONS --dataset synthetic` makes them, without Ray."""
    torch.set_num_threads(1)
    results = [run(job, url, number) for number, job in enumerate(synthetic_plan(options))]
    assert not any(isinstance(result, Quarantined) for result in results), results
    records = [record for result in results for record in result]
    commit(url, Manifest(skeleton="smpl24", num_joints=24).updated(records))
    return Store.open(url)


@pytest.fixture(scope="session")
def people_store(tmp_path_factory) -> Store:
    """60 clips of 8 frames of rendered people at 64 px with exact keypoints, made once; nobody may change it."""
    try:
        check_pulled()
    except UserError:
        try:
            assets.pull(["backgrounds"])
        except UserError as error:
            pytest.skip(f"no panoramas: {error}")
    return build_people_store(str(tmp_path_factory.mktemp("people") / "store"), PEOPLE)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URL of a bucket on a real S3-compatible server, started here."""
    fsspec = pytest.importorskip("fsspec")
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fs = fsspec.filesystem("s3", skip_instance_cache=True)
        name = f"motion-{port}"  # servers of one process share their buckets
        fs.mkdir(name)
        yield f"s3://{name}"
    fsspec.filesystem("s3").clear_instance_cache()
    server.stop()
