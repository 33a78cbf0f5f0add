"""Packages as functions of arrays by name, whatever their task: what stands behind a server or a registry."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from aign.inference.body_predictor import BodyPredictor
from aign.inference.package import ModelCard, load_as, load_card
from aign.inference.predictor import LiftingPredictor
from aign.render.image import area_resize
from aign.tasks.faces.answers import enlarged, filled
from aign.tasks.faces.inpainting import Inpainter
from aign.tasks.faces.pictures import resized
from aign.tasks.faces.superresolution import SuperResolver

Arrays: TypeAlias = Mapping[str, np.ndarray]
Specs: TypeAlias = Mapping[str, tuple[str, tuple[int, ...]]]
"""Type and shape of arrays by name; -1 is any number."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """A package that answers.

    Attributes:
        card: its description.
        answer: the output arrays of input arrays; frames are those of one clip, in order, and NaN in the answer are
            frames in which too little of a person was seen.
        answer_clips: the same of the frames of several clips one after the other, and the clip of each frame; None: one
            clip at a time.
    """

    card: ModelCard
    answer: Callable[[Arrays], Arrays]
    answer_clips: Callable[[Arrays, np.ndarray], Arrays] | None = None


@dataclass(frozen=True, kw_only=True)
class Service:
    """How models of a task are asked.

    Attributes:
        read: a package that answers.
        inputs: what it is asked.
        outputs: what it answers.
    """

    read: Callable[[Path], Served]
    inputs: Specs
    outputs: Specs


def _lifting(folder: Path) -> Served:
    predictor = LiftingPredictor.of(folder)
    return Served(
        card=predictor.card,
        answer=lambda given: {"joints_cam_m": predictor.predict(**given)},
        answer_clips=lambda given, clip: {"joints_cam_m": predictor.predict(**given, clip=clip)},
    )


def _motion_capture(folder: Path) -> Served:
    predictor = BodyPredictor.of(folder)
    return Served(card=predictor.card, answer=lambda given: dict(vars(predictor.predict(**given))))


def _superresolution(folder: Path) -> Served:
    """Square pictures of any size, made as small as the model's input first."""
    net, card = load_as(SuperResolver, folder)

    def answer(given: Arrays) -> Arrays:
        return {"picture_rgb": enlarged(net, resized(given["picture_rgb"], net.config.low_px))}

    return Served(card=card, answer=answer, answer_clips=lambda given, _: answer(given))


def _inpainting(folder: Path) -> Served:
    """Square pictures of any size, brought to the model's; their holes likewise."""
    net, card = load_as(Inpainter, folder)

    def answer(given: Arrays) -> Arrays:
        side = net.config.side_px
        hole = torch.from_numpy(np.asarray(given["hole"], np.float32)).unsqueeze(1)
        hidden = area_resize(hole, side)[:, 0].numpy() > 0
        return {"picture_rgb": filled(net, resized(given["picture_rgb"], side), hidden)}

    return Served(card=card, answer=answer, answer_clips=lambda given, _: answer(given))


SERVICES: Mapping[str, Service] = {
    "lifting": Service(
        read=_lifting,
        inputs={
            "kp2d_px": ("float32", (-1, 17, 2)),
            "kp2d_conf": ("float32", (-1, 17)),
            "intrinsics_px": ("float32", (-1, 4)),
        },
        outputs={"joints_cam_m": ("float32", (-1, 17, 3))},
    ),
    "motion_capture": Service(
        read=_motion_capture,
        inputs={
            "image_rgb": ("uint8", (-1, -1, -1, 3)),
            "kp2d_px": ("float32", (-1, 24, 2)),
            "kp2d_conf": ("float32", (-1, 24)),
            "intrinsics_px": ("float32", (-1, 4)),
        },
        outputs={
            "rotmats": ("float32", (-1, 24, 3, 3)),
            "betas": ("float32", (-1, 10)),
            "pelvis_cam_m": ("float32", (-1, 3)),
            "joints_cam_m": ("float32", (-1, 24, 3)),
        },
    ),
    "superresolution": Service(
        read=_superresolution,
        inputs={"picture_rgb": ("uint8", (-1, -1, -1, 3))},
        outputs={"picture_rgb": ("uint8", (-1, -1, -1, 3))},
    ),
    "inpainting": Service(
        read=_inpainting,
        inputs={"picture_rgb": ("uint8", (-1, -1, -1, 3)), "hole": ("bool", (-1, -1, -1))},
        outputs={"picture_rgb": ("uint8", (-1, -1, -1, 3))},
    ),
}
"""By task."""


def serve(folder: Path) -> Served:
    """A package of any task, ready to answer.

    Raises:
        UserError: it is damaged or none.
    """
    return SERVICES[load_card(folder).task].read(folder)
