"""How usual a pose is: a Gaussian over the poses of a memory, for where there is no critic to ask."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from aign.framework.errors import UserError
from aign.geometry.rotation import to_6d
from aign.tasks.motion_capture.memory import BodyMemory

LEAST_VARIANCE = 0.01
"""Of the 6D numbers, added in every direction: a pose a few degrees beside all that are remembered is still usual."""


@dataclass(frozen=True, kw_only=True)
class PosePrior:
    """A Gaussian over the 6D rotations of the 23 body joints (the orientation is left out).

    Attributes:
        mean: of the memory's poses.
        whiten: a deviation times this has independent numbers of variance 1.
        scale: the memory's own mean square of those, so that a usual pose has energy 1.
    """

    mean: Float[Tensor, " 138"]
    whiten: Float[Tensor, "138 138"]
    scale: float

    def energy(self, rotmats: Float[Tensor, "*n 24 3 3"]) -> Float[Tensor, "*n"]:
        """Squared Mahalanobis distance over that of the memory's own poses: 0 at the mean, about 1 for usual poses."""
        gap = to_6d(rotmats[..., 1:, :, :]).flatten(-2) - self.mean
        return (gap @ self.whiten).square().mean(-1) / self.scale


def learn(memory: BodyMemory) -> PosePrior:
    """The Gaussian of a memory's poses.

    Raises:
        UserError: fewer than two poses.
    """
    if len(memory.pose) < 2:
        raise UserError(f"got a memory of {len(memory.pose)} poses; a Gaussian needs at least 2")
    poses = to_6d(memory.pose.reshape(-1, 23, 3, 3)).flatten(-2)
    mean = poses.mean(0)
    gap = (poses - mean).double()
    variance, axes = torch.linalg.eigh(gap.mT @ gap / (len(poses) - 1))
    whiten = (axes / (variance + LEAST_VARIANCE).sqrt()).to(poses.dtype)
    return PosePrior(mean=mean, whiten=whiten, scale=float(((poses - mean) @ whiten).square().mean()))
