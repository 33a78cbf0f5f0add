"""aign doctor: what is broken on purpose is told, each thing by itself, and nothing heavy is imported."""

import json
import pickle
import shutil
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aign.body.assets import DEFAULT_BODY
from aign.body.found import DEFAULT_SHA256, find_bodies
from aign.data.assets.table import ASSETS
from aign.framework.safe_pickle import load_object_npz
from pipelines import cli, doctor_checks
from pipelines.doctor import Arguments, examine
from pipelines.doctor_checks import Check


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "AIGN_BODY", "AIGN_ASSETS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def by_name(**arguments) -> dict[tuple[str, str], Check]:
    return {(check.area, check.name): check for check in examine(Arguments(**arguments))}


def run(check) -> dict[str, Check]:
    return {found.name: found for found in check}


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_every_area_answers_without_anything_heavy(tmp_path):
    code = (
        "import sys; from pipelines.cli import main; code = main(['doctor', '--json']); "
        "sys.exit(code or [m for m in ('torch', 'ray', 'mlflow', 'pyarrow', 'cv2') if m in sys.modules] or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    told = json.loads(done.stdout)
    assert told["ok"]
    assert {c["area"] for c in told["checks"]} == {
        "environment", "machine", "gpu", "ray", "mlflow", "assets", "bodies"
    }  # fmt: skip
    for check in told["checks"]:
        assert check["found"]
        assert check["enables"]
        assert check["state"] in ("ok", "note", "absent")
        assert check["remedy"] or check["state"] != "absent" or check["area"] == "gpu"
    assert not list(tmp_path.iterdir()), "nothing is made"


def test_the_table_and_the_exit_code(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "the free default body" in said
    assert "nothing is broken" in said
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "ftp://somewhere")
    with pytest.raises(SystemExit) as stop:
        cli.main(["doctor"])
    assert stop.value.code == 1
    said = capsys.readouterr().out
    assert "MLFLOW_TRACKING_URI is ftp://somewhere" in said
    assert "broken: mlflow store" in said
    assert cli.main(["doctor", "--quick"]) == 2


def test_packages_that_are_missing_or_old(monkeypatch):
    wanted = {"dependencies": ["numpy>=999", "no-such-package>=1", "rich>=13"], "extras": {"onnx": ["not-there>=1"]}}
    monkeypatch.setattr(doctor_checks, "_project", lambda: wanted)
    monkeypatch.setattr(doctor_checks, "EXTRAS", {"onnx": "export", "s3": "stores"})
    found = by_name()
    packages, onnx = found["environment", "packages"], found["environment", "onnx"]
    assert packages.state == "broken"
    assert "missing: no-such-package; numpy " in packages.found
    assert "needed >=999" in packages.found
    assert onnx.state == "absent"
    assert onnx.remedy == "pip install -c constraints.txt -e '.[onnx]'"
    assert found["machine", "disk"].state in ("ok", "note")
    monkeypatch.setattr(doctor_checks, "_project", lambda: {"dependencies": ["numpy"], "extras": {}})
    monkeypatch.setattr(doctor_checks, "_tested", lambda: {"numpy": "0.1"})
    assert "(tested 0.1)" in run(doctor_checks.environment())["packages"].found
    assert run(doctor_checks.environment())["packages"].state == "note"


def test_without_a_checkout_the_installed_package_says_what_it_needs(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor_checks, "ROOT", tmp_path)
    lines = ["numpy>=2.0", "onnx>=1.2; extra == 'onnx'", 'ray[serve]>=2; extra == "serve"']
    monkeypatch.setattr(doctor_checks.metadata, "requires", lambda name: lines)
    assert doctor_checks._project()["dependencies"] == ["numpy>=2.0"]
    assert doctor_checks._project()["extras"]["serve"] == ["ray[serve]>=2"]
    assert doctor_checks._tested() == {}


def test_one_bad_thing_hides_no_other(monkeypatch):
    def ill():
        yield Check(area="machine", name="first", state="ok", found="before")
        raise ModuleNotFoundError("No module named 'packaging'")

    monkeypatch.setattr(doctor_checks, "machine", ill)
    found = by_name()
    assert found["machine", "first"].state == "ok"
    assert found["machine", "machine"].state == "broken"
    assert "No module named 'packaging'" in found["machine", "machine"].found
    assert "pip install" in found["machine", "machine"].remedy
    assert found["bodies", "the free default body"].state == "ok"


def test_a_missing_package_of_a_verb_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(cli.VERBS, "doctor", ("no_such_package.doctor", ""))
    assert cli.main(["doctor"]) == 2
    assert "the Python package no_such_package is missing; run: pip install" in capsys.readouterr().err
    monkeypatch.setitem(cli.VERBS, "doctor", ("pipelines.no_such_module", ""))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["doctor"])


def test_a_cluster_that_does_not_answer(monkeypatch):
    where = f"127.0.0.1:{closed_port()}"
    assert run(doctor_checks.ray(where))["cluster"].state == "broken"
    monkeypatch.setenv("RAY_ADDRESS", f"ray://{where}")
    found = run(doctor_checks.ray(None))["cluster"]
    assert f"no Ray cluster answers at ray://{where}" in found.found
    assert "RAY_ADDRESS" in found.remedy
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert run(doctor_checks.ray(f"127.0.0.1:{server.getsockname()[1]}"))["cluster"].state == "ok"


def test_stores_of_mlflow_that_are_none(monkeypatch, tmp_path):
    def state(folder):
        return run(doctor_checks.mlflow(folder))["store"]

    assert "is made when it is first needed" in state(tmp_path / "new").found
    assert not (tmp_path / "new").exists()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "mlflow.db").write_text("no database " * 99)
    assert "not a database" in state(tmp_path / "text").found
    good = tmp_path / "good"
    good.mkdir()
    with sqlite3.connect(good / "mlflow.db") as store:
        store.execute("CREATE TABLE a (b)")
    assert state(good).state == "ok"
    monkeypatch.setattr(doctor_checks, "ANSWER_SECONDS", 0.05)
    with sqlite3.connect(good / "mlflow.db") as store:
        store.execute("BEGIN EXCLUSIVE")
        assert "locked" in state(good).found
        assert state(good).state == "broken"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port()}")
    assert state(good).state == "broken"
    assert "no MLflow server answers" in state(good).found


def test_assets_that_are_damaged_or_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "aign" / "assets").mkdir(parents=True)
    (asset,) = (asset for asset in ASSETS if asset.name == "pose_detector")
    (tmp_path / "aign" / "assets" / asset.file_name).write_bytes(b"cut off")
    found = run(doctor_checks.assets())
    assert found["pose"].state == "broken"
    assert "pose_detector: got 7 bytes" in found["pose"].found
    assert found["face"].state == "absent"
    assert found["face"].found.startswith("0 of 2 files")
    assert found["face"].remedy == "aign assets pull face"
    assert set(found) == set(doctor_checks.GROUPS), "every group says what it enables"
    monkeypatch.setenv("AIGN_ASSETS", str(tmp_path / "nowhere"))
    broken = by_name()["assets", "assets"]
    assert broken.state == "broken"
    assert "AIGN_ASSETS is" in broken.found


def body_file(path, **changes):
    np.savez(path, **{**load_object_npz(DEFAULT_BODY), **changes})
    return path


class Evil:
    """Would make a file if it were unpickled by a careless reader."""

    def __reduce__(self):
        return (open, ("ran", "w"))


def test_bodies_are_told_by_what_is_in_them(monkeypatch, tmp_path):
    folder = tmp_path / "stuff"
    (folder / "deep").mkdir(parents=True)
    default = load_object_npz(DEFAULT_BODY)
    shutil.copy(DEFAULT_BODY, folder / "SMPL_NEUTRAL.npz")
    mine = body_file(folder / "deep" / "holiday.npz", v_template=default["v_template"] * 1.01)
    shutil.copy(mine, folder / "deep" / "again.npz")
    np.savez(folder / "SMPL_MALE.npz", poses=np.zeros(3))
    body_file(folder / "x.npz", v_template=np.zeros((10475, 3)), kintree_table=np.zeros((2, 55)))
    body_file(folder / "metres.npz", v_template=default["v_template"] * 100)
    (folder / "evil.pkl").write_bytes(pickle.dumps({"v_template": 1, "kintree_table": 2, "f": Evil()}))
    (folder / "cut.npz").write_bytes(mine.read_bytes()[:5000])
    monkeypatch.setenv("AIGN_BODY", str(folder))
    found = list(doctor_checks.bodies([]))
    assert [c.state for c in found if c.name == "a copy of the default body"] == ["ok"]
    good = [c for c in found if c.name == "SMPL" and c.state == "ok"]
    assert len(good) == 1, "the same content once"
    assert "6890 vertices, 24 joints, sha256" in good[0].found
    assert "SURREAL" in good[0].enables
    assert [c.state for c in found if c.name == "SMPL-X"] == ["note"]
    broken = [c.found for c in found if c.state == "broken"]
    assert len(broken) == 2
    assert any("metres with y up" in text for text in broken)
    assert any("which is refused" in text for text in broken)
    assert not (tmp_path / "ran").exists()
    assert "SMPL_MALE.npz" not in str(found)


def test_body_places_that_are_missing_or_empty_or_too_large(tmp_path):
    (tmp_path / "empty").mkdir()
    found = run(doctor_checks.bodies([tmp_path / "nowhere", tmp_path / "empty"]))
    assert found[str(tmp_path / "nowhere")].state == "broken"
    assert found["SMPL"].state == "absent"
    shutil.copy(DEFAULT_BODY, tmp_path / "a.npz")
    assert find_bodies([tmp_path], seconds=-1.0) == ([], False)
    ((body,), whole) = find_bodies([tmp_path])
    assert (body.sha256, whole) == (DEFAULT_SHA256, True)


def test_data_that_is_a_store_a_data_set_or_nothing(demo_store, tmp_path):
    (tmp_path / "nothing").mkdir()
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"")
    found = by_name(data=(Path(demo_store.url), tmp_path / "nothing", tmp_path / "videos"))
    store = found["data", demo_store.url]
    assert store.state == "ok"
    assert "keypoints" in store.found
    assert "zlib" in store.found
    assert found["data", str(tmp_path / "nothing")].state == "broken"
    assert found["data", str(tmp_path / "videos")].found.startswith("video: ")
