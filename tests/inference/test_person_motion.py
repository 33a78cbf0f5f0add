"""From bodies of single frames to one person's motion: gaps, shape, floor, up, feet."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aign.body.assets import load_body
from aign.body.soles import sole_heights_m
from aign.data.motions import load_demo_motions
from aign.geometry.rotation import from_axis_angle
from aign.inference.body_predictor import FrameBodies
from aign.inference.person_motion import World, grounded, placed, posed_joints, tidied, world_surfaces
from aign.inference.upright import LEVEL_UP_CAM, find_up

BODY = load_body()
WORLD_TO_CAM = np.diag([1.0, -1.0, -1.0]).astype(np.float32)
ABOUT = {"name": "walk", "source": "walk.mp4", "licence": "CC0"}


def walk():
    """An embedded motion in which somebody walks."""
    (motion,) = (m for m in load_demo_motions() if m.name.endswith("walk"))
    return motion


def filmed(motion, tilt_rad=0.0, roll_rad=0.0):
    """The motion as a camera sees it that stands 1 m high and 4 m away, tilted and rolled."""
    turn = from_axis_angle(torch.tensor([[tilt_rad, 0.0, 0.0], [0.0, 0.0, roll_rad]])).numpy()
    turn = (turn[1] @ turn[0] @ WORLD_TO_CAM).astype(np.float32)
    rotmats = motion.rotmats.copy()
    rotmats[:, 0] = turn @ rotmats[:, 0]
    pelvis = ((motion.trans_m - np.float32((0, 1, 4))) @ turn.T).astype(np.float32)
    betas = np.tile(np.linspace(-1, 1, 10, dtype=np.float32), (len(pelvis), 1))
    joints = posed_joints(BODY, rotmats, betas, pelvis)
    return FrameBodies(rotmats=rotmats, betas=betas, pelvis_cam_m=pelvis, joints_cam_m=joints)


def seen_of(bodies, fps=30.0):
    return placed([(0, bodies)], len(bodies.betas), fps)


def level(seen):
    return World(up_cam=LEVEL_UP_CAM, origin_cam_m=seen.bodies.pelvis_cam_m[0])


def part(bodies, frames):
    return FrameBodies(**{name: value[frames] for name, value in vars(bodies).items()})


def test_convention_a_level_camera_gives_the_motion_back():
    motion = walk()
    seen = seen_of(filmed(motion), motion.fps)
    got = grounded(seen, BODY, level(seen), **ABOUT)
    np.testing.assert_allclose(got.motion.rotmats, motion.rotmats, atol=1e-5)
    moved = got.motion.trans_m - motion.trans_m
    np.testing.assert_allclose(moved, np.broadcast_to(moved[:1], moved.shape), atol=1e-5)
    assert got.motion.trans_m[0, [0, 2]] == pytest.approx([0, 0], abs=1e-6)
    joints = posed_joints(BODY, got.motion.rotmats, np.tile(got.betas, (len(moved), 1)), got.motion.trans_m)
    lowest = sole_heights_m(BODY, joints).min((1, 2))
    assert np.percentile(lowest, 5) == pytest.approx(0, abs=1e-5), "it stands on the floor"
    first = next(iter(world_surfaces(got)))
    assert first[:, 1].min() == pytest.approx(0, abs=0.08)
    assert first[:, 1].max() == pytest.approx(1.7, abs=0.3)


@pytest.mark.parametrize(("tilt_deg", "roll_deg"), [(0, 0), (15, 0), (-10, 20)])
def test_a_camera_that_is_held_askew_is_noticed_from_somebody_who_walks(tilt_deg, roll_deg):
    motion = walk()
    seen = seen_of(filmed(motion, np.radians(tilt_deg), np.radians(roll_deg)), motion.fps)
    up = find_up(seen)
    assert "feet" in up.how
    got = grounded(seen, BODY, World(up_cam=up.up_cam, origin_cam_m=seen.bodies.pelvis_cam_m[0]), **ABOUT)
    spine = np.array([0, 1, 0]) @ got.motion.rotmats[:, 0].mean(0) @ np.array([0, 1, 0])
    assert spine > 0.97
    turn = World(up_cam=up.up_cam, origin_cam_m=np.zeros(3, np.float32)).cam_to_world
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(turn) == pytest.approx(1, abs=1e-6)


def test_who_rolls_on_the_floor_does_not_say_where_up_is():
    (roll,) = (m for m in load_demo_motions() if m.name.endswith("roll"))
    up = find_up(seen_of(filmed(roll), roll.fps))
    np.testing.assert_array_equal(up.up_cam, LEVEL_UP_CAM)
    assert "level" in up.how


def test_gaps_are_filled_on_the_way_ends_are_held_and_all_frames_have_one_shape():
    bodies = filmed(walk())
    bodies.betas[3] += 9
    seen = placed([(5, part(bodies, slice(5, 12))), (20, part(bodies, slice(20, 30)))], 40, 30.0)
    assert np.flatnonzero(seen.known).tolist() == [*range(5, 12), *range(20, 30)]
    whole = tidied(seen, BODY, "none")
    for value in vars(whole.bodies).values():
        assert np.isfinite(value).all()
    np.testing.assert_array_equal(whole.known, seen.known)
    np.testing.assert_allclose(whole.bodies.rotmats[5:12], bodies.rotmats[5:12], atol=1e-5)
    np.testing.assert_allclose(whole.bodies.pelvis_cam_m[0], bodies.pelvis_cam_m[5], atol=1e-6)
    np.testing.assert_allclose(whole.bodies.pelvis_cam_m[39], bodies.pelvis_cam_m[29], atol=1e-6)
    middle = whole.bodies.pelvis_cam_m[12:20]
    line = np.linspace(bodies.pelvis_cam_m[11], bodies.pelvis_cam_m[20], 10)[1:-1]
    np.testing.assert_allclose(middle, line, atol=1e-5)
    assert (whole.bodies.betas == whole.bodies.betas[0]).all()
    np.testing.assert_allclose(whole.bodies.betas[0], np.linspace(-1, 1, 10), atol=1e-6)


def test_feet_stand_where_they_do_and_nobody_stands_who_is_not_seen():
    motion = walk()
    bodies = filmed(motion)
    seen = seen_of(bodies, motion.fps)
    contact = grounded(seen, BODY, level(seen), **ABOUT).contact
    assert contact.any(1).mean() > 0.6, "somebody who walks stands on one foot or the other"
    assert 0.2 < contact.mean() < 0.9
    assert (~contact).any(0).all(), "and lifts each"
    jumping = replace(
        motion, trans_m=motion.trans_m + np.float32((0, 0.5, 0)) * (np.arange(len(motion.trans_m)) > 20)[:, None]
    )
    seen = seen_of(filmed(jumping), motion.fps)
    assert not grounded(seen, BODY, level(seen), **ABOUT).contact[22:].any()
    hidden = replace(seen, known=np.arange(len(seen.known)) < 5)
    assert not grounded(hidden, BODY, level(seen), **ABOUT).contact[5:].any()
