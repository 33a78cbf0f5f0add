"""A body model in the registry: what it is asked is in its signature, and a stranger's process gets its answer."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from aign.evaluation.body_view import load_body_view
from aign.framework.errors import UserError
from aign.inference.body_predictor import BodyPredictor, clip_arrays
from aign.inference.package import CARD, WEIGHTS
from aign.registry.models import list_models, pull
from tests.inference.test_body_predictor import package as body_package
from tests.registry.samples import add, measured
from tests.registry.test_models import ROOT, artifacts

CLEAN = """
import json, sys, mlflow, numpy as np
uri, given, out = sys.argv[1:]
model = mlflow.pyfunc.load_model(uri)
inputs = dict(np.load(given))
np.savez(out, **model.predict(inputs))
def refused(**changes):
    try:
        model.predict({**inputs, **changes})
    except Exception as error:
        return type(error).__name__ + ": " + str(error)
print(json.dumps({
    "dtype": refused(image_rgb=inputs["image_rgb"].astype(np.float32)),
    "shape": refused(kp2d_px=inputs["kp2d_px"][:, :17]),
    "missing": refused() if inputs.pop("intrinsics_px") is None else refused(),
}))
"""


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    return body_package(tmp_path_factory.mktemp("body") / "package")


@pytest.fixture(scope="module")
def example(people_store):
    view = load_body_view(people_store, None)
    return {name: value[:4] for name, value in clip_arrays(view.clips[0], view.source).items()}


@pytest.fixture
def added(tracking, run_id, body, example):
    return add(tracking, run_id, body, "motion_capture", measured(80, metric="mpjpe_pelvis_mm"), example)


def test_it_is_champion_and_pulled_as_it_was(tracking, added, body, tmp_path):
    assert added.promoted
    (row,) = list_models(tracking)
    assert (row.name, row.recipe, row.licences) == ("motion_capture", "r", ("MIT",))
    folder = pull(tracking, "models:/motion_capture@champion", tmp_path / "cache")
    for name in (CARD, WEIGHTS):
        assert (folder / name).read_bytes() == (body / name).read_bytes()


def test_the_signature_says_what_it_is_asked(tracking, added):
    from mlflow.models import Model

    model = Model.load(str(artifacts(tracking)))
    assert {spec.name: (spec.type.name, spec.shape) for spec in model.signature.inputs} == {
        "image_rgb": ("uint8", (-1, -1, -1, 3)), "kp2d_px": ("float32", (-1, 24, 2)),
        "kp2d_conf": ("float32", (-1, 24)), "intrinsics_px": ("float32", (-1, 4)),
    }  # fmt: skip
    assert [spec.name for spec in model.signature.outputs] == ["rotmats", "betas", "pelvis_cam_m", "joints_cam_m"]
    assert model.metadata["task"] == "motion_capture"


def test_a_clean_process_answers_alike(tracking, added, body, example, tmp_path):
    np.savez(tmp_path / "given.npz", **example)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": tracking.uri,
    }
    files = [str(tmp_path / "given.npz"), str(tmp_path / "out.npz")]
    command = [sys.executable, "-c", CLEAN, "models:/motion_capture@champion", *files]
    done = subprocess.run(command, cwd="/", env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    want = vars(BodyPredictor.of(body).predict(**example))
    with np.load(files[1], allow_pickle=False) as got:
        assert sorted(got) == sorted(want)
        for name, value in want.items():
            np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-5)
    refusals = json.loads(done.stdout)
    assert "float32" in refusals["dtype"]
    assert "(-1, 24, 2)" in refusals["shape"]
    assert "intrinsics_px" in refusals["missing"]


def test_an_example_that_shows_nobody(tracking, run_id, body, example):
    unseen = {**example, "kp2d_conf": np.zeros_like(example["kp2d_conf"])}
    with pytest.raises(UserError, match="no finite rotmats for its own example of 4 frames; give frames that show"):
        add(tracking, run_id, body, "motion_capture", measured(1), unseen)
    assert list_models(tracking) == []
