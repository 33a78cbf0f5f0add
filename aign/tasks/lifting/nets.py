"""Generators of the lifting task: keypoints to pose factors.

A trunk turns what is seen into features; a head turns features into factors. The trunks see coordinates of one frame,
coordinates of several frames, or heatmaps (the paper's figure); the heads give coefficients of a pose basis and a
camera (the paper's), or joints.
"""

from typing import Literal, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aign.geometry.rotation import from_6d
from aign.geometry.skeleton import H36M17
from aign.geometry.torso import canonical
from aign.nets.conv import HeatmapTrunk
from aign.nets.mlp import ResidualTrunk
from aign.nets.temporal import TemporalTrunk
from aign.render.keypoints import gaussian_heatmaps
from aign.tasks.lifting.factors import PoseBasis, PoseFactors
from aign.tasks.lifting.observation import NOMINAL_HALF_HEIGHT_M, Observation

INPUTS = 17 * 3 + 1
FACING = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
"""6D rotation of a person who stands upright and faces the camera, the starting guess: left (torso x) is the image's
right (+x), up is -y, so forward is -z."""
HEATMAP_SIDE = 32
HEATMAP_EXTENT = 1.25
"""Half the side of the heatmaps in crop units: a person turned by the augmentation is still inside."""


def _view(seen: Observation) -> Float[Tensor, "b 1"]:
    """The width of the view, which tells near from far perspective."""
    return seen.half_extent.log().unsqueeze(1)


def _coordinates(seen: Observation) -> Float[Tensor, "b t 51"]:
    """Keypoints and confidences of every frame."""
    kp2d = seen.kp2d * (seen.conf > 0).unsqueeze(-1)
    return torch.cat((kp2d.flatten(2), seen.conf), dim=2)


class FrameTrunk(nn.Module):
    """Coordinates of one frame."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.net = ResidualTrunk(INPUTS, width, blocks)

    def forward(self, seen: Observation) -> Float[Tensor, "b w"]:
        """Features."""
        out: Tensor = self.net(torch.cat((_coordinates(seen).flatten(1), _view(seen)), dim=1))
        return out


class ClipTrunk(nn.Module):
    """Coordinates of several frames."""

    def __init__(self, width: int, frames: int) -> None:
        super().__init__()
        self.net = TemporalTrunk(INPUTS, width, frames)

    def forward(self, seen: Observation) -> Float[Tensor, "b w"]:
        """Features."""
        kp2d = _coordinates(seen)
        out: Tensor = self.net(torch.cat((kp2d, _view(seen).unsqueeze(1).expand(-1, kp2d.shape[1], -1)), dim=2))
        return out


class PictureTrunk(nn.Module):
    """Heatmaps of one frame, one per joint, as high as its confidence."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = HeatmapTrunk(17, 1, width, HEATMAP_SIDE)

    def forward(self, seen: Observation) -> Float[Tensor, "b w"]:
        """Features."""
        maps = gaussian_heatmaps(seen.kp2d[:, 0] / HEATMAP_EXTENT, seen.conf[:, 0], HEATMAP_SIDE)
        out: Tensor = self.net(maps, _view(seen))
        return out


def _translation(raw: Float[Tensor, "b 3"], half_extent: Float[Tensor, " b"]) -> Float[Tensor, "b 3"]:
    """Position of the pelvis from crop shift (2) and log depth relative to the nominal one (1)."""
    depth = NOMINAL_HALF_HEIGHT_M / half_extent * raw[:, 2].clamp(-2.0, 2.0).exp()
    return torch.cat((raw[:, :2] * (half_extent * depth).unsqueeze(1), depth.unsqueeze(1)), dim=1)


def _last(width: int, outputs: int) -> nn.Linear:
    """A last layer that starts small, so the output starts at its bias."""
    layer = nn.Linear(width, outputs)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer


class BasisHead(nn.Module):
    """G of the paper: coefficients of a pose basis, and a camera."""

    mean_m: Tensor
    components_m: Tensor

    def __init__(self, basis: PoseBasis, width: int) -> None:
        super().__init__()
        self.register_buffer("mean_m", basis.mean_m.clone())
        self.register_buffer("components_m", basis.components_m.clone())
        self.last = _last(width, len(basis.components_m) + 9)
        self.last.bias.data[-9:-3] = torch.tensor(FACING)

    def forward(self, features: Float[Tensor, "b w"], seen: Observation) -> PoseFactors:
        """Factors of each observation."""
        out = self.last(features)
        pose = self.mean_m + torch.einsum("bk,kjd->bjd", out[:, :-9], self.components_m)
        return PoseFactors(
            canonical_m=pose, rot=from_6d(out[:, -9:-3]), trans_m=_translation(out[:, -3:], seen.half_extent)
        )


class DirectHead(nn.Module):
    """No basis: joints in the camera; the canonical pose and camera are read off the joints."""

    mean_m: Tensor

    def __init__(self, basis: PoseBasis, width: int) -> None:
        super().__init__()
        facing = from_6d(basis.mean_m.new_tensor(FACING))
        self.register_buffer("mean_m", basis.mean_m @ facing.mT)
        self.last = _last(width, 17 * 3 + 3)

    def forward(self, features: Float[Tensor, "b w"], seen: Observation) -> PoseFactors:
        """Factors of each observation."""
        out = self.last(features)
        pose, rot = canonical(self.mean_m + out[:, :51].reshape(-1, 17, 3), H36M17)
        return PoseFactors(canonical_m=pose, rot=rot, trans_m=_translation(out[:, 51:], seen.half_extent))


class Lifter(nn.Module):
    """G: a trunk and a head.

    Attributes:
        frames: how many frames an observation must hold.
    """

    def __init__(self, trunk: nn.Module, head: nn.Module, frames: int) -> None:
        super().__init__()
        self.trunk, self.head, self.frames = trunk, head, frames

    def forward(self, seen: Observation) -> PoseFactors:
        """Factors of each observation."""
        assert seen.conf.shape[1] == self.frames, f"a lifter of {self.frames} frames got {seen.conf.shape[1]}"
        factors: PoseFactors = self.head(self.trunk(seen), seen)
        return factors


@runtime_checkable
class Lifting(Protocol):
    """What can lift: a `Lifter`, or whatever stands for one."""

    frames: int

    def __call__(self, seen: Observation) -> PoseFactors:
        """Factors of each observation."""
        ...


HeadKind: TypeAlias = Literal["basis", "direct"]
HEADS: dict[HeadKind, type[BasisHead] | type[DirectHead]] = {"basis": BasisHead, "direct": DirectHead}
InputKind: TypeAlias = Literal["coordinates", "heatmaps"]
