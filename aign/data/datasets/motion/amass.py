"""AMASS motion files: the SMPL+H release (*_poses.npz) and the SMPL-X release (*_stageii.npz).

Mahmood et al., "AMASS" (2019). Both start with the root and 21 body joints of SMPL; the hands are left out.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from aign.body.motion import Motion
from aign.framework.errors import UserError
from aign.framework.safe_pickle import load_object_npz
from aign.geometry.rotation import from_axis_angle

POSE_WIDTHS = {156: "SMPL+H", 165: "SMPL-X"}
"""Numbers in a pose of each release."""
_RATES = ("mocap_framerate", "mocap_frame_rate")  # the two releases spell it differently
TO_OURS = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""z up, -y forward -> y up, +z forward."""
REST_PELVIS_M = {156: np.array([-0.0018, -0.2233, 0.0282]), 165: np.array([0.0031, -0.3514, 0.0120])}
"""Pelvis joint of each release's mean shape: the origin of SMPL-X's template lies higher in the chest.

A body differs from its mean by millimetres to centimetres; the licensed bodies are not needed to read a motion.
"""


def read_amass(path: Path | str) -> Motion:
    """Read one clip. Rotations are SMPL's own, so nothing is retargeted; z up becomes y up.

    Raises:
        UserError: Not an AMASS motion (such as shape.npz), truncated, of another width, or with numbers that are not
        finite.
    """
    path = Path(path)
    content = load_object_npz(path)
    poses = _array(content, "poses", path)
    trans = _array(content, "trans", path)
    if poses.ndim != 2 or poses.shape[1] not in POSE_WIDTHS or len(poses) == 0:
        raise UserError(
            f"{path}: poses has shape {poses.shape}; [frames, {' or '.join(map(str, POSE_WIDTHS))}] is needed"
        )
    if trans.shape != (len(poses), 3):
        raise UserError(f"{path}: trans has shape {trans.shape}; ({len(poses)}, 3) is needed")
    if np.abs(trans).max() > 100:
        raise UserError(f"{path}: trans reaches {np.abs(trans).max():.4g}; metres are needed, at most 100")
    axis_angle = np.zeros((len(poses), 24, 3))
    axis_angle[:, :22] = poses[:, :66].reshape(-1, 22, 3)
    rotmats = from_axis_angle(torch.from_numpy(axis_angle)).numpy()
    rotmats[:, 0] = TO_OURS @ rotmats[:, 0]
    gender = content.get("gender", "unknown")
    gender = gender.item() if isinstance(gender, np.ndarray) and gender.size == 1 else gender
    gender = gender.decode("latin1") if isinstance(gender, bytes) else str(gender)
    return Motion(
        name=path.stem,
        fps=_rate(content, path),
        rotmats=rotmats.astype(np.float32),
        trans_m=((trans + REST_PELVIS_M[poses.shape[1]]) @ TO_OURS.T).astype(np.float32),
        source=f"AMASS {POSE_WIDTHS[poses.shape[1]]} {path.name} ({gender})",
        licence="AMASS licence (research only)",
    )


def _array(content: dict[str, Any], key: str, path: Path) -> Float[np.ndarray, "..."]:
    if key not in content:
        raise UserError(
            f"{path}: no {key} in it (got {', '.join(sorted(content))}); an AMASS motion has poses and trans"
        )
    array = np.asarray(content[key])
    if array.dtype.kind not in "fiu":
        raise UserError(f"{path}: {key} holds {array.dtype}, numbers are needed")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise UserError(
            f"{path}: {key} has a number that is not finite in frame {int(np.argwhere(~np.isfinite(array))[0, 0])}"
        )
    return array


def _rate(content: dict[str, Any], path: Path) -> float:
    for key in _RATES:
        if key in content:
            rate = _array(content, key, path)
            if rate.size != 1 or not 0 < float(rate.reshape(-1)[0]) <= 1000:
                raise UserError(f"{path}: {key} is {rate}; one number of frames per second, at most 1000, is needed")
            return float(rate.reshape(-1)[0])
    raise UserError(f"{path}: no frame rate in it; {' or '.join(_RATES)} is needed")
