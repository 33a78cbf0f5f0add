"""A motion-capture model adapted to clips that nobody labelled, each clip on its own."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from aign.body.assets import load_body
from aign.data import assets
from aign.data.datasets.job import Job
from aign.data.motions import load_demo_motions
from aign.data.schema import ClipKey
from aign.data.sources import SourceOptions, plan
from aign.data.store import Selection, Store
from aign.evaluation.report import Provenance
from aign.framework.errors import UserError
from aign.geometry.skeleton import Skeleton
from aign.inference.body_predictor import FrameBodies
from aign.inference.body_video import VideoPlace, file_name, save_bodies
from aign.inference.package import ModelCard, load_as, save_package
from aign.recipes.mocap import load_bodies
from aign.recipes.mocap_memory import embedded_bodies
from aign.recipes.tasks import TASKS
from aign.registry.licences import LicencePolicy, check_policy
from aign.tasks.motion_capture.clips import CapturedClip
from aign.tasks.motion_capture.factors import BodyFactors, joints
from aign.tasks.motion_capture.memory import BodyMemory, remember
from aign.tasks.motion_capture.nets import Encoder
from aign.training.adaptation import AdaptConfig, Adapted, adapt
from infra.storage import absolute
from pipelines.arguments import parse
from pipelines.origins import of_jobs, of_store
from pipelines.package_place import package_folder
from pipelines.preprocess import preprocess, tell
from pipelines.run_folder import publish

STAGES = ("keypoints", "frames", "masks", "flow", "flow_back")
"""All that a clip can be adapted to."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Adapt a motion-capture model to each clip of a store or video, by its keypoints, masks and motion alone.

    Attributes:
        model: run folder, package folder, or models:/NAME@ALIAS.
        clips: folder or URL of a store with pictures and keypoints, or a video file or folder of videos.
        out: folder that receives, for each clip, its bodies (npz), the adapted package and its history.
        only: which clips; nothing: all.
        memory: store whose bodies the critics remember; nothing: the embedded motions.
        config: how far it may go.
        license_policy: permissive: refuse, before anything begins, a model, clips, a body and a memory that not
            everybody may use for anything; any: take them, and write their licences on the adapted model's card.
        mlflow: folder of the embedded MLflow store that models:/ names; MLFLOW_TRACKING_URI wins.
        address: of a running Ray cluster for videos; else RAY_ADDRESS, else a local one.
    """

    model: tyro.conf.Positional[str]
    clips: tyro.conf.Positional[str]
    out: Path = Path("adapted")
    only: Selection = field(default_factory=Selection)
    memory: str = ""
    config: tyro.conf.OmitArgPrefixes[AdaptConfig] = AdaptConfig()
    license_policy: LicencePolicy = "any"
    mlflow: Path = Path("mlflow")
    address: str | None = None


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where adapted clips come from and go to; `licences` are of all that an adapted model is made of."""

    out: Path
    store: Store
    encoder: Encoder
    card: ModelCard
    licences: tuple[str, ...]


def found_clips(args: Arguments, side_px: int) -> Store | Sequence[Job]:
    """The store of the clips, or what makes one of a video.

    Raises:
        UserError: there is neither.
    """
    path = Path(args.clips).expanduser()
    if "://" in args.clips or (path / "manifest.json").exists():
        return Store.open(absolute(args.clips))
    if not path.exists():
        raise UserError(f"{args.clips} is neither a store nor a video; allowed: a store's folder or URL, or a video")
    assets.pull(["pose"])
    return plan(args.clips, "video", SourceOptions(framing="person", stages=STAGES, side_px=side_px))


def preprocessed(jobs: Sequence[Job], args: Arguments) -> Store:
    """The clips of a video, in the output folder."""
    url = absolute(str(args.out / "store"))
    tell(preprocess(jobs, url, args.address), url)
    return Store.open(url)


def memory_licences(args: Arguments) -> Mapping[str, tuple[str, ...]]:
    """Of what the critics remember."""
    if args.memory:
        return of_store(Store.open(absolute(args.memory)), "memory store")
    return {"embedded motions": tuple(dict.fromkeys(motion.licence for motion in load_demo_motions()))}


def clip_name(key: ClipKey) -> str:
    """File name of a clip's outputs."""
    return file_name(f"{key.sequence}-{key.camera}-{key.frame_start:06d}")


def write_clip(place: Place, clip: CapturedClip, done: Adapted) -> None:
    """Bodies, package and history of a clip."""
    body, key = load_body(), clip.key
    folder = place.out / clip_name(key)
    folder.mkdir(parents=True, exist_ok=True)
    z = done.bodies
    bodies = FrameBodies(
        rotmats=z.rotmats[:, 0].numpy(),
        betas=z.betas.numpy(),
        pelvis_cam_m=z.pelvis_cam_m[:, 0].numpy(),
        joints_cam_m=joints(z, body)[:, 0].numpy(),
    )
    numbers = np.arange(key.frame_start, key.frame_start + key.num_frames)
    lens = clip.columns["frame_intrinsics_px"][0].numpy()
    place_of = VideoPlace(frame=numbers, fps=key.fps, intrinsics_px=lens)
    save_bodies(folder / "bodies.npz", bodies, body, place_of, place.licences)
    card = dataclasses.replace(
        place.card,
        recipe=f"{place.card.recipe}-adapted",
        store_hash=place.store.hash,
        sequences={"train": (key.sequence,)},
        licences=place.licences,
        protocol="",
        metrics={},
    )
    save_package(folder / "package", done.encoder, card)
    history = [dataclasses.asdict(look) for look in done.history]
    publish(folder / "history.json", json.dumps({"kept": done.kept, "notes": done.notes, "history": history}, indent=1))


def memory_of(store: str, frames: int) -> Callable[[float], BodyMemory]:
    """What critics remember, in windows of so many frames, by frames per second; nothing named: embedded motions."""

    @cache
    def memory(fps: float) -> BodyMemory:
        clips = load_bodies(Store.open(absolute(store)), None) if store else embedded_bodies(fps)
        return remember(clips, frames)

    return memory


def adapted(args: Arguments) -> tuple[Place, list[Any]]:
    """Adapt to every clip and write what comes of it.

    Returns:
        Where, and the reports before and after: of the pictures, and of the bodies where the store knows them.

    Raises:
        UserError: no such model or clips, or what `adapt` raises.
    """
    encoder, card = load_as(Encoder, package_folder(args.model, args.mlflow))
    body = load_body()
    origins = {f"model {args.model}": card.licences, f"body {body.name}": (body.licence,), **memory_licences(args)}
    clips = found_clips(args, 2 * encoder.config.side_px)
    of_clips = of_store(clips) if isinstance(clips, Store) else of_jobs(f"video {args.clips}", clips)
    check_policy(args.license_policy, {**origins, **of_clips})
    store = clips if isinstance(clips, Store) else preprocessed(clips, args)
    origins = {**origins, **of_store(store)}
    licences = tuple(dict.fromkeys(licence for licences in origins.values() for licence in licences))
    place = Place(out=args.out, store=store, encoder=encoder, card=card, licences=licences)
    frames = encoder.config.frames if encoder.config.frames > 1 else args.config.frames

    memory = memory_of(args.memory, frames)

    def method(clip: CapturedClip, source: Skeleton) -> BodyFactors:
        done = adapt(encoder, clip, source, body, memory(clip.key.fps), args.config)
        write_clip(place, clip, done)
        kept = f"step {done.kept} kept" if done.kept else "left as it was"
        print("; ".join((f"{clip_name(clip.key)}: {kept}", *done.notes)))
        return done.bodies

    task = TASKS["motion_capture"]
    view = task.view(place.store, args.only, card.network)
    data = f"{len(view.clips)} clips of {', '.join(place.store.manifest.licences)}"

    def told(name: str) -> Provenance:
        return Provenance(method=name, data=data, store_hash=place.store.hash)

    before = task.measure(task.method(encoder), view, task.protocol, told(card.recipe))
    after = task.measure(method, view, task.protocol, told(f"{card.recipe}-adapted"))
    return place, [before, after]


def main(argv: Sequence[str]) -> None:
    """Parse, adapt, print."""
    args = parse(Arguments, "aign adapt", argv)
    place, reports = adapted(args)
    table, console = TASKS["motion_capture"].draw(reports, None), Console()
    publish(place.out / "table.md", table.markdown)
    for report, name in zip(reports, ("before", "after"), strict=True):
        publish(place.out / f"{name}.json", report.to_json())
    console.print(table.rich(console.width))
    print(f"written to {place.out}")
