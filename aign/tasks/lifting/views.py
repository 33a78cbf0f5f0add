"""What the critics judge: views of the factors, each beside the view of the memory that it is compared with."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aign.geometry.camera import normalised
from aign.geometry.rotation import to_6d
from aign.geometry.skeleton import H36M17
from aign.tasks.lifting.factors import PoseFactors
from aign.tasks.lifting.observation import Observation

_CHILD, _PARENT = (list(end) for end in zip(*H36M17.bones, strict=True))
_MEETING = tuple(
    (upper, lower)
    for upper, (end, _) in enumerate(H36M17.bones)
    for lower, (_, start) in enumerate(H36M17.bones)
    if end == start
)
"""Pairs of bones (of H36M17.bones) that meet at a joint, the upper one first."""
SMALLEST = 1e-3
"""Sizes are divided by at least this."""


def _bones(pose_m: Float[Tensor, "b 17 3"]) -> Float[Tensor, "b 16 3"]:
    return pose_m[:, _CHILD] - pose_m[:, _PARENT]


def kinematic_chain(pose_m: Float[Tensor, "b 17 3"]) -> Float[Tensor, "b 136"]:
    """Kinematic chain space: lengths of bones and the angles between all of them (Wandt and Rosenhahn, CVPR 2019).

    The upper triangle of B^T B of the bones B, in units of the mean bone length; no rotation changes it.
    """
    bones = _bones(pose_m)
    size = bones.norm(dim=-1).mean(-1).clamp_min(SMALLEST)
    matrix = bones @ bones.mT / size.square()[:, None, None]
    upper = torch.triu_indices(16, 16, device=matrix.device)
    flat: Tensor = matrix[:, upper[0], upper[1]]
    return flat


def joint_angles(pose_m: Float[Tensor, "b 17 3"]) -> Float[Tensor, "n f"]:
    """Each joint alone: the two bones that meet there, and which joint it is; b times 13 rows.

    A critic per joint, as HMR's (Kanazawa et al., CVPR 2018), with its weights shared.
    """
    bones = _bones(pose_m)
    upper, lower = (list(side) for side in zip(*_MEETING, strict=True))
    which = torch.eye(len(_MEETING), dtype=bones.dtype, device=bones.device).expand(len(bones), -1, -1)
    return torch.cat((bones[:, upper], bones[:, lower], which), dim=-1).flatten(0, 1)


def picture(kp2d: Float[Tensor, "b 17 2"], shown: Bool[Tensor, "17"]) -> Float[Tensor, "b 34"]:
    """A picture of a pose: about its pelvis and of unit size, whatever the camera's distance; 0 where not shown."""
    centred = (kp2d - kp2d[:, :1]) * shown.to(kp2d).unsqueeze(-1)
    size = centred.norm(dim=-1).mean(-1).clamp_min(SMALLEST)
    flat: Tensor = (centred / size[:, None, None]).flatten(1)
    return flat


def view_pose(z: PoseFactors, _: Observation) -> Float[Tensor, "b 51"]:
    """The canonical pose, in metres."""
    return z.canonical_m.flatten(1)


def view_camera(z: PoseFactors, _: Observation) -> Float[Tensor, "b 6"]:
    """The torso's orientation in the camera, 6D."""
    return to_6d(z.rot)


def view_chain(z: PoseFactors, _: Observation) -> Float[Tensor, "b 136"]:
    """The canonical pose in kinematic chain space."""
    return kinematic_chain(z.canonical_m)


def view_joints(z: PoseFactors, _: Observation) -> Float[Tensor, "n f"]:
    """The joints of the canonical pose, one by one."""
    return joint_angles(z.canonical_m)


def view_picture(z: PoseFactors, seen: Observation, *, shown: Bool[Tensor, "17"]) -> Float[Tensor, "b 34"]:
    """The pose as another camera would see it: turned at random, and projected (Chen et al., CVPR 2019)."""
    turned = z.centred_m @ seen.turn.mT
    away = torch.nn.functional.pad(z.trans_m[:, 2:].detach(), (2, 0))
    return picture(normalised(turned + away.unsqueeze(1)), shown.to(away.device))
