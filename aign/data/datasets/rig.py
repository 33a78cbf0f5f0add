"""Camera rigs: Human3.6M's published intrinsics, and seeded placements round a capture area."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from aign.geometry.camera import CalibratedCamera, Pinhole, Rigid, project


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What a camera sees of joints.

    Attributes:
        joints_cam_m: joints in the camera.
        kp2d_px: their pixels, 0 where not inside.
        inside: which lie in the image and in front of the camera.
    """

    joints_cam_m: Float[np.ndarray, "t j 3"]
    kp2d_px: Float[np.ndarray, "t j 2"]
    inside: Bool[np.ndarray, "t j"]


def see(camera: CalibratedCamera, joints_world_m: Float[np.ndarray, "t j 3"]) -> Sight:
    """Project joints exactly (in float64) into a camera."""
    world = torch.as_tensor(joints_world_m, dtype=torch.float64)
    rigid = Rigid(rot=camera.world_to_cam.rot.double(), trans_m=camera.world_to_cam.trans_m.double())
    lens = camera.pinhole
    exact = Pinhole(
        focal_px=lens.focal_px.double(), centre_px=lens.centre_px.double(), distortion=lens.distortion.double()
    )
    cam = rigid.apply(world.flatten(0, 1))
    px = project(cam, exact)
    inside = ((px >= 0) & (px < px.new_tensor(camera.image_size_px))).all(-1) & (cam[:, 2] > NEAREST_M)
    kp2d = torch.where(inside.unsqueeze(-1), px, torch.zeros_like(px))
    t, j, _ = world.shape
    return Sight(
        joints_cam_m=cam.reshape(t, j, 3).float().numpy(),
        kp2d_px=kp2d.reshape(t, j, 2).float().numpy(),
        inside=inside.reshape(t, j).numpy(),
    )


@dataclass(frozen=True, kw_only=True)
class Intrinsics:
    """Published calibration of one of Human3.6M's cameras (metadata.xml, the w0 vector; protocols 3.1)."""

    name: str
    intrinsics_px: tuple[float, float, float, float]
    distortion: tuple[float, float, float, float, float]
    image_size_px: tuple[int, int]


H36M_INTRINSICS = (
    Intrinsics(
        name="54138969",
        intrinsics_px=(1145.0494384765625, 1143.7811279296875, 512.54150390625, 515.4514770507812),
        distortion=(
            *(-0.20709891617298126, 0.24777518212795258, -0.0030751503072679043),
            *(-0.00142447161488235, -0.0009756988729350269),
        ),
        image_size_px=(1000, 1002),
    ),
    Intrinsics(
        name="55011271",
        intrinsics_px=(1149.6756591796875, 1147.5916748046875, 508.8486328125, 508.0649108886719),
        distortion=(
            *(-0.1942136287689209, 0.2404085397720337, 0.006819975562393665),
            *(-0.0027408944442868233, -0.0016190266469493508),
        ),
        image_size_px=(1000, 1000),
    ),
    Intrinsics(
        name="58860488",
        intrinsics_px=(1149.1407470703125, 1148.7989501953125, 519.8158569335938, 501.40264892578125),
        distortion=(
            *(-0.2083381861448288, 0.25548800826072693, -0.0024604974314570427),
            *(-0.0007599993259645998, 0.0014843869721516967),
        ),
        image_size_px=(1000, 1000),
    ),
    Intrinsics(
        name="60457274",
        intrinsics_px=(1145.5113525390625, 1144.77392578125, 514.9682006835938, 501.88201904296875),
        distortion=(
            *(-0.198384091258049, 0.21832367777824402, -0.008947807364165783),
            *(-0.0018133620033040643, -0.0005872055771760643),
        ),
        image_size_px=(1000, 1002),
    ),
)
"""Human3.6M's four cameras. Popular code stores the tangential pair as (p2, p1); here it is p1, p2 (protocols 3.1)."""

AZIMUTH_DEG = (70.0, -70.0, 110.0, -110.0)
"""Where the four cameras stand round the room, roughly, seen from its middle."""
AIM_HEIGHT_M = 0.9
HALF_VIEW_RAD = 0.41
"""Half the field of view of these cameras."""
SEEN_RADIUS_M = 1.2
"""How far from the middle a whole person is still in view at 5 m."""
NEAREST_M = 0.1


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where cameras may stand.

    Attributes:
        distance_m: least and most, from the middle, along the floor.
        height_m: least and most.
    """

    distance_m: tuple[float, float]
    height_m: tuple[float, float]


STUDIO = Placement(distance_m=(4.6, 5.8), height_m=(1.4, 1.7))
"""About where Human3.6M's stand."""
ANYWHERE = Placement(distance_m=(3.2, 6.0), height_m=(0.8, 3.2))
"""Where people put cameras: for motion that is to teach about other videos."""


def h36m_camera(lens: Intrinsics, world_to_cam: Rigid) -> CalibratedCamera:
    """One of Human3.6M's cameras, standing somewhere."""
    pinhole = Pinhole.of(
        torch.tensor(lens.intrinsics_px, dtype=torch.float64), torch.tensor(lens.distortion, dtype=torch.float64)
    )
    return CalibratedCamera(
        name=lens.name, pinhole=pinhole, world_to_cam=world_to_cam, image_size_px=lens.image_size_px
    )


def placed_rig(
    seed: Sequence[int], centre_m: tuple[float, float], reach_m: float, placement: Placement = STUDIO
) -> tuple[CalibratedCamera, ...]:
    """Human3.6M's cameras at seeded places round a spot of a z-up world, looking at it.

    These placements are ours, not Human3.6M's calibration: one turn of the whole rig, and for each camera a few
    degrees and decimetres of its own. The rig stands further away when the motion reaches further than it can see.

    Args:
        seed: of numpy's generator.
        centre_m: x, y of the spot.
        reach_m: how far from the spot the person goes.
        placement: how far away and how high the cameras may be.
    """
    rng = np.random.default_rng(list(seed))
    turn = rng.uniform(-math.pi, math.pi)
    back_off = max(0.0, reach_m - SEEN_RADIUS_M) / math.tan(HALF_VIEW_RAD)
    rig = []
    for lens, azimuth in zip(H36M_INTRINSICS, AZIMUTH_DEG, strict=True):
        angle = math.radians(azimuth + rng.uniform(-10, 10)) + turn
        distance, height = back_off + rng.uniform(*placement.distance_m), rng.uniform(*placement.height_m)
        centre = np.array([*centre_m, 0.0])
        position = centre + np.array([distance * math.cos(angle), distance * math.sin(angle), height])
        rot = looking_at(position, centre + np.array([*rng.uniform(-0.2, 0.2, 2), AIM_HEIGHT_M]))
        rig.append(h36m_camera(lens, Rigid(rot=torch.from_numpy(rot), trans_m=torch.from_numpy(-rot @ position))))
    return tuple(rig)


def looking_at(position_m: Float[np.ndarray, "3"], target_m: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """Rotation world to camera of a level camera in a z-up world; straight up or down is not allowed."""
    forward = (target_m - position_m) / np.linalg.norm(target_m - position_m)
    right = np.cross(forward, np.array([0.0, 0.0, 1.0]))
    right /= np.linalg.norm(right)
    return np.stack((right, np.cross(forward, right), forward))
