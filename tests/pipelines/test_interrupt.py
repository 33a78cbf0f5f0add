"""Ctrl-C and kill -9 on real commands: one line, nothing half-written, and the same command goes on."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aign.data.store import Store, find_manifest
from pipelines.run_files import logged
from pipelines.run_folder import Run
from tests.pipelines.samples import TINY, content, leftovers, start

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]
PATIENCE = 240.0
"""Seconds that a wait may take on a busy machine; nobody waits so long for what works."""


def wait_for(there: Callable[[], bool], process) -> None:
    until = time.monotonic() + PATIENCE
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.02)


def parts(store: Path) -> int:
    manifest = find_manifest(str(store))
    return len(manifest.parts) if manifest else 0


PREPROCESS = ("preprocess", "demo-motions", "--store", "s")


def interrupted_preprocess(folder: Path, number: signal.Signals) -> tuple[int, str]:
    """Stopped as soon as it has added something to the store."""
    there = parts(folder / "s")
    process = start(*PREPROCESS, cwd=folder)
    wait_for(lambda: parts(folder / "s") > there, process)
    os.killpg(process.pid, number)
    _, told = process.communicate(timeout=PATIENCE)
    return process.returncode, told


def test_preprocessing_goes_on_after_ctrl_c_and_after_kill_9(tmp_path, demo_store):
    code, told = interrupted_preprocess(tmp_path, signal.SIGINT)
    assert code == 130, told
    assert [line for line in told.splitlines() if "sources" not in line] == [
        "demo-motions: motion: 20 embedded",
        "aign preprocess: interrupted; what was finished is kept, the same command goes on",
    ]
    assert not leftovers(tmp_path / "s"), "no lock, no temporary name"
    kept = parts(tmp_path / "s")
    assert 0 < kept < len(demo_store.manifest.parts)
    code, _ = interrupted_preprocess(tmp_path, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert (tmp_path / "s" / ".lock").exists(), "a killed command cannot have given its lock back"
    assert kept < parts(tmp_path / "s") < len(demo_store.manifest.parts)
    process = start(*PREPROCESS, cwd=tmp_path)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, told
    assert " 0 were there" not in told, "what was finished is kept"
    store = Store.open(str(tmp_path / "s"))
    assert content(store.manifest) == content(demo_store.manifest)
    store.verify()
    assert not leftovers(tmp_path)


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
