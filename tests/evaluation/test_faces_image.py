"""PSNR, SSIM, FID and KID against plain references from their definitions, and against values known by hand."""

import numpy as np
import pytest
import scipy.linalg

from aign.evaluation.baselines.bicubic import bicubic, diffused
from aign.evaluation.faces_image import CAP_DB, area_down, fid, kid, psnr_db, ssim
from aign.framework.errors import UserError

RNG = np.random.default_rng(0)
A = RNG.integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
B = np.clip(A.astype(int) + RNG.integers(-40, 41, A.shape), 0, 255).astype(np.uint8)


def test_psnr_by_hand():
    black, grey = np.zeros((1, 4, 4, 3), np.uint8), np.full((1, 4, 4, 3), 51, np.uint8)
    assert psnr_db(black, grey)[0] == pytest.approx(20 * np.log10(5))
    assert psnr_db(A, A).tolist() == [CAP_DB] * 3, "no error at all, but a finite mean"


def test_psnr_counts_only_what_it_is_asked_for():
    spoilt = A.copy()
    spoilt[0, :8] = 0
    below = np.zeros((3, 16, 16), bool)
    below[:, 8:] = True
    assert psnr_db(spoilt, A, below)[0] == CAP_DB
    assert psnr_db(spoilt, A, ~below)[0] < 20
    assert np.isnan(psnr_db(spoilt, A, np.zeros((3, 16, 16), bool))).all(), "no pixel, no number"


def slow_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Equation 13 of the paper, window by window."""
    at = np.arange(11) - 5
    line = np.exp(-(at**2) / (2 * 1.5**2))
    window = np.outer(line, line) / np.outer(line, line).sum()
    found = []
    for c in range(3):
        for i in range(x.shape[0] - 10):
            for j in range(x.shape[1] - 10):
                p, q = (v[i : i + 11, j : j + 11, c].astype(float) for v in (x, y))
                mp, mq = (window * p).sum(), (window * q).sum()
                vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
                cov = (window * (p - mp) * (q - mq)).sum()
                c1, c2 = 2.55**2, 7.65**2
                found.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return float(np.mean(found))


def test_ssim_is_that_of_the_paper():
    np.testing.assert_allclose(ssim(A, B), [slow_ssim(a, b) for a, b in zip(A, B, strict=True)], atol=1e-9)
    np.testing.assert_allclose(ssim(A, A), 1)


def test_pictures_that_cannot_be_compared_are_refused():
    with pytest.raises(UserError, match="same shapes"):
        psnr_db(A, A[:, :8])
    with pytest.raises(UserError, match="11 or more"):
        ssim(A[:, :8, :8], A[:, :8, :8])
    with pytest.raises(UserError, match="multiples"):
        area_down(A, 3)


def test_area_is_the_mean_of_blocks():
    small = area_down(A, 4)
    assert small.shape == (3, 4, 4, 3)
    np.testing.assert_allclose(small[1, 2, 3], A[1, 8:12, 12:16].reshape(-1, 3).mean(0))


def slow_fid(a: np.ndarray, b: np.ndarray) -> float:
    root = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root.real))


def test_fid():
    a, b = RNG.normal(size=(300, 6)), RNG.normal(0.5, 2, size=(200, 6))
    assert fid(a, b) == pytest.approx(slow_fid(a, b), rel=1e-6)
    assert fid(a, a) == pytest.approx(0, abs=1e-9)
    assert fid(a, a + 3) == pytest.approx(6 * 9), "a shift is its own square"
    assert fid(a[:3], b[:4]) > 0, "fewer pictures than features still give a number"
    with pytest.raises(UserError, match="2 or more"):
        fid(a[:1], b)


def slow_mmd2(x: np.ndarray, y: np.ndarray) -> float:
    def kernel(p: np.ndarray, q: np.ndarray) -> float:
        return float((p @ q / len(p) + 1) ** 3)

    n = len(x)
    xx = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j)
    yy = sum(kernel(y[i], y[j]) for i in range(n) for j in range(n) if i != j)
    xy = sum(kernel(p, q) for p in x for q in y)
    return (xx + yy) / (n * (n - 1)) - 2 * xy / n**2


def test_kid_is_the_unbiased_estimate():
    a, b = RNG.normal(size=(20, 4)), RNG.normal(1, 1, size=(20, 4))
    whole = kid(a, b)
    assert whole.subsets == 1
    assert whole.deviation is None
    assert whole.subset_size == 20
    assert whole.mean == pytest.approx(slow_mmd2(a, b))


def test_kid_of_one_kind_is_about_zero_and_grows_with_a_shift():
    a, b = RNG.normal(size=(400, 4)), RNG.normal(size=(300, 4))
    same, shifted = kid(a, b, subset_size=50), kid(a, b + 1, subset_size=50)
    assert same.deviation is not None
    assert same.subsets == 50
    assert abs(same.mean) < same.deviation
    assert shifted.mean > 20 * abs(same.mean)
    assert kid(a, b, subset_size=50) == same, "the subsets are drawn by a seed"


def test_bicubic_and_diffused():
    low = np.full((2, 4, 4, 3), 90, np.uint8)
    assert (bicubic(low, 16) == 90).all()
    assert bicubic(low[:0], 16).shape == (0, 16, 16, 3)
    hole = np.zeros((3, 16, 16), bool)
    hole[:, 6:9, 6:9] = True
    filled = diffused(A, hole)
    assert (filled[~hole] == A[~hole]).all()
    assert (filled[hole] != A[hole]).any()
