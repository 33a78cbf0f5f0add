"""joint_angles.csv: one row a frame, for a spreadsheet: clinical angles first, then Euler angles of every joint."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from aign.geometry.skeleton import SMPL24
from aign.inference.captured import CapturedMotion
from aign.inference.exports.rig import euler_deg, world_m

ORDER = "XZY"
"""Intrinsic: about the parent's left-right axis, then front-back, then the bone's own long axis (of a leg): the order
of Grood and Suntay (1983), which the ISB recommends for hip, knee and ankle (Wu et al., 2002)."""


def write_angles(path: Path, captured: CapturedMotion) -> None:
    """Write time, known (1 or 0), contact of the left and right foot (1 or 0), and angles in degrees."""
    frames = np.arange(len(captured.known))
    columns = {
        "time_s": frames / captured.motion.fps,
        "known": captured.known,
        "l_contact": captured.contact[:, 0],
        "r_contact": captured.contact[:, 1],
    }
    flags = len(columns) - 1
    columns |= angles_deg(captured)
    np.savetxt(
        path,
        np.stack(list(columns.values()), 1, dtype=np.float64),
        fmt=["%.6f", *["%d"] * flags, *["%.3f"] * (len(columns) - 1 - flags)],
        delimiter=",",
        header=",".join(columns),
        comments="",
        encoding="ascii",
    )


def angles_deg(captured: CapturedMotion) -> dict[str, Float[np.ndarray, " t"]]:
    """Angles by the names of their columns.

    Convention: 0 is the T-pose, but for the two angles between bones (`elbow_flexion`: 0 is straight;
    `shoulder_elevation`: 0 is hanging along the trunk). Flexion, dorsiflexion, abduction (away from the other leg) and
    internal rotation (toes inwards) are positive on both sides.
    """
    euler = euler_deg(captured.motion.rotmats, ORDER)
    named = _clinical(captured, euler)
    for joint, name in enumerate(SMPL24.joints):
        named |= {f"{name}_{axis.lower()}_deg": euler[:, joint, k] for k, axis in enumerate(ORDER)}
    return named


def _clinical(captured: CapturedMotion, euler: Float[np.ndarray, "t 24 3"]) -> dict[str, Float[np.ndarray, " t"]]:
    rotations, joints = world_m(captured)
    down = -rotations[:, SMPL24.joints.index("spine3"), :, 1]
    named: dict[str, Float[np.ndarray, " t"]] = {}
    for side, outwards in (("l", 1.0), ("r", -1.0)):
        hip, knee, ankle, shoulder, elbow, wrist = SMPL24.index(
            *(f"{side}_{part}" for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist"))
        )
        upper, lower = joints[:, elbow] - joints[:, shoulder], joints[:, wrist] - joints[:, elbow]
        named |= {
            # About +x (the person's left) a leg that hangs turns backwards, a foot's toes down.
            f"{side}_hip_flexion_deg": -euler[:, hip, 0],
            f"{side}_hip_abduction_deg": outwards * euler[:, hip, 1],
            f"{side}_hip_internal_rotation_deg": -outwards * euler[:, hip, 2],
            f"{side}_knee_flexion_deg": euler[:, knee, 0],
            f"{side}_ankle_dorsiflexion_deg": -euler[:, ankle, 0],
            f"{side}_shoulder_elevation_deg": _between_deg(upper, down),
            f"{side}_elbow_flexion_deg": _between_deg(upper, lower),
        }
    return named


def _between_deg(a: Float[np.ndarray, "t 3"], b: Float[np.ndarray, "t 3"]) -> Float[np.ndarray, " t"]:
    """Angle between directions, 0 to 180; exact near both ends, as the arc cosine is not."""
    across = np.linalg.norm(np.cross(a, b), axis=-1)
    angle: Float[np.ndarray, " t"] = np.degrees(np.arctan2(across, (a * b).sum(-1)))
    return angle
