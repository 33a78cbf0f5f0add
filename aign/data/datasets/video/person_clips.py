"""From people followed through a video to clips, and from clips and their pictures to the tables of a store.

Convention: the working frame is the whole picture made smaller; points go from one to the other as pixels whose corners
meet: x_work = (x + 0.5) * scale - 0.5.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from aign.data import pixels
from aign.data.stages.crops import crop_image, crop_points, rescale_points, split_by_travel, square_crop, warp_mask
from aign.data.stages.flow import FlowMethod, flow_pairs
from aign.data.stages.people import MIN_TRACK_FRAMES, NEW_FLAG, PersonTrack
from aign.data.stages.quality import Quality, QualityLimits, assess
from aign.geometry.skeleton import Skeleton

Scale = Float64[np.ndarray, " 2"]
"""Working frame over whole picture, along x and y."""


@dataclass(frozen=True, kw_only=True)
class NetMasks:
    """Soft masks as the landmark net gives them: 0..255 in the pixels of its region, and where that lies."""

    masks: UInt8[np.ndarray, "t m m"]
    mask_to_work: Float64[np.ndarray, "t 2 3"]


@dataclass(frozen=True, kw_only=True)
class PersonClip:
    """One person in t consecutive frames of one shot.

    Attributes:
        person: id within its job.
        first_frame: number in the video.
        kp2d_px: in pixels of the whole picture; 0 where the confidence is 0.
        kp2d_conf: 0..1.
        net_masks: where the landmark net ran.
        belief: of the landmark net that this is a person, 0..1; 1 where others say so.
    """

    person: int
    first_frame: int
    kp2d_px: Float32[np.ndarray, "t j 2"]
    kp2d_conf: Float32[np.ndarray, "t j"]
    net_masks: NetMasks | None
    belief: float = 1.0

    @property
    def frames(self) -> range:
        """Numbers of its frames."""
        return range(self.first_frame, self.first_frame + len(self.kp2d_conf))

    @property
    def importance(self) -> float:
        """Frames times how large the person is."""
        seen = self.kp2d_conf.max(1) > 0
        return float(np.ptp(self.kp2d_px[seen], axis=1).max(1).sum())

    def crop_work_px(self, scale: Scale) -> Float64[np.ndarray, " 4"]:
        """Its square in the working frame: a function of what the keypoints table holds, so it can be found again."""
        return square_crop(rescale_points(self.kp2d_px, scale), self.kp2d_conf)

    def without_masks(self) -> "PersonClip":
        """Without the net's masks, which are large."""
        return replace(self, net_masks=None)

    def part(self, frames: slice) -> "PersonClip":
        """Some of its frames."""
        nets = self.net_masks
        return replace(
            self,
            first_frame=self.first_frame + frames.start,
            kp2d_px=self.kp2d_px[frames],
            kp2d_conf=self.kp2d_conf[frames],
            net_masks=nets and NetMasks(masks=nets.masks[frames], mask_to_work=nets.mask_to_work[frames]),
        )


def of_track(track: PersonTrack, scale: Scale) -> PersonClip:
    """A whole track as one clip."""
    found = track.conf.max(1, keepdims=True) > 0
    kp2d_px = np.where(found[..., None], rescale_points(track.kp2d_px, 1 / scale), 0).astype(np.float32)
    masks = NetMasks(masks=track.masks, mask_to_work=track.mask_to_frame)
    return PersonClip(
        person=track.person,
        first_frame=track.first_frame,
        kp2d_px=kp2d_px,
        kp2d_conf=track.conf,
        net_masks=masks,
        belief=track.belief,
    )


def cut_by_travel(clip: PersonClip, scale: Scale) -> tuple[list[PersonClip], list[str]]:
    """Clips in which the person stays near one place; and what is too short to be one, in words."""
    clips, left_out = [], []
    for frames in split_by_travel(rescale_points(clip.kp2d_px, scale), clip.kp2d_conf):
        part = clip.part(frames)
        seen = np.flatnonzero(part.kp2d_conf.max(1) > 0)
        if len(seen) == 0:
            continue
        part = part.part(slice(int(seen[0]), int(seen[-1]) + 1))
        if len(part.frames) >= MIN_TRACK_FRAMES:
            clips.append(part)
        else:
            first, last, count = part.first_frame, part.frames[-1], len(part.frames)
            left_out.append(
                f"person {clip.person}, frames {first} to {last}: {count} frames; {MIN_TRACK_FRAMES} needed"
            )
    return clips, left_out


def doubtful(clips: Sequence[PersonClip]) -> dict[int, str]:
    """Clips that are of nobody, by index, with the reason: the net hardly believes in them, and is sure of others.

    Where it is sure of none they may be of people in a poor picture, and stay.
    """
    if all(clip.belief < NEW_FLAG for clip in clips):
        return {}
    return {
        index: f"person {clip.person}, frames {clip.first_frame} to {clip.frames[-1]}: hardly a person, "
        f"flag {clip.belief:.2f} where others have {NEW_FLAG:g} and more"
        for index, clip in enumerate(clips)
        if clip.belief < NEW_FLAG
    }


def main_first(clips: Sequence[PersonClip]) -> list[list[PersonClip]]:
    """The clips of the main person, then those of each other one.

    The main person is the one seen longest and largest; where that one is away, the next takes the place, so that a
    person who was lost for a while and got a new id is still the main one.
    """
    people = sorted({clip.person for clip in clips}, key=lambda p: -sum(c.importance for c in clips if c.person == p))
    main: list[PersonClip] = []
    others: list[list[PersonClip]] = []
    for person in people:
        own = [clip for clip in clips if clip.person == person]
        free = [c for c in own if not any(_overlap(c.frames, m.frames) for m in main)]
        main += free
        if rest := [c for c in own if c not in free]:
            others.append(rest)
    groups = [main, *others] if main else others
    return [sorted(group, key=lambda clip: clip.first_frame) for group in groups]


def _overlap(one: range, other: range) -> bool:
    return max(one.start, other.start) < min(one.stop, other.stop)


def cropped(
    frames: Iterable[UInt8[np.ndarray, "h w 3"]], first_frame: int, clips: Sequence[PersonClip], scale: Scale, side: int
) -> Iterator[tuple[int, UInt8[np.ndarray, "t s s 3"]]]:
    """Each clip's pictures, as soon as its last frame has come.

    Args:
        frames: working frames, in order.
        first_frame: number of the first.
        clips: whose frames are all among them.
        scale: of the working frames.
        side: of the pictures, px.

    Yields:
        index of the clip, its pictures.
    """
    crops = [clip.crop_work_px(scale) for clip in clips]
    pictures: dict[int, list[UInt8[np.ndarray, "s s 3"]]] = {}
    for number, frame in enumerate(frames, first_frame):
        for index, clip in enumerate(clips):
            if number in clip.frames:
                pictures.setdefault(index, []).append(crop_image(frame, crops[index], side))
                if number == clip.frames[-1]:
                    yield index, np.stack(pictures.pop(index))


@dataclass(frozen=True, kw_only=True)
class Making:
    """How pictures become columns.

    Attributes:
        wanted: tables to make.
        scale: of the working frames.
        side_px: of the pictures.
        skeleton: of the keypoints.
        flow: method.
        limits: of the quality.
    """

    wanted: Collection[str]
    scale: Scale
    side_px: int
    skeleton: Skeleton
    flow: FlowMethod
    limits: QualityLimits


def picture_rows(
    clip: PersonClip, rgb: UInt8[np.ndarray, "t s s 3"], masks: Bool[np.ndarray, "t s s"], how: Making
) -> dict[str, dict[str, Any]]:
    """Columns made from a clip's pictures, by table: frames, masks, flow, flow_back and quality where wanted."""
    rows: dict[str, dict[str, Any]] = {}
    if "frames" in how.wanted:
        rows["frames"] = {"image_jpeg": [pixels.encode_jpeg(picture) for picture in rgb]}
    if "masks" in how.wanted:
        rows["masks"] = {"mask_png": [pixels.encode_mask(mask) for mask in masks]}
    if not {"flow", "flow_back", "quality"} & set(how.wanted):
        return rows
    forward: list[bytes] = []
    backward: list[bytes] = []
    valid = np.zeros(masks.shape, bool)
    nothing = pixels.encode_flow(np.zeros((*rgb.shape[1:3], 2), np.float32), np.zeros(rgb.shape[1:3], bool))
    for t, pair in enumerate(flow_pairs(rgb, how.flow)):
        valid[t] = pair.forward_valid
        if "flow" in how.wanted:
            forward.append(pixels.encode_flow(pair.forward_px, pair.forward_valid))
        if "flow_back" in how.wanted:
            backward.append(pixels.encode_flow(pair.backward_px, pair.backward_valid))
    if "flow" in how.wanted:
        rows["flow"] = {"flow_zst": [*forward, nothing]}
    if "flow_back" in how.wanted:
        rows["flow_back"] = {"flow_back_zst": [nothing, *backward]}
    if "quality" in how.wanted:
        rows["quality"] = vars(judged(clip, rgb, masks, valid, how))
    return rows


def judged(
    clip: PersonClip,
    rgb: UInt8[np.ndarray, "t s s 3"],
    masks: Bool[np.ndarray, "t s s"],
    flow_valid: Bool[np.ndarray, "t s s"],
    how: Making,
) -> Quality:
    """Its quality."""
    crop = clip.crop_work_px(how.scale)
    points = crop_points(rescale_points(clip.kp2d_px, how.scale), crop, how.side_px).astype(np.float32)
    return assess(points, clip.kp2d_conf, masks, flow_valid, rgb, how.skeleton, how.limits)


def hard_masks(clip: PersonClip, scale: Scale, side_px: int) -> Bool[np.ndarray, "t s s"]:
    """The net's masks in the clip's pictures; empty where the person was lost or no net ran."""
    if clip.net_masks is None:
        return np.zeros((len(clip.frames), side_px, side_px), bool)
    crop = clip.crop_work_px(scale)
    nets = clip.net_masks
    return np.stack([warp_mask(m, a, crop, side_px) for m, a in zip(nets.masks, nets.mask_to_work, strict=True)])
