"""Clips become people: who goes on, who is new."""

import numpy as np

from aign.data.schema import ClipKey
from aign.inference.people import FollowedClip, people_of

JOINTS = 17
SHAPE = np.random.default_rng(0).uniform(-60, 60, (JOINTS, 2)).astype(np.float32)


def clip(start, frames, x, *, speed=2.0, size=1.0, seen=JOINTS):
    """Somebody at x who walks to the right."""
    way = np.stack((x + speed * np.arange(frames), np.full(frames, 200.0)), 1)
    kp = (way[:, None] + size * SHAPE).astype(np.float32)
    conf = np.ones((frames, JOINTS), np.float32)
    conf[:, seen:] = 0
    names = {"sequence": f"s{start}-{x}", "subject": "", "action": "", "camera": "", "source": ""}
    return FollowedClip(key=ClipKey(**names, frame_start=start, num_frames=frames, fps=30.0), kp2d_px=kp, conf=conf)


def starts(people):
    return [[c.key.frame_start for c in person] for person in people]


def test_clips_cut_at_a_block_are_one_person():
    a, b = clip(0, 40, 100), clip(40, 30, 180)
    assert starts(people_of([b, a])) == [[0, 40]]


def test_who_stands_elsewhere_or_comes_back_late_is_someone_new():
    a, elsewhere, late = clip(0, 40, 100), clip(40, 20, 500), clip(95, 20, 180)
    assert starts(people_of([a, elsewhere, late])) == [[0], [40], [95]]
    assert starts(people_of([a, clip(60, 20, 180)])) == [[0, 60]], "away for less than a second"
    assert len(people_of([a, clip(40, 20, 180, size=2.5)])) == 2, "after a cut to somebody nearer"


def test_two_side_by_side_keep_apart_whatever_the_order():
    near = [clip(0, 40, 100), clip(0, 40, 140), clip(40, 40, 180), clip(40, 40, 220)]
    for order in ((0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)):
        people = people_of([near[i] for i in order])
        assert sorted(c.key.sequence for c in people[0]) in (["s0-100", "s40-180"], ["s0-140", "s40-220"])
        assert len(people) == 2
        assert all(len(person) == 2 for person in people)


def test_the_largest_and_longest_comes_first():
    small, large = clip(0, 60, 100, size=0.3), clip(0, 60, 600)
    assert [person[0].key.sequence for person in people_of([small, large])] == ["s0-600", "s0-100"]


def test_ends_that_show_nothing_in_common_are_not_one_person():
    a, b = clip(0, 40, 100), clip(40, 30, 180)
    a.conf[:, :9], b.conf[:, 9:] = 0, 0
    assert len(people_of([a, b])) == 2
    b.conf[:] = 0
    assert len(people_of([a, b])) == 2
    assert people_of([]) == []
