"""Pictures for a README, a report or a tracking server: lifted poses beside their video, and training curves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from aign.data.publish import published
from aign.framework.errors import UserError
from aign.geometry.skeleton import H36M17, Skeleton
from aign.inference.overlay import MIN_CONF, SIDE_RGB, draw_pose, side
from aign.inference.plot import FAINT, INK, QUIET, new_figure

_GRID_M = 0.5
_CROP_PX = 720
_REFERENCE = "#9aa1ab"


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One row of `side_by_side`.

    Attributes:
        frame: RGB.
        kp2d_px: what was detected in it.
        conf: of the detections, 0..1.
        joints_cam_m: the lifted H36M-17 joints, camera frame; not finite: not drawn.
        reference_m: what they are compared with, likewise, or None.
        label: under the video frame, e.g. "frame 40, 0.67 s".
        up_cam: where up is in the camera frame, if known; else the camera is taken to be level.
    """

    frame: UInt8[np.ndarray, "h w 3"]
    kp2d_px: Float[np.ndarray, "j 2"]
    conf: Float[np.ndarray, " j"]
    joints_cam_m: Float[np.ndarray, "17 3"]
    reference_m: Float[np.ndarray, "17 3"] | None
    label: str
    up_cam: Float[np.ndarray, " 3"] | None = None


def side_by_side(
    path: Path, moments: Sequence[Moment], skeleton: Skeleton = H36M17, reference_name: str = "reference"
) -> None:
    """Write a png, 1200 px wide: each moment's frame, its 3D pose as the camera sees it, and the same from the side.

    Convention: both 3D views are parallel projections relative to the pelvis, at one scale for all moments. The second
    is turned about the vertical and seen from the camera's right: the camera stands on the left of it.

    Args:
        path: of the new .png.
        moments: the rows.
        skeleton: of the detections.
        reference_name: what the grey skeleton is, in the legend.

    Raises:
        UserError: no moment, no finite pose, or the file cannot be written.
    """
    if not moments:
        raise UserError("got no moment to draw; allowed: at least one")
    views = [_two_views(moment) for moment in moments]
    reach = np.concatenate([body for view in views for bodies in view for body in bodies])
    if not np.isfinite(reach).all(axis=-1).any():
        raise UserError("got no pose with a finite pelvis and joint; allowed: at least one")
    figure = new_figure(12.0, 4.0 * len(moments) + 0.9)
    axes = figure.subplots(len(moments), 3, squeeze=False)
    for row, (moment, view) in enumerate(zip(moments, views, strict=True)):
        axes[row, 0].imshow(_person(moment, skeleton))
        axes[row, 0].set_xlabel(moment.label, color=QUIET, fontsize=13)
        for axis, bodies in zip(axes[row, 1:], view, strict=True):
            _draw_view(axis, *bodies)
            _frame_view(axis, reach)
        _say_where_camera_is(axes[row, 2])
    titles = ("video and detected joints", "lifted, as the camera sees it", "the same, turned by 90\N{DEGREE SIGN}")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=15, color=INK, pad=10)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    _legend(figure, reference_name if any(m.reference_m is not None for m in moments) else None)
    figure.subplots_adjust(
        left=0.012, right=0.988, wspace=0.03, hspace=0.09,
        top=1 - 0.42 / figure.get_figheight(), bottom=0.78 / figure.get_figheight(),
    )  # fmt: skip
    with published(path) as unfinished:
        figure.savefig(unfinished, format="png")


def levelled(
    joints_m: Float[np.ndarray, "*b 17 3"], up_cam: Float[np.ndarray, " 3"] | None
) -> Float[np.ndarray, "*b 17 3"]:
    """H36M-17 joints relative to their pelvis, turned on the shortest way so that up is -y.

    Convention: +y is down afterwards; without `up_cam` the camera was level and nothing is turned.

    Raises:
        UserError: `up_cam` has no direction.
    """
    centred = np.asarray(joints_m - joints_m[..., :1, :])
    if up_cam is None:
        return centred
    length = float(np.linalg.norm(up_cam))
    if not np.isfinite(length) or length == 0:
        raise UserError(f"got {up_cam} as the direction up; allowed: a finite vector that is not 0")
    x, y, z = (float(c) / length for c in up_cam)
    if y > 1 - 1e-9:  # upside down: every way is as short
        return np.asarray(centred * [-1, -1, 1])
    cross = np.array([[0, x, 0], [-x, 0, -z], [0, z, 0]])  # of up x (0, -1, 0)
    rot = np.eye(3) + cross + cross @ cross / (1 - y)
    return np.asarray(centred @ rot.T)


def _two_views(moment: Moment) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Lifted and, if given, reference joints: along the camera's axis, and from its right, both seen along +z."""
    given = [joints for joints in (moment.joints_cam_m, moment.reference_m) if joints is not None]
    turned = [levelled(joints, moment.up_cam)[:, [2, 1, 0]] * [1, 1, -1] for joints in given]
    return [joints - joints[:1] for joints in given], turned


def _person(moment: Moment, skeleton: Skeleton) -> UInt8[np.ndarray, "s s 3"]:
    """A square about the person with the detections drawn; black where it leaves the frame."""
    height, width = moment.frame.shape[:2]
    seen = moment.kp2d_px[(moment.conf >= MIN_CONF) & np.isfinite(moment.kp2d_px).all(axis=-1)]
    low, high = (seen.min(0), seen.max(0)) if len(seen) else (np.zeros(2), np.array([width, height]) - 1.0)
    tall = float((high - low).max())
    half = max(0.66 * tall, 8.0)
    middle = (low + high) / 2 - np.array([0.0, 0.06 * tall])  # detectors end at the nose, heads do not
    for axis, size in enumerate((width, height)):  # rather off centre than over the border
        if 2 * half <= size:
            middle[axis] = np.clip(middle[axis], half - 0.5, size - half - 0.5)
    scale = _CROP_PX / (2 * half)
    shift = (_CROP_PX - 1) / 2 - scale * middle
    to_crop = np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])
    quality = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    crop = np.asarray(cv2.warpAffine(moment.frame, to_crop, (_CROP_PX, _CROP_PX), flags=quality), dtype=np.uint8)
    return draw_pose(crop, (moment.kp2d_px * scale + shift).astype(moment.kp2d_px.dtype), moment.conf, skeleton)


def _draw_view(
    axis: Any, pose_m: Float[np.ndarray, "17 3"], reference_m: Float[np.ndarray, "17 3"] | None = None
) -> None:
    """A parallel projection along +z."""
    if reference_m is not None:
        for child, parent in H36M17.bones:
            ends = reference_m[[child, parent]]
            axis.plot(ends[:, 0], ends[:, 1], color=_REFERENCE, lw=7, alpha=0.75, solid_capstyle="round")
    far_to_near = sorted(H36M17.bones, key=lambda bone: -float(np.nan_to_num(pose_m[list(bone), 2].mean())))
    for layer, (child, parent) in enumerate(far_to_near, start=10):
        ends = pose_m[[child, parent]]
        colour = [c / 255 for c in SIDE_RGB[side(H36M17.joints[child])]]
        for width, paint in ((7.0, "white"), (4.2, colour)):
            axis.plot(
                ends[:, 0], ends[:, 1], color=paint, lw=width, solid_capstyle="round", zorder=layer,
                marker="o", markersize=width + 1.2, markeredgewidth=0,
            )  # fmt: skip


def _frame_view(axis: Any, reach_m: Float[np.ndarray, "n 3"]) -> None:
    """Equal axes that hold every pose from every side, and a faint grid."""
    finite = reach_m[np.isfinite(reach_m).all(axis=-1)]
    low, high = float(finite[:, 1].min()), float(finite[:, 1].max())
    half = 1.14 * max(float(np.abs(finite[:, [0, 2]]).max()), (high - low) / 2, 0.1)
    middle = (low + high) / 2
    axis.set(xlim=(-half, half), ylim=(middle + half, middle - half), aspect="equal", facecolor="white")
    for line in np.arange(-10, 11) * _GRID_M:
        axis.axvline(line, color=FAINT, lw=1, zorder=0)
        axis.axhline(line, color=FAINT, lw=1, zorder=0)


def _say_where_camera_is(axis: Any) -> None:
    axis.annotate(
        "camera", xy=(0.02, 0.04), xytext=(0.1, 0.04), xycoords="axes fraction", color=QUIET, fontsize=13,
        va="center", arrowprops={"arrowstyle": "->", "color": QUIET, "lw": 1.2}, zorder=50,
    )  # fmt: skip


def _legend(figure: Any, reference_name: str | None) -> None:
    from matplotlib.lines import Line2D

    lines = [(Line2D([], [], color=[c / 255 for c in rgb], lw=4), name) for name, rgb in SIDE_RGB.items()]
    if reference_name is not None:
        lines.append((Line2D([], [], color=_REFERENCE, lw=6, alpha=0.75), reference_name))
    lines.append((Line2D([], [], color=FAINT, lw=1.5), f"grid {_GRID_M} m"))
    figure.legend(
        [line for line, _ in lines], [name for _, name in lines], loc="lower center", ncols=len(lines),
        frameon=False, fontsize=13, labelcolor=INK, handlelength=1.6, columnspacing=2.2,
    )  # fmt: skip
