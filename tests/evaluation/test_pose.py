"""Pose metrics on poses small enough to check by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from aign.evaluation.pose import METRICS, centre, is_flipped, limb329_mpjpe, mpjpe, n_mpjpe, pa_mpjpe, rigid_mpjpe

F64 = torch.float64
ROOT = (0,)


def body(n: int = 6, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(n, 17, 3, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return noise * torch.tensor([0.2, 0.45, 0.12], dtype=F64) + torch.tensor([0, 0, 5.0], dtype=F64)


def everything(joints: torch.Tensor) -> torch.Tensor:
    return torch.ones(joints.shape[:-1], dtype=torch.bool)


def turned(joints: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return joints @ torch.from_numpy(Rotation.random(len(joints), rng=seed).as_matrix()).mT


def test_mpjpe_by_hand() -> None:
    # Root offset is removed; one joint is off by 3-4-0 cm, the other by nothing: (0 + 50 + 0) / 3 mm.
    target = torch.tensor([[[1.0, 1, 1], [2, 1, 1], [1, 2, 1]]], dtype=F64)
    pred = target + torch.tensor([[[7.0, 7, 7], [7.03, 7.04, 7], [7, 7, 7]]], dtype=F64)
    torch.testing.assert_close(mpjpe(pred, target, everything(pred), ROOT), torch.tensor([50 / 3], dtype=F64))


def test_convention_input_metres_output_millimetres() -> None:
    target = torch.zeros(1, 2, 3)
    pred = torch.tensor([[[0.0, 0, 0], [0, 0, 1]]])
    assert mpjpe(pred, target, everything(pred), ROOT).tolist() == [500.0]


def test_counting_the_zero_root_deflates_by_one_in_seventeen() -> None:
    pred, target = body(), body(seed=1)
    without = everything(pred)
    without[:, 0] = False
    ratio = mpjpe(pred, target, everything(pred), ROOT) / mpjpe(pred, target, without, ROOT)
    torch.testing.assert_close(ratio, torch.full((6,), 16 / 17, dtype=F64))


def test_root_rule_changes_the_number() -> None:
    pred, target = body(), body(seed=1)
    valid = everything(pred)
    hips = mpjpe(pred, target, valid, (1, 4))
    assert (hips != mpjpe(pred, target, valid, ROOT)).all()
    torch.testing.assert_close(centre(pred, (1, 4))[:, 1], -centre(pred, (1, 4))[:, 4])


def test_n_mpjpe_forgives_size_only() -> None:
    target = body()
    valid = everything(target)
    torch.testing.assert_close(n_mpjpe(0.3 * target, target, valid, ROOT), torch.zeros(6, dtype=F64), atol=1e-9, rtol=0)
    assert (n_mpjpe(turned(target), target, valid, ROOT) > 100).all()
    # p = (1, 0, 0), g = (2, 1, 0): scale 2, what is left is 1 m, averaged with the root.
    pred = torch.tensor([[[0.0, 0, 0], [1, 0, 0]]], dtype=F64)
    goal = torch.tensor([[[0.0, 0, 0], [2, 1, 0]]], dtype=F64)
    assert n_mpjpe(pred, goal, everything(pred), ROOT).tolist() == [500.0]
    assert n_mpjpe(0 * pred, goal, everything(pred), ROOT).isfinite().all()


def test_pa_forgives_similarity_and_rigid_does_not_forgive_size() -> None:
    target = body()
    valid = everything(target)
    pred = turned(1.5 * target) + 3
    assert (pa_mpjpe(pred, target, valid) < 1e-6).all()
    assert (rigid_mpjpe(pred, target, valid) > 50).all()
    assert (rigid_mpjpe(turned(target) + 3, target, valid) < 1e-6).all()


def test_each_alignment_forgives_more_than_the_one_before() -> None:
    target = body(200)
    pred = turned(1.2 * target + 0.03 * body(200, seed=3)) + 1
    valid = everything(target)
    squares = [m(pred, target, valid, ROOT).mean() for m in (METRICS[a][1] for a in ("root", "rigid", "similarity"))]
    assert squares[0] > squares[1] > squares[2]


def test_mirrored_pose_has_large_pa_and_counts_as_flipped() -> None:
    target = body()
    valid = everything(target)
    mirrored = turned(target * torch.tensor([1.0, 1, -1], dtype=F64))
    assert (pa_mpjpe(mirrored, target, valid) > 30).all()
    assert is_flipped(mirrored, target, valid).all()
    assert not is_flipped(turned(target) + 0.02 * body(seed=2), target, valid).any()
    assert not is_flipped(target, target, valid).any()


def test_masked_joints_do_not_count_even_if_nan() -> None:
    pred, target = body(), body(seed=1)
    valid = everything(pred)
    valid[:, 8:] = False
    spoiled = pred.clone()
    spoiled[:, 8:] = math.nan
    for alignment in ("root", "scale", "similarity", "rigid"):
        metric = METRICS[alignment][1]
        expected = metric(pred[:, :8], target[:, :8], valid[:, :8], ROOT)
        torch.testing.assert_close(metric(spoiled, target, valid, ROOT), expected)


@pytest.mark.parametrize("alignment", list(METRICS))
def test_nothing_valid_has_no_value(alignment: str) -> None:
    pred = body()
    valid = everything(pred)
    valid[2] = False
    got = METRICS[alignment][1](pred, body(seed=1), valid, ROOT)  # type: ignore[index]
    assert got.isnan().tolist() == [False, False, True, False, False, False]


def test_limb329_scales_hip_to_shoulder_to_329_mm() -> None:
    target = centre(body(), ROOT)
    limbs = 0.5 * ((target[:, 1] - target[:, 14]).norm(dim=-1) + (target[:, 4] - target[:, 11]).norm(dim=-1))
    goal = target * (0.329 / limbs)[:, None, None]
    valid = everything(target)
    assert (limb329_mpjpe(7 * target, goal, valid, ROOT) < 1e-9).all()
    valid[0, 14] = False
    assert limb329_mpjpe(target, goal, valid, ROOT).isnan().tolist() == [True] + 5 * [False]


def test_pa_equals_scipy_procrustes_on_the_same_points() -> None:
    # scipy.spatial.procrustes normalises and allows reflections; for unreflected poses its residual is the same shape.
    target = body(5)
    pred = turned(target) + 0.02 * body(5, seed=4)
    for p, g, got in zip(pred.numpy(), target.numpy(), pa_mpjpe(pred, target, everything(pred)), strict=True):
        turn, _ = Rotation.align_vectors(g - g.mean(0), p - p.mean(0))
        moved = turn.apply(p - p.mean(0))
        moved *= (moved * (g - g.mean(0))).sum() / np.square(moved).sum()
        expected = 1000 * np.linalg.norm(moved - (g - g.mean(0)), axis=-1).mean()
        assert float(got) == pytest.approx(expected, abs=1e-6)
