import torch

from aign.geometry.rotation import from_axis_angle
from aign.geometry.skeleton import H36M17
from aign.geometry.torso import canonical, torso_rotation


def standing():
    joints = 0.1 * torch.randn(4, 17, 3)
    pelvis, thorax, left, right = H36M17.index("pelvis", "thorax", "l_hip", "r_hip")
    joints[:, pelvis] = 0
    joints[:, thorax] = torch.tensor([0.0, 0.5, 0.0])
    joints[:, left], joints[:, right] = torch.tensor([0.1, 0.0, 0.0]), torch.tensor([-0.1, 0.0, 0.0])
    return joints


def test_convention_x_left_y_up_z_forward():
    torch.testing.assert_close(torso_rotation(standing(), H36M17), torch.eye(3).expand(4, 3, 3), atol=1e-5, rtol=0)


def test_canonical_pose_does_not_change_when_the_body_moves():
    joints = torch.randn(4, 17, 3)
    rot = from_axis_angle(torch.randn(4, 3))
    moved = joints @ rot.mT + torch.randn(4, 1, 3)
    a, rot_a = canonical(joints, H36M17)
    b, rot_b = canonical(moved, H36M17)
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(rot @ rot_a, rot_b, atol=1e-4, rtol=1e-4)


def test_canonical_puts_back_what_it_took():
    joints = torch.randn(4, 17, 3)
    pose, rot = canonical(joints, H36M17)
    torch.testing.assert_close(pose @ rot.mT + joints[:, :1], joints, atol=1e-5, rtol=1e-5)


def test_a_collapsed_body_has_a_finite_gradient():
    joints = torch.zeros(2, 17, 3, requires_grad=True)
    pose, rot = canonical(joints, H36M17)
    (pose.sum() + rot.sum()).backward()
    assert joints.grad.isfinite().all()
    torch.testing.assert_close(torch.linalg.det(rot), torch.ones(2))
