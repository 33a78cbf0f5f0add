"""`Predictor.load("models:/...")`: the layer below finds the registry as an entry point of the installed package."""

import sys
import tomllib
from pathlib import Path

import pytest

from aign.framework.errors import UserError
from aign.inference import Keypoints, Poses, Predictor, prediction
from tests.registry.samples import FACTS, add, frames, measured

ROOT = Path(__file__).parents[2]


def keypoints() -> Keypoints:
    given = frames()
    return Keypoints(kp2d_px=given["kp2d_px"], kp2d_conf=given["kp2d_conf"], size_px=(1000, 1000))


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """This checkout's entry points, also where another one is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    info = tmp_path / "site" / "aign-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: aign\nVersion: {project['version']}\n")
    lines = [f"{name} = {target}" for name, target in project["entry-points"][prediction.REGISTRIES].items()]
    (info / "entry_points.txt").write_text("\n".join((f"[{prediction.REGISTRIES}]", *lines)) + "\n")
    monkeypatch.setattr(sys, "path", [str(info.parent), *sys.path])


def test_a_registered_model_by_its_uri(tracking, installed, package, run_id):
    mlflow = Path(tracking.uri.removeprefix("sqlite:///")).parent
    add(tracking, run_id, package, "lifting", measured(80.0))
    predictor = Predictor.load("models:/lifting@champion", mlflow)
    assert isinstance(predictor.predict(keypoints()), Poses)
    assert predictor.card.recipe == FACTS.recipe
    with pytest.raises(UserError, match="no model 'walking'"):
        Predictor.load("models:/walking@champion", mlflow)


def test_without_an_installed_package_the_way_out_is_told(monkeypatch):
    monkeypatch.setattr(prediction, "entry_points", lambda group: ())
    with pytest.raises(UserError, match=r"got model models:/lifting@champion.*pip install -e"):
        Predictor.load("models:/lifting@champion")
