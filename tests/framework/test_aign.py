import dataclasses

import pytest
import torch
from torch import nn

from aign.framework.aign import Aign, Critic
from aign.framework.errors import UserError
from aign.framework.game import LeastSquares, NonSaturating
from aign.framework.memory import Memory


def toy(weights=None, game=None):
    """Explain y = 2 z by z, with z close to a memory of ones."""
    torch.manual_seed(0)
    weights = {"fit": 1.0, "prior": 0.1} if weights is None else weights
    critic = Critic(view=lambda z, _: z, net=Score(), memory=Memory(torch.ones(7, 3)), game=game or LeastSquares())
    return Aign(
        encode=nn.Linear(3, 3),
        render=lambda z, _: 2 * z,
        terms={"fit": lambda x, z, r: (r - x).square().sum(1)},
        critics={"prior": critic},
        weights=weights,
    )


class Score(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 1)

    def forward(self, x):
        return self.net(x).squeeze(-1)


@pytest.mark.parametrize("game", [LeastSquares(), NonSaturating()])
def test_losses_are_per_sample_and_total_is_the_weighted_sum(game):
    aign, x = toy(game=game), torch.randn(5, 3)
    losses = aign.generator_losses(x, aign.encode(x))
    assert {k: v.shape for k, v in losses.items()} == {"fit": (5,), "prior": (5,)}
    torch.testing.assert_close(aign.total(losses), losses["fit"].mean() + 0.1 * losses["prior"].mean())


def test_critic_losses_do_not_reach_the_generator():
    aign, x = toy(), torch.randn(5, 3)
    sum(aign.critic_losses(x, aign.encode(x)).values()).backward()
    assert all(p.grad is None for p in aign.encode.parameters())
    assert all(p.grad is not None for p in aign.critics["prior"].net.parameters())


@pytest.mark.parametrize("off", ["fit", "prior"])
def test_weight_zero_is_not_evaluated_and_still_trains(off):
    aign, x = toy({"fit": 1.0, "prior": 1.0} | {off: 0.0}), torch.randn(5, 3)
    losses = aign.generator_losses(x, aign.encode(x))
    assert off not in losses
    assert off not in aign.critic_losses(x, aign.encode(x))
    aign.total(losses).backward()
    assert aign.encode.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"fit": 1.0}, "must name exactly"),
        ({"fit": 1.0, "prior": 1.0, "typo": 1.0}, "typo"),
        ({"fit": -1.0, "prior": 1.0}, "not negative"),
        ({"fit": float("nan"), "prior": 1.0}, "finite"),
    ],
)
def test_wrong_weights_are_refused_by_name(weights, message):
    with pytest.raises(UserError, match=message):
        toy(weights)


def test_all_weights_zero_says_so():
    aign = toy({"fit": 0.0, "prior": 0.0})
    with pytest.raises(UserError, match="every weight is 0"):
        aign.total(aign.generator_losses(torch.randn(2, 3), aign.encode(torch.randn(2, 3))))


def test_map_nets_wraps_each_playing_network_once_and_leaves_the_original():
    wrapped = []
    aign = toy()
    out = aign.map_nets(lambda net: wrapped.append(net) or nn.Sequential(net))
    assert {id(net) for net in wrapped} == {id(aign.encode), id(aign.critics["prior"].net)}
    assert len(wrapped) == 2
    assert out.encode is not aign.encode
    silent = dataclasses.replace(aign, weights={"fit": 1.0, "prior": 0.0})
    wrapped.clear()
    silent.map_nets(lambda net: wrapped.append(net) or net)
    assert [id(net) for net in wrapped] == [id(silent.encode)]


def test_memory_ranks_share_one_global_draw_and_resume():
    values, like = torch.arange(100.0), torch.zeros(4)
    whole = Memory(values, torch.Generator().manual_seed(3)).sample(torch.zeros(8))
    parts = [Memory(values, torch.Generator().manual_seed(3), rank, 2).sample(like) for rank in range(2)]
    assert torch.equal(whole, torch.cat(parts))
    memory = Memory(values)
    memory.sample(like)
    state = memory.generator.get_state()
    first = memory.sample(like)
    memory.generator.set_state(state)
    assert torch.equal(first, memory.sample(like))


def test_empty_memory_is_refused():
    with pytest.raises(UserError, match="got 0 real factors"):
        Memory(torch.zeros(0, 3))


@pytest.mark.parametrize("game", [LeastSquares(), NonSaturating()])
def test_a_game_pulls_made_samples_to_the_memory(game):
    torch.manual_seed(0)
    made = nn.Parameter(torch.full((1, 3), -1.0))
    net = nn.Sequential(nn.Linear(3, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1), nn.Flatten(0))
    memory = Memory(torch.ones(50, 3) + 0.1 * torch.randn(50, 3))
    critic, generator = torch.optim.Adam(net.parameters(), 1e-2), torch.optim.Adam([made], 1e-2)
    path = []
    for _ in range(600):
        fake = made + 0.1 * torch.randn(32, 3)
        critic.zero_grad()
        game.critic(net, memory.sample(fake), fake.detach()).backward()
        critic.step()
        generator.zero_grad()
        game.generator(net(fake)).mean().backward()
        generator.step()
        path.append(made.detach().clone())
    # The game circles its goal, so the mean of the path is judged: it started 2 away in every coordinate.
    assert (torch.cat(path[200:]).mean(0) - 1).abs().max() < 0.5


def test_least_squares_and_cross_entropy_values():
    score = torch.tensor([0.0, 2.0])
    torch.testing.assert_close(LeastSquares().generator(score), torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(NonSaturating().generator(score), -torch.log(torch.sigmoid(score)))


class Column(nn.Module):
    def __init__(self, net, k):
        super().__init__()
        self.net, self.k = net, k

    def forward(self, x):
        return self.net(x)[:, self.k]


@pytest.mark.parametrize("game", [LeastSquares(), NonSaturating()])
def test_several_scores_are_so_many_critics_whose_losses_are_averaged(game):
    """Not the loss of the mean score: scores of +1 and -1 about the goal do not cancel."""
    torch.manual_seed(0)
    net, real, fake = nn.Linear(3, 4), torch.randn(5, 3), torch.randn(5, 3)
    score = net(fake)
    got = game.generator(score)
    assert got.shape == (5,)
    torch.testing.assert_close(got, torch.stack([game.generator(score[:, k]) for k in range(4)]).mean(0))
    assert not torch.allclose(got, game.generator(score.mean(1)), atol=1e-3)
    torch.testing.assert_close(game.generator(score.reshape(5, 2, 2)), got)

    want = torch.stack([game.critic(Column(net, k), real, fake) for k in range(4)]).mean()
    torch.testing.assert_close(game.critic(net, real, fake), want)
