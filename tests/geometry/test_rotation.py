import math

import pytest
import torch
from torch.autograd import gradcheck

from aign.geometry import rotation

UGLY = [
    (0.0, 0.0, 0.0),
    (1e-9, 0.0, 0.0),
    (-1e-8, 1e-8, 0.0),
    (1e-4, -2e-4, 1e-4),
    (math.pi, 0.0, 0.0),
    (0.0, 0.0, math.pi - 1e-9),
    (2.0, -1.0, 0.5),
]


@pytest.mark.parametrize("v", UGLY)
def test_axis_angle_gradcheck_at_the_ugly_points(v):
    x = torch.tensor([v], dtype=torch.float64, requires_grad=True)
    assert gradcheck(rotation.from_axis_angle, (x,))


@pytest.mark.parametrize("v", UGLY)
def test_every_logarithm_has_a_finite_gradient(v):
    rot = rotation.from_axis_angle(torch.tensor([v], dtype=torch.float64)).requires_grad_()
    for convert in (rotation.to_axis_angle, rotation.to_quaternion, rotation.to_6d):
        (grad,) = torch.autograd.grad(convert(rot).sum(), rot)
        assert grad.isfinite().all()


@pytest.mark.parametrize("v", UGLY)
def test_round_trips(v):
    rot = rotation.from_axis_angle(torch.tensor([v], dtype=torch.float64))
    torch.testing.assert_close(rotation.from_axis_angle(rotation.to_axis_angle(rot)), rot, atol=1e-7, rtol=0)
    torch.testing.assert_close(rotation.from_quaternion(rotation.to_quaternion(rot)), rot, atol=1e-7, rtol=0)
    torch.testing.assert_close(rotation.from_6d(rotation.to_6d(rot)), rot, atol=1e-12, rtol=0)


def test_quaternion_sign_does_not_matter():
    q = torch.randn(8, 4, dtype=torch.float64)
    torch.testing.assert_close(rotation.from_quaternion(q), rotation.from_quaternion(-q))


def test_convention_quaternion_is_wxyz_and_active():
    quarter_about_z = torch.tensor([math.cos(math.pi / 4), 0.0, 0.0, math.sin(math.pi / 4)])
    turned = rotation.from_quaternion(quarter_about_z) @ torch.tensor([1.0, 0.0, 0.0])
    torch.testing.assert_close(turned, torch.tensor([0.0, 1.0, 0.0]), atol=1e-6, rtol=0)


def test_convention_6d_is_two_columns():
    rot = rotation.from_axis_angle(torch.tensor([0.3, -0.2, 0.9]))
    assert torch.equal(rotation.to_6d(rot), torch.cat((rot[:, 0], rot[:, 1])))


@pytest.mark.parametrize("six", [[0.0] * 6, [1.0, 0, 0, 2.0, 0, 0], [0, 0, 0, 0, 1.0, 0]])
def test_degenerate_6d_is_still_a_rotation_with_finite_gradient(six):
    x = torch.tensor([six], dtype=torch.float64, requires_grad=True)
    rot = rotation.from_6d(x)
    torch.testing.assert_close(rot @ rot.mT, torch.eye(3, dtype=torch.float64)[None])
    assert torch.linalg.det(rot).item() == pytest.approx(1.0)
    (grad,) = torch.autograd.grad(rot.sum(), x)
    assert grad.isfinite().all()


def test_6d_gradcheck():
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    assert gradcheck(rotation.from_6d, (x,))


def test_look_at_sends_the_direction_to_plus_z_without_roll():
    d = torch.tensor([[0.3, -0.2, 1.0], [0.0, 0.0, 2.0]], dtype=torch.float64)
    rot = rotation.look_at(d)
    out = (rot @ d.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(out, torch.stack((torch.zeros(2), torch.zeros(2), d.norm(dim=-1)), -1).double())
    torch.testing.assert_close(rot[1], torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(rot @ rot.mT, torch.eye(3, dtype=torch.float64).expand(2, 3, 3))


def test_geodesic():
    a = rotation.from_axis_angle(torch.tensor([[0.0, 0.4, 0.0]]))
    assert rotation.geodesic_rad(a, torch.eye(3)[None]).item() == pytest.approx(0.4, abs=1e-5)
