"""Runs at a URL: what is copied there and back, who may write, and what is refused; without Ray."""

import json
import os
import re
import time

import pytest
import requests

from aign.framework.errors import UserError
from aign.registry.client import client_of
from aign.registry.tracking import open_tracking
from pipelines import cli
from pipelines.ray_train import Job, train
from pipelines.run_place import Mirror, Place, opened, place_of, push, step_at
from pipelines.workers import Workers
from tests.pipelines.samples import tiny


def test_a_folder_is_itself(tmp_path):
    with place_of(str(tmp_path / "runs"), "one") as place:
        assert place == Place(folder=tmp_path / "runs" / "one")
        assert place.shown == str(tmp_path / "runs" / "one")
        push(place)
    assert not (tmp_path / "runs").exists()


def test_what_is_written_in_one_process_is_there_in_the_next(bucket):
    with place_of(f"{bucket}/runs/", "one") as place:
        assert (place.url, place.folder.name, list(place.folder.iterdir())) == (f"{bucket}/runs/one", "one", [])
        (place.folder / "package").mkdir()
        (place.folder / "package" / "model.json").write_text("{}")
        (place.folder / "config.json").write_text("1")
        (place.folder / ".unfinished").write_text("half")
        (place.folder / "ray").mkdir()
        push(place)
    assert not place.folder.exists()
    with place_of(f"{bucket}/runs", "one") as place:
        found = {p.relative_to(place.folder).as_posix() for p in place.folder.rglob("*") if p.is_file()}
        assert found == {"package/model.json", "config.json"}


def test_a_second_process_on_the_same_run_is_refused(bucket):
    again = place_of(f"{bucket}/runs", "two")
    refused = pytest.raises(UserError, match="the run is being written by process")
    with place_of(f"{bucket}/runs", "two"), refused, again:
        pytest.fail("it was let in")
    with place_of(f"{bucket}/runs", "two"):
        pass


def test_the_log_is_seen_from_elsewhere_and_a_server_that_is_away_changes_nothing(bucket, tmp_path, monkeypatch):
    place = Place(folder=tmp_path, url=f"{bucket}/runs/three")
    ask = step_at(place)
    assert ask() == 0
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 7}) + "\n")
    mirror = Mirror(place)
    mirror.refresh()
    mirror._copying.result()
    assert ask() == 7
    (tmp_path / "metrics.jsonl").unlink()
    mirror._at = 0.0
    mirror.refresh()
    assert mirror._copying.exception() is None, "a copy for onlookers that fails is no error"
    assert ask() == 7


def test_what_is_no_finished_run_is_one_line(bucket):
    with pytest.raises(UserError, match="not a finished run"), opened(f"{bucket}/runs/nothing"):
        pytest.fail("it was opened")


def test_without_ray_a_run_wants_a_folder(demo_store, tmp_path):
    job = Job(
        recipe=tiny(),
        store_url=demo_store.url,
        place=Place(folder=tmp_path, url="s3://bucket/runs/x"),
        workers=Workers.fixed(0),
    )
    with pytest.raises(UserError, match="--workers 0; allowed for a run at a URL is at least 1 worker"):
        train(job)


@pytest.mark.parametrize("runs", ["s3://no-such-bucket-anywhere/runs", "nosuch://x/runs"])
def test_a_place_that_is_not_there_is_one_line(runs, bucket, demo_store, tmp_path, capsys):
    flags = ("--store", demo_store.url, "--runs", runs, "--mlflow", str(tmp_path / "mlflow"))
    assert cli.main(["train", "lifting-demo", *flags]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith("aign train: cannot")


@pytest.fixture
def forbidden(bucket):
    """The bucket's server knows nobody who may do anything, as long as the test lasts."""
    server = os.environ["AWS_ENDPOINT_URL"]

    def answer_without_asking(times):
        requests.post(f"{server}/moto-api/reset-auth", data=str(times), timeout=60).raise_for_status()

    answer_without_asking(0)
    yield bucket
    answer_without_asking(10**9)


@pytest.mark.parametrize("verb", ["preprocess", "train", "evaluate"])
def test_a_bucket_without_permission_is_one_line_and_nothing_is_registered(
    verb, forbidden, demo_store, tmp_path, capsys
):
    mlflow = ("--mlflow", str(tmp_path / "mlflow"))
    argv = {
        "preprocess": ("demo-motions", "--store", f"{forbidden}/store"),
        "train": ("lifting-demo", "--store", demo_store.url, "--runs", f"{forbidden}/runs", *mlflow),
        "evaluate": (f"{forbidden}/runs/one", "--store", demo_store.url, *mlflow),
    }[verb]
    began = time.monotonic()
    assert cli.main([verb, *argv]) == 2
    assert time.monotonic() - began < 60, "who is refused is not asked to wait"
    told = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(rf"aign {verb}: cannot .*{forbidden}.*(does not exist|denied|Forbidden).*", told)
    assert not list(tmp_path.rglob("*.db")) or not client_of(open_tracking(tmp_path / "mlflow").uri).search_runs(["1"])


def test_a_gpu_that_is_not_there_is_one_line(demo_store, tmp_path):
    job = Job(recipe=tiny(), store_url=demo_store.url, place=Place(folder=tmp_path), workers=Workers.parse("0", 1.0))
    with pytest.raises(UserError, match="torch finds no GPU on this machine"):
        train(job)
