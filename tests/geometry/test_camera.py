import cv2
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from aign.geometry.camera import Pinhole, Rigid, cropped, distort, normalised, project, undistort, virtual_camera
from aign.geometry.rotation import from_axis_angle

H36M_0 = Pinhole.of(
    torch.tensor([1145.0494, 1143.7811, 512.5415, 515.4515], dtype=torch.float64),
    torch.tensor([-0.207098916, 0.247775183, -0.0030751503, -0.00142447161, -0.00097569887], dtype=torch.float64),
)


def grid(n=21, half=0.45):
    x = torch.linspace(-half, half, n, dtype=torch.float64)
    return torch.stack(torch.meshgrid(x, x, indexing="xy"), -1).reshape(-1, 2)


def test_convention_project_axes():
    camera = Pinhole.of(torch.tensor([100.0, 200.0, 50.0, 60.0]))
    px = project(torch.tensor([[0.0, 0.0, 2.0], [1.0, 0.0, 2.0], [0.0, 1.0, 2.0]]), camera)
    torch.testing.assert_close(px, torch.tensor([[50.0, 60.0], [100.0, 60.0], [50.0, 160.0]]))


def test_distortion_matches_the_formula_written_out():
    k1, k2, k3, p1, p2 = H36M_0.distortion.tolist()
    for x, y in [(0.1, -0.3), (0.4, 0.2)]:
        r2 = x * x + y * y
        radial, tangential = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3, p1 * y + p2 * x
        want = [x * (radial + tangential) + p2 * r2, y * (radial + tangential) + p1 * r2]
        got = distort(torch.tensor([[x, y]], dtype=torch.float64), H36M_0.distortion)
        np.testing.assert_allclose(got[0].numpy(), want, atol=1e-15)


def test_opencv_model_differs_by_up_to_a_third_of_a_pixel():
    rays = grid()
    ours = distort(rays, H36M_0.distortion)
    k1, k2, k3, p1, p2 = H36M_0.distortion.tolist()
    points = np.concatenate((rays.numpy(), np.ones((len(rays), 1))), 1)
    theirs, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), np.eye(3), np.array([k1, k2, p1, p2, k3]))
    gap_px = np.abs(theirs[:, 0] - ours.numpy()).max() * 1145
    assert 0.05 < gap_px < 1.0


def test_undistort_inverts_distort_over_the_image():
    px = torch.stack(torch.meshgrid(*(torch.linspace(0, 1000, 41, dtype=torch.float64),) * 2, indexing="xy"), -1)
    px = px.reshape(-1, 2)
    rays = undistort(px, H36M_0)
    back = distort(rays, H36M_0.distortion) * H36M_0.focal_px + H36M_0.centre_px
    assert (back - px).abs().max() < 1e-3


def test_camera_plane_is_finite_in_value_and_gradient():
    x = torch.tensor([[0.1, 0.2, 0.0], [0.1, 0.2, -1.0], [0.0, 0.0, 1e-12]], requires_grad=True)
    out = normalised(x)
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert out.isfinite().all()
    assert grad.isfinite().all()


def test_project_gradcheck():
    points = (torch.randn(2, 4, 3, dtype=torch.float64) * 0.3 + torch.tensor([0, 0, 3.0])).requires_grad_()
    camera = Pinhole.of(torch.rand(2, 4, dtype=torch.float64) + 1, torch.randn(2, 5, dtype=torch.float64) * 0.1)
    assert gradcheck(lambda p: project(p, camera), (points,))


def test_rigid_inverse():
    rigid = Rigid(rot=from_axis_angle(torch.randn(3, 3)), trans_m=torch.randn(3, 3))
    points = torch.randn(3, 5, 3)
    torch.testing.assert_close(rigid.inverse().apply(rigid.apply(points)), points, atol=1e-5, rtol=1e-5)


def test_crop_moves_pixels_as_the_image_moves():
    points = torch.randn(1, 6, 3, dtype=torch.float64) * 0.2 + torch.tensor([0, 0, 4.0])
    camera = Pinhole.of(H36M_0.focal_px.new_tensor([[1145.0, 1143.0, 512.0, 515.0]]), H36M_0.distortion[None])
    corner, scale = torch.tensor([[300.0, 200.0]]).double(), torch.tensor([0.5]).double()
    torch.testing.assert_close(
        project(points, cropped(camera, corner, scale)), (project(points, camera) - corner) * 0.5
    )


def test_virtual_camera_equals_really_turning_the_points():
    points = torch.randn(4, 17, 3, dtype=torch.float64) * 0.4 + torch.tensor([1.5, -0.5, 4.0])
    rays, rot = virtual_camera(normalised(points), torch.ones(4, 17, dtype=torch.float64))
    torch.testing.assert_close(rays, normalised(points @ rot.mT))
    middle = 0.5 * (rays.amin(-2) + rays.amax(-2))
    assert middle.abs().max() < 0.05


def test_virtual_camera_ignores_unseen_points_and_survives_none():
    rays = torch.rand(2, 5, 2)
    seen = torch.ones(2, 5)
    seen[0, 0] = 0
    spoiled = rays.clone()
    spoiled[0, 0] = 1e6
    a, b = virtual_camera(rays, seen)[1], virtual_camera(spoiled, seen)[1]
    assert torch.equal(a, b)
    _, rot = virtual_camera(rays, torch.zeros(2, 5))
    torch.testing.assert_close(rot, torch.eye(3).expand(2, 3, 3))


@pytest.mark.parametrize("n", [1, 3])
def test_undistort_without_distortion_is_exact(n):
    camera = Pinhole.of(torch.tensor([100.0, 200.0, 50.0, 60.0]))
    torch.testing.assert_close(undistort(torch.full((n, 2), 60.0), camera), torch.tensor([[0.1, 0.0]]).expand(n, 2))
