import torch

from aign.nets.conv import HeatmapTrunk


def trunk():
    return HeatmapTrunk(3, 2, 16, 16)


def test_samples_do_not_mix_and_every_parameter_learns():
    net, maps, extras = trunk(), torch.rand(5, 3, 16, 16), torch.randn(5, 2)
    whole = net(maps, extras)
    assert whole.shape == (5, 16)
    for i in range(5):
        torch.testing.assert_close(net(maps[i : i + 1], extras[i : i + 1])[0], whole[i])
    net.train(False)
    torch.testing.assert_close(net(maps, extras), whole)
    (whole * torch.randn(5, 16)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    assert not list(net.buffers())


def test_every_pixel_of_every_map_and_every_extra_is_seen():
    net = trunk().double()
    maps = torch.rand(1, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    extras = torch.randn(1, 2, dtype=torch.float64, requires_grad=True)
    (net(maps, extras) * torch.randn(1, 16, dtype=torch.float64)).sum().backward()
    assert (maps.grad != 0).all()
    assert (extras.grad != 0).all()


def test_where_something_is_matters_not_only_that_it_is():
    net, extras = trunk(), torch.zeros(1, 2)
    maps = torch.zeros(2, 3, 16, 16)
    maps[0, 1, 4, 4] = maps[1, 1, 4, 12] = 1.0
    assert not torch.allclose(net(maps[:1], extras), net(maps[1:], extras), atol=1e-4)
