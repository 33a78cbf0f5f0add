"""Where a fit of bodies begins: the mean pose in front of the camera, and which of several sides a person shows."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from aign.body.assets import BodyAssets
from aign.geometry.rotation import from_6d, from_axis_angle, to_6d
from aign.geometry.skeleton import SMPL24
from aign.tasks.motion_capture.factors import BodyFactors
from aign.tasks.motion_capture.memory import BodyMemory
from aign.tasks.motion_capture.nets import NOMINAL_HALF_HEIGHT_M
from aign.tasks.motion_capture.observation import KEYPOINTS, Labels, Observation
from aign.tasks.motion_capture.render import BodyRender

NEAREST_M = 0.3
"""No body is nearer to the camera."""


def mean_pose(memory: BodyMemory) -> Float[Tensor, "24 6"]:
    """Mean of the remembered poses as 6D rotations, not orthogonalised; the first, the orientation, is none."""
    poses = to_6d(memory.pose.reshape(-1, 23, 3, 3)).mean(0)
    return torch.cat((poses.new_tensor([[1.0, 0, 0, 0, 1, 0]]), poses))


def facing(seen: Observation, mean_6d: Float[Tensor, "24 6"]) -> BodyFactors:
    """The mean pose of the mean shape, upright and facing the camera in the crop's middle: what a new encoder says.

    Args:
        seen: windows.
        mean_6d: 6D rotations; the first is not used.
    """
    b, t = seen.conf.shape[:2]
    rotmats = from_6d(mean_6d).expand(b, t, -1, -1, -1).clone()
    rotmats[:, :, 0] = (seen.rot_crop_to_cam @ _upright(mean_6d)).unsqueeze(1)
    ahead = torch.cat((seen.centre_ray, torch.ones_like(seen.centre_ray[:, :1])), 1)
    place = ahead * (NOMINAL_HALF_HEIGHT_M / seen.half_extent).unsqueeze(1)
    return BodyFactors(
        rotmats=rotmats, betas=mean_6d.new_zeros(b, 10), pelvis_cam_m=place.unsqueeze(1).expand(-1, t, -1).clone()
    )


def turned(seen: Observation, mean_6d: Float[Tensor, "24 6"], yaw_rad: float, body: BodyAssets) -> BodyFactors:
    """The same turned about its length, leaning as the torso does in each picture, where the keypoints fit best.

    Args:
        seen: windows.
        mean_6d: as in `facing`.
        yaw_rad: 0 faces the camera.
        body: whose joints are placed.
    """
    z = facing(seen, mean_6d)
    lean, turn = (z.pelvis_cam_m.new_zeros(z.pelvis_cam_m.shape) for _ in range(2))
    ends = [KEYPOINTS.index(joint) for joint in SMPL24.index("pelvis", "neck")]
    low, high = seen.target_px[:, :, ends].unbind(2)
    known = (seen.target_conf[:, :, ends] > 0).all(-1)
    # Convention: y down, so that upright is (0, -1) in the picture and a positive turn about z goes to the right.
    lean[..., 2] = torch.atan2(high[..., 0] - low[..., 0], low[..., 1] - high[..., 1]) * known
    turn[..., 1] = yaw_rad
    to_cam = seen.rot_crop_to_cam.unsqueeze(1)
    root = to_cam @ from_axis_angle(lean) @ _upright(mean_6d) @ from_axis_angle(turn)
    z = replace(z, rotmats=torch.cat((root.unsqueeze(2), z.rotmats[:, :, 1:]), 2))
    return replace(z, pelvis_cam_m=placed(seen, z, body))


def _upright(like: Tensor) -> Float[Tensor, "3 3"]:
    return torch.diag(like.new_tensor((1.0, -1.0, -1.0)))


def placed(seen: Observation, z: BodyFactors, body: BodyAssets) -> Float[Tensor, "b t 3"]:
    """The pelvis where the keypoints are reprojected best: linear least squares of f (X + t) = (x - c) (Z + t_z).

    A frame without keypoints, or one whose best place is not in front of the camera, stays where it was.

    Args:
        seen: windows.
        z: bodies whose pose, shape and orientation are kept.
        body: whose joints are placed.
    """
    render = BodyRender(z=z, seen=seen, body=body)
    points = render.joints_cam_m[:, :, list(KEYPOINTS)] - z.pelvis_cam_m.unsqueeze(2)
    focal, centre = seen.intrinsics_px[:, None, None, :2], seen.intrinsics_px[:, None, None, 2:]
    ray = (seen.target_px - centre) / focal
    root = seen.target_conf.sqrt().unsqueeze(-1)
    rows = root.unsqueeze(-1) * torch.cat((torch.eye(2).expand(*ray.shape, 2), -ray.unsqueeze(-1)), -1)
    right = root * (ray * points[..., 2:] - points[..., :2])
    rows, right = rows.flatten(2, 3).double(), right.flatten(2, 3).double()
    # So little that it decides only where there are no keypoints.
    ridge = 1e-6 * torch.eye(3, dtype=torch.float64)
    goal = (rows.mT @ right.unsqueeze(-1)).squeeze(-1) + 1e-6 * z.pelvis_cam_m.double()
    place = torch.linalg.solve(rows.mT @ rows + ridge, goal).to(points.dtype)
    fine = (place[..., 2:] > NEAREST_M) & place.isfinite().all(-1, keepdim=True)
    return torch.where(fine, place, z.pelvis_cam_m)


def apart(seen: Observation) -> Observation:
    """The frames of one window as windows of one frame, all with its crop; without evidence."""
    assert len(seen.conf) == 1, "one window"
    frames = seen.conf.shape[1]

    def each(value: Tensor) -> Tensor:
        return value.transpose(0, 1) if value.ndim > 2 else value.expand(frames, *value.shape[1:])

    labels = Labels(**{name: each(value) for name, value in vars(seen.labels).items()})
    tensors = {name: each(value) for name, value in vars(seen).items() if isinstance(value, Tensor)}
    return Observation(**tensors, labels=labels, evidence=None)


def cheapest(cost: Float[Tensor, "t s"], jump: Float[Tensor, "t-1 s s"]) -> Int64[Tensor, " t"]:
    """The cheapest way through t frames of s choices each, by dynamic programming (Viterbi, 1967).

    Args:
        cost: of a choice.
        jump: of going from a choice of one frame to one of the next.
    """
    total, origins = cost[0], []
    for here, step in zip(cost[1:], jump, strict=True):
        best, origin = (total.unsqueeze(1) + step).min(0)
        total = best + here
        origins.append(origin)
    way = [int(total.argmin())]
    for origin in reversed(origins):
        way.append(int(origin[way[-1]]))
    return torch.tensor(way[::-1])


def nearest_known(known: Bool[Tensor, " t"]) -> Int64[Tensor, " t"]:
    """For each frame the nearest one that is known; at least one is."""
    frames = torch.arange(len(known))
    there = frames[known]
    return there[(frames.unsqueeze(1) - there).abs().argmin(1)]
