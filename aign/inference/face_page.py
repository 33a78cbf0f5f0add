"""The page of translated photographs: each before and after, what the model was given, and who could not be done."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from aign.data.publish import published
from aign.inference.face_figure import face_grid
from aign.inference.face_mark import marked, marked_png
from aign.inference.face_translate import FaceTranslator, Translated
from aign.inference.page import Entry
from aign.inference.report import DemoReport, Picture, write_report

_SHOWN_PX = 512


@dataclass(frozen=True, kw_only=True)
class Done:
    """A photograph that was translated: its file, the name of what belongs to it, and what was found."""

    source: Path
    name: str
    faithful_db: float
    shrunk: float


def write_translation(
    out: Path, name: str, source: Path, before: np.ndarray, result: Translated, model: str, what: str
) -> Done:
    """Write NAME.png, which is marked twice, and NAME-steps.png, which the page shows.

    Args:
        out: folder.
        name: of the files.
        source: of the photograph.
        before: the photograph.
        result: what became of it.
        model: that did it.
        what: it did, in words.
    """
    with published(out / f"{name}.png") as unfinished:
        unfinished.write_bytes(marked_png(result.photo, model, what))
    columns = {
        "before": _shown(before)[None],
        "after (synthetic)": marked(_shown(result.photo))[None],
        "face": result.face[None],
        "given to the model": result.seen[None],
        "imagined": marked(result.imagined)[None],
    }
    face_grid(out / f"{name}-steps.png", columns, f"{source.name}: the face is synthetic; made by {model}", cell_in=2.2)
    return Done(source=source, name=name, faithful_db=result.faithful_db, shrunk=result.shrunk)


def _shown(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "a b 3"]:
    """A picture small enough for the page."""
    factor = _SHOWN_PX / max(image.shape[:2])
    if factor >= 1:
        return image
    size = max(round(image.shape[1] * factor), 1), max(round(image.shape[0] * factor), 1)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def write_page(out: Path, done: Sequence[Done], failed: Sequence[str], translator: FaceTranslator, model: str) -> Path:
    """Write index.html.

    Args:
        out: folder with the pictures of `write_translation`.
        done: photographs that were translated.
        failed: for each other one, what was wrong with it.
        translator: the model.
        model: as it was named.
    """
    card = translator.card
    said = (
        f"{len(done)} photograph{'s' if len(done) > 1 else ''} through the model {model} (recipe {card.recipe}): "
        f"{translator.what}.",
        "Nothing here is evidence of what anybody looks like: the model chooses among the faces that fit its input, "
        "and a declared bias says which. Every picture carries a mark in its corner and text in its file that say so.",
        *([f"Not done: {'; '.join(failed)}."] if failed else []),
    )
    return write_report(
        out,
        DemoReport(
            title="Translated faces",
            summary=said,
            pictures=tuple(_picture(one) for one in done),
            files=tuple(Entry(term=f"{one.name}.png", text=f"from {one.source.name}") for one in done),
            provenance=(Entry(term="model", text=f"{model}; trained on store {card.store_hash[:12]}"),),
            licences=tuple(Entry(term="model's data", text=text) for text in card.licences),
        ),
    )


def _picture(one: Done) -> Picture:
    finer = f"; one pixel of the face stands for {one.shrunk:.1f} of the photograph" if one.shrunk > 1.5 else ""
    caption = f"{one.source.name}: reduced again, the answer is the input to {one.faithful_db:.1f} dB{finer}"
    return Picture(path=f"{one.name}-steps.png", caption=caption, alt=f"{one.source.name} before and after")
