"""How good the judges of faces are, and what a measurement costs.

The judge of photographs on the AI-generated portraits, whose prompts are the labels: aligned and cut out by the face
nets, as they are and after being reduced to 16 pixels and enlarged again, because bicubic pictures are judged too. With
--store: the judge that is trained on a store of rendered faces, the time it takes, and the rows that need no training.

    aign assets pull face face_judge
    python benchmarks/faces.py --portraits DIR --store STORE
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import machine
import numpy as np
import torch
import tyro
from jaxtyping import Float32, UInt8

from aign.data.datasets.faces.portraits import ATTRIBUTES, read_portraits
from aign.data.stages.faces import aligned, find_face
from aign.data.store import Store
from aign.evaluation.baselines.bicubic import bicubic
from aign.evaluation.faces import measure_faces
from aign.evaluation.faces_image import area_down
from aign.evaluation.faces_judge import LabelledFaces, attribute_facts
from aign.evaluation.faces_judge_fit import train_judge
from aign.evaluation.faces_photo import FACE_SQUARE, photo_judge
from aign.evaluation.faces_protocol import resolve_faces
from aign.evaluation.faces_report import FaceReport
from aign.evaluation.faces_table import face_table
from aign.evaluation.faces_view import FaceView, face_rows, read_faces, view_of
from aign.evaluation.mocap_table import render_markdown
from aign.evaluation.report import Provenance
from aign.framework.errors import UserError
from aign.inference.face_translate import read_photo
from aign.tasks.faces.bias import parse_bias

SIDE_PX = 64
SQUARES = ((0.0, 0.0, 1.0), (0.1, 0.15, 0.8), FACE_SQUARE, (0.22, 0.27, 0.56), (0.25, 0.3, 0.5), (0.28, 0.34, 0.44))
PUBLISHED = "98.0 % and 8.2 years on 200 portraits of the same making (../shared/spec/data.md, section D)"


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Measure the judges of faces.

    Attributes:
        portraits: folder of the AI-generated portraits.
        store: of rendered faces; nothing: only the portraits.
        bias: that the rows without training are measured for.
    """

    portraits: Path
    store: str | None = None
    bias: str = "sex=female"


def cut_out(folder: Path, side_px: int) -> tuple[UInt8[np.ndarray, "n s s 3"], Float32[np.ndarray, "n 3"], int]:
    """Aligned portraits, what is known of them, and how many faces were not found."""
    images, labels, lost = [], [], 0
    for face in read_portraits(folder).faces:
        picture = read_photo(folder / face.file)
        try:
            images.append(aligned(picture, find_face(picture).landmarks_px, side_px)[0])
        except UserError:
            lost += 1
            continue
        labels.append(face.attributes)
    return np.stack(images), np.stack(labels), lost


def degraded(images: UInt8[np.ndarray, "n s s 3"]) -> UInt8[np.ndarray, "n s s 3"]:
    """Reduced to a quarter and enlarged again."""
    return bicubic(np.rint(area_down(images, 4)).astype(np.uint8), images.shape[1])


def portraits(folder: Path) -> list[str]:
    images, labels, lost = cut_out(folder, SIDE_PX)
    known = labels[:, [ATTRIBUTES.index(name) for name in ("Male", "age")]]
    out = [
        f"## Age and gender net on {len(images)} AI-generated portraits, aligned at {SIDE_PX} px ({lost} not found)",
        "",
        f"Labels are the prompts. As told before: {PUBLISHED}.",
        "",
        "| square of the aligned picture | pictures | sex, accuracy % | age, MAE years | age, r |",
        "|:--|:--|--:|--:|--:|",
    ]
    for square in SQUARES:
        judge = photo_judge(square)
        for name, shown in (("as they are", images), ("16 px, bicubic", degraded(images))):
            facts = attribute_facts(judge.names, judge.is_sign, judge.read(shown).values, known)
            used = " (used)" if square == FACE_SQUARE else ""
            cells = f"{100 * facts['Male_accuracy']:.1f} | {facts['age_mae']:.1f} | {facts['age_r']:.2f}"
            out.append(f"| {square}{used} | {name} | {cells} |")
    start = time.perf_counter()
    photo_judge().read(images)
    return [*out, "", f"- {1000 * (time.perf_counter() - start) / len(images):.1f} ms a face", ""]


def rendered(url: str, bias: str) -> list[str]:
    store = Store.open(url)
    faces, labels = read_faces(store, SIDE_PX)
    start = time.perf_counter()
    trained = train_judge(faces, label="train the judge")
    seconds = time.perf_counter() - start
    judge = trained.judge(", ".join(store.manifest.licences))
    kept = np.flatnonzero(faces.partition == "test")
    some = rows_of(faces, kept)
    where = face_rows(labels)
    cut = type(where)(**{k: v[kept] if isinstance(v, np.ndarray) else v for k, v in vars(where).items()})
    protocol = resolve_faces("faces/superresolution-4x")
    view = view_of(some, cut, protocol, judge=judge, target=parse_bias(bias))
    reports, costs = measured(view, store.hash)
    audits = [f"- {name}: {value:.3f}" for name, value in trained.facts.items()]
    return [
        f"## A judge of {len(faces.images)} rendered faces, trained in {seconds:.0f} s",
        "",
        *audits,
        f"- measuring {len(kept)} pictures: {np.mean(costs):.1f} s a method",
        "",
        render_markdown(face_table(reports)),
        "",
    ]


def rows_of(faces: LabelledFaces, rows: np.ndarray) -> LabelledFaces:
    return LabelledFaces(
        images=faces.images[rows],
        names=faces.names,
        attributes=faces.attributes[rows],
        identity=faces.identity[rows],
        partition=faces.partition[rows],
        parts=None if faces.parts is None else faces.parts[rows],
    )


def measured(view: FaceView, store_hash: str) -> tuple[list[FaceReport], list[float]]:
    """Rows that need no training: bicubic, and the truth itself, which is as far as anybody gets."""
    assert view.truth is not None
    protocol = resolve_faces("faces/superresolution-4x")
    reports, costs = [], []
    for name, images in (("bicubic", view.before), ("the true pictures", view.truth)):
        start = time.perf_counter()
        provenance = Provenance(method=name, data="rendered faces, test part", store_hash=store_hash)
        reports.append(measure_faces(images, view, protocol, provenance))
        costs.append(time.perf_counter() - start)
    return reports, costs


def main(argv: Sequence[str] | None = None) -> None:
    args = tyro.cli(Arguments, args=argv)
    torch.set_num_threads(1)
    text = ["# Judges of faces", "", *portraits(args.portraits)]
    text += rendered(args.store, args.bias) if args.store else []
    text += machine.lines("python benchmarks/faces.py --portraits DIR --store STORE", "numpy", "torch")
    machine.publish("faces_judge.md", "\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main()
