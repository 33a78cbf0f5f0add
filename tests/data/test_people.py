"""The tracker's rules on a scripted world without nets, then on real videos of two people."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from aign.data import assets
from aign.data.stages.blazepose import BlazePose, get_detector
from aign.data.stages.blazepose_nets import Landmarks, Region, Square
from aign.data.stages.crops import largest_component, square_crop, warp_mask
from aign.data.stages.decode import read_range
from aign.data.stages.people import (
    DETECT_EVERY,
    MAX_LOST_FRAMES,
    MAX_PEOPLE,
    MIN_TRACK_FRAMES,
    NEW_FLAG,
    PeopleTracker,
    PersonTrack,
)
from aign.data.stages.video_index import index_video

RADIUS = 40.0
SHAPE = np.random.default_rng(0).uniform(-0.6, 0.6, (39, 2)) * RADIUS
Place = tuple[float, float]


@dataclass
class World:
    """Stands for the nets: people are at given places in each frame, drawn as white dots for the detector to find.

    A frame's number is in its corner pixel. The landmark net sees whoever is nearest to the middle of its region. Who
    is small is not found in the whole frame; of who is unlikely the net is not sure.
    """

    places: list[dict[str, Place]]
    hidden_from_net: set[tuple[int, str]] = field(default_factory=set)
    small: set[str] = field(default_factory=set)
    flags: dict[str, float] = field(default_factory=dict)
    detections: list[int] = field(default_factory=list)

    def frames(self, start: int = 0, stop: int | None = None) -> list[np.ndarray]:
        frames = []
        for number, people in list(enumerate(self.places))[start:stop]:
            frame = np.zeros((300, 600, 3), np.uint8)
            frame[0, 0, 0] = number
            for x, y in people.values():
                frame[int(y), int(x)] = 255
            frames.append(frame)
        return frames

    def detect(self, frame: np.ndarray, square: Square) -> list[Region | None]:
        number, (left, up, side) = int(frame[0, 0, 0]), square
        self.detections.append(number)
        return [
            self.region(place)
            for name, place in self.places[number].items()
            if frame[int(place[1]), int(place[0])].min() == 255
            and (number, name) not in self.hidden_from_net
            and left <= place[0] < left + side
            and up <= place[1] < up + side
            and (side < max(frame.shape) or name not in self.small)
        ]

    def landmarks(self, frame: np.ndarray, region: Region) -> Landmarks:
        number = int(frame[0, 0, 0])
        seen = {n: p for n, p in self.places[number].items() if (number, n) not in self.hidden_from_net}
        away = {name: np.hypot(*(region.centre_px - place)) for name, place in seen.items()}
        name = min(away, key=away.__getitem__, default=None)
        found = name is not None and away[name] < RADIUS
        points = np.array(seen[name] if found else (0.0, 0.0)) + SHAPE
        if found:
            points[33], points[34] = seen[name], np.array(seen[name]) - (0, RADIUS)
        return Landmarks(
            points_px=points,
            conf=np.full(39, 0.9),
            flag=self.flags.get(name, NEW_FLAG) if name is not None and found else 0.1,
            world_m=np.zeros((39, 3)),
            mask_logits=np.full((256, 256), 5.0 if found else -5.0, np.float32),
        )

    @staticmethod
    def region(place: Place) -> Region:
        region = Region.around(np.array(place, float), np.array(place, float) - (0, RADIUS))
        assert region is not None
        return region

    def tracker(self) -> PeopleTracker:
        return PeopleTracker(Scripted(Path("none"), Path("none"), world=self))


@dataclass(frozen=True)
class Scripted(BlazePose):
    world: World | None = None

    def nets(self):
        return self.world


def people(n: int, **tracks) -> list[dict[str, Place]]:
    """n frames; each person is where the function of the frame's number says, or nowhere (None)."""
    return [{name: place for name, at in tracks.items() if (place := at(i)) is not None} for i in range(n)]


def spans(tracks: list[PersonTrack]) -> list[tuple[int, int, int]]:
    return [(t.person, t.first_frame, t.num_frames) for t in tracks]


def test_two_people_have_a_track_each():
    world = World(people(30, a=lambda i: (100 + i, 100), b=lambda i: (300, 150)))
    tracks = world.tracker().track(world.frames(), 1000)
    assert spans(tracks) == [(0, 1000, 30), (1, 1000, 30)]
    assert np.allclose(tracks[0].kp2d_px[7], np.array((107, 100)) + SHAPE[:33] - 0.5)
    assert (tracks[0].flag == np.float32(0.9)).all()
    assert tracks[0].masks.shape == (30, 256, 256)
    assert tracks[0].num_frames >= MIN_TRACK_FRAMES


def test_one_run_a_frame_and_few_detections():
    world = World(people(46, a=lambda i: (100 + i, 100)))
    world.tracker().track(world.frames(), 0)
    assert sorted(set(world.detections)) == [0, DETECT_EVERY, 2 * DETECT_EVERY, 3 * DETECT_EVERY]


def test_who_comes_later_is_found_at_the_next_search():
    world = World(people(40, a=lambda i: (100, 100), b=lambda i: (400, 100) if i > 3 else None))
    assert spans(world.tracker().track(world.frames(), 0)) == [(0, 0, 40), (1, DETECT_EVERY, 40 - DETECT_EVERY)]


def test_who_is_small_in_the_picture_is_found_in_parts_of_it_every_so_often():
    world = World(people(40, a=lambda i: (500, 250), b=lambda i: (60, 40) if i > 3 else None), small={"a", "b"})
    assert spans(world.tracker().track(world.frames(), 0)) == [(0, 0, 40), (1, DETECT_EVERY, 40 - DETECT_EVERY)]
    world = World(people(2 * DETECT_EVERY, a=lambda i: (500, 250) if i > 3 else None), small={"a"})
    assert spans(world.tracker().track(world.frames(), 0)) == [(0, DETECT_EVERY, DETECT_EVERY)]


def test_who_is_new_beside_others_has_to_be_far_and_sure():
    def found(apart: float, flag: float) -> list[tuple[int, int, int]]:
        beside = people(40, a=lambda i: (200, 100), b=lambda i: (200 + apart * RADIUS, 100) if i > 3 else None)
        world = World(beside, flags={"b": flag})
        return spans(world.tracker().track(world.frames(), 0))

    whole, later = (0, 0, 40), (1, DETECT_EVERY, 40 - DETECT_EVERY)
    assert found(2.0, 0.95) == [whole, later]
    assert found(2.0, 0.85) == [whole]
    assert found(0.5, 0.95) == [whole]


def test_who_is_doubtful_at_first_is_forgotten_and_who_was_alone_is_not():
    alone = World(people(40, a=lambda i: (200, 100)), flags={"a": 0.6})
    assert spans(alone.tracker().track(alone.frames(), 0)) == [(0, 0, 40)]
    world = World(people(80, a=lambda i: (200, 100), b=lambda i: (400, 100) if i > 3 else None))
    tracker, frames = world.tracker(), world.frames()
    assert spans(tracker.track(frames[:20], 0)) == [(0, 0, 20), (1, DETECT_EVERY, 5)]
    world.flags["b"] = 0.8
    assert spans(tracker.track(frames[20:25], 20)) == [(0, 20, 5), (1, 20, 1)]
    world.flags["b"] = 1.0
    assert spans(tracker.track(frames[25:50], 25)) == [(0, 25, 25), (2, 2 * DETECT_EVERY, 20)]
    world.flags["b"] = 0.8
    assert len(tracker.track(frames[50:], 50)) == 2, "doubtful no more"


def test_nobody_is_searched_for_in_every_frame():
    world = World(people(9, a=lambda i: (100, 100) if i == 5 else None))
    assert spans(world.tracker().track(world.frames(), 0)) == [(0, 5, 1)]
    assert set(range(6)) <= set(world.detections)
    assert World(people(3)).tracker().track(World(people(3)).frames(), 0) == []
    assert World(people(3)).tracker().track([], 0) == []


def test_lost_for_a_moment_keeps_the_id():
    gone = {(i, "a") for i in range(10, 10 + MAX_LOST_FRAMES)}
    world = World(people(30, a=lambda i: (100 + i, 100), b=lambda i: (300, 100)), gone)
    tracks = world.tracker().track(world.frames(), 0)
    assert sorted(spans(tracks)) == [(0, 0, 30), (1, 0, 30)]
    (track,) = (t for t in tracks if t.person == 0)
    lost = track.flag < 0.5
    assert np.flatnonzero(lost).tolist() == list(range(10, 15))
    assert not track.kp2d_px[lost].any()
    assert not track.conf[lost].any()
    assert not track.masks[lost].any()
    assert (np.abs(np.linalg.det(track.mask_to_frame[..., :2])) > 0.01).all(), "a mask can be warped all the same"


def test_lost_for_longer_is_somebody_new():
    gone = {(i, "a") for i in range(10, 11 + MAX_LOST_FRAMES)}
    world = World(people(30, a=lambda i: (100 + i, 100)), gone)
    assert spans(world.tracker().track(world.frames(), 0)) == [(1, 16, 14), (0, 0, 10)]


@pytest.mark.parametrize(("moved_px", "ids"), [(10, [0]), (25, [0]), (35, [0, 1])])
def test_a_jump_is_looked_at_twice(moved_px, ids):
    """The net finds somebody in the region: near, the same; far, lost and detected again; farther, somebody else."""
    world = World(people(20, a=lambda i: (100 if i < 10 else 100 + moved_px, 100)))
    tracks = world.tracker().track(world.frames(), 0)
    assert sorted(t.person for t in tracks) == ids
    assert (10 in world.detections) == (moved_px > 10)


def test_two_tracks_never_stay_on_one_person():
    """b leaves behind a: b's region shows a, who keeps the id."""
    world = World(people(30, a=lambda i: (200, 100), b=lambda i: (280 - 6 * i, 100) if i < 12 else None))
    tracks = world.tracker().track(world.frames(), 0)
    assert spans(tracks)[0] == (0, 0, 30)
    (b,) = tracks[1:]
    assert b.first_frame == 0
    assert b.num_frames <= 13
    for i in range(b.num_frames):
        if b.flag[i] > 0:
            assert np.abs(b.kp2d_px[i] - tracks[0].kp2d_px[i]).mean() > 0.05 * RADIUS


def test_people_who_pass_each_other_keep_their_ids():
    world = World(people(60, a=lambda i: (100 + 5 * i, 100), b=lambda i: (400 - 5 * i, 130)))
    tracks = sorted(world.tracker().track(world.frames(), 0), key=lambda t: t.person)
    assert [t.num_frames for t in tracks] == [60, 60]
    assert np.allclose(tracks[0].kp2d_px[50, 0], (350, 100) + SHAPE[0] - 0.5)


def test_no_more_than_the_most_people():
    world = World(people(20, **{f"p{k}": lambda i, k=k: (40 + 90 * k, 100) for k in range(6)}))
    assert len(world.tracker().track(world.frames(), 0)) == MAX_PEOPLE


def test_the_main_person_comes_first_and_short_tracks_are_marked():
    world = World(people(40, a=lambda i: (100, 100) if i < 10 else None, b=lambda i: (300, 100)))
    tracks = world.tracker().track(world.frames(), 0)
    assert [(t.person, t.num_frames < MIN_TRACK_FRAMES) for t in tracks] == [(1, False), (0, True)]
    assert MIN_TRACK_FRAMES == 16


def test_blocks_change_nothing_and_keep_ids():
    gone = {(i, "a") for i in range(12, 16)}
    world = World(people(40, a=lambda i: (100 + i, 100), b=lambda i: (300, 150) if i > 20 else None), gone)
    (first, *_) = whole = world.tracker().track(world.frames(), 0)
    tracker = world.tracker()
    blocks = [tracker.track(world.frames(s, s + 14), s) for s in range(0, 40, 14)]
    assert {t.person for block in blocks for t in block} == {t.person for t in whole}
    for block in blocks:
        for part in block:
            (same,) = (t for t in whole if t.person == part.person)
            at = slice(part.first_frame - same.first_frame, part.first_frame - same.first_frame + part.num_frames)
            for column in ("kp2d_px", "conf", "flag", "masks", "mask_to_frame"):
                assert (getattr(part, column) == getattr(same, column)[at]).all()
    assert first.num_frames == 40


def test_a_new_shot_forgets_everybody():
    world = World(people(20, a=lambda i: (100, 100)))
    tracker = world.tracker()
    (before,) = tracker.track(world.frames(0, 10), 0)
    tracker.new_shot()
    (after,) = tracker.track(world.frames(10), 10)
    assert (before.person, after.person) == (0, 1)


@pytest.fixture(scope="module")
def pose() -> BlazePose:
    assets.pull(["pose", "pose2sim", "pose2sim_two_people"])
    return get_detector()


def frames_of(name: str, start: int, stop: int, step: int = 1) -> list[np.ndarray]:
    path = assets.path(name)
    return list(read_range(path, index_video(path), start, stop, 640))[::step]


@pytest.mark.network
def test_one_person_is_followed_as_by_the_plain_tracker(pose):
    frames = frames_of("pose2sim_cam02", 0, DETECT_EVERY + 2)
    (track, *_) = PeopleTracker(pose).track(frames, 0)
    plain = pose.track(frames)
    assert (track.kp2d_px == plain.kp2d_px).all()
    assert (track.conf == plain.kp2d_conf).all()
    assert (track.flag == plain.flag).all()


def is_in_white(frame: np.ndarray, kp2d_px: np.ndarray) -> bool:
    """The woman wears a white shirt, the man none: the middle of the back or chest tells who it is."""
    x, y = kp2d_px[[11, 12, 23, 24]].mean(0).round().astype(int)
    red, _, blue = frame[y - 3 : y + 4, x - 3 : x + 4].reshape(-1, 3).mean(0)
    return bool(red - blue < 25)


@pytest.mark.network
@pytest.mark.parametrize("camera", [3, 4])
def test_two_real_people_keep_their_ids(pose, camera):
    """Every eighth frame: 7.5 a second, so that people move far between frames. He passes close in front of her."""
    frames = frames_of(f"pose2sim_trial2_cam{camera:02d}", 0, 100, 8)
    tracks = [t for t in PeopleTracker(pose).track(frames, 0) if t.num_frames > 6]
    assert len(tracks) == 2
    who = []
    for track in tracks:
        assert (track.flag >= 0.5).sum() >= 11, "of 13 frames"
        white = [
            is_in_white(frames[track.first_frame + i], track.kp2d_px[i])
            for i in range(track.num_frames)
            if track.flag[i] >= 0.5
        ]
        assert max(np.mean(white), 1 - np.mean(white)) > 0.85
        who.append(np.mean(white) > 0.5)
    assert sorted(who) == [False, True]


@pytest.mark.network
def test_trees_and_parts_of_people_are_nobody():
    """He stands on a roof and swings his arms, she walks in from the edge; behind them trees against the sun."""
    assets.pull(["pose", "sports2d"])
    tracks = PeopleTracker(get_detector()).track(frames_of("sports2d_demo", 0, 140), 0)
    he, she = (t for t in tracks if t.num_frames >= MIN_TRACK_FRAMES)
    assert he.num_frames >= 138
    assert she.first_frame <= 60
    assert she.num_frames >= 80
    assert (he.kp2d_px[10:, 0, 0] < 320).all()
    assert (she.kp2d_px[:40, 0, 0] > 320).all()


@pytest.mark.network
def test_convention_masks_lie_on_the_person(pose):
    """The mask warped into the person's crop is one big part around the landmarks, in whatever crop."""
    (frame,) = frames_of("pose2sim_cam02", 5, 6)
    (track, *_) = PeopleTracker(pose).track([frame], 0)
    crop = square_crop(track.kp2d_px, track.conf)
    mask = warp_mask(track.masks[0], track.mask_to_frame[0], crop, 128)
    assert 0.05 < mask.mean() < 0.5
    assert (largest_component(mask) == mask).all()
    body = [11, 12, 23, 24, 25, 26, 13, 14]
    inside = ((track.kp2d_px[0, body] - crop[:2]) * 128 / (crop[2] - crop[0]) - 0.5).round().astype(int)
    assert mask[inside[:, 1], inside[:, 0]].mean() > 0.9
