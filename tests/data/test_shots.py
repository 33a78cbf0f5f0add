from itertools import chain

import cv2
import numpy as np
import pytest

from aign.data import assets
from aign.data.stages.decode import read_range
from aign.data.stages.shots import CONTEXT_FRAMES, shot_cuts
from aign.data.stages.video_index import index_video


def cuts(frames) -> list[int]:
    """Numbers of the frames with which a new shot begins; the frames come through as they were."""
    frames = list(frames)
    marked = list(shot_cuts(iter(frames)))
    assert len(marked) == len(frames)
    assert all(given is got for given, (got, _) in zip(frames, marked, strict=True))
    return [i for i, (_, is_cut) in enumerate(marked) if is_cut]


def scene(seed: int, height: int = 400, width: int = 600) -> np.ndarray:
    """A picture with structure of all sizes and colours of its own."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), np.float32) + rng.integers(60, 190, 3)
    for cells in (4, 9, 30):
        noise = rng.normal(0, 30, (cells, cells, 3)).astype(np.float32)
        image += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image, 0, 255).astype(np.uint8)


def still(seed: int, n: int) -> list[np.ndarray]:
    """A camera at rest: the same picture with noise."""
    rng = np.random.default_rng(seed + 100)
    picture = scene(seed)[:120, :160].astype(np.int16)
    return [np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8) for _ in range(n)]


def pan(seed: int, n: int, step: int) -> list[np.ndarray]:
    """A camera that turns: a window that moves over a big picture."""
    big = scene(seed)
    return [np.ascontiguousarray(big[100:220, step * i : step * i + 160]) for i in range(n)]


def test_cuts_between_still_shots():
    assert cuts([*still(1, 20), *still(2, 20), *still(3, 20)]) == [20, 40]
    assert cuts([*still(1, 3), *still(2, 3)]) == [3]
    assert cuts([*still(1, 1), *still(2, 1)]) == [1]


def test_no_cut_where_nothing_happens():
    assert cuts(still(1, 30)) == []
    assert cuts([]) == []
    assert cuts(still(1, 1)) == []
    assert cuts([np.zeros((9, 16, 3), np.uint8)] * 20) == []


@pytest.mark.parametrize("step", [5, 15, 30])
def test_a_pan_is_no_cut(step):
    """Not while it lasts, not where it sets in and not where it stops."""
    moving = pan(4, 14, step)
    assert cuts([moving[0]] * 15 + moving + [moving[-1]] * 15) == []


def test_a_cut_into_a_pan_and_out_of_it():
    assert cuts([*still(1, 15), *pan(4, 15, 10), *still(2, 15)]) == [15, 30]


@pytest.mark.parametrize("length", [1, 2, 4])
def test_a_flash_is_no_cut(length):
    frames = still(1, 30)
    for i in range(12, 12 + length):
        frames[i] = np.clip(frames[i].astype(int) + 150, 0, 255).astype(np.uint8)
    assert cuts(frames) == []
    assert cuts([*frames, *still(2, 10)]) == [30], "a cut near by is still one"


def test_a_fade_is_no_hard_cut():
    a, b = scene(1)[:120, :160].astype(float), scene(2)[:120, :160].astype(float)
    fade = [(a * (1 - w) + b * w).astype(np.uint8) for w in np.linspace(0, 1, 12)]
    assert cuts([*still(1, 15), *fade, *still(2, 15)]) == []


def test_repeated_frames_do_not_make_motion_a_cut():
    """24 frames a second stored as 60: most changes are nothing, the others are ordinary motion."""
    moving = pan(4, 14, 12)
    assert cuts(chain.from_iterable([frame] * (2 + i % 2) for i, frame in enumerate(moving))) == []


def test_only_the_neighbourhood_decides():
    """Ranges that overlap by CONTEXT_FRAMES see the same cuts in what is theirs."""
    frames = [*still(1, 17), *pan(4, 15, 10), *still(2, 9), *still(3, 19)]
    whole = cuts(frames)
    assert whole == [17, 32, 41]
    for start in range(0, len(frames), 10):
        first = max(0, start - CONTEXT_FRAMES)
        part = cuts(frames[first : start + 10 + CONTEXT_FRAMES])
        assert [i + first for i in part if start <= i + first < start + 10] == [
            i for i in whole if start <= i < start + 10
        ]


@pytest.mark.network
def test_real_clips():
    assets.pull(["pose2sim", "pose2sim_two_people"])
    names = [f"pose2sim_cam{n:02d}" for n in (1, 2, 3)] + ["pose2sim_trial2_cam03", "pose2sim_trial2_cam04"]
    clips = []
    for name in names:
        path = assets.path(name)
        clips.append(list(read_range(path, index_video(path), 0, 40, 160)))
    assert cuts(chain.from_iterable(clips)) == [40, 80, 120, 160]  # 120: another recording by the same camera
    fast = clips[3][::8] + clips[4][::8]  # 7.5 frames a second
    assert cuts(fast) == [5]
