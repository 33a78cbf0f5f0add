import pytest
import torch

from aign.geometry.skeleton import H36M17
from aign.geometry.torso import torso_rotation
from aign.tasks.lifting.factors import pca
from aign.tasks.lifting.nets import LIFTERS, NOMINAL_HALF_HEIGHT_M
from tests.tasks.scenes import DOUBLE, people, scene

KINDS = list(LIFTERS)


def lifter(kind, seed=0):
    torch.manual_seed(seed)
    return LIFTERS[kind](pca(people(200), 12), 64, 2).double()


@pytest.mark.parametrize("kind", KINDS)
def test_convention_the_start_is_the_mean_pose_upright_and_facing_the_camera_at_a_plausible_depth(kind):
    """Convention: facing the camera the person's left is the image's right (+x), up is -y, forward is -z."""
    seen = scene(12).observed()
    net = lifter(kind)
    noisy = net(seen)
    torch.nn.init.zeros_(net.net.head.weight)
    z = net(seen)
    facing = torch.tensor([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]], dtype=DOUBLE)
    mean = pca(people(200), 12).mean_m
    torch.testing.assert_close(z.centred_m, (mean @ facing).expand(12, 17, 3), atol=0.01, rtol=0)
    # The canonical mean pose stands almost, not exactly, straight: the mean of poses is no torso frame.
    assert (z.rot - facing).abs().max() < 0.05
    torch.testing.assert_close(z.trans_m[:, :2], torch.zeros(12, 2, dtype=DOUBLE))
    torch.testing.assert_close(z.trans_m[:, 2] * seen.half_extent, torch.full((12,), NOMINAL_HALF_HEIGHT_M).double())
    assert ((z.trans_m[:, 2] > 2.0) & (z.trans_m[:, 2] < 15.0)).all()
    # The last layer starts small, not at zero: near that start.
    assert (noisy.centred_m - z.centred_m).norm(dim=-1).mean() < 0.3
    assert (noisy.trans_m[:, 2] / z.trans_m[:, 2]).log().abs().max() < 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_pose_and_camera_are_factors(kind):
    """The torso of a canonical pose of the direct lifter is straight; the basis lifter's rotation is proper."""
    z = lifter(kind)(scene(5).observed())
    torch.testing.assert_close(torch.linalg.det(z.rot), torch.ones(5, dtype=DOUBLE))
    torch.testing.assert_close(z.rot @ z.rot.mT, torch.eye(3, dtype=DOUBLE).expand(5, 3, 3))
    if kind == "direct":
        torch.testing.assert_close(torso_rotation(z.canonical_m, H36M17), torch.eye(3, dtype=DOUBLE).expand(5, 3, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter_and_the_basis_is_none(kind):
    net = lifter(kind)
    z = net(scene(8).observed())
    (z.canonical_m.square().sum() + (z.rot * torch.randn(3, 3)).sum() + z.trans_m.square().sum()).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
        # Every output of the head matters, except the direct lifter's pelvis, which is the origin by definition.
        if name == "net.head.bias":
            idle = (parameter.grad == 0).sum()
            assert idle == 0, f"{idle} outputs without gradient"
    buffers = {"basis": {"mean_m", "components_m"}, "direct": {"mean_m"}}[kind]
    assert {name for name, _ in net.named_buffers()} == buffers
    assert not any(b.requires_grad for b in net.buffers())
    assert buffers <= net.state_dict().keys()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_hidden_is_not_read(kind):
    there = scene(4)
    seen = there.observed()
    conf = seen.conf.clone()
    conf[:, 5] = 0
    spoiled = seen.kp2d.clone()
    spoiled[:, 5] = 77.0
    net = lifter(kind)
    a, b = (net(type(seen)(**{**vars(seen), "conf": conf, "kp2d": k})) for k in (seen.kp2d, spoiled))
    assert torch.equal(a.joints_m, b.joints_m)
    target = type(seen)(**{**vars(seen), "target2d": spoiled, "joints_m": seen.joints_m + 9})
    assert torch.equal(net(target).joints_m, net(seen).joints_m), "targets and labels are no input"


@pytest.mark.parametrize("kind", KINDS)
def test_depth_is_bounded_whatever_the_network_says(kind):
    net = lifter(kind)
    torch.nn.init.constant_(net.net.head.bias, 1e4)
    seen = scene(3).observed()
    for sign in (1, -1):
        net.net.head.bias.data[-1] = sign * 1e4
        depth = net(seen).trans_m[:, 2] * seen.half_extent / NOMINAL_HALF_HEIGHT_M
        torch.testing.assert_close(depth.log(), torch.full((3,), 2.0 * sign, dtype=DOUBLE))


def test_coefficients_are_of_the_basis():
    net = lifter("basis")
    for p in net.net.head.parameters():
        torch.nn.init.zeros_(p)
    net.net.head.bias.data[3] = 1.5
    net.net.head.bias.data[-9:-3] = torch.tensor([1.0, 0, 0, 0, 1, 0])
    z = net(scene(2).observed())
    torch.testing.assert_close(z.canonical_m[0], net.mean_m + 1.5 * net.components_m[3])
    torch.testing.assert_close(z.rot[0], torch.eye(3, dtype=DOUBLE))
