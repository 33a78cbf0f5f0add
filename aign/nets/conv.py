"""Convolutional networks. GroupNorm, so that two ranks equal one."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aign.nets.mlp import ResidualTrunk

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


class _Residual(nn.Module):
    """x + a convolution of it, normalised first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(GROUPS, channels), nn.GELU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        y: Tensor = self.body(x)
        return x + y


LEAST_SIDE = 4
"""Of the maps that are flattened."""


class ImageTrunk(nn.Module):
    """A picture and heatmaps of half its side to features: halving convolutions, each with a residual one behind it.

    The author code's trunk has five pairs of 5x5 and 3x3 (papers.md 2.3); here heatmaps enter after the first halving.

    Args:
        heatmaps: number of them.
        extras: further numbers per sample, given to the layers behind the convolutions.
        width: of the features.
        side: of the picture, LEAST_SIDE times a power of two.
        channels: after the first halving; they double up to eight times as many.
    """

    def __init__(self, heatmaps: int, extras: int, width: int, side: int, channels: int) -> None:
        super().__init__()
        self.first = _half(3, channels)
        layers: list[nn.Module] = []
        inputs, side = channels + heatmaps, side // 2
        while side > LEAST_SIDE:
            outputs = min(2 * channels if not layers else 2 * inputs, 8 * channels)
            layers += [_half(inputs, outputs), _Residual(outputs)]
            inputs, side = outputs, side // 2
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.last = ResidualTrunk(inputs * LEAST_SIDE**2 + extras, width, 2)

    def forward(
        self, image: Float[Tensor, "b 3 s s"], maps: Float[Tensor, "b k h h"], extras: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b w"]:
        """Features."""
        seen = self.body(torch.cat((self.first(image), maps), dim=1))
        y: Tensor = self.last(torch.cat((seen, extras), dim=1))
        return y
