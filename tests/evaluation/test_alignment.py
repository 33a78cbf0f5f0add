"""The closed form against the SVD, on every kind of pose that could break it."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from aign.evaluation.alignment import aligned_distance
from aign.geometry.rigid import procrustes, procrustes_with_reflection

F64 = torch.float64


def numpy_distance(source: np.ndarray, target: np.ndarray, scale: bool, reflection: bool) -> float:
    """The textbook, one pose at a time."""
    x, y = source - source.mean(0), target - target.mean(0)
    u, s, vt = np.linalg.svd(y.T @ x)
    hand = np.array([1.0, 1.0, 1.0 if reflection or np.linalg.det(u @ vt) > 0 else -1.0])
    factor = (s * hand).sum() / np.square(x).sum() if scale else 1.0
    return float(np.linalg.norm(factor * x @ (u * hand @ vt).T - y, axis=1).mean())


def poses(kind: str, n: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(7)
    target = rng.normal(size=(n, 17, 3)) * [0.15, 0.45, 0.1] + [0, 0, 5]
    turn = Rotation.random(n, rng=rng).as_matrix()
    flat = {"planar": [1, 1, 0], "thin": [1, 1, 1e-5], "line": [0, 1, 0], "nearly a line": [1e-4, 1, 1e-4]}
    hand = {"mirrored": [-1, 1, 1], "mirrored ball": [-1, 1, 1]}
    if kind == "mirrored ball":
        target = rng.normal(size=(n, 17, 3)) * 0.3
    noise = {"exact": 0.0, "unrelated": 3.0}.get(kind, 0.0 if kind in flat else 0.05)
    source = (target - [0, 0, 5]) * flat.get(kind, [1, 1, 1]) * hand.get(kind, [1, 1, 1])
    if kind in ("planar", "line"):
        target = source.copy()
    source = 1.3 * (source + noise * rng.normal(size=target.shape)) @ turn.transpose(0, 2, 1) + 1
    return torch.from_numpy(source), torch.from_numpy(target)


KINDS = ["noisy", "exact", "mirrored", "mirrored ball", "planar", "thin", "line", "nearly a line", "unrelated"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("scale", "reflection"), [(True, False), (False, False), (True, True)])
def test_equals_the_textbook_svd_to_a_millionth_of_a_millimetre(kind: str, scale: bool, reflection: bool) -> None:
    source, target = poses(kind)
    got = aligned_distance(source, target, scale=scale, reflection=reflection)
    expected = [numpy_distance(a, b, scale, reflection) for a, b in zip(source.numpy(), target.numpy(), strict=True)]
    assert np.abs(got.numpy() - expected).max() < 1e-9


@pytest.mark.parametrize("kind", ["noisy", "mirrored", "planar"])
def test_ordinary_poses_need_no_svd(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the closed form gave up on an ordinary pose")

    monkeypatch.setattr("aign.evaluation.alignment._by_svd", refuse)
    source, target = poses(kind)
    assert aligned_distance(source, target).isfinite().all()


def test_float32_input_is_worked_on_in_float64() -> None:
    source, target = poses("noisy")
    got = aligned_distance(source.float(), target.float())
    expected = aligned_distance(source.float().double(), target.float().double())
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    assert got.dtype is F64


@pytest.mark.parametrize("reflection", [False, True])
def test_masks_equal_procrustes_on_the_valid_points_only(reflection: bool) -> None:
    source, target = poses("noisy")
    valid = torch.rand(400, 17, generator=torch.Generator().manual_seed(0)) < 0.5
    source[~valid] = math.nan
    got = aligned_distance(source, target, valid, reflection=reflection)
    align = procrustes_with_reflection if reflection else procrustes
    for i in range(0, 400, 7):
        x, y = source[i][valid[i]], target[i][valid[i]]
        expected = (align(x, y, scale=True).apply(x) - y).norm(dim=-1).mean()
        torch.testing.assert_close(got[i], expected, rtol=0, atol=1e-9)


def test_chunks_and_leading_axes_change_nothing() -> None:
    source, target = (x.repeat(11, 1, 1) for x in poses("noisy"))  # 4400 poses: one full chunk and a short one
    whole = aligned_distance(source, target)
    torch.testing.assert_close(whole[4000:], aligned_distance(source[4000:], target[4000:]), rtol=0, atol=1e-12)
    square = aligned_distance(source.reshape(4, 1100, 17, 3), target.reshape(4, 1100, 17, 3))
    torch.testing.assert_close(square.reshape(-1), whole)
    assert aligned_distance(source[:0], target[:0]).shape == (0,)


def test_no_extent_no_points_and_nan_are_defined() -> None:
    source, target = poses("noisy", 3)
    spread = (target - target.mean(1, keepdim=True)).norm(dim=-1).mean(-1)
    torch.testing.assert_close(aligned_distance(torch.ones_like(source), target), spread)
    torch.testing.assert_close(aligned_distance(source, torch.ones_like(target)), torch.zeros(3, dtype=F64))
    assert aligned_distance(source, target, torch.zeros(3, 17, dtype=torch.bool)).isnan().all()
    source[1, 4, 0] = math.nan
    got = aligned_distance(source, target)
    assert got.isnan().tolist() == [False, True, False]
