"""Several people followed through the frames of one shot after another, one landmark net run a frame and person.

Convention: pixels (0, 0) at the centre of the top-left pixel of the frames given, x right, y down, left = the
person's left.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from aign.data.stages.blazepose import MIN_FLAG, NUM_LANDMARKS, BlazePose
from aign.data.stages.blazepose_nets import MASK_SIDE_PX, Landmarks, Region, closer, whole

MAX_PEOPLE = 4
DETECT_EVERY = 15
"""Frames between searches for further people while somebody is followed, and for people who are small."""
MAX_LOST_FRAMES = 5
"""So long may somebody be out of sight and keep the id."""
MIN_TRACK_FRAMES = 16
"""Too few frames of somebody are no clip."""
MAX_JUMP = 0.35
"""Somebody whose landmarks move further than this in one frame is lost: the net has gone over to somebody else."""
DOUBLE_APART = 0.12
"""Two tracks with landmarks nearer than this are on one person."""
MIXED_APART = 0.3
"""Somebody found with landmarks nearer than this to somebody followed is a mixture of both."""
NEW_APART, NEW_FLAG = 0.6, 0.9
"""Somebody new beside people who are followed is at least so far from each, and the net at least so sure; if it is less
sure in two frames on end, before the next search, that was nobody. Clips in which the net is less sure on average are
left out of a range of frames that has sure ones."""
REGAIN_REACH = 0.75
"""Somebody detected within this of where a lost person was last seen is that person."""
# These distances are means over the body's landmarks, in radii of the (smaller) person's circle, about half a height.
# Measured on Pose2Sim's two people at 60 frames per second: motion stays below 0.05 a frame, a change of person is 0.4
# to 0.7; mixtures of both are 0.1 to 0.35 away from one of them, the two themselves 0.8 and more while both are seen.
# On Sports2D's two people outdoors the second one is found at 4.5 with a flag of 1.00; eleven times something else is:
# parts of somebody followed (0.34 to 0.57) and trees (flags 0.51 to 0.87). In a film of cyclists a parked bicycle that
# nobody stands beside is followed for 47 frames with a mean flag of 0.86; people in the same film have 0.94 and more.

_BODY = slice(11, NUM_LANDMARKS)
_PAINT_ABOVE = 96  # a mask's 128 less two logits: rather too much than a rim that looks like somebody


@dataclass(frozen=True, kw_only=True)
class PersonTrack:
    """One person in t consecutive frames of one block; the first and the last frame show the person.

    Attributes:
        person: id, stable until the tracker forgets the person (MAX_LOST_FRAMES, or a new shot).
        first_frame: number of the first of the t frames.
        kp2d_px: landmarks, BlazePose's 33 from `PeopleTracker`; 0 in frames where the person was lost.
        conf: visibility times presence, 0..1; 0 where the person was lost.
        flag: the net's belief that it sees a person, MIN_FLAG..1; 0 where the person was lost.
        masks: of the person in the pixels of each frame's region; 128 = undecided; 0 where the person was lost.
        mask_to_frame: each frame's affine map from pixels of its mask to pixels of the frame.
    """

    person: int
    first_frame: int
    kp2d_px: Float32[np.ndarray, "t j 2"]
    conf: Float32[np.ndarray, "t j"]
    flag: Float32[np.ndarray, " t"]
    masks: UInt8[np.ndarray, "t 256 256"]
    mask_to_frame: Float64[np.ndarray, "t 2 3"]

    @property
    def num_frames(self) -> int:
        """Frames from the first to the last sight."""
        return len(self.flag)

    @property
    def belief(self) -> float:
        """The mean flag of the frames that show the person."""
        return float(self.flag[self.flag > 0].mean())


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What the landmark net saw in one region of one frame; `seen` is None where that was not this person."""

    region: Region
    seen: Landmarks | None


@dataclass(frozen=True, kw_only=True)
class _Person:
    """Somebody who is followed: where to look next, and the landmarks when last seen.

    Who is new beside people who were followed before is doubtful for a while, and forgotten when the net is twice not
    sure.
    """

    id: int
    region: Region
    points_px: Float64[np.ndarray, "39 2"]
    lost_frames: int = 0
    doubtful_frames: int = 0
    sure: bool = True


class PeopleTracker:
    """Follows people from block to block; give it a video's frames in order, and say where a new shot begins.

    The same frames give the same landmarks however they are cut into blocks.
    """

    def __init__(self, pose: BlazePose) -> None:
        self._nets = pose.nets()
        self._people: list[_Person] = []
        self._next_id = 0
        self._frames = 0

    def new_shot(self) -> None:
        """Forget everybody: the next frame has nothing to do with the last one."""
        self._people, self._frames = [], 0

    def track(self, frames: Iterable[UInt8[np.ndarray, "h w 3"]], first_frame: int) -> list[PersonTrack]:
        """Follow everybody through consecutive RGB frames of one shot.

        Args:
            frames: of one size; a few hundred at most, because everybody's masks are kept (64 kB each).
            first_frame: number of the first.

        Returns:
            A track for each person seen, the main person (most frames times largest) first.
        """
        rows: dict[int, list[_Row]] = {}
        for number, frame in enumerate(frames, first_frame):
            for person, look in self._step(frame).items():
                rows.setdefault(person, []).append(_row(number, look))
        tracks = [_track(person, its) for person, its in rows.items() if any(row.found for row in its)]
        return sorted(tracks, key=_importance, reverse=True)

    def _step(self, frame: UInt8[np.ndarray, "h w 3"]) -> dict[int, _Look]:
        """Everybody who is followed, seen in this frame or not."""
        looks = {person.id: self._look(frame, person.region) for person in self._people}
        self._people = [p for p in self._people if not p.doubtful_frames or p.sure or _is_sure(looks[p.id])]
        looks = {person.id: looks[person.id] for person in self._people}
        lost = {person.id for person in self._people if _jump(person, looks[person.id]) > MAX_JUMP}
        lost |= _doubles({i: look for i, look in looks.items() if i not in lost}, self._people)
        looks |= {i: replace(looks[i], seen=None) for i in lost}
        due = self._frames % DETECT_EVERY == 0
        self._frames += 1
        num_seen = len(looks) - len(lost)
        if num_seen < max(len(looks), 1) or (due and num_seen < MAX_PEOPLE):
            looks |= self._search(frame, {i: look for i, look in looks.items() if look.seen is not None}, due)
        self._people = list(_followed(looks, self._people))
        return looks

    def _look(self, frame: UInt8[np.ndarray, "h w 3"], region: Region) -> _Look:
        seen = self._nets.landmarks(frame, region)
        is_person = seen.flag >= MIN_FLAG and seen.next_region is not None
        return _Look(region=region, seen=seen if is_person else None)

    def _search(self, frame: UInt8[np.ndarray, "h w 3"], seen: dict[int, _Look], small: bool) -> dict[int, _Look]:
        """Detect people who are not among those `seen`: lost ones, or new ones; also who is `small`.

        Everybody known is painted over first. The detector, made for one person, otherwise finds the known ones
        again, or a mixture: on Pose2Sim's third camera it never sees the second person, with paint in most frames.
        """
        found: dict[int, _Look] = {}
        size = frame.shape[:2]
        squares = [whole(*size), *(closer(*size) if small else [])]
        while len(seen) + len(found) < MAX_PEOPLE:
            painted = _painted(frame, [*seen.values(), *found.values()])
            for square, region in ((s, region) for s in squares for region in self._nets.detect(painted, s)):
                look = self._look(frame, region) if region is not None else None
                owner = None if look is None else self._owner(look, {**seen, **found}, square is not squares[0])
                if look is not None and owner is not None:
                    found[owner] = look
                    break
            else:
                break
        return found

    def _owner(self, look: _Look, known: dict[int, _Look], small: bool) -> int | None:
        """The id of the nearest lost person, or a new one; None: this is nobody else than those known."""
        apart = min((_apart(look, other) for other in known.values()), default=np.inf)
        if look.seen is None or apart < MIXED_APART:
            return None
        lost = [person for person in self._people if person.id not in known]
        owner = min(lost, key=lambda person: _jump(person, look), default=None)
        if owner is not None and _jump(owner, look) < REGAIN_REACH:
            return owner.id
        if apart < NEW_APART or ((known or small) and not _is_sure(look)):
            return None
        self._next_id += 1
        return self._next_id - 1


def _is_sure(look: _Look) -> bool:
    return look.seen is not None and look.seen.flag >= NEW_FLAG


def _followed(looks: dict[int, _Look], before: list[_Person]) -> Iterator[_Person]:
    """Who is looked for in the next frame."""
    known = {person.id: person for person in before}
    for i, look in looks.items():
        doubtful = known[i].doubtful_frames - 1 if i in known else DETECT_EVERY * bool(known)
        if look.seen is not None and (region := look.seen.next_region) is not None:
            yield _Person(
                id=i,
                region=region,
                points_px=look.seen.points_px,
                doubtful_frames=max(doubtful, 0),
                sure=_is_sure(look),
            )
        elif known[i].lost_frames < MAX_LOST_FRAMES:
            yield replace(known[i], lost_frames=known[i].lost_frames + 1)


def _doubles(looks: dict[int, _Look], before: list[_Person]) -> set[int]:
    """Of each two looks at one person the one that had to move further to get there."""
    jumps = {person.id: _jump(person, looks[person.id]) for person in before if person.id in looks}
    doubles: set[int] = set()
    for i, j in combinations(looks, 2):
        if not {i, j} & doubles and _apart(looks[i], looks[j]) < DOUBLE_APART:
            doubles.add(i if jumps[i] > jumps[j] else j)
    return doubles


def _painted(frame: UInt8[np.ndarray, "h w 3"], known: list[_Look]) -> UInt8[np.ndarray, "h w 3"]:
    """The frame with everybody known covered by its mean colour."""
    painted = frame.copy()
    colour = np.array(cv2.mean(frame)[:3]).astype(np.uint8)
    for look in known:
        if look.seen is not None:
            near = (look.seen.mask > _PAINT_ABOVE).astype(np.uint8)
            painted[cv2.warpAffine(near, look.region.crop_to_image, frame.shape[1::-1]) > 0] = colour
    return painted


def _mean_distance(one_px: Float64[np.ndarray, "39 2"], other_px: Float64[np.ndarray, "39 2"]) -> float:
    """Between two people's landmarks, in radii of the smaller one's circle."""
    radius = min(np.hypot(*(points[34] - points[33])) for points in (one_px, other_px))
    return float(np.hypot(*(one_px - other_px)[_BODY].T).mean() / max(radius, 1.0))


def _jump(person: _Person, look: _Look) -> float:
    """How far somebody went since last seen; infinite for somebody who is not seen."""
    return _mean_distance(person.points_px, look.seen.points_px) if look.seen is not None else np.inf


def _apart(one: _Look, other: _Look) -> float:
    if one.seen is None or other.seen is None:
        return np.inf
    return _mean_distance(one.seen.points_px, other.seen.points_px)


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One person in one frame, as it is stored."""

    number: int
    found: bool
    kp2d_px: Float64[np.ndarray, "33 2"]
    conf: Float64[np.ndarray, " 33"]
    flag: float
    mask: UInt8[np.ndarray, "256 256"]
    mask_to_frame: Float64[np.ndarray, "2 3"]


def _row(number: int, look: _Look) -> _Row:
    n, side, seen = NUM_LANDMARKS, MASK_SIDE_PX, look.seen
    return _Row(
        number=number,
        found=seen is not None,
        kp2d_px=seen.points_px[:n] - 0.5 if seen else np.zeros((n, 2)),
        conf=seen.conf[:n] if seen else np.zeros(n),
        flag=seen.flag if seen else 0.0,
        mask=seen.mask if seen else np.zeros((side, side), np.uint8),
        mask_to_frame=look.region.crop_to_image,
    )


def _track(person: int, rows: list[_Row]) -> PersonTrack:
    """From the first to the last frame in which the person was found."""
    found = [i for i, row in enumerate(rows) if row.found]
    rows = rows[found[0] : found[-1] + 1]
    return PersonTrack(
        person=person,
        first_frame=rows[0].number,
        kp2d_px=np.array([row.kp2d_px for row in rows], np.float32),
        conf=np.array([row.conf for row in rows], np.float32),
        flag=np.array([row.flag for row in rows], np.float32),
        masks=np.array([row.mask for row in rows]),
        mask_to_frame=np.array([row.mask_to_frame for row in rows]),
    )


def _importance(track: PersonTrack) -> float:
    """Frames times median height of the person."""
    found = track.flag >= MIN_FLAG
    return float(found.sum() * np.median(np.ptp(track.kp2d_px[found], axis=1).max(1)))
