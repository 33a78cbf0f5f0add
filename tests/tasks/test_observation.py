import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from aign.geometry.camera import normalised
from aign.geometry.rotation import from_axis_angle
from aign.tasks.lifting.observation import (
    MIN_HALF_EXTENT,
    Augmentation,
    augment,
    concatenate,
    labelled,
    mirror,
    observe,
)
from tests.tasks.scenes import DOUBLE, film, mirrored, same, scene

STILL = Augmentation(flip=0.0, drop=0.0, noise=0.0, roll_deg=0.0)


def plain_observe(kp2d_px, conf, intrinsics, distortion):
    """One window [t, 17, 2] in numpy: Newton's method on the lens, Rodrigues' formula for the turn, loops."""
    fx, fy, cx, cy = intrinsics
    k1, k2, k3, p1, p2 = distortion

    def bend(ray):
        x, y = ray
        r2 = x * x + y * y
        f = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + p1 * y + p2 * x
        return np.array([x * f + p2 * r2, y * f + p1 * r2])

    def straight(pixel):
        seen = np.array([(pixel[0] - cx) / fx, (pixel[1] - cy) / fy])
        ray = seen.copy()
        for _ in range(20):
            slope = np.stack([(bend(ray + d) - bend(ray - d)) / 2e-6 for d in 1e-6 * np.eye(2)], 1)
            ray = ray - np.linalg.solve(slope, bend(ray) - seen)
        return ray

    here = len(conf) // 2
    shown = np.array([straight(kp2d_px[here, j]) for j in range(17) if conf[here, j] > 0])
    middle = np.array([*(0.5 * (shown.min(0) + shown.max(0))), 1.0])
    middle /= np.linalg.norm(middle)
    axis = np.cross(middle, [0, 0, 1.0])
    angle = math.asin(np.linalg.norm(axis))
    rot = cv2.Rodrigues(axis / np.linalg.norm(axis) * angle)[0]
    flat = np.zeros((len(conf), 17, 2))
    for t in range(len(conf)):
        for j in range(17):
            if conf[t, j] > 0:
                x, y, z = rot @ [*straight(kp2d_px[t, j]), 1.0]
                flat[t, j] = x / z, y / z
    half = np.abs(flat[here]).max()
    return flat / half, half, rot


@pytest.mark.parametrize("count", [1, 3, 9])
def test_observe_equals_the_plain_reference(count):
    there = film([5, 3])
    there.conf[:, 3] = 0
    there.conf[2, 5:] = 0
    kp2d_px, conf = there.windows(count)
    seen, rot = observe(kp2d_px, conf, there.camera)
    for i in range(8):
        intrinsics = torch.cat((there.camera.focal_px[i], there.camera.centre_px[i])).numpy()
        kp2d, half, turn = plain_observe(
            kp2d_px[i].numpy(), conf[i].numpy(), intrinsics, there.camera.distortion[i].numpy()
        )
        np.testing.assert_allclose(seen.kp2d[i].numpy(), kp2d, atol=1e-6)
        np.testing.assert_allclose(seen.half_extent[i].item(), half, atol=1e-7)
        np.testing.assert_allclose(rot[i].numpy(), turn, atol=1e-7)
    assert torch.equal(seen.target2d, seen.kp2d[:, count // 2])
    assert torch.equal(seen.target2d_weight, there.conf)
    assert torch.equal(seen.conf, conf)
    assert (seen.joints_weight == 0).all()
    assert (seen.joints_m == 0).all()


def test_the_crop_is_filled_and_the_person_in_its_middle():
    seen = scene(20).observed()
    torch.testing.assert_close(seen.kp2d.abs().amax((1, 2, 3)), torch.ones(20, dtype=DOUBLE))
    low, high = seen.kp2d.amin(2), seen.kp2d.amax(2)
    assert (low + high).abs().max() < 0.1


def test_frames_do_not_depend_on_the_batch():
    there = scene(5)
    whole = there.observed()
    for i in range(5):
        alone = there.part(slice(i, i + 1)).observed()
        for name, value in vars(whole).items():
            torch.testing.assert_close(vars(alone)[name], value[i : i + 1])


def test_labels_are_centred_and_in_the_axes_of_the_virtual_camera():
    there = scene(4)
    seen, rot = observe(*there.window, there.camera)
    got = labelled(seen, rot, there.joints_cam_m, torch.ones(4, 17, dtype=torch.bool))
    for i in range(4):
        for j in range(17):
            want = rot[i] @ (there.joints_cam_m[i, j] - there.joints_cam_m[i, 0])
            torch.testing.assert_close(got.joints_m[i, j], want)
    assert (got.joints_weight == 1).all()
    assert torch.equal(got.kp2d, seen.kp2d)


def test_a_label_without_its_pelvis_is_none_and_other_joints_go_one_by_one():
    there = scene(3)
    valid = torch.ones(3, 17, dtype=torch.bool)
    valid[0, 0] = valid[1, 9] = False
    seen = there.observed(valid)
    assert (seen.joints_weight[0] == 0).all()
    assert (seen.joints_m[0] == 0).all()
    assert seen.joints_weight[1].tolist() == [1.0] * 9 + [0.0] + [1.0] * 7
    assert (seen.joints_m[1, 9] == 0).all()
    assert seen.joints_weight[2].sum() == 17


def test_mirror_twice_is_the_identity():
    seen = scene(5).observed()
    same(mirror(mirror(seen)), seen)
    assert not torch.equal(mirror(seen).kp2d, seen.kp2d)


def test_convention_mirror_equals_really_mirroring_the_person():
    """Convention: a mirrored observation is what the camera would see if the person stood mirrored before it."""
    there = scene(8, distortion=False)
    there.conf[:, 2] = 0  # a knee is hidden, so sides matter
    same(mirror(there.observed()), mirrored(there).observed(), tolerance=1e-9)
    there = film([4, 3], distortion=False)
    there.conf[::2, 2] = 0
    same(mirror(there.observed(count=3)), mirrored(there).observed(count=3), tolerance=1e-9)


@pytest.mark.parametrize("shown", [0, 1])
def test_frames_with_nothing_seen_stay_finite(shown):
    there = scene(3)
    there.conf[1] = 0
    there.conf[1, :shown] = 1
    there.kp2d_px[1, shown:] = torch.nan  # detectors leave anything there
    seen, rot = observe(*there.window, there.camera)
    for value in (*vars(seen).values(), rot, *vars(augment(seen, torch.arange(3), Augmentation())).values()):
        assert value.isfinite().all()
    assert seen.half_extent[1] == MIN_HALF_EXTENT
    torch.testing.assert_close(torch.linalg.det(rot), torch.ones(3, dtype=DOUBLE))
    assert seen.half_extent[0] > MIN_HALF_EXTENT


def test_an_unseen_keypoint_may_lie_anywhere():
    there = scene(3)
    there.conf[:, 6] = 0
    before, _ = observe(*there.window, there.camera)
    there.kp2d_px[:, 6] = 1e7
    after, _ = observe(*there.window, there.camera)
    same(after, before)
    assert (after.kp2d[:, 0, 6] == 0).all()


def many(count):
    """One frame of a scene, often."""
    part = scene(1).observed()
    return concatenate([part] * count)


def test_no_augmentation_changes_nothing():
    seen = scene(4).observed()
    same(augment(seen, torch.arange(4), STILL), seen, but=("turn",))


def test_augmentation_belongs_to_the_sample_not_to_the_batch():
    seen, seed = scene(9).observed(), 7919 * torch.arange(9) + 3
    whole = augment(seen, seed, Augmentation())
    order = torch.tensor([8, 2, 0, 5])
    part = type(seen)(**{name: value[order] for name, value in vars(seen).items()})
    same(augment(part, seed[order], Augmentation()), type(seen)(**{n: v[order] for n, v in vars(whole).items()}))
    again = augment(seen, seed + 1, Augmentation())
    assert not torch.equal(again.kp2d, whole.kp2d)


def test_probabilities_and_noise_are_what_was_asked_for():
    n = 4000
    seen = many(n)
    seed = torch.arange(n) * 104729
    how = Augmentation(flip=0.3, drop=0.2, noise=0.05, roll_deg=0.0)
    got = augment(seen, seed, how)
    flipped = (got.target2d == mirror(seen).target2d).all((1, 2))
    straight = (got.target2d == seen.target2d).all((1, 2))
    assert (flipped ^ straight).all()
    assert abs(flipped.double().mean() - 0.3) < 4 * math.sqrt(0.3 * 0.7 / n)
    hidden = got.conf[:, 0] == 0
    assert abs(hidden.double().mean() - 0.2) < 4 * math.sqrt(0.2 * 0.8 / n / 17)
    assert hidden.double().mean(0).sub(0.2).abs().max() < 5 * math.sqrt(0.2 * 0.8 / n)
    error = (got.kp2d[:, 0] - got.target2d)[~hidden]
    assert abs(error.std() - 0.05) < 0.001
    assert error.mean(0).abs().max() < 0.001
    # Independent of each other: hidden or noisy joints are no sign of a mirrored sample.
    assert abs(hidden[flipped].double().mean() - hidden[~flipped].double().mean()) < 0.02
    assert np.corrcoef(error[:, 0], error[:, 1])[0, 1] < 0.02


def test_a_mirrored_sample_is_mirrored_whole():
    seen = scene(6).observed()
    same(augment(seen, torch.arange(6), replace(STILL, flip=1.0)), mirror(seen), but=("turn",))


def test_convention_a_rolled_sample_is_what_a_turned_camera_sees():
    """Convention: joints and keypoints turn together about the optical axis of the virtual camera, +x towards +y."""
    there = scene(20)
    seen, seed = there.observed(), 31 * torch.arange(20)
    got = augment(seen, seed, replace(STILL, roll_deg=40.0))
    _, rot = observe(*there.window, there.camera)
    virtual_m = there.joints_cam_m @ rot.mT
    angles = []
    for i in range(20):
        (a, b) = (s.joints_m[i, 8] for s in (seen, got))
        angle = torch.atan2(a[0] * b[1] - a[1] * b[0], a[0] * b[0] + a[1] * b[1])
        turned = virtual_m[i] @ from_axis_angle(torch.stack((0 * angle, 0 * angle, angle))).mT
        torch.testing.assert_close(got.joints_m[i], turned - turned[0])
        torch.testing.assert_close(got.target2d[i] * got.half_extent[i], normalised(turned), atol=1e-6, rtol=0)
        angles.append(math.degrees(angle))
    assert min(angles) < -10
    assert max(angles) > 10
    torch.testing.assert_close(got.kp2d[:, 0], got.target2d)


@pytest.mark.parametrize("roll_deg", [0.0, 40.0])
def test_convention_another_view_is_a_turn_about_the_persons_vertical(roll_deg):
    """Convention: the vertical is the picture's y axis, which rolls with the picture; every angle is as likely."""
    seen, seed = many(1000), 31 * torch.arange(1000)
    got = augment(seen, seed, replace(STILL, roll_deg=roll_deg))
    a, b = (s.joints_m[:, 8, :2] for s in (seen, got))
    roll = torch.atan2(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], (a * b).sum(1))
    vertical = torch.stack((roll.sin(), -roll.cos(), 0 * roll), 1)  # where -y went
    torch.testing.assert_close((got.turn @ vertical.unsqueeze(-1)).squeeze(-1), vertical, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(got.turn), torch.ones(1000, dtype=DOUBLE))
    level = torch.stack((roll.cos(), roll.sin(), 0 * roll), 1).unsqueeze(-1)
    moved = (got.turn @ level).squeeze(-1)
    angle = torch.atan2(-moved[:, 2], (moved * level.squeeze(-1)).sum(1))
    counts = torch.histc(angle, 8, -math.pi, math.pi)
    assert (counts - 125).abs().max() < 50


def test_rolls_are_spread_evenly_and_either_way():
    seen = many(2000)
    got = augment(seen, torch.arange(2000), replace(STILL, roll_deg=30.0))
    thorax = 8
    a, b = (s.joints_m[:, thorax, :2] for s in (seen, got))
    angle = torch.rad2deg(torch.atan2(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], (a * b).sum(1)))
    assert 29 < angle.max() <= 30.001
    assert -30.001 <= angle.min() < -29
    assert abs(angle.mean()) < 4 * 30 / math.sqrt(3 * 2000)
    assert abs(angle.std() - 30 / math.sqrt(3)) < 0.6


def test_hidden_keypoints_do_not_leak_but_stay_targets():
    seen = scene(50).observed()
    got = augment(seen, torch.arange(50), replace(STILL, drop=0.4, noise=0.1))
    hidden = got.conf == 0
    assert 0.3 < hidden.double().mean() < 0.5
    assert (got.kp2d[hidden] == 0).all()
    assert torch.equal(got.target2d, seen.target2d)
    assert torch.equal(got.target2d_weight, seen.target2d_weight)
    assert torch.equal(got.joints_m, seen.joints_m)
    assert torch.equal(got.joints_weight, seen.joints_weight)


def test_all_keypoints_hidden_is_finite():
    got = augment(scene(3).observed(), torch.arange(3), Augmentation(drop=1.0))
    assert all(value.isfinite().all() for value in vars(got).values())
    assert (got.kp2d == 0).all()
