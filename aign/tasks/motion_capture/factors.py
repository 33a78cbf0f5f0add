"""The factors of motion capture: pose, shape and place of an SMPL-format body in the camera."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from aign.body.assets import BodyAssets
from aign.body.skinning import Skinned, joints_only, rest_joints, skin
from aign.geometry.skeleton import SMPL24


@dataclass(frozen=True, kw_only=True)
class BodyFactors:
    """What explains t frames of one person.

    Attributes:
        rotmats: SMPL's local joint rotations; the first is the body's orientation in the camera.
        betas: one shape for all frames.
        pelvis_cam_m: the pelvis joint in the camera.
    """

    rotmats: Float[Tensor, "b t 24 3 3"]
    betas: Float[Tensor, "b 10"]
    pelvis_cam_m: Float[Tensor, "b t 3"]

    def last(self, count: int) -> "BodyFactors":
        """The last samples."""
        return BodyFactors(**{name: value[len(value) - count :] for name, value in vars(self).items()})

    def detach(self) -> "BodyFactors":
        """The same without a gradient."""
        return BodyFactors(**{name: value.detach() for name, value in vars(self).items()})


def _flat(z: BodyFactors, body: BodyAssets) -> tuple[Tensor, Tensor, Tensor]:
    """Rotations, shape and SMPL's translation of every frame."""
    betas = z.betas.repeat_interleave(z.rotmats.shape[1], 0)
    trans = z.pelvis_cam_m.flatten(0, 1) - rest_joints(body, betas)[:, 0]
    return z.rotmats.flatten(0, 1), betas, trans


def joints(z: BodyFactors, body: BodyAssets) -> Float[Tensor, "b t 24 3"]:
    """SMPL's joints in the camera, metres; no vertex is built."""
    return joints_only(body, *_flat(z, body)).reshape(*z.rotmats.shape[:2], 24, 3)


def skinned(z: BodyFactors, body: BodyAssets) -> Skinned:
    """Joints and surface of all frames [b * t, ...] in the camera, metres."""
    return skin(body, *_flat(z, body))


def mirrored(rotmats: Float[Tensor, "*n 24 3 3"]) -> Float[Tensor, "*n 24 3 3"]:
    """Bodies seen in a mirror, as `aign.body.motion.mirror` has it."""
    sign = rotmats.new_tensor((-1.0, 1.0, 1.0))
    return rotmats[..., list(SMPL24.mirrored), :, :] * torch.outer(sign, sign)
