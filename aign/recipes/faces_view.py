"""Faces of a store as the judge of a model sees them, and a model as a way to answer them."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from aign.data.store import Selection, Store
from aign.evaluation.baselines.bicubic import bicubic, diffused
from aign.evaluation.faces import measure_faces
from aign.evaluation.faces_judge import Judge
from aign.evaluation.faces_judge_files import kept_judge
from aign.evaluation.faces_net import SIDE_PX
from aign.evaluation.faces_photo import photo_judge
from aign.evaluation.faces_protocol import resolve_faces
from aign.evaluation.faces_report import FaceReport
from aign.evaluation.faces_view import FaceView, face_rows, read_faces, view_of
from aign.evaluation.report import Provenance
from aign.framework.errors import UserError
from aign.recipes.faces import INPAINTING_PROTOCOL, SUPERRESOLUTION_PROTOCOL, parts
from aign.tasks.faces.answers import enlarged, filled
from aign.tasks.faces.bias import Bias, parse_bias, settle
from aign.tasks.faces.inpainting import InpainterConfig
from aign.tasks.faces.labels import read_labels
from aign.tasks.faces.masks import MaskConfig, in_square, part_masks, read_boxes
from aign.tasks.faces.pictures import PictureSelection
from aign.tasks.faces.superresolution import SuperResolverConfig

FaceMethod: TypeAlias = Callable[[FaceView], UInt8[np.ndarray, "n s s 3"]]
"""Any way to get pictures from the inputs of a view."""
OWN_JUDGE = 200
"""From so many labelled training pictures on, the store's own labels train the judge."""


def judge_of(store: Store) -> Judge:
    """The judge of a store's pictures: one that its own labels train, once; of too few, the photographs' age and sex.

    Raises:
        UserError: there is neither enough to learn from, nor the photographs' network in the cache.
    """
    if len(read_labels(store, parts(store).train).identity) < OWN_JUDGE:
        return photo_judge()
    kept = kept_judge(store.hash, lambda: read_faces(store, SIDE_PX)[0])
    return kept.judge(", ".join(store.manifest.licences))


def target_of(store: Store, text: str) -> Bias:
    """A bias whose quantile is the training part's."""
    bias = parse_bias(text)
    if not bias.quantile:
        return bias
    labels = read_labels(store, parts(store).train)
    return settle(bias, labels.attributes, labels.names)


def low_view(store: Store, selection: Selection, network: SuperResolverConfig, judge: Judge | None) -> FaceView:
    """Pictures for a model of super-resolution."""
    faces, labels = read_faces(store, network.side_px, selection)
    protocol, target = resolve_faces(SUPERRESOLUTION_PROTOCOL), target_of(store, network.bias)
    return view_of(faces, face_rows(labels), protocol, judge=judge, target=target)


def hole_view(store: Store, selection: Selection, network: InpainterConfig, judge: Judge | None) -> FaceView:
    """Pictures for a model of inpainting, a box round the part hidden; those whose part nobody has found are left out.

    Raises:
        UserError: there is none.
    """
    boxes = read_boxes(store, selection, network.part)
    if not boxes.valid.any():
        raise UserError(f"{store.url}: {network.part} were found in none of {len(boxes.valid)} selected pictures")
    there = PictureSelection(keys=frozenset(key for key, ok in zip(boxes.keys, boxes.valid, strict=True) if ok))
    at, size = (torch.from_numpy(values[boxes.valid]) for values in (boxes.boxes_px, boxes.size_px))
    still = MaskConfig(part=network.part, shape="box", jitter=0.0)
    keep = part_masks(in_square(at, size, network.side_px), network.side_px, torch.arange(len(at)), still)
    faces, labels = read_faces(store, network.side_px, there)
    return view_of(
        faces,
        face_rows(labels),
        resolve_faces(INPAINTING_PROTOCOL),
        hole=keep[:, 0].numpy() == 0,
        judge=judge,
        target=target_of(store, network.bias),
    )


def resolver_method(net: nn.Module) -> FaceMethod:
    """A model of super-resolution as a method, on the device where it is."""
    return lambda view: enlarged(net, view.inputs)


def inpainter_method(net: nn.Module) -> FaceMethod:
    """A model of inpainting likewise."""

    def method(view: FaceView) -> UInt8[np.ndarray, "n s s 3"]:
        assert view.hole is not None, "a view of inpainting"
        return filled(net, view.inputs, view.hole)

    return method


def bicubic_method(_: Store, __: Selection | None) -> FaceMethod:
    """The baseline of super-resolution: nothing is imagined."""
    return lambda view: bicubic(view.inputs, view.before.shape[1])


def diffused_method(_: Store, __: Selection | None) -> FaceMethod:
    """The baseline of inpainting: the hole is filled from its edge."""

    def method(view: FaceView) -> UInt8[np.ndarray, "n s s 3"]:
        assert view.hole is not None, "a view of inpainting"
        return diffused(view.inputs, view.hole)

    return method


def measure(method: FaceMethod, view: FaceView, protocol: str, provenance: Provenance) -> FaceReport:
    """A method's pictures, judged.

    Raises:
        UserError: unknown protocol, or one of the other task.
    """
    asked = resolve_faces(protocol)
    if (asked.task == "inpainting") != (view.hole is not None):
        raise UserError(f"got protocol {protocol}; these models need one of the other task")
    return measure_faces(method(view), view, asked, provenance)
