"""Procrustes against hand-made motions, scipy, and the ugly cases."""

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from aign.geometry.rigid import Similarity, nearest_rotation, procrustes, procrustes_with_reflection

F64 = torch.float64


def points(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, 3, generator=torch.Generator().manual_seed(seed), dtype=F64)


def rotations(n: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(Rotation.random(n, rng=seed).as_matrix())


def moved(x: torch.Tensor, scale: float = 1.7, seed: int = 1) -> tuple[torch.Tensor, Similarity]:
    n = x.shape[0]
    truth = Similarity(scale=torch.full((n,), scale, dtype=F64), rot=rotations(n, seed), trans=points(n, seed=seed + 1))
    return truth.apply(x), truth


def test_convention_target_is_scale_rot_source_plus_trans() -> None:
    # A quarter turn about z carries +x to +y; twice the size; moved by (0, 0, 5).
    source = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=F64)
    target = torch.tensor([[0.0, 0, 5], [0, 2, 5], [-2, 0, 5], [0, 0, 7]], dtype=F64)
    fit = procrustes(source, target, scale=True)
    torch.testing.assert_close(fit.scale, torch.tensor(2.0, dtype=F64))
    torch.testing.assert_close(fit.rot, torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=F64))
    torch.testing.assert_close(fit.trans, torch.tensor([0.0, 0, 5], dtype=F64))


def test_recovers_known_similarities() -> None:
    x = points(50, 17)
    y, truth = moved(x)
    fit = procrustes(x, y, scale=True)
    for name in ("scale", "rot", "trans"):
        torch.testing.assert_close(getattr(fit, name), getattr(truth, name))


def test_rigid_keeps_the_size() -> None:
    x = points(5, 17)
    y, truth = moved(x, scale=2.0)
    fit = procrustes(x, y, scale=False)
    torch.testing.assert_close(fit.scale, torch.ones(5, dtype=F64))
    torch.testing.assert_close(fit.rot, truth.rot)


def test_rotation_equals_scipy_on_noise() -> None:
    x, y = points(20, 9, seed=3), points(20, 9, seed=4)
    fit = procrustes(x, y, scale=False)
    for a, b, rot in zip(x, y, fit.rot, strict=True):
        expected, _ = Rotation.align_vectors((b - b.mean(0)).numpy(), (a - a.mean(0)).numpy())
        torch.testing.assert_close(rot, torch.from_numpy(expected.as_matrix()))


def test_a_mirror_image_is_never_reflected() -> None:
    x = points(30, 17)
    y = x * torch.tensor([-1.0, 1, 1], dtype=F64)
    fit = procrustes(x, y, scale=True)
    torch.testing.assert_close(torch.linalg.det(fit.rot), torch.ones(30, dtype=F64))
    assert ((fit.apply(x) - y).norm(dim=-1).mean(-1) > 0.1).all()
    mirror = procrustes_with_reflection(x, y, scale=True)
    torch.testing.assert_close(mirror.apply(x), y)
    torch.testing.assert_close(torch.linalg.det(mirror.rot), -torch.ones(30, dtype=F64))


def test_reflection_is_not_used_where_a_rotation_fits_better() -> None:
    x = points(10, 17)
    y, truth = moved(x)
    torch.testing.assert_close(procrustes_with_reflection(x, y, scale=True).rot, truth.rot)


def test_masked_points_do_not_count_even_if_nan() -> None:
    x = points(8, 17)
    y, truth = moved(x)
    valid = torch.ones(8, 17, dtype=torch.bool)
    valid[:, 3:9] = False
    x[:, 3:6] = math.nan
    y[:, 5:9] = 1e6
    fit = procrustes(x, y, scale=True, valid=valid)
    torch.testing.assert_close(fit.rot, truth.rot)
    torch.testing.assert_close(fit.trans, truth.trans)


def test_float32_in_float32_out_with_float64_inside() -> None:
    x = points(100, 17).float()
    y, truth = moved(x.double())
    fit = procrustes(x, y.float(), scale=True)
    assert fit.rot.dtype is torch.float32
    assert (fit.rot.double() - truth.rot).abs().max() < 2e-7


@pytest.mark.parametrize("flat", [(1.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 0.0)])
def test_degenerate_shapes_are_finite_minimisers(flat: tuple[float, float, float]) -> None:
    x = points(20, 17) * torch.tensor(flat, dtype=F64)
    y, _ = moved(x)
    fit = procrustes(x, y, scale=True)
    torch.testing.assert_close(fit.apply(x), y)
    torch.testing.assert_close(torch.linalg.det(fit.rot), torch.ones(20, dtype=F64))


def test_no_extent_and_no_valid_points_have_defined_answers() -> None:
    x, y = points(2, 17), points(2, 17, seed=5)
    flat = procrustes(torch.zeros_like(x), y, scale=True)
    torch.testing.assert_close(flat.rot, torch.eye(3, dtype=F64).expand(2, 3, 3))
    torch.testing.assert_close(flat.scale, torch.ones(2, dtype=F64))
    torch.testing.assert_close(flat.trans, y.mean(dim=1))
    assert (procrustes(x, torch.zeros_like(y), scale=True).scale == 0).all()
    none = procrustes(x, y, scale=True, valid=torch.zeros(2, 17, dtype=torch.bool))
    assert (none.trans == 0).all()
    assert (none.scale == 1).all()


@pytest.mark.parametrize(
    "matrix",
    [
        torch.diag(torch.tensor([2.0, 2.0, 2.0], dtype=F64)),  # equal singular values: an SVD's own gradient is NaN
        torch.diag(torch.tensor([3.0, 1.0, 0.0], dtype=F64)),  # planar body
        torch.diag(torch.tensor([3.0, 1.0, -0.5], dtype=F64)),  # mirrored body
        points(3, seed=7),
    ],
)
def test_gradient_of_the_rotation(matrix: torch.Tensor) -> None:
    assert torch.autograd.gradcheck(nearest_rotation, (matrix.clone().requires_grad_(),))


def test_gradients_of_procrustes_at_ugly_points() -> None:
    y = points(2, 5, seed=2)

    def residual(x: torch.Tensor) -> torch.Tensor:
        return procrustes(x, y, scale=True).apply(x) - y

    assert torch.autograd.gradcheck(residual, (points(2, 5).requires_grad_(),))
    for flat in ((1.0, 0.0, 0.0), (0.0, 0.0, 0.0)):
        x = (points(2, 5) * torch.tensor(flat, dtype=F64)).requires_grad_()
        residual(x).square().sum().backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(Exception, match="procrustes"):
        procrustes(torch.zeros(2, 17, 2), torch.zeros(2, 17, 2), scale=True)
