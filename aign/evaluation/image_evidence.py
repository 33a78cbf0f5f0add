"""How well an estimated body explains what was seen: keypoints, mask, flow. None of it needs a 3D truth.

Low numbers here do not mean a right pose (a body that leans towards the camera can explain the same picture), so they
stand beside the errors in 3D, never for them.

Convention: camera frame +x right, +y down, +z forward, metres; u = fx X/Z + cx without distortion; pixel (0, 0) is the
centre of the top-left pixel. Values are per frame; NaN where nothing was seen to compare with. No gradient.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from aign.geometry.camera import Pinhole, project
from aign.render.raster import Lens, Projected, project_vertices, rasterise
from aign.render.visibility import visible_vertices


@dataclass(frozen=True, kw_only=True)
class ImageEvidence:
    """What was seen of n frames, in the pixels of pictures of one size.

    Attributes:
        intrinsics_px: fx, fy, cx, cy.
        keypoints_px: SMPL-24 joints as detected (or projected, which the table's data line must say).
        keypoints_valid: which of them there are.
        mask: pixels of the person.
        flow_px: motion to the next row's picture; what it holds at the end of a run is not read.
        flow_ok: where it is known.
    """

    intrinsics_px: Float[Tensor, "n 4"]
    keypoints_px: Float[Tensor, "n 24 2"]
    keypoints_valid: Bool[Tensor, "n 24"]
    mask: Bool[Tensor, "n h w"] | None = None
    flow_px: Float[Tensor, "n h w 2"] | None = None
    flow_ok: Bool[Tensor, "n h w"] | None = None


@torch.no_grad()
def reprojection_px(
    joints_cam_m: Float[Tensor, "n j 3"],
    intrinsics_px: Float[Tensor, "n 4"],
    target_px: Float[Tensor, "n j 2"],
    valid: Bool[Tensor, "n j"],
) -> Float[Tensor, " n"]:
    """Mean distance of the projected joints from the valid keypoints, in pixels of the picture.

    A joint at or behind the camera is drawn as if just before it: a large error, not one that is left out.
    """
    at = project(joints_cam_m.double(), Pinhole.of(intrinsics_px.double()))
    distance = torch.where(valid, (at - target_px.double()).norm(dim=-1), 0.0)
    return distance.sum(dim=-1) / valid.sum(dim=-1)


@torch.no_grad()
def mask_iou(
    vertices_cam_m: Float[Tensor, "n v 3"],
    faces: Int[Tensor, "f 3"],
    intrinsics_px: Float[Tensor, "n 4"],
    mask: Bool[Tensor, "n h w"],
) -> Float[Tensor, " n"]:
    """Intersection over union of the drawn body and the mask, 0 to 1; NaN where the mask is empty.

    Args:
        vertices_cam_m: the estimate's.
        faces: of the closed mesh, counter-clockwise from outside.
        intrinsics_px: fx, fy, cx, cy.
        mask: pixels of the person.
    """
    corners, seen = faces.int().numpy(), mask.numpy()
    values = [
        _iou(rasterise(projected, corners, lens).face_id >= 0, truth)
        for (projected, lens), truth in zip(_projected(vertices_cam_m, intrinsics_px, mask), seen, strict=True)
    ]
    return torch.tensor(values, dtype=torch.float64)


@torch.no_grad()
def flow_error_px(
    vertices_cam_m: Float[Tensor, "n v 3"],
    moved_cam_m: Float[Tensor, "n v 3"],
    faces: Int[Tensor, "f 3"],
    intrinsics_px: Float[Tensor, "n 4"],
    flow_px: Float[Tensor, "n h w 2"],
    flow_ok: Bool[Tensor, "n h w"],
) -> Float[Tensor, " n"]:
    """Mean distance of the mesh's motion in the picture from the flow under it, at vertices that are visible.

    The flow is sampled bilinearly at the vertex; it counts where all four pixels are known. Vertices that move behind
    the camera have no motion in the picture and are left out. NaN where no vertex is left.

    Args:
        vertices_cam_m: the estimate's in the frame that the flow starts from.
        moved_cam_m: in the next frame, seen by the same camera.
        faces: of the closed mesh, counter-clockwise from outside.
        intrinsics_px: fx, fy, cx, cy.
        flow_px: measured motion to the next frame.
        flow_ok: where it is known.
    """
    corners = faces.int().numpy()
    values = np.full(len(flow_px), np.nan)
    before = _projected(vertices_cam_m, intrinsics_px, flow_ok)
    after = _projected(moved_cam_m, intrinsics_px, flow_ok)
    for i, ((here, lens), (there, _)) in enumerate(zip(before, after, strict=True)):
        used = visible_vertices(here, corners, lens) & (there.inverse_m > 0)
        at = here.points_px[used]
        flow, known = _sampled(flow_px[i].numpy(), flow_ok[i].numpy(), at)
        gap = np.linalg.norm(there.points_px[used] - at - flow, axis=-1)[known]
        values[i] = gap.mean() if len(gap) else np.nan
    return torch.from_numpy(values)


def _projected(vertices_cam_m: Tensor, intrinsics_px: Tensor, pictures: Tensor) -> list[tuple[Projected, Lens]]:
    height, width = pictures.shape[1:]
    vertices = vertices_cam_m.float().numpy()
    lenses = [Lens(fx=fx, fy=fy, cx=cx, cy=cy, width=width, height=height) for fx, fy, cx, cy in intrinsics_px.tolist()]
    return [(project_vertices(v, lens), lens) for v, lens in zip(vertices, lenses, strict=True)]


def _iou(drawn: Bool[np.ndarray, "h w"], seen: Bool[np.ndarray, "h w"]) -> float:
    return float((drawn & seen).sum() / (drawn | seen).sum()) if seen.any() else np.nan


def _sampled(
    flow_px: Float[np.ndarray, "h w 2"], ok: Bool[np.ndarray, "h w"], at_px: Float[np.ndarray, "p 2"]
) -> tuple[Float[np.ndarray, "p 2"], Bool[np.ndarray, " p"]]:
    """Bilinear flow at points of the picture, whose outer half pixel is drawn out from its border."""
    height, width = ok.shape
    at = np.clip(at_px, 0, (width - 1, height - 1))
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, (width - 1, height - 1))
    part = at - low
    value, known = np.zeros(at.shape), np.ones(len(at), dtype=bool)
    for x, share_x in ((low[:, 0], 1 - part[:, 0]), (high[:, 0], part[:, 0])):
        for y, share_y in ((low[:, 1], 1 - part[:, 1]), (high[:, 1], part[:, 1])):
            share = share_x * share_y
            known &= ok[y, x] | (share == 0)
            value += np.where(share[:, None] > 0, share[:, None] * flow_px[y, x], 0.0)
    return value, known
