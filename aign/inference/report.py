"""One page that opens from disk: what was done, the video, the lifted motion in 3D, the numbers, where it all is.

The page is a single index.html with its style, its script and the joints inside; videos and pictures lie beside it.
"""

import base64
from dataclasses import dataclass
from html import escape
from pathlib import Path, PurePosixPath
from string import Template
from typing import Any
from urllib.parse import quote

import numpy as np
from jaxtyping import Float

from aign.data.stages.decode import probe
from aign.framework.errors import UserError
from aign.geometry.skeleton import H36M17
from aign.inference.figure import levelled
from aign.inference.overlay import SIDE_RGB, side
from aign.inference.page import BESIDE, Entry, Page, asset, data, definitions, paragraphs, section, table, write_page

MISSING_MM = -32768
"""Stands for a coordinate that is not known in the page's joints."""

_MAX_REACH_M = 10.0
_PSEUDO_TRUTH = (
    "No marker data come with this video. The reference is made of the same detector's 2D joints, triangulated from "
    "all calibrated cameras, while the lifting sees one camera only. It shares the detector's habits, so it is a "
    "pseudo-truth, not ground truth: read these numbers as agreement, not as accuracy."
)


@dataclass(frozen=True, kw_only=True)
class LiftedClip:
    """A video and its motion in 3D, shown together.

    Convention: camera frame, +x right, +y down, +z forward; the page shows every frame relative to its pelvis and,
    where `up_cam` is known, upright.

    Attributes:
        name: in the page's menu.
        caption: one sentence under it.
        video: the overlay video, relative to the report's folder; its frame i shows pose i.
        fps: of that video.
        predicted_m: lifted H36M-17 joints; not finite: not shown.
        reference_m: what they are compared with, likewise, or None.
        up_cam: where up is in the camera frame, if known; else the camera is taken to be level.
    """

    name: str
    caption: str
    video: str
    fps: float
    predicted_m: Float[np.ndarray, "t 17 3"]
    reference_m: Float[np.ndarray, "r 17 3"] | None = None
    up_cam: Float[np.ndarray, " 3"] | None = None


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image: its path relative to the folder, its caption, and a text for those who cannot see it."""

    path: str
    caption: str
    alt: str


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """A small table: column heads, rows of as many texts, a note under it."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class DemoReport:
    """What the page says; sections without content are left out.

    Attributes:
        title: heading of the page.
        summary: paragraphs in plain words: what was done, with what.
        clips: the videos with their motion in 3D; the first is shown first.
        pictures: e.g. of `aign.inference.figure`.
        evaluation_html: the evaluation table as a trusted HTML fragment (`aign.evaluation.tables.render_html`).
        agreement: numbers against the triangulation, which the page says is a pseudo-truth.
        commands: what to try next.
        files: where everything is; a term that is a path inside the folder becomes a link.
        provenance: versions, commit, store hashes.
        licences: of data and models.
    """

    title: str
    summary: tuple[str, ...]
    clips: tuple[LiftedClip, ...] = ()
    pictures: tuple[Picture, ...] = ()
    evaluation_html: str = ""
    agreement: TextTable | None = None
    commands: tuple[Entry, ...] = ()
    files: tuple[Entry, ...] = ()
    provenance: tuple[Entry, ...] = ()
    licences: tuple[Entry, ...] = ()


def write_report(folder: Path, report: DemoReport) -> Path:
    """Write index.html into a folder that already holds the media; it appears under its name when it is whole.

    Returns:
        The page.

    Raises:
        UserError: media that are not in the folder, clips of the wrong size or unit, a ragged table, or the folder
            cannot be written.
    """
    return write_page(folder / "index.html", _page(folder, report))


def _page(folder: Path, report: DemoReport) -> Page:
    sections = (
        _viewer(folder, report.clips),
        section("In pictures", "".join(_picture(folder, p) for p in report.pictures)),
        section("How good it is", _evaluation(report.evaluation_html)),
        section("Against the triangulation of all cameras (pseudo-truth)", _agreement(report.agreement)),
        section("Try next", _commands(report.commands)),
        section("Where everything is", definitions(report.files, folder)),
        section("Where it comes from", _origin(report)),
    )
    return Page(
        title=report.title,
        header_html=paragraphs(report.summary),
        sections_html=sections,
        script='"use strict";\n' + asset("player.js") + asset("report.js"),
        foot_html=data("clips", _payload(folder, report.clips)),
        shown=BESIDE,
    )


def _payload(folder: Path, clips: tuple[LiftedClip, ...]) -> dict[str, Any]:
    """The viewer's data."""
    names = list(SIDE_RGB)
    bones = [[child, parent, names.index(side(H36M17.joints[child]))] for child, parent in H36M17.bones]
    return {"bones": bones, "clips": [_clip(folder, clip) for clip in clips]}


def _clip(folder: Path, clip: LiftedClip) -> dict[str, Any]:
    frames = len(clip.predicted_m)
    if not frames or not 0 < clip.fps < 1000:
        raise UserError(f"clip {clip.name!r} has {frames} frames at {clip.fps} fps; allowed: at least one, above 0 fps")
    if clip.reference_m is not None and len(clip.reference_m) != frames:
        raise UserError(
            f"clip {clip.name!r} has {frames} poses and {len(clip.reference_m)} references; allowed: as many"
        )
    info = probe(folder / clip.video)
    return {
        "name": clip.name,
        "caption": clip.caption,
        "video": _url(folder, clip.video),
        "size": [info.width_px, info.height_px],
        "fps": float(clip.fps),
        "frames": frames,
        "predicted": _packed(clip.predicted_m, clip),
        "reference": None if clip.reference_m is None else _packed(clip.reference_m, clip),
    }


def _packed(joints_m: Float[np.ndarray, "t 17 3"], clip: LiftedClip) -> str:
    """Pelvis-centred upright joints as base64 of little-endian int16 millimetres; `MISSING_MM` where not known."""
    centred = levelled(joints_m, clip.up_cam)
    known = np.isfinite(centred).all(axis=-1, keepdims=True)
    reach = float(np.abs(np.where(known, centred, 0.0)).max())
    if reach > _MAX_REACH_M:
        raise UserError(f"clip {clip.name!r} has a joint {reach:.0f} from the pelvis; allowed are metres (mm given?)")
    packed = np.where(known, np.rint(np.where(known, centred, 0.0) * 1000), MISSING_MM).astype("<i2")
    return base64.b64encode(packed.tobytes()).decode("ascii")


def _url(folder: Path, relative: str) -> str:
    """A relative URL of a file inside the folder; a colon is quoted, so it is never a scheme."""
    path = PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts or not (folder / path).is_file():
        raise UserError(f"{relative!r} is not a file in {folder}; allowed: paths of files inside the report's folder")
    return quote(str(path))


def _picture(folder: Path, picture: Picture) -> str:
    return (
        f'<figure><div class="picture"><img src="{escape(_url(folder, picture.path))}" alt="{escape(picture.alt)}">'
        f"</div><figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _evaluation(fragment: str) -> str:
    return f'<div class="scroll evaluation">{fragment}</div>' if fragment else ""


def _agreement(found: TextTable | None) -> str:
    if found is None:
        return ""
    ragged = [row for row in found.rows if len(row) != len(found.columns)]
    if ragged:
        raise UserError(f"got a row of {len(ragged[0])} cells for {len(found.columns)} columns; allowed: as many")
    return f'<p class="text">{_PSEUDO_TRUTH}</p>{table(found.columns, found.rows, found.note)}'


def _commands(commands: tuple[Entry, ...]) -> str:
    items = "".join(f"<li><span>{escape(c.text)}</span><code>{escape(c.term)}</code></li>" for c in commands)
    return f'<ul class="commands">{items}</ul>' if items else ""


def _origin(report: DemoReport) -> str:
    licences = definitions(report.licences)
    return definitions(report.provenance) + (f"<h3>Licences</h3>{licences}" if licences else "")


def _viewer(folder: Path, clips: tuple[LiftedClip, ...]) -> str:
    """The video and the controls; without scripts the videos still play."""
    if not clips:
        return ""
    options = "".join(f'<option value="{i}">{escape(clip.name)}</option>' for i, clip in enumerate(clips))
    return Template(asset("viewer.html")).substitute(
        video=escape(_url(folder, clips[0].video)),
        options=options,
        one_clip="hidden" if len(clips) == 1 else "",
        caption=escape(clips[0].caption),
        links=" ".join(f'<a href="{escape(_url(folder, clip.video))}">{escape(clip.name)}</a>' for clip in clips),
    )
