"""Ctrl-C and kill -9 on real commands: one line, nothing half-written, and the same command goes on."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aign.data.store import Store, find_manifest
from pipelines.run_folder import Run
from pipelines.train import logged
from tests.pipelines.samples import TINY, content, leftovers, start

pytestmark = pytest.mark.ray
PATIENCE = 90.0


def wait_for(there: Callable[[], bool], process) -> None:
    until = time.monotonic() + PATIENCE
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.02)


def parts(store: Path) -> int:
    manifest = find_manifest(str(store))
    return len(manifest.parts) if manifest else 0


def interrupted_preprocess(folder: Path, number: signal.Signals) -> tuple[int, str]:
    process = start("preprocess", "demo-motions", "--store", "s", cwd=folder)
    wait_for(lambda: parts(folder / "s") > 0, process)
    os.killpg(process.pid, number)
    _, told = process.communicate(timeout=PATIENCE)
    return process.returncode, told


def finish_preprocess(folder: Path, demo_store: Store) -> None:
    process = start("preprocess", "demo-motions", "--store", "s", cwd=folder)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, told
    assert " 0 were there" not in told, "what was finished is kept"
    assert content(Store.open(str(folder / "s")).manifest) == content(demo_store.manifest)
    assert not leftovers(folder)


def test_ctrl_c_while_preprocessing(tmp_path, demo_store):
    code, told = interrupted_preprocess(tmp_path, signal.SIGINT)
    assert code == 130, told
    assert [line for line in told.splitlines() if "sources" not in line] == [
        "demo-motions: motion: 20 embedded",
        "aign preprocess: interrupted; what was finished is kept, the same command goes on",
    ]
    assert not leftovers(tmp_path / "s"), "no lock, no temporary name"
    assert 0 < parts(tmp_path / "s") < len(demo_store.manifest.parts)
    finish_preprocess(tmp_path, demo_store)


def test_kill_9_while_preprocessing(tmp_path, demo_store):
    code, _ = interrupted_preprocess(tmp_path, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert 0 < parts(tmp_path / "s") < len(demo_store.manifest.parts)
    finish_preprocess(tmp_path, demo_store)


def test_ctrl_c_while_training(tmp_path, demo_store):
    steps, every = 400, 40
    flags = ("--fit.steps", str(steps), "--fit.validate-every", str(every), "--fit.log-every", "1", *TINY)
    command = ("train", "lifting-demo", "--store", demo_store.url, "--name", "run", *flags)
    folder = tmp_path / "runs" / "run"
    process = start(*command, cwd=tmp_path)
    wait_for(lambda: bool(list(folder.glob("ray/checkpoint_*/checkpoint.pt"))), process)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, told
    assert [line for line in told.splitlines() if "steps ..." not in line] == [
        "aign train: interrupted; what was finished is kept, the same command goes on"
    ]
    assert not leftovers(tmp_path)
    assert not (folder / "run.json").exists()
    again = start(*command, cwd=tmp_path)
    _, told = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, told
    assert [row["step"] for row in logged(folder) if "loss/supervised" in row] == list(range(1, steps + 1))
    assert Run.open(folder).report.headline > 0
    assert not leftovers(tmp_path)
