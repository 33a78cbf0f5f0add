from dataclasses import replace

import pytest
import torch

from aign.framework.errors import UserError
from aign.geometry.skeleton import H36M17
from aign.geometry.torso import torso_rotation
from aign.tasks.lifting import LifterConfig, build_lifter
from aign.tasks.lifting.factors import pca
from aign.tasks.lifting.nets import NOMINAL_HALF_HEIGHT_M
from tests.tasks.scenes import DOUBLE, film, people

CONFIG = LifterConfig(components=12, width=64, blocks=2)
KINDS = {
    f"{given}-{frames}-{head}": replace(CONFIG, input=given, frames=frames, head=head)
    for given, frames in (("coordinates", 1), ("coordinates", 9), ("heatmaps", 1))
    for head in ("basis", "direct")
}


@pytest.fixture(params=list(KINDS))
def config(request):
    return KINDS[request.param]


def lifter(config, seed=0):
    torch.manual_seed(seed)
    return build_lifter(config, people(200)).double()


def observed(config, count):
    """Of as many frames as the lifter sees."""
    return film([3] * -(-count // 3)).part(slice(0, count)).observed(count=config.frames)


def test_convention_the_start_is_the_mean_pose_upright_and_facing_the_camera_at_a_plausible_depth(config):
    """Convention: facing the camera the person's left is the image's right (+x), up is -y, forward is -z."""
    seen = observed(config, 12)
    net = lifter(config)
    noisy = net(seen)
    torch.nn.init.zeros_(net.head.last.weight)
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
    assert (noisy.centred_m - z.centred_m).norm(dim=-1).mean() > 1e-3


def test_pose_and_camera_are_factors(config):
    """The torso of a canonical pose of the direct lifter is straight; the basis lifter's rotation is proper."""
    z = lifter(config)(observed(config, 5))
    torch.testing.assert_close(torch.linalg.det(z.rot), torch.ones(5, dtype=DOUBLE))
    torch.testing.assert_close(z.rot @ z.rot.mT, torch.eye(3, dtype=DOUBLE).expand(5, 3, 3))
    if config.head == "direct":
        torch.testing.assert_close(torso_rotation(z.canonical_m, H36M17), torch.eye(3, dtype=DOUBLE).expand(5, 3, 3))


def test_gradients_reach_every_parameter_and_the_basis_is_none(config):
    net = lifter(config)
    z = net(observed(config, 8))
    (z.canonical_m.square().sum() + (z.rot * torch.randn(3, 3)).sum() + z.trans_m.square().sum()).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    idle = (net.head.last.bias.grad == 0).sum()
    assert idle == 0, f"{idle} outputs without gradient"
    buffers = {"basis": {"head.mean_m", "head.components_m"}, "direct": {"head.mean_m"}}[config.head]
    assert {name for name, _ in net.named_buffers()} == buffers
    assert not any(b.requires_grad for b in net.buffers())
    assert buffers <= net.state_dict().keys()


def test_samples_do_not_mix(config):
    net, seen = lifter(config), observed(config, 6)
    whole = net(seen).joints_m
    for i in range(6):
        alone = type(seen)(**{name: value[i : i + 1] for name, value in vars(seen).items()})
        torch.testing.assert_close(net(alone).joints_m[0], whole[i])


def test_every_keypoint_confidence_and_frame_is_read(config):
    net, seen = lifter(config), observed(config, 3)
    kp2d, conf = seen.kp2d.clone().requires_grad_(), seen.conf.clone().requires_grad_()
    half_extent = seen.half_extent.clone().requires_grad_()
    z = net(replace(seen, kp2d=kp2d, conf=conf, half_extent=half_extent))
    (z.centred_m * torch.randn(17, 3, dtype=DOUBLE)).sum().backward()
    assert kp2d.grad.shape[1] == config.frames
    assert (kp2d.grad != 0).all()
    assert (conf.grad != 0).all()
    assert (half_extent.grad != 0).all(), "the pose depends on the width of the view"


def test_what_is_hidden_is_not_read(config):
    seen = observed(config, 4)
    conf = seen.conf.clone()
    conf[:, :, 5] = 0
    spoiled = seen.kp2d.clone()
    spoiled[:, :, 5] = 77.0
    net = lifter(config)
    a, b = (net(replace(seen, conf=conf, kp2d=k)) for k in (seen.kp2d, spoiled))
    assert torch.equal(a.joints_m, b.joints_m)
    target = replace(seen, target2d=seen.target2d + 5, target2d_weight=0 * conf[:, 0], joints_m=seen.joints_m + 9)
    assert torch.equal(net(target).joints_m, net(seen).joints_m), "targets and labels are no input"


def test_depth_is_bounded_whatever_the_network_says(config):
    net = lifter(config)
    torch.nn.init.constant_(net.head.last.bias, 1e4)
    seen = observed(config, 3)
    for sign in (1, -1):
        net.head.last.bias.data[-1] = sign * 1e4
        depth = net(seen).trans_m[:, 2] * seen.half_extent / NOMINAL_HALF_HEIGHT_M
        torch.testing.assert_close(depth.log(), torch.full((3,), 2.0 * sign, dtype=DOUBLE))


def test_a_window_of_another_length_is_no_input(config):
    """Heatmaps of the first of several frames, or features of every third, would look like an answer."""
    net = lifter(config)
    for count in {1, 3, 9, 27} - {config.frames}:
        with pytest.raises(AssertionError, match=f"of {config.frames} frames got {count}"):
            net(film([2]).observed(count=count))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 4}, "3, 9, 27, 81 or 243 frames; got 4"),
        ({"frames": 0}, "3, 9, 27, 81 or 243 frames; got 0"),
        ({"frames": -3}, "3, 9, 27, 81 or 243 frames; got -3"),
        ({"frames": 10**9}, "3, 9, 27, 81 or 243 frames; got 1000000000"),
        ({"input": "heatmaps", "frames": 9}, "heatmaps sees 1 frame; got 9"),
        ({"components": 0}, "components; got 0"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(changes, message):
    with pytest.raises(UserError, match=message) as refused:
        build_lifter(replace(CONFIG, **changes), people(200))
    assert "\n" not in str(refused.value)


def test_coefficients_are_of_the_basis():
    net = lifter(CONFIG)
    for p in net.head.last.parameters():
        torch.nn.init.zeros_(p)
    net.head.last.bias.data[3] = 1.5
    net.head.last.bias.data[-9:-3] = torch.tensor([1.0, 0, 0, 0, 1, 0])
    z = net(observed(CONFIG, 2))
    torch.testing.assert_close(z.canonical_m[0], net.head.mean_m + 1.5 * net.head.components_m[3])
    torch.testing.assert_close(z.rot[0], torch.eye(3, dtype=DOUBLE))


def test_a_person_at_the_rim_of_a_turned_picture_is_still_on_the_heatmaps():
    """Crop units reach 1, and their corners 1.41: a turned person's far joint lies beyond 1."""
    config = KINDS["heatmaps-1-basis"]
    net, seen = lifter(config), observed(config, 1)
    kp2d = seen.kp2d.clone()
    kp2d[0, 0, 10] = torch.tensor([0.0, -1.2])
    kp2d.requires_grad_()
    net(replace(seen, kp2d=kp2d)).centred_m.sum().backward()
    assert kp2d.grad[0, 0, 10].abs().max() > 1e-6
