"""`aign demo`: the whole story on the embedded real data."""

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from aign import __version__
from aign.data import assets
from aign.data.datasets.video import video_files
from aign.data.datasets.video.pose2sim import fit_to_frames
from aign.data.sources import SourceOptions, plan
from aign.data.store import Store
from aign.evaluation.lifting import metrics
from aign.evaluation.report import Provenance, Report
from aign.evaluation.tables import error_table, render_html, render_markdown, render_rich
from aign.geometry.camera import CalibratedCamera
from aign.inference.agreement import Reference, agree, reference
from aign.inference.curves import training_curves
from aign.inference.figure import Moment, side_by_side
from aign.inference.page import Entry
from aign.inference.report import DemoReport, LiftedClip, Picture, TextTable, write_report
from aign.inference.video import VideoView, lift_views, read_views, save_joints, write_view
from aign.recipes import recipe
from aign.registry.models import Registered
from aign.registry.tracking import Tracking, open_tracking
from infra.cluster import cluster
from pipelines.arguments import parse
from pipelines.commit import commit
from pipelines.evaluate import Arguments as EvaluateArguments
from pipelines.evaluate import evaluate_all
from pipelines.preprocess import preprocess, tell
from pipelines.register import register
from pipelines.run_files import logged
from pipelines.run_folder import Run
from pipelines.train import run_recipe

RECIPES = ("lifting-demo-forward", "lifting-demo-interpreter", "lifting-demo")
LABELS = {
    "lifting-demo-forward": "Forward2Dto3D",
    "lifting-demo-interpreter": "3D interpreter style",
    "lifting-demo": "AIGN",
    "mean-pose": "mean pose",
    "nearest-pose": "nearest memory pose",
}
MODEL = "lifting"
MOMENTS = 3


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Pull assets, preprocess real motion and real video, train three methods, register the best, lift the video.

    Attributes:
        out: folder that receives everything; run again, it goes on where it was.
        workers: Ray Train workers.
        steps: training steps of each method; nothing: the recipes' own.
    """

    out: Path = Path("demo")
    workers: int = 2
    steps: int | None = None


def _say(console: Console, number: int, text: str) -> None:
    console.print(f"\n[bold]{number}/7 {text}[/bold]", highlight=False)


def _train(args: Arguments, store_url: str, tracking: Tracking) -> dict[str, Run]:
    runs = {}
    for name in RECIPES:
        chosen = recipe(name)
        if args.steps:
            chosen = dataclasses.replace(chosen, fit=dataclasses.replace(chosen.fit, steps=args.steps))
        print(f"{LABELS[name]} ({name})", file=sys.stderr)
        runs[name] = run_recipe(chosen, store_url, args.out / "runs" / name, tracking, args.workers)
    return runs


def _reports(args: Arguments, store_url: str, runs: dict[str, Run]) -> list[Report]:
    models = ("baseline:mean-pose", "baseline:nearest-pose", *(str(run.folder) for run in runs.values()))
    reports = evaluate_all(EvaluateArguments(models=models, store=store_url, mlflow=args.out / "mlflow"))
    return [dataclasses.replace(report, method=LABELS[report.method]) for report in reports]


def _lift_in_fresh_process(views: Sequence[VideoView], tracking: Tracking, out: Path) -> list[np.ndarray]:
    """Pull the champion back from MLflow in a process that has only the installed package, and lift the views."""

    def predict(kp2d_px: np.ndarray, conf: np.ndarray, intrinsics_px: np.ndarray, /, *, clip: np.ndarray) -> np.ndarray:
        source, target = out / "keypoints.npz", out / "joints.npz"
        np.savez(source, kp2d_px=kp2d_px, kp2d_conf=conf, intrinsics_px=intrinsics_px, clip=clip)
        environment = {**os.environ, "MLFLOW_TRACKING_URI": tracking.uri, "MLFLOW_REGISTRY_URI": tracking.uri}
        command = [sys.executable, "-m", "aign.registry.predict_npz", f"models:/{MODEL}@champion"]
        subprocess.run([*command, str(source), str(target)], check=True, cwd="/", env=environment)
        with np.load(target, allow_pickle=False) as content:
            joints: np.ndarray = content["joints_cam_m"]
        source.unlink()
        target.unlink()
        return joints

    return lift_views(views, predict)


def _calibration(views: Sequence[VideoView]) -> list[CalibratedCamera]:
    """The cameras of the sample videos, in the views' order."""
    jobs = {job.camera: job for job in video_files.plan(Path(video_files.EMBEDDED))}
    cameras = []
    for view in views:
        calibrated = jobs[view.camera].calibrated
        assert calibrated is not None, "the sample videos have a calibration"
        height, width = (np.array(view.frame(0).shape[:2]) / view.picture_scale[::-1]).round().astype(int)
        cameras.append(fit_to_frames(calibrated, int(width), int(height)))
    return cameras


def _pictures(
    out: Path, views: Sequence[VideoView], lifted: Sequence[np.ndarray], truth: Reference,
    cameras: Sequence[CalibratedCamera], runs: dict[str, Run],
) -> tuple[tuple[LiftedClip, ...], tuple[Picture, ...]]:  # fmt: skip
    """Overlay videos, the 3D picture, the curves; and what the page says of them."""
    clips, moments = [], []
    chosen = np.linspace(0, len(truth.valid) - 1, MOMENTS + 2).round().astype(int)[1:-1]
    for number, (view, joints, camera) in enumerate(zip(views, lifted, cameras, strict=True)):
        known, up = truth.seen_by(camera), camera.world_to_cam.rot[:, 2].numpy()
        write_view(view, joints, out / f"{view.camera}.mp4", slow=2.0)
        save_joints(out / f"{view.camera}.npz", view, joints)
        caption = f"{view.camera} at half speed: limbs are the lifted pose projected back, rings the detections"
        clips.append(
            LiftedClip(
                name=view.camera, caption=caption, video=f"{view.camera}.mp4", fps=view.fps / 2,
                predicted_m=joints, reference_m=known, up_cam=up,
            )
        )  # fmt: skip
        moments += [
            Moment(
                frame=view.frame(i), kp2d_px=view.kp2d_px[i] * view.picture_scale, conf=view.conf[i],
                joints_cam_m=joints[i], reference_m=known[i], label=f"{view.camera}, {i / view.fps:.1f} s", up_cam=up,
            )
            for i in chosen[number : number + 1].tolist()
        ]  # fmt: skip
    side_by_side(out / "lifted.png", moments, views[0].skeleton, reference_name="triangulated from 4 views")
    training_curves(out / "curves.png", {LABELS[name]: logged(run.folder) for name, run in runs.items()})
    return tuple(clips), (
        Picture(path="lifted.png", caption="Lifted from one camera; grey: all four, triangulated.", alt="3D poses"),
        Picture(path="curves.png", caption="Losses and validation error while training.", alt="training curves"),
    )


def _page(
    args: Arguments, table_html: str, agreement: Report, done: Registered, stores: dict[str, Store], winner: str
) -> DemoReport:
    numbers = metrics(agreement)
    names = (("pa_mpjpe_mm", "PA-MPJPE"), ("n_mpjpe_mm", "N-MPJPE"), ("mpjpe_mm", "MPJPE"))
    rows = tuple((label, f"{numbers[key]:.0f} mm") for key, label in names)
    licences = {text for store in stores.values() for text in store.manifest.licences}
    return DemoReport(
        title="AIGN: from unlabelled video to 3D",
        summary=(
            "Twenty real motion clips were posed on the free default body and seen by four cameras. Some were "
            "remembered as 3D poses, one was labelled, some were only seen as 2D keypoints, and five were held out. "
            "Three methods learned to lift 2D to 3D from them, on Ray Train workers.",
            f"The best of them on the held-out clips, {winner}, was registered in MLflow ({done.reason}), pulled back "
            "by a fresh process and run on a real video that none of them had seen. Twenty clips are few: the numbers "
            "show that everything works, not what the methods can reach.",
        ),
        evaluation_html=table_html,
        agreement=TextTable(
            columns=("lifted from one camera against four", "all cameras"),
            rows=(*rows, ("flip rate", f"{100 * numbers['flip_rate']:.1f} %")),
            note=f"{agreement.num_frames} poses, protocol {agreement.protocol} ({agreement.protocol_hash})",
        ),
        commands=tuple(Entry(term=command, text=text) for command, text in _next(args)),
        files=(
            Entry(term="lifted.png", text="the picture above"),
            Entry(term="table.md", text="the table above"),
            Entry(term="pose2sim_cam01.npz", text="joints in metres, one file a camera"),
            Entry(term="stores", text="the Parquet stores"),
            Entry(term="runs", text="the three trainings"),
            Entry(
                term="mlflow",
                text=f"runs and models: mlflow ui --backend-store-uri sqlite:///{args.out}/mlflow/mlflow.db",
            ),
        ),
        provenance=(
            Entry(term="aign", text=f"{__version__} {commit()[:12]}".strip()),
            *(Entry(term=f"store {name}", text=store.hash[:16]) for name, store in stores.items()),
        ),
        licences=tuple(Entry(term="data", text=text) for text in sorted(licences)),
    )


def _next(args: Arguments) -> tuple[tuple[str, str], ...]:
    mlflow = args.out / "mlflow"
    return (
        (f"aign capture VIDEO.mp4 --mlflow {mlflow}", "lift your own video with the registered model"),
        (
            f"aign train lifting-demo --store {args.out / 'stores/motion'} --mlflow {mlflow} --name longer "
            "--fit.steps 6000",
            "train longer",
        ),
        (f"aign models list --mlflow {mlflow}", "see what is registered"),
    )


def main(argv: Sequence[str]) -> None:
    """Parse and run."""
    began, console = time.perf_counter(), Console()
    args = parse(Arguments, "aign demo", argv)
    args = Arguments(out=args.out.absolute(), workers=args.workers, steps=args.steps)
    args.out.mkdir(parents=True, exist_ok=True)
    urls = {name: str(args.out / "stores" / name) for name in ("motion", "video")}
    tracking = open_tracking(args.out / "mlflow")
    _say(console, 1, "pull the detector and a real 4-camera video")
    assets.pull(["pose", "pose2sim"])
    with cluster():
        _say(console, 2, "preprocess real motion and real video into stores")
        tell(preprocess(plan("demo-motions"), urls["motion"]), urls["motion"])
        whole = SourceOptions(framing="whole")  # the page shows the video, not a crop of it
        tell(preprocess(plan("demo-videos", options=whole), urls["video"]), urls["video"])
        stores = {name: Store.open(url) for name, url in urls.items()}
        _say(console, 3, f"train three methods on {args.workers} Ray workers")
        runs = _train(args, urls["motion"], tracking)
    _say(console, 4, "measure them on held-out motion")
    reports = _reports(args, urls["motion"], runs)
    table = error_table(reports)
    console.print(render_rich(table, width=console.width))
    (args.out / "table.md").write_text(render_markdown(table))
    _say(console, 5, "register the best")
    best = min(runs.values(), key=lambda run: run.report.headline or float("inf"))
    done = register(best, MODEL, tracking)
    console.print(f"{MODEL} version {done.version}: {done.reason}", highlight=False)
    _say(console, 6, "pull it back in a fresh process and lift the real video")
    views = read_views(stores["video"])
    lifted = _lift_in_fresh_process(views, tracking, args.out)
    cameras = _calibration(views)
    truth = reference(views, cameras)
    winner = LABELS[best.report.method]
    provenance = Provenance(method=winner, data="Pose2Sim demo video", store_hash=stores["video"].hash)
    agreement = agree(views, cameras, lifted, truth, provenance)
    console.print(render_rich(error_table([agreement]), width=console.width))
    _say(console, 7, "draw it")
    clips, pictures = _pictures(args.out, views, lifted, truth, cameras, runs)
    page = _page(args, render_html(table), agreement, done, stores, winner)
    index = write_report(args.out, dataclasses.replace(page, clips=clips, pictures=pictures))
    console.print(f"\nDone in {time.perf_counter() - began:.0f} s. Open {index}", highlight=False, soft_wrap=True)
    console.print("Next:", highlight=False)
    for command, text in _next(args):
        console.print(f"  {command}\n      {text}", highlight=False, soft_wrap=True)
