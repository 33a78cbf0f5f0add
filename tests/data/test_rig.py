"""Where the cameras stand and what they see."""

import numpy as np
import pytest
import torch

from aign.data.datasets.rig import (
    ANYWHERE,
    H36M_INTRINSICS,
    NEAREST_M,
    STUDIO,
    h36m_camera,
    looking_at,
    placed_rig,
    see,
)
from aign.geometry.camera import Rigid


def centres(rig):
    return np.stack([c.world_to_cam.inverse().trans_m.numpy() for c in rig])


def test_convention_a_camera_looks_at_its_target_level_and_right_side_up():
    """Convention: z-up world; rows of the rotation are the camera's right, down and forward in the world."""
    position, target = np.array([4.0, -3.0, 2.0]), np.array([0.5, 0.2, 0.9])
    rot = looking_at(position, target)
    np.testing.assert_allclose(rot @ rot.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rot) == pytest.approx(1.0)
    np.testing.assert_allclose(rot @ (target - position), [0, 0, np.linalg.norm(target - position)], atol=1e-12)
    right, down, _ = rot
    assert right[2] == pytest.approx(0.0)
    assert down[2] < 0, "down in the picture is down in the world"
    # Standing on -y and looking along +y, world +x is on the right.
    np.testing.assert_allclose(
        looking_at(np.array([0.0, -5, 1]), np.array([0.0, 0, 1])), [[1, 0, 0], [0, 0, -1], [0, 1, 0]]
    )


@pytest.mark.parametrize("placement", [STUDIO, ANYWHERE])
def test_cameras_stand_where_they_may_and_look_at_the_middle(placement):
    for seed in range(20):
        rig = placed_rig((seed,), (2.0, -1.0), 0.5, placement)
        assert [c.name for c in rig] == [c.name for c in H36M_INTRINSICS]
        for camera, centre in zip(rig, centres(rig), strict=True):
            distance = np.linalg.norm(centre[:2] - [2.0, -1.0])
            assert placement.distance_m[0] <= distance <= placement.distance_m[1]
            assert placement.height_m[0] <= centre[2] <= placement.height_m[1]
            torch.testing.assert_close(torch.linalg.det(camera.world_to_cam.rot), torch.ones((), dtype=torch.float64))
            middle = see(camera, np.array([[[2.0, -1.0, 0.9]]]))
            assert middle.inside.all()
            assert np.abs(middle.kp2d_px - 512).max() < 200


def test_the_four_stand_round_the_middle():
    centre = centres(placed_rig((1,), (0.0, 0.0), 0.0))
    angle = np.sort(np.degrees(np.arctan2(centre[:, 1], centre[:, 0])))
    gaps = np.diff(np.append(angle, angle[0] + 360))
    assert gaps.min() > 15
    assert gaps.max() < 165


def test_placement_is_seeded():
    one, same, other = (placed_rig((s, 5), (0.0, 0.0), 0.0) for s in (1, 1, 2))
    np.testing.assert_array_equal(centres(one), centres(same))
    assert np.abs(centres(one) - centres(other)).max() > 0.5


def test_the_rig_backs_off_until_the_whole_motion_is_in_view():
    reach = 3.0
    near, far = (placed_rig((0,), (0.0, 0.0), r) for r in (0.0, reach))
    assert (np.linalg.norm(centres(far)[:, :2], axis=1) - np.linalg.norm(centres(near)[:, :2], axis=1)).min() > 2
    spots = [np.array([reach * np.cos(a), reach * np.sin(a), z]) for a in np.linspace(0, 6.2, 16) for z in (0.1, 1.7)]
    inside = [see(camera, np.array([spots])).inside for camera in far]
    assert np.mean(inside) > 0.97
    assert np.mean([see(camera, np.array([spots])).inside for camera in near]) < 0.9


def here():
    origin = Rigid(rot=torch.eye(3).double(), trans_m=torch.zeros(3).double())
    return h36m_camera(H36M_INTRINSICS[0], origin)


def test_seeing_equals_the_projection_written_out():
    """Human3.6M's own formula for one point, in float64."""
    x, y, z = 0.4, -0.3, 3.0
    (fx, fy, cx, cy), (k1, k2, k3, p1, p2) = H36M_INTRINSICS[0].intrinsics_px, H36M_INTRINSICS[0].distortion
    u, v = x / z, y / z
    r2 = u * u + v * v
    factor = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + p1 * v + p2 * u
    want = [fx * (u * factor + p2 * r2) + cx, fy * (v * factor + p1 * r2) + cy]
    sight = see(here(), np.array([[[x, y, z]]]))
    np.testing.assert_allclose(sight.kp2d_px[0, 0], want, atol=1e-4)
    np.testing.assert_allclose(sight.joints_cam_m[0, 0], [x, y, z], rtol=1e-6)


@pytest.mark.parametrize("z", [NEAREST_M / 2, 0.0, -3.0])
def test_what_is_behind_or_too_near_is_not_seen(z):
    sight = see(here(), np.array([[[0.0, 0.0, z], [0.0, 0.0, 3.0]]]))
    assert sight.inside.tolist() == [[False, True]]
    assert (sight.kp2d_px[0, 0] == 0).all()


def test_convention_tangential_distortion_is_p1_p2():
    """Convention: p1 belongs to y. A positive p1 alone moves a point on the vertical axis outwards along y only."""
    lens = H36M_INTRINSICS[0]
    for p1, p2 in ((0.01, 0.0), (0.0, 0.01)):
        made = type(lens)(
            name="c",
            intrinsics_px=(1000.0, 1000.0, 500.0, 500.0),
            distortion=(0.0, 0.0, 0.0, p1, p2),
            image_size_px=(1000, 1000),
        )
        origin = Rigid(rot=torch.eye(3).double(), trans_m=torch.zeros(3).double())
        moved = see(h36m_camera(made, origin), np.array([[[0.0, 1.0, 4.0]]])).kp2d_px[0, 0] - [500, 750]
        np.testing.assert_allclose(moved, [62.5 * p2, 2 * 62.5 * p1], atol=1e-3)
    for published in H36M_INTRINSICS:
        assert len(published.distortion) == 5
        assert published.distortion[0] < -0.19, "k1 first"
        assert abs(published.distortion[3]) < 0.003, "the tangential pair last"
