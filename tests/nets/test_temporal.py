import pytest
import torch

from aign.framework.errors import UserError
from aign.nets.temporal import TemporalTrunk


@pytest.mark.parametrize("frames", [3, 9, 27, 81])
def test_every_frame_influences_the_features(frames):
    x = torch.randn(2, frames, 5, requires_grad=True)
    y = TemporalTrunk(5, 16, frames)(x)
    assert y.shape == (2, 16)
    (y * torch.randn(2, 16)).sum().backward()
    assert (x.grad.abs().sum((0, 2)) > 0).all()


@pytest.mark.parametrize("frames", [3, 9, 27])
def test_the_features_are_of_the_middle_frame(frames):
    """With every level silent, what is left is the residual path: the middle frame alone."""
    net = TemporalTrunk(5, 16, frames)
    levels = net.body[:-1]
    for level in levels:
        for p in level.body[-1].parameters():
            torch.nn.init.zeros_(p)
    x = torch.randn(4, frames, 5)
    torch.testing.assert_close(net(x), net.body[-1](net.first(x[:, frames // 2])))


def test_each_level_takes_three_neighbours_and_no_more():
    """What reaches the middle of the second level is the middle third, whatever lies beyond it."""
    net = TemporalTrunk(5, 16, 9)
    x = torch.randn(1, 9, 5)
    level = net.body[0]
    first = level(net.first(x))
    for frame in range(9):
        moved = x.clone()
        moved[0, frame] += 1
        changed = (level(net.first(moved)) != first).any(-1)[0].tolist()
        assert changed == [frame // 3 == third for third in range(3)]


def test_the_order_of_frames_matters():
    net, x = TemporalTrunk(5, 16, 9), torch.randn(2, 9, 5)
    assert not torch.allclose(net(x), net(x.flip(1)), atol=1e-3)


def test_samples_do_not_mix_and_every_parameter_learns():
    net, x = TemporalTrunk(5, 16, 9), torch.randn(6, 9, 5)
    whole = net(x)
    for i in range(6):
        torch.testing.assert_close(net(x[i : i + 1])[0], whole[i])
    net.train(False)
    torch.testing.assert_close(net(x), whole)
    (whole * torch.randn(6, 16)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    assert not list(net.buffers())


@pytest.mark.parametrize("frames", [-3, 0, 1, 2, 4, 6, 8, 10, 26, 28, 244, 729, 10**30])
def test_other_numbers_of_frames_are_refused(frames):
    with pytest.raises(UserError, match=f"sees 3, 9, 27, 81 or 243 frames; got {frames}$") as refused:
        TemporalTrunk(5, 16, frames)
    assert "\n" not in str(refused.value)
