"""A registered model on somebody's video: overlay, joints, and a page to look at."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from aign.data import assets
from aign.data.sources import SourceOptions, plan
from aign.data.store import Store
from aign.inference.predictor import LiftingPredictor
from aign.inference.report import DemoReport, Entry, LiftedClip, write_report
from aign.inference.video import VideoView, lift_views, read_views, save_joints, write_view
from infra.storage import absolute
from pipelines.arguments import parse
from pipelines.evaluate import package_folder
from pipelines.preprocess import preprocess, tell


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Lift the person in a video, or in each video of a folder, to 3D.

    Attributes:
        video: file or folder.
        model: models:/NAME@ALIAS, or a package folder.
        out: folder that receives index.html, an overlay and an npz for each video, and the store in between.
        mlflow: folder of the embedded MLflow store that models:/ names; MLFLOW_TRACKING_URI wins.
        address: of a running Ray cluster; else RAY_ADDRESS, else a local one.
    """

    video: tyro.conf.Positional[str]
    model: str = "models:/lifting@champion"
    out: Path = Path("capture")
    mlflow: Path = Path("mlflow")
    address: str | None = None


def view_name(view: VideoView) -> str:
    """File name of a view's outputs."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in f"{view.sequence}-{view.camera}")


def write_views(views: Sequence[VideoView], joints: Sequence[np.ndarray], out: Path) -> tuple[LiftedClip, ...]:
    """Overlay and joints of every view, and what the page shows of it."""
    out.mkdir(parents=True, exist_ok=True)
    clips = []
    for view, lifted in zip(views, joints, strict=True):
        name = view_name(view)
        save_joints(out / f"{name}.npz", view, lifted)
        write_view(view, lifted, out / f"{name}.mp4")
        seen = int(np.isfinite(lifted).all(axis=(1, 2)).sum())
        lens = "its calibration" if view.calibrated else "an assumed field of view: depth and size are rough"
        caption = f"{view.sequence}, {view.camera}: {seen} of {len(lifted)} frames lifted; camera from {lens}"
        clips.append(LiftedClip(name=name, caption=caption, video=f"{name}.mp4", fps=view.fps, predicted_m=lifted))
    return tuple(clips)


def capture(args: Arguments) -> Path:
    """Run the model; the page.

    Raises:
        UserError: no such model, no usable video, or the folder cannot be written.
    """
    predictor = LiftingPredictor.of(package_folder(args.model, args.mlflow))
    assets.pull(["pose"])
    store_url = absolute(str(args.out / "store"))
    tell(preprocess(plan(args.video, "video", SourceOptions(framing="whole")), store_url, args.address), store_url)
    views = read_views(Store.open(store_url))
    clips = write_views(views, lift_views(views, predictor.predict), args.out)
    card = predictor.card
    report = DemoReport(
        title="Lifted video",
        summary=(
            f"{len(clips)} video(s) through BlazePose and the lifter {args.model} (recipe {card.recipe}). "
            "Coloured limbs are the 3D pose projected back into the picture, rings are the detections.",
        ),
        clips=clips,
        files=tuple(Entry(term=f"{c.name}.npz", text="joints_cam_m in metres, names, keypoints, fps") for c in clips),
        provenance=(Entry(term="model", text=f"{args.model}; trained on store {card.store_hash[:12]}"),),
        licences=tuple(Entry(term="model's data", text=text) for text in card.licences),
    )
    return write_report(args.out, report)


def main(argv: Sequence[str]) -> None:
    """Parse and run."""
    args = parse(Arguments, "aign capture", argv)
    print(capture(args).absolute(), file=sys.stdout)
