"""Human3.6M's published files and facts: pose files (CDF), known bad data, and the checks every layout shares.

Protocols 3.1 and 3.5 (a). 50 Hz; CDF positions are millimetres, in a world with z up or in a camera with y down.
"""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cdflib
import numpy as np
import torch
from jaxtyping import Bool, Float, Float64

from aign.data.datasets.rig import H36M_INTRINSICS
from aign.framework.errors import UserError
from aign.geometry.camera import CalibratedCamera, Rigid
from aign.geometry.skeleton import H36M17, H36M32, convert

FPS = 50.0
LICENCE = "human3.6m licence (research only, see vision.imar.ro/human3.6m)"
CAMERAS = tuple(lens.name for lens in H36M_INTRINSICS)
SEQUENCES_PER_SUBJECT = 30
LOST_VIDEO = ("S11", "Directions", "54138969")
"""Missing or corrupt in the published archive."""

MOST_APART_PX = 5.0
"""Published 2D joints are projections of the 3D joints: they agree to 0.01 px where all files belong together."""

_BODY_MM = (200.0, 4000.0)
_REACH_MM = 20_000.0
_UPRIGHT = 0.3
"""Least share of the way from ankles to head that goes upwards: sitting on the floor with legs stretched has 0.6."""
_UPRIGHT_FRAMES = 0.2
"""Least share of upright frames: people lie on the floor for long in SittingDown, yet never from first to last."""
_BROKEN_CDF = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    MemoryError,
    EOFError,
    UnicodeDecodeError,
    struct.error,
    zlib.error,
)
"""What cdflib raises on a truncated or foreign file."""


def read_pose(path: Path, columns: int) -> Float64[np.ndarray, "t c"]:
    """The variable Pose of a CDF file as [frames, columns]: 64 for D2_Positions, 96 for D3_Positions.

    cdflib gives it a leading axis of one record; files without it are read too.

    Raises:
        UserError: missing, truncated, no CDF, without Pose, transposed, of another width, or not finite.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        content = cdflib.CDF(str(path))
        info = content.cdf_info()
        variables = [*info.zVariables, *info.rVariables]
        values: Any = content.varget("Pose") if "Pose" in variables else None
    except _BROKEN_CDF as error:
        raise UserError(f"{path}: not a whole CDF file ({type(error).__name__}: {error})") from error
    if not isinstance(values, np.ndarray):
        raise UserError(f"{path}: no values of Pose in it; it has {', '.join(variables) or 'no variables'}")
    pose = values[0] if values.ndim == 3 and len(values) == 1 else values
    if pose.ndim != 2 or pose.shape[1] != columns or len(pose) == 0 or pose.dtype.kind != "f":
        turned = " (transposed: frames come first)" if pose.ndim == 2 and pose.shape[0] == columns else ""
        raise UserError(
            f"{path}: Pose is {values.dtype} of shape {values.shape}{turned}; "
            f"floating point (1, frames, {columns}) is needed"
        )
    bad = ~np.isfinite(pose).all(1)
    if bad.any():
        raise UserError(
            f"{path}: {int(bad.sum())} frames have NaN or infinite values, the first is {int(bad.argmax())}"
        )
    return pose.astype(np.float64)


def read_joints_3d(path: Path) -> Float64[np.ndarray, "t 17 3"]:
    """H36M-17 joints of a D3_Positions file, in its own frame, in metres.

    Raises:
        UserError: as `read_pose`; or a body of no body's size in millimetres.
    """
    joints_mm = select_17(read_pose(path, 96).reshape(-1, 32, 3))
    low, high = _BODY_MM
    # The largest coordinate difference of a frame; its median, because a single bad frame is the schema's to find.
    extent = float(np.median(np.ptp(joints_mm, axis=1).max(axis=1)))
    if not low <= extent <= high:
        unit = "metres" if low / 1000 <= extent <= high / 1000 else "another unit"
        raise UserError(
            f"{path}: bodies {extent:.4g} across look like {unit}; millimetres ({low:g} to {high:g}) needed"
        )
    reach = float(np.abs(joints_mm).max())
    if reach > _REACH_MM:
        raise UserError(f"{path}: joints reach {reach:.4g} mm; at most {_REACH_MM:g} is possible in a studio")
    return joints_mm / 1000


def select_17(joints: Float[np.ndarray, "t 32 d"]) -> Float64[np.ndarray, "t 17 d"]:
    """H36M-17 of the 32 raw joints (the copies 11, 16, 20, 23, 24, 28, 31 are not used)."""
    chosen, _ = convert(torch.from_numpy(joints.astype(np.float64)), H36M32, H36M17)
    return np.asarray(chosen.numpy(), np.float64)


def check_world(joints_world_m: Float[np.ndarray, "t 17 3"], where: str) -> None:
    """Refuse a world in which people do not stand along +z.

    Raises:
        UserError: the head is above the ankles along z in fewer than a fifth of the frames.
    """
    _check_up(joints_world_m, np.array([0.0, 0.0, 1.0]), f"{where}: the world's +z is not up")


def check_camera(joints_cam_m: Float[np.ndarray, "t 17 3"], where: str) -> None:
    """Refuse joints that are in front of no camera, or in one whose y is not down.

    Raises:
        UserError: a pelvis at or behind the camera plane, or heads below ankles.
    """
    nearest = float(joints_cam_m[:, 0, 2].min())
    if nearest <= 0:
        raise UserError(f"{where}: the pelvis is at z = {nearest:.4g} m; in front of the camera (z > 0) is needed")
    _check_up(joints_cam_m, np.array([0.0, -1.0, 0.0]), f"{where}: the camera's +y is not down")


def check_y_down(joints_m: Float[np.ndarray, "t 17 3"], where: str) -> None:
    """Refuse root-centred joints whose axes are not a camera's (+y down).

    Raises:
        UserError: the head is above the ankles along -y in fewer than a fifth of the frames.
    """
    _check_up(joints_m, np.array([0.0, -1.0, 0.0]), f"{where}: +y is not down")


def _check_up(joints_m: Float[np.ndarray, "t 17 3"], up: Float64[np.ndarray, " 3"], message: str) -> None:
    head, *ankles = H36M17.index("head_top", "l_ankle", "r_ankle")
    body = joints_m[:, head] - joints_m[:, ankles].mean(1)
    share = body @ up / np.maximum(np.linalg.norm(body, axis=1), 1e-9)
    right = float((share > _UPRIGHT).mean())
    if right < _UPRIGHT_FRAMES:
        raise UserError(f"{message}: only {right:.0%} of {len(joints_m)} frames have the head above the feet along it")


def to_world(joints_cam_m: Float[np.ndarray, "t j 3"], camera: CalibratedCamera) -> Float64[np.ndarray, "t j 3"]:
    """Joints of a camera's frame in the world."""
    pose = camera.world_to_cam
    back = Rigid(rot=pose.rot.double(), trans_m=pose.trans_m.double()).inverse()
    points = torch.from_numpy(joints_cam_m.reshape(-1, 3).astype(np.float64))
    return np.asarray(back.apply(points).numpy().reshape(joints_cam_m.shape), np.float64)


def check_agreement(
    seen_px: Float[np.ndarray, "t 17 2"],
    projected_px: Float[np.ndarray, "t 17 2"],
    both: Bool[np.ndarray, "t 17"],
    where: str,
) -> None:
    """Refuse 2D joints that are not where the calibration puts the 3D joints; each joint apart, so that a swap shows.

    Raises:
        UserError: the median distance of a joint is above MOST_APART_PX.
    """
    distance = np.linalg.norm(seen_px - projected_px, axis=-1)
    medians = [float(np.median(d[b])) if b.any() else 0.0 for d, b in zip(distance.T, both.T, strict=True)]
    worst = int(np.argmax(medians))
    if medians[worst] > MOST_APART_PX:
        raise UserError(
            f"{where}: 2D {H36M17.joints[worst]} is {medians[worst]:.1f} px (median) from the projected 3D joint, "
            f"at most {MOST_APART_PX:g} is allowed; are 2D, 3D and cameras of one subject and in the same joint order?"
        )


def subject_number(subject: str) -> tuple[int, str]:
    """Key that sorts S2 before S11."""
    digits = "".join(c for c in subject if c.isdigit())
    return (int(digits) if digits else 0, subject)


def subject_folders(root: Path) -> list[Path]:
    """The folders S1, S5, ... of a root, in order."""
    if not root.is_dir():
        return []
    folders = (p for p in root.iterdir() if p.is_dir() and p.name[:1] == "S" and p.name[1:].isdigit())
    return sorted(folders, key=lambda p: subject_number(p.name))


def find_metadata(root: Path) -> Path | None:
    """metadata.xml in a folder, one above it or below it (code-v1.2.zip unpacks into folders of its own)."""
    for pattern in ("metadata.xml", "*/metadata.xml", "*/*/metadata.xml"):
        found = sorted(root.glob(pattern))
        if found:
            return found[0]
    above = root.parent / "metadata.xml"
    return above if above.is_file() else None


def refuse_missing(lines: Sequence[str], root: Path) -> None:
    """One error that names every missing file.

    Raises:
        UserError: there are any.
    """
    if lines:
        raise UserError(f"{root} lacks {len(lines)} files: {'; '.join(lines)}")
