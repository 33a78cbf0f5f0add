"""Residual multi-layer perceptrons for keypoints and poses. LayerNorm, so that two ranks equal one."""

from jaxtyping import Float
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """x + two linear layers (Martinez et al., ICCV 2017, with LayerNorm in place of BatchNorm, normalised first)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, width)
        )

    def forward(self, x: Float[Tensor, "b w"]) -> Float[Tensor, "b w"]:
        """One block."""
        y: Tensor = self.body(x)
        return x + y


class ResidualTrunk(nn.Module):
    """Linear, residual blocks, normalise: features of flat inputs."""

    def __init__(self, inputs: int, width: int, blocks: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(inputs, width), *(ResidualBlock(width) for _ in range(blocks)), nn.LayerNorm(width)
        )

    def forward(self, x: Float[Tensor, "b i"]) -> Float[Tensor, "b w"]:
        """Features."""
        y: Tensor = self.body(x)
        return y


class MlpCritic(nn.Module):
    """A critic of flat factors: three linear layers with LeakyReLU 0.2 and no normalisation, one score per sample."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(inputs, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, 1)
        )

    def forward(self, x: Float[Tensor, "b ..."]) -> Float[Tensor, " b"]:
        """Scores; any trailing shape is flattened."""
        score: Tensor = self.body(x.flatten(1)).squeeze(-1)
        return score
