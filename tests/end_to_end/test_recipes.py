"""Every recipe: trained, interrupted, resumed, measured, registered, and loaded by MLflow alone."""

import numpy as np
import pytest
import torch

from aign.data.sources import plan
from aign.data.store import Store
from aign.inference.package import load_package
from aign.recipes import RECIPES
from aign.registry import promotion
from aign.registry.tracking import open_tracking
from pipelines import cli
from pipelines.preprocess import preprocess
from pipelines.register import example_of, register
from pipelines.run_files import logged
from pipelines.tracked_hooks import TrackedHooks
from pipelines.train import run_recipe
from tests.pipelines.samples import h36m_npz, tiny

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def stores(ray_cluster, demo_store, tmp_path_factory):
    """By data set: the embedded motions, and a file in Human3.6M's layout with its seven subjects."""
    root = tmp_path_factory.mktemp("h36m")
    actions = ("Walking", "Eating 1")
    file = h36m_npz(root / "source", dict.fromkeys(("S1", "S5", "S6", "S7", "S8", "S9", "S11"), actions))
    done = preprocess(plan(str(file.parent)), str(root / "store"))
    assert (done.made, done.quarantined) == (14, ())
    return {"demo": demo_store, "h36m": Store.open(str(root / "store"))}


class Interrupted(TrackedHooks):
    """Stops like Ctrl-C when the first checkpoint is safe."""

    def save(self, step, state, metrics):
        super().save(step, state, metrics)
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("lifting-")])
def test_the_whole_life_of_a_recipe(name, stores, tmp_path, monkeypatch, capsys):
    store = stores["h36m" if "h36m" in name else "demo"]
    tracking = open_tracking(tmp_path / "mlflow")
    recipe = tiny(name, steps=4, validate_every=2)
    whole = run_recipe(recipe, store.url, tmp_path / "whole", tracking, 0)
    with monkeypatch.context() as patched:
        patched.setattr("pipelines.ray_train.TrackedHooks", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_recipe(recipe, store.url, tmp_path / "run", tracking, 0)
    assert logged(tmp_path / "run")[-1]["step"] == 2
    run = run_recipe(recipe, store.url, tmp_path / "run", tracking, 0)
    assert [row["step"] for row in logged(run.folder)] == [1, 2, 2, 3, 4, 4]
    resumed, unbroken = (load_package(r.package)[0].state_dict() for r in (run, whole))
    assert all(torch.equal(resumed[key], value) for key, value in unbroken.items())
    assert run.report == whole.report
    capsys.readouterr()
    assert cli.main(["evaluate", str(run.folder), "baseline:mean-pose", "--store", store.url]) == 0
    assert name in capsys.readouterr().out
    if name != "lifting-demo":  # a process of its own takes as long as all the rest, and is the same for all lifters
        monkeypatch.setattr(promotion, "clean_refusal", lambda *_: None)
    assert register(run, "model", tracking).promoted
    example = example_of(run)
    import mlflow  # after the package has set its environment

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
    mlflow.set_registry_uri(tracking.uri)
    joints = mlflow.pyfunc.load_model("models:/model@champion").predict(dict(example))["joints_cam_m"]
    assert joints.shape == (len(example["kp2d_px"]), 17, 3)
    assert np.isfinite(joints).all()
