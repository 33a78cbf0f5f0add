"""Where the soles are: what stands on the floor, and where the floor is."""

import numpy as np
from jaxtyping import Float

from aign.body.assets import BodyAssets
from aign.geometry.skeleton import SMPL24

SOLES = tuple(tuple(SMPL24.joints.index(f"{side}_{part}") for part in ("ankle", "foot")) for side in "lr")
"""Ankle and foot of the left and of the right leg."""
FLOOR_PERCENTILE = 5


def sole_heights_m(body: BodyAssets, joints_m: Float[np.ndarray, "t 24 3"]) -> Float[np.ndarray, "t 2 2"]:
    """Height of the sole under the left and right ankle and foot, y up, metres; of the mean shape, feet held flat."""
    soles = list(map(list, SOLES))
    above_ground = (body.rest_joints_m[soles, 1] - body.v_template_m[:, 1].min()).numpy()
    return np.asarray(joints_m[:, soles, 1] - above_ground)


def floor_height_m(heights_m: Float[np.ndarray, "t 2 2"]) -> float:
    """Height at which the soles stand: the lowest one's in most frames, so that one bad frame decides nothing."""
    return float(np.percentile(heights_m.min((1, 2)), FLOOR_PERCENTILE))
