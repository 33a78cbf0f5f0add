"""What was seen and what was lifted, drawn over the video it came from.

Convention: pixels (0, 0) at the centre of the top-left pixel, x right, y down; "left" is the person's left.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from aign.data.stages.decode import write_mp4
from aign.framework.errors import UserError
from aign.geometry.skeleton import H36M17, Skeleton

MIN_CONF = 0.3
"""Joints the detector trusts less are not drawn."""

SIDE_RGB = {"left": (43, 147, 230), "right": (240, 112, 12), "centre": (0, 158, 115)}
"""After Okabe and Ito's palette, told apart with protan and deutan vision (tested)."""

_LONGEST_PX = 1280  # of a drawn video: sharp on a page, a quarter of the bytes of 1080 x 1920
_DARK = (16, 20, 26)
_WHITE = (255, 255, 255)
_SHIFT = 4  # OpenCV's fixed point: sixteenths of a pixel, or slow limbs jump
_FAR_PX = 1e5  # beyond every image; further out the fixed point would overflow


def side(joint: str) -> str:
    """Which of `SIDE_RGB` a joint's name belongs to; a bone has the side of its child."""
    return {"l_": "left", "r_": "right"}.get(joint[:2], "centre")


def draw_pose(
    frame: UInt8[np.ndarray, "h w 3"],
    kp2d_px: Float[np.ndarray, "j 2"],
    conf: Float[np.ndarray, " j"],
    skeleton: Skeleton,
) -> UInt8[np.ndarray, "h w 3"]:
    """A copy of the frame with limbs and joints, one colour a side.

    Joints below `MIN_CONF`, and those that are not finite, are left out with their bones.

    Args:
        frame: RGB.
        kp2d_px: joints of `skeleton`.
        conf: of each joint, 0..1.
        skeleton: says which joints are connected, and their sides.

    Raises:
        UserError: another number of joints than the skeleton has.
    """
    if len(kp2d_px) != len(skeleton):
        raise UserError(f"got {len(kp2d_px)} joints to draw; {skeleton.name} has {len(skeleton)}")
    picture = np.ascontiguousarray(frame).copy()
    shown, points = _shown(kp2d_px, conf)
    thick = _stroke_px(frame)
    bones = [(child, parent) for child, parent in skeleton.bones if shown[child] and shown[parent]]
    # All outlines first: drawn with each limb they would cut the limbs below it.
    for width, outline in ((thick + max(2, thick // 2), True), (thick, False)):
        for child, parent in bones:
            colour = _DARK if outline else SIDE_RGB[side(skeleton.joints[child])]
            cv2.line(picture, points[child], points[parent], colour, width, cv2.LINE_AA, _SHIFT)
    for joint in np.flatnonzero(shown).tolist():
        _disc(picture, points[joint], 0.85 * thick, _DARK)
        _disc(picture, points[joint], 0.55 * thick, _WHITE)
    return picture


def write_overlay(
    path: Path,
    frames: Iterable[UInt8[np.ndarray, "h w 3"]],
    kp2d_px: Float[np.ndarray, "t j 2"],
    conf: Float[np.ndarray, "t j"],
    reprojected_px: Float[np.ndarray, "r 17 2"] | None,
    fps: float | int,
    skeleton: Skeleton = H36M17,
) -> None:
    """Write the video with what was detected and, if given, the lifted skeleton projected back into it.

    With a lifted skeleton its limbs are drawn in colour and the detections as white rings: where a ring sits on a
    joint, the 3D pose explains what was seen. Without one the detections themselves are drawn as a skeleton. The
    longer side is at most 1280 px. H.264; the file appears under its name when it is whole.

    Args:
        path: of the new .mp4.
        frames: t RGB frames of one size.
        kp2d_px: detections, joints of `skeleton`.
        conf: of the detections, 0..1; see `draw_pose`.
        reprojected_px: H36M-17 joints, not finite where there is none.
        fps: of the new video; a lower one than the camera's plays in slow motion.
        skeleton: of the detections.

    Raises:
        UserError: numbers of frames or joints that differ, or the file cannot be written.
    """
    if reprojected_px is not None and len(reprojected_px) != len(kp2d_px):
        raise UserError(f"got {len(kp2d_px)} frames of detections and {len(reprojected_px)} lifted; allowed: as many")
    if kp2d_px.shape[1] != len(skeleton):
        raise UserError(f"got {kp2d_px.shape[1]} joints to draw; {skeleton.name} has {len(skeleton)}")
    write_mp4(path, _drawn(frames, kp2d_px, conf, reprojected_px, skeleton), fps)


def _drawn(
    frames: Iterable[UInt8[np.ndarray, "h w 3"]],
    kp2d_px: Float[np.ndarray, "t j 2"],
    conf: Float[np.ndarray, "t j"],
    reprojected_px: Float[np.ndarray, "r 17 2"] | None,
    skeleton: Skeleton,
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    legend, count = None, 0
    for count, frame in enumerate(frames, start=1):
        if count > len(kp2d_px):
            raise UserError(f"got more frames than the {len(kp2d_px)} with keypoints; allowed: as many")
        small, scale = _resized(frame)
        seen_px = (kp2d_px[count - 1] + 0.5) * scale - 0.5
        if reprojected_px is None:
            picture = draw_pose(small, seen_px, conf[count - 1], skeleton)
        else:
            lifted_px = (reprojected_px[count - 1] + 0.5) * scale - 0.5
            picture = draw_pose(small, lifted_px, np.ones(len(lifted_px), lifted_px.dtype), H36M17)
            _draw_rings(picture, seen_px, conf[count - 1])
        if legend is None:
            legend = _legend_rgba(min(picture.shape[:2]), lifted=reprojected_px is not None)
        yield _blended(picture, legend)
    if 0 < count < len(kp2d_px):
        raise UserError(f"got {count} frames but keypoints of {len(kp2d_px)}; allowed: as many")


def _shown(
    kp2d_px: Float[np.ndarray, "j 2"], conf: Float[np.ndarray, " j"]
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Which joints are drawn, and all of them in OpenCV's fixed point."""
    shown = np.isfinite(kp2d_px).all(axis=-1) & (conf >= MIN_CONF)
    near = np.where(shown[:, None], kp2d_px, 0.0).clip(-_FAR_PX, _FAR_PX)
    fixed = np.rint(near * 2**_SHIFT).astype(np.int64)
    return shown, [(int(x), int(y)) for x, y in fixed]


def _stroke_px(frame: UInt8[np.ndarray, "h w 3"]) -> int:
    shorter: int = min(frame.shape[:2])
    return max(2, round(0.008 * shorter))


def _disc(picture: UInt8[np.ndarray, "h w 3"], at: tuple[int, int], radius_px: float, rgb: tuple[int, ...]) -> None:
    cv2.circle(picture, at, max(1, round(radius_px * 2**_SHIFT)), rgb, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _draw_rings(
    picture: UInt8[np.ndarray, "h w 3"], kp2d_px: Float[np.ndarray, "j 2"], conf: Float[np.ndarray, " j"]
) -> None:
    shown, points = _shown(kp2d_px, conf)
    thick = _stroke_px(picture)
    radius = round(1.7 * thick * 2**_SHIFT)
    for joint in np.flatnonzero(shown).tolist():
        cv2.circle(picture, points[joint], radius, _DARK, max(2, thick * 2 // 3), cv2.LINE_AA, _SHIFT)
        cv2.circle(picture, points[joint], radius, _WHITE, max(1, thick // 3), cv2.LINE_AA, _SHIFT)


def _resized(frame: UInt8[np.ndarray, "h w 3"]) -> tuple[UInt8[np.ndarray, "sh sw 3"], float]:
    scale = min(1.0, _LONGEST_PX / max(frame.shape[:2]))
    if scale == 1.0:
        return frame, scale
    size = (round(frame.shape[1] * scale), round(frame.shape[0] * scale))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA)), scale


def _legend_rgba(shorter_side_px: int, *, lifted: bool) -> UInt8[np.ndarray, "h w 4"]:
    """The legend as a picture; by matplotlib, whose letters are better than OpenCV's."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    def stroke(name: str) -> Line2D:
        return Line2D([], [], color=[c / 255 for c in SIDE_RGB[name]], linewidth=3.5, solid_capstyle="round")

    ring = Line2D([], [], color="white", marker="o", markerfacecolor="none", markeredgewidth=1.6, linestyle="none")
    entries = [(stroke(name), name) for name in SIDE_RGB] + ([(ring, "detected")] if lifted else [])
    dpi = float(np.clip(0.17 * shorter_side_px, 50, 300))  # at 720 px letters are 17 px high
    figure = Figure(figsize=(3.5 if lifted else 3.0, 0.42), dpi=dpi)
    figure.patch.set_facecolor((0.05, 0.07, 0.09, 0.62))
    canvas = FigureCanvasAgg(figure)
    title = figure.text(0.03, 0.5, "lifted" if lifted else "detected", color="white", fontsize=10, va="center")
    title.set_fontweight("bold")
    figure.legend(
        [handle for handle, _ in entries], [name for _, name in entries], loc="center right", ncols=len(entries),
        frameon=False, labelcolor="white", fontsize=9.5, handlelength=1.1, handletextpad=0.5, columnspacing=1.1,
        borderaxespad=0.1,
    )  # fmt: skip
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()


def _blended(picture: UInt8[np.ndarray, "h w 3"], legend: UInt8[np.ndarray, "lh lw 4"]) -> UInt8[np.ndarray, "h w 3"]:
    """The legend in the bottom-left corner, cut where the picture is smaller."""
    margin = max(2, round(0.02 * picture.shape[1]))
    legend = legend[: max(0, picture.shape[0] - 2 * margin), : max(0, picture.shape[1] - 2 * margin)]
    height, width = legend.shape[:2]
    if height and width:
        top = picture.shape[0] - margin - height
        place = picture[top : top + height, margin : margin + width]
        alpha = legend[..., 3:].astype(np.float32) / 255
        place[:] = np.rint(legend[..., :3] * alpha + place * (1 - alpha)).astype(np.uint8)
    return picture
