"""Checkpoints that are damaged, hostile, of something else, or cannot be written."""

import io
import os
import pickle
import resource
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from aign.framework.errors import UserError
from aign.training import LocalHooks
from aign.training.checkpoint import load_state, save_state
from aign.training.hooks import last_step
from aign.training.identity import flatten
from tests.training.runs import small, train

STATE = {"step": 3, "config": {"a": 1, "b": None}, "x": torch.arange(5.0), "n": {"k": [1, 2.5, "s"]}}


def test_what_is_saved_comes_back(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_state(path, STATE)
    got = load_state(path)
    assert torch.equal(got.pop("x"), STATE["x"])
    assert got == {k: v for k, v in STATE.items() if k != "x"}
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


class Hostile:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def broken(kind, tmp_path):
    whole = saved(STATE)
    return {
        "empty": b"",
        "text": b"not a checkpoint\n",
        "truncated": whole[: len(whole) // 2],
        "hostile": saved({**STATE, "evil": Hostile(tmp_path / "was-here")}),
        "hostile pickle": pickle.dumps(Hostile(tmp_path / "was-here"), protocol=2),
        "a list": saved([1, 2, 3]),
        "another program's": saved(OrderedDict(weight=torch.zeros(3))),
        "a zip": zipped(),
        "an npz": npz(),
    }[kind]


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.txt", "b")
    return buffer.getvalue()


def npz():
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    return buffer.getvalue()


KINDS = [
    *("empty", "text", "truncated", "hostile", "hostile pickle", "a list", "another program's", "a zip", "an npz"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line_and_runs_nothing(demo_store, tmp_path, kind):
    path = tmp_path / "run" / "checkpoint.pt"
    path.parent.mkdir()
    path.write_bytes(broken(kind, tmp_path))
    before = path.read_bytes()
    with pytest.raises(UserError, match="not a readable checkpoint") as refused:
        train(small(), demo_store, LocalHooks(path.parent))
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "was-here").exists()
    assert path.read_bytes() == before


def test_a_folder_is_no_checkpoint(tmp_path):
    (tmp_path / "checkpoint.pt").mkdir()
    with pytest.raises(UserError, match="not a readable checkpoint"):
        LocalHooks(tmp_path).restore()


def test_a_full_disk_is_said_and_the_checkpoint_before_it_stays(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_state(path, STATE)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # this process may write no longer file
    try:
        with pytest.raises(UserError, match=r"cannot write .*checkpoint\.pt") as refused:
            save_state(path, {**STATE, "x": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(refused.value)
    assert load_state(path)["step"] == 3
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_run_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write the run to .*file"):
        LocalHooks(tmp_path / "file" / "run")
    with pytest.raises(UserError, match=r"cannot write the run to .*file"):
        LocalHooks(tmp_path / "file")


def read_only(folder):
    """As far as this user can be kept from writing: root writes into any folder, so files stand in the way."""
    (folder / "metrics.jsonl").mkdir()


def test_a_run_folder_that_cannot_be_written_is_said(tmp_path):
    hooks = LocalHooks(tmp_path)
    read_only(tmp_path)
    with pytest.raises(UserError, match=r"cannot write .*metrics\.jsonl") as refused:
        hooks.log(1, {"a": 1.0})
    assert "\n" not in str(refused.value)
    (tmp_path / "gone").mkdir()
    gone = LocalHooks(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UserError, match=r"cannot write .*checkpoint\.pt"):
        gone.save(1, STATE, {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_run_folder_is_said(tmp_path):
    folder = tmp_path / "run"
    hooks = LocalHooks(folder)
    folder.chmod(0o500)
    with pytest.raises(UserError, match="cannot write"):
        hooks.log(1, {"a": 1.0})
    with pytest.raises(UserError, match="cannot write"):
        hooks.save(1, STATE, {})


def test_nothing_there_starts_at_zero_and_forgets_what_was_logged(tmp_path):
    hooks = LocalHooks(tmp_path / "new" / "run")
    assert hooks.restore() is None
    hooks.log(1, {"a": 1.0})
    hooks.log(2, {"a": 2.0})
    assert last_step(hooks.run_dir) == 2
    assert hooks.restore() is None
    assert last_step(hooks.run_dir) == 0


def test_steps_after_the_checkpoint_are_forgotten(tmp_path):
    hooks = LocalHooks(tmp_path)
    for step in (1, 2, 3, 4):
        hooks.log(step, {"a": float(step)})
    hooks.save(3, STATE, {})
    (tmp_path / "metrics.jsonl").open("a").write('{"step": 5')
    assert last_step(tmp_path) == 4
    assert hooks.restore()["step"] == 3
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert lines == ['{"step": 1, "a": 1.0}', '{"step": 2, "a": 2.0}', '{"step": 3, "a": 3.0}']


def test_a_configuration_becomes_flat_plain_data():
    flat = flatten(small())
    assert flat["task.lifter.width"] == 24
    assert flat["task.weights.pose"] == small().task.weights["pose"]
    assert flat["roles.test.sequences"] == ", ".join(small().roles.test.sequences)
    assert flat["roles.test.subjects"] is None
    assert all(value is None or isinstance(value, int | float | str | bool) for value in flat.values())
