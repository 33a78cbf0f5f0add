"""`lift` goes pixels -> rays -> virtual camera -> factors -> virtual joints -> camera; an oracle proves each turn."""

import torch

from aign.geometry.camera import Pinhole, project
from aign.tasks.lifting import LifterConfig, build_lifter, lift, render
from aign.tasks.lifting.observation import observe
from tests.tasks.scenes import DOUBLE, Oracle, people, scene


def test_convention_a_true_answer_comes_back_as_the_true_joints_in_the_camera():
    """Convention: `lift` returns joints in the camera of the pixels: +x right, +y down, +z forward, metres."""
    there = scene(9)
    _, rot = observe(there.kp2d_px, there.conf, there.camera)
    joints = lift(Oracle(there.joints_cam_m, rot), there.kp2d_px, there.conf, there.camera)
    torch.testing.assert_close(joints, there.joints_cam_m)
    torch.testing.assert_close(project(joints, there.camera), there.kp2d_px, atol=1e-6, rtol=0)


def test_rendering_the_truth_gives_what_was_seen():
    there = scene(9)
    seen, rot = observe(there.kp2d_px, there.conf, there.camera)
    z = Oracle(there.joints_cam_m, rot)(seen)
    torch.testing.assert_close(render(z, seen), seen.kp2d, atol=1e-6, rtol=0)
    torch.testing.assert_close(z.centred_m, there.observed().joints_m)


def test_chunks_change_nothing():
    there = scene(11)
    torch.manual_seed(0)
    lifter = build_lifter(LifterConfig(components=10, width=32, blocks=1), people(60)).double()
    whole = lift(lifter, there.kp2d_px, there.conf, there.camera)
    for chunk in (1, 4, 11, 100):
        torch.testing.assert_close(lift(lifter, there.kp2d_px, there.conf, there.camera, chunk), whole)
    _, rot = observe(there.kp2d_px, there.conf, there.camera)
    oracle = Oracle(there.joints_cam_m, rot)
    torch.testing.assert_close(lift(oracle, there.kp2d_px, there.conf, there.camera, 4), there.joints_cam_m)


def test_no_frames_give_no_joints():
    lifter = build_lifter(LifterConfig(components=3, width=8, blocks=1), people(10)).double()
    empty = torch.zeros(0, 17, 2, dtype=DOUBLE)
    assert lift(lifter, empty, empty[..., 0], Pinhole.of(torch.zeros(0, 4, dtype=DOUBLE))).shape == (0, 17, 3)
