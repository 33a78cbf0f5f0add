"""Packages as functions of arrays by name, whatever their task: what stands behind a server or a registry."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from aign.inference.body_predictor import BodyPredictor
from aign.inference.package import ModelCard, load_card
from aign.inference.predictor import LiftingPredictor

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
    """

    card: ModelCard
    answer: Callable[[Arrays], Arrays]


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
    return Served(card=predictor.card, answer=lambda given: {"joints_cam_m": predictor.predict(**given)})


def _motion_capture(folder: Path) -> Served:
    predictor = BodyPredictor.of(folder)
    return Served(card=predictor.card, answer=lambda given: dict(vars(predictor.predict(**given))))


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
}
"""By task."""


def serve(folder: Path) -> Served:
    """A package of any task, ready to answer.

    Raises:
        UserError: it is damaged or none.
    """
    return SERVICES[load_card(folder).task].read(folder)
