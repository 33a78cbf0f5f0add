"""Clips in SURREAL's published layout (protocols 3.5 f), made with the free default body.

Everything here follows the data set's own conventions, written from its documentation and not with the loader's code:
the mirrored camera [R|t] of determinant -1, pixels from the corner, keys from 1, joints2D rounded, a last axis that
vanishes in clips of one frame. The "rendering" is one disc per joint, nearest on top.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch

from aign.body.assets import load_body
from aign.body.skinning import joints_only
from aign.data.stages.decode import write_mp4
from aign.geometry.rotation import from_axis_angle, to_axis_angle

K = np.array([[600.0, 0, 160], [0, 600, 120], [0, 0, 1]])
R_CV = np.array([[0.0, 0, -1], [0, 1, 0], [-1, 0, 0]])
R90X = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
RADIUS = 4
LEFT_WRIST, RIGHT_WRIST = 20, 21
MARKS = {LEFT_WRIST: (230, 20, 20), RIGHT_WRIST: (20, 20, 230)}


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What was written, as SURREAL has it."""

    joints3d: np.ndarray  # [t, 24, 3]
    file_px: np.ndarray  # [t, 24, 2], from the corner of the mirrored picture, not rounded
    depth_m: np.ndarray  # [t, 24]
    pose: np.ndarray  # [t, 24, 3]
    betas: np.ndarray  # [10]


def body_motion(frames: int, seed: int, zrot: float, wave: float = 0.25) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pose [t, 24, 3] (root: SMPL's y up to z up, as MoSh has it), betas and joints in the renderer's world."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 6.28, (1, 24, 3))
    time = np.arange(frames)[:, None, None] / 30
    pose = rng.normal(0, 0.1, (1, 24, 3)) + wave * np.sin(5 * time + phase)
    about_x = torch.tensor([[np.pi / 2, 0, 0]], dtype=torch.float64)
    small = torch.from_numpy(0.3 * pose[:, 0])
    root = from_axis_angle(about_x) @ from_axis_angle(small)
    pose[:, 0] = to_axis_angle(root).numpy()
    betas = rng.normal(0, 1, 10)
    turn = np.array([[np.cos(zrot), -np.sin(zrot), 0], [np.sin(zrot), np.cos(zrot), 0], [0, 0, 1]])
    rotmats = from_axis_angle(torch.from_numpy(pose))
    rotmats[:, 0] = torch.from_numpy(R90X @ turn) @ rotmats[:, 0]
    body = load_body(None).to(dtype=torch.float64)
    sway = 0.15 * wave * np.sin(3 * time[:, 0] + phase[0, 0]) if wave else np.zeros((frames, 3))
    trans = torch.from_numpy(sway + np.array([0.0, -0.9, 0.0]))
    joints = joints_only(body, rotmats, torch.from_numpy(np.tile(betas, (frames, 1))), trans)
    return pose, betas, joints.numpy()


def write_clip(
    folder: Path,
    name: str = "01_01_c0001",
    *,
    frames: int = 6,
    gender: int = 0,
    seed: int = 0,
    zrot: float = np.pi / 2,
    wave: float = 0.25,
    source: str = "cmu",
    flow: str = "-u +v since",
    skip: tuple[str, ...] = (),
    change: Any = None,
) -> Truth:
    """One clip's files.

    Args:
        flow: signs of the channels against the motion in the file's picture, and "since" the last frame or "until" the
            next one.
        skip: endings not to write.
        change: is given _info.mat's variables to spoil.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pose, betas, joints = body_motion(frames, seed, zrot, wave)
    camera_m = np.array([6.0, -1.0, 0.1])
    inside = (joints - camera_m) @ R_CV.T
    homogeneous = inside @ K.T
    pixels = homogeneous[..., :2] / homogeneous[..., 2:]
    truth = Truth(joints3d=joints, file_px=pixels, depth_m=inside[..., 2], pose=pose, betas=betas)
    info = {
        "sequence": np.array([name]),
        "clipNo": np.array([[1.0]]),
        "source": np.array([source]),
        "bg": np.array([["bg.jpg"] * frames], dtype=object),
        "cloth": np.array([["nongrey_male_0164.jpg"] * frames], dtype=object),
        "gender": np.full((frames, 1), gender, np.uint8),
        "light": np.zeros((9, frames), np.float32),
        "stride": np.array([[50]], np.uint8),
        "camDist": np.array([[6.0]], np.float32),
        "camLoc": camera_m.astype(np.float32)[:, None],
        "joints2D": np.rint(pixels).transpose(2, 1, 0).astype(np.float32),
        "joints3D": joints.transpose(2, 1, 0).astype(np.float32),
        "pose": pose.reshape(frames, 72).T.astype(np.float32),
        "shape": np.tile(betas, (frames, 1)).T.astype(np.float32),
        "zrot": np.full((frames, 1), zrot, np.float32),
    }
    if frames == 1:
        info |= {key: info[key][..., 0] for key in ("joints2D", "joints3D")}
    if change is not None:
        change(info)
    stem = folder / name
    scipy.io.savemat(f"{stem}_info.mat", info)
    write_pictures(stem, truth, flow, skip)
    return truth


def write_pictures(stem: Path, truth: Truth, flow: str, skip: tuple[str, ...]) -> None:
    frames = len(truth.file_px)
    segm, depth = np.zeros((frames, 240, 320), np.uint8), np.full((frames, 240, 320), 1e10, np.float32)
    gtflow, rgb = np.zeros((frames, 240, 320, 2), np.float32), np.full((frames, 240, 320, 3), 128, np.uint8)
    since = np.diff(truth.file_px, axis=0, prepend=truth.file_px[:1])
    until = np.diff(truth.file_px, axis=0, append=truth.file_px[-1:])
    signs = [1 if sign == "+" else -1 for sign in (flow[0], flow[3])]
    motion = (since if flow.endswith("since") else until) * signs
    rows, columns = np.mgrid[:240, :320]
    for t in range(frames):
        for j in np.argsort(-truth.depth_m[t]):
            x, y = truth.file_px[t, j] - 0.5
            disc = (columns - x) ** 2 + (rows - y) ** 2 <= RADIUS**2
            segm[t][disc], depth[t][disc], gtflow[t][disc] = j + 1, truth.depth_m[t, j], motion[t, j]
            rgb[t][disc] = MARKS.get(int(j), (20, 200, 20))
    # The frame without a neighbour holds whatever the renderer left there.
    gtflow[0 if flow.endswith("since") else -1] = 7.0
    for ending, values in (("segm", segm), ("depth", depth), ("gtflow", gtflow)):
        if f"_{ending}.mat" not in skip:
            scipy.io.savemat(f"{stem}_{ending}.mat", {f"{ending}_{t + 1}": v for t, v in enumerate(values)})
    if ".mp4" not in skip:
        write_mp4(Path(f"{stem}.mp4"), list(rgb), 30)
