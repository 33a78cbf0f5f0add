"""The abstraction: an encoder, a renderer, loss terms, critics over memories, and weights by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeAlias, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aign.framework.errors import UserError
from aign.framework.game import Game
from aign.framework.memory import Memory

B = TypeVar("B")
Z = TypeVar("Z")
R = TypeVar("R")

Term: TypeAlias = Callable[[B, Z, R], Tensor]
"""One loss value per sample, [b]: unweighted, unreduced."""


@dataclass(frozen=True, kw_only=True)
class Critic(Generic[B, Z]):
    """A critic D_k, the view of factors and observation it judges, the memory it compares with and their game."""

    view: Callable[[Z, B], Tensor]
    net: nn.Module
    memory: Memory
    game: Game


@dataclass(frozen=True, kw_only=True)
class Aign(Generic[B, Z, R]):
    """Explain x by z = G(x) so that P(z) looks like x and z looks real (Tung et al., ICCV 2017).

    Attributes:
        encode: G, observation to factors.
        render: P, known differentiable physics without parameters, factors to what should have been observed.
        terms: named losses between observation, factors and render; a supervised baseline is a term that reads labels.
        critics: named critics.
        weights: a weight for every term and critic, by name. Weight 0: not evaluated.
    """

    encode: nn.Module
    render: Callable[[Z, B], R]
    terms: Mapping[str, Term[B, Z, R]]
    critics: Mapping[str, Critic[B, Z]]
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        both = self.terms.keys() & self.critics.keys()
        if both:
            raise UserError(f"a name must be a term or a critic, not both: {sorted(both)}")
        known = self.terms.keys() | self.critics.keys()
        if known != self.weights.keys():
            raise UserError(f"weights must name exactly {sorted(known)}; got {sorted(self.weights)}")
        bad = {name: w for name, w in self.weights.items() if not 0 <= w < float("inf")}
        if bad:
            raise UserError(f"weights must be finite and not negative; got {bad}")

    def on(self, name: str) -> bool:
        """Is this term or critic evaluated?"""
        return self.weights[name] > 0

    @property
    def playing(self) -> dict[str, Critic[B, Z]]:
        """The critics that are on."""
        return {name: critic for name, critic in self.critics.items() if self.on(name)}

    def generator_losses(self, batch: B, z: Z) -> dict[str, Float[Tensor, " b"]]:
        """Every term and critic that is on, per sample and unweighted."""
        render = self.render(z, batch)
        losses = {name: term(batch, z, render) for name, term in self.terms.items() if self.on(name)}
        for name, critic in self.playing.items():
            losses[name] = critic.game.generator(critic.net(critic.view(z, batch)))
        return losses

    def critic_losses(self, batch: B, z: Z) -> dict[str, Float[Tensor, ""]]:
        """The loss of every critic that is on, on factors cut from the generator's graph."""
        losses = {}
        for name, critic in self.playing.items():
            fake = critic.view(z, batch).detach()
            losses[name] = critic.game.critic(critic.net, critic.memory.sample(fake), fake)
        return losses

    def total(self, losses: Mapping[str, Float[Tensor, " b"]]) -> Float[Tensor, ""]:
        """The weighted sum of the batch means."""
        means = [self.weights[name] * value.mean() for name, value in losses.items()]
        if not means:
            raise UserError(f"every weight is 0, so there is nothing to train: {dict(self.weights)}")
        return torch.stack(means).sum()

    def map_nets(self, wrap: Callable[[nn.Module], nn.Module]) -> "Aign[B, Z, R]":
        """The same problem with each network wrapped apart (DistributedDataParallel, compile)."""
        critics = {
            name: replace(critic, net=wrap(critic.net)) if self.on(name) else critic
            for name, critic in self.critics.items()
        }
        return replace(self, encode=wrap(self.encode), critics=critics)
