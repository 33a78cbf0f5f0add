"""A registered model on somebody's video: overlay, joints, and a page to look at."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from aign.data import assets
from aign.data.sources import SourceOptions, plan
from aign.data.store import Store
from aign.framework.errors import UserError
from aign.inference.body_predictor import BodyPredictor
from aign.inference.body_video import (
    VideoPlace,
    capture_view,
    file_name,
    h36m17,
    save_bodies,
    view_lens,
    write_body_view,
)
from aign.inference.package import load_card
from aign.inference.predictor import LiftingPredictor
from aign.inference.report import DemoReport, Entry, LiftedClip, write_report
from aign.inference.video import VideoView, lift_views, read_views, save_joints, write_view
from aign.registry import models
from aign.registry.catalogue import CHAMPION
from aign.registry.tracking import open_tracking
from infra.storage import absolute
from pipelines.arguments import parse
from pipelines.package_place import package_folder
from pipelines.preprocess import preprocess, tell


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Capture the person in a video, or in each video of a folder: joints by a lifter, bodies by motion capture.

    Attributes:
        video: file or folder.
        model: models:/NAME@ALIAS, or a package folder; of lifting or motion capture. Nothing: the champion of motion
            capture, or where there is none that of lifting.
        out: folder that receives index.html, an overlay and an npz for each video, and the store in between.
        mlflow: folder of the embedded MLflow store that models:/ names; MLFLOW_TRACKING_URI wins.
        address: of a running Ray cluster; else RAY_ADDRESS, else a local one.
    """

    video: tyro.conf.Positional[str]
    model: str = ""
    out: Path = Path("capture")
    mlflow: Path = Path("mlflow")
    address: str | None = None


def view_name(view: VideoView) -> str:
    """File name of a view's outputs."""
    return file_name(f"{view.sequence}-{view.camera}")


def _clip(view: VideoView, what: str, joints_cam_m: np.ndarray) -> LiftedClip:
    """What the page shows of a view."""
    name = view_name(view)
    seen = int(np.isfinite(joints_cam_m).all(axis=(1, 2)).sum())
    lens = "its calibration" if view.calibrated else "an assumed field of view: depth and size are rough"
    caption = f"{view.sequence}, {view.camera}: {seen} of {len(joints_cam_m)} frames {what}; camera from {lens}"
    return LiftedClip(name=name, caption=caption, video=f"{name}.mp4", fps=view.fps, predicted_m=joints_cam_m)


@dataclass(frozen=True, kw_only=True)
class Captured:
    """What a model made of all views: files in the folder, and what the page says of them."""

    clips: tuple[LiftedClip, ...]
    title: str
    made: str
    file: str


def lifted(package: Path, views: Sequence[VideoView], out: Path) -> Captured:
    """Overlay and joints of every view, by a lifter."""
    predictor = LiftingPredictor.of(package)
    clips = []
    for view, joints in zip(views, lift_views(views, predictor.predict), strict=True):
        save_joints(out / f"{view_name(view)}.npz", view, joints)
        write_view(view, joints, out / f"{view_name(view)}.mp4")
        clips.append(_clip(view, "lifted", joints))
    made = "Coloured limbs are the 3D pose projected back into the picture, rings are the detections."
    return Captured(
        clips=tuple(clips), title="Lifted video", made=made, file="joints_cam_m in metres, names, keypoints, fps"
    )


def embodied(package: Path, views: Sequence[VideoView], out: Path) -> Captured:
    """Overlay and bodies of every view, by a motion-capture model.

    Raises:
        UserError: a view in which not one frame shows enough of a person.
    """
    predictor = BodyPredictor.of(package)
    clips = []
    for view in views:
        bodies = capture_view(view, predictor)
        if not bodies.known.any():
            raise UserError(f"{view.sequence} {view.camera}: no frame shows enough of a person")
        where = VideoPlace(frame=view.number, fps=view.fps, intrinsics_px=view_lens(view))
        save_bodies(out / f"{view_name(view)}.npz", bodies, predictor.body, where)
        write_body_view(view, bodies, predictor.body, out / f"{view_name(view)}.mp4")
        clips.append(_clip(view, "captured", h36m17(bodies, predictor.body)))
    made = "The shaded surface is the body that the model sees in each picture, projected back into it."
    file = "rotmats, betas, pelvis_cam_m and joints_cam_m (metres, radians), frame, fps, intrinsics_px"
    return Captured(clips=tuple(clips), title="Captured video", made=made, file=file)


CAPTURES: Mapping[str, Callable[[Path, Sequence[VideoView], Path], Captured]] = {
    "motion_capture": embodied,
    "lifting": lifted,
}
"""By task of the model; its champion is taken in this order."""


def chosen_model(args: Arguments) -> str:
    """The model that was asked for, or the champion of the task that tells most."""
    if args.model:
        return args.model
    tracking = open_tracking(args.mlflow)
    crowned = {row.name for row in models.list_models(tracking) if CHAMPION in row.aliases}
    return f"models:/{next((name for name in CAPTURES if name in crowned), 'lifting')}@{CHAMPION}"


def capture(args: Arguments) -> Path:
    """Run the model; the page.

    Raises:
        UserError: no such model, no usable video, or the folder cannot be written.
    """
    model = chosen_model(args)
    package = package_folder(model, args.mlflow)
    card = load_card(package)
    assets.pull(["pose"])
    store_url = absolute(str(args.out / "store"))
    tell(preprocess(plan(args.video, "video", SourceOptions(framing="whole")), store_url, args.address), store_url)
    views = read_views(Store.open(store_url))
    args.out.mkdir(parents=True, exist_ok=True)
    done = CAPTURES[card.task](package, views, args.out)
    report = DemoReport(
        title=done.title,
        summary=(
            f"{len(done.clips)} video(s) through BlazePose and the model {model} (recipe {card.recipe}). {done.made}",
        ),
        clips=done.clips,
        files=tuple(Entry(term=f"{c.name}.npz", text=done.file) for c in done.clips),
        provenance=(Entry(term="model", text=f"{model}; trained on store {card.store_hash[:12]}"),),
        licences=tuple(Entry(term="model's data", text=text) for text in card.licences),
    )
    return write_report(args.out, report)


def main(argv: Sequence[str]) -> None:
    """Parse and run."""
    args = parse(Arguments, "aign capture", argv)
    print(capture(args).absolute(), file=sys.stdout)
