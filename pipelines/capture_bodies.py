"""Motion capture of a video, or of each in a folder: who is in it, their bodies, and the files of each."""

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from aign.data import assets
from aign.data.datasets.video.video_ranges import VideoRange
from aign.data.sources import SourceOptions, plan
from aign.data.store import Store
from aign.framework.errors import UserError
from aign.geometry.skeleton import skeleton
from aign.inference.body_predictor import BodyPredictor
from aign.inference.body_video import file_name
from aign.inference.package import WEIGHTS, load_as, save_package
from aign.inference.page import Entry
from aign.inference.person_motion import World, grounded
from aign.inference.smoothing import Filter
from aign.inference.upright import find_up
from aign.tasks.motion_capture.clips import CapturedClip
from aign.tasks.motion_capture.nets import Encoder
from aign.training.adaptation import AdaptConfig, adapt
from infra.storage import absolute
from pipelines.adapt import clip_name, memory_of
from pipelines.capture_files import write_files
from pipelines.capture_people import STAGES, Adapt, CapturedVideo, Footage, captured_people, footage_of
from pipelines.capture_report import REPORT, write_capture_report
from pipelines.preprocess import preprocess, tell
from pipelines.run_folder import publish

DONE = "capture.json"
"""Written last: what the files of a video, or the model of a clip, were made of."""
ADAPTED, NOTE = "adapted", "note.txt"
"""Models adapted to the clips of a video that is not done yet, each with what became of it."""
FAST_FPS = 60.0
"""Of faster videos every frame is captured too, and a line says so."""


@dataclass(frozen=True, kw_only=True)
class Capturing:
    """What is made of each video.

    Attributes:
        model: as the user named it.
        package: its folder.
        out: folder of the outputs.
        everybody: all people, not the main one alone.
        adapt: adapt the model to each clip first.
        filter: in time.
        device: where the model, and its adaptation, compute.
    """

    model: str
    package: Path
    out: Path
    everybody: bool
    adapt: bool
    filter: Filter
    device: torch.device


def capture_bodies(path: str, wanted: Capturing, address: str | None) -> list[Path]:
    """Capture the people in a video, or in each video of a folder; their pages, beside which all files are.

    Raises:
        UserError: no such model, no usable video, nobody to be seen, or a folder cannot be written.
    """
    predictor = BodyPredictor.of(wanted.package, wanted.device)
    assets.pull(["pose"])
    options = SourceOptions(framing="person", stages=STAGES, side_px=2 * predictor.encoder.config.side_px)
    jobs = plan(path, "video", options)
    url = absolute(str(wanted.out / "store"))
    tell(preprocess(jobs, url, address), url)
    store = Store.open(url)
    videos = footage_of(store, jobs)
    if not videos:
        raise UserError(f"{path}: nobody was found in it")
    alone = len({job.video.path for job in jobs if isinstance(job, VideoRange)}) == 1
    model_sha256 = _digest(wanted.package)
    pages = []
    for footage in videos:
        folder = wanted.out if alone else wanted.out / file_name(footage.name)
        identity = _identity(footage, model_sha256, wanted)
        if _is_done(folder, identity):
            say(f"{footage.name}: is there already")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            adapt_to = _adapt(predictor, footage.store, folder / ADAPTED, identity) if wanted.adapt else None
            video = _captured(footage, folder, predictor, adapt_to, wanted)
            write_files(video, predictor.body)
            write_capture_report(video, _settings(wanted, video), predictor.card)
            publish(folder / DONE, json.dumps(identity, indent=1))
            shutil.rmtree(folder / ADAPTED, ignore_errors=True)
        pages.append(folder / REPORT)
    return pages


def _digest(package: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(p for p in package.rglob("*") if p.is_file()):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _identity(footage: Footage, model_sha256: str, wanted: Capturing) -> Mapping[str, object]:
    """What the outputs of a video depend on."""
    return {
        "video_sha256": footage.video.video.sha256,
        "model_sha256": model_sha256,
        "everybody": wanted.everybody,
        "adapt": wanted.adapt,
        "filter": wanted.filter,
    }


def _is_done(folder: Path, identity: Mapping[str, object]) -> bool:
    try:
        return bool(json.loads((folder / DONE).read_text()) == identity)
    except (FileNotFoundError, json.JSONDecodeError):
        return False


def _captured(
    footage: Footage, folder: Path, predictor: BodyPredictor, adapt_to: Adapt | None, wanted: Capturing
) -> CapturedVideo:
    """The people of a video; who was left out is said."""
    if footage.fps > FAST_FPS:
        say(f"{footage.name}: {footage.fps:g} frames per second, all are captured")
    others = len(footage.people) - 1
    if others and not wanted.everybody:
        say(f"{footage.name}: {others} more people, or the same ones after a cut or absence; --all captures each")
    chosen = len(footage.people) if wanted.everybody else 1
    people = captured_people(footage, chosen, predictor, adapt_to, wanted.filter)
    licences = tuple(
        dict.fromkeys((*predictor.card.licences, *footage.store.manifest.licences, predictor.body.licence))
    )
    up = find_up(people[0].seen)
    world = World(up_cam=up.up_cam, origin_cam_m=people[0].seen.bodies.pelvis_cam_m[0])
    say(f"{footage.name}: up: {up.how}")
    motions = []
    for index, person in enumerate(people):
        name = footage.name if index == 0 else f"{footage.name}-person-{index + 1}"
        about = {"name": name, "source": str(footage.video.video.path), "licence": "; ".join(licences)}
        motions.append(grounded(person.seen, predictor.body, world, **about))
        notes = "".join(f"; {note}" for note in person.notes)
        say(f"{name}: {person.seen.known.sum()} of {footage.frames} frames; {person.jitter(wanted.filter)}{notes}")
    return CapturedVideo(
        footage=footage, folder=folder, people=tuple(people), motions=tuple(motions), up=up, licences=licences
    )  # fmt: skip


def _settings(wanted: Capturing, video: CapturedVideo) -> tuple[Entry, ...]:
    """What was asked and assumed, for the page."""
    notes = tuple(dict.fromkeys(note for person in video.people for note in person.notes))
    return (
        Entry(term="video", text=str(video.footage.video.video.path)),
        Entry(term="model", text=wanted.model),
        Entry(term="people", text="everybody" if wanted.everybody else "the main person"),
        Entry(term="adapted", text="; ".join(notes) if wanted.adapt else "no"),
        Entry(term="filter", text=f"{wanted.filter}; {video.people[0].jitter(wanted.filter)}"),
        Entry(term="where up is", text=video.up.how),
    )


def _adapt(predictor: BodyPredictor, store: Store, folder: Path, identity: Mapping[str, object]) -> Adapt:
    """Adapts a copy of the model to each clip; it is kept in the folder, from where a killed command goes on."""
    config, source = AdaptConfig(), skeleton(store.manifest.skeleton)
    frames = predictor.encoder.config.frames
    memory = memory_of("", frames if frames > 1 else config.frames)

    def made(clip: CapturedClip, place: Path) -> str:
        where = f"frames {clip.key.frame_start} to {clip.key.frame_start + clip.key.num_frames - 1}"
        try:
            done = adapt(predictor.encoder, clip, source, predictor.body, memory(clip.key.fps), config)
        except UserError as error:
            return f"{where}: not adapted ({error})"
        if done.kept:
            save_package(place, done.encoder, predictor.card)
        told = f"step {done.kept} kept" if done.kept else "left as it was"
        return "; ".join((f"{where}: {told}", *done.notes))

    def adapted(clip: CapturedClip) -> tuple[BodyPredictor, str]:
        place = folder / clip_name(clip.key)
        if not _is_done(place, identity):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            publish(place / NOTE, made(clip, place))
            publish(place / DONE, json.dumps(identity, indent=1))
        note = (place / NOTE).read_text()
        if not (place / WEIGHTS).exists():
            return predictor, note
        encoder, _ = load_as(Encoder, place)
        return replace(predictor, encoder=encoder.to(next(predictor.encoder.parameters()).device)), note

    return adapted


def say(text: str) -> None:
    """Where progress bars are."""
    print(text, file=sys.stderr, flush=True)
