"""The people of one video, captured by a motion-capture model: clips of the store in, motions and figures out."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from aign.body.assets import BodyAssets
from aign.data.datasets.video.video_ranges import VideoRange
from aign.data.progress import progress
from aign.data.schema import ClipKey
from aign.data.store import Selection, Store
from aign.data.store.reader import Columns
from aign.framework.errors import UserError
from aign.geometry.skeleton import skeleton
from aign.inference.body_predictor import BodyPredictor, FrameBodies, clip_arrays
from aign.inference.captured import CapturedMotion
from aign.inference.frame_quality import FrameQuality, explained, flip_risk
from aign.inference.people import FollowedClip, people_of
from aign.inference.person_motion import SeenBodies, placed, tidied
from aign.inference.smoothing import Filter, jitter_m_per_s3
from aign.inference.upright import Up
from aign.tasks.motion_capture.clips import CapturedClip, read_clips
from aign.tasks.motion_capture.feed import EVIDENCE_COLUMNS, PICTURE_COLUMNS

STAGES = ("keypoints", "frames", "masks", "flow", "flow_back")
"""All that bodies are captured from, adapted to and compared with."""
SEEING: Columns = {**PICTURE_COLUMNS, **EVIDENCE_COLUMNS}
JUDGING: Columns = {**SEEING, "frames": tuple(name for name in PICTURE_COLUMNS["frames"] if name != "image_jpeg")}

Adapt = Callable[[CapturedClip], tuple[BodyPredictor, str]]
"""A model adapted to a clip, and what was done in a few words."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a model saw in a clip.

    Attributes:
        bodies: of its frames.
        flip_risk: likewise (`FrameQuality`).
        note: of the adaptation; empty: none.
    """

    bodies: FrameBodies
    flip_risk: Float32[np.ndarray, " t"]
    note: str


@dataclass(frozen=True, kw_only=True)
class CapturedPerson:
    """One person in a video.

    Attributes:
        seen: bodies in the camera, whole, of one shape and filtered.
        quality: figures of each frame.
        jitter_m_per_s3: before and after the filter; NaN where no four frames on end are known.
        notes: of the adaptation.
    """

    seen: SeenBodies
    quality: FrameQuality
    jitter_m_per_s3: tuple[float, float]
    notes: tuple[str, ...]

    def jitter(self, how: Filter) -> str:
        """How much the person shakes, in words."""
        before, after = self.jitter_m_per_s3
        if math.isnan(before):
            return "too few frames on end for a jitter"
        return f"jitter {before:,.0f} m/s3, after {how} {after:,.0f}"


@dataclass(frozen=True, kw_only=True)
class Footage:
    """One video and the store with its clips.

    Attributes:
        store: with the tables of STAGES.
        video: the file, its frames and its camera.
        people: clips of each person, the most important first.
        intrinsics_px: fx, fy, cx, cy of the whole picture.
        assumed: whether these were.
    """

    store: Store
    video: VideoRange
    people: tuple[tuple[FollowedClip, ...], ...]
    intrinsics_px: Float32[np.ndarray, "4"]
    assumed: bool

    @property
    def name(self) -> str:
        """Of the video."""
        return self.video.video.path.stem

    @property
    def frames(self) -> int:
        """Of the video."""
        return self.video.index.num_frames

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self.people[0][0].key.fps


@dataclass(frozen=True, kw_only=True)
class CapturedVideo:
    """What became of a video.

    Attributes:
        footage: it.
        folder: of its outputs.
        people: who was captured, the most important first.
        motions: theirs, in the world.
        up: where up is in the camera.
        licences: of the model, the video and the body, which are those of all files.
    """

    footage: Footage
    folder: Path
    people: tuple[CapturedPerson, ...]
    motions: tuple[CapturedMotion, ...]
    up: Up
    licences: tuple[str, ...]

    def person_folder(self, index: int) -> Path:
        """Of a person's files: the main one's lie beside the video's."""
        return self.folder if index == 0 else self.folder / f"person-{index + 1}"


def footage_of(store: Store, jobs: Sequence[object]) -> list[Footage]:
    """The videos of jobs (`aign.data.sources.plan`) that are in a store."""
    ranges = {(job.video.sequence, job.video.camera): job for job in jobs if isinstance(job, VideoRange)}
    found = []
    for (sequence, camera), job in ranges.items():
        others = f"{sequence}/{camera}/person-"
        names = [n for n in store.sequences(("keypoints",)) if n == sequence or n.startswith(others)]
        if names:
            found.append(_footage(store, job, Selection(sequences=tuple(sorted(names)), cameras=(camera,))))
    return found


def _footage(store: Store, video: VideoRange, selection: Selection) -> Footage:
    columns = ("kp2d_px", "kp2d_conf", "intrinsics_px", "intrinsics_source")
    read = store.read({"keypoints": columns}, selection)
    ends = np.cumsum([key.num_frames for key in read.keys])[:-1]
    points, confidences = np.split(read.arrays["kp2d_px"], ends), np.split(read.arrays["kp2d_conf"], ends)
    clips = [
        FollowedClip(key=key, kp2d_px=px, conf=conf)
        for key, px, conf in zip(read.keys, points, confidences, strict=True)
    ]
    return Footage(
        store=store,
        video=video,
        people=tuple(map(tuple, people_of(clips))),
        intrinsics_px=read.arrays["intrinsics_px"][0].astype(np.float32),
        assumed=str(read.arrays["intrinsics_source"][0]) != "calibration",
    )


def captured_people(
    footage: Footage, chosen: int, predictor: BodyPredictor, adapt: Adapt | None, how: Filter
) -> list[CapturedPerson]:
    """The first people of a video.

    Args:
        footage: the video.
        chosen: how many people.
        predictor: the model.
        adapt: gives the model for a clip; None: `predictor` for all.
        how: filter in time.

    Raises:
        UserError: no frame shows enough of the first person.
    """
    people = footage.people[:chosen]
    frames = sum(clip.key.num_frames for person in people for clip in person)
    source = skeleton(footage.store.manifest.skeleton)
    found: dict[ClipKey, Found] = {}
    with progress(frames, f"bodies in {footage.name}", "frames") as advance:
        for clip in _read(footage, people, SEEING):
            model, note = adapt(clip) if adapt else (predictor, "")
            bodies = model.predict(**clip_arrays(clip, source))
            found[clip.key] = Found(bodies=bodies, flip_risk=flip_risk(model, clip, source, bodies), note=note)
            advance(clip.key.num_frames)
    done = [_person(footage, person, found, predictor.body, how) for person in people]
    seen = [person for person in done if person is not None]
    if not seen:
        raise UserError(f"{footage.video.video.path}: no frame shows enough of a person")
    return seen


def _person(
    footage: Footage,
    clips: Sequence[FollowedClip],
    found: Mapping[ClipKey, Found],
    body: BodyAssets,
    how: Filter,
) -> CapturedPerson | None:
    """A person's clips put together; None where no frame shows enough."""
    raw = placed([(clip.key.frame_start, found[clip.key].bodies) for clip in clips], footage.frames, footage.fps)
    if not raw.known.any():
        return None
    seen = tidied(raw, body, how)
    delivered = np.where(raw.known[:, None, None], seen.bodies.joints_cam_m, np.nan)
    quality = _quality(footage, clips, seen, body)
    for clip in clips:
        quality.flip_risk[_frames(clip.key)] = found[clip.key].flip_risk
    return CapturedPerson(
        seen=seen,
        quality=quality,
        jitter_m_per_s3=(
            jitter_m_per_s3(raw.bodies.joints_cam_m, footage.fps),
            jitter_m_per_s3(delivered, footage.fps),
        ),
        notes=tuple(dict.fromkeys(found[clip.key].note for clip in clips if found[clip.key].note)),
    )


def _read(footage: Footage, people: Sequence[Sequence[FollowedClip]], columns: Columns) -> Iterator[CapturedClip]:
    """The clips of some people, as they stand in the store."""
    wanted = {clip.key for person in people for clip in person}
    names = tuple(sorted({key.sequence for key in wanted}))
    selection = Selection(sequences=names, cameras=(footage.video.video.camera,))
    return (clip for clip in read_clips(footage.store, columns, selection) if clip.key in wanted)


def _quality(footage: Footage, clips: Sequence[FollowedClip], seen: SeenBodies, body: BodyAssets) -> FrameQuality:
    """Of the bodies as they are delivered."""
    whole, source = FrameQuality.unknown(footage.frames), skeleton(footage.store.manifest.skeleton)
    for clip in _read(footage, [clips], JUDGING):
        part = _frames(clip.key)
        bodies = FrameBodies(**{name: value[part] for name, value in vars(seen.bodies).items()})
        for name, values in vars(explained(clip, source, bodies, body)).items():
            known = seen.known[part].reshape(-1, *[1] * (values.ndim - 1))
            getattr(whole, name)[part] = np.where(known, values, np.nan)
    return whole


def _frames(key: ClipKey) -> slice:
    """Of the video."""
    return slice(key.frame_start, key.frame_start + key.num_frames)
