import torch
from torch.autograd import gradcheck

from aign.geometry.skeleton import H36M17
from aign.losses.points import bone_lengths, bone_symmetry, mean_distance

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
