"""The files of a captured video: overlays, bodies and figures of each person, exports and the page."""

import csv
import io
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32

from aign.body.assets import BodyAssets
from aign.data.datasets.video.framing import WORKING_SIDE_PX
from aign.data.progress import track
from aign.data.stages.decode import probe, read_frames, read_range, write_mp4
from aign.inference.body_predictor import resized_lens
from aign.inference.body_video import VideoPlace, drawn, save_bodies, surfaces
from aign.inference.captured import CapturedMotion
from aign.inference.exports.files import write_exports
from aign.inference.free_view import beside, free_views
from aign.inference.person_motion import world_surfaces
from pipelines.capture_people import CapturedPerson, CapturedVideo
from pipelines.run_folder import publish

SIDE_BY_SIDE_PX = 720
"""Height, at most."""
FIGURES = ("reprojection_px", "mask_iou", "flow_error_px", "flip_risk")


def write_files(video: CapturedVideo, body: BodyAssets) -> None:
    """Everything of a captured video into its folder.

    overlay.mp4 and side_by_side.mp4 of all people; for each person bodies.npz (in the camera), quality.csv and the
    exports.
    """
    overlay = video.folder / "overlay.mp4"
    _write_overlay(video, body)
    frames = video.footage.frames
    height = min(probe(overlay).height_px, SIDE_BY_SIDE_PX)
    beyond = free_views(zip(*map(_in_world, video.motions), strict=True), body, height)
    pairs = track(beside(read_frames(overlay), beyond), "side by side", "frames", frames)
    write_mp4(video.folder / "side_by_side.mp4", pairs, video.footage.fps)
    for index, (person, motion) in enumerate(zip(video.people, video.motions, strict=True)):
        folder = video.person_folder(index)
        folder.mkdir(exist_ok=True)
        place = VideoPlace(
            frame=np.arange(frames), fps=video.footage.fps, intrinsics_px=video.footage.intrinsics_px
        )  # fmt: skip
        save_bodies(folder / "bodies.npz", person.seen.bodies, body, place, video.licences)
        publish(folder / "quality.csv", quality_csv(person, motion))
        write_exports(folder, motion, video.licences)


def _write_overlay(video: CapturedVideo, body: BodyAssets) -> None:
    source = video.footage.video
    frames = read_range(source.video.path, source.index, 0, video.footage.frames, WORKING_SIDE_PX)
    first = next(iter(read_range(source.video.path, source.index, 0, 1, WORKING_SIDE_PX)))
    by = np.array(first.shape[1::-1]) / np.array((source.index.width_px, source.index.height_px))
    lens = resized_lens(video.footage.intrinsics_px[None], by)[0]
    people = zip(*(_in_camera(person, body) for person in video.people), strict=True)
    pictures = track(drawn(frames, people, body, lens), "overlay", "frames", video.footage.frames)
    write_mp4(video.folder / "overlay.mp4", pictures, video.footage.fps)


def _in_camera(person: CapturedPerson, body: BodyAssets) -> Iterator[Float32[np.ndarray, "v 3"]]:
    """Vertices of every frame; NaN where the person was not seen."""
    for vertices, known in zip(surfaces(person.seen.bodies, body), person.seen.known, strict=True):
        yield vertices if known else np.full_like(vertices, np.nan)


def _in_world(motion: CapturedMotion) -> Iterator[Float32[np.ndarray, "v 3"]]:
    for vertices, known in zip(world_surfaces(motion), motion.known, strict=True):
        yield vertices if known else np.full_like(vertices, np.nan)


def quality_csv(person: CapturedPerson, motion: CapturedMotion) -> str:
    """A line for each frame: what is known of it, its figures, and which feet stand."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("frame", "time_s", "known", *FIGURES, "left_foot_stands", "right_foot_stands"))
    for frame, known in enumerate(motion.known):
        values = [getattr(person.quality, name)[frame] for name in FIGURES]
        told = ["" if np.isnan(value) else f"{value:.4g}" for value in values]
        feet = motion.contact[frame].astype(int)
        rows.writerow((frame, f"{frame / motion.motion.fps:.4f}", int(known), *told, *feet))
    return text.getvalue()
