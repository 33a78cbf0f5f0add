"""Faces of a store as methods see them, and for the judge alone the true pictures and what is known of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32, Int, UInt8

from aign.data.pixels import decode_jpeg, decode_parts
from aign.data.store import Selection, Store
from aign.evaluation.baselines.bicubic import bicubic
from aign.evaluation.faces_image import area_down
from aign.evaluation.faces_judge import Judge, LabelledFaces, Reading
from aign.evaluation.faces_net import at_side, parts_at_side
from aign.evaluation.faces_protocol import FaceProtocol
from aign.evaluation.rows import Rows
from aign.framework.errors import UserError
from aign.tasks.faces.bias import Bias
from aign.tasks.faces.labels import FaceLabels, read_labels

ETHNICITIES = ("african", "asian", "caucasian")
GROUP_SIGNS = ("Male", "Young")
AGE_BANDS = ((0.0, 30.0, "age<30"), (30.0, 50.0, "age 30-50"), (50.0, np.inf, "age>50"))


@dataclass(frozen=True, kw_only=True)
class FaceView:
    """Pictures to be measured; what a method sees of them is `inputs` and `hole`.

    Attributes:
        inputs: small pictures, or whole ones that are black in the hole.
        hole: of inpainting, what was taken away; None: superresolution.
        before: what is compared with: bicubic enlargements, or the true pictures of inpainting.
        truth: what the inputs were made of; None: not known.
        names: of the attributes.
        attributes: NaN: not known.
        identity: -1: not known.
        parts: labels of the truth, of its size.
        rows: where each picture comes from.
        judge: reads pictures; None: nothing can be said of what is in them.
        target: settled bias that the methods are for; an empty one: none.
        real: true pictures that outputs should look like, of other people or of the same; None: the members of the
            target among the truth.
    """

    inputs: UInt8[np.ndarray, "n a b 3"]
    before: UInt8[np.ndarray, "n s s 3"]
    truth: UInt8[np.ndarray, "n s s 3"] | None
    names: tuple[str, ...]
    attributes: Float32[np.ndarray, "n k"]
    identity: Int[np.ndarray, " n"]
    rows: Rows
    hole: Bool[np.ndarray, "n s s"] | None = None
    parts: UInt8[np.ndarray, "n s s"] | None = None
    judge: Judge | None = None
    target: Bias = field(default_factory=Bias)
    real: UInt8[np.ndarray, "m s s 3"] | None = None

    @cached_property
    def read_before(self) -> Reading | None:
        """What the judge reads in `before`; read once for all methods."""
        return self.judge.read(self.before) if self.judge else None

    @cached_property
    def read_truth(self) -> Reading | None:
        """What the judge reads in `truth`; read once for all methods."""
        return self.judge.read(self.truth) if self.judge and self.truth is not None else None


def face_rows(labels: FaceLabels) -> Rows:
    """Where pictures come from."""
    subject = np.array([name.partition("/")[0] for name in labels.sequence.tolist()])
    return Rows(
        sequence=labels.sequence,
        subject=subject,
        action=np.full(len(subject), "face"),
        camera=np.full(len(subject), ""),
        frame=labels.number,
    )


def read_faces(store: Store, side_px: int, selection: Selection | None = None) -> tuple[LabelledFaces, FaceLabels]:
    """Pictures of a store with what is known of them; those that are not square are cut to their middle square.

    Args:
        store: with the table faces, and face_parts where parts are labelled.
        side_px: that the pictures are brought to.
        selection: which of them.

    Raises:
        UserError: no faces, nothing selected, or a damaged picture.
    """
    labels = read_labels(store, selection)
    with_parts = "face_parts" in store.manifest.tables
    more = {"face_parts": ("parts_png",)} if with_parts else {}
    arrays = store.read({"faces": ("face_jpeg",), **more}, selection).arrays
    if with_parts and len(arrays["parts_png"]) != len(labels.identity):
        raise UserError(
            f"{store.url} has parts of {len(arrays['parts_png'])} of {len(labels.identity)} faces; allowed are all "
            "or none"
        )
    images = [at_side(_middle(decode_jpeg(data))[None], side_px)[0] for data in arrays["face_jpeg"].reshape(-1)]
    parts = None
    if with_parts:
        found = [_middle(decode_parts(data))[None] for data in arrays["parts_png"].reshape(-1)]
        parts = np.concatenate([parts_at_side(one, side_px) for one in found])
    return (
        LabelledFaces(
            images=np.stack(images),
            names=labels.names,
            attributes=labels.attributes.astype(np.float32),
            identity=labels.identity,
            partition=labels.partition,
            parts=parts,
        ),
        labels,
    )


def _middle(picture: np.ndarray) -> np.ndarray:
    h, w = picture.shape[:2]
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    return picture[top : top + side, left : left + side]


def view_of(
    faces: LabelledFaces,
    rows: Rows,
    protocol: FaceProtocol,
    *,
    hole: Bool[np.ndarray, "n s s"] | None = None,
    judge: Judge | None = None,
    target: Bias | None = None,
) -> FaceView:
    """A view of labelled pictures under a protocol, which says how inputs are made.

    Args:
        faces: the true pictures.
        rows: where they come from.
        protocol: superresolution's inputs are rounded means of blocks, inpainting's are black in the hole.
        hole: needed by inpainting alone.
        judge: reads pictures.
        target: settled; None: no bias.

    Raises:
        UserError: sides that the factor does not divide, or a hole that is missing or not wanted.
    """
    if (hole is None) != (protocol.task == "superresolution"):
        raise UserError(f"got {'no' if hole is None else 'a'} mask for {protocol.id}; inpainting needs one, no other")
    truth = faces.images
    if hole is None:
        inputs = np.rint(area_down(truth, protocol.factor)).astype(np.uint8)
    else:
        inputs = np.where(hole[..., None], np.uint8(0), truth)
    return FaceView(
        inputs=inputs,
        before=bicubic(inputs, truth.shape[1]) if hole is None else truth,
        truth=truth,
        names=faces.names,
        attributes=faces.attributes,
        identity=faces.identity,
        rows=rows,
        hole=hole,
        parts=faces.parts,
        judge=judge,
        target=target or Bias(),
    )


def groups_of(view: FaceView) -> Mapping[str, Bool[np.ndarray, " n"]]:
    """Who is compared apart, by their labels: sexes, ages, ethnicities; groups without a picture are left out."""
    column = {name: view.attributes[:, i] for i, name in enumerate(view.names)}
    groups: dict[str, Bool[np.ndarray, " n"]] = {}
    for name in GROUP_SIGNS:
        if name in column:
            groups |= {f"{name}=+1": column[name] > 0, f"{name}=-1": column[name] <= 0}
    if "age" in column:
        groups |= {name: (column["age"] >= low) & (column["age"] < high) for low, high, name in AGE_BANDS}
    if all(name in column for name in ETHNICITIES):
        shares = np.stack([column[name] for name in ETHNICITIES], 1)
        there = ~np.isnan(shares).any(1)
        most = np.where(there, np.nan_to_num(shares).argmax(1), -1)
        groups |= {f"mostly {name}": most == i for i, name in enumerate(ETHNICITIES)}
    return {name: chosen for name, chosen in groups.items() if chosen.any()}
