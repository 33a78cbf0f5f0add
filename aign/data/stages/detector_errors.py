"""2D detections as a real detector would have made them, from exact projections: its measured error statistics, drawn.

What an error is made of, each measured by `aign.data.stages.detector_measure` and drawn here frame after frame:

- bias: the detector's joints are not H36M's (its hips are narrower, its nose higher). It turns with the person.
- an elliptical Student t: |error|^2 / scale ~ 2 F(2, tail), heavier than a Gaussian, cut at the largest error seen.
- correlation in time (AR(1) of the underlying Gaussian) and between joints (a hip pulls the pelvis along).
- spells in which limbs or the whole body have left and right swapped, a joint is not there, or the person is lost.
- the confidence that comes with an error of such a size.

Convention: pixels as in `aign.geometry.camera`; left = the person's left. Lengths are in half extents: half the longer
side of the box round the visible joints of that frame, head top excepted (not every detector has one).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64
from scipy.special import ndtr

from aign.framework.errors import UserError
from aign.geometry.skeleton import H36M17

MEASURED = Path(__file__).with_name("detector_errors.json")
"""What benchmarks/detector_errors.py measured of BlazePose heavy."""
VERSION = "1"
NUM_JOINTS = len(H36M17)
CONF_LEVELS = (0.0, 0.05, 0.25, 0.5, 0.75, 1.0)
"""The quantiles of the confidence that are kept."""
RANKS = (0.5, 0.8, 0.95)
"""Errors smaller than this share of the joint's errors are in the first, second, third class of confidence."""
_PAIRED = [j for j, other in enumerate(H36M17.mirrored) if j != other]
LIMBS: Mapping[str, tuple[int, ...]] = {
    "legs": tuple(H36M17.index("l_knee", "r_knee", "l_ankle", "r_ankle")),
    "arms": tuple(H36M17.index("l_elbow", "r_elbow", "l_wrist", "r_wrist")),
    "body": tuple(_PAIRED),
}
"""What is swapped as one."""
_SIZED = [j for j, name in enumerate(H36M17.joints) if name != "head_top"]


@dataclass(frozen=True, kw_only=True)
class DetectorErrors:
    """A detector's error statistics on H36M-17.

    Attributes:
        fps: frame rate at which they were measured.
        bias: mean error in the person's own axes as seen in the picture (`body_axes`): across and along the torso.
        scale: scatter of the rest, image axes, half extents squared; the covariance if `tail` is infinite.
        tail: degrees of freedom of the Student t; small = heavy.
        limit: no error is longer than this many times its scale (Mahalanobis).
        correlation: between the joints' underlying Gaussians.
        rho: correlation of each joint's Gaussian from one frame to the next.
        dropout: share of frames in which a joint is not there though the person is.
        dropout_seconds: how long that lasts on average.
        lost: share of frames without the person.
        lost_seconds: how long that lasts.
        swap: share of frames with left and right swapped, in the order of `LIMBS`.
        swap_seconds: how long that lasts.
        conf: quantiles `CONF_LEVELS` of the confidence in each of the classes of error that `RANKS` divides.
    """

    fps: float
    bias: Float64[np.ndarray, "17 2"]
    scale: Float64[np.ndarray, "17 2 2"]
    tail: Float64[np.ndarray, "17"]
    limit: Float64[np.ndarray, "17"]
    correlation: Float64[np.ndarray, "17 17"]
    rho: Float64[np.ndarray, "17"]
    dropout: Float64[np.ndarray, "17"]
    dropout_seconds: float
    lost: float
    lost_seconds: float
    swap: Float64[np.ndarray, "3"]
    swap_seconds: float
    conf: Float64[np.ndarray, "17 4 6"]


def to_json(errors: DetectorErrors, provenance: Mapping[str, Any]) -> str:
    """The statistics and where they come from, as text.

    Args:
        errors: the statistics.
        provenance: what was measured, when, with which commit.
    """
    # Five digits of each: nothing was measured better, and the last ones differ from machine to machine.
    plain = {k: np.vectorize(lambda x: float(f"{x:.5g}"))(v).tolist() for k, v in asdict(errors).items()}
    rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in plain.items())
    return f'{{\n"provenance": {json.dumps(dict(provenance), indent=1)},\n"errors": {{\n{rows}\n}}\n}}\n'


def from_json(text: str, where: str) -> DetectorErrors:
    """Read what `to_json` wrote.

    Args:
        text: the file's content.
        where: its name, for errors.

    Raises:
        UserError: not such a file.
    """
    try:
        content = json.loads(text)["errors"]
        shapes = {"bias": (17, 2), "scale": (17, 2, 2), "correlation": (17, 17), "swap": (3,), "conf": (17, 4, 6)}
        values: dict[str, Any] = {}
        for field in fields(DetectorErrors):
            if field.type is float:
                values[field.name] = float(content[field.name])
            else:
                values[field.name] = np.array(content[field.name], np.float64).reshape(shapes.get(field.name, (17,)))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{where}: no statistics of a detector's errors ({error!r})") from error
    bad = [name for name, value in values.items() if not np.isfinite(value).all()]
    if bad:
        raise UserError(f"{where}: {', '.join(bad)} hold numbers that are not finite")
    return DetectorErrors(**values)


@cache
def measured_errors() -> DetectorErrors:
    """The statistics that come with the package."""
    return from_json(MEASURED.read_text(encoding="utf-8"), str(MEASURED))


@cache
def measured_sha256() -> str:
    """Hash of the file of `measured_errors`."""
    return hashlib.sha256(MEASURED.read_bytes()).hexdigest()


def half_extent_px(
    kp2d_px: Float[np.ndarray, "n 17 2"], visible: Bool[np.ndarray, "n 17"]
) -> Float64[np.ndarray, " n"]:
    """The person's size in each frame: half the longer side of the box round visible joints, 0 where there is none."""
    points, there = kp2d_px[:, _SIZED].astype(np.float64), visible[:, _SIZED]
    low = np.where(there[..., None], points, np.inf).min(1)
    high = np.where(there[..., None], points, -np.inf).max(1)
    return np.where(there.any(1), 0.5 * (high - low).max(1, initial=0.0), 0.0)


def body_axes(kp2d_px: Float[np.ndarray, "n 17 2"], visible: Bool[np.ndarray, "n 17"]) -> Float64[np.ndarray, "n 2 2"]:
    """The person's axes in the picture, in half extents: [:, :, 0] right to left side, [:, :, 1] pelvis to thorax.

    They shrink as they turn away from the picture, so a bias along them does too. Zero where hips, shoulders, pelvis
    or thorax are not visible.

    Convention: somebody upright who faces the camera has axes (+, 0) and (0, -).
    """
    l_hip, r_hip, l_shoulder, r_shoulder, pelvis, thorax = H36M17.index(
        "l_hip", "r_hip", "l_shoulder", "r_shoulder", "pelvis", "thorax"
    )
    points = kp2d_px.astype(np.float64)
    across = 0.5 * (points[:, l_hip] - points[:, r_hip] + points[:, l_shoulder] - points[:, r_shoulder])
    along = points[:, thorax] - points[:, pelvis]
    size = half_extent_px(kp2d_px, visible)
    known = visible[:, [l_hip, r_hip, l_shoulder, r_shoulder, pelvis, thorax]].all(1) & (size > 0)
    axes = np.stack((across, along), axis=-1) / np.where(known, size, 1.0)[:, None, None]
    return np.where(known[:, None, None], axes, 0.0)


def apply_errors(
    kp2d_px: Float[np.ndarray, "t j 2"],
    conf: Float[np.ndarray, "t j"],
    seed: int | Sequence[int],
    errors: DetectorErrors,
    fps: float,
) -> tuple[Float32[np.ndarray, "t 17 2"], Float32[np.ndarray, "t 17"]]:
    """One camera's consecutive exact projections as the detector would have seen them.

    Args:
        kp2d_px: projections.
        conf: 0 where there is none (outside the picture): there is none afterwards either.
        seed: of everything random.
        errors: the statistics.
        fps: frame rate of the frames; correlations and spells are converted to it.

    Returns:
        Keypoints, 0 where not detected, and confidences 0..1, 0 where not detected.

    Raises:
        UserError: no frames, another joint set, numbers that are not finite, or no frame rate.
    """
    check_keypoints(kp2d_px, conf, fps)
    rng = np.random.default_rng(seed)
    visible = conf > 0
    gauss = _correlated(rng, len(kp2d_px), errors, fps)
    size, axes = half_extent_px(kp2d_px, visible), body_axes(kp2d_px, visible)
    error = np.einsum("tab,jb->tja", axes, errors.bias) + _tailed(gauss[..., :2], errors)
    moved = kp2d_px + size[:, None, None] * error
    sure = np.where(visible, _confidence(gauss, errors), 0.0)
    swapped = spells(rng, len(kp2d_px), errors.swap, errors.swap_seconds * fps)
    for limb, now in zip(LIMBS.values(), swapped.T, strict=True):
        moved, sure = swap_sides(moved, limb, now), swap_sides(sure[..., None], limb, now)[..., 0]
    gone = spells(rng, len(kp2d_px), errors.dropout, errors.dropout_seconds * fps)
    gone |= spells(rng, len(kp2d_px), np.array([errors.lost]), errors.lost_seconds * fps)
    sure = np.where(gone, 0.0, sure)
    return np.where(sure[..., None] > 0, moved, 0.0).astype(np.float32), sure.astype(np.float32)


def check_keypoints(kp2d_px: np.ndarray, conf: np.ndarray, fps: float) -> None:
    """Refuse what is no sequence of H36M-17 keypoints.

    Raises:
        UserError: as said.
    """
    if kp2d_px.ndim != 3 or kp2d_px.shape[1:] != (NUM_JOINTS, 2) or conf.shape != kp2d_px.shape[:2]:
        raise UserError(
            f"keypoints {kp2d_px.shape}, confidences {conf.shape}; (frames, 17, 2), (frames, 17) are needed"
        )
    if len(kp2d_px) == 0:
        raise UserError("keypoints of 0 frames; at least 1 is needed")
    if not np.isfinite(kp2d_px).all() or not np.isfinite(conf).all():
        raise UserError("keypoints or confidences that are not finite; where nothing was seen 0 is allowed")
    if not (np.isfinite(fps) and fps > 0):
        raise UserError(f"{fps} frames per second; more than 0 is needed")


def swap_sides(
    values: Float[np.ndarray, "t 17 d"], limb: Sequence[int], now: Bool[np.ndarray, " t"]
) -> Float[np.ndarray, "t 17 d"]:
    """Left and right exchanged among some joints, in some frames."""
    order = np.arange(NUM_JOINTS)
    order[list(limb)] = np.array(H36M17.mirrored)[list(limb)]
    return np.where(now[:, None, None], values[:, order], values)


def spells(
    rng: np.random.Generator, frames: int, share: Float[np.ndarray, " k"], length: float
) -> Bool[np.ndarray, "{frames} k"]:
    """Independent on-off processes: each on for `share` of the frames, for `length` frames at a time on average."""
    leave = 1.0 / max(length, 1.0)
    enter = np.minimum(leave * share / np.maximum(1.0 - share, 1e-12), 1.0)
    leave_of = np.where(share >= 1.0, 0.0, leave)
    draws = rng.random((frames, len(share)))
    on = np.empty((frames, len(share)), bool)
    on[0] = draws[0] < share
    for t in range(1, frames):
        on[t] = np.where(on[t - 1], draws[t] >= leave_of, draws[t] < enter)
    return on


def _correlated(
    rng: np.random.Generator, frames: int, errors: DetectorErrors, fps: float
) -> Float64[np.ndarray, "{frames} 17 3"]:
    """Three standard Gaussians a joint (x, y, confidence), correlated in time and between joints."""
    rho = errors.rho ** (errors.fps / fps)
    both = 1.0 - np.outer(rho, rho)
    # Joints with different memories cannot keep every correlation; the nearest innovation that exists is taken.
    root = _root(errors.correlation * both)
    innovation = root * np.sqrt((1.0 - rho**2) / np.maximum((root**2).sum(1), 1e-12))[:, None]
    noise = rng.standard_normal((frames, NUM_JOINTS, 3))
    steps = innovation @ noise
    gauss = np.empty_like(noise)
    gauss[0] = _root((innovation @ innovation.T) / both) @ noise[0]
    for t in range(1, frames):
        gauss[t] = rho[:, None] * gauss[t - 1] + steps[t]
    return gauss


def _root(matrix: Float[np.ndarray, "*n d d"]) -> Float64[np.ndarray, "*n d d"]:
    """Symmetric square root of the nearest matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    root: np.ndarray = (vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    return root


def _tailed(gauss: Float64[np.ndarray, "t 17 2"], errors: DetectorErrors) -> Float64[np.ndarray, "t 17 2"]:
    """Gaussians stretched to the Student t: P(|t|^2 > x) = (1 + x / tail)^(-tail / 2), P(|g|^2 > y) = exp(-y / 2)."""
    square = np.maximum((gauss**2).sum(-1), 1e-12)
    stretched = np.minimum(errors.tail * np.expm1(np.minimum(square / errors.tail, 50.0)), errors.limit**2)
    error: np.ndarray = np.einsum("jab,tjb->tja", _root(errors.scale), gauss * np.sqrt(stretched / square)[..., None])
    return error


def _confidence(gauss: Float64[np.ndarray, "t 17 3"], errors: DetectorErrors) -> Float64[np.ndarray, "t 17"]:
    """A quantile of the confidence that errors of this rank come with."""
    rank = -np.expm1(-0.5 * (gauss[..., :2] ** 2).sum(-1))
    table = errors.conf[np.arange(NUM_JOINTS), np.searchsorted(RANKS, rank)]
    level, levels = ndtr(gauss[..., 2]), np.array(CONF_LEVELS)
    upper = np.clip(np.searchsorted(levels, level), 1, len(levels) - 1)
    share = (level - levels[upper - 1]) / (levels[upper] - levels[upper - 1])
    low, high = (np.take_along_axis(table, k[..., None], -1)[..., 0] for k in (upper - 1, upper))
    conf: np.ndarray = np.clip(low + share * (high - low), 0.0, 1.0)
    return conf
