"""What the critics see: each view of the factors beside the same view of the memory."""

from dataclasses import replace

import pytest
import torch
from torch.autograd import gradcheck

from aign.geometry.camera import normalised
from aign.geometry.rotation import from_6d, from_axis_angle
from aign.geometry.skeleton import H36M17
from aign.geometry.torso import canonical
from aign.tasks.lifting.factors import PoseFactors
from aign.tasks.lifting.views import (
    joint_angles,
    kinematic_chain,
    picture,
    view_camera,
    view_chain,
    view_joints,
    view_picture,
    view_pose,
)
from tests.tasks.scenes import DOUBLE, people, scene

ALL = torch.ones(17, dtype=torch.bool)


def factors(there):
    pose, rot = canonical(there.joints_cam_m, H36M17)
    return PoseFactors(canonical_m=pose, rot=rot, trans_m=there.joints_cam_m[:, 0])


def test_pose_and_camera_are_the_factors_themselves():
    there = scene(3)
    z, seen = factors(there), there.observed()
    assert torch.equal(view_pose(z, seen).reshape(3, 17, 3), z.canonical_m)
    torch.testing.assert_close(from_6d(view_camera(z, seen)), z.rot)
    assert torch.equal(view_chain(z, seen), kinematic_chain(z.canonical_m))
    assert torch.equal(view_joints(z, seen), joint_angles(z.canonical_m))


def test_the_kinematic_chain_equals_a_plain_double_loop():
    pose = people(3)
    got = kinematic_chain(pose)
    for b in range(3):
        bones = [pose[b, child] - pose[b, parent] for child, parent in H36M17.bones]
        mean = sum(float(bone.norm()) for bone in bones) / 16
        want = [float(bones[i] @ bones[j]) / mean**2 for i in range(16) for j in range(i, 16)]
        torch.testing.assert_close(got[b], torch.tensor(want, dtype=DOUBLE))


def test_the_kinematic_chain_knows_neither_rotation_nor_place_nor_size_but_the_pose():
    pose = people(4)
    turn = from_axis_angle(torch.randn(4, 3, dtype=DOUBLE))
    torch.testing.assert_close(kinematic_chain(1.7 * pose @ turn.mT + 3.0), kinematic_chain(pose))
    assert not torch.allclose(kinematic_chain(pose[:1]), kinematic_chain(pose[1:2]), atol=1e-2)


def test_joints_are_the_pairs_of_bones_that_meet_pose_by_pose():
    """Thirteen: every bone but those that end at a hand, a foot or the crown, and three at the thorax."""
    pose = people(2)
    rows = joint_angles(pose)
    pairs = [
        (child, parent, lower) for child, parent in H36M17.bones for lower, start in H36M17.bones if start == child
    ]
    assert len(pairs) == 13
    assert rows.shape == (26, 6 + 13)
    for b in range(2):
        for number, (child, parent, lower) in enumerate(pairs):
            row = rows[13 * b + number]
            assert row[6:].tolist() == [float(number == other) for other in range(13)]
            torch.testing.assert_close(row[:3], pose[b, child] - pose[b, parent])
            torch.testing.assert_close(row[3:6], pose[b, lower] - pose[b, child])


def test_a_picture_is_about_its_pelvis_and_of_one_size():
    kp2d = torch.randn(5, 17, 2, dtype=DOUBLE)
    got = picture(kp2d, ALL)
    torch.testing.assert_close(picture(0.3 * kp2d - 7.0, ALL), got)
    flat = got.reshape(5, 17, 2)
    assert (flat[:, 0] == 0).all()
    torch.testing.assert_close(flat.norm(dim=-1).mean(-1), torch.ones(5, dtype=DOUBLE))
    assert not torch.allclose(picture(kp2d[:, :, [1, 0]], ALL), got, atol=0.1), "a turned picture is another one"


def test_the_unturned_view_is_the_picture_that_was_seen():
    """Seen about the optical axis, the other view without a turn is what the camera saw of the person."""
    there = scene(6)
    z, seen = factors(there), there.observed()
    on_axis = replace(z, trans_m=z.trans_m * torch.tensor([0.0, 0, 1]))
    assert torch.equal(seen.turn, torch.eye(3, dtype=DOUBLE).expand(6, 3, 3))
    torch.testing.assert_close(view_picture(on_axis, seen, shown=ALL), picture(normalised(on_axis.joints_m), ALL))
    torch.testing.assert_close(
        view_picture(z, seen, shown=ALL), view_picture(on_axis, seen, shown=ALL)
    )  # wherever the person stood


def test_convention_another_view_turns_the_person_about_the_pelvis_in_the_cameras_axes():
    """Convention: joints about the pelvis times turn, put back at their distance on the axis, then projected."""
    there = scene(4)
    z, seen = factors(there), there.observed()
    seen = replace(seen, turn=from_axis_angle(torch.randn(4, 3, dtype=DOUBLE)))
    got = view_picture(z, seen, shown=ALL).reshape(4, 17, 2)
    for i in range(4):
        rays = []
        for j in range(17):
            x, y, z_m = seen.turn[i] @ (there.joints_cam_m[i, j] - there.joints_cam_m[i, 0])
            far = z_m + there.joints_cam_m[i, 0, 2]
            rays.append(torch.stack((x / far, y / far)))
        rays = torch.stack(rays)
        torch.testing.assert_close(got[i], (rays - rays[0]) / (rays - rays[0]).norm(dim=1).mean())


def test_a_half_turn_shows_the_back():
    """What was right of the pelvis is left of it from behind: for a far and upright person, x is negated."""
    there = scene(3)
    z, seen = factors(there), there.observed()
    far = replace(z, trans_m=torch.tensor([0.0, 0, 1e4], dtype=DOUBLE).expand(3, 3))
    turn = torch.diag(torch.tensor([-1.0, 1.0, -1.0], dtype=DOUBLE)).expand(3, 3, 3)
    front, back = (view_picture(far, s, shown=ALL).reshape(3, 17, 2) for s in (seen, replace(seen, turn=turn)))
    torch.testing.assert_close(back, front * torch.tensor([-1.0, 1.0]), atol=1e-3, rtol=0)


def test_distance_is_no_way_to_please_the_critic_of_pictures():
    """The distance is given and not judged: else moving away would be a cheap answer."""
    there = scene(3)
    z, seen = factors(there), there.observed()
    trans, pose = z.trans_m.clone().requires_grad_(), z.canonical_m.clone().requires_grad_()
    view_picture(replace(z, trans_m=trans, canonical_m=pose), seen, shown=ALL).square().sum().backward()
    assert trans.grad is None or (trans.grad == 0).all()
    assert pose.grad.abs().sum() > 0


def picture_of_all(kp2d):
    return picture(kp2d, ALL)


SHAPES = {kinematic_chain: people(2), joint_angles: people(2), picture_of_all: people(2)[..., :2]}


@pytest.mark.parametrize("view", list(SHAPES))
@pytest.mark.parametrize("point", ["plain", "coincident", "one bone"])
def test_gradcheck_at_ugly_points(view, point):
    x = SHAPES[view].clone()
    if point == "coincident":
        x = torch.zeros_like(x)
    if point == "one bone":
        x[:, 2:] = x[:, 1:2]
    x.requires_grad_()
    out = view(x)
    assert out.isfinite().all()
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert grad.isfinite().all()
    if point == "plain":
        assert gradcheck(view, (x,))


def test_a_joint_that_is_not_shown_changes_nothing():
    shown, kp2d = ALL.clone(), people(5)[..., :2]
    shown[10] = False
    moved = kp2d.clone()
    moved[:, 10] += 5.0
    torch.testing.assert_close(picture(moved, shown), picture(kp2d, shown))
    assert not torch.allclose(picture(moved, ALL), picture(kp2d, ALL))
    assert (picture(kp2d, shown).reshape(5, 17, 2)[:, 10] == 0).all()
