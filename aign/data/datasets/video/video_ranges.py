"""Videos for training: every person's clips as square pictures, with keypoints, masks, flow and quality.

One job is a range of consecutive frames, so that a long video is worked on by the whole cluster. It holds one block of
working frames in memory, whatever the length and the size of the video: at most BLOCK_FRAMES pictures of
WORKING_SIDE_PX, 0.36 GB at 16:9, and the nets, 0.2 GB. A worker's peak was 1.3 GB on 4K, all imports counted.
"""

import hashlib
import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from aign.data import pixels
from aign.data.datasets.job import PRODUCER, Job, Made, Recording, Stored, Unusable, calibration, picture_columns
from aign.data.datasets.raw_files import sha256_of
from aign.data.datasets.video import video_files
from aign.data.datasets.video.framing import (
    BLOCK_FRAMES,
    DEPENDS,
    RANGE_FRAMES,
    TABLES,
    WORKING_SIDE_PX,
    Framing,
    Given,
    chain,
)
from aign.data.datasets.video.person_clips import (
    Making,
    PersonClip,
    cropped,
    cut_by_travel,
    doubtful,
    hard_masks,
    main_first,
    of_track,
    picture_rows,
)
from aign.data.datasets.video.pose2sim import fit_to_frames
from aign.data.datasets.video.video_files import USUAL_FPS, VideoFile, assumed_camera
from aign.data.stages import people, shots
from aign.data.stages.blazepose import get_detector
from aign.data.stages.crops import rescale_points
from aign.data.stages.decode import read_range
from aign.data.stages.detected import Detections, Footage
from aign.data.stages.detections import find_detections, read_detections
from aign.data.stages.given_people import GivenPeople
from aign.data.stages.people import PeopleTracker
from aign.data.stages.video_index import VideoIndex, index_video
from aign.data.store import Provenance
from aign.framework.errors import UserError
from aign.geometry.skeleton import BLAZEPOSE33, Skeleton


@dataclass(frozen=True, kw_only=True)
class VideoRange:
    """Frames start <= i < stop of a video.

    Attributes:
        video: which.
        index: its frames.
        start, stop: the range.
        framing: how people are cut out.
        given: somebody else's detections, instead of our own.
    """

    video: VideoFile
    index: VideoIndex
    start: int
    stop: int
    framing: Framing
    given: Given | None

    @property
    def source(self) -> str:
        """The file, and the frames of it where they are not all."""
        whole = self.stop - self.start == self.index.num_frames
        return str(self.video.path) + ("" if whole else f" frames {self.start} to {self.stop - 1}")

    @property
    def table_groups(self) -> tuple[tuple[str, ...], ...]:
        """All hold the same clips."""
        return (tuple(name for name in TABLES if name in self.framing.tables),)

    def provenance(self, table: str) -> Provenance:
        """The stages that this table depends on, and no others."""
        stages = chain(self.video, self.framing, self.given)
        detections = (self.given.sha256,) if self.given else ()
        return Provenance(
            source_hashes=(self.video.sha256, f"frames {self.start}:{self.stop}", *detections),
            stages=tuple(stages[name] for name in DEPENDS[table]),
            skeleton=self._layout.name,
            num_joints=len(self._layout),
            licence=self.video.licence,
            producer=PRODUCER,
        )

    def clips(self, wanted: Collection[str], stored: Stored) -> Made:
        """Everybody's clips. Where the keypoints are stored and no mask is wanted, the nets do not run again.

        Raises:
            UserError: damaged, or nobody in it long enough for a clip.
        """
        how = Making(
            wanted=wanted,
            scale=self._scale,
            side_px=self.framing.side_px,
            skeleton=self._layout,
            flow=self.framing.flow_method,
            limits=self.framing.limits,
        )
        if "keypoints" in stored.records and "masks" not in wanted:
            return Made(tables=self._again(how, stored), left_out=stored.records["keypoints"].left_out)
        return self._anew(how)

    @property
    def _layout(self) -> Skeleton:
        return self.given.layout if self.given else BLAZEPOSE33

    @property
    def _footage(self) -> Footage:
        size_px = (self.index.width_px, self.index.height_px)
        return Footage(path=self.video.path, num_frames=self.index.num_frames, size_px=size_px)

    def _people(self, how: Making) -> PeopleTracker | GivenPeople:
        if self.given is None:
            return PeopleTracker(get_detector())
        nets = get_detector().nets() if {"masks", "quality"} & set(how.wanted) else None
        return GivenPeople(_read_given(self.given, self._footage), how.scale, nets)

    @property
    def _scale(self) -> Float64[np.ndarray, " 2"]:
        whole = np.array([self.index.width_px, self.index.height_px], np.float64)
        return np.asarray(np.round(whole * min(1.0, WORKING_SIDE_PX / whole.max())) / whole, np.float64)

    def _anew(self, how: Making) -> Made:
        tracker = self._people(how)
        clips: list[PersonClip] = []
        rows: list[Mapping[str, Mapping[str, Any]]] = []
        left_out: list[str] = []
        for first, frames, new_shot in self._blocks():
            if new_shot:
                tracker.new_shot()
            found: list[PersonClip] = []
            for track in tracker.track(frames, first):
                long_enough, too_short = cut_by_travel(of_track(track, how.scale), how.scale)
                found += long_enough
                left_out += too_short
            for index, rgb in cropped(frames, first, found, how.scale, how.side_px):
                clip = found[index]
                rows.append(picture_rows(clip, rgb, hard_masks(clip, how.scale, how.side_px), how))
                clips.append(clip.without_masks())
        if not clips:
            seen = f" ({'; '.join(left_out[:3])})" if left_out else ""
            raise UserError(f"{self.source}: nobody was followed for {people.MIN_TRACK_FRAMES} frames{seen}")
        if missing := self.index.num_missing if self.stop == self.index.num_frames else 0:
            left_out.append(f"{missing} frames that the header promises: the file is truncated")
        nobody = doubtful(clips)
        left_out += nobody.values()
        kept = [index for index in range(len(clips)) if index not in nobody]
        tables = self._keyed(how, [clips[i] for i in kept], [rows[i] for i in kept])
        return Made(tables=tables, left_out=tuple(left_out))

    def _keyed(
        self, how: Making, clips: Sequence[PersonClip], rows: Sequence[Mapping[str, Mapping[str, Any]]]
    ) -> dict[str, list[dict[str, Any]]]:
        """Rows of every wanted table, the main person's first."""
        place = {id(clip): index for index, clip in enumerate(clips)}
        tables: dict[str, list[dict[str, Any]]] = {name: [] for name in how.wanted}
        for rank, group in enumerate(main_first(clips)):
            for clip in group:
                key = self._key(rank, group[0], clip)
                made = {**rows[place[id(clip)]], "keypoints": {"kp2d_px": clip.kp2d_px, "kp2d_conf": clip.kp2d_conf}}
                for name in how.wanted:
                    tables[name].append({**key, **made[name], **self._constant(name, clip, how)})
        return tables

    def _key(self, rank: int, first: PersonClip, clip: PersonClip) -> dict[str, Any]:
        name = self.video.sequence
        if rank > 0:  # of one camera and one range: who that is in others is not known
            name = f"{name}/{self.video.camera}/person-{rank + 1}-from-{first.first_frame}"
        recording = Recording(
            sequence=name, subject=name, action="video", source=self.source, fps=self.index.fps or USUAL_FPS
        )
        return {
            **vars(recording),
            "camera": self.video.camera,
            "frame_start": clip.first_frame,
            "num_frames": len(clip.frames),
        }

    def _constant(self, table: str, clip: PersonClip, how: Making) -> dict[str, Any]:
        """A clip's columns that come from the video itself."""
        if table not in ("keypoints", "frames"):
            return {}
        size = (self.index.width_px, self.index.height_px)
        known = self.video.calibrated
        camera = assumed_camera(self.video.camera, *size) if known is None else fit_to_frames(known, *size)
        lens = calibration(camera, "assumed" if known is None else "calibration")
        if table == "keypoints":
            return lens
        crop = clip.crop_work_px(how.scale).reshape(2, 2)
        crop_xyxy_px = rescale_points(crop, 1 / how.scale).reshape(4).astype(np.float32)
        side = how.side_px
        time_s = self.index.time_s[clip.frames.start : clip.frames.stop].astype(np.float32)
        return {"time_s": time_s, **picture_columns(size, crop_xyxy_px, (side, side), lens["intrinsics_px"])}

    def _again(self, how: Making, stored: Stored) -> dict[str, list[dict[str, Any]]]:
        """The wanted tables for the clips that the stored keypoints have."""
        keys = stored.clips("keypoints")
        clips = [
            PersonClip(
                person=0, first_frame=k["frame_start"], kp2d_px=k["kp2d_px"], kp2d_conf=k["kp2d_conf"], net_masks=None
            )
            for k in keys
        ]
        masks = [clip["mask_png"] for clip in stored.clips("masks")] if "quality" in how.wanted else None
        made: dict[int, Mapping[str, Mapping[str, Any]]] = {}
        frames = read_range(self.video.path, self.index, self.start, self.stop, WORKING_SIDE_PX)
        for i, rgb in cropped(frames, self.start, clips, how.scale, how.side_px):
            kept = np.zeros(rgb.shape[:3], bool) if masks is None else np.stack([*map(pixels.decode_mask, masks[i])])
            made[i] = picture_rows(clips[i], rgb, kept, how)
        keyed = ("sequence", "subject", "action", "camera", "source", "frame_start", "num_frames", "fps")
        return {
            name: [
                {**{k: key[k] for k in keyed}, **made[i][name], **self._constant(name, clips[i], how)}
                for i, key in enumerate(keys)
            ]
            for name in how.wanted
        }

    def _blocks(self) -> Iterator[tuple[int, list[UInt8[np.ndarray, "h w 3"]], bool]]:
        """First frame, frames, and whether a new shot begins: blocks of one shot, at most BLOCK_FRAMES long."""
        # Cuts depend on frames nearby, so the range is read with a margin: it then has the cuts of the whole video.
        begin = max(0, self.start - shots.CONTEXT_FRAMES)
        end = min(self.index.num_frames, self.stop + shots.CONTEXT_FRAMES)
        ends = set(_equal_cuts(self.start, self.stop, math.ceil((self.stop - self.start) / BLOCK_FRAMES)))
        block: list[UInt8[np.ndarray, "h w 3"]] = []
        first, begins_shot = self.start, False
        frames = read_range(self.video.path, self.index, begin, end, WORKING_SIDE_PX)
        for number, (frame, is_cut) in enumerate(shots.shot_cuts(frames), begin):
            if not self.start <= number < self.stop:
                continue
            if block and (is_cut or number in ends):
                yield first, block, begins_shot
                first, block, begins_shot = number, [], is_cut
            block.append(frame)
        yield first, block, begins_shot


def plan(path: Path, framing: Framing, detections: Path | None = None) -> list[Job]:
    """Jobs of a video, of a folder of videos, or of the sample videos; what is no video becomes a job that says so.

    Args:
        path: where they are.
        framing: how people are cut out.
        detections: a folder with somebody else's detections of every video (see `find_detections`), or one such file.

    Raises:
        UserError: no video there, or the nets were not pulled.
    """
    with ThreadPoolExecutor() as pool:  # reading packets releases the interpreter's lock
        return [
            job for jobs in pool.map(lambda v: _ranges(v, framing, detections), video_files.plan(path)) for job in jobs
        ]


def _ranges(video: VideoFile, framing: Framing, detections: Path | None) -> list[Job]:
    try:
        index = index_video(video.path)
        given = None if detections is None else _given(video, index, detections)
    except UserError as error:
        return [Unusable(inner=video, error=str(error))]
    ends = _equal_cuts(0, index.num_frames, math.ceil(index.num_frames / RANGE_FRAMES))
    return [
        VideoRange(video=video, index=index, start=start, stop=stop, framing=framing, given=given)
        for start, stop in itertools.pairwise([0, *ends])
    ]


@lru_cache(maxsize=2)
def _read_given(given: Given, video: Footage) -> Detections:
    """A worker makes many ranges of one video."""
    return read_detections(given.path, video)


def _given(video: VideoFile, index: VideoIndex, detections: Path) -> Given:
    path = detections if detections.is_file() else find_detections(detections, video.path)
    if path is None:
        raise UserError(f"{detections} has no detections of {video.path.name}; allowed: {video.path.stem}.json, ...")
    size_px = (index.width_px, index.height_px)
    found = read_detections(path, Footage(path=video.path, num_frames=index.num_frames, size_px=size_px))
    files = [path] if path.is_file() else sorted(path.glob("*.json"))
    digest = hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest()
    return Given(path=path, sha256=digest, layout=found.skeleton)


def _equal_cuts(start: int, stop: int, pieces: int) -> list[int]:
    """Ends of pieces of nearly equal length."""
    return [start + (stop - start) * (i + 1) // pieces for i in range(pieces)]
