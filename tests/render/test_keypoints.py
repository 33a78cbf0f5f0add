import math

import pytest
import torch
from torch.autograd import gradcheck

from aign.geometry.camera import NEAR_M, Pinhole, project
from aign.render.keypoints import crop_keypoints, gaussian_heatmaps

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


def plain_heatmaps(kp2d, conf, side, sigma_px):
    """A double loop over pixels, distances measured in crop units from pixel centre to keypoint."""
    maps = torch.zeros(*conf.shape, side, side, dtype=DOUBLE)
    for b in range(conf.shape[0]):
        for j in range(conf.shape[1]):
            for row in range(side):
                for column in range(side):
                    dx = -1 + (2 * column + 1) / side - kp2d[b, j, 0].item()
                    dy = -1 + (2 * row + 1) / side - kp2d[b, j, 1].item()
                    pixels = math.hypot(dx, dy) * side / 2
                    maps[b, j, row, column] = conf[b, j].item() * math.exp(-((pixels / sigma_px) ** 2) / 2)
    return maps


@pytest.mark.parametrize(("side", "sigma_px"), [(8, 1.0), (7, 0.6), (12, 2.5)])
def test_heatmaps_equal_the_plain_reference(side, sigma_px):
    kp2d = 0.8 * torch.randn(2, 5, 2, dtype=DOUBLE)  # some outside
    conf = torch.rand(2, 5, dtype=DOUBLE)
    got = gaussian_heatmaps(kp2d, conf, side, sigma_px)
    torch.testing.assert_close(got, plain_heatmaps(kp2d, conf, side, sigma_px))


def test_convention_row_is_y_column_is_x_and_edges_are_at_one():
    """Convention: pixel i is the interval -1 + 2 (i .. i + 1) / side; 0 lies between the two middle pixels."""
    kp2d = torch.tensor([[[0.625, -0.375], [-0.875, 0.875], [0.0, 0.0]]])
    maps = gaussian_heatmaps(kp2d, torch.tensor([[0.7, 1.0, 0.4]]), 8)[0]
    assert maps[0, 2, 6] == pytest.approx(0.7)
    assert maps[1, 7, 0] == pytest.approx(1.0)
    for number, where in enumerate(((2, 6), (7, 0))):
        assert divmod(int(maps[number].argmax()), 8) == where
    middle = maps[2, 3:5, 3:5]
    torch.testing.assert_close(middle, middle[0, 0].expand(2, 2))
    assert middle[0, 0] == maps[2].max()


def test_a_keypoint_nobody_saw_leaves_its_map_empty_and_one_outside_only_its_tail():
    kp2d = torch.tensor([[[0.1, 0.2], [1.2, 0.0], [3.0, 0.0], [-1e6, 1e6]]])
    maps = gaussian_heatmaps(kp2d, torch.tensor([[0.0, 1.0, 1.0, 1.0]]), 8)[0]
    assert (maps[0] == 0).all()
    assert 0 < maps[1].max() < 0.5
    assert maps[1].argmax() % 8 == 7
    assert maps[2].max() < 1e-6
    assert (maps[3] == 0).all()


def test_heatmaps_have_gradients_at_ugly_points():
    """On a pixel's centre, between pixels, at the edge, outside, coincident, unseen."""
    kp2d = torch.tensor(
        [[[0.25, -0.25], [0.0, 0.0], [1.0, -1.0], [1.4, 0.3], [0.3, 0.3], [0.3, 0.3]]], dtype=DOUBLE, requires_grad=True
    )
    conf = torch.tensor([[1.0, 0.5, 0.9, 0.8, 0.7, 0.0]], dtype=DOUBLE, requires_grad=True)
    assert gradcheck(lambda k, c: gaussian_heatmaps(k, c, 4), (kp2d, conf))
    far = torch.full((1, 1, 2), 1e15, requires_grad=True)
    gaussian_heatmaps(far, torch.ones(1, 1), 4).sum().backward()
    assert far.grad.isfinite().all()
