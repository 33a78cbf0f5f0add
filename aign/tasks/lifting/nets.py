"""Generators of the lifting task: keypoints to pose factors."""

from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aign.geometry.rotation import from_6d
from aign.geometry.skeleton import H36M17
from aign.geometry.torso import canonical
from aign.nets.mlp import ResidualMlp
from aign.tasks.lifting.factors import PoseBasis, PoseFactors
from aign.tasks.lifting.observation import Observation

INPUTS = 17 * 3 + 1
FACING = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
"""6D rotation of a person who stands upright and faces the camera, the starting guess: left (torso x) is the image's
right (+x), up is -y, so forward is -z."""
NOMINAL_HALF_HEIGHT_M = 0.85
"""Half of a person: the depth where its crop would be filled is the starting guess of the distance."""


def _features(seen: Observation) -> Float[Tensor, "b 52"]:
    """Keypoints, confidences and the width of the view, which tells near from far perspective."""
    kp2d = seen.kp2d * (seen.conf > 0).unsqueeze(-1)
    return torch.cat((kp2d.flatten(1), seen.conf, seen.half_extent.log().unsqueeze(1)), dim=1)


def _translation(raw: Float[Tensor, "b 3"], half_extent: Float[Tensor, " b"]) -> Float[Tensor, "b 3"]:
    """Position of the pelvis from crop shift (2) and log depth relative to the nominal one (1)."""
    depth = NOMINAL_HALF_HEIGHT_M / half_extent * raw[:, 2].clamp(-2.0, 2.0).exp()
    return torch.cat((raw[:, :2] * (half_extent * depth).unsqueeze(1), depth.unsqueeze(1)), dim=1)


class BasisLifter(nn.Module):
    """G of the paper: coefficients of a pose basis, and a camera."""

    mean_m: Tensor
    components_m: Tensor

    def __init__(self, basis: PoseBasis, width: int, blocks: int) -> None:
        super().__init__()
        self.register_buffer("mean_m", basis.mean_m.clone())
        self.register_buffer("components_m", basis.components_m.clone())
        self.net = ResidualMlp(INPUTS, len(basis.components_m) + 9, width, blocks)
        self.net.head.bias.data[-9:-3] = torch.tensor(FACING)

    def forward(self, seen: Observation) -> PoseFactors:
        """Factors of each observation."""
        out = self.net(_features(seen))
        pose = self.mean_m + torch.einsum("bk,kjd->bjd", out[:, :-9], self.components_m)
        return PoseFactors(
            canonical_m=pose, rot=from_6d(out[:, -9:-3]), trans_m=_translation(out[:, -3:], seen.half_extent)
        )


class DirectLifter(nn.Module):
    """A lifter without a basis: joints in the camera; the canonical pose and camera are read off the joints."""

    mean_m: Tensor

    def __init__(self, basis: PoseBasis, width: int, blocks: int) -> None:
        super().__init__()
        facing = from_6d(basis.mean_m.new_tensor(FACING))
        self.register_buffer("mean_m", basis.mean_m @ facing.mT)
        self.net = ResidualMlp(INPUTS, 17 * 3 + 3, width, blocks)

    def forward(self, seen: Observation) -> PoseFactors:
        """Factors of each observation."""
        out = self.net(_features(seen))
        pose, rot = canonical(self.mean_m + out[:, :51].reshape(-1, 17, 3), H36M17)
        return PoseFactors(canonical_m=pose, rot=rot, trans_m=_translation(out[:, 51:], seen.half_extent))


Lifter: TypeAlias = BasisLifter | DirectLifter
LifterKind: TypeAlias = Literal["basis", "direct"]
LIFTERS: dict[LifterKind, type[BasisLifter] | type[DirectLifter]] = {"basis": BasisLifter, "direct": DirectLifter}
