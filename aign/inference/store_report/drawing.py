"""Joints, masks and flow as SVG over a stored picture: sharp at any size, some hundred bytes each.

Convention: pictures use continuous coordinates with (0, 0) at the corner of the top-left pixel, so that the stored
pixel (x, y) has its centre at (x + 0.5, y + 0.5).
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from aign.geometry.skeleton import Skeleton
from aign.inference.overlay import MIN_CONF, side

_ARROW_COLUMNS = 12
_SHORTEST_ARROW = 0.15
"""Of a cell of the arrows' grid; shorter ones are left out."""
_DART = 0.13
"""Half the width of a dart's base, in cells."""
_LARGEST_AREAS = 12
_JPEGS = ((320, 82), (320, 68), (256, 66), (192, 62), (144, 58), (112, 52), (80, 45))
"""Longer side and quality to try, the best first."""


def in_picture(
    kp2d_px: Float[np.ndarray, "j 2"], crop_xyxy_px: Float[np.ndarray, "4"], size_px: tuple[int, int]
) -> Float[np.ndarray, "j 2"]:
    """Joints of the whole picture as continuous coordinates of a crop of it.

    Convention: the crop's edges are continuous pixel coordinates with a picture's top-left corner at (-0.5, -0.5), so
    the crop's own top-left corner becomes (0, 0) and its bottom-right one `size_px`.
    """
    low, high = crop_xyxy_px[:2], crop_xyxy_px[2:]
    return np.asarray((kp2d_px - low) * np.array(size_px) / (high - low))


def joints_svg(points: Float[np.ndarray, "j 2"], conf: Float[np.ndarray, " j"], body: Skeleton | None) -> str:
    """Bones by side over a dark outline, and the joints; those below `MIN_CONF` are left out.

    Args:
        points: joints in the picture's coordinates.
        conf: of each joint, 0..1.
        body: says which are connected; None draws the joints alone.
    """
    shown = np.isfinite(points).all(axis=-1) & (conf >= MIN_CONF) & (np.abs(np.nan_to_num(points)) < 1e5).all(axis=-1)
    bones = [] if body is None or len(body) != len(points) else [b for b in body.bones if shown[b[0]] and shown[b[1]]]
    strokes = {"left": "", "right": "", "centre": ""}
    for child, parent in bones:
        assert body is not None, "only a skeleton has bones"
        strokes[side(body.joints[child])] += f"M{_at(points[child])}L{_at(points[parent])}"
    dots = "".join(f"M{_at(point)}h0" for point in points[shown])
    paths = [("bone case", "".join(strokes.values())), *((f"bone {name}", d) for name, d in strokes.items())]
    return _group("joints", [*paths, ("joint case", dots), ("joint", dots)])


def landmarks_svg(points: Float[np.ndarray, "5 2"], face: Skeleton) -> str:
    """A face's landmarks by side."""
    dots = {"left": "", "right": "", "centre": ""}
    for name, point in zip(face.joints, points, strict=True):
        dots[side(name)] += f"M{_at(point)}h0"
    return _group(
        "joints", [("joint case", "".join(dots.values())), *((f"mark {name}", d) for name, d in dots.items())]
    )


def mask_svg(mask: Bool[np.ndarray, "h w"]) -> str:
    """The outline of the largest areas and their holes."""
    # Half a pixel of margin on each side: a mask that touches the border has an outline there too.
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    outlines, _ = cv2.findContours(padded, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    outlines = sorted(outlines, key=cv2.contourArea, reverse=True)[:_LARGEST_AREAS]
    tolerance = max(0.6, max(mask.shape) / 400)
    path = ""
    for outline in outlines:
        points = cv2.approxPolyDP(outline, tolerance, True)[:, 0] - 0.5
        if len(points) > 2:
            path += "M" + "L".join(_at(point) for point in points) + "Z"
    return _group("mask", [("area", path)])


def arrow_gain(flows: Sequence[tuple[Float32[np.ndarray, "h w 2"], Bool[np.ndarray, "h w"]]]) -> float:
    """How much longer than the flow its arrows are drawn, so that the fast parts of a clip cross one cell of the grid.

    At least 1: a flow faster than that is drawn as it is.
    """
    lengths = [np.hypot(*flow[valid].T) for flow, valid in flows if valid.any()]
    if not lengths:
        return 1.0
    fast = float(np.percentile(np.concatenate(lengths), 97))
    cell = flows[0][1].shape[1] / _ARROW_COLUMNS
    gain = max(1.0, cell / max(fast, 1e-3))
    return float(2 ** np.floor(np.log2(min(gain, 64.0))))


def flow_svg(flow_px: Float32[np.ndarray, "h w 2"], valid: Bool[np.ndarray, "h w"], gain: float) -> str:
    """Darts on a grid, from the middle of their base to their tip `gain` times the flow; none where it is invalid."""
    height, width = valid.shape
    cell = width / _ARROW_COLUMNS
    rows = max(1, round(height / cell))
    darts = ""
    for y in ((np.arange(rows) + 0.5) * height / rows).astype(int).tolist():
        for x in ((np.arange(_ARROW_COLUMNS) + 0.5) * cell).astype(int).tolist():
            u, v = (flow_px[y, x].astype(float) * gain).tolist()
            length = math.hypot(u, v)
            if valid[y, x] and length >= _SHORTEST_ARROW * cell:
                a, b = -v / length * _DART * cell, u / length * _DART * cell  # half the base
                darts += f"M{x + 0.5 + a:.4g} {y + 0.5 + b:.4g}l{-2 * a:.2g} {-2 * b:.2g} {u + a:.3g} {v + b:.3g}z"
    return _group("flow", [("dart", darts)])


def thumbnail(rgb: UInt8[np.ndarray, "h w 3"], most_bytes: int) -> bytes:
    """A JPEG of at most that many bytes, or the smallest there is."""
    encoded = b""
    for side_px, quality in _JPEGS:
        scale = min(1.0, side_px / max(rgb.shape[:2]))
        size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
        small = rgb if scale == 1.0 else cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        ok, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
        assert ok, "encoding cannot fail on uint8 pictures"
        encoded = data.tobytes()
        if len(encoded) <= most_bytes:
            break
    return encoded


def _at(point: np.ndarray) -> str:
    return f"{point[0]:.5g} {point[1]:.5g}"


def _group(layer: str, paths: Sequence[tuple[str, str]]) -> str:
    inside = "".join(f'<path class="{name}" d="{d}"/>' for name, d in paths if d)
    return f'<g class="layer-{layer}">{inside}</g>' if inside else ""
