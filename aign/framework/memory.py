"""The memory: a stored, disordered collection of real factors, unpaired with any observation."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from aign.framework.errors import UserError


@dataclass(frozen=True)
class Memory:
    """Real factors, sampled at random with replacement.

    Every rank of a distributed run draws the same global sample and keeps its own part, so that two ranks see exactly
    what one would, and a restored generator state goes on where it was.

    Attributes:
        values: the factors, [n, ...], on the device of the training.
        generator: CPU random state, seeded alike on every rank.
        rank: this process.
        world: number of processes.
    """

    values: Tensor
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if len(self.values) == 0:
            raise UserError("the memory is empty: got 0 real factors, a critic needs at least 1")

    def sample(self, like: Tensor) -> Tensor:
        """As many real factors as `like` has rows."""
        b = len(like)
        index = torch.randint(len(self.values), (b * self.world,), generator=self.generator)
        return self.values[index[self.rank * b : (self.rank + 1) * b].to(self.values.device)]
