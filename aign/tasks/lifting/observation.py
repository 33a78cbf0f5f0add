"""What the lifter sees: keypoints in the crop of a virtual camera that looks at the person."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from aign.data.counter import normal, uniform
from aign.geometry.camera import Pinhole, normalised, undistort, virtual_camera
from aign.geometry.rotation import from_axis_angle
from aign.geometry.skeleton import H36M17

NOMINAL_HALF_HEIGHT_M = 0.85
"""Half of a person: the depth where its crop would be filled is the first guess of the distance."""
MIN_HALF_EXTENT = 1e-3
"""Half extent, in ray units, given to a crop with less than two keypoints in it."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """A batch of frames, each with t - 1 neighbours in time round it (t is odd); joints are H36M-17's.

    Attributes:
        kp2d: input keypoints of the t frames in the middle one's crop units: rays divided by half_extent, about -1..1;
            0 where conf is 0.
        conf: input confidence, 0..1.
        target2d: the middle frame's keypoints to be reproduced, before augmentation took any away.
        target2d_weight: their confidence.
        half_extent: of the crop, in ray units.
        joints_m: labels, pelvis at the origin, axes of the virtual camera; 0 where there is no label.
        joints_weight: 1 where a joint is labelled.
        turn: rotation of the person, seen from the camera, to another view of it; drawn by `augment`.
    """

    kp2d: Float[Tensor, "b t 17 2"]
    conf: Float[Tensor, "b t 17"]
    target2d: Float[Tensor, "b 17 2"]
    target2d_weight: Float[Tensor, "b 17"]
    half_extent: Float[Tensor, " b"]
    joints_m: Float[Tensor, "b 17 3"]
    joints_weight: Float[Tensor, "b 17"]
    turn: Float[Tensor, "b 3 3"]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of an observation.

    Attributes:
        flip: probability of mirroring.
        drop: probability that a keypoint is hidden from the input.
        noise: standard deviation of Gaussian noise on the input keypoints, in crop units.
        roll_deg: the picture is turned about its middle by up to this angle, either way: cameras are seldom level.
    """

    flip: float = 0.5
    roll_deg: float = 20.0
    drop: float = 0.1
    noise: float = 0.01


def observe(
    kp2d_px: Float[Tensor, "b t 17 2"],
    conf: Float[Tensor, "b t 17"],
    camera: Pinhole,
) -> tuple[Observation, Float[Tensor, "b 3 3"]]:
    """Turn pixels into an unlabelled observation; also rot_cam_to_virtual, which takes its joints back.

    The middle one of the t frames decides where the virtual camera looks, and the crop; the camera is one for all t.
    """
    b, t, _, _ = kp2d_px.shape
    seen = conf > 0
    rays = undistort(kp2d_px.flatten(1, 2), camera).reshape(b, t, 17, 2)
    _, rot = virtual_camera(rays[:, t // 2], seen[:, t // 2].to(conf.dtype))
    deep = torch.cat((rays, torch.ones_like(rays[..., :1])), dim=-1)
    rays = normalised(deep @ rot.unsqueeze(1).mT)
    rays = torch.where(seen.unsqueeze(-1), rays, torch.zeros_like(rays))
    half_extent = rays[:, t // 2].abs().amax((-2, -1)).clamp_min(MIN_HALF_EXTENT)
    kp2d = rays / half_extent[:, None, None, None]
    nothing = conf.new_zeros(b, 17)
    observation = Observation(
        kp2d=kp2d,
        conf=conf,
        target2d=kp2d[:, t // 2],
        target2d_weight=conf[:, t // 2],
        half_extent=half_extent,
        joints_m=nothing.unsqueeze(-1).expand(-1, -1, 3),
        joints_weight=nothing,
        turn=torch.eye(3, dtype=conf.dtype, device=conf.device).expand(b, 3, 3),
    )
    return observation, rot


def labelled(
    observation: Observation,
    rot_cam_to_virtual: Float[Tensor, "b 3 3"],
    joints_cam_m: Float[Tensor, "b 17 3"],
    valid: Bool[Tensor, "b 17"],
) -> Observation:
    """The same observation with its labels; a sample without a valid pelvis has none."""
    root = joints_cam_m[:, :1]
    joints_m = (joints_cam_m - root) @ rot_cam_to_virtual.mT
    weight = (valid & valid[:, :1]).to(joints_m.dtype)
    return _with(observation, joints_m=joints_m * weight.unsqueeze(-1), joints_weight=weight)


def _with(observation: Observation, **changes: Tensor) -> Observation:
    return Observation(**{**vars(observation), **changes})


def concatenate(parts: list[Observation]) -> Observation:
    """One batch of several."""
    return Observation(**{name: torch.cat([vars(p)[name] for p in parts]) for name in vars(parts[0])})


def mirror(observation: Observation) -> Observation:
    """The observation of the mirrored person: x negated, left and right swapped."""
    order = list(H36M17.mirrored)
    flat, deep = observation.kp2d.new_tensor((-1.0, 1.0)), observation.kp2d.new_tensor((-1.0, 1.0, 1.0))
    return Observation(
        kp2d=observation.kp2d[:, :, order] * flat,
        conf=observation.conf[:, :, order],
        target2d=observation.target2d[:, order] * flat,
        target2d_weight=observation.target2d_weight[:, order],
        half_extent=observation.half_extent,
        joints_m=observation.joints_m[:, order] * deep,
        joints_weight=observation.joints_weight[:, order],
        turn=observation.turn,
    )


def augment(observation: Observation, seed: Int64[Tensor, " b"], how: Augmentation) -> Observation:
    """Mirror, turn, hide and disturb, each sample by its own seed."""
    flip = uniform(seed, 1, purpose=0)[:, 0] < how.flip
    flipped = vars(mirror(observation))
    chosen = {
        name: torch.where(flip.reshape(-1, *[1] * (value.ndim - 1)), flipped[name], value)
        for name, value in vars(observation).items()
    }
    roll = (2 * uniform(seed, 1, purpose=3) - 1).to(observation.conf.dtype) * math.radians(how.roll_deg)
    turn = from_axis_angle(torch.cat((torch.zeros_like(roll), torch.zeros_like(roll), roll), dim=1))
    chosen["joints_m"] = chosen["joints_m"] @ turn.mT
    chosen["turn"] = turn @ _about_the_vertical(seed, observation.conf) @ turn.mT
    flat = turn[:, :2, :2].mT
    chosen |= {"kp2d": chosen["kp2d"] @ flat.unsqueeze(1), "target2d": chosen["target2d"] @ flat}
    b, t, _ = observation.conf.shape
    keep = (uniform(seed, t * 17, purpose=1) >= how.drop).to(observation.conf.dtype)
    conf = chosen["conf"] * keep.reshape(b, t, 17)
    noise = normal(seed, t * 34, purpose=2).reshape(b, t, 17, 2) * how.noise
    kp2d = (chosen["kp2d"] + noise) * (conf > 0).unsqueeze(-1)
    return Observation(**{**chosen, "conf": conf, "kp2d": kp2d})


def _about_the_vertical(seed: Int64[Tensor, " b"], like: Tensor) -> Float[Tensor, "b 3 3"]:
    """Any turn of a person who stands: about the camera's y axis."""
    angle = (2 * math.pi * uniform(seed, 1, purpose=5)).to(like.dtype)
    return from_axis_angle(torch.nn.functional.pad(angle, (1, 1)))
