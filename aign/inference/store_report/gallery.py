"""Random and worst clips as strips of pictures with everything that is stored about them drawn over."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from aign.data.pixels import decode_flow, decode_jpeg, decode_mask
from aign.data.store import Store
from aign.data.store.files import one_line
from aign.framework.errors import UserError
from aign.geometry.skeleton import FACE5, SKELETONS
from aign.inference.store_report.clips import ClipReader, ClipRef, all_clips
from aign.inference.store_report.drawing import (
    arrow_gain,
    flow_svg,
    in_picture,
    joints_svg,
    landmarks_svg,
    mask_svg,
    thumbnail,
)
from aign.inference.store_report.facts import Facts
from aign.inference.store_report.findings import Finding
from aign.inference.store_report.quality import Verdict

STRIP = 6
"""Pictures of a clip."""
MAX_CLIPS = 24
_JPEG_BYTES = 2_400_000  # of all pictures; with base64 and what is drawn over them the page stays below 6 MB
_MOST_TILE_BYTES = 20_000
_MARGIN = 0.12
_FRAMES = ("image_jpeg", "frame_size_px", "crop_xyxy_px")
_FACES = ("face_jpeg", "face_size_px", "landmarks_px", "landmarks_valid", "attributes", "attribute_names",
          "identity", "partition")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One frame.

    Attributes:
        frame: its number in the sequence.
        width: of the drawing's coordinates.
        height: likewise.
        jpeg: the picture; None where the store has none.
        svg: what lies over it.
    """

    frame: int
    width: int
    height: int
    jpeg: bytes | None
    svg: str


@dataclass(frozen=True, kw_only=True)
class ClipFigure:
    """A clip as a person sees it: which, what was said of it, its frames, and notes on what is drawn."""

    clip: ClipRef
    verdict: Verdict | None
    tiles: tuple[Tile, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Clips to look at.

    Attributes:
        random: drawn by the seed.
        worst: dropped ones and those of the lowest quality figures; none where quality was not measured.
        findings: what turned out to be broken on the way.
    """

    random: tuple[ClipFigure, ...]
    worst: tuple[ClipFigure, ...]
    findings: tuple[Finding, ...]


def draw_gallery(store: Store, facts: Facts, clips: int = 12, seed: int = 0) -> Gallery:
    """Read and draw clips; only their row groups are read.

    Args:
        store: which.
        facts: what is known of it.
        clips: how many random ones, and at most how many of the worst.
        seed: of the choice.

    Raises:
        UserError: more clips than a page can hold.
    """
    if not 0 <= clips <= MAX_CLIPS:
        raise UserError(f"got {clips} clips for the page; allowed: 0 to {MAX_CLIPS}")
    reader = ClipReader(store, facts.broken)
    there = all_clips(store, facts.broken)
    verdicts = {verdict.clip: verdict for verdict in facts.quality.verdicts} if facts.quality else {}
    chosen = sorted(random.Random(seed).sample(range(len(there)), min(clips, len(there))))
    showable = set(there)
    ranked = facts.quality.worst() if facts.quality else []
    worst = [verdict.clip for verdict in ranked if verdict.clip in showable][:clips]
    tile_bytes = min(_MOST_TILE_BYTES, _JPEG_BYTES // max(1, STRIP * (len(chosen) + len(worst))))
    # In the order they are stored, so that every row group is read once.
    figures = {
        clip: _figure(reader, clip, verdicts.get(clip), tile_bytes)
        for clip in [there[i] for i in sorted({*chosen, *(i for i, clip in enumerate(there) if clip in set(worst))})]
    }
    return Gallery(
        random=tuple(figures[there[i]] for i in chosen),
        worst=tuple(figures[clip] for clip in worst),
        findings=tuple(reader.findings),
    )


def _figure(reader: ClipReader, clip: ClipRef, verdict: Verdict | None, tile_bytes: int) -> ClipFigure:
    frames = _shown_frames(clip.key.num_frames)
    if face := reader.clip("faces", _FACES, clip):
        tiles, notes = _face(reader, clip, face.arrays, tile_bytes)
    elif pictures := reader.clip("frames", _FRAMES, clip):
        tiles, notes = _pictures(reader, clip, pictures.arrays, frames, tile_bytes)
    else:
        tiles, notes = _sticks(reader, clip, frames)
    return ClipFigure(clip=clip, verdict=verdict, tiles=tuple(tiles), notes=tuple(notes))


def _shown_frames(count: int) -> list[int]:
    """Evenly spread, none at the very end where a clip's flow has no next frame."""
    return sorted({int((i + 0.5) * count / STRIP) for i in range(STRIP)})


def _pictures(
    reader: ClipReader, clip: ClipRef, arrays: Mapping[str, Any], frames: Sequence[int], tile_bytes: int
) -> tuple[list[Tile], list[str]]:
    """Stored pictures with joints, mask and flow."""
    size = (int(arrays["frame_size_px"][0, 0]), int(arrays["frame_size_px"][0, 1]))
    layers: list[list[str]] = [[] for _ in frames]
    notes = []
    masks = _decoded(reader, clip, ("masks", "mask_png"), frames, decode_mask)
    flows = _decoded(reader, clip, ("flow", "flow_zst"), frames, decode_flow)
    gain = arrow_gain([flow for flow in flows if flow is not None])
    if gain > 1 and any(flows):
        notes.append(f"arrows are {gain:g} times as long as the flow")
    for table, kind, shapes in (
        ("masks", "a mask", [None if mask is None else mask.shape for mask in masks]),
        ("flow", "a flow", [None if flow is None else flow[1].shape for flow in flows]),
    ):
        wrong = [shape for shape in shapes if shape is not None and shape != size[::-1]]
        if wrong:
            got = f"{kind} of {wrong[0][1]} x {wrong[0][0]} px for pictures of {size[0]} x {size[1]} px"
            reader.mark(table, clip.part, f"{clip.name}: {got}")
    keypoints = reader.clip("keypoints", ("kp2d_px", "kp2d_conf"), clip)
    body = SKELETONS.get(reader.store.manifest.skeleton)
    for at, frame in enumerate(frames):
        if (mask := masks[at]) is not None and mask.shape == size[::-1]:
            layers[at].append(mask_svg(mask))
        if (flow := flows[at]) is not None and flow[1].shape == size[::-1]:
            layers[at].append(flow_svg(flow[0], flow[1], gain))
        if keypoints is not None:
            points = in_picture(keypoints.arrays["kp2d_px"][frame], arrays["crop_xyxy_px"][0], size)
            layers[at].append(joints_svg(points, keypoints.arrays["kp2d_conf"][frame], body))
    jpegs = _jpegs(reader, clip, ("frames", arrays["image_jpeg"]), frames, size, tile_bytes)
    tiles = [
        Tile(frame=clip.key.frame_start + frame, width=size[0], height=size[1], jpeg=jpeg, svg="".join(layer))
        for frame, jpeg, layer in zip(frames, jpegs, layers, strict=True)
    ]
    return tiles, notes


def _jpegs(
    reader: ClipReader,
    clip: ClipRef,
    pictures: tuple[str, Any],
    frames: Sequence[int],
    size: tuple[int, int],
    tile_bytes: int,
) -> list[bytes | None]:
    """Small copies of the stored pictures; None for those that do not decode or have another size than they say."""
    table, data = pictures
    found: list[bytes | None] = []
    for frame in frames:
        try:
            rgb = decode_jpeg(data[frame])
            if rgb.shape[:2] != size[::-1]:
                raise UserError(f"a picture of {rgb.shape[1]} x {rgb.shape[0]} px; its clip says {size[0]} x {size[1]}")
            found.append(thumbnail(rgb, tile_bytes))
        except UserError as error:
            reader.mark(table, clip.part, f"{clip.name}: {one_line(error)}")
            found.append(None)
    return found


def _decoded(
    reader: ClipReader, clip: ClipRef, column: tuple[str, str], frames: Sequence[int], decode: Any
) -> list[Any]:
    """The shown frames of a byte column, None where it is not there or damaged."""
    table, name = column
    block = reader.clip(table, (name,), clip)
    found: list[Any] = []
    for frame in frames:
        try:
            found.append(None if block is None else decode(block.arrays[name][frame]))
        except UserError as error:
            reader.mark(table, clip.part, f"{clip.name}, frame {clip.key.frame_start + frame}: {one_line(error)}")
            found.append(None)
    return found


def _is_told(value: float) -> bool:
    return math.isfinite(value) and value != -1


def _face(
    reader: ClipReader, clip: ClipRef, arrays: Mapping[str, Any], tile_bytes: int
) -> tuple[list[Tile], list[str]]:
    """One picture with its landmarks; what it shows, in words."""
    size = (int(arrays["face_size_px"][0, 0]), int(arrays["face_size_px"][0, 1]))
    svg = landmarks_svg(arrays["landmarks_px"][0] + 0.5, FACE5) if arrays["landmarks_valid"][0] else ""
    (jpeg,) = _jpegs(reader, clip, ("faces", arrays["face_jpeg"]), [0], size, tile_bytes)
    tile = Tile(frame=clip.key.frame_start, width=size[0], height=size[1], jpeg=jpeg, svg=svg)
    names = str(arrays["attribute_names"][0]).split()
    told = zip(names, arrays["attributes"].tolist(), strict=False)
    # +1 and -1 are yes and no; others are numbers, and what is not finite is not known.
    has = [name.replace("_", " ") if value == 1 else f"{name} {value:.3g}" for name, value in told if _is_told(value)]
    notes = [", ".join(has) or "no attribute", f"partition {arrays['partition'][0]}"]
    if arrays["identity"][0] >= 0:
        notes.append(f"identity {arrays['identity'][0]}")
    return [tile], notes


def _sticks(reader: ClipReader, clip: ClipRef, frames: Sequence[int]) -> tuple[list[Tile], list[str]]:
    """Joints on an empty canvas, as the camera sees them where there is one, else from the front of the world."""
    if keypoints := reader.clip("keypoints", ("kp2d_px", "kp2d_conf"), clip):
        points, conf = keypoints.arrays["kp2d_px"][frames], keypoints.arrays["kp2d_conf"][frames]
        why = "its pictures are broken" if ("frames", clip.part) in reader.broken else "no pictures are stored"
        return _canvas(reader, clip, frames, points, conf), [f"2D keypoints; {why}"]
    if labels := reader.clip("labels", ("joints_cam_m", "joints_valid"), clip):
        joints, conf = labels.arrays["joints_cam_m"][frames], labels.arrays["joints_valid"][frames].astype(np.float32)
        return _canvas(reader, clip, frames, joints[..., :2], conf), ["3D joints, parallel to the camera's axis"]
    if memory := reader.clip("memory_pose", ("joints_world_m",), clip):
        points = memory.arrays["joints_world_m"][frames][..., [0, 2]] * np.array([1, -1], np.float32)
        conf = np.ones(points.shape[:2], np.float32)
        return _canvas(reader, clip, frames, points, conf), ["3D joints along the world's y axis, z up"]
    return [], []


def _canvas(
    reader: ClipReader,
    clip: ClipRef,
    frames: Sequence[int],
    points: Float[np.ndarray, "t j 2"],
    conf: Float[np.ndarray, "t j"],
) -> list[Tile]:
    """All frames on the same square, which just holds the joints that are seen."""
    seen = points[conf > 0]
    low, high = (seen.min(0), seen.max(0)) if len(seen) else (np.zeros(2), np.ones(2))
    span = max(float((high - low).max()), 1e-3) * (1 + 2 * _MARGIN)
    fitted = ((points - (low + high) / 2) / span + 0.5) * 200
    body = SKELETONS.get(reader.store.manifest.skeleton)
    return [
        Tile(
            frame=clip.key.frame_start + frame,
            width=200,
            height=200,
            jpeg=None,
            svg=joints_svg(fitted[at], conf[at], body),
        )
        for at, frame in enumerate(frames)
    ]
