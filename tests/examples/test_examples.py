"""The examples as a user runs them, with tiny packages on a real video and a rendered photograph."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from aign.data import assets
from aign.data.stages.decode import read_frames, write_mp4
from aign.data.synthetic.faces.people import draw_person, draw_sitting
from aign.data.synthetic.faces.render import render_face
from aign.framework.errors import UserError
from aign.inference.package import save_package
from aign.inference.serving import SERVICES
from aign.tasks.faces.inpainting import InpainterConfig, new_inpainter
from tests.inference.test_body_predictor import package as body_package
from tests.inference.test_face_translate import card, resolver
from tests.inference.test_predictor import packaged

EXAMPLES = Path(__file__).parents[2] / "examples"
FRAMES = 6


@pytest.fixture(scope="module")
def nets():
    try:
        assets.pull(["pose", "pose2sim", "face"])
    except UserError as error:
        pytest.skip(f"no nets: {error}")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def video(home, nets):
    write_mp4(home / "somebody.mp4", read_frames(assets.path("pose2sim_cam01"), 0, FRAMES), 50)
    return "somebody.mp4"


@pytest.fixture(scope="module")
def portrait(nets, tmp_path_factory):
    path = tmp_path_factory.mktemp("portrait") / "me.png"
    sitting = replace(draw_sitting(9, 0, 0), light_degrees=(10.0, 20.0), ambient=0.6)
    assert cv2.imwrite(str(path), render_face(draw_person(9, 0), sitting, 256).rgb[..., ::-1])
    return str(path)


def run(monkeypatch, name: str, *argv: str) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *argv, "--model", "package"])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


def test_every_task_has_an_example():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SERVICES)


@pytest.mark.network
def test_lifting(video, home, monkeypatch, capsys):
    packaged(home / "package", 1)
    run(monkeypatch, "lifting", video)
    with np.load("joints.npz") as content:
        assert content["joints_cam_m"].shape == (FRAMES, 17, 3)
        assert np.isfinite(content["joints_cam_m"]).any()
    assert f"of {FRAMES} frames lifted" in capsys.readouterr().out


@pytest.mark.network
def test_motion_capture(video, home, monkeypatch, capsys):
    body_package(home / "package")
    run(monkeypatch, "motion_capture", video)
    with np.load("bodies.npz") as content:
        assert content["rotmats"].shape == (FRAMES, 24, 3, 3)
        assert np.isfinite(content["pelvis_cam_m"]).any()
    assert "roughly: the camera was assumed" in capsys.readouterr().out


@pytest.mark.network
def test_superresolution(portrait, home, monkeypatch, capsys):
    translator = resolver()
    save_package(home / "package", translator.net, translator.card)
    run(monkeypatch, "superresolution", portrait)
    assert cv2.imread("imagined.png").shape == (256, 256, 3)
    assert cv2.imread("imagined-seen.png").shape == (8, 8, 3)
    assert "imagined.png: faithful" in capsys.readouterr().out


@pytest.mark.network
def test_inpainting(portrait, home, monkeypatch):
    config = InpainterConfig(side_px=64, channels=8, blocks=0, part="lips")
    save_package(home / "package", new_inpainter(config, 0), card(config))
    run(monkeypatch, "inpainting", portrait)
    assert cv2.imread("filled.png").shape == (256, 256, 3)
    assert (cv2.imread("filled-seen.png") == 0).all(2).any(), "the hole"
