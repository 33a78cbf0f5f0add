"""The slides' rows of pictures: who was given, what each bias imagines, and the truth; and the sweep as a plot.

Never chosen by what they show: the first picture of each of the first people of the test part by key; where there are
few pictures, which come sorted by what they show, some of all evenly.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from aign.data.publish import published
from aign.evaluation.faces_view import FaceView, read_faces
from aign.inference.face_figure import SweepPoint, face_grid, pareto_figure
from aign.inference.face_mark import marked, with_texts
from aign.recipes.faces import parts
from aign.recipes.faces_tables import IDENTITY_ROW, PLAIN, FaceRow, is_exact
from aign.recipes.faces_view import diffused_method
from aign.tasks.faces.labels import FaceLabels, read_labels
from aign.tasks.faces.masks import Part, read_boxes
from aign.tasks.faces.pictures import PictureSelection, chosen
from pipelines.reproduce_faces_measure import MeasuredFaces, method_of
from pipelines.reproduce_faces_runs import Bench

SHOWN_PEOPLE = 8
SHOWN_PX = 192
"""Side of a picture in the grid, about: each pixel becomes a whole number of them."""
DPI = 150
PARTS: tuple[Part, ...] = ("lips", "nose")
SEED = 0
"""Whose networks are shown."""

Columns = dict[str, UInt8[np.ndarray, "n h w 3"]]


def shown_pictures(
    labels: FaceLabels, usable: frozenset[tuple[str, int]] | None = None, evenly: bool = False
) -> PictureSelection:
    """The first picture of each of the first people by key; one of nobody who is known is a person of its own.

    Args:
        labels: of what is measured on.
        usable: keys of those that may be shown; None: all.
        evenly: some of all people, in place of the first.
    """
    first: dict[object, int] = {}
    for i in sorted(range(len(labels.identity)), key=lambda i: (str(labels.sequence[i]), int(labels.number[i]))):
        key = str(labels.sequence[i]), int(labels.number[i])
        if usable is None or key in usable:
            first.setdefault(int(labels.identity[i]) if labels.identity[i] >= 0 else key, i)
    people = list(first.values())
    which = np.zeros(len(labels.identity), bool)
    which[people[:: max(len(people) // SHOWN_PEOPLE, 1)][:SHOWN_PEOPLE] if evenly else people[:SHOWN_PEOPLE]] = True
    return chosen(labels, which)


def resolved_columns(bench: Bench, trained: Sequence[FaceRow]) -> Columns:
    """Input, bicubic, every trained row of ours, and the truth; before a person's bias, pictures of that person."""
    view = bench.low_of(shown_pictures(read_labels(bench.store, bench.test), evenly=bench.few), None)
    assert view.truth is not None, "pictures of a store"
    columns: Columns = {f"input, {view.inputs.shape[1]} px": view.inputs, "bicubic": view.before}
    for row in _plain_first(trained):
        if row.key == IDENTITY_ROW:
            assert row.recipe is not None, "it is trained"
            columns[f"{row.recipe.bias.replace('=', ' ')}, true"] = _remembered(bench, row, len(view.inputs))
        columns[row.label] = _answer(bench, row, view)
    return {**columns, "truth": view.truth}


def _plain_first(trained: Sequence[FaceRow]) -> list[FaceRow]:
    ours = [row for row in trained if row.is_biased or row.key.endswith(PLAIN)]
    return sorted(ours, key=lambda row: row.is_biased)


def _answer(bench: Bench, row: FaceRow, view: FaceView) -> UInt8[np.ndarray, "n s s 3"]:
    """Of a row's network, each marked as synthetic at the size at which it is shown."""
    return np.stack([marked(picture) for picture in larger(method_of(bench, row, SEED)(view))])


def _remembered(bench: Bench, row: FaceRow, count: int) -> UInt8[np.ndarray, "n s s 3"]:
    """Pictures of the person whom a row's memory is of, the first by key, again and again where there are few."""
    train = parts(bench.store).train
    labels = read_labels(bench.store, train)
    assert row.recipe is not None, "it is trained"
    rows = np.flatnonzero(labels.identity == int(row.recipe.bias.partition("=")[2]))
    which = np.zeros(len(labels.identity), bool)
    which[rows[:count]] = True
    images = read_faces(bench.store, bench.side_px, chosen(labels, which))[0].images
    return images[np.arange(count) % len(images)]


def filled_columns(bench: Bench, trained: Sequence[FaceRow]) -> Columns:
    """Of each part: what was given, the hole filled from its edge, every trained row of ours; then the truth.

    The same people as far as all of the parts were found.
    """
    shown = tuple(part for part in PARTS if any(_hides(row, part) for row in trained))
    there = [read_boxes(bench.store, bench.test, part) for part in shown]
    found = [frozenset(key for key, ok in zip(b.keys, b.valid, strict=True) if ok) for b in there]
    some = shown_pictures(read_labels(bench.store, bench.test), frozenset.intersection(*found), evenly=bench.few)
    columns: Columns = {}
    truth = None
    for part in shown:
        view = bench.hole_of(some, part, None)
        columns[f"input, {part} hidden"] = view.inputs
        columns[f"{part}: diffused"] = diffused_method(bench.store, None)(view)
        for row in _plain_first([row for row in trained if _hides(row, part)]):
            columns[f"{part}: {row.label}"] = _answer(bench, row, view)
        truth = view.truth
    assert truth is not None, "at least one part is shown"
    return {**columns, "truth": truth}


def _hides(row: FaceRow, part: Part) -> bool:
    return row.group == "inpainting" and row.recipe is not None and row.judged_by[0].startswith(part)


def larger(images: UInt8[np.ndarray, "n s s 3"]) -> UInt8[np.ndarray, "n t t 3"]:
    """Pictures about as large as they are shown, each pixel a square."""
    factor = max(SHOWN_PX // images.shape[1], 2)
    return images.repeat(factor, axis=1).repeat(factor, axis=2)


def draw_pictures(path: Path, columns: Mapping[str, UInt8[np.ndarray, "n h w 3"]], note: str) -> None:
    """Write the rows of pictures; the file says in its text too that they are synthetic.

    Args:
        path: of the new .png.
        columns: by label; those that are not drawn yet at their size are enlarged, pixel by pixel.
        note: under them.
    """
    side = max(images.shape[1] for images in columns.values())
    drawn = {label: _to(images, side) for label, images in columns.items()}
    with published(path) as unfinished:
        face_grid(unfinished, drawn, note, cell_in=side / DPI / 0.96)  # a cell leaves 4 % for gaps
        said = {"Comment": f"Synthetic: {note}", "Title": "Faces imagined by AIGN"}
        unfinished.write_bytes(with_texts(unfinished.read_bytes(), said))


def _to(images: UInt8[np.ndarray, "n h w 3"], side: int) -> UInt8[np.ndarray, "n t t 3"]:
    factor = max(side // images.shape[1], 1)
    return images.repeat(factor, axis=1).repeat(factor, axis=2)


def draw_sweep(path: Path, measured: Sequence[MeasuredFaces]) -> None:
    """Write faithfulness against bias over the critic's weight; measured without points, a row is left out."""
    lines: dict[str, list[SweepPoint]] = {}
    swept = (m for m in measured if m.row.weight is not None and "target_points" in m.mean.numbers)
    for m in sorted(swept, key=lambda m: m.row.weight or 0.0):
        name = "renderer built in" if is_exact(m.row) else "renderer as a loss"
        point = SweepPoint(
            label=f"{m.row.weight:.1e}",
            faithful_db=m.mean.numbers["faithful_psnr_db"],
            target_points=m.mean.numbers["target_points"],
        )
        lines.setdefault(f"{name}, {m.bias} (labels: critic / renderer)", []).append(point)
    if lines:
        pareto_figure(path, lines)
