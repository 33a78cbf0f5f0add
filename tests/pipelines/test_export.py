import numpy as np
import pytest
import torch

from aign.inference.onnx_lifter import OnnxPredictor
from aign.inference.package import ModelCard, save_package
from aign.inference.predictor import LiftingPredictor
from aign.tasks.lifting import LifterConfig, build_lifter
from pipelines import cli
from tests.pipelines.samples import leftovers


def test_a_run_becomes_one_file_that_answers_alike(tmp_path, capsys):
    pytest.importorskip("onnxscript")
    config = LifterConfig(components=3, width=16, blocks=1)
    card = ModelCard(
        network=config, recipe="r", store_hash="s", sequences={}, licences=("MIT",), protocol="p", metrics={}
    )
    save_package(tmp_path / "run" / "package", build_lifter(config, 0.3 * torch.randn(50, 17, 3)), card)
    out = tmp_path / "lifter.onnx"
    assert cli.main(["export", str(tmp_path / "run"), "--to", "onnx", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{out}: {out.stat().st_size:,} bytes; differs from the model by at most ")
    assert said.out.count("\n") == 1
    assert said.err == ""
    assert not leftovers(tmp_path)
    rng = np.random.default_rng(0)
    given = 500 + 100 * rng.standard_normal((4, 17, 2)), rng.uniform(0.5, 1, (4, 17)), np.full((4, 4), 600.0)
    want = LiftingPredictor.of(tmp_path / "run" / "package").predict(*given)
    np.testing.assert_allclose(OnnxPredictor.of(out).predict(*given), want, atol=1e-4)
