"""SURREAL's mirrored camera undone, its orientation and its pixels.

SURREAL's renderer used a camera matrix of determinant -1: the people are proper SMPL bodies and their joints and poses
are right, but every PICTURE of them is a mirror image (gulvarol/surreal, misc/3Dto2D: K [R|t] joints3D rounds to
joints2D only with det R = -1). So the pictures are flipped left to right and nothing else changes: joint names, part
numbers, poses and shapes keep their sides, and the camera becomes a proper one. (Swapping left and right in all labels
would do as well, but only for a body whose shape space is symmetric, which SMPL's is not quite.)
"""

import numpy as np
import torch
from jaxtyping import Float, Shaped

from aign.geometry.camera import CalibratedCamera, Pinhole, Rigid
from aign.geometry.rotation import from_axis_angle, to_axis_angle

SIZE_PX = (320, 240)
FOCAL_PX = 600.0
# The files count pixels from the corner of the picture (centre 160, 120); here (0, 0) is the middle of a pixel.
CENTRE_PX = (159.5, 119.5)
MIRRORED_ROT = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
"""SURREAL's own world-to-camera matrix, determinant -1."""
PROPER_ROT = np.diag([-1.0, 1.0, 1.0]) @ MIRRORED_ROT
"""World to camera of the flipped pictures."""
RIGHT_ANGLE_X = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
"""R90x of SURREAL's smpl_relations.py: from the motion's world (z up) to the renderer's (up is -y)."""


def flipped(pictures: Shaped[np.ndarray, "t 240 320 *c"]) -> Shaped[np.ndarray, "t 240 320 *c"]:
    """Pictures the other way round, left to right; values stay (see `surreal_flow` for those that are vectors)."""
    return np.ascontiguousarray(pictures[:, :, ::-1])


def camera(camera_m: Float[np.ndarray, "3"]) -> CalibratedCamera:
    """The camera of the flipped pictures in a world with z up.

    Convention: x_cam = diag(-1, 1, 1) MIRRORED_ROT (x - camera_m) in the renderer's world, whose up is -y; R90x takes
    the z-up world there. Determinant +1, +x right, +y down, +z forward.

    Args:
        camera_m: camLoc, in the renderer's world.
    """
    return CalibratedCamera(
        name="surreal",
        pinhole=Pinhole.of(torch.tensor([FOCAL_PX, FOCAL_PX, *CENTRE_PX], dtype=torch.float64)),
        world_to_cam=Rigid(
            rot=torch.from_numpy(PROPER_ROT @ RIGHT_ANGLE_X), trans_m=torch.from_numpy(-PROPER_ROT @ camera_m)
        ),
        image_size_px=SIZE_PX,
    )


def to_z_up(points_m: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 3"]:
    """Points of the renderer's world in the world with z up."""
    turned: np.ndarray = points_m @ RIGHT_ANGLE_X
    return turned


def in_file(kp2d_px: Float[np.ndarray, "*b 2"]) -> Float[np.ndarray, "*b 2"]:
    """Keypoints of the flipped pictures as the files count them: mirrored, from the picture's corner."""
    x, y = kp2d_px[..., 0], kp2d_px[..., 1]
    return np.stack((SIZE_PX[0] - (x + 0.5), y + 0.5), axis=-1)


def pose_in_camera(
    pose_rad: Float[np.ndarray, "t 24 3"], turn_rad: Float[np.ndarray, " t"], seen_by: CalibratedCamera
) -> Float[np.ndarray, "t 24 3"]:
    """SMPL's axis-angle pose with the global orientation in the camera.

    Convention: R_cam = rot_world_to_cam Rz(zrot) R(pose[:3]) with z up, which is R_renderer R90x Rz(zrot) R(pose[:3]).

    Args:
        pose_rad: the file's pose; all but the first joint stay as they are.
        turn_rad: zrot.
        seen_by: the camera.
    """
    about_z = torch.zeros(len(turn_rad), 3, dtype=torch.float64)
    about_z[:, 2] = torch.from_numpy(turn_rad)
    root = from_axis_angle(about_z) @ from_axis_angle(torch.from_numpy(pose_rad[:, 0]))
    turned = pose_rad.copy()
    turned[:, 0] = to_axis_angle(seen_by.world_to_cam.rot @ root).numpy()
    return turned
