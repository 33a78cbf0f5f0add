"""Generators and critics of pictures: shapes, first answers, gradients, and no look at the rest of the batch."""

import pytest
import torch

from aign.nets.image_critic import ImageCritic
from aign.nets.image_generator import Filler, Shrinker, Upscaler, bicubic


@pytest.mark.parametrize(("low", "channels"), [(8, 8), (16, 12), (32, 1)])
def test_an_upscaler_begins_with_the_interpolation(low, channels):
    net, given = Upscaler(channels, 2), torch.rand(2, 3, low, low)
    assert torch.equal(net(given), bicubic(given, 4))
    assert net(given).shape == (2, 3, 4 * low, 4 * low)


def test_bicubic_keeps_edges_on_edges():
    """The filter (a = -0.75) bends a ramp by 0.04, and a shift of a pixel would move it by 0.25."""
    ramp = torch.arange(8.0).expand(1, 3, 8, 8)
    big = bicubic(ramp, 4)
    assert big[0, 0, 16, 8:24].tolist() == pytest.approx([(i + 0.5) / 4 - 0.5 for i in range(8, 24)], abs=0.05)


def test_a_shrinker_gives_a_quarter():
    assert Shrinker(4)(torch.rand(2, 3, 32, 32)).shape == (2, 3, 8, 8)


@pytest.mark.parametrize("side", [32, 64, 128])
def test_a_filler_gives_the_whole_picture_and_sees_the_mask(side):
    net, given, keep = Filler(side, 8, 1), torch.rand(2, 3, side, side), torch.ones(2, 1, side, side)
    whole = net(given, keep)
    assert whole.shape == given.shape
    assert not torch.equal(net(given, 0 * keep), whole)


@pytest.mark.parametrize("patches", [False, True])
@pytest.mark.parametrize("side", [8, 32, 64, 128])
def test_a_critic_scores_the_whole_and_patches(side, patches):
    score = ImageCritic(side, 8, patches)(torch.rand(3, 3, side, side))
    assert score.shape == (3, 2 if patches else 1)


def made(name):
    keep = torch.ones(4, 1, 32, 32)
    return {
        "upscaler": (Upscaler(8, 1), lambda net, x: net(x[:, :, :8, :8])),
        "shrinker": (Shrinker(4), lambda net, x: net(x)),
        "filler": (Filler(32, 8, 1), lambda net, x: net(x, keep[: len(x)])),
        "critic": (ImageCritic(32, 8, True), lambda net, x: net(x)),
    }[name]


@pytest.mark.parametrize("name", ["upscaler", "shrinker", "filler", "critic"])
def test_every_weight_has_a_gradient_and_no_picture_sees_another(name):
    net, ask = made(name)
    for parameter in net.parameters():  # the last layer of the upscaler starts at 0
        torch.nn.init.normal_(parameter, std=0.1)
    x = torch.rand(4, 3, 32, 32)
    ask(net, x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
    with torch.no_grad():
        assert ask(net, x)[1:2] == pytest.approx(ask(net, x[1:2]), rel=1e-3, abs=1e-4)
