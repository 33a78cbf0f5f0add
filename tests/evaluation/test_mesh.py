"""Metrics of surfaces and of motion against plain loops, frame by frame."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from aign.evaluation.mesh import (
    acceleration_m_per_s2,
    acceleration_mm_per_frame2,
    foot_slide_mm,
    pa_pve_mm,
    pve_mm,
    surface_canonical_mm,
)

from .test_alignment import numpy_distance

N, V = 9, 40
RUN = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2])


def points(seed: int, n: int = N, v: int = V, scale: float = 0.3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(scale=scale, size=(n, v, 3)))


def known(v: int = V) -> torch.Tensor:
    return torch.ones(N, v, dtype=torch.bool)


def test_pve_against_a_loop() -> None:
    pred, target, pelvis, true_pelvis = points(0), points(1), points(2, v=1)[:, 0], points(3, v=1)[:, 0]
    expected = [
        np.mean([1000 * np.linalg.norm((p[v] - a) - (t[v] - b)) for v in range(V)])
        for p, t, a, b in zip(*(x.numpy() for x in (pred, target, pelvis, true_pelvis)), strict=True)
    ]
    np.testing.assert_allclose(pve_mm(pred, target, pelvis, true_pelvis), expected, rtol=1e-12)


def test_pve_forgives_the_pelvis_and_nothing_else() -> None:
    target, pelvis, shift = points(0), points(1, v=1)[:, 0], torch.tensor([0.5, -0.2, 3.0])
    torch.testing.assert_close(pve_mm(target + shift, target, pelvis + shift, pelvis), torch.zeros(N).double())
    torch.testing.assert_close(
        pve_mm(target + shift, target, pelvis, pelvis), 1000 * shift.norm().double().expand(N), rtol=1e-6, atol=1e-6
    )


def test_pa_pve_against_the_textbook() -> None:
    pred, target = points(0), points(1)
    expected = [1000 * numpy_distance(p, t, True, False) for p, t in zip(pred.numpy(), target.numpy(), strict=True)]
    np.testing.assert_allclose(pa_pve_mm(pred, target), expected, rtol=1e-9)
    turn = torch.from_numpy(Rotation.random(N, rng=0).as_matrix())
    assert pa_pve_mm(1.3 * target @ turn.mT + 2, target).max() < 1e-6
    assert pa_pve_mm(target * torch.tensor([-1.0, 1, 1]), target).min() > 1, "a mirror image is not the body"


def test_surface_canonical_against_a_loop() -> None:
    pred, target = points(0), points(1)
    expected = [
        np.mean([1000 * np.linalg.norm(p[v] - t[v]) for v in range(V)])
        for p, t in zip(pred.numpy(), target.numpy(), strict=True)
    ]
    np.testing.assert_allclose(surface_canonical_mm(pred, target), expected, rtol=1e-12)


def acceleration_by_loop(pred: np.ndarray, target: np.ndarray, valid: np.ndarray) -> list[float]:
    out = []
    for i in range(N):
        errors = []
        if 0 < i < N - 1 and RUN[i - 1] == RUN[i] == RUN[i + 1]:
            for j in range(pred.shape[1]):
                if valid[i - 1 : i + 2, j].all():
                    mine = pred[i - 1, j] - 2 * pred[i, j] + pred[i + 1, j]
                    real = target[i - 1, j] - 2 * target[i, j] + target[i + 1, j]
                    errors.append(1000 * np.linalg.norm(mine - real))
        out.append(float(np.mean(errors)) if errors else np.nan)
    return out


def test_acceleration_against_a_loop_within_runs_and_known_joints() -> None:
    pred, target = points(0, v=6), points(1, v=6)
    valid = torch.from_numpy(np.random.default_rng(3).random((N, 6)) < 0.8)
    pred[~valid] = torch.nan
    expected = acceleration_by_loop(pred.numpy(), target.numpy(), valid.numpy())
    assert np.isnan(expected).tolist() == [True, False, False, True, True, True, True, False, True]
    np.testing.assert_allclose(acceleration_mm_per_frame2(pred, target, valid, RUN), expected, rtol=1e-12)


def test_convention_acceleration_in_metres_per_second_squared_does_not_depend_on_the_rate() -> None:
    """A falling body against one that hangs: 9.81 m/s2 at 50 and at 100 Hz, mm per frame squared a quarter."""
    seen = {}
    for fps in (50.0, 100.0):
        time = torch.arange(4).double() / fps
        fall = torch.zeros(4, 2, 3).double()
        fall[:, :, 1] = 0.5 * 9.81 * time[:, None] ** 2
        args = fall, torch.zeros_like(fall), torch.ones(4, 2, dtype=torch.bool), torch.zeros(4, dtype=torch.int64)
        seen[fps] = acceleration_mm_per_frame2(*args)[1].item()
        assert acceleration_m_per_s2(*args, torch.full((4,), fps))[1:3].tolist() == pytest.approx([9.81, 9.81])
    assert seen[50.0] == pytest.approx(4 * seen[100.0])


def test_foot_slide_against_a_loop() -> None:
    target = points(0, v=2, scale=0.004).cumsum(0)
    pred = points(1, v=2, scale=0.02)
    valid = known(2)
    valid[1, 0] = False
    expected = []
    for i in range(N):
        moved = [
            1000 * float((pred[i + 1, k] - pred[i, k]).norm())
            for k in range(2)
            if i + 1 < N
            and RUN[i] == RUN[i + 1]
            and bool(valid[i : i + 2, k].all())
            and float((target[i + 1, k] - target[i, k]).norm()) < 0.01
        ]
        expected.append(np.mean(moved) if moved else np.nan)
    assert 1 < np.isnan(expected).sum() < N
    np.testing.assert_allclose(foot_slide_mm(pred, target, valid, RUN), expected, rtol=1e-9)


def test_convention_a_foot_that_walks_does_not_slide() -> None:
    walk = torch.zeros(N, 2, 3).double()
    walk[:, :, 0] = 0.02 * torch.arange(N)[:, None]
    assert foot_slide_mm(walk, walk, known(2), RUN).isnan().all(), "2 cm a frame is a step"
    slide = foot_slide_mm(walk, torch.zeros_like(walk), known(2), torch.zeros(N, dtype=torch.int64))
    assert slide[:-1].tolist() == pytest.approx([20.0] * (N - 1))
    assert slide[-1].isnan()


@pytest.mark.parametrize("n", [0, 1, 2])
def test_short_runs_have_no_motion(n: int) -> None:
    few, valid, run = points(0, n=n, v=2), known(2)[:n], RUN[:n]
    assert acceleration_mm_per_frame2(few, few, valid, run).isnan().all()
    assert foot_slide_mm(few, few, valid, run).shape == (n,)


def test_metrics_have_no_gradient_and_are_float64() -> None:
    pred = points(0).float().requires_grad_()
    for value in (
        pve_mm(pred, pred, pred[:, 0], pred[:, 0]),
        pa_pve_mm(pred, points(1).float()),
        surface_canonical_mm(pred, pred),
        acceleration_mm_per_frame2(pred, pred, known(), RUN),
        foot_slide_mm(pred, pred, known(), RUN),
    ):
        assert (value.dtype, value.requires_grad) == (torch.float64, False)
