import math

import pytest
import torch

from aign.framework.errors import UserError
from aign.geometry.rotation import from_6d, from_axis_angle, to_6d
from aign.geometry.skeleton import H36M17
from aign.geometry.torso import canonical
from aign.tasks.lifting.factors import PoseFactors, pca, remember
from tests.tasks.scenes import DOUBLE, joints_sign, people, scene


def factors(joints_m):
    pose, rot = canonical(joints_m, H36M17)
    return PoseFactors(canonical_m=pose, rot=rot, trans_m=joints_m[:, 0])


def test_canonical_camera_and_position_give_the_joints_back():
    joints = scene(7).joints_cam_m
    z = factors(joints)
    torch.testing.assert_close(z.joints_m, joints)
    torch.testing.assert_close(z.centred_m, joints - joints[:, :1])
    torch.testing.assert_close(z.canonical_m[:, 0], torch.zeros(7, 3, dtype=DOUBLE))


def test_convention_rot_takes_the_torso_frame_to_the_camera():
    """Convention: x left, y up, z forward of the torso become columns of rot, in the camera's axes."""
    left, up, forward = torch.eye(3, dtype=DOUBLE)
    joints = torch.zeros(1, 17, 3, dtype=DOUBLE)
    for name, place in (("thorax", up), ("l_hip", left), ("r_hip", -left), ("nose", forward)):
        joints[0, H36M17.index(name)[0]] = place
    rot = from_axis_angle(torch.tensor([[0.3, 1.1, -0.4]], dtype=DOUBLE))
    z = factors(joints @ rot.mT + torch.tensor([1.0, 2.0, 5.0], dtype=DOUBLE))
    torch.testing.assert_close(z.rot, rot)
    torch.testing.assert_close(z.canonical_m, joints)
    thorax = H36M17.index("thorax")[0]
    torch.testing.assert_close(z.joints_m[0, thorax], rot[0] @ up + z.trans_m[0])


def rig(count, cameras, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return from_axis_angle(2 * torch.randn(count, cameras, 3, generator=generator, dtype=DOUBLE))


def test_memory_holds_every_pose_and_every_view_of_it_as_proper_rotations():
    world, rot = people(5), rig(5, 4)
    memory = remember(world, rot)
    assert memory.canonical_m.shape == (10, 17, 3)
    assert memory.camera_6d.shape == (40, 6)
    turned = from_6d(memory.camera_6d)
    torch.testing.assert_close(turned[:, :, :2].mT.flatten(1), memory.camera_6d)
    torch.testing.assert_close(torch.linalg.det(turned), torch.ones(40, dtype=DOUBLE))
    torch.testing.assert_close(turned @ turned.mT, torch.eye(3, dtype=DOUBLE).expand(40, 3, 3))
    # What G should find for a person of the memory, in each of its cameras, is in the memory.
    for person in range(5):
        for camera in range(4):
            z = factors(world[person : person + 1] @ rot[person, camera].mT)
            torch.testing.assert_close(memory.canonical_m[person], z.canonical_m[0])
            torch.testing.assert_close(memory.camera_6d[4 * person + camera], to_6d(z.rot)[0])


def test_memory_does_not_depend_on_the_world_frame():
    world, rot = people(5), rig(5, 2)
    turn = rig(1, 1, seed=3)[0, 0]
    moved = remember(world @ turn.mT + torch.tensor([3.0, -2.0, 1.0], dtype=DOUBLE), rot @ turn.mT)
    still = remember(world, rot)
    torch.testing.assert_close(moved.canonical_m, still.canonical_m)
    torch.testing.assert_close(moved.camera_6d, still.camera_6d)


def test_convention_the_mirrored_half_is_the_mirrored_scene():
    """Convention: the second half is what the first half's people look like, really mirrored in the camera's x."""
    world, rot = people(4), rig(4, 3)
    memory = remember(world, rot)
    order = list(H36M17.mirrored)
    for person in range(4):
        for camera in range(3):
            seen = (world[person : person + 1] @ rot[person, camera].mT)[:, order] * joints_sign()
            z = factors(seen)
            torch.testing.assert_close(memory.canonical_m[4 + person], z.canonical_m[0])
            torch.testing.assert_close(memory.camera_6d[12 + 3 * person + camera], to_6d(z.rot)[0])


def test_a_rolled_memory_holds_the_same_cameras_turned_about_their_axis():
    world, rot = people(50), rig(50, 4)
    straight, rolled = remember(world, rot), remember(world, rot, 25.0)
    assert torch.equal(rolled.canonical_m, straight.canonical_m)
    between = from_6d(rolled.camera_6d) @ from_6d(straight.camera_6d).mT
    torch.testing.assert_close(between[:, 2], torch.tensor([0.0, 0, 1], dtype=DOUBLE).expand(400, 3))
    angle = torch.rad2deg(torch.atan2(between[:, 1, 0], between[:, 0, 0]))
    assert 24 < angle.max() <= 25.001
    assert -25.001 <= angle.min() < -24
    assert abs(angle.mean()) < 3


def test_pca_reconstructs_with_unit_coefficients():
    generator = torch.Generator().manual_seed(0)
    mean, directions = torch.randn(17, 3, dtype=DOUBLE), torch.randn(6, 51, dtype=DOUBLE)
    poses = mean + (torch.randn(300, 6, generator=generator, dtype=DOUBLE) @ directions).reshape(-1, 17, 3)
    basis = pca(poses, 6)
    assert basis.explained == pytest.approx(1.0, abs=1e-9)
    flat = basis.components_m.flatten(1)
    # Components are orthogonal, longest first.
    gram = flat @ flat.T
    torch.testing.assert_close(gram, torch.diag(gram.diagonal()), atol=1e-9, rtol=0)
    assert (gram.diagonal().diff() < 0).all()
    coefficients = (poses - basis.mean_m).flatten(1) @ torch.linalg.pinv(flat)
    torch.testing.assert_close(basis.mean_m + (coefficients @ flat).reshape(-1, 17, 3), poses)
    torch.testing.assert_close(coefficients.std(0), torch.ones(6, dtype=DOUBLE))


def test_the_basis_does_not_depend_on_the_order_of_the_poses_or_on_the_sign_lapack_took():
    poses = people(100)
    poses[:, 3] *= 3.0
    one, other = pca(poses, 5), pca(poses.flip(0), 5)
    torch.testing.assert_close(one.components_m, other.components_m, atol=1e-6, rtol=0)
    flat = one.components_m.flatten(1)
    assert (flat.gather(1, flat.abs().argmax(1, keepdim=True)) > 0).all()


def test_explained_variance_is_the_share_that_is_kept():
    poses = people(200)
    centred = (poses - poses.mean(0)).flatten(1)
    shares = []
    for components in (1, 10, 48):
        basis = pca(poses, components)
        flat = basis.components_m.flatten(1)
        kept = centred @ torch.linalg.pinv(flat) @ flat
        shares.append(basis.explained)
        assert basis.explained == pytest.approx(float(kept.square().sum() / centred.square().sum()), abs=1e-9)
    assert shares == sorted(shares)


@pytest.mark.parametrize(("poses", "components"), [(100, 49), (10, 11), (10, 0), (10, -1)])
def test_a_basis_of_impossible_size_is_refused(poses, components):
    with pytest.raises(UserError, match=f"1 to {min(48, poses)} components; got {components}"):
        pca(people(poses), components)


def test_a_memory_of_one_pose_has_a_basis_that_explains_nothing():
    basis = pca(people(1), 1)
    assert basis.components_m.abs().max() == 0
    assert math.isfinite(basis.explained)
