"""Carrying a motion from another skeleton over to the 24 SMPL joints by world rotations.

Both skeletons have a rest pose in which every joint's rotation is the identity. A source bone's world rotation says how
it turned away from that rest. Where the two rest poses point a limb in different directions (arms hanging against arms
spread), the target is first brought into the source's rest direction by the smallest rotation between the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32

from aign.body.assets import BodyAssets
from aign.body.skinning import joints_only
from aign.body.soles import floor_height_m, sole_heights_m
from aign.framework.errors import UserError
from aign.geometry.skeleton import SMPL24

# Joint -> the joint its bone points to: the limbs, whose rest directions differ between skeletons. Trunk, head, hands
# and feet are taken to stand alike in every rest pose: upright, looking and pointing forward.
LIMBS = {"hip": "knee", "knee": "ankle", "shoulder": "elbow", "elbow": "wrist"}
LIMB_CHILD: dict[int, int] = {
    SMPL24.joints.index(f"{side}_{a}"): SMPL24.joints.index(f"{side}_{b}") for side in "lr" for a, b in LIMBS.items()
}
_HIPS = (SMPL24.joints.index("l_hip"), SMPL24.joints.index("r_hip"))


@dataclass(frozen=True, kw_only=True)
class SourcePose:
    """A motion of another skeleton in our axes (y up, rest facing +z, left = +x), in any unit of length.

    Attributes:
        rot_world: For each SMPL joint that has a counterpart, that counterpart's rotation away from its rest pose, in
        the world.
        limb_rest: Rest direction of each limb in LIMB_CHILD (any length).
        hip_centre: Midpoint of the two hip joints, source units.
        leg_length: Hip to ankle along the bones, mean of both legs, source units.
    """

    rot_world: Mapping[int, Float[np.ndarray, "t 3 3"]]
    limb_rest: Mapping[int, Float[np.ndarray, " 3"]]
    hip_centre: Float[np.ndarray, "t 3"]
    leg_length: float


def smallest_rotation(start: Float[np.ndarray, " 3"], end: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """The smallest rotation R with R start parallel to end.

    Convention: columns; R @ start = end for unit vectors. Opposite vectors turn about an axis across them.
    """
    a, b = (v / np.linalg.norm(v) for v in (start.astype(np.float64), end.astype(np.float64)))
    cosine = float(a @ b)
    if cosine < -1 + 1e-9:
        across = np.eye(3)[np.abs(a).argmin()]
        across = across - (across @ a) * a
        across /= np.linalg.norm(across)
        half_turn: Float[np.ndarray, "3 3"] = 2 * np.outer(across, across) - np.eye(3)
        return half_turn
    x, y, z = np.cross(a, b)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn: Float[np.ndarray, "3 3"] = np.eye(3) + cross + cross @ cross / (1 + cosine)
    return turn


def retarget(
    body: BodyAssets, source: SourcePose
) -> tuple[Float32[np.ndarray, "t 24 3 3"], Float32[np.ndarray, "t 3"]]:
    """Local SMPL rotations and the world position of the pelvis joint.

    Lengths are scaled by the ratio of leg lengths. Joints without a counterpart keep their parent's orientation. One
    constant per clip moves the motion up or down until its feet, at their lowest, stand on y = 0.

    Raises:
        UserError: The source lacks the pelvis or a limb.
    """
    lacking = [SMPL24.joints[j] for j in (0, *LIMB_CHILD) if j not in source.rot_world]
    if lacking:
        raise UserError(f"the skeleton has no counterpart of {', '.join(lacking)}; hips and all limbs are needed")
    rest = body.rest_joints_m.double().numpy()
    frames = len(source.hip_centre)
    world = np.empty((frames, 24, 3, 3))
    local = np.empty_like(world)
    for joint, parent in enumerate(body.parents):
        above = np.broadcast_to(np.eye(3), (frames, 3, 3)) if parent < 0 else world[:, parent]
        given = source.rot_world.get(joint)
        if given is None:
            world[:, joint] = above
        elif joint in LIMB_CHILD:
            bone = rest[LIMB_CHILD[joint]] - rest[joint]
            world[:, joint] = given @ smallest_rotation(bone, source.limb_rest[joint])
        else:
            world[:, joint] = given
        local[:, joint] = above.swapaxes(-1, -2) @ world[:, joint]
    centre = rest[list(_HIPS)].mean(0)
    pelvis = source.hip_centre * (leg_length(body) / source.leg_length) + world[:, 0] @ (rest[0] - centre)
    rotmats = local.astype(np.float32)
    pelvis[:, 1] -= _lowest_foot(body, rotmats, pelvis)
    return rotmats, pelvis.astype(np.float32)


def leg_length(body: BodyAssets) -> float:
    """Hip to ankle along the bones of the mean shape, mean of both legs, metres."""
    rest = body.rest_joints_m.double().numpy()
    bones = [
        np.linalg.norm(rest[LIMB_CHILD[j]] - rest[j]) for j in LIMB_CHILD if SMPL24.joints[j][2:] in {"hip", "knee"}
    ]
    return float(np.sum(bones) / 2)


def _lowest_foot(body: BodyAssets, local: Float32[np.ndarray, "t 24 3 3"], pelvis: Float[np.ndarray, "t 3"]) -> float:
    """Height at which the soles stand, metres."""
    frames = len(pelvis)
    joints = joints_only(
        body,
        torch.from_numpy(local),
        torch.zeros(frames, body.shape_dirs.shape[-1]),
        torch.from_numpy(pelvis.astype(np.float32)) - body.rest_joints_m[0],
    )
    return floor_height_m(sole_heights_m(body, joints.numpy()))
