"""Critics of pictures. No normalisation, so that two ranks equal one and R1 sees the critic as it is."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

LEAST_SIDE = 4
_SLOPE = 0.2
_MOST = 8
"""Times the first layer's channels, at most."""


class ImageCritic(nn.Module):
    """Halving convolutions down to 4 x 4, then a score of the whole picture; on the way, scores of its patches.

    The author code's critic is one score of the whole behind five such convolutions (papers.md 1.4).

    Args:
        side: of the picture, LEAST_SIDE times a power of two.
        channels: after the first convolution; they double.
        patches: whether the features at 1/8 of the side (4 x 4 at least) give a score per place too, whose mean is the
            second score.
    """

    def __init__(self, side: int, channels: int, patches: bool = False) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        inputs, outputs, left = 3, channels, side
        patch_side, patch_channels = max(side // 8, LEAST_SIDE), channels
        while left > LEAST_SIDE:
            self.stages.append(nn.Sequential(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(_SLOPE)))
            inputs, outputs, left = outputs, min(2 * outputs, _MOST * channels), left // 2
            if left == patch_side:
                patch_channels = inputs
        self.patch_side = patch_side if patches else 0
        self.each = nn.Conv2d(patch_channels, 1, 1) if patches else None
        self.all = nn.Sequential(
            nn.Flatten(),
            nn.Linear(inputs * LEAST_SIDE**2, 4 * channels),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(4 * channels, 1),
        )

    def forward(self, picture: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b k"]:
        """Scores of pictures in 0..1: of the whole, then the mean of the patches'."""
        x, scores = 2 * picture - 1, []
        for stage in self.stages:
            x = stage(x)
            if self.each is not None and x.shape[-1] == self.patch_side:
                scores.append(self.each(x).flatten(1).mean(1, keepdim=True))
        return torch.cat((self.all(x), *scores), dim=1)
