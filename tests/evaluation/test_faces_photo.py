"""The judge of photographs: its weights as tensorflow.js packs them, and its layers against plain loops."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from aign.data import assets
from aign.evaluation import faces_photo
from aign.evaluation.faces_photo import SIDE_PX, age_gender, face_square, photo_judge, read_weights
from aign.framework.errors import UserError


def manifest(folder: Path, entries: list[dict], data: bytes) -> tuple[Path, Path]:
    (folder / "m.json").write_text(json.dumps([{"paths": ["w.bin"], "weights": entries}]))
    (folder / "w.bin").write_bytes(data)
    return folder / "m.json", folder / "w.bin"


QUANTISED = {
    "name": "a",
    "shape": [2, 2],
    "dtype": "float32",
    "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1.0},
}
PLAIN = {"name": "b", "shape": [2], "dtype": "float32"}


def test_weights_are_brought_back_to_float(tmp_path):
    data = bytes([0, 2, 4, 255]) + np.array([1.5, -2], "<f4").tobytes()
    found = read_weights(*manifest(tmp_path, [QUANTISED, PLAIN], data))
    torch.testing.assert_close(found["a"], torch.tensor([[-1.0, 0.0], [1.0, 126.5]]))
    torch.testing.assert_close(found["b"], torch.tensor([1.5, -2.0]))


@pytest.mark.parametrize("data", [bytes(3), bytes(5)])
def test_files_that_do_not_belong_together_are_refused(tmp_path, data):
    with pytest.raises(UserError, match=r"manifest|bytes"):
        read_weights(*manifest(tmp_path, [QUANTISED], data))


def random_weights() -> dict[str, torch.Tensor]:
    """Of the network's shapes (TensorFlow's order), small enough that nothing grows."""
    rng = torch.Generator().manual_seed(0)
    found: dict[str, torch.Tensor] = {}

    def one(name: str, *shape: int) -> None:
        found[name] = 0.3 * torch.randn(*shape, generator=rng) / max(np.prod(shape[:-1]) ** 0.5, 1)

    def separable(name: str, into: int, out: int) -> None:
        one(f"{name}/depthwise_filter", 3, 3, into, 1)
        one(f"{name}/pointwise_filter", 1, 1, into, out)
        one(f"{name}/bias", out)

    def reduction(name: str, into: int, out: int) -> None:
        separable(f"{name}/separable_conv0", into, out)
        separable(f"{name}/separable_conv1", out, out)
        one(f"{name}/expansion_conv/filters", 1, 1, into, out)
        one(f"{name}/expansion_conv/bias", out)

    one("entry_flow/conv_in/filters", 3, 3, 3, 32)
    one("entry_flow/conv_in/bias", 32)
    reduction("entry_flow/reduction_block_0", 32, 64)
    reduction("entry_flow/reduction_block_1", 64, 128)
    for block in range(2):
        for i in range(3):
            separable(f"middle_flow/main_block_{block}/separable_conv{i}", 128, 128)
    reduction("exit_flow/reduction_block", 128, 256)
    separable("exit_flow/separable_conv", 256, 512)
    for head, size in (("age", 1), ("gender", 2)):
        one(f"fc/{head}/weights", 512, size)
        one(f"fc/{head}/bias", size)
    return found


def test_the_network_has_its_shapes():
    images = torch.randint(0, 256, (2, SIDE_PX, SIDE_PX, 3), dtype=torch.uint8)
    age, male, features = age_gender(random_weights(), images)
    assert features.shape == (2, 512)
    assert ((male > 0) & (male < 1)).all()
    assert age.isfinite().all()


def test_padding_is_tensorflows():
    """ "same" with stride 2 of an even size: nothing before, one behind."""
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    padded = faces_photo._padded(x, 3, 2)
    assert padded.shape == (1, 1, 5, 5)
    torch.testing.assert_close(padded[..., :4, :4], x)
    assert (padded[..., 4, :] == 0).all()
    torch.testing.assert_close(faces_photo._padded(x, 1, 2), x)
    weights = {"c/filters": torch.ones(3, 3, 1, 1), "c/bias": torch.zeros(1)}
    got = faces_photo._convolved(x, weights, "c", 2)
    assert got[0, 0, 0, 0] == x[0, 0, :3, :3].sum()
    assert got[0, 0, 1, 1] == x[0, 0, 2:, 2:].sum(), "the last window reaches over the edge"


def test_a_separable_convolution_is_one_with_the_product_of_filters():
    x = torch.randn(1, 4, 6, 6)
    weights = {
        "s/depthwise_filter": torch.randn(3, 3, 4, 1),
        "s/pointwise_filter": torch.randn(1, 1, 4, 5),
        "s/bias": torch.randn(5),
    }
    whole = (
        weights["s/depthwise_filter"][..., 0].permute(2, 0, 1) * weights["s/pointwise_filter"][0, 0].T[..., None, None]
    )
    want = F.conv2d(x, whole, weights["s/bias"], padding=1)
    torch.testing.assert_close(faces_photo._separable(x, weights, "s"), want, atol=1e-5, rtol=1e-4)


def test_the_judge_reads_any_size(tmp_path, monkeypatch):
    monkeypatch.setattr(faces_photo, "read_weights", lambda *_: random_weights())
    monkeypatch.setattr(assets, "path", lambda name: tmp_path / name)
    judge = photo_judge()
    read = judge.read(np.zeros((3, 64, 64, 3), np.uint8))
    assert judge.names == ("Male", "age")
    assert read.values.shape == (3, 2)
    assert np.abs(read.values[:, 0]).max() <= 1
    assert read.embedding is None
    assert judge.read(np.zeros((0, 64, 64, 3), np.uint8)).values.shape == (0, 2)


def test_the_net_sees_the_face_and_not_the_hair():
    images = np.zeros((1, 100, 100, 3), np.uint8)
    images[:, 30:70, 20:60] = 9
    assert face_square(images, (0.2, 0.3, 0.4)).shape == (1, 40, 40, 3)
    assert (face_square(images, (0.2, 0.3, 0.4)) == 9).all()
    assert face_square(images).shape[1] == face_square(images).shape[2]
