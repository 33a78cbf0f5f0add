import pytest
import torch
from torch.autograd import gradcheck

from aign.geometry.camera import NEAR_M, Pinhole, project
from aign.render.keypoints import crop_keypoints

DOUBLE = torch.float64


def test_is_the_perspective_projection_in_crop_units():
    joints = torch.randn(4, 17, 3, dtype=DOUBLE) * 0.3 + torch.tensor([0, 0, 4.0])
    half = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=DOUBLE)
    got = crop_keypoints(joints, half)
    for i in range(4):
        for j in range(17):
            x, y, z = joints[i, j].tolist()
            assert got[i, j].tolist() == pytest.approx([x / z / half[i].item(), y / z / half[i].item()], rel=1e-12)
    # The same as a pinhole whose focal length is the inverse of the half extent.
    lens = torch.stack((1 / half, 1 / half, 0 * half, 0 * half), 1)
    torch.testing.assert_close(got, project(joints, Pinhole.of(lens)))


def test_convention_right_is_plus_x_and_down_is_plus_y():
    """Convention: crop units grow to the right and down, as pixels do, and the optical axis is 0."""
    got = crop_keypoints(torch.tensor([[[0.0, 0, 5], [1, 0, 5], [0, 1, 5]]]), torch.tensor([0.2]))
    torch.testing.assert_close(got[0], torch.tensor([[0.0, 0], [1, 0], [0, 1]]))


def ugly(place):
    """Joints on the camera plane, behind it, at its centre, coincident, and on the axis."""
    points = {
        "plane": [[0.3, -0.2, 0.0], [0.1, 0.1, 2.0]],
        "behind": [[0.3, -0.2, -1.0], [0.1, 0.1, 2.0]],
        "centre": [[0.0, 0.0, 0.0], [0.1, 0.1, 2.0]],
        "coincident": [[0.3, 0.2, 3.0], [0.3, 0.2, 3.0]],
        "axis": [[0.0, 0.0, 3.0], [0.0, 0.0, 1.0]],
        "just before the plane": [[0.0, 0.0, 3 * NEAR_M], [0.01, 0.02, 2.0]],
    }
    return torch.tensor([points[place]], dtype=DOUBLE, requires_grad=True)


@pytest.mark.parametrize("place", ["plane", "behind", "centre", "coincident", "axis", "just before the plane"])
def test_gradcheck_at_ugly_points(place):
    half = torch.tensor([0.25], dtype=DOUBLE, requires_grad=True)
    joints = ugly(place)
    assert gradcheck(crop_keypoints, (joints, half), eps=1e-7, rtol=1e-3)
    (grad,) = torch.autograd.grad(crop_keypoints(joints, half).sum(), joints)
    assert grad.isfinite().all()
