"""What the critics judge, without the camera: poses frame by frame, the shape, and short motions."""

import torch
from jaxtyping import Float
from torch import Tensor

from aign.geometry.rotation import to_6d
from aign.tasks.motion_capture.factors import BodyFactors

PER_FRAME = 24 * 6 + 3
"""Numbers of a frame of a motion."""


def pose(rotmats: Float[Tensor, "*n 24 3 3"]) -> Float[Tensor, "*n 23 9"]:
    """The rotations of the body's joints, row-major; the global orientation is left out."""
    return rotmats[..., 1:, :, :].flatten(-2)


def motion(rotmats: Float[Tensor, "*n t 24 3 3"], pelvis_m: Float[Tensor, "*n t 3"]) -> Float[Tensor, "*n t 147"]:
    """A motion as its own first frame sees it: whatever world or standing camera it was seen in, it is the same.

    Convention: with R_i the orientation and p_i the pelvis of frame i, a frame is the 6D rotations of R_0^T R_i and of
    the 23 body joints, then R_0^T (p_i - p_0) in metres (x to the person's left, y up the body, z forward).
    """
    to_first = rotmats[..., :1, 0, :, :].mT
    turned = torch.cat(((to_first @ rotmats[..., 0, :, :]).unsqueeze(-3), rotmats[..., 1:, :, :]), dim=-3)
    moved = (to_first @ (pelvis_m - pelvis_m[..., :1, :]).unsqueeze(-1)).squeeze(-1)
    return torch.cat((to_6d(turned).flatten(-2), moved), dim=-1)


def view_pose(z: BodyFactors, _: object) -> Float[Tensor, "n 23 9"]:
    """Every frame is a pose of its own: b * t rows."""
    return pose(z.rotmats).flatten(0, 1)


def view_shape(z: BodyFactors, _: object) -> Float[Tensor, "b 10"]:
    """The shape coefficients."""
    return z.betas


def view_motion(z: BodyFactors, _: object) -> Float[Tensor, "b t 147"]:
    """The window as a motion."""
    return motion(z.rotmats, z.pelvis_cam_m)
