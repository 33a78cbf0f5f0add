"""Where up is in a video whose camera may be held at any angle."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from aign.geometry.skeleton import SMPL24
from aign.inference.person_motion import SeenBodies

LEVEL_UP_CAM = np.array((0.0, -1.0, 0.0))
STEADY = 0.97
"""Length of the mean of the trunk's unit directions from which on they are one direction: they spread by some 14
degrees, as those of people do who stand and walk."""
MAX_TILT_DEG = 40.0
"""A camera that is tilted more is not guessed: the person may as well lean or lie."""
_PELVIS, _NECK = SMPL24.joints.index("pelvis"), SMPL24.joints.index("neck")


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
    """The direction in which the person's trunk points on average, if that hardly changes; else the camera is level."""
    joints = seen.bodies.joints_cam_m[seen.known].astype(np.float64)
    trunk = joints[:, _NECK] - joints[:, _PELVIS]
    mean = (trunk / np.linalg.norm(trunk, axis=1, keepdims=True)).mean(0)
    length = float(np.linalg.norm(mean))
    tilt_deg = float(np.degrees(np.arccos(np.clip(mean @ LEVEL_UP_CAM / max(length, 1e-9), -1, 1))))
    if length >= STEADY and tilt_deg <= MAX_TILT_DEG:
        return Up(up_cam=mean / length, how=f"the trunk's mean direction, {tilt_deg:.0f} degrees from the camera's up")
    return Up(up_cam=LEVEL_UP_CAM, how="the camera is taken to stand level")
