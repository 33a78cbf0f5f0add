"""Filters in time: less shaking, nearer to the truth, rotations stay rotations."""

import numpy as np
import pytest
import torch

from aign.data.motions import load_demo_motions
from aign.geometry.rotation import from_axis_angle, geodesic_rad
from aign.inference.smoothing import jitter_m_per_s3, smoothed, smoothed_rotations

FPS = 30.0


def shaken(seed=0):
    """A smooth way and the same with a detector's noise."""
    t = np.arange(120)[:, None] / FPS
    truth = np.concatenate((np.sin(2 * t), 0.3 * np.cos(3 * t), 3 + 0.2 * t), 1).astype(np.float32)
    noise = np.random.default_rng(seed).normal(0, 0.02, truth.shape)
    return truth, (truth + noise).astype(np.float32)


@pytest.mark.parametrize(("how", "calmer", "nearer"), [("savgol", 0.2, 0.7), ("one-euro", 0.35, 1.6)])
def test_a_filter_takes_the_shaking_and_leaves_the_motion(how, calmer, nearer):
    truth, seen = shaken()
    out = smoothed(seen, FPS, how)
    assert out.shape == seen.shape
    assert out.dtype == np.float32
    assert jitter_m_per_s3(out[:, None], FPS) < calmer * jitter_m_per_s3(seen[:, None], FPS)
    assert np.abs(out - truth).mean() < nearer * np.abs(seen - truth).mean(), "one-euro lags, and may cost that much"


def test_savgol_leaves_a_cubic_as_it_is_and_none_leaves_all():
    t = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
    cubic = np.concatenate((t**3 - t, 2 * t**2, t), 1)
    np.testing.assert_allclose(smoothed(cubic, FPS, "savgol"), cubic, atol=1e-5)
    _, seen = shaken()
    assert smoothed(seen, FPS, "none") is seen


def test_convention_one_euro_never_looks_ahead():
    _, seen = shaken()
    later = seen.copy()
    later[60:] += 1
    before, after = smoothed(seen, FPS, "one-euro"), smoothed(later, FPS, "one-euro")
    np.testing.assert_array_equal(before[:60], after[:60])
    assert (before[60] != after[60]).any()


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 6])
def test_few_frames_are_no_trouble(frames):
    _, seen = shaken()
    for how in ("savgol", "one-euro"):
        assert np.isfinite(smoothed(seen[:frames], FPS, how)).all()


def test_rotations_stay_rotations_and_come_nearer():
    rotmats = max((m.rotmats for m in load_demo_motions()), key=len)[:90]
    noise = from_axis_angle(torch.randn(90, 24, 3) * 0.05).numpy()
    seen = rotmats @ noise
    out = smoothed_rotations(seen, FPS, "savgol")
    product = out @ out.swapaxes(-1, -2)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(3), product.shape), atol=1e-5)
    assert (np.linalg.det(out) > 0).all()

    def error(of):
        return float(geodesic_rad(torch.from_numpy(of), torch.from_numpy(rotmats)).mean())

    assert error(out) < 0.75 * error(seen)


def test_jitter_has_its_unit_and_skips_what_is_not_known():
    t = np.arange(60) / FPS
    way = np.zeros((60, 2, 3), np.float32)
    way[:, :, 0] = (t**3)[:, None]
    assert jitter_m_per_s3(way, FPS) == pytest.approx(6.0, rel=1e-3), "the third derivative of t^3"
    way[30:] = np.nan
    assert jitter_m_per_s3(way, FPS) == pytest.approx(6.0, rel=1e-3)
    assert np.isnan(jitter_m_per_s3(way[:3], FPS))
