import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from aign.framework.errors import StorageError, UserError
from aign.inference.package import CARD, WEIGHTS, load_package, save_package
from aign.inference.predictor import LiftingPredictor
from aign.registry import packages
from aign.registry.client import client_of
from aign.registry.evidence import record_measured
from aign.registry.history import read_history
from aign.registry.models import list_models, pull
from aign.registry.promotion import promote, roll_back
from tests.registry import samples
from tests.registry.samples import FACTS, frames, make_package, measured
from tests.registry.samples import add as enter

ROOT = Path(__file__).parents[2]


@pytest.fixture
def add(tracking, run_id, package):
    def registered(value: float = 80, name: str = "lifting", **changes: str):
        return enter(tracking, run_id, package, name, measured(value, **changes))

    return registered


def aliases(tracking, name="lifting"):
    return {a: int(v) for a, v in client_of(tracking.uri).get_registered_model(name).aliases.items()}


def test_champion_moves_only_for_a_reason(tracking, add):
    first = add(80)
    assert (first.version, first.promoted) == (1, True)
    assert aliases(tracking) == {"champion": 1}
    worse = add(81)
    assert (worse.version, worse.promoted) == (2, False)
    assert "81.00 is not lower than the champion's 80.00" in worse.reason
    assert aliases(tracking) == {"champion": 1, "challenger": 2}
    elsewhere = add(10, store_hash="t" * 64)
    assert not elsewhere.promoted
    assert "first evaluate the champion on the same store" in elsewhere.reason
    assert not add(float("nan")).promoted
    better = add(79)
    assert better.promoted
    assert aliases(tracking) == {"champion": 5}


def test_champion_evaluated_on_the_new_store_can_be_beaten(tracking, add):
    add(80)
    new = {"store_hash": "t" * 64}
    assert not add(70, **new).promoted
    record_measured(tracking, "lifting", 1, measured(75, **new))
    assert promote(tracking, "lifting", 2).promote
    assert aliases(tracking) == {"champion": 2}


def test_promote_and_roll_back(tracking, add):
    for value in (80, 90, 70):
        add(value)
    assert aliases(tracking) == {"champion": 3}
    assert "champion already" in promote(tracking, "lifting", 3).reason
    refused = promote(tracking, "lifting", 2)
    assert not refused.promote
    forced = promote(tracking, "lifting", 2, force=True)
    assert forced.promote
    assert "forced, although: mpjpe_mm 90.00 is not lower" in forced.reason
    assert aliases(tracking)["champion"] == 2
    assert roll_back(tracking, "lifting") == 3
    assert roll_back(tracking, "lifting") == 1
    with pytest.raises(UserError, match=r"no champion before version 1; its versions are \[1, 2, 3\]"):
        roll_back(tracking, "lifting")
    assert aliases(tracking)["champion"] == 1
    tags = client_of(tracking.uri).get_registered_model("lifting").tags
    moves = [m for m in read_history(tags) if m.alias == "champion"]
    assert [(m.version, m.back) for m in moves] == [(1, False), (3, False), (2, False), (3, True), (1, True)]


def test_roll_back_passes_a_deleted_version(tracking, add):
    for value in (80, 79, 78):
        add(value)
    client_of(tracking.uri).delete_model_version("lifting", "2")
    assert roll_back(tracking, "lifting") == 1


def test_listing(tracking, add, run_id):
    before = datetime.now(UTC)
    add(80)
    add(81.25)
    add(50, name="another")
    rows = list_models(tracking)
    assert [(r.name, r.version, r.aliases) for r in rows] == [
        ("another", 1, ("champion",)), ("lifting", 2, ("challenger",)), ("lifting", 1, ("champion",))
    ]  # fmt: skip
    assert rows[1].score == measured(81.25).score
    assert rows[1].task == "lifting"
    assert (rows[1].licences, rows[1].recipe, rows[1].run_id) == (FACTS.licences, FACTS.recipe, run_id)
    assert abs((rows[1].created - before).total_seconds()) < 60


def test_listing_shows_what_another_tool_registered(tracking, run_id):
    client = client_of(tracking.uri)
    client.create_registered_model("foreign")
    client.create_model_version("foreign", "file:///nowhere", run_id=run_id)
    (row,) = list_models(tracking)
    assert (row.name, row.score, row.licences) == ("foreign", None, ())
    assert "no recorded score" in promote(tracking, "foreign", 1).reason


def test_empty_registry(tracking):
    assert list_models(tracking) == []
    with pytest.raises(UserError, match=r"no model 'lifting' in .*; there are \[\]"):
        pull(tracking, "models:/lifting@champion", Path("cache"))


def test_pull_gives_back_the_package(tracking, add, package, tmp_path):
    add(80)
    folder = pull(tracking, "models:/lifting@champion", tmp_path / "cache")
    assert sorted(p.name for p in folder.iterdir()) == [CARD, WEIGHTS]
    for name in (CARD, WEIGHTS):
        assert (folder / name).read_bytes() == (package / name).read_bytes()
    for uri in ("models:/lifting/1", "models:/lifting/latest"):
        assert pull(tracking, uri, tmp_path / "cache") == folder
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [folder.name]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/lifting@winner", r"no alias 'winner'; it has \{'champion': 1\}"),
        ("models:/lifting/7", r"no version 7; it has \[1\]"),
        ("models:/liftin/1", r"no model 'liftin' in .* \['lifting'\]"),
        ("lifting", "allowed are models:/NAME@champion"),
        ("models:/lifting", "allowed are"),
        ("models:/../1", "allowed are"),
        ("models:/lifting/1/artifacts", "allowed are"),
        ("runs:/abc/model", "allowed are"),
    ],
)
def test_pull_of_what_is_not_there(tracking, add, tmp_path, uri, message):
    add(80)
    with pytest.raises(UserError, match=message):
        pull(tracking, uri, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def artifacts(tracking) -> Path:
    return next(Path(tracking.uri.removeprefix("sqlite:///")).parent.glob("artifacts/models/*/artifacts"))


@pytest.mark.parametrize("how", ["cut", "evil", "gone"])
def test_pull_of_a_damaged_model_leaves_nothing(tracking, add, tmp_path, how):
    add(80)
    stored = artifacts(tracking) / "artifacts" / "package"
    if how == "cut":
        (stored / WEIGHTS).write_bytes((stored / WEIGHTS).read_bytes()[:-100])
    elif how == "evil":
        (stored / "evil.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    else:
        (stored / WEIGHTS).unlink()
    with pytest.raises(UserError, match={"cut": "does not hold", "evil": r"evil\.pkl", "gone": "does not hold"}[how]):
        pull(tracking, "models:/lifting@champion", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_damaged_cache_is_told(tracking, add, tmp_path):
    add(80)
    folder = pull(tracking, "models:/lifting/1", tmp_path / "cache")
    (folder / WEIGHTS).write_bytes(b"")
    with pytest.raises(UserError, match="does not hold this model"):
        pull(tracking, "models:/lifting/1", tmp_path / "cache")


@pytest.mark.parametrize("how", ["empty", "missing", "extra", "linked", "truncated", "other", "nan"])
def test_hostile_or_damaged_package_is_never_registered(tracking, run_id, package, tmp_path, how):
    bad = make_package(tmp_path / "bad")
    weights = bad / WEIGHTS
    if how == "empty":
        bad = tmp_path / "empty"
        bad.mkdir()
    elif how == "missing":
        weights.unlink()
    elif how == "extra":
        (bad / "model.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    elif how == "linked":
        weights.unlink()
        weights.symlink_to(package / WEIGHTS)
    elif how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-8])
    elif how == "other":
        weights.write_bytes(torch.zeros(4).numpy().tobytes())
    else:
        lifter, card = load_package(bad)
        for parameter in lifter.parameters():
            parameter.data.fill_(float("nan"))
        save_package(bad, lifter, card)
    with pytest.raises(UserError) as refusal:
        enter(tracking, run_id, bad, "lifting", measured(1))
    assert "\n" not in str(refusal.value)
    assert client_of(tracking.uri).search_registered_models() == []


@pytest.mark.parametrize("name", ["", "a/b", "a@b", "..", "a:b", "-x", "x" * 101])
def test_bad_model_name(tracking, run_id, package, name):
    with pytest.raises(UserError, match="got model name"):
        enter(tracking, run_id, package, name, measured(1))


def test_unknown_run(tracking, package):
    with pytest.raises(StorageError, match="cannot register lifting"):
        enter(tracking, "0123" * 8, package, "lifting", measured(1))


def test_example_that_shows_nobody(tracking, run_id, package):
    unseen = {**frames(), "kp2d_conf": np.zeros((4, 17), np.float32)}
    with pytest.raises(UserError, match="give frames that show a person"):
        enter(tracking, run_id, package, "lifting", measured(1), unseen)


def test_failed_upload_is_marked_and_registers_nothing(tracking, run_id, package, monkeypatch):
    client = client_of(tracking.uri)

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(client, "log_model_artifacts", fail)
        with pytest.raises(StorageError, match="No space left on device"):
            enter(tracking, run_id, package, "lifting", measured(1))
    experiment = client.get_experiment_by_name("lifting").experiment_id
    assert [m.status.value for m in client.search_logged_models([experiment])] == ["FAILED"]
    assert client.search_registered_models() == []


def test_stored_model_holds_no_pickle_and_says_where_it_comes_from(tracking, add):
    add(80)
    stored = artifacts(tracking)
    names = {str(p.relative_to(stored)) for p in stored.rglob("*") if p.is_file()}
    assert names == {
        "MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "input_example.json",
        "serving_input_example.json", "pyfunc_package.py", f"artifacts/package/{CARD}", f"artifacts/package/{WEIGHTS}",
        f"measured/{measured(80).score.key}.json",
    }  # fmt: skip
    requirements = (stored / "requirements.txt").read_text().split()
    assert {r.split("==")[0] for r in requirements} == {"mlflow", "aign", "torch", "numpy", "safetensors"}
    assert all("==" in r and "+" not in r for r in requirements)
    from mlflow.models import Model

    model = Model.load(str(stored))
    assert json.loads(model.metadata["licences"]) == list(samples.FACTS.licences)
    assert model.metadata["protocol_hash"] == "p1"
    assert model.metadata["run"] == "demo"
    example = model.load_input_example(str(stored))
    np.testing.assert_allclose(example["kp2d_px"], frames()["kp2d_px"], rtol=1e-6)


CLEAN = """
import json, sys, mlflow, numpy as np
uri, given, out = sys.argv[1:]
model = mlflow.pyfunc.load_model(uri)
inputs = dict(np.load(given))
np.save(out, model.predict(inputs)["joints_cam_m"])
def refused(**changes):
    try:
        model.predict({**inputs, **changes})
    except Exception as error:
        return type(error).__name__ + ": " + str(error)
print(json.dumps({
    "dtype": refused(kp2d_px=inputs["kp2d_px"].astype(np.float64)),
    "shape": refused(kp2d_px=inputs["kp2d_px"][:, :16]),
    "missing": refused() if inputs.pop("kp2d_conf") is None else refused(),
}))
"""


def clean_process(tracking, tmp_path, uri):
    example = frames()
    np.savez(tmp_path / "given.npz", **example)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": tracking.uri,
    }
    command = [sys.executable, "-c", CLEAN, uri, str(tmp_path / "given.npz"), str(tmp_path / "out.npy")]
    done = subprocess.run(command, cwd="/", env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return np.load(tmp_path / "out.npy"), json.loads(done.stdout), done.stderr


def test_clean_process(tracking, add, package, tmp_path):
    add(80)
    joints, refusals, log = clean_process(tracking, tmp_path, "models:/lifting@champion")
    example = frames()
    expected = LiftingPredictor.of(package).predict(**example)
    np.testing.assert_allclose(joints, expected, rtol=1e-5)
    assert "float64" in refusals["dtype"]
    assert "MlflowException" in refusals["dtype"]
    assert "(-1, 17, 2)" in refusals["shape"]
    assert "kp2d_conf" in refusals["missing"]
    assert "UserWarning" not in log


def test_pyfunc_file_is_where_upload_looks():
    assert packages.CODE.read_text().rstrip().endswith("set_model(PackageModel())")
