"""`lift` goes pixels -> rays -> virtual camera -> factors -> virtual joints -> camera; an oracle proves each turn."""

from dataclasses import replace

import pytest
import torch

from aign.geometry.camera import Pinhole, project
from aign.tasks.lifting import LifterConfig, build_lifter, lift, render
from aign.tasks.lifting.frames import Frames
from aign.tasks.lifting.observation import observe
from tests.tasks.scenes import DOUBLE, Oracle, film, people, scene

SMALL = LifterConfig(components=10, width=32, blocks=1)


def lifter(frames=1):
    torch.manual_seed(0)
    return build_lifter(replace(SMALL, frames=frames), people(60)).double()


@pytest.mark.parametrize("count", [1, 9])
def test_convention_a_true_answer_comes_back_as_the_true_joints_in_the_camera(count):
    """Convention: `lift` returns joints in the camera of the pixels: +x right, +y down, +z forward, metres."""
    there = film([5, 4])
    _, rot = observe(*there.window, there.camera)
    joints = lift(Oracle(there.joints_cam_m, rot, count), there.frames)
    torch.testing.assert_close(joints, there.joints_cam_m)
    torch.testing.assert_close(project(joints, there.camera), there.kp2d_px, atol=1e-6, rtol=0)


def test_rendering_the_truth_gives_what_was_seen():
    there = scene(9)
    seen, rot = observe(*there.window, there.camera)
    z = Oracle(there.joints_cam_m, rot)(seen)
    torch.testing.assert_close(render(z, seen), seen.target2d, atol=1e-6, rtol=0)
    torch.testing.assert_close(z.centred_m, there.observed().joints_m)


@pytest.mark.parametrize("frames", [1, 3])
def test_lift_is_one_forward_pass_over_the_windows(frames):
    there, net = film([4, 3]), lifter(frames)
    seen, rot = observe(*there.windows(frames), there.camera)
    torch.testing.assert_close(lift(net, there.frames), (net(seen).joints_m @ rot).detach())


@pytest.mark.parametrize("frames", [1, 9])
def test_chunks_change_nothing(frames):
    there, net = film([7, 1, 3]), lifter(frames)
    whole = lift(net, there.frames)
    for chunk in (1, 4, 11, 100):
        torch.testing.assert_close(lift(net, there.frames, chunk), whole)
    _, rot = observe(*there.window, there.camera)
    oracle = Oracle(there.joints_cam_m, rot, frames)
    torch.testing.assert_close(lift(oracle, there.frames, 4), there.joints_cam_m)


@pytest.mark.parametrize("frames", [3, 9])
def test_two_clips_together_are_each_alone(frames):
    there, net = film([6, 5]), lifter(frames)
    together = lift(net, there.frames)
    alone = [lift(net, there.frames.part(part)) for part in (slice(0, 6), slice(6, 11))]
    torch.testing.assert_close(together, torch.cat(alone))
    merged = lift(net, replace(there.frames, clip=torch.zeros_like(there.clip)))
    assert not torch.allclose(merged[5:7], together[5:7], atol=1e-4), "or the clips would not have mattered"


def test_a_frame_influences_those_within_reach_and_no_others():
    there, net = film([20, 5]), lifter(9)
    before = lift(net, there.frames)
    moved = there.kp2d_px.clone()
    moved[16] += 40 * torch.randn(17, 2)
    changed = (lift(net, replace(there.frames, kp2d_px=moved)) != before).flatten(1).any(1)
    assert changed.tolist() == [12 <= i < 20 for i in range(25)]


def test_part_and_length():
    frames = film([6, 5]).frames
    assert len(frames) == 11
    for index in (slice(2, 8), torch.tensor([9, 1, 1])):
        part = frames.part(index)
        assert torch.equal(part.kp2d_px, frames.kp2d_px[index])
        assert torch.equal(part.conf, frames.conf[index])
        assert torch.equal(part.clip, frames.clip[index])
        for name, value in vars(frames.camera).items():
            assert torch.equal(vars(part.camera)[name], value[index]), name
    there = frames.to(torch.device("meta"))
    values = (there.kp2d_px, there.conf, there.clip, *vars(there.camera).values())
    assert {value.device.type for value in values} == {"meta"}


@pytest.mark.parametrize("frames", [1, 9])
def test_no_frames_give_no_joints(frames):
    empty = torch.zeros(0, 17, 2, dtype=DOUBLE)
    nothing = Frames(
        kp2d_px=empty,
        conf=empty[..., 0],
        camera=Pinhole.of(torch.zeros(0, 4, dtype=DOUBLE)),
        clip=torch.zeros(0, dtype=torch.int64),
    )
    assert lift(lifter(frames), nothing).shape == (0, 17, 3)
