"""The person in each video, lifted: overlay, joints, and a page to look at."""

from pathlib import Path

import numpy as np

from aign.data import assets
from aign.data.sources import SourceOptions, plan
from aign.data.store import Store
from aign.inference.body_video import file_name
from aign.inference.package import load_card
from aign.inference.page import Entry
from aign.inference.predictor import LiftingPredictor
from aign.inference.report import DemoReport, LiftedClip, write_report
from aign.inference.video import VideoView, lift_views, read_views, save_joints, write_view
from infra.storage import absolute
from pipelines.preprocess import preprocess, tell


def capture_joints(path: str, model: str, package: Path, out: Path, address: str | None) -> Path:
    """Lift the person in a video, or in each video of a folder; the page.

    Args:
        path: file or folder.
        model: as the user named it.
        package: its folder.
        out: folder of the outputs.
        address: see `pipelines.preprocess.preprocess`.

    Raises:
        UserError: no usable video, nobody to be seen, or the folder cannot be written.
    """
    predictor, card = LiftingPredictor.of(package), load_card(package)
    assets.pull(["pose"])
    url = absolute(str(out / "store"))
    tell(preprocess(plan(path, "video", SourceOptions(framing="whole")), url, address), url)
    views = read_views(Store.open(url))
    out.mkdir(parents=True, exist_ok=True)
    clips = []
    for view, joints in zip(views, lift_views(views, predictor.predict), strict=True):
        save_joints(out / f"{view_name(view)}.npz", view, joints)
        write_view(view, joints, out / f"{view_name(view)}.mp4")
        clips.append(_clip(view, joints))
    report = DemoReport(
        title="Lifted video",
        summary=(
            f"{len(clips)} video(s) through BlazePose and the model {model} (recipe {card.recipe}). Coloured limbs are "
            "the 3D pose projected back into the picture, rings are the detections.",
        ),
        clips=tuple(clips),
        files=tuple(Entry(term=f"{c.name}.npz", text="joints_cam_m in metres, names, keypoints, fps") for c in clips),
        provenance=(Entry(term="model", text=f"{model}; trained on store {card.store_hash[:12]}"),),
        licences=tuple(Entry(term="model's data", text=text) for text in card.licences),
    )
    return write_report(out, report)


def view_name(view: VideoView) -> str:
    """File name of a view's outputs."""
    return file_name(f"{view.sequence}-{view.camera}")


def _clip(view: VideoView, joints_cam_m: np.ndarray) -> LiftedClip:
    """What the page shows of a view."""
    name = view_name(view)
    seen = int(np.isfinite(joints_cam_m).all(axis=(1, 2)).sum())
    lens = "its calibration" if view.calibrated else "an assumed field of view: depth and size are rough"
    caption = f"{view.sequence}, {view.camera}: {seen} of {len(joints_cam_m)} frames lifted; camera from {lens}"
    return LiftedClip(name=name, caption=caption, video=f"{name}.mp4", fps=view.fps, predicted_m=joints_cam_m)
