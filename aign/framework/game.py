"""The games a generator and a critic play. A critic gives one or several scores per sample; high means real.

Several scores (one per joint, per frame) are so many critics in one network: each plays the game by itself, and the
losses, not the scores, are averaged.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


@runtime_checkable
class Game(Protocol):
    """What each side of the game minimises."""

    def generator(self, score: Float[Tensor, "b *k"]) -> Float[Tensor, " b"]:
        """Loss per sample of the generator, given the critic's scores of what it made."""
        ...

    def critic(self, net: nn.Module, real: Tensor, fake: Tensor) -> Float[Tensor, ""]:
        """Loss of the critic `net` on real and made samples (the net is given for penalties on its gradient)."""
        ...


def _scores(net: nn.Module, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Both scores from one forward pass, which DistributedDataParallel likes better than two."""
    real_score, fake_score = net(torch.cat((real, fake))).split((len(real), len(fake)))
    return real_score, fake_score


def _per_sample(losses: Float[Tensor, "b *k"]) -> Float[Tensor, " b"]:
    """The mean over the scores of a sample; one score's is the loss itself."""
    return losses if losses.ndim == 1 else losses.flatten(1).mean(1)


@dataclass(frozen=True)
class LeastSquares:
    """Least squares GAN (Mao et al., ICCV 2017): real 1, made 0; what HMR's factorised critics play."""

    def generator(self, score: Float[Tensor, "b *k"]) -> Float[Tensor, " b"]:
        """(D - 1)^2."""
        return _per_sample((score - 1).square())

    def critic(self, net: nn.Module, real: Tensor, fake: Tensor) -> Float[Tensor, ""]:
        """(D(real) - 1)^2 + D(made)^2."""
        real_score, fake_score = _scores(net, real, fake)
        return (real_score - 1).square().mean() + fake_score.square().mean()


@dataclass(frozen=True)
class NonSaturating:
    """The paper's game: sigmoid cross-entropy, non-saturating generator (papers.md 1.1).

    Attributes:
        flips: probability that the critic is told the wrong labels. The author code tosses one coin a step (0.05;
            papers.md 1.4); here the loss is the coin's expectation, so that ranks and resumed runs need not share it.
    """

    flips: float = 0.0

    def generator(self, score: Float[Tensor, "b *k"]) -> Float[Tensor, " b"]:
        """-log sigmoid(D)."""
        return _per_sample(F.softplus(-score))

    def critic(self, net: nn.Module, real: Tensor, fake: Tensor) -> Float[Tensor, ""]:
        """-log sigmoid(D(real)) - log(1 - sigmoid(D(made)))."""
        real_score, fake_score = _scores(net, real, fake)
        right = F.softplus(-real_score).mean() + F.softplus(fake_score).mean()
        if not self.flips:
            return right
        return right + self.flips * (real_score.mean() - fake_score.mean())  # softplus(s) = softplus(-s) + s


@dataclass(frozen=True)
class Hinge:
    """Hinge GAN (Lim and Ye, 2017; Miyato et al., ICLR 2018)."""

    def generator(self, score: Float[Tensor, "b *k"]) -> Float[Tensor, " b"]:
        """-D."""
        return _per_sample(-score)

    def critic(self, net: nn.Module, real: Tensor, fake: Tensor) -> Float[Tensor, ""]:
        """max(0, 1 - D(real)) + max(0, 1 + D(made))."""
        real_score, fake_score = _scores(net, real, fake)
        return F.relu(1 - real_score).mean() + F.relu(1 + fake_score).mean()


@dataclass(frozen=True)
class RealGradient:
    """A game whose critic is also kept flat at the real samples: R1 (Mescheder et al., ICML 2018).

    Attributes:
        game: that is played.
        gamma: the critic's loss gains gamma / 2 times the mean squared norm of its gradient at the real samples.
    """

    game: Game
    gamma: float

    def generator(self, score: Float[Tensor, "b *k"]) -> Float[Tensor, " b"]:
        """As the game."""
        return self.game.generator(score)

    def critic(self, net: nn.Module, real: Tensor, fake: Tensor) -> Float[Tensor, ""]:
        """The game's loss and the penalty, from one forward pass."""
        real = real.detach().requires_grad_()
        watched = _Watched(net)
        loss = self.game.critic(watched, real, fake)
        assert watched.score is not None, "a game asks the net"
        (gradient,) = torch.autograd.grad(watched.score[: len(real)].sum(), real, create_graph=True)
        return loss + 0.5 * self.gamma * gradient.flatten(1).square().sum(1).mean()


class _Watched(nn.Module):
    """Passes on to a net and remembers its answer, real samples first (`_scores`)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = (net,)  # not a submodule: nothing of the net is to be registered twice
        self.score: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        score: Tensor = self.net[0](x)
        self.score = score
        return score
