"""Generators of pictures in 0..1: four times the side, and a part filled in. GroupNorm or nothing: no batch is seen."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from aign.nets.conv import GROUPS

LEAST_SIDE = 8
_MOST = 8
"""Times the first layer's channels, at most."""


class _Residual(nn.Module):
    """x + two convolutions of it, without normalisation (EDSR, Lim et al., CVPRW 2017)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        y: Tensor = self.body(x)
        return x + y


def _doubled(inputs: int, outputs: int) -> nn.Sequential:
    """Twice the side: a convolution into the four pixels that each becomes."""
    return nn.Sequential(nn.Conv2d(inputs, 4 * outputs, 3, padding=1), nn.PixelShuffle(2), nn.SiLU())


def bicubic(low: Float[Tensor, "b c h w"], factor: int) -> Float[Tensor, "b c i j"]:
    """Bicubic interpolation, edges to edges."""
    return functional.interpolate(low, scale_factor=float(factor), mode="bicubic", align_corners=False)


class Upscaler(nn.Module):
    """A picture of four times the side: bicubic interpolation plus what residual layers at the small size add.

    The last layer starts at 0, so the first answer is the interpolation.

    Args:
        channels: at the small size; half of them after each doubling, 8 at least.
        blocks: residual blocks at the small size.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        half, quarter = max(channels // 2, GROUPS), max(channels // 4, GROUPS)
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(
            *(_Residual(channels) for _ in range(blocks)), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.up = nn.Sequential(_doubled(channels, half), _doubled(half, quarter))
        self.last = nn.Conv2d(quarter, 3, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None, "it has one"
        nn.init.zeros_(self.last.bias)

    def forward(self, low: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 i j"]:
        """The larger picture; about 0..1, not cut off."""
        features = self.first(2 * low - 1)
        residual: Tensor = self.last(self.up(features + self.body(features)))
        return bicubic(low, 4) + residual


class Shrinker(nn.Module):
    """A picture of a quarter of the side, by convolutions alone: the cycle control's way back, which knows no renderer.

    Args:
        channels: of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, channels, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1),
            nn.SiLU(),
            _Residual(2 * channels),
            nn.Conv2d(2 * channels, 3, 3, padding=1),
        )

    def forward(self, picture: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 i j"]:
        """The smaller picture."""
        y: Tensor = self.body(2 * picture - 1)
        return y + 0.5


def _half(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.GroupNorm(GROUPS, outputs), nn.SiLU())


class Filler(nn.Module):
    """A picture with its missing part filled in, of the picture and the mask: an hourglass with bridges.

    Halving layers down to 8 x 8, residual blocks there, doubling layers that see the halving ones of their size.

    Args:
        side: of the picture, LEAST_SIDE times a power of two.
        channels: after the first halving; they double, up to 8 times as many. A multiple of 8.
        blocks: residual blocks at the smallest size.
    """

    def __init__(self, side: int, channels: int, blocks: int) -> None:
        super().__init__()
        widths, left = [4], side
        while left > LEAST_SIDE:
            widths.append(channels if len(widths) == 1 else min(2 * widths[-1], _MOST * channels))
            left //= 2
        self.down = nn.ModuleList(_half(a, b) for a, b in pairwise(widths))
        self.middle = nn.Sequential(*(_Residual(widths[-1]) for _ in range(blocks)))
        # Doubling from widths[i] to the size before; each but the first sees the bridge beside the doubled features.
        outs = [max(w, channels // 2, GROUPS) for w in widths[:-1]]
        inner = [widths[-1], *(outs[i] + widths[i] for i in range(len(outs) - 1, 0, -1))]
        self.up = nn.ModuleList(_doubled(a, b) for a, b in zip(inner, reversed(outs), strict=True))
        self.last = nn.Conv2d(outs[0] + 4, 3, 3, padding=1)

    def forward(self, given: Float[Tensor, "b 3 s s"], keep: Float[Tensor, "b 1 s s"]) -> Float[Tensor, "b 3 s s"]:
        """The whole picture, the known part included."""
        x = torch.cat((2 * given - 1, keep), dim=1)
        bridges = []
        for layer in self.down:
            bridges.append(x)
            x = layer(x)
        x = self.middle(x)
        for layer in self.up:
            x = torch.cat((layer(x), bridges.pop()), dim=1)
        y: Tensor = self.last(x)
        return y + 0.5
