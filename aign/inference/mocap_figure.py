"""The picture of motion-capture methods: the same frames, each method's body drawn into them and seen from the side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aign.body.assets import BodyAssets
from aign.data.publish import published
from aign.evaluation.bodies import Bodies
from aign.evaluation.body_view import BodyView
from aign.framework.errors import UserError
from aign.inference.body_predictor import FrameBodies, resized_lens
from aign.inference.body_video import draw_surface, surfaces
from aign.tasks.motion_capture.clips import CapturedClip

TILE_PX = 220
MARGIN = 1.25
"""Of the person's height that a view from the side shows."""
PAPER = 255


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One frame: its picture, and the surface that each method sees there.

    Attributes:
        label: under the picture.
        picture: RGB, square or not.
        intrinsics_px: fx, fy, cx, cy.
        vertices_cam_m: by method, in the order of the columns.
    """

    label: str
    picture: UInt8[np.ndarray, "h w 3"]
    intrinsics_px: Float32[np.ndarray, "4"]
    vertices_cam_m: Mapping[str, Float32[np.ndarray, "v 3"]]


def chosen_frames(view: BodyView, count: int) -> list[int]:
    """Middle frames of clips, each of another action as long as there are any: by position, not by how they look."""
    starts = np.cumsum([0, *(clip.key.num_frames for clip in view.clips)])
    by_action: dict[str, list[int]] = {}
    for number, clip in enumerate(view.clips):
        by_action.setdefault(clip.key.action, []).append(number)
    rounds = max(map(len, by_action.values()))
    order = [numbers[i] for i in range(rounds) for numbers in by_action.values() if i < len(numbers)]
    return [int(starts[n] + view.clips[n].key.num_frames // 2) for n in order[:count]]


def shown(view: BodyView, frames: Sequence[int], bodies: Mapping[str, Bodies], body: BodyAssets) -> list[Shown]:
    """Frames with the surfaces of several methods.

    Args:
        view: the frames.
        frames: numbers in it.
        bodies: by label, of all frames of the view.
        body: whose surface is drawn.
    """
    index = torch.as_tensor(list(frames))
    drawn = {label: list(surfaces(_picked(estimate, index), body)) for label, estimate in bodies.items()}
    starts = np.cumsum([0, *(clip.key.num_frames for clip in view.clips)])
    found = []
    for at, frame in enumerate(frames):
        number = int(np.searchsorted(starts, frame, side="right") - 1)
        clip, inside = view.clips[number], int(frame - starts[number])
        found.append(
            Shown(
                label=clip.key.action.replace("_", " "),
                picture=_picture(clip, inside),
                intrinsics_px=clip.columns["frame_intrinsics_px"][inside].numpy().astype(np.float32),
                vertices_cam_m={label: vertices[at] for label, vertices in drawn.items()},
            )
        )
    return found


def _picture(clip: CapturedClip, frame: int) -> UInt8[np.ndarray, "h w 3"]:
    return np.ascontiguousarray(clip.columns["image_rgb"][frame, 0].numpy())


def _picked(bodies: Bodies, index: torch.Tensor) -> FrameBodies:
    rotmats, betas, pelvis = (v[index].numpy() for v in (bodies.rotmats, bodies.betas, bodies.pelvis_cam_m))
    return FrameBodies(
        rotmats=rotmats, betas=betas, pelvis_cam_m=pelvis, joints_cam_m=np.full((len(index), 24, 3), np.nan, np.float32)
    )


def bodies_figure(path: Path, rows: Sequence[Shown], body: BodyAssets) -> None:
    """Write a png: a row a frame; the picture, then two tiles a method: drawn into it, and from the person's side.

    Raises:
        UserError: nothing to draw, or the file cannot be written.
    """
    if not rows:
        raise UserError("got no frame to draw; allowed: one or more")
    methods = list(rows[0].vertices_cam_m)
    faces = body.faces.numpy().astype(np.int32)
    wide, high = 1 + 2 * len(methods), len(rows)
    figure = Figure(figsize=(wide * TILE_PX / 100, (high * TILE_PX + 60) / 100), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    top = 1 - 50 / (high * TILE_PX + 60)
    for i, row in enumerate(rows):
        tiles = [_large(row.picture)]
        for vertices in row.vertices_cam_m.values():
            tiles += [_into_picture(row, vertices, faces), _from_the_side(vertices, faces)]
        for j, tile in enumerate(tiles):
            axis = figure.add_axes((j / wide, top * (1 - (i + 1) / high), 0.99 / wide, 0.985 * top / high))
            axis.imshow(tile, interpolation="nearest")
            axis.set_axis_off()
            if j == 0:
                axis.text(6, TILE_PX - 10, row.label, color="white", fontsize=12, fontweight="bold",
                          bbox={"facecolor": "#00000090", "edgecolor": "none", "pad": 2})  # fmt: skip
    figure.text(0.5 / wide, top + 0.3 * (1 - top), "picture", ha="center", fontsize=14)
    for j, method in enumerate(methods):
        figure.text((2 + 2 * j) / wide, top + 0.3 * (1 - top), method, ha="center", fontsize=14, fontweight="bold")
    with published(path) as unfinished:
        figure.savefig(unfinished, format="png")


def _large(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    factor = TILE_PX / max(picture.shape[:2])
    size = (round(picture.shape[1] * factor), round(picture.shape[0] * factor))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC))


def _into_picture(row: Shown, vertices: Float32[np.ndarray, "v 3"], faces: np.ndarray) -> UInt8[np.ndarray, "h2 w2 3"]:
    large = _large(row.picture)
    by = np.array(large.shape[1::-1]) / np.array(row.picture.shape[1::-1])
    return draw_surface(large, vertices, faces, resized_lens(row.intrinsics_px[None], by)[0])


def _from_the_side(vertices: Float32[np.ndarray, "v 3"], faces: np.ndarray) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The body as a camera to its right sees it, as far away as it is large; everybody fills the tile alike."""
    middle = (vertices.max(0) + vertices.min(0)) / 2
    turned = (vertices - middle)[:, [2, 1, 0]] * np.array([1, 1, -1], np.float32)
    reach = MARGIN * float(np.ptp(vertices, axis=0).max())
    away = 4 * reach
    lens = np.array([TILE_PX * away / reach] * 2 + [(TILE_PX - 1) / 2] * 2, np.float32)
    paper = np.full((TILE_PX, TILE_PX, 3), PAPER, np.uint8)
    return draw_surface(paper, turned + np.array([0, 0, away], np.float32), faces, lens)
