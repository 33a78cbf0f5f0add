"""The memory of pictures: 8 bits a channel, so that every member of a large data set fits."""

from dataclasses import dataclass

import torch
from torch import Tensor

from aign.framework.memory import Memory

MIRRORED = 0.5


@dataclass(frozen=True)
class PictureMemory(Memory):
    """Real faces, as numbers in 0..1 and half of them mirrored when they are sampled.

    Attributes:
        values: uint8 [n, 3, s, s].
    """

    def sample(self, like: Tensor) -> Tensor:
        """As many real pictures as `like` has rows, of its type."""
        pictures = super().sample(like).to(like.dtype) / 255
        coins = torch.rand(len(like) * self.world, generator=self.generator)
        mine = coins[self.rank * len(like) : (self.rank + 1) * len(like)].to(pictures.device) < MIRRORED
        return torch.where(mine[:, None, None, None], pictures.flip(-1), pictures)
