"""The games of pictures' critics: hinge, flipped labels, and the penalty on the gradient at real samples."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from aign.framework.game import Game, Hinge, LeastSquares, NonSaturating, RealGradient

GAMES = [LeastSquares(), NonSaturating(), NonSaturating(flips=0.05), Hinge(), RealGradient(NonSaturating(), 1.0)]


def net(inputs=6):
    return nn.Sequential(nn.Linear(inputs, 16), nn.SiLU(), nn.Linear(16, 1)).double()


def samples(n=8, shift=0.0):
    return torch.randn(n, 6, dtype=torch.float64) + shift


@pytest.mark.parametrize("game", GAMES, ids=str)
def test_critics_learn_to_tell_and_generators_to_be_taken_for_real(game):
    assert isinstance(game, Game)
    critic, real, fake = net(), samples(64, 1.0), samples(64, -1.0)
    optimizer = torch.optim.Adam(critic.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        game.critic(critic, real, fake).backward()
        optimizer.step()
    assert critic(real).mean() > critic(fake).mean() + 0.3
    assert game.generator(critic(real)).mean() < game.generator(critic(fake)).mean()
    assert game.generator(critic(fake)[:, 0]).shape == (64,)


def test_hinge_by_hand():
    identity, real, fake = nn.Identity(), torch.tensor([[2.0], [0.5]]), torch.tensor([[-3.0], [0.5]])
    assert float(Hinge().critic(identity, real, fake)) == pytest.approx((0 + 0.5) / 2 + (0 + 1.5) / 2)
    assert Hinge().generator(fake).tolist() == [3.0, -0.5]


def test_flips_are_the_expectation_of_a_coin():
    critic, real, fake = net(), samples(), samples()
    right = F.softplus(-critic(real)).mean() + F.softplus(critic(fake)).mean()
    wrong = F.softplus(critic(real)).mean() + F.softplus(-critic(fake)).mean()
    flipped = NonSaturating(flips=0.05).critic(critic, real, fake)
    assert flipped.item() == pytest.approx((0.95 * right + 0.05 * wrong).item())
    assert NonSaturating().critic(critic, real, fake).item() == pytest.approx(right.item())


def test_the_penalty_is_half_gamma_times_the_squared_gradient_at_the_real_samples():
    critic, real, fake = net(), samples(5), samples(5)
    plain, gamma = NonSaturating(), 3.0
    squares = []
    for one in real:
        at = one[None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(critic(at).sum(), at)
        squares.append(gradient.square().sum())
    want = plain.critic(critic, real, fake) + gamma / 2 * torch.stack(squares).mean()
    assert RealGradient(plain, gamma).critic(critic, real, fake).item() == pytest.approx(want.item())


def test_the_penalty_reaches_the_critics_weights_and_not_the_samples():
    critic, real = net(), samples()
    RealGradient(Hinge(), 1e3).critic(critic, real, samples()).backward()
    with_penalty = critic[0].weight.grad.clone()
    critic.zero_grad()
    Hinge().critic(critic, real, samples()).backward()
    assert (with_penalty - critic[0].weight.grad).abs().max() > 0.1
    assert real.grad is None
    assert not real.requires_grad
