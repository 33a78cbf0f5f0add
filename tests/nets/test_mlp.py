import pytest
import torch

from aign.nets.mlp import MlpCritic, ResidualMlp


def test_output_starts_near_its_bias():
    net = ResidualMlp(12, 5, 64, 2)
    net.head.bias.data[:] = torch.arange(5.0)
    out = net(torch.randn(100, 12))
    assert (out - torch.arange(5.0)).abs().max() < 0.6
    assert (out - torch.arange(5.0)).std() > 0.01


@pytest.mark.parametrize("net", [ResidualMlp(6, 4, 16, 2), MlpCritic(6, 16)])
def test_samples_do_not_mix_and_every_parameter_learns(net):
    """No batch statistics: that is what lets two ranks equal one."""
    x = torch.randn(8, 6)
    whole = net(x)
    for i in range(8):
        torch.testing.assert_close(net(x[i : i + 1])[0], whole[i])
    net.train(False)
    torch.testing.assert_close(net(x), whole)
    whole.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    assert not list(net.buffers())


def test_blocks_are_residual():
    net = ResidualMlp(6, 4, 16, 1)
    block = net.trunk[1]
    for p in block.body[-1].parameters():
        torch.nn.init.zeros_(p)
    x = torch.randn(3, 16)
    assert torch.equal(block(x), x)


def test_critic_takes_any_shape_and_gives_one_score():
    critic = MlpCritic(51, 8)
    x = torch.randn(4, 17, 3)
    assert critic(x).shape == (4,)
    assert torch.equal(critic(x), critic(x.flatten(1)))
