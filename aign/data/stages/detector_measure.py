"""A detector's error statistics, measured where the truth is known; `aign.data.stages.detector_errors` draws from them.

Every frame counts twice, as it is and mirrored, so that left and right get the same statistics.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from aign.data.stages.detector_errors import (
    CONF_LEVELS,
    LIMBS,
    NUM_JOINTS,
    RANKS,
    DetectorErrors,
    body_axes,
    check_keypoints,
    half_extent_px,
    swap_sides,
)
from aign.framework.errors import UserError
from aign.geometry.skeleton import H36M17

MIN_FRAMES = 30
"""Joints seen in fewer frames than this have no statistics: they count as never there."""
LAG_SECONDS = 0.1
"""Over which the correlation in time is measured: an AR(1) that follows the jitter of single frames alone would forget
too fast, and what a temporal lifter cannot average away is the slow part."""
SWAP_GAIN = 0.5
"""Swapped: with the sides exchanged the limb fits in less than this share of the distance."""
SWAP_APART = 0.2
"""Half extents between left and right below which nobody could tell."""
TAILS = np.geomspace(1.0, 100.0, 200)
_TAIL_AT = 0.9


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Detections against the truth, frame by frame.

    Attributes:
        residual: error in half extents with swaps undone and the bias taken off, NaN where not seen.
        bias: in the person's axes.
        swapped: which frames have which of `LIMBS` swapped.
        testable: where that could be told.
        found: frames in which the person is.
    """

    residual: Float64[np.ndarray, "n 17 2"]
    bias: Float64[np.ndarray, "17 2"]
    swapped: Bool[np.ndarray, "n 3"]
    testable: Bool[np.ndarray, "n 3"]
    found: Bool[np.ndarray, " n"]


def compare(
    kp2d_px: Float[np.ndarray, "n 17 2"],
    conf: Float[np.ndarray, "n 17"],
    truth_px: Float[np.ndarray, "n 17 2"],
    truth_valid: Bool[np.ndarray, "n 17"],
) -> Compared:
    """Detections against the truth; see `measure_errors` for the arguments."""
    size, axes = half_extent_px(truth_px, truth_valid), body_axes(truth_px, truth_valid)
    found = (conf > 0).any(1) & (size > 0)
    known = truth_valid & (conf > 0) & found[:, None]
    swapped, testable = _swaps(kp2d_px, truth_px, known, size)
    straight = kp2d_px
    for limb, now in zip(LIMBS.values(), swapped.T, strict=True):
        straight = swap_sides(straight, limb, now)
    error = (straight - truth_px).astype(np.float64) / np.where(size > 0, size, 1.0)[:, None, None]
    error[~known] = np.nan
    bias = np.stack([_bias(e, a) for e, a in zip(*_with_mirrored(error, axes), strict=True)])
    residual = error - np.einsum("nab,jb->nja", axes, bias)
    return Compared(residual=residual, bias=bias, swapped=swapped, testable=testable, found=found)


def measure_errors(
    kp2d_px: Float[np.ndarray, "n j 2"],
    conf: Float[np.ndarray, "n j"],
    truth_px: Float[np.ndarray, "n j 2"],
    truth_valid: Bool[np.ndarray, "n j"],
    clip: Int64[np.ndarray, " n"],
    fps: float,
) -> DetectorErrors:
    """The statistics of a detector's errors.

    Args:
        kp2d_px: detections.
        conf: their confidences, 0 where there is none.
        truth_px: where the joints are.
        truth_valid: where that is known.
        clip: which clip each frame is of; those of one clip follow one another without a gap.
        fps: frames per second of all clips.

    Raises:
        UserError: no frames, shapes that do not fit, numbers that are not finite, a joint set other than H36M-17,
            nothing seen of which the truth is known, or no clip of more than `LAG_SECONDS`.
    """
    check_keypoints(kp2d_px, conf, fps)
    check_keypoints(np.where(truth_valid[..., None], truth_px, 0.0), truth_valid.astype(np.float32), fps)
    if len(truth_px) != len(kp2d_px) or clip.shape != (len(kp2d_px),):
        raise UserError(f"{len(kp2d_px)} frames of detections, {len(truth_px)} of truth, {len(clip)} of clips")
    seen = compare(kp2d_px, conf, truth_px, truth_valid)
    known = np.isfinite(seen.residual[..., 0])
    if known.sum(0).max() < MIN_FRAMES:
        raise UserError(f"{known.sum(0).max()} frames in which a joint was seen and is known; {MIN_FRAMES} are needed")
    residual = np.stack(_mirrored_too(seen.residual), axis=1)
    fits = [_spread(r) for r in residual.transpose(2, 0, 1, 3).reshape(NUM_JOINTS, -1, 2)]
    scale, tail, limit = (np.stack(column) for column in zip(*fits, strict=True))
    gauss = _to_gauss(residual, scale, tail, limit)
    dropped = (conf <= 0) & seen.found[:, None]
    dropped_share: np.ndarray = np.asarray(_pooled(dropped.sum(0)) / max(2 * seen.found.sum(), 1))
    lost = np.asarray((conf <= 0).all(1))
    return DetectorErrors(
        fps=float(fps),
        bias=seen.bias,
        scale=scale,
        tail=tail,
        limit=limit,
        correlation=_between_joints(gauss),
        rho=_in_time(gauss, clip, fps),
        dropout=np.where(_pooled(known.sum(0)) >= MIN_FRAMES, dropped_share, 1.0),
        dropout_seconds=_seconds(dropped[:, dropped_share < 1], clip, fps),
        lost=float(lost.mean()),
        lost_seconds=_seconds(lost[:, None], clip, fps),
        swap=seen.swapped.sum(0) / np.maximum(seen.testable.sum(0), 1),
        swap_seconds=_seconds(seen.swapped, clip, fps),
        conf=_confidences(gauss, conf),
    )


def _pooled(values: np.ndarray) -> np.ndarray:
    """Per joint, left and right together."""
    pooled: np.ndarray = values + values[list(H36M17.mirrored)]
    return pooled


def _mirrored_too(error: Float64[np.ndarray, "n 17 2"]) -> tuple[np.ndarray, np.ndarray]:
    return error, error[:, list(H36M17.mirrored)] * [-1.0, 1.0]


def _with_mirrored(
    error: Float64[np.ndarray, "n 17 2"], axes: Float64[np.ndarray, "n 2 2"]
) -> tuple[Float64[np.ndarray, "17 m 2"], Float64[np.ndarray, "17 m 2 2"]]:
    """Errors and axes by joint, of the frames and of their mirror images (in which across is still right to left)."""
    both = np.concatenate(_mirrored_too(error)).transpose(1, 0, 2)
    turned = axes * np.array([[1.0, -1.0], [-1.0, 1.0]])  # x changes its sign, and so does right to left
    return both, np.broadcast_to(np.concatenate((axes, turned)), (NUM_JOINTS, 2 * len(axes), 2, 2))


def _swaps(
    kp2d_px: Float[np.ndarray, "n 17 2"],
    truth_px: Float[np.ndarray, "n 17 2"],
    known: Bool[np.ndarray, "n 17"],
    size: Float64[np.ndarray, " n"],
) -> tuple[Bool[np.ndarray, "n 3"], Bool[np.ndarray, "n 3"]]:
    """Which limbs fit far better with left and right exchanged, and where that could be told."""
    other = truth_px[:, list(H36M17.mirrored)]
    swapped, testable = [], []
    for limb in (list(joints) for joints in LIMBS.values()):
        as_is, exchanged, apart = (
            np.linalg.norm((a - b)[:, limb], axis=-1).mean(1)
            for a, b in ((kp2d_px, truth_px), (kp2d_px, other), (truth_px, other))
        )
        testable.append(known[:, limb].all(1) & (apart > SWAP_APART * size))
        swapped.append(testable[-1] & (exchanged < SWAP_GAIN * as_is))
    body = swapped[list(LIMBS).index("body")]
    return np.stack([s if s is body else s & ~body for s in swapped], axis=1), np.stack(testable, axis=1)


def _bias(error: Float64[np.ndarray, "m 2"], axes: Float64[np.ndarray, "m 2 2"]) -> Float64[np.ndarray, "2"]:
    """Coefficients along the axes, by least squares under Cauchy weights: outliers have no say."""
    known = np.isfinite(error[:, 0]) & (np.abs(axes).sum((1, 2)) > 0)
    bias = np.zeros(2)
    if known.sum() < MIN_FRAMES:
        return bias
    error, axes = error[known], axes[known]
    for _ in range(20):
        apart = np.hypot(*(error - axes @ bias).T)
        weight = 1.0 / (1.0 + (apart / (1.5 * np.median(apart) + 1e-12)) ** 2)
        design, rows = (axes * weight[:, None, None]).reshape(-1, 2), axes.reshape(-1, 2)
        bias = np.linalg.solve(design.T @ rows + 1e-9 * np.eye(2), design.T @ error.reshape(-1))
    return bias


def _spread(residual: Float64[np.ndarray, "m 2"]) -> tuple[Float64[np.ndarray, "2 2"], float, float]:
    """Scatter, degrees of freedom and largest length of an elliptical Student t with its mode at 0."""
    residual = residual[np.isfinite(residual[:, 0])]
    if len(residual) < 2 * MIN_FRAMES:
        return np.zeros((2, 2)), float(TAILS[-1]), 0.0
    scatter = np.eye(2) * max(float(np.median((residual**2).sum(-1))), 1e-12)
    for _ in range(20):  # the likelihood's fixed point at 4 degrees of freedom; only its shape is used
        square = _square(residual, scatter)
        scatter = (residual * (6.0 / (4.0 + square))[:, None]).T @ residual / len(residual)
    half, most = np.maximum(np.quantile(_square(residual, scatter), (0.5, _TAIL_AT)), 1e-12)
    tail = float(TAILS[np.argmin(np.abs(_quantile(TAILS, _TAIL_AT) / _quantile(TAILS, 0.5) - most / half))])
    scatter = scatter * half / float(_quantile(np.array([tail]), 0.5)[0])
    return scatter, tail, float(np.sqrt(np.quantile(_square(residual, scatter), 0.995)))


def _quantile(tail: Float64[np.ndarray, " k"], level: float) -> Float64[np.ndarray, " k"]:
    """Quantile of the square of an elliptical Student t in the plane."""
    quantile: np.ndarray = tail * np.expm1(-2.0 / tail * np.log1p(-level))
    return quantile


def _square(residual: Float64[np.ndarray, "m 2"], scatter: Float64[np.ndarray, "2 2"]) -> Float64[np.ndarray, " m"]:
    inverse = np.linalg.inv(scatter + 1e-12 * np.eye(2))
    square: np.ndarray = ((residual @ inverse) * residual).sum(-1)
    return square


def _to_gauss(
    residual: Float64[np.ndarray, "n 2 17 2"],
    scale: Float64[np.ndarray, "17 2 2"],
    tail: Float64[np.ndarray, "17"],
    limit: Float64[np.ndarray, "17"],
) -> Float64[np.ndarray, "n 2 17 2"]:
    """The Gaussians that would have been stretched to these errors; NaN where there is none."""
    gauss = np.full_like(residual, np.nan)
    for j in np.flatnonzero(limit > 0):
        values, vectors = np.linalg.eigh(scale[j])
        white = residual[:, :, j] @ (vectors / np.sqrt(np.maximum(values, 1e-12))) @ vectors.T
        square = np.maximum((white**2).sum(-1, keepdims=True), 1e-12)
        shrunk = tail[j] * np.log1p(np.minimum(square, limit[j] ** 2) / tail[j])
        gauss[:, :, j] = white * np.sqrt(shrunk / square)
    return gauss


def _between_joints(gauss: Float64[np.ndarray, "n 2 17 2"]) -> Float64[np.ndarray, "17 17"]:
    """Correlation of the joints, x and y and both mirror images together; 0 with a joint that was never seen."""
    columns = gauss.transpose(2, 0, 1, 3).reshape(NUM_JOINTS, -1)
    known = np.isfinite(columns).astype(np.float64)
    columns = np.nan_to_num(columns)
    square = columns**2 @ known.T  # of the row's joint, where the column's is known too
    both: np.ndarray = columns @ columns.T / np.maximum(np.sqrt(square * square.T), 1e-12)
    np.fill_diagonal(both, 1.0)
    return both


def _in_time(gauss: Float64[np.ndarray, "n 2 17 2"], clip: Int64[np.ndarray, " n"], fps: float) -> np.ndarray:
    """Correlation from one frame to the next that gives the one measured over `LAG_SECONDS`."""
    lag = max(round(LAG_SECONDS * fps), 1)
    if len(clip) <= lag or not (clip[lag:] == clip[:-lag]).any():
        raise UserError(f"no clip has more than {lag} frames; errors are correlated over so many")
    before, after = gauss[:-lag], gauss[lag:]
    pairs = (clip[lag:] == clip[:-lag])[:, None, None, None] & np.isfinite(before) & np.isfinite(after)
    before, after = (np.where(pairs, side, 0.0) for side in (before, after))
    both = (before * after).sum((0, 1, 3))
    alone = np.sqrt((before**2).sum((0, 1, 3)) * (after**2).sum((0, 1, 3)))
    rho: np.ndarray = np.clip(both / np.maximum(alone, 1e-12), 0.0, 0.999) ** (1.0 / lag)
    return rho


def _seconds(on: Bool[np.ndarray, "n k"], clip: Int64[np.ndarray, " n"], fps: float) -> float:
    """Mean length of what lasts; one frame where it never happens."""
    begins = on.copy()
    begins[1:] &= ~on[:-1] | (clip[1:] != clip[:-1])[:, None]
    return float(on.sum() / max(begins.sum(), 1) / fps) if on.any() else 1.0 / fps


def _confidences(gauss: Float64[np.ndarray, "n 2 17 2"], conf: Float[np.ndarray, "n 17"]) -> np.ndarray:
    """Quantiles of the confidence by joint and class of error, left and right together."""
    rank = -np.expm1(-0.5 * (gauss**2).sum(-1))
    both = np.stack((conf, conf[:, list(H36M17.mirrored)]), axis=1)
    table = np.zeros((NUM_JOINTS, len(RANKS) + 1, len(CONF_LEVELS)))
    for j in range(NUM_JOINTS):
        known = np.isfinite(rank[:, :, j])
        kind = np.searchsorted(RANKS, rank[:, :, j][known])
        values = both[:, :, j][known]
        for k in range(len(RANKS) + 1):
            here = values[kind == k] if (kind == k).any() else values
            if len(here):
                table[j, k] = np.quantile(here, CONF_LEVELS)
    return table
