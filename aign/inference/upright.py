"""Where up is in a video whose camera may be held at any angle."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from aign.geometry.skeleton import SMPL24
from aign.inference.person_motion import SeenBodies

LEVEL_UP_CAM = np.array((0.0, -1.0, 0.0))
STEADY = 0.97
"""Length of the mean of unit directions from which on they are one: they spread by some 14 degrees, as those of people
do who stand, walk or balance."""
MAX_TILT_DEG = 40.0
"""A camera that is tilted more is not guessed: the person may as well lean or lie."""
_L_ANKLE, _R_ANKLE, _NECK = SMPL24.index("l_ankle", "r_ankle", "neck")


@dataclass(frozen=True, kw_only=True)
class Up:
    """Where up is.

    Attributes:
        up_cam: a unit vector in the camera.
        how: where that is from, in words.
    """

    up_cam: Float[np.ndarray, "3"]
    how: str


def find_up(seen: SeenBodies) -> Up:
    """The mean direction from between the feet to the neck, if it hardly changes; else the camera is level.

    Who stands or walks has the weight above the feet on average. Where a calibration knew better, this was 10 degrees
    off, for somebody who balanced before a camera that is tilted by 26.
    """
    joints = seen.bodies.joints_cam_m[seen.known].astype(np.float64)
    body = joints[:, _NECK] - (joints[:, _L_ANKLE] + joints[:, _R_ANKLE]) / 2
    mean = (body / np.linalg.norm(body, axis=1, keepdims=True)).mean(0)
    length = float(np.linalg.norm(mean))
    tilt_deg = float(np.degrees(np.arccos(np.clip(mean @ LEVEL_UP_CAM / max(length, 1e-9), -1, 1))))
    if length >= STEADY and tilt_deg <= MAX_TILT_DEG:
        return Up(
            up_cam=mean / length,
            how=f"from the feet to the neck on average, {tilt_deg:.0f} degrees from the camera's up",
        )
    return Up(up_cam=LEVEL_UP_CAM, how="the camera is taken to stand level")
