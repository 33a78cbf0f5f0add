"""Where Human3.6M's cameras stand: read from metadata.xml, or recovered from 2D and 3D joints of the same frames."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float

from aign.data.datasets.rig import H36M_INTRINSICS, Intrinsics, h36m_camera
from aign.framework.errors import UserError
from aign.geometry.camera import CalibratedCamera, Pinhole, Rigid, undistort
from aign.geometry.skeleton import H36M17, H36M32, convert

SUBJECTS = 11
CAMERAS = 4
MAX_RESIDUAL_PX = 2.0
POSITION_M = (0.5, 20.0)
"""How far from the middle of the room a camera can stand."""


def read_metadata(path: Path) -> dict[str, tuple[CalibratedCamera, ...]]:
    """Calibration of every subject from Human3.6M's metadata.xml (from its code archive).

    Convention: w0 holds 6 numbers (3 Euler angles in radians, position in mm) for each camera and subject, then fx fy
    cx cy k1 k2 k3 p1 p2 for each camera; R = Rx(a) Ry(b) Rz(c), X_cam = R (X_world - T). Source: protocols 3.1.

    Raises:
        UserError: not readable, or without the 300 numbers.
    """
    try:
        found = re.search(r"<w0>\s*\[([^\]]*)\]", path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    try:
        numbers = np.array(found.group(1).split() if found else [], dtype=np.float64)
    except ValueError as error:
        raise UserError(f"{path}: <w0> holds other things than numbers ({error})") from error
    if numbers.size != 300 or not np.isfinite(numbers).all():
        raise UserError(f"{path} has {np.isfinite(numbers).sum()} camera numbers in <w0>; Human3.6M's has 300")
    return {
        f"S{subject}": tuple(_camera(numbers, camera, subject) for camera in range(CAMERAS))
        for subject in range(1, SUBJECTS + 1)
    }


def subject_rig(path: Path, subject: str) -> tuple[CalibratedCamera, ...]:
    """The cameras of one subject from metadata.xml, in Human3.6M's order.

    Raises:
        UserError: as `read_metadata`; no cameras of this subject, or they cannot be in millimetres and pixels.
    """
    rigs = read_metadata(path)
    if subject not in rigs:
        raise UserError(f"{path} has no cameras of {subject}; it has {', '.join(rigs)}")
    low, high = POSITION_M
    for camera in rigs[subject]:
        away = float(torch.linalg.vector_norm(camera.world_to_cam.trans_m))
        focal = float(camera.pinhole.focal_px.min())
        if not low <= away <= high or focal <= 0:
            raise UserError(
                f"{path}: camera {camera.name} of {subject} stands {away:.4g} m from the middle and has a focal length "
                f"of {focal:.4g} px; {low:g} to {high:g} m and above 0 px are possible (0: the calibration lacks it)"
            )
    return rigs[subject]


def _camera(w0: Float[np.ndarray, "300"], camera: int, subject: int) -> CalibratedCamera:
    a, b, c, *position_mm = w0[6 * (camera * SUBJECTS + subject - 1) :][:6]
    rot = _turn(0, a) @ _turn(1, b) @ _turn(2, c)
    fx, fy, cx, cy, k1, k2, k3, p1, p2 = w0[6 * SUBJECTS * CAMERAS + 9 * camera :][:9]
    known = H36M_INTRINSICS[camera]
    lens = Intrinsics(
        name=known.name,
        intrinsics_px=(fx, fy, cx, cy),
        distortion=(k1, k2, k3, p1, p2),
        image_size_px=known.image_size_px,
    )
    trans_m = -rot @ (np.array(position_mm) / 1000)
    return h36m_camera(lens, Rigid(rot=torch.from_numpy(rot), trans_m=torch.from_numpy(trans_m)))


def _turn(axis: int, angle_rad: float) -> Float[np.ndarray, "3 3"]:
    """Right-handed rotation about a coordinate axis."""
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    rot = np.eye(3)
    rot[i, i] = rot[j, j] = np.cos(angle_rad)
    rot[i, j], rot[j, i] = -np.sin(angle_rad), np.sin(angle_rad)
    return rot


def calibrate(
    world_m: Mapping[str, np.ndarray], pixels: Mapping[str, Sequence[np.ndarray]], where: str
) -> tuple[CalibratedCamera, ...]:
    """Placement of a subject's four cameras from the ground-truth 2D that VideoPose3D's preparation writes.

    With the published intrinsics the joints' rays are known, so each camera is a perspective-n-point problem (OpenCV's
    iterative solver on undistorted rays). Nothing of Human3.6M's calibration need be shipped.

    Args:
        world_m: [t, 32, 3] joints by action.
        pixels: four [t, 17, 2] by action.
        where: named in errors.

    Raises:
        UserError: no common action, or the two files do not belong together (residual above MAX_RESIDUAL_PX).
    """
    common = [action for action in world_m if action in pixels]
    if not common:
        raise UserError(f"{where} shares no action with the 3D file")
    return tuple(
        _solve(
            lens,
            [np.asarray(world_m[a], np.float32) for a in common],
            [np.asarray(pixels[a][i], np.float32) for a in common],
            where,
        )
        for i, lens in enumerate(H36M_INTRINSICS)
    )


def _solve(lens: Intrinsics, world_m: list[np.ndarray], pixels: list[np.ndarray], where: str) -> CalibratedCamera:
    points, px = [], []
    for joints, seen in zip(world_m, pixels, strict=True):
        n = min(len(joints), len(seen))
        every = max(1, n // 40)
        converted, _ = convert(torch.from_numpy(joints[:n:every]), H36M32, H36M17)
        points.append(converted.reshape(-1, 3).double().numpy())
        px.append(seen[:n:every].reshape(-1, 2).astype(np.float64))
    points_m, points_px = np.concatenate(points), np.concatenate(px)
    pinhole = Pinhole.of(torch.tensor(lens.intrinsics_px).double(), torch.tensor(lens.distortion).double())
    rays = undistort(torch.from_numpy(points_px), pinhole).numpy()
    ok, axis_angle, trans_m = cv2.solvePnP(points_m, rays, np.eye(3), np.zeros(4), flags=cv2.SOLVEPNP_SQPNP)
    if ok:
        axis_angle, trans_m = cv2.solvePnPRefineLM(points_m, rays, np.eye(3), np.zeros(4), axis_angle, trans_m)
        projected, _ = cv2.projectPoints(points_m, axis_angle, trans_m, np.eye(3), np.zeros(4))
        residual_px = float(np.median(np.linalg.norm(projected[:, 0] - rays, axis=1)) * lens.intrinsics_px[0])
    if not ok or residual_px > MAX_RESIDUAL_PX:
        raise UserError(
            f"{where}: camera {lens.name} does not fit the 3D joints"
            + (f" (median residual {residual_px:.1f} px, allowed {MAX_RESIDUAL_PX:g})" if ok else "")
            + "; are both files of the same data set, cameras in the order 54138969 55011271 58860488 60457274?"
        )
    rot = torch.from_numpy(cv2.Rodrigues(axis_angle)[0])
    return h36m_camera(lens, Rigid(rot=rot, trans_m=torch.from_numpy(trans_m[:, 0])))
