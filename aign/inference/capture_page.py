"""The page of a capture: the video beside the body in 3D at the same frame, curves of quality, and what was used.

One file: the videos, the bodies and the motions are inside. A body is posed in the browser, by linear blend skinning
with four joints a vertex and without SMPL's pose blend shapes, so a frame costs 250 bytes; a licensed body that is
shown is in the page, and its terms are the page's.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped

from aign.body.assets import BodyAssets
from aign.body.skinning import rest_joints
from aign.data.stages.video_index import VideoIndex, index_video
from aign.framework.errors import StorageError, UserError
from aign.geometry.rotation import to_quaternion
from aign.geometry.skeleton import SMPL24
from aign.inference.captured import CapturedMotion
from aign.inference.overlay import side
from aign.inference.page import Entry, Page, asset, data, definitions, paragraphs, section, write_page

LARGEST_VIDEOS_BYTES = 200_000_000
"""Of all videos in one page: browsers take text up to 512 MB, and a video's is a third larger than the video."""
_SCRIPTS = ("player.js", "capture/motion.js", "capture/scene.js", "capture/strips.js", "capture/capture.js")
_INFLUENCES = 4
_UNKNOWN_HEAT = 65535
_FARTHEST_M = 3.2
"""Of a vertex of the shaped T-pose from its origin: tenths of a millimetre have to fit 16 bits."""


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A number for every frame of a motion, drawn as a curve.

    Attributes:
        name: over it.
        unit: of it, e.g. "px"; empty for shares and other plain numbers.
        values: NaN where it is not known.
        note: what it means, in a few words.
        worst: which end is bad; the page goes there on demand.
    """

    name: str
    unit: str
    values: Float[np.ndarray, " t"]
    note: str = ""
    worst: Literal["high", "low"] = "high"


@dataclass(frozen=True, kw_only=True)
class PagePerson:
    """One person in one video.

    Attributes:
        name: in the page's menu.
        video: H.264 in mp4, usually with the body drawn over it; several people may share one.
        fps: of that video.
        person: the motion; its pose i belongs to frame `first_frame` + i of the video.
        heat_px: reprojection error of each joint, pixels; NaN where it is not known. None: the page has no heat.
        strips: curves, as long as the motion. The feet's contact is drawn without being listed.
        first_frame: of the video in which the person was seen.
    """

    name: str
    video: Path
    fps: float
    person: CapturedMotion
    heat_px: Float32[np.ndarray, "t 24"] | None = None
    strips: tuple[Strip, ...] = ()
    first_frame: int = 0


@dataclass(frozen=True, kw_only=True)
class CapturePage:
    """What the page says; sections without content are left out.

    Attributes:
        title: heading of the page.
        summary: paragraphs in plain words.
        people: the first is shown first.
        settings: what the capture was asked to do.
        model: what made it: name, version, data it was trained on.
        licences: of data, model and body, which are those of the files too.
        files: what lies beside the page; a term that is a path from there becomes a link.
    """

    title: str
    summary: tuple[str, ...]
    people: tuple[PagePerson, ...]
    settings: tuple[Entry, ...] = ()
    model: tuple[Entry, ...] = ()
    licences: tuple[Entry, ...] = ()
    files: tuple[Entry, ...] = ()


def write_capture_page(path: Path, page: CapturePage) -> Path:
    """Write the page; it appears under its name when it is whole.

    Returns:
        The page.

    Raises:
        UserError: nobody to show; curves, heat or a video of other lengths or another frame rate than the motion; a
            video that is missing, does not decode or that browsers do not play; videos above `LARGEST_VIDEOS_BYTES`.
        StorageError: the page cannot be written.
    """
    if not page.people:
        raise UserError(f"nobody to show on {path}; allowed: at least one person")
    videos = list(dict.fromkeys(person.video for person in page.people))
    indices = {video: _playable(video) for video in videos}
    size = sum(video.stat().st_size for video in videos)
    if size > LARGEST_VIDEOS_BYTES:
        raise UserError(
            f"the videos of {path} have {size / 1e6:.0f} MB; allowed in one page: {LARGEST_VIDEOS_BYTES / 1e6:.0f} MB "
            "(shorter or smaller ones, or a page for each)"
        )
    for person in page.people:
        _check(person, indices[person.video])
    bodies = list({id(p.person.body): p.person.body for p in page.people}.values())
    told = {
        "bodies": [_body(body) for body in bodies],
        "people": [_person(p, bodies, videos, indices[p.video]) for p in page.people],
        "sides": [side(joint) for joint in SMPL24.joints],
        "head": SMPL24.joints.index("head"),
        "feet": SMPL24.index("l_foot", "r_foot"),
    }
    sections = (
        _viewer(page.people),
        section("What was asked", definitions(page.settings)),
        section("The model", definitions(page.model)),
        section("Licences", definitions(page.licences)),
        section("Files", definitions(page.files, path.parent)),
    )
    return write_page(
        path,
        Page(
            title=page.title,
            header_html=paragraphs(page.summary),
            sections_html=sections,
            css=asset("capture/capture.css"),
            script='"use strict";\n' + "\n".join(asset(name) for name in _SCRIPTS),
            foot_html="\n".join([data("capture", told), *(_video(i, video) for i, video in enumerate(videos))]),
            shown="img-src data:; media-src blob:",
        ),
    )


def _playable(video: Path) -> VideoIndex:
    found = index_video(video)
    if (found.codec, found.pix_fmt) != ("h264", "yuv420p") or video.suffix != ".mp4":
        raise UserError(f"{video} is {found.codec} ({found.pix_fmt}); allowed: H.264 in yuv420p, .mp4")
    if found.variable_rate:
        raise UserError(f"{video} shows its frames for unequal times; allowed: a constant frame rate")
    return found


def _check(person: PagePerson, video: VideoIndex) -> None:
    """Lengths and rates agree."""
    frames, name = len(person.person.known), person.name
    for what, count in [
        *((f"curve {strip.name!r}", len(strip.values)) for strip in person.strips),
        *([("heat", len(person.heat_px))] if person.heat_px is not None else []),
    ]:
        if count != frames:
            raise UserError(f"{what} of {name!r} has {count} frames, the motion {frames}; allowed: as many")
    last = person.first_frame + frames
    if not 0 <= person.first_frame < last <= video.num_frames:
        raise UserError(
            f"{name!r} is in frames {person.first_frame} to {last} of {person.video}, which has {video.num_frames}; "
            "allowed: frames of the video"
        )
    # A single frame has no rate of its own.
    if not 0 < person.fps < 1000 or (video.fps and abs(video.fps / person.fps - 1) > 0.01):
        raise UserError(f"{name!r} is told to be at {person.fps} fps, {person.video} is at {video.fps:.2f}")


def _viewer(people: Sequence[PagePerson]) -> str:
    options = "".join(f'<option value="{i}">{escape(person.name)}</option>' for i, person in enumerate(people))
    return Template(asset("capture/capture.html")).substitute(
        options=options, one_person="hidden" if len(people) == 1 else ""
    )


def _video(number: int, path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    return f'<script type="text/plain" id="video-{number}">{base64.b64encode(content).decode()}</script>'


def _packed(array: Shaped[np.ndarray, "..."], kind: str) -> str:
    """Base64 of little-endian numbers; those that are no whole ones are rounded where `kind` is of integers."""
    rounded = np.rint(array) if np.dtype(kind).kind in "iu" else array
    return base64.b64encode(np.ascontiguousarray(rounded).astype(kind).tobytes()).decode("ascii")


def _body(body: BodyAssets) -> dict[str, Any]:
    """Faces, and the joints that move each vertex most with their weights in 65535ths."""
    weights = body.weights.float().numpy()
    joints = np.argsort(-weights, axis=1, kind="stable")[:, :_INFLUENCES]
    strongest = np.take_along_axis(weights, joints, axis=1)
    return {
        "faces": _packed(body.faces.numpy(), "<u4"),
        "joints": _packed(joints, "u1"),
        "weights": _packed(65535 * strongest / strongest.sum(1, keepdims=True), "<u2"),
        "parents": list(body.parents),
    }


def _person(
    person: PagePerson, bodies: Sequence[BodyAssets], videos: Sequence[Path], video: VideoIndex
) -> dict[str, Any]:
    """Shape and motion: vertices in tenths of a millimetre, quaternions wxyz in 32767ths, the pelvis in metres."""
    captured = person.person
    body, motion = captured.body, captured.motion
    betas = torch.from_numpy(captured.betas)[None]
    shaped = (body.v_template_m + torch.einsum("vcs,s->vc", body.shape_dirs[..., : betas.shape[1]], betas[0])).numpy()
    if np.abs(shaped).max() > _FARTHEST_M:
        raise UserError(f"the shape of {person.name!r} reaches {np.abs(shaped).max():.1f} m; allowed: {_FARTHEST_M} m")
    quats = to_quaternion(torch.from_numpy(motion.rotmats.astype(np.float64))).numpy()
    state = captured.known + 2 * captured.contact[:, 0] + 4 * captured.contact[:, 1]
    return {
        "name": person.name,
        "body": next(i for i, other in enumerate(bodies) if other is body),
        "video": videos.index(person.video),
        "size": [video.width_px, video.height_px],
        "fps": float(person.fps),
        "frames": video.num_frames,
        "first": person.first_frame,
        "poses": len(captured.known),
        "vertices": _packed(1e4 * shaped, "<i2"),
        "rest": rest_joints(body, betas)[0].numpy().round(5).tolist(),
        "quats": _packed(32767 * quats, "<i2"),
        "pelvis": _packed(motion.trans_m, "<f4"),
        "state": "".join(map(str, state.tolist())),
        "strips": [_strip(strip) for strip in person.strips],
        **_heat(person.heat_px),
    }


def _strip(strip: Strip) -> dict[str, Any]:
    values = [float(f"{x:.4g}") if np.isfinite(x) else None for x in strip.values.tolist()]
    return {"name": strip.name, "unit": strip.unit, "note": strip.note, "worst": strip.worst, "values": values}


def _heat(heat_px: Float32[np.ndarray, "t 24"] | None) -> dict[str, Any]:
    """Tenths of a pixel; the ramp ends where nineteen of twenty joints are below."""
    known = None if heat_px is None else np.isfinite(heat_px)
    if heat_px is None or known is None or not known.any():
        return {"heat": None, "heat_top": 0}
    tenths = np.where(known, np.clip(10 * np.where(known, heat_px, 0), 0, _UNKNOWN_HEAT - 1), _UNKNOWN_HEAT)
    top = max(float(np.percentile(heat_px[known], 95)), 1.0)
    return {"heat": _packed(tenths, "<u2"), "heat_top": float(f"{top:.2g}")}
