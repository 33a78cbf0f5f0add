"""The torso's own frame: what "orientation-aligned" means for a pose (papers.md 1.2)."""

import torch
from jaxtyping import Float
from torch import Tensor

from aign.geometry.rotation import frame
from aign.geometry.skeleton import Skeleton


def torso_rotation(joints_m: Float[Tensor, "*b j 3"], skeleton: Skeleton) -> Float[Tensor, "*b 3 3"]:
    """Rotation from the torso's frame to the frame the joints are in.

    Convention: torso frame x = the person's left, y = up along the spine, z = forward (SMPL's rest frame). The spine
    is taken exactly, the hip axis made perpendicular to it.
    """
    pelvis, thorax, left, right = skeleton.index("pelvis", "thorax", "l_hip", "r_hip")
    up = joints_m[..., thorax, :] - joints_m[..., pelvis, :]
    y_x_back = frame(up, joints_m[..., left, :] - joints_m[..., right, :])
    return torch.stack((y_x_back[..., 1], y_x_back[..., 0], -y_x_back[..., 2]), dim=-1)


def canonical(
    joints_m: Float[Tensor, "*b j 3"], skeleton: Skeleton
) -> tuple[Float[Tensor, "*b j 3"], Float[Tensor, "*b 3 3"]]:
    """The pose in the torso's frame with the pelvis at the origin, and the rotation that was taken out.

    joints = canonical @ rot^T + pelvis.
    """
    rot = torso_rotation(joints_m, skeleton)
    (pelvis,) = skeleton.index("pelvis")
    return (joints_m - joints_m[..., pelvis : pelvis + 1, :]) @ rot, rot
