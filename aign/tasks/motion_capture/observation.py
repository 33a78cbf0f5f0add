"""What motion capture sees: the picture of a person, keypoints that were found in it, and what renders are held to."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from aign.geometry.camera import normalised
from aign.geometry.rotation import from_axis_angle, look_at
from aign.geometry.skeleton import SMPL24

KEYPOINTS = tuple(
    SMPL24.index(
        *("pelvis", "l_hip", "r_hip", "l_knee", "r_knee", "l_ankle", "r_ankle", "l_foot", "r_foot", "neck"),
        *("l_shoulder", "r_shoulder", "l_elbow", "r_elbow", "l_wrist", "r_wrist"),
    )
)
"""The joints of SMPL that detectors of keypoints find too, or that midpoints of what they find stand for."""
MIRRORED = tuple(KEYPOINTS.index(SMPL24.mirrored[joint]) for joint in KEYPOINTS)
"""Their order after left and right are exchanged."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The true factors, where they are known.

    Attributes:
        rotmats: as in `BodyFactors`.
        betas: likewise.
        pelvis_cam_m: likewise.
        weight: 1 for a labelled sample; the others' numbers mean nothing.
    """

    rotmats: Float[Tensor, "b t 24 3 3"]
    betas: Float[Tensor, "b 10"]
    pelvis_cam_m: Float[Tensor, "b t 3"]
    weight: Float[Tensor, " b"]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the rendered surface is held to, of the last u samples of a batch, in the stored pictures' pixels.

    Attributes:
        mask: the person.
        distance_px: from each pixel to the mask, 0 in it.
        flow_px: motion from each frame to the next.
        flow_ok: where it is known and agrees with the motion back.
    """

    mask: Bool[Tensor, "u t h w"]
    distance_px: Float[Tensor, "u t h w"]
    flow_px: Float[Tensor, "u n h w 2"]
    flow_ok: Bool[Tensor, "u n h w"]


@dataclass(frozen=True, kw_only=True)
class Observation:
    """A batch of windows of t frames of one person each; k keypoints are `KEYPOINTS`.

    Attributes:
        image: the crop, 0..1.
        kp2d: keypoints given to the encoder, crop units: -1 and 1 are the crop's edges; 0 where conf is 0.
        conf: their confidence, 0..1.
        target_px: keypoints to be reprojected, pixels of the stored picture.
        target_conf: their confidence.
        intrinsics_px: fx, fy, cx, cy of the stored picture.
        crop_xyxy_px: the square crop's edges in it, one for all frames, before it is turned.
        roll_rad: the crop is turned by this much: what points along its x axis points along (cos, sin) in the picture.
        mirrored: the crop is seen in a mirror, left and right of the keypoints' names and places exchanged.
        labels: truth, where known.
        evidence: mask and flow of the last samples; None: of none.
    """

    image: Float[Tensor, "b t 3 s s"]
    kp2d: Float[Tensor, "b t k 2"]
    conf: Float[Tensor, "b t k"]
    target_px: Float[Tensor, "b t k 2"]
    target_conf: Float[Tensor, "b t k"]
    intrinsics_px: Float[Tensor, "b 4"]
    crop_xyxy_px: Float[Tensor, "b 4"]
    roll_rad: Float[Tensor, " b"]
    mirrored: Bool[Tensor, " b"]
    labels: Labels
    evidence: Evidence | None = None

    def part(self, index: slice) -> "Observation":
        """Some of the windows, without evidence."""
        return self._each(lambda value: value[index], evidence=None)

    def to(self, device: torch.device) -> "Observation":
        """The same on a device."""
        evidence = self.evidence and Evidence(**{k: v.to(device) for k, v in vars(self.evidence).items()})
        return self._each(lambda value: value.to(device), evidence=evidence)

    def _each(self, change: Callable[[Tensor], Tensor], evidence: Evidence | None) -> "Observation":
        labels = Labels(**{name: change(value) for name, value in vars(self.labels).items()})
        tensors = {name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return Observation(**tensors, labels=labels, evidence=evidence)

    @property
    def half_side_px(self) -> Float[Tensor, " b"]:
        """Half the crop's side."""
        return 0.5 * (self.crop_xyxy_px[:, 2] - self.crop_xyxy_px[:, 0])

    @property
    def half_extent(self) -> Float[Tensor, " b"]:
        """The same in rays: the tangent of half the angle that the crop sees."""
        return self.half_side_px / self.intrinsics_px[:, :2].mean(1)

    @property
    def centre_ray(self) -> Float[Tensor, "b 2"]:
        """The ray (x/z, y/z) through the middle of the crop."""
        middle = 0.5 * (self.crop_xyxy_px[:, :2] + self.crop_xyxy_px[:, 2:])
        return (middle - self.intrinsics_px[:, 2:]) / self.intrinsics_px[:, :2]

    @property
    def rot_crop_to_cam(self) -> Float[Tensor, "b 3 3"]:
        """From a camera that looks at the crop's middle, rolled as the crop is, to the real one.

        A person at the border is seen from aside; turning the camera removes that (`geometry.camera.virtual_camera`).
        """
        ray = self.centre_ray
        to_middle = look_at(torch.cat((ray, torch.ones_like(ray[:, :1])), 1)).mT
        return to_middle @ from_axis_angle(functional.pad(self.roll_rad.unsqueeze(1), (2, 0)))

    def as_shown(self, vectors: Float[Tensor, "b *n 2"]) -> Float[Tensor, "b *n 2"]:
        """Directions in the picture as the turned and mirrored crop shows them."""
        return shown(vectors, self.roll_rad, self.mirrored)


def shown(
    vectors: Float[Tensor, "b *n 2"], roll_rad: Float[Tensor, " b"], mirrored: Bool[Tensor, " b"]
) -> Float[Tensor, "b *n 2"]:
    """Directions in the picture as a crop shows them: turned back, then mirrored."""
    places = (-1, *[1] * (vectors.ndim - 2))
    cosine, sine = roll_rad.cos().reshape(places), roll_rad.sin().reshape(places)
    sign = torch.where(mirrored, -1.0, 1.0).to(vectors.dtype).reshape(places)
    x, y = vectors.unbind(-1)
    return torch.stack((sign * (cosine * x + sine * y), cosine * y - sine * x), -1)


def project_px(points_cam_m: Float[Tensor, "b t n 3"], intrinsics_px: Float[Tensor, "b 4"]) -> Float[Tensor, "b t n 2"]:
    """P: full perspective into the stored picture."""
    focal, centre = intrinsics_px[:, None, None, :2], intrinsics_px[:, None, None, 2:]
    return normalised(points_cam_m) * focal + centre


def concatenate(first: Observation, second: Observation) -> Observation:
    """One batch of two; the evidence is the second's alone, so the first must have none."""
    assert first.evidence is None, "evidence belongs to the last samples of a batch"
    labels = Labels(
        **{name: torch.cat((value, vars(second.labels)[name])) for name, value in vars(first.labels).items()}
    )
    tensors = {
        name: torch.cat((value, vars(second)[name])) for name, value in vars(first).items() if isinstance(value, Tensor)
    }
    return Observation(**tensors, labels=labels, evidence=second.evidence)
