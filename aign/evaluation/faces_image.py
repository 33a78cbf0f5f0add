"""Numbers of pictures: how close two are (PSNR, SSIM), and how alike two sets of them are (FID, KID).

Nothing here knows what is in the pictures, and nothing of the training is used: the judge has its own downsampling.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float, Float64, UInt8

from aign.framework.errors import UserError

PEAK = 255.0
CAP_DB = 100.0
"""PSNR of equal pictures, which have no error; a mean must stay finite."""
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
_C1, _C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2

Pictures = UInt8[np.ndarray, "n h w 3"]
Features = Float[np.ndarray, "n d"]
Others = Float[np.ndarray, "m d"]


def area_down(images: Float[np.ndarray, "n h w 3"] | Pictures, factor: int) -> Float64[np.ndarray, "n a b 3"]:
    """P of superresolution: the mean of every block of factor x factor pixels.

    Raises:
        UserError: the sides are no multiples of the factor.
    """
    n, h, w, _ = images.shape
    if factor < 1 or h % factor or w % factor:
        raise UserError(f"got pictures of {h} x {w} px to shrink by {factor}; allowed are multiples of it")
    blocks = images.astype(np.float64).reshape(n, h // factor, factor, w // factor, factor, 3)
    return np.asarray(blocks.mean(axis=(2, 4)))


def psnr_db(
    images: Float[np.ndarray, "n h w 3"] | Pictures,
    others: Float[np.ndarray, "m i j 3"] | UInt8[np.ndarray, "m i j 3"],
    where: Bool[np.ndarray, "n h w"] | None = None,
) -> Float64[np.ndarray, " n"]:
    """Peak signal to noise of each picture, dB of a peak of 255; at most `CAP_DB`.

    Args:
        images: values 0..255.
        others: that they are compared with.
        where: pixels that count; a picture without any has NaN.
    """
    _check_alike(images.shape, others.shape)
    square = ((images.astype(np.float64) - others.astype(np.float64)) ** 2).mean(axis=3)
    counted = np.ones(square.shape, dtype=bool) if where is None else where
    count = counted.sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        error = (square * counted).sum(axis=(1, 2)) / count
        return np.asarray(np.minimum(10 * np.log10(PEAK**2 / error), CAP_DB))


def ssim(images: Pictures, others: UInt8[np.ndarray, "m i j 3"]) -> Float64[np.ndarray, " n"]:
    """Structural similarity of each picture: the mean over pixels and the three channels.

    A Gaussian window of 11 pixels and sigma 1.5, only where it lies inside of the picture, variances of the population.

    Source: Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004, eq. 13.

    Raises:
        UserError: other shapes, or smaller than the window.
    """
    _check_alike(images.shape, others.shape)
    if min(images.shape[1:3]) < SSIM_WINDOW:
        raise UserError(f"got pictures of {images.shape[1:3]} px; SSIM needs {SSIM_WINDOW} or more a side")
    return np.array([_ssim(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(images, others, strict=True)])


def _ssim(x: Float64[np.ndarray, "h w 3"], y: Float64[np.ndarray, "h w 3"]) -> float:
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x, var_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    top = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    bottom = (mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2)
    return float((top / bottom).mean())


def _blurred(x: Float64[np.ndarray, "h w 3"]) -> Float64[np.ndarray, "a b 3"]:
    half = SSIM_WINDOW // 2
    line = cv2.getGaussianKernel(SSIM_WINDOW, SSIM_SIGMA, cv2.CV_64F)
    return np.asarray(cv2.sepFilter2D(x, cv2.CV_64F, line, line)[half:-half, half:-half])


def _check_alike(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    if one != other:
        raise UserError(f"got pictures {list(one)} and {list(other)}; allowed are the same shapes")


def fid(features: Features, real: Others) -> float:
    """Frechet distance of two sets as if they were Gaussian; it depends on the features and, much, on the counts.

    Source: Heusel et al., "GANs trained by a two time-scale update rule", 2017. With fewer pictures than features the
    covariance is singular and the number still defined, so the counts must stand beside it.

    Raises:
        UserError: fewer than two pictures in a set.
    """
    _check_counts(features, real, 2)
    a, b = features.astype(np.float64), real.astype(np.float64)
    gap = a.mean(0) - b.mean(0)
    cov_a, cov_b = np.atleast_2d(np.cov(a.T)), np.atleast_2d(np.cov(b.T))
    # tr sqrt(A B) by the eigenvalues of sqrt(A) B sqrt(A), which is symmetric: no imaginary parts to throw away.
    values, vectors = scipy.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(scipy.linalg.eigvalsh(root @ cov_b @ root), 0)).sum()
    return float(max(gap @ gap + np.trace(cov_a) + np.trace(cov_b) - 2 * cross, 0.0))


@dataclass(frozen=True, kw_only=True)
class Kid:
    """Squared kernel distance, unbiased: it is 0 in the mean for sets of one kind, and may be below.

    Attributes:
        mean: over the subsets.
        deviation: sample standard deviation over them; None of a single one.
        subsets: how many.
        subset_size: pictures of each set in one.
    """

    mean: float
    deviation: float | None
    subsets: int
    subset_size: int


def kid(features: Features, real: Others, *, subsets: int = 50, subset_size: int = 100, seed: int = 0) -> Kid:
    """Kernel distance with the kernel (f g / d + 1)^3, over random subsets, whose spread is told.

    Sets smaller than `subset_size` are taken whole where both have as many; then all subsets of the smaller one are
    the same set and the spread is only of the larger.

    Source: Binkowski et al., "Demystifying MMD GANs", 2018, eq. 4 and sec. 4.

    Raises:
        UserError: fewer than two pictures in a set.
    """
    _check_counts(features, real, 2)
    size = min(subset_size, len(features), len(real))
    rng = np.random.default_rng(seed)
    values = [
        _mmd2(features[rng.choice(len(features), size, False)], real[rng.choice(len(real), size, False)])
        for _ in range(1 if size == len(features) == len(real) else subsets)
    ]
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Kid(mean=float(np.mean(values)), deviation=deviation, subsets=len(values), subset_size=size)


def _mmd2(a: Features, b: Features) -> float:
    m, d = a.shape
    x, y = a.astype(np.float64), b.astype(np.float64)
    xx, yy, xy = ((left @ right.T / d + 1) ** 3 for left, right in ((x, x), (y, y), (x, y)))
    within = (xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within - 2 * xy.mean())


def _check_counts(a: Features, b: Others, least: int) -> None:
    if min(len(a), len(b)) < least:
        raise UserError(f"got {len(a)} and {len(b)} pictures to compare as sets; needed are {least} or more of each")
