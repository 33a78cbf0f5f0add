"""Pictures of faces for a report: grids of who was given, what was imagined and what was true, and Pareto plots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from aign.data.publish import published
from aign.evaluation.faces_view import FaceView
from aign.framework.errors import UserError
from aign.inference.plot import FAINT, INK, METHOD_COLOURS, QUIET, new_figure

_HEAD_IN, _FOOT_IN = 0.55, 0.35
WANTED_DB, WANTED_POINTS = 40.0, 60.0
"""What is asked for of faithfulness and of the change of sex and age."""


def comparison(
    view: FaceView, ours: Mapping[str, UInt8[np.ndarray, "n s s 3"]], rows: Sequence[int]
) -> dict[str, UInt8[np.ndarray, "m h w 3"]]:
    """Columns of a grid: what was given, the bicubic enlargement, ours by label, and the truth where it is known.

    Args:
        view: that the pictures were made of.
        ours: by label, one picture of each input.
        rows: which faces are shown.
    """
    given = f"input, {view.inputs.shape[1]} px" if view.hole is None else "input"
    columns: dict[str, UInt8[np.ndarray, "n h w 3"]] = {given: view.inputs}
    columns |= {"bicubic": view.before} if view.hole is None else {}
    columns |= dict(ours)
    columns |= {"truth": view.truth} if view.truth is not None else {}
    return {label: images[list(rows)] for label, images in columns.items()}


def face_grid(
    path: Path, columns: Mapping[str, UInt8[np.ndarray, "n h w 3"]], note: str, *, cell_in: float = 1.25
) -> None:
    """Write a png: a row a face, a column a method, its name above; small pictures are drawn with their own pixels.

    Args:
        path: of the new .png.
        columns: by label, pictures of the same n faces, each column of its own size.
        note: under the grid: what the pictures are of (rendered, AI-generated, ...).
        cell_in: side of a picture, inches at 150 dpi.

    Raises:
        UserError: no picture, or columns of different lengths.
    """
    counts = {label: len(images) for label, images in columns.items()}
    if not counts or len(set(counts.values())) != 1 or not min(counts.values()):
        raise UserError(f"got columns of {counts} pictures; allowed are one or more of each, as many of all")
    rows = next(iter(counts.values()))
    height = cell_in * rows + _HEAD_IN + _FOOT_IN
    figure = new_figure(cell_in * len(columns), height, dpi=150)
    for i, (label, images) in enumerate(columns.items()):
        for row, image in enumerate(images):
            bottom = (height - _HEAD_IN - cell_in * (row + 1)) / height
            axes = figure.add_axes(((i + 0.02) / len(columns), bottom, 0.96 / len(columns), 0.96 * cell_in / height))
            axes.imshow(image, interpolation="nearest")
            axes.set_axis_off()
        middle = (i + 0.5) / len(columns)
        figure.text(
            middle, 1 - 0.5 * _HEAD_IN / height, _broken(label), ha="center", va="center", fontsize=9, color=INK
        )
    figure.text(0.01, 0.4 * _FOOT_IN / height, note, ha="left", va="center", fontsize=7, color=QUIET)
    _save(figure, path)


def _broken(label: str) -> str:
    """A long label on two lines."""
    if len(label) <= 14 or " " not in label:
        return label
    spaces = [i for i, c in enumerate(label) if c == " "]
    at = min(spaces, key=lambda i: abs(i - len(label) / 2))
    return f"{label[:at]}\n{label[at + 1 :]}"


@dataclass(frozen=True, kw_only=True)
class SweepPoint:
    """One training of a sweep.

    Attributes:
        label: beside the point, e.g. the weight.
        faithful_db: PSNR of P of the output against the input.
        target_points: change of the target's share.
    """

    label: str
    faithful_db: float
    target_points: float


def pareto_front(points: Sequence[SweepPoint]) -> Bool[np.ndarray, " n"]:
    """Which points no other one beats: none is at least as good in both and better in one."""
    xy = np.array([(p.faithful_db, p.target_points) for p in points]).reshape(-1, 2)
    as_good = np.all(xy[None] >= xy[:, None], axis=2)
    better = np.any(xy[None] > xy[:, None], axis=2)
    return np.asarray(~np.any(as_good & better, axis=1))


def pareto_figure(path: Path, sweeps: Mapping[str, Sequence[SweepPoint]]) -> None:
    """Write a png: faithfulness against bias, a line a sweep; filled points are beaten by no other of their sweep.

    Raises:
        UserError: no point.
    """
    if not any(sweeps.values()):
        raise UserError("got no point to draw; allowed: at least one")
    figure = new_figure(7.2, 4.8, dpi=150)
    axes = figure.add_axes((0.1, 0.12, 0.87, 0.8))
    for (name, points), colour in zip(sweeps.items(), METHOD_COLOURS * len(sweeps), strict=False):
        front = pareto_front(points)
        x, y = [p.faithful_db for p in points], [p.target_points for p in points]
        axes.plot(x, y, "-", color=colour, linewidth=1.2, label=name)
        for point, best in zip(points, front.tolist(), strict=True):
            face = colour if best else "white"
            axes.plot(point.faithful_db, point.target_points, "o", color=colour, markerfacecolor=face, markersize=6)
            axes.annotate(
                point.label, (point.faithful_db, point.target_points), (5, 4), textcoords="offset points", fontsize=7,
                color=QUIET,
            )  # fmt: skip
    axes.axvline(WANTED_DB, color=QUIET, linewidth=0.8, linestyle=":")
    axes.axhline(WANTED_POINTS, color=QUIET, linewidth=0.8, linestyle=":")
    axes.set_xlabel("faithfulness: PSNR of P(G(x)) against x, dB", color=INK)
    axes.set_ylabel("bias: target attribute, points more than bicubic", color=INK)
    axes.set_title("dotted: what is asked for; filled: beaten by no other", fontsize=9, color=QUIET, loc="left")
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=8)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    with published(path) as unfinished:
        figure.savefig(unfinished)
