"""Draw docs/images/idea.png: the idea of an AIGN, with a real picture and what a trained model makes of it.

aign assets pull pose pose2sim
aign reproduce mocap --only selfsup --seeds 1 --champion
python tools/idea_figure.py models:/motion_capture@champion docs/images/idea.png
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from aign.body.assets import load_body
from aign.body.skinning import rest_joints, skin
from aign.data import assets
from aign.data.motions import load_demo_motions
from aign.data.publish import published
from aign.data.stages.decode import read_frames
from aign.inference import Bodies, Predictor
from aign.inference.body_video import draw_surface
from aign.tasks.motion_capture.observation import KEYPOINTS

VIDEO, FRAMES, SHOWN = "pose2sim_cam01", 40, 30
SIDE_PX, FOCAL_PX, AWAY_M = 360, 620.0, 4.2
"""Of the pictures that are drawn here."""
INK, DIM, FOUND, MADE = "#1d2733", "#5d6b7a", "#12a3d8", "#e07000"
MEMORIES = (("dance_a", 40), ("kick", 20), ("run", 10), ("jump", 30), ("walk", 12), ("spin", 25))
"""Motions, and the frame of each."""
FIGURE_IN = (11.0, 5.9)


def studio(
    vertices_m: Float32[np.ndarray, "v 3"], turn_degrees: float, away_m: float = AWAY_M
) -> UInt8[np.ndarray, "s s 3"]:
    """A body before a camera of this page's own, turned about the vertical.

    Args:
        vertices_m: y down, anywhere.
        turn_degrees: 0: as it is.
        away_m: of the camera.
    """
    angle = np.radians(turn_degrees)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]], np.float32)
    centred = (vertices_m - (vertices_m.min(0) + vertices_m.max(0)) / 2) @ turn.T
    lens = np.array((FOCAL_PX, FOCAL_PX, SIDE_PX / 2, SIDE_PX / 2), np.float32)
    blank = np.full((SIDE_PX, SIDE_PX, 3), 255, np.uint8)
    away = np.array((0, 0, away_m), np.float32)
    return draw_surface(blank, (centred + away).astype(np.float32), load_body().faces.numpy().astype(np.int32), lens)


def surface(bodies: Bodies, frame: int) -> Float32[np.ndarray, "v 3"]:
    """Vertices of one frame in the camera, metres."""
    body = load_body()
    rotmats, betas, pelvis = (
        torch.from_numpy(array[frame : frame + 1]) for array in (bodies.rotmats, bodies.betas, bodies.pelvis_cam_m)
    )
    vertices: np.ndarray = skin(body, rotmats, betas, pelvis - rest_joints(body, betas)[:, 0]).vertices_m[0].numpy()
    return vertices


def remembered() -> list[UInt8[np.ndarray, "s s 3"]]:
    """Bodies of real motion that nobody filmed."""
    body, motions = load_body(), {motion.name: motion for motion in load_demo_motions()}
    pictures = []
    for name, frame in MEMORIES:
        rotmats = torch.from_numpy(motions[name].rotmats[frame : frame + 1]).float()
        vertices = skin(body, rotmats, torch.zeros(1, 10), torch.zeros(1, 3)).vertices_m[0].numpy()
        pictures.append(studio(vertices * np.array((1, -1, -1), np.float32), 25.0))
    return pictures


def square_of(bodies: Bodies, frame: int, size_px: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns round the person."""
    points = bodies.kp2d_px[frame][bodies.kp2d_conf[frame] > 0]
    middle, half = (points.min(0) + points.max(0)) / 2, 0.62 * float((points.max(0) - points.min(0)).max())
    left, top = np.maximum(np.rint(middle - half), 0).astype(int)
    right, bottom = np.minimum(np.rint(middle + half), size_px).astype(int)
    return slice(top, bottom), slice(left, right)


def panel(figure: Figure, box: tuple[float, float, float, float], picture: np.ndarray, title: str, text: str) -> Axes:
    """A picture with a title above and words below."""
    axes = figure.add_axes(box)
    axes.imshow(picture, interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#c9d1d9")
    axes.set_title(title, fontsize=12, color=INK, pad=6)
    axes.set_xlabel(text, fontsize=9, color=DIM, labelpad=5)
    return axes


def arrow(
    figure: Figure, start: tuple[float, float], end: tuple[float, float], word: str, at: tuple[float, float]
) -> None:
    """From one place of the page to another, with a word beside it."""
    style = {"arrowstyle": "-|>", "mutation_scale": 16, "linewidth": 1.8, "color": INK}
    figure.add_artist(FancyArrowPatch(start, end, transform=figure.transFigure, **style))
    figure.text(*at, word, fontsize=11, color=INK, ha="center", va="center", fontweight="bold")


def draw(model: str, path: Path) -> None:
    """Predict, and draw the page."""
    frames = np.stack(list(read_frames(assets.path(VIDEO), 0, FRAMES)))
    bodies = Predictor.load(model).predict(frames)
    assert isinstance(bodies, Bodies), "a model of motion capture"
    vertices, photo = surface(bodies, SHOWN), frames[SHOWN]
    rows, columns = square_of(bodies, SHOWN, (photo.shape[1], photo.shape[0]))
    lens, faces = bodies.intrinsics_px[SHOWN], load_body().faces.numpy().astype(np.int32)
    render = draw_surface(np.full_like(photo, 255), vertices, faces, lens)
    used = [joint for joint in KEYPOINTS if bodies.kp2d_conf[SHOWN, joint] > 0]
    found = bodies.kp2d_px[SHOWN, used] - (columns.start, rows.start)
    joints = bodies.joints_cam_m[SHOWN, used]
    made = joints[:, :2] / joints[:, 2:] * lens[:2] + lens[2:] - (columns.start, rows.start)

    figure = Figure(figsize=FIGURE_IN, dpi=110, facecolor="white")
    low, high, size = 0.53, 0.36, 0.20
    seen = panel(
        figure,
        (0.03, low, size, high),
        photo[rows, columns],
        "x: what was observed",
        "a video frame, and the joints found in it",
    )
    seen.scatter(*found.T, s=16, c=FOUND, edgecolors="white", linewidths=0.6)
    panel(
        figure,
        (0.40, low, size, high),
        studio(vertices, 75.0, 3.1),
        "z: factors",
        "pose, shape, place; seen from the side",
    )
    drawn = panel(
        figure,
        (0.77, low, size, high),
        render[rows, columns],
        "P(z): should look like x",
        "its joints (orange), outline and motion",
    )
    drawn.scatter(*found.T, s=16, c=FOUND, edgecolors="white", linewidths=0.6)
    drawn.scatter(*made.T, s=16, c=MADE, edgecolors="white", linewidths=0.6)
    middle = low + high / 2
    arrow(figure, (0.245, middle), (0.385, middle), "G", (0.315, middle + 0.045))
    figure.text(0.315, middle - 0.045, "a network", fontsize=9, color=DIM, ha="center", va="center")
    arrow(figure, (0.615, middle), (0.755, middle), "P", (0.685, middle + 0.045))
    figure.text(0.685, middle - 0.045, "known physics", fontsize=9, color=DIM, ha="center", va="center")
    for number, picture in enumerate(remembered()):
        axes = figure.add_axes((0.03 + 0.085 * number, 0.05, 0.085, 0.22))
        axes.imshow(picture[:, 50:-50])
        axes.set_axis_off()
    figure.text(0.03, 0.29, "memory: real poses that belong to no picture", fontsize=11, color=INK)
    figure.text(0.645, 0.16, "D: does z look real?", fontsize=12, color=INK, va="center", fontweight="bold")
    figure.text(0.645, 0.105, "critics compare z with the memory", fontsize=9, color=DIM, va="center")
    arrow(figure, (0.545, 0.16), (0.635, 0.16), "", (0.59, 0.2))
    arrow(figure, (0.53, 0.46), (0.67, 0.205), "", (0.6, 0.33))
    with published(path) as unfinished:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        rgb = np.asarray(canvas.buffer_rgba())[..., 2::-1]
        done, data = cv2.imencode(".png", rgb, [cv2.IMWRITE_PNG_COMPRESSION, 9])
        assert done, "OpenCV writes PNG"
        unfinished.write_bytes(data.tobytes())


if __name__ == "__main__":
    draw(sys.argv[1], Path(sys.argv[2]))
