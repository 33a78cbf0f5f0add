"""Windows of frames: which frames, what decides the crop, and augmentation that treats a window as one thing."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from aign.geometry.camera import normalised
from aign.tasks.lifting.frames import neighbours
from aign.tasks.lifting.observation import MIN_HALF_EXTENT, Augmentation, Observation, augment, mirror, observe
from tests.tasks.scenes import film, same

STILL = Augmentation(flip=0.0, drop=0.0, noise=0.0, roll_deg=0.0)


def plain_neighbours(clip, reach):
    rows = []
    for i in range(len(clip)):
        row = []
        for direction in (-1, 1):
            at, steps = i, []
            for _ in range(reach):
                if 0 <= at + direction < len(clip) and clip[at + direction] == clip[i]:
                    at += direction
                steps.append(at)
            row.append(steps)
        rows.append([*row[0][::-1], i, *row[1]])
    return rows


@pytest.mark.parametrize("reach", [0, 1, 4])
@pytest.mark.parametrize(
    "clip", [[5], [0, 0, 0], [0, 1, 2], [3, 3, 1, 1, 1, 1, 7], [0, 0, 1, 0, 0], [2] * 12 + [0] * 9]
)
def test_neighbours_equal_the_plain_reference(clip, reach):
    got = neighbours(torch.tensor(clip), reach)
    assert got.tolist() == plain_neighbours(clip, reach)


def test_at_its_ends_a_clip_goes_on_with_its_last_frame():
    assert neighbours(torch.tensor([4, 4, 4, 9]), 2).tolist() == [
        [0, 0, 0, 1, 2], [0, 0, 1, 2, 2], [0, 1, 2, 2, 2], [3, 3, 3, 3, 3]
    ]  # fmt: skip


@pytest.mark.parametrize("reach", [0, 3])
def test_no_frames_have_no_neighbours(reach):
    assert neighbours(torch.zeros(0, dtype=torch.int64), reach).shape == (0, 2 * reach + 1)


def test_frames_of_other_clips_never_mix():
    clip = torch.repeat_interleave(torch.arange(20), torch.randint(1, 12, (20,)))
    windows = neighbours(clip, 13)
    assert (clip[windows] == clip.unsqueeze(1)).all()
    assert (windows[:, 13] == torch.arange(len(clip))).all()
    assert (windows.diff(dim=1) >= 0).all()


def test_the_middle_frame_alone_decides_camera_crop_and_targets():
    there = film([9, 9])
    kp2d_px, conf = there.windows(9)
    seen, rot = observe(kp2d_px, conf, there.camera)
    other = kp2d_px + 300 * torch.randn(kp2d_px.shape)
    other[:, 4] = kp2d_px[:, 4]
    more = torch.rand(conf.shape, dtype=conf.dtype)
    more[:, 4] = conf[:, 4]
    moved, turn = observe(other, more, there.camera)
    assert torch.equal(turn, rot)
    for name in ("half_extent", "target2d", "target2d_weight"):
        assert torch.equal(vars(moved)[name], vars(seen)[name]), name
    assert torch.equal(moved.kp2d[:, 4], seen.kp2d[:, 4])
    assert not torch.isclose(moved.kp2d[:, :4], seen.kp2d[:, :4]).any()


def test_the_middle_of_a_window_is_what_a_single_frame_gives():
    there = film([6, 2])
    (alone, rot), (window, turn) = (observe(*there.windows(t), there.camera) for t in (1, 9))
    torch.testing.assert_close(turn, rot)
    torch.testing.assert_close(window.kp2d[:, 4:5], alone.kp2d)
    for name in ("half_extent", "target2d", "target2d_weight", "joints_m", "joints_weight"):
        torch.testing.assert_close(vars(window)[name], vars(alone)[name])


def test_convention_neighbours_are_seen_by_the_middle_frames_camera():
    """Convention: every frame of a window is in the crop of the middle one, so a standing camera shows real motion."""
    there = film([7, 5])
    seen, rot = observe(*there.windows(3), there.camera)
    index = neighbours(there.clip, 1)
    for i in range(12):
        for k in range(3):
            rays = normalised(there.joints_cam_m[index[i, k]] @ rot[i].mT)
            torch.testing.assert_close(seen.kp2d[i, k] * seen.half_extent[i], rays, atol=1e-6, rtol=0)
    assert (seen.kp2d[1, 0] - seen.kp2d[1, 2]).abs().max() > 0.01


def test_a_middle_frame_with_nothing_seen_stays_finite():
    there = film([5])
    there.conf[2] = 0
    there.kp2d_px[2] = torch.nan
    seen, rot = observe(*there.windows(3), there.camera)
    for value in (*vars(seen).values(), rot, *vars(augment(seen, torch.arange(5), Augmentation())).values()):
        assert value.isfinite().all()
    assert seen.half_extent[2] == MIN_HALF_EXTENT
    assert (seen.kp2d[1, 2] == 0).all()
    assert (seen.conf[1, 2] == 0).all()


def windows(samples: int, count: int = 9) -> Observation:
    """Windows of walking people, the person of every sample another."""
    return film([1] * samples).observed(count=count)


def test_a_window_is_mirrored_whole():
    seen = film([5, 4]).observed(count=3)
    same(augment(seen, torch.arange(9), replace(STILL, flip=1.0)), mirror(seen), but=("turn",))
    same(mirror(mirror(seen)), seen)
    for k in range(3):
        alone = Observation(**{**vars(seen), "kp2d": seen.kp2d[:, k : k + 1], "conf": seen.conf[:, k : k + 1]})
        assert torch.equal(mirror(alone).kp2d[:, 0], mirror(seen).kp2d[:, k])
        assert torch.equal(mirror(alone).conf[:, 0], mirror(seen).conf[:, k])


def test_some_windows_are_mirrored_and_none_in_part():
    seen = film([6] * 10).observed(count=3)
    got = augment(seen, torch.arange(60), replace(STILL, flip=0.5))
    reflected = (got.kp2d == mirror(seen).kp2d).flatten(1).all(1)
    straight = (got.kp2d == seen.kp2d).flatten(1).all(1)
    assert (reflected ^ straight).all()
    assert 15 < reflected.sum() < 45


def test_a_window_turns_as_one_with_its_target_and_label():
    seen = film([6, 6]).observed(count=9)
    got = augment(seen, 31 * torch.arange(12), replace(STILL, roll_deg=40.0))
    angles = []
    for i in range(12):
        a, b = seen.target2d[i, 10], got.target2d[i, 10]
        angle = math.atan2(a[0] * b[1] - a[1] * b[0], a[0] * b[0] + a[1] * b[1])
        turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]).double()
        torch.testing.assert_close(got.target2d[i], seen.target2d[i] @ turn.mT, atol=1e-6, rtol=0)
        torch.testing.assert_close(got.joints_m[i, :, :2], seen.joints_m[i, :, :2] @ turn.mT, atol=1e-6, rtol=0)
        for k in range(9):
            torch.testing.assert_close(got.kp2d[i, k], seen.kp2d[i, k] @ turn.mT, atol=1e-6, rtol=0)
        angles.append(math.degrees(angle))
    assert min(angles) < -10
    assert max(angles) > 10


def test_keypoints_are_hidden_and_disturbed_in_each_frame_anew():
    seen = windows(600, 3)
    got = augment(seen, 104729 * torch.arange(600), replace(STILL, drop=0.3, noise=0.05))
    hidden = got.conf == 0
    assert (hidden.double().mean((0, 2)) - 0.3).abs().max() < 0.02
    assert (got.kp2d[hidden] == 0).all()
    both = (hidden[:, 0] & hidden[:, 1]).double().mean()
    assert abs(both - 0.09) < 0.01, "two frames hide their keypoints independently"
    error = torch.where(hidden.unsqueeze(-1), torch.nan, got.kp2d - seen.kp2d).numpy()
    np.testing.assert_allclose(np.nanstd(error, axis=(0, 2, 3)), 0.05, atol=0.001)
    shown = ~hidden[:, 0] & ~hidden[:, 1]
    assert abs(np.corrcoef(error[:, 0][shown].ravel(), error[:, 1][shown].ravel())[0, 1]) < 0.03
    same(got, seen, but=("kp2d", "conf", "turn"))


def test_augmentation_of_a_window_belongs_to_the_sample():
    seen, seed = windows(6), 7919 * torch.arange(6) + 3
    whole = augment(seen, seed, Augmentation())
    order = torch.tensor([5, 2, 0])
    part = Observation(**{name: value[order] for name, value in vars(seen).items()})
    same(augment(part, seed[order], Augmentation()), Observation(**{n: v[order] for n, v in vars(whole).items()}))
