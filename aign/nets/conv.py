"""Convolutional networks. GroupNorm, so that two ranks equal one."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

GROUPS = 8


def _half(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.GroupNorm(GROUPS, outputs), nn.GELU())


class HeatmapTrunk(nn.Module):
    """Heatmaps to features: three halving convolutions and a linear layer.

    Args:
        channels: number of heatmaps.
        extras: further numbers per sample, given to the linear layer.
        width: of the features.
        side: of the heatmaps, a multiple of 8.
    """

    def __init__(self, channels: int, extras: int, width: int, side: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_half(channels, 16), _half(16, 32), _half(32, 64), nn.Flatten())
        self.last = nn.Sequential(
            nn.Linear(64 * (side // 8) ** 2 + extras, width), nn.GELU(), nn.Linear(width, width), nn.LayerNorm(width)
        )

    def forward(self, maps: Float[Tensor, "b c s s"], extras: Float[Tensor, "b e"]) -> Float[Tensor, "b w"]:
        """Features."""
        y: Tensor = self.last(torch.cat((self.body(maps), extras), dim=1))
        return y
