"""Cameras: full perspective with Human3.6M's own distortion, weak perspective, crops and the virtual camera.

Convention: camera frame +x right, +y down, +z forward, metres; pixels as the calibration counts
them; `x_cam = R x_world + t` for a `Rigid` named world_to_cam.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from aign.geometry.rotation import look_at

NEAR_M = 1e-3
"""Points nearer than this to the camera plane are projected as if they lay on it: finite value, zero gradient in z."""


@dataclass(frozen=True, kw_only=True)
class Pinhole:
    """Intrinsics of a perspective camera.

    Attributes:
        focal_px: fx, fy in pixels, [*c, 2].
        centre_px: cx, cy in pixels, [*c, 2].
        distortion: k1, k2, k3, p1, p2 in Human3.6M's model (zeros: none), [*c, 5].
    """

    focal_px: Float[Tensor, "*c 2"]
    centre_px: Float[Tensor, "*c 2"]
    distortion: Float[Tensor, "*c 5"]

    @staticmethod
    def of(intrinsics_px: Float[Tensor, "*c 4"], distortion: Float[Tensor, "*c 5"] | None = None) -> "Pinhole":
        """Make a camera from fx, fy, cx, cy and, if any, its distortion."""
        if distortion is None:
            distortion = intrinsics_px.new_zeros(*intrinsics_px.shape[:-1], 5)
        return Pinhole(focal_px=intrinsics_px[..., :2], centre_px=intrinsics_px[..., 2:], distortion=distortion)

    def part(self, index: Tensor | slice) -> "Pinhole":
        """Some of the cameras, by their first axis."""
        return Pinhole(
            focal_px=self.focal_px[index], centre_px=self.centre_px[index], distortion=self.distortion[index]
        )

    def to(self, device: torch.device) -> "Pinhole":
        """The same on a device."""
        return Pinhole(
            focal_px=self.focal_px.to(device),
            centre_px=self.centre_px.to(device),
            distortion=self.distortion.to(device),
        )


@dataclass(frozen=True, kw_only=True)
class Rigid:
    """A rigid motion y = rot x + trans_m of points in metres."""

    rot: Float[Tensor, "*c 3 3"]
    trans_m: Float[Tensor, "*c 3"]

    def apply(self, points_m: Float[Tensor, "*c n 3"]) -> Float[Tensor, "*c n 3"]:
        """Move n points."""
        return points_m @ self.rot.mT + self.trans_m.unsqueeze(-2)

    def inverse(self) -> "Rigid":
        """The motion that undoes this one."""
        back = self.rot.mT
        return Rigid(rot=back, trans_m=-(back @ self.trans_m.unsqueeze(-1)).squeeze(-1))


@dataclass(frozen=True, kw_only=True)
class CalibratedCamera:
    """A camera that stands somewhere.

    Attributes:
        name: what its calibration calls it.
        pinhole: intrinsics, without batch axes.
        world_to_cam: x_cam = rot x_world + trans_m, without batch axes.
        image_size_px: width and height the intrinsics are for.
    """

    name: str
    pinhole: Pinhole
    world_to_cam: Rigid
    image_size_px: tuple[int, int]


def normalised(points_cam_m: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 2"]:
    """Perspective division x/z, y/z with a guard at the camera plane.

    Points with z < NEAR_M (behind the camera, too) are treated as lying at z = NEAR_M, so that neither value nor
    gradient is ever infinite.
    """
    return points_cam_m[..., :2] / points_cam_m[..., 2:].clamp_min(NEAR_M)


def distort(rays: Float[Tensor, "*c n 2"], distortion: Float[Tensor, "*c 5"]) -> Float[Tensor, "*c n 2"]:
    """Apply Human3.6M's distortion to normalised coordinates.

    Convention: radial 1 + k1 r2 + k2 r4 + k3 r6, tangential p1 y + p2 x added to the radial factor, then p2 r2 and
    p1 r2 to x and y. OpenCV's Brown model doubles the cross terms: it is another function (up to 0.33 px here).
    Source: the camera model of Human3.6M's released code, metadata.xml order k1 k2 k3 p1 p2.
    """
    k1, k2, k3, p1, p2 = (d.unsqueeze(-1) for d in distortion.unbind(-1))
    x, y = rays.unbind(-1)
    r2 = x * x + y * y
    factor = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)) + p1 * y + p2 * x
    return torch.stack((x * factor + p2 * r2, y * factor + p1 * r2), dim=-1)


def project(points_cam_m: Float[Tensor, "*c n 3"], camera: Pinhole) -> Float[Tensor, "*c n 2"]:
    """Project points in the camera frame to pixels: u = fx x' + cx."""
    bent = distort(normalised(points_cam_m), camera.distortion)
    return bent * camera.focal_px.unsqueeze(-2) + camera.centre_px.unsqueeze(-2)


def undistort(points_px: Float[Tensor, "*c n 2"], camera: Pinhole, iterations: int = 10) -> Float[Tensor, "*c n 2"]:
    """Pixels to undistorted rays (x/z, y/z), by fixed-point iteration on `distort`.

    Ten iterations leave under 1e-7 over the whole image of Human3.6M's cameras (tested). Where the polynomial folds
    back, outside the image, the rays stay bounded by the undistorted guess and mean nothing.
    """
    seen = (points_px - camera.centre_px.unsqueeze(-2)) / camera.focal_px.unsqueeze(-2)
    rays = seen
    for _ in range(iterations):
        rays = (rays + seen - distort(rays, camera.distortion)).clamp(-10.0, 10.0)
    return rays


def weak_project(
    points_m: Float[Tensor, "*c n 3"], scale: Float[Tensor, "*c"], shift: Float[Tensor, "*c 2"]
) -> Float[Tensor, "*c n 2"]:
    """Scaled orthographic projection scale * (x, y) + shift (papers.md 1.2: the single scale plays 1 / depth)."""
    return scale[..., None, None] * points_m[..., :2] + shift.unsqueeze(-2)


def cropped(camera: Pinhole, corner_px: Float[Tensor, "*c 2"], scale: Float[Tensor, "*c"]) -> Pinhole:
    """Intrinsics after cutting the image at `corner_px` (its new origin) and resizing it by `scale`."""
    s = scale.unsqueeze(-1)
    return Pinhole(
        focal_px=camera.focal_px * s, centre_px=(camera.centre_px - corner_px) * s, distortion=camera.distortion
    )


def virtual_camera(
    rays: Float[Tensor, "*c n 2"], seen: Float[Tensor, "*c n"]
) -> tuple[Float[Tensor, "*c n 2"], Float[Tensor, "*c 3 3"]]:
    """Turn the camera so that it looks at the middle of what it sees.

    A person at the image border is seen under another angle than in the middle; turning the camera removes that
    exactly, where shifting the image would not (perspective crop, Yu et al. CVPR 2021).

    Args:
        rays: normalised coordinates x/z, y/z.
        seen: > 0 where a ray counts. With nothing seen the camera stays as it is.

    Returns:
        The rays in the turned camera, and rot_cam_to_virtual with x_virtual = R x_cam (no translation).
    """
    counts = (seen > 0).unsqueeze(-1)
    far = torch.finfo(rays.dtype).max
    low = rays.masked_fill(~counts, far).amin(-2)
    high = rays.masked_fill(~counts, -far).amax(-2)
    middle = torch.where(counts.any(-2), 0.5 * low + 0.5 * high, torch.zeros_like(low))
    rot = look_at(torch.cat((middle, torch.ones_like(middle[..., :1])), dim=-1))
    turned = torch.cat((rays, torch.ones_like(rays[..., :1])), dim=-1) @ rot.mT
    return normalised(turned), rot
