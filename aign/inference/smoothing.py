"""Temporal filters for captured bodies, and how much these shake."""

import math
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32
from scipy.signal import savgol_filter

from aign.geometry.rigid import nearest_rotation

Filter = Literal["savgol", "one-euro", "none"]
"""Savitzky-Golay looks both ways and does not lag; One-Euro looks back only, as a live picture must."""
WINDOW_S = 0.3
DEGREE = 3
MIN_CUTOFF_HZ = 1.0
SPEED_CUTOFF_HZ = 2.0
"""How many Hz the cut-off grows with each unit a second (a metre, or an entry of a rotation matrix)."""
SPEED_SMOOTHING_HZ = 1.0


def jitter_m_per_s3(joints_m: Float[np.ndarray, "t j 3"], fps: float) -> float:
    """Mean length of the joints' jerk, their third difference in time; NaN for fewer than four known frames in a row.

    Args:
        joints_m: joints in a frame of reference that stands; NaN where not known.
        fps: frames per second.

    Source: "jitter" of Yi et al., TransPose, 2021.
    """
    jerk = np.linalg.norm(np.diff(joints_m.astype(np.float64), 3, axis=0), axis=-1) * fps**3
    return float(np.nanmean(jerk)) if np.isfinite(jerk).any() else math.nan


def smoothed(values: Float32[np.ndarray, "t *k"], fps: float, how: Filter) -> Float32[np.ndarray, "t *k"]:
    """A finite series of numbers, filtered along time."""
    if how == "none":
        return values
    if how == "one-euro":
        return _one_euro(values, fps)
    window = min(round(WINDOW_S * fps) // 2 * 2 + 1, (len(values) - 1) // 2 * 2 + 1)
    if window <= DEGREE + 1:
        return values
    filtered = savgol_filter(values.astype(np.float64), window, DEGREE, axis=0, mode="interp")
    return np.asarray(filtered, np.float32)


def smoothed_rotations(
    rotmats: Float32[np.ndarray, "t *k 3 3"], fps: float, how: Filter
) -> Float32[np.ndarray, "t *k 3 3"]:
    """Rotations filtered along time: their entries, then the nearest rotation."""
    if how == "none":
        return rotmats
    entries = torch.from_numpy(smoothed(rotmats, fps, how)).double()
    return np.asarray(nearest_rotation(entries).float().numpy())


def _one_euro(values: Float32[np.ndarray, "t *k"], fps: float) -> Float32[np.ndarray, "t *k"]:
    """The One-Euro filter, on every number by itself.

    Source: Casiez, Roussel, Vogel, 1 Euro Filter, CHI 2012, Eq. 1 to 7.
    """

    def weight(cutoff_hz: Float[np.ndarray, "*k"] | float) -> Float[np.ndarray, "*k"] | float:
        return 1 / (1 + fps / (2 * math.pi * cutoff_hz))

    out = values.astype(np.float64)
    speed = np.zeros(out.shape[1:])
    for t in range(1, len(out)):
        speed += weight(SPEED_SMOOTHING_HZ) * ((values[t] - out[t - 1]) * fps - speed)
        out[t] = out[t - 1] + weight(MIN_CUTOFF_HZ + SPEED_CUTOFF_HZ * np.abs(speed)) * (values[t] - out[t - 1])
    return out.astype(np.float32)
