import pytest
import torch

from aign.nets.mlp import MlpCritic, ResidualTrunk


@pytest.mark.parametrize("net", [ResidualTrunk(6, 16, 2), MlpCritic(6, 16)])
def test_samples_do_not_mix_and_every_parameter_learns(net):
    """No batch statistics: that is what lets two ranks equal one."""
    x = torch.randn(8, 6)
    whole = net(x)
    for i in range(8):
        torch.testing.assert_close(net(x[i : i + 1])[0], whole[i])
    net.train(False)
    torch.testing.assert_close(net(x), whole)
    (whole * torch.randn(whole.shape)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    assert not list(net.buffers())


def test_blocks_are_residual():
    net = ResidualTrunk(6, 16, 1)
    block = net.body[1]
    for p in block.body[-1].parameters():
        torch.nn.init.zeros_(p)
    x = torch.randn(3, 16)
    assert torch.equal(block(x), x)


def test_features_are_normalised():
    """So that a small last layer starts near its bias, however deep the network."""
    features = ResidualTrunk(6, 64, 3)(100 * torch.randn(50, 6))
    torch.testing.assert_close(features.mean(1), torch.zeros(50), atol=1e-5, rtol=0)
    torch.testing.assert_close(features.std(1, correction=0), torch.ones(50), atol=1e-3, rtol=0)


def test_critic_takes_any_shape_and_gives_one_score():
    critic = MlpCritic(51, 8)
    x = torch.randn(4, 17, 3)
    assert critic(x).shape == (4,)
    assert torch.equal(critic(x), critic(x.flatten(1)))
