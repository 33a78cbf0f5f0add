"""The critic that both tasks share, and the games it may play."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import UInt8
from torch import Tensor

from aign.framework.aign import Critic
from aign.framework.errors import UserError
from aign.framework.game import Game, Hinge, LeastSquares, NonSaturating, RealGradient
from aign.nets.image_critic import ImageCritic
from aign.tasks.faces.memory import PictureMemory

GameName: TypeAlias = Literal["non-saturating", "hinge", "least-squares", "paper"]
GAMES: Mapping[str, Game] = {
    "non-saturating": NonSaturating(),
    "hinge": Hinge(),
    "least-squares": LeastSquares(),
    "paper": NonSaturating(flips=0.05),
}
"""The paper's has the author code's flipped labels (papers.md 1.4), and wants gamma 0."""


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """The critic.

    Attributes:
        channels: of its first layer.
        patches: whether patches are judged too: without them pictures of the same training are blurred, and twice
            as many steps move sex half as far.
        game: what generator and critic play.
        gamma: of the penalty on its gradient at real pictures (R1); 0: none. The larger the pictures and the smaller
            the batch, the smaller the norm that is asked: at 64 px 1 keeps the critic blind to sex, 0.05 does not.
    """

    channels: int = 48
    patches: bool = True
    game: GameName = "non-saturating"
    gamma: float = 0.05

    def __post_init__(self) -> None:
        if self.channels < 1 or not 0 <= self.gamma < float("inf"):
            raise UserError(
                f"got a critic with {self.channels} channels and gamma {self.gamma:g}; allowed: 1 and more, 0 and more"
            )


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """What a memory is made of, and which process asks.

    Attributes:
        pictures: of the members; of a critic that is off, anything.
        rank: of this process.
        world: number of processes.
        seed: of the networks and of what is remembered when.
    """

    pictures: UInt8[Tensor, "n 3 s s"]
    rank: int = 0
    world: int = 1
    seed: int = 0


def picture_critic(
    config: CriticConfig, side_px: int, remembered: Remembered, view: Callable[[Any, Any], Tensor]
) -> Critic[Any, Any]:
    """A critic of whole pictures; its networks start from the process's random state."""
    game = GAMES[config.game]
    draw = torch.Generator().manual_seed(remembered.seed + 1)
    return Critic(
        view=view,
        net=ImageCritic(side_px, config.channels, config.patches),
        memory=PictureMemory(remembered.pictures, draw, remembered.rank, remembered.world),
        game=RealGradient(game, config.gamma) if config.gamma else game,
    )
