"""The factors of a pose: canonical shape and camera."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aign.framework.errors import UserError
from aign.geometry.rotation import from_axis_angle, to_6d
from aign.geometry.skeleton import H36M17
from aign.geometry.torso import canonical


@dataclass(frozen=True, kw_only=True)
class PoseFactors:
    """What explains one frame; joints are H36M-17's.

    Attributes:
        canonical_m: the pose in the torso's frame (x left, y up, z forward), pelvis at the origin.
        rot: torso frame to virtual camera.
        trans_m: pelvis in the virtual camera.
    """

    canonical_m: Float[Tensor, "b 17 3"]
    rot: Float[Tensor, "b 3 3"]
    trans_m: Float[Tensor, "b 3"]

    @property
    def centred_m(self) -> Float[Tensor, "b 17 3"]:
        """Joints in the virtual camera's axes, pelvis at the origin."""
        return self.canonical_m @ self.rot.mT

    @property
    def joints_m(self) -> Float[Tensor, "b 17 3"]:
        """Joints in the virtual camera."""
        return self.centred_m + self.trans_m.unsqueeze(1)


@dataclass(frozen=True, kw_only=True)
class PoseMemory:
    """Real factors, unpaired.

    Attributes:
        canonical_m: poses in the torso's frame.
        camera_6d: orientations of torsos in cameras that might watch them.
        seen2d: keypoints that cameras saw, of anyone, in any place and size.
        shown: which joints they show; detectors have no top of the head.
    """

    canonical_m: Float[Tensor, "n 17 3"]
    camera_6d: Float[Tensor, "m 6"]
    seen2d: Float[Tensor, "k 17 2"]
    shown: Bool[Tensor, "17"]


def remember(
    joints_world_m: Float[Tensor, "n 17 3"],
    rig_rot: Float[Tensor, "n c 3 3"],
    roll_deg: float = 0.0,
    pictures: tuple[Float[Tensor, "k 17 2"], Bool[Tensor, "17"]] | None = None,
) -> PoseMemory:
    """Memory of motions and of the rotations of cameras that may watch them, each pose mirrored too.

    Args:
        joints_world_m: H36M-17 poses in any world frame.
        rig_rot: rot_world_to_cam of the cameras around each pose.
        roll_deg: each camera is turned about its axis by up to this angle, as what is seen is (Augmentation).
        pictures: keypoints that were seen, and which joints are shown; None: the memory's own poses in its own cameras,
            from far away.
    """
    pose, rot_torso_to_world = canonical(joints_world_m, H36M17)
    mirrored = pose[:, list(H36M17.mirrored)] * pose.new_tensor((-1.0, 1.0, 1.0))
    seen = (rig_rot @ rot_torso_to_world.unsqueeze(1)).flatten(0, 1)
    # Mirror the scene: left-right in the image and left-right in the torso, so the determinant stays +1.
    flip = torch.diag(pose.new_tensor((-1.0, 1.0, 1.0)))
    both = torch.cat((seen, flip @ seen @ flip))
    poses = torch.cat((pose, mirrored))
    if pictures is None:
        first = both[:: rig_rot.shape[1]]  # each pose's first camera
        seen2d, shown = (poses @ first.mT)[..., :2], torch.ones(17, dtype=torch.bool)
    else:
        seen2d, shown = pictures
        seen2d = torch.cat((seen2d, seen2d[:, list(H36M17.mirrored)] * pose.new_tensor((-1.0, 1.0))))
    return PoseMemory(
        canonical_m=poses,
        camera_6d=to_6d(_rolls(len(both), roll_deg, both) @ both),
        seen2d=seen2d @ _rolls(len(seen2d), roll_deg, both)[:, :2, :2].mT,
        shown=shown,
    )


def _rolls(count: int, roll_deg: float, like: Tensor) -> Float[Tensor, "n 3 3"]:
    """Rotations about the optical axis, evenly spread."""
    roll = like.new_zeros(count, 3)
    angles = torch.rand(count, generator=torch.Generator().manual_seed(0))
    roll[:, 2] = ((2 * angles - 1) * math.radians(roll_deg)).to(like)
    return from_axis_angle(roll)


@dataclass(frozen=True, kw_only=True)
class PoseBasis:
    """A linear shape space: pose = mean + coefficients @ components (papers.md 1.2).

    Attributes:
        mean_m: mean canonical pose.
        components_m: principal directions, each scaled by its standard deviation, so coefficients are about N(0, 1).
        explained: the share of the variance that they hold.
    """

    mean_m: Float[Tensor, "17 3"]
    components_m: Float[Tensor, "k 17 3"]
    explained: float


def pca(poses_m: Float[Tensor, "n 17 3"], components: int) -> PoseBasis:
    """Principal component analysis of canonical poses."""
    n, most = len(poses_m), 48
    if not 1 <= components <= min(n, most):
        raise UserError(f"a basis of {n} poses of 17 joints has 1 to {min(n, most)} components; got {components}")
    mean = poses_m.mean(0)
    _, sizes, directions = torch.linalg.svd((poses_m - mean).flatten(1).double(), full_matrices=False)
    # A direction's sign is left open by LAPACK; with its largest entry positive, every machine has the same basis. Of
    # mirrored poses left and right have equally large ones, often of opposite sign: the first of about the largest.
    sizes_of = directions.abs()
    first = (sizes_of > 0.99 * sizes_of.amax(1, keepdim=True)).int().argmax(1, keepdim=True)
    directions = directions * directions.gather(1, first).sign()
    variance = sizes.square() / max(n - 1, 1)
    scaled = directions[:components] * variance[:components].sqrt().unsqueeze(1)
    explained = float(variance[:components].sum() / variance.sum().clamp_min(1e-12))
    return PoseBasis(mean_m=mean, components_m=scaled.to(poses_m.dtype).reshape(-1, 17, 3), explained=explained)
