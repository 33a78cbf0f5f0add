"""One file that answers as the package does."""

import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from aign.framework.errors import StorageError, UserError
from aign.inference import onnx_lifter
from aign.inference.onnx_lifter import CARD_KEY, INPUTS, TOLERANCE_M, OnnxPredictor, export_onnx
from aign.inference.package import CARD, ModelCard, load_package, save_package
from aign.inference.predictor import LiftingPredictor
from aign.tasks.lifting import LifterConfig, build_lifter

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

N = 11
SINGLE = LifterConfig(components=5, width=32, blocks=1)
KINDS = {
    "frame": SINGLE,
    "window": dataclasses.replace(SINGLE, head="direct", frames=3),
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    for name, config in KINDS.items():
        torch.manual_seed(0)
        lifter = build_lifter(config, 0.3 * torch.randn(50, 17, 3))
        with torch.no_grad():
            lifter.head.last.weight.mul_(5)  # an untrained lifter answers nearly the same to everything
        card = ModelCard(
            network=config, recipe="r", store_hash="s", sequences={}, licences=("MIT",), protocol="p", metrics={}
        )
        save_package(folder / name, lifter, card)
    return folder


@pytest.fixture(scope="module")
def exported(packages):
    gaps = {name: export_onnx(packages / name, packages / f"{name}.onnx") for name in KINDS}
    assert all(0 < gap < TOLERANCE_M / 10 for gap in gaps.values()), gaps
    return packages


def clip(n=N):
    rng = np.random.default_rng(0)
    conf = rng.uniform(0.2, 1, (n, 17)) * (rng.uniform(size=(n, 17)) > 0.2)
    conf[3:4] = 0  # nobody
    return {
        "kp2d_px": (500 + 100 * rng.standard_normal((n, 17, 2))).astype(np.float32),
        "kp2d_conf": conf.astype(np.float32),
        "intrinsics_px": np.tile(np.float32((1145, 1144, 512, 515)), (n, 1)),
        "distortion": np.tile(np.float32((-0.2, 0.25, -0.01, -0.001, -0.002)), (n, 1)),
    }


@pytest.mark.parametrize("name", KINDS)
def test_answers_as_the_package_does(exported, name):
    torch_one, onnx_one = LiftingPredictor.of(exported / name), OnnxPredictor.of(exported / f"{name}.onnx", threads=1)
    assert onnx_one.frames == KINDS[name].frames
    two = {**clip(), "clip": np.arange(N) // 5}
    for given in (clip(), two, {**clip(), "distortion": None}, {k: v[:1] for k, v in clip().items()}):
        want, got = torch_one.predict(**given), onnx_one.predict(**given)
        assert (got.dtype, got.shape) == (np.float32, want.shape)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        np.testing.assert_allclose(got, want, atol=TOLERANCE_M, rtol=0)
    spread = np.nanstd(torch_one.predict(**clip()), axis=0).max()
    assert spread > 100 * TOLERANCE_M, "the answers differ from frame to frame, so that equality means something"


def test_chunks_of_a_clip_are_the_clip(exported):
    predictor = OnnxPredictor.of(exported / "window.onnx")
    want = predictor.predict(**clip())
    np.testing.assert_allclose(predictor.predict(**clip(), chunk=4), want, atol=1e-5)
    assert predictor.predict(**{k: v[:0] for k, v in clip().items()}).shape == (0, 17, 3)


def test_the_file_alone_says_what_it_is(exported):
    """Plain onnxruntime, as another program would use it."""
    session = onnxruntime.InferenceSession(exported / "window.onnx", providers=["CPUExecutionProvider"])
    shapes = [tuple(given.shape[1:]) for given in session.get_inputs()]
    assert [given.name for given in session.get_inputs()] == list(INPUTS)
    assert shapes == [(3, 17, 2), (3, 17), (4,), (5,)]
    assert session.get_outputs()[0].name == "joints_cam_m"
    assert all(isinstance(given.shape[0], str) for given in session.get_inputs()), "the number of windows is free"
    card = session.get_modelmeta().custom_metadata_map[CARD_KEY]
    assert card == (exported / "window" / CARD).read_text()
    assert OnnxPredictor.of(exported / "window.onnx").card["licences"] == json.loads(card)["licences"] == ["MIT"]
    onnx.checker.check_model(str(exported / "window.onnx"), full_check=True)


def test_bad_input_is_refused_as_by_the_package(exported):
    predictor = OnnxPredictor.of(exported / "frame.onnx")
    with pytest.raises(UserError, match="kp2d_conf must lie in"):
        predictor.predict(**{**clip(), "kp2d_conf": clip()["kp2d_conf"] + 1})
    with pytest.raises(UserError, match="kp2d_px must be floats"):
        predictor.predict(**{**clip(), "kp2d_px": clip()["kp2d_px"][:, :16]})


@dataclasses.dataclass
class Canned:
    """A program that was traced before: tracing is slow."""

    path: Path
    model: SimpleNamespace = dataclasses.field(default_factory=lambda: SimpleNamespace(metadata_props={}))

    def save(self, path, **_):
        path.write_bytes(self.path.read_bytes())


def test_a_file_that_differs_from_torch_is_not_published(exported, tmp_path, monkeypatch):
    lifter, card = load_package(exported / "frame")
    monkeypatch.setattr(onnx_lifter, "_traced", lambda *_: Canned(exported / "frame.onnx"))
    assert export_onnx(exported / "frame", tmp_path / "same.onnx") < TOLERANCE_M
    for name, change in (("shifted", 0.001), ("broken", 3e38)):
        with torch.no_grad():
            lifter.head.last.bias[-1] += change
        save_package(tmp_path / name, lifter, card)
        with pytest.raises(UserError, match=r"differs from torch by [0-9ni]"):
            export_onnx(tmp_path / name, tmp_path / "l.onnx")
    assert {p.name for p in tmp_path.iterdir()} == {"same.onnx", "shifted", "broken"}


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_file_of_something_else_is_told(tmp_path, content):
    if content is not None:
        (tmp_path / "l.onnx").write_bytes(content)
    with pytest.raises(UserError, match=r"l\.onnx is (not a readable ONNX file|no exported lifter)") as told:
        OnnxPredictor.of(tmp_path / "l.onnx")
    assert "\n" not in str(told.value)


def test_another_program_s_graph_is_told(tmp_path):
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    x, y = (helper.make_tensor_value_info(name, kind, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "g", [x], [y])
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "l.onnx")
    with pytest.raises(UserError, match="no exported lifter: it has the inputs x; see aign export"):
        OnnxPredictor.of(tmp_path / "l.onnx")


def test_what_is_missing_is_told(tmp_path, packages, monkeypatch):
    with pytest.raises(UserError, match="not a packaged model"):
        export_onnx(tmp_path, tmp_path / "l.onnx")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"needs the package onnxscript: pip install 'aign\[onnx\]'"):
        export_onnx(packages / "frame", tmp_path / "l.onnx")


def test_a_folder_that_is_not_there_is_told(packages, tmp_path):
    with pytest.raises(StorageError, match="cannot write"):
        export_onnx(packages / "frame", tmp_path / "nowhere" / "l.onnx")
