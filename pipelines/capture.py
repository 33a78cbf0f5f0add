"""A registered model on somebody's video: bodies or joints, overlays, files, and a page to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import torch
import tyro

from aign.framework.errors import UserError
from aign.inference.package import load_card
from aign.inference.smoothing import Filter
from aign.registry import models
from aign.registry.catalogue import CHAMPION
from aign.registry.tracking import open_tracking
from pipelines.arguments import parse
from pipelines.capture_bodies import Capturing, capture_bodies
from pipelines.capture_joints import capture_joints
from pipelines.package_place import package_folder

Device: TypeAlias = Literal["cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Capture the person in a video, or in each video of a folder: joints by a lifter, bodies by motion capture.

    Attributes:
        video: file or folder.
        model: models:/NAME@ALIAS, or a package folder; of lifting or motion capture. Nothing: the champion of motion
            capture, or where there is none that of lifting.
        out: folder that receives what was captured (of each video in a folder of its own where there are several),
            and the store in between.
        all: motion capture: everybody who is followed, not the main person alone.
        adapt: motion capture: adapt the model to each clip of the video first; better, and minutes slower.
        filter: motion capture: of the bodies in time; "savgol" looks both ways, "one-euro" back only.
        device: motion capture: where the model, and its adaptation, compute; cuda: this machine's first GPU.
        mlflow: folder of the embedded MLflow store that models:/ names; MLFLOW_TRACKING_URI wins.
        address: of a running Ray cluster; else RAY_ADDRESS, else a local one.
    """

    video: tyro.conf.Positional[str]
    model: str = ""
    out: Path = Path("capture")
    all: bool = False
    adapt: bool = False
    filter: Filter = "savgol"
    device: Device = "cpu"
    mlflow: Path = Path("mlflow")
    address: str | None = None


CROWNED = ("motion_capture", "lifting")
"""Registered names whose champion is taken, in this order."""


def chosen_model(args: Arguments) -> str:
    """The model that was asked for, or the champion of the task that tells most."""
    if args.model:
        return args.model
    tracking = open_tracking(args.mlflow)
    crowned = {row.name for row in models.list_models(tracking) if CHAMPION in row.aliases}
    return f"models:/{next((name for name in CROWNED if name in crowned), 'lifting')}@{CHAMPION}"


def capture(args: Arguments) -> list[Path]:
    """Run the model; what to open.

    Raises:
        UserError: no such model, no usable video, nobody to be seen, or the folder cannot be written.
    """
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("got --device cuda; torch finds no GPU on this machine")
    model = chosen_model(args)
    package = package_folder(model, args.mlflow)
    task = load_card(package).task
    if task == "lifting":
        if args.all or args.adapt or args.filter != Arguments.filter or args.device != Arguments.device:
            raise UserError(f"{model} is a lifter; --all, --adapt, --filter and --device are for motion capture")
        return [capture_joints(args.video, model, package, args.out, args.address)]
    if task == "motion_capture":
        wanted = Capturing(
            model=model, package=package, out=args.out, everybody=args.all, adapt=args.adapt, filter=args.filter,
            device=torch.device(args.device),
        )  # fmt: skip
        return capture_bodies(args.video, wanted, args.address)
    raise UserError(f"{model} is a model of {task}; allowed are motion_capture and lifting (faces: aign translate)")


def main(argv: Sequence[str]) -> None:
    """Parse and run."""
    for path in capture(parse(Arguments, "aign capture", argv)):
        print(path.absolute())
