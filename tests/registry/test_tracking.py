import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from aign.framework.errors import StorageError, UserError
from aign.registry.client import client_of
from aign.registry.parameters import MAX_PARAM, flatten
from aign.registry.run_log import METRICS_PER_BATCH, RunLog, sync
from aign.registry.tracking import Tracking, find_run, finish, log_files, open_tracking, start_run
from tests.registry.samples import CONFIG, FACTS

ROOT = Path(__file__).parents[2]


def history(tracking, run_id, name):
    return [(m.step, m.value) for m in client_of(tracking.uri).get_metric_history(run_id, name)]


def test_import_needs_no_mlflow():
    code = (
        "import sys, aign.registry.tracking, aign.registry.run_log, aign.registry.gates\n"
        "sys.exit('mlflow' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_run_is_made_once_with_everything(tracking):
    long = "x" * 20000
    config = {
        **CONFIG,
        "sequences": [f"s{i}" for i in range(1000)],
        "note": long,
        "many": {f"k{i}": i for i in range(150)},
    }
    run_id = start_run(tracking, "demo", config, FACTS)
    assert start_run(tracking, "demo", config, FACTS) == run_id
    run = client_of(tracking.uri).get_run(run_id)
    assert run.info.status == "RUNNING"
    assert run.data.params["fit.lr"] == "0.0003"
    assert run.data.params["task.weights.pose"] == "0.02"
    assert run.data.params["many.k149"] == "149"
    assert len(run.data.params["note"]) == len(run.data.params["sequences"]) == MAX_PARAM
    assert run.data.tags["aign.store_hash"] == FACTS.store_hash
    assert json.loads(run.data.tags["aign.licences"]) == list(FACTS.licences)
    assert (run.data.tags["aign.recipe"], run.data.tags["aign.commit"]) == ("lifting-demo", "abc1234")
    stored = client_of(tracking.uri).download_artifacts(run_id, "config.json")
    assert json.loads(Path(stored).read_text()) == config
    assert start_run(tracking, "other", config, FACTS) != run_id


def test_resume_with_another_configuration_is_refused(tracking, run_id):
    changed = {**CONFIG, "fit": {"steps": 11, "lr": 3e-4}}
    with pytest.raises(UserError, match=r"fit.steps 10 -> 11.*another name"):
        start_run(tracking, "demo", changed, FACTS)


def test_run_without_configuration(tracking):
    assert start_run(tracking, "bare", {}, FACTS)


def test_difference_beyond_the_cut_is_still_seen(tracking):
    start_run(tracking, "long", {"a": "x" * 900 + "1"}, FACTS)
    with pytest.raises(UserError, match="beyond what parameters show"):
        start_run(tracking, "long", {"a": "x" * 900 + "2"}, FACTS)


@pytest.mark.parametrize("name", ["", "a'b", "a`b", "x" * 201, "new\nline"])
def test_bad_run_name(tracking, name):
    with pytest.raises(UserError, match="got run name"):
        start_run(tracking, name, CONFIG, FACTS)


def test_find_run(tracking, run_id):
    assert find_run(tracking, "demo") == run_id
    with pytest.raises(UserError, match=r"no run 'dmeo'.*\['demo'\]"):
        find_run(tracking, "dmeo")
    with pytest.raises(UserError, match="no run"):
        find_run(tracking, "x' OR '1' = '1")


def test_finish_and_resume(tracking, run_id):
    for status in ("FINISHED", "FAILED", "KILLED"):
        finish(tracking, run_id, status)
        assert client_of(tracking.uri).get_run(run_id).info.status == status
    assert start_run(tracking, "demo", CONFIG, FACTS) == run_id
    assert client_of(tracking.uri).get_run(run_id).info.status == "RUNNING"


def test_unknown_run_id(tracking, run_id):
    with pytest.raises(StorageError, match=r"cannot log metrics to .*0123"):
        sync(tracking, "0123" * 8, [{"step": 1, "loss": 1.0}])


def test_metrics_are_batched_and_complete(tracking, run_id):
    log = RunLog(tracking, run_id)
    steps = METRICS_PER_BATCH // 2 + 20
    for step in range(steps):
        log.log(step, {"loss/total": step / 2, "loss/pose": 1.0})
    assert len(history(tracking, run_id, "loss/total")) == METRICS_PER_BATCH // 2, "a full batch goes by itself"
    log.flush()
    assert history(tracking, run_id, "loss/total") == [(s, s / 2) for s in range(steps)]
    log.log(steps, {"loss/total": math.nan, "loss/pose": torch.tensor(2.0).item()})
    log.flush()
    assert math.isnan(history(tracking, run_id, "loss/total")[-1][1])


def test_killed_and_resumed_run_has_each_step_once(tracking, run_id):
    def train(start: int, stop: int, checkpoint_every: int = 10) -> int:
        """Steps until killed; the last checkpoint. What the log holds back dies with the process."""
        log, saved = RunLog(tracking, run_id), start
        for step in range(start, stop):
            log.log(step, {"loss": 100.0 - step, **({"val": step * 1.0} if step % 5 == 0 else {})})
            if (step + 1) % checkpoint_every == 0:
                log.flush()
                saved = step + 1
            elif step == 24:
                log.flush()  # sent by time, beyond the checkpoint
        return saved

    checkpoint = train(0, 28)
    assert checkpoint == 20
    assert [s for s, _ in history(tracking, run_id, "loss")] == list(range(25))
    assert start_run(tracking, "demo", CONFIG, FACTS) == run_id
    assert train(checkpoint, 40) == 40
    assert history(tracking, run_id, "loss") == [(s, 100.0 - s) for s in range(40)]
    assert history(tracking, run_id, "val") == [(s, float(s)) for s in range(0, 40, 5)]


def test_failed_flush_keeps_what_waits(tracking, run_id, monkeypatch, capsys):
    log = RunLog(tracking, run_id)
    log.log(0, {"loss": 1.0})

    def fail(*_, **__):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(client_of(tracking.uri), "log_batch", fail)
        log.flush()
        log.flush()
        said = capsys.readouterr().err
        assert "cannot log metrics" in said
        assert "No space left on device; the training goes on, its metrics are sent later" in said
        assert said.count("\n") == 1, "said once"
    log.flush()
    assert "metrics are in" in capsys.readouterr().err
    assert history(tracking, run_id, "loss") == [(0, 1.0)]


def test_sync_sends_what_is_missing_and_nothing_twice(tracking, run_id):
    rows = [{"step": step, "loss": 10.0 - step, **({"val": 1.0} if step == 4 else {})} for step in range(1, 8)]
    log = RunLog(tracking, run_id)
    for row in rows[:2] + rows[4:6]:  # a worker died with steps 3 and 4
        log.log(int(row["step"]), {"loss": row["loss"]})
    log.flush()
    assert sync(tracking, run_id, rows) == 4
    assert sorted(history(tracking, run_id, "loss")) == [(s, 10.0 - s) for s in range(1, 8)]
    assert history(tracking, run_id, "val") == [(4, 1.0)]
    assert sync(tracking, run_id, rows) == 0


def test_log_files(tracking, run_id, tmp_path):
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "a.png").write_bytes(b"png")
    (tmp_path / "table.md").write_text("| a |")
    log_files(tracking, run_id, [tmp_path / "plots", tmp_path / "table.md"], "report")
    client = client_of(tracking.uri)
    assert {f.path for f in client.list_artifacts(run_id, "report")} == {"report/plots", "report/table.md"}
    assert [f.path for f in client.list_artifacts(run_id, "report/plots")] == ["report/plots/a.png"]
    with pytest.raises(UserError, match=r"does not exist: .*gone\.md"):
        log_files(tracking, run_id, [tmp_path / "gone.md"])


def test_everything_stays_in_the_folder(tracking, run_id, tmp_path):
    assert (tmp_path / "ml flow" / "artifacts" / run_id / "artifacts" / "config.json").exists()
    assert sorted(p.name for p in (tmp_path / "ml flow").iterdir()) == ["artifacts", "mlflow.db"]


ALL = """
import os
from pathlib import Path
from aign.registry.models import list_models, pull
from aign.registry.tracking import open_tracking, start_run, finish
from tests.registry.samples import CONFIG, FACTS, add, make_package, measured
tracking = open_tracking()
run_id = start_run(tracking, "a", CONFIG, FACTS)
add(tracking, run_id, make_package(Path("package")), "lifting", measured(80))
finish(tracking, run_id)
pull(tracking, "models:/lifting@champion", Path("cache"))
print(len(list_models(tracking)), os.environ["MLFLOW_DISABLE_TELEMETRY"])
"""


def test_new_store_from_nothing_is_quiet_and_writes_nothing_else(tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW")} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ALL]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1 true\n", "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "mlflow", "package"]
    assert sorted(p.name for p in (tmp_path / "mlflow").iterdir()) == ["artifacts", "mlflow.db"]


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "/tmp/mlruns", "sqlite:///mlflow.db", "databricks", "http:/x"])
def test_unsupported_store(uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match="got MLFLOW_TRACKING_URI="):
        open_tracking()


def test_environment_names_a_database(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/deep/runs.db")
    tracking = open_tracking(tmp_path / "ignored")
    assert tracking == Tracking(uri=f"sqlite:///{tmp_path}/deep/runs.db", experiment="aign")
    assert tracking.artifact_location == (tmp_path / "deep" / "artifacts").as_uri()


def test_no_server(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"no MLflow server answers at http://127.0.0.1:9: .*refused"):
        open_tracking()


def test_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write the MLflow store"):
        open_tracking(tmp_path / "file")
    with pytest.raises(UserError, match=r"may not hold \? # or %"):
        open_tracking(tmp_path / "what?")


def test_file_that_is_no_database(tmp_path):
    (tmp_path / "mlflow.db").write_text("this is a text file, no database")
    with pytest.raises(UserError, match="is not an SQLite file"):
        open_tracking(tmp_path)
    assert (tmp_path / "mlflow.db").read_text().startswith("this is")


def test_deleted_experiment(tracking, run_id):
    client = client_of(tracking.uri)
    client.delete_experiment(client.get_experiment_by_name("lifting").experiment_id)
    with pytest.raises(UserError, match="'lifting' was deleted"):
        start_run(tracking, "demo", CONFIG, FACTS)


def test_flatten():
    @dataclass(frozen=True)
    class Leaf:
        x: int = 1

    config = {
        "a": {"b": (1, 2), "c": None, "d": {}},
        "e": [{"f": 1.5}, Leaf()],
        "g h!": "text",
        "i": (),
        "j": [(1,), (2,)],
    }
    assert flatten(config) == {
        "a.b": "[1, 2]", "a.c": "null", "a.d": "{}", "e.0.f": "1.5", "e.1.x": "1", "g h_": "text", "i": "[]",
        "j.0": "[1]", "j.1": "[2]",
    }  # fmt: skip
    assert flatten({}) == {}
    assert flatten({"a/../b": 1}) == {"a_.._b": "1"}
    assert flatten({"x": "y" * 501})["x"] == "y" * 497 + "..."
    assert flatten({"x": "y" * 500})["x"] == "y" * 500
