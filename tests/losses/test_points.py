import torch
from torch.autograd import gradcheck

from aign.geometry.skeleton import H36M17
from aign.losses.points import bone_lengths, bone_symmetry, mean_distance, robust_distance

D = torch.float64


def test_value_by_hand():
    pred = torch.tensor([[[3.0, 4.0], [0.0, 0.0]]])
    got = mean_distance(pred, torch.zeros(1, 2, 2), torch.tensor([[1.0, 3.0]]))
    torch.testing.assert_close(got, torch.tensor([5.0 / 4]))


def test_empty_mask_is_zero_with_a_gradient_and_hides_nan_targets():
    pred = torch.randn(2, 4, 3, requires_grad=True)
    loss = mean_distance(pred, torch.full((2, 4, 3), torch.nan), torch.zeros(2, 4))
    assert torch.equal(loss, torch.zeros(2))
    loss.sum().backward()
    assert torch.equal(pred.grad, torch.zeros_like(pred))


def test_gradcheck_with_a_coincident_point():
    pred = torch.randn(2, 4, 3, dtype=D)
    target = torch.randn(2, 4, 3, dtype=D)
    weight = torch.tensor([[1.0, 0.0, 0.5, 1.0]] * 2, dtype=D)
    assert gradcheck(lambda p: mean_distance(p, target, weight), (pred.clone().requires_grad_(),))
    pred[0, 0] = target[0, 0]
    pred.requires_grad_()
    (grad,) = torch.autograd.grad(mean_distance(pred, target, weight).sum(), pred)
    assert grad.isfinite().all()
    assert torch.equal(grad[0, 0], torch.zeros(3, dtype=D))


def test_symmetry_is_zero_for_a_symmetric_body_and_grows_with_a_long_arm():
    joints = torch.randn(1, 17, 3)
    joints = joints + joints[:, list(H36M17.mirrored)] * torch.tensor([-1.0, 1.0, 1.0])
    assert bone_symmetry(joints, H36M17).item() < 1e-8
    joints[:, H36M17.index("l_wrist")] *= 3
    assert bone_symmetry(joints, H36M17).item() > 1e-3


def test_symmetry_has_finite_gradients_when_all_joints_coincide():
    joints = torch.zeros(2, 17, 3, requires_grad=True)
    bone_symmetry(joints, H36M17).sum().backward()
    assert joints.grad.isfinite().all()


def test_bone_lengths():
    joints = torch.zeros(1, 17, 3)
    joints[0, 2] = torch.tensor([0.0, 3.0, 4.0])
    assert bone_lengths(joints, ((2, 1),)).item() == 5.0


def test_robust_distance_by_hand():
    pred = torch.tensor([[[3.0, 4.0], [0.0, 0.0], [1e30, 0.0]]])
    got = robust_distance(pred, torch.zeros(1, 3, 2), torch.tensor([[1.0, 2.0, 1.0]]), 5.0)
    torch.testing.assert_close(got, torch.tensor([(2.5 + 0 + 5) / 4]))


def test_robust_distance_scales_with_its_units_and_is_quadratic_near_zero():
    pred, target, weight = torch.randn(3, 6, 2, dtype=D), torch.randn(3, 6, 2, dtype=D), torch.rand(3, 6, dtype=D)
    one = robust_distance(pred, target, weight, 0.7)
    torch.testing.assert_close(robust_distance(4 * pred, 4 * target, weight, 2.8), 4 * one)
    order = torch.randperm(6)
    torch.testing.assert_close(robust_distance(pred[:, order], target[:, order], weight[:, order], 0.7), one)
    near = robust_distance(target + 1e-4, target, weight, 1.0)
    torch.testing.assert_close(near, torch.full((3,), 2e-8, dtype=D), rtol=1e-6, atol=0)


def test_robust_distance_of_a_far_point_has_hardly_a_gradient():
    pred = torch.tensor([[[1.0, 0.0], [100.0, 0.0]]], requires_grad=True)
    robust_distance(pred, torch.zeros(1, 2, 2), torch.ones(1, 2), 2.0).sum().backward()
    assert pred.grad[0, 0, 0] > 1e4 * pred.grad[0, 1, 0] > 0


def test_robust_distance_gradcheck_with_a_coincident_point_and_points_at_its_scale():
    target = torch.randn(2, 4, 3, dtype=D)
    pred = target + torch.randn(2, 4, 3, dtype=D)
    pred[0, 0] = target[0, 0]
    pred[0, 1] = target[0, 1] + torch.tensor([0.0, 0.5, 0.0])
    weight = torch.tensor([[1.0, 1.0, 0.5, 0.0]] * 2, dtype=D)
    assert gradcheck(lambda p: robust_distance(p, target, weight, 0.5), (pred.requires_grad_(),))


def test_robust_distance_without_weight_is_zero_with_a_gradient_and_hides_nan_targets():
    pred = torch.randn(2, 4, 2, requires_grad=True)
    loss = robust_distance(pred, torch.full((2, 4, 2), torch.nan), torch.zeros(2, 4), 3.0)
    assert torch.equal(loss, torch.zeros(2))
    loss.sum().backward()
    assert torch.equal(pred.grad, torch.zeros_like(pred))
