import math

import torch
from torch.autograd import gradcheck

from aign.losses.temporal import foot_contact, smoothness

D = torch.float64


def test_smoothness_equals_the_reference():
    joints = torch.randn(2, 6, 3, 3, dtype=D)
    got = smoothness(joints)
    for b in range(2):
        lengths = [
            math.hypot(*(joints[b, i - 1, j] - 2 * joints[b, i, j] + joints[b, i + 1, j]).tolist())
            for i in range(1, 5)
            for j in range(3)
        ]
        assert abs(got[b].item() - sum(lengths) / len(lengths)) < 2e-6


def test_steady_motion_is_smooth_and_scale_is_that_of_the_joints():
    steady = torch.arange(5.0)[:, None, None] * torch.tensor([1.0, -2.0, 0.5]) + torch.rand(7, 3)
    assert smoothness(steady[None]).item() < 1e-6
    joints = torch.randn(1, 5, 7, 3)
    torch.testing.assert_close(smoothness(3 * joints), 3 * smoothness(joints))
    torch.testing.assert_close(smoothness(joints.flip(1) + 4), smoothness(joints), rtol=1e-4, atol=0)


def test_two_frames_or_one_have_no_smoothness_but_a_gradient():
    for frames in (1, 2):
        joints = torch.randn(3, frames, 4, 3, requires_grad=True)
        loss = smoothness(joints)
        assert torch.equal(loss, torch.zeros(3))
        loss.sum().backward()
        assert torch.equal(joints.grad, torch.zeros_like(joints))


def test_gradchecks_and_standing_still():
    joints = torch.randn(2, 5, 3, 3, dtype=D, requires_grad=True)
    contact = torch.rand(2, 4, 3, dtype=D).round()
    assert gradcheck(smoothness, (joints,))
    assert gradcheck(lambda x: foot_contact(x, contact), (joints,))
    still = torch.ones(2, 5, 3, 3, requires_grad=True)
    loss = smoothness(still) + foot_contact(still, torch.ones(2, 4, 3))
    assert torch.equal(loss, torch.zeros(2))
    loss.sum().backward()
    assert torch.equal(still.grad, torch.zeros_like(still))


def test_foot_contact_by_hand():
    feet = torch.zeros(1, 3, 2, 3)
    feet[0, 1:, 0, 0] = 0.3  # slides once, in contact
    feet[0, 2, 1, 1] = 9.0  # is lifted
    contact = torch.tensor([[[1.0, 1.0], [0.5, 0.0]]])
    torch.testing.assert_close(foot_contact(feet, contact), torch.tensor([0.3 / 2.5]))


def test_no_contact_is_zero_with_a_gradient():
    feet = torch.randn(2, 4, 2, 3, requires_grad=True)
    loss = foot_contact(feet, torch.zeros(2, 3, 2))
    assert torch.equal(loss, torch.zeros(2))
    loss.sum().backward()
    assert torch.equal(feet.grad, torch.zeros_like(feet))


def test_descending_makes_a_shaking_clip_smooth():
    steady = torch.linspace(0, 1, 12)[None, :, None, None].expand(1, 12, 5, 3)
    joints = (steady + 0.02 * torch.randn(1, 12, 5, 3)).requires_grad_()
    before = smoothness(joints).item()
    optimizer = torch.optim.Adam([joints], lr=2e-3)
    for _ in range(60):
        optimizer.zero_grad()
        smoothness(joints).sum().backward()
        optimizer.step()
    assert smoothness(joints).item() < before / 2
