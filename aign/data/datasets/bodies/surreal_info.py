"""SURREAL's files and names: joints, pose, shape and camera in _info.mat, pictures in the others (protocols 3.5 f)."""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped

from aign.body.assets import BodyAssets, load_body
from aign.body.skinning import rest_joints
from aign.data.datasets.bodies.surreal_camera import SIZE_PX, camera, in_file, to_z_up
from aign.data.datasets.raw_files import entry, numbers, read_mat
from aign.framework.errors import UserError
from aign.geometry.camera import CalibratedCamera, project

BODY_MODELS = ("smpl-female", "smpl-male")
"""By SURREAL's gender number. (A comment in its code has them the other way round; its README and its code do not.)"""
OURS = "aign"
"""`source` in files of this layout that AIGN wrote, with its own body; SURREAL's say "cmu"."""
MEAN_PELVIS_M = {"smpl-female": (-0.0009, -0.2114, 0.0278), "smpl-male": (-0.0022, -0.2408, 0.0286)}
"""Rest pelvis of the mean shapes of the licensed bodies, metres, to a tenth of a millimetre."""
BODY_FILES = (
    (
        "SMPL_FEMALE.pkl",
        "SMPL_FEMALE.npz",
        "basicModel_f_lbs_10_207_0_v1.0.0.pkl",
        "basicmodel_f_lbs_10_207_0_v1.1.0.pkl",
    ),
    ("SMPL_MALE.pkl", "SMPL_MALE.npz", "basicmodel_m_lbs_10_207_0_v1.0.0.pkl", "basicmodel_m_lbs_10_207_0_v1.1.0.pkl"),
)
WITHIN_PX = 0.51
"""joints2D are rounded to whole pixels, so the exact projection lies within half a pixel."""
MOST_OFF = 0.05
"""Share of joints that may be further off (those close to the camera plane, say)."""


@dataclass(frozen=True, kw_only=True)
class ClipInfo:
    """What _info.mat says, with the mirrored camera undone.

    Attributes:
        body_model: "smpl-female", "smpl-male", or "aign-default" in files that AIGN wrote.
        camera: of the flipped pictures.
        joints_world_m: z up.
        file_px: exact projections in the file's own (mirrored) picture, counted from its corner.
        pose_rad: SMPL's axis-angle as in the file.
        turn_rad: zrot.
        betas: shape coefficients.
    """

    body_model: str
    camera: CalibratedCamera
    joints_world_m: Float[np.ndarray, "t 24 3"]
    file_px: Float[np.ndarray, "t 24 2"]
    pose_rad: Float[np.ndarray, "t 24 3"]
    turn_rad: Float[np.ndarray, " t"]
    betas: Float[np.ndarray, "t 10"]

    @property
    def frames(self) -> int:
        """Frames of the clip."""
        return len(self.pose_rad)


def read_info(path: Path) -> ClipInfo:
    """Read and check _info.mat. A clip of one frame has lost its last axis, which is put back.

    Raises:
        UserError: damaged, a variable is missing or has the wrong size or kind, joints2D are not the projection of
            joints3D, or the gender is neither 0 nor 1.
    """
    content = read_mat(path)

    def array(name: str, *sizes: int) -> Float[np.ndarray, "... t"]:
        value = np.asarray(entry(content, name, path))
        per_frame = int(np.prod(sizes))
        if value.ndim == len(sizes) and value.shape == sizes:  # one frame: (2, 24, 1) was stored as (2, 24)
            value = value[..., None]
        frames = value.size // per_frame if value.size % per_frame == 0 else None
        return numbers(value, (*sizes, frames), f"{path}: {name}")

    pose = array("pose", 72)
    frames = pose.shape[-1]
    joints_m, pixels = array("joints3D", 3, 24), array("joints2D", 2, 24)
    betas = array("shape", 10)
    turn = numbers(np.ravel(entry(content, "zrot", path)), (frames,), f"{path}: zrot")
    camera_m = numbers(np.ravel(entry(content, "camLoc", path)), (3,), f"{path}: camLoc")
    for name, value in (("joints3D", joints_m), ("joints2D", pixels), ("shape", betas)):
        if value.shape[-1] != frames:
            raise UserError(f"{path}: {name} has {value.shape[-1]} frames, pose has {frames}; as many are needed")
    joints_world_m = to_z_up(joints_m.transpose(2, 1, 0))
    _check_size(joints_world_m, path)
    seen_by = camera(camera_m)
    points = torch.from_numpy(joints_world_m.reshape(-1, 3))
    exact = project(seen_by.world_to_cam.apply(points), seen_by.pinhole).numpy()
    file_px = in_file(exact).reshape(frames, 24, 2)
    _check_pixels(file_px, pixels.transpose(2, 1, 0), path)
    return ClipInfo(
        body_model=_body_model(content, path),
        camera=seen_by,
        joints_world_m=joints_world_m,
        file_px=file_px,
        pose_rad=pose.T.reshape(frames, 24, 3),
        turn_rad=turn,
        betas=np.ascontiguousarray(betas.T),
    )


def _check_size(joints_world_m: Float[np.ndarray, "t 24 3"], path: Path) -> None:
    size_m = float(np.median(np.ptp(joints_world_m, axis=1).max(axis=-1)))
    if not 0.3 < size_m < 4.0:
        raise UserError(f"{path}: joints3D span {size_m:.4g}; a body in metres spans 0.3 to 4")


def _check_pixels(exact_px: Float[np.ndarray, "t 24 2"], rounded_px: Float[np.ndarray, "t 24 2"], path: Path) -> None:
    off = np.abs(exact_px - rounded_px).max(axis=-1)
    if (off > WITHIN_PX).mean() > MOST_OFF:
        raise UserError(
            f"{path}: joints2D are {np.median(off):.3g} px from the projection of joints3D (median); allowed is "
            f"{WITHIN_PX} px, in SURREAL's mirrored camera"
        )


def _body_model(content: dict[str, Any], path: Path) -> str:
    source = np.ravel(content.get("source", ""))
    if source.size == 1 and str(source[0]) == OURS:
        return "aign-default"
    values = np.unique(numbers(np.ravel(entry(content, "gender", path)), (None,), f"{path}: gender"))
    if len(values) != 1 or values[0] not in (0, 1):
        raise UserError(f"{path}: gender is {values.tolist()}; one of 0 (female) and 1 (male) is needed")
    return BODY_MODELS[int(values[0])]


def body_files(path: Path) -> tuple[Path | None, Path | None]:
    """The female and the male SMPL file in the folder `smpl` below a path, None where there is none."""
    female, male = (
        next((file for name in names if (file := path / "smpl" / name).is_file()), None) for names in BODY_FILES
    )
    return female, male


@lru_cache(maxsize=2)
def _body(path: Path, _modified_ns: int) -> BodyAssets:
    return load_body(path)


def rest_pelvis_m(
    body_model: str, betas: Float[np.ndarray, "t 10"], bodies: tuple[Path | None, Path | None]
) -> Float[np.ndarray, "t 3"]:
    """Rest position of the pelvis joint, which body_trans_cam_m is counted from.

    SURREAL gives no translation, only joints3D; SMPL's is joints3D[0] - J0(shape) in the camera. J0 is exact with the
    body's file (or with the default body). Without it, it is the mean shape's, which the shape moves by a few
    centimetres; with the labels at hand, pelvis - J0(betas) of one's own body puts that right.
    """
    if body_model == "aign-default":
        body = load_body(None)
    else:
        file = bodies[BODY_MODELS.index(body_model)]
        if file is None:
            return np.tile(MEAN_PELVIS_M[body_model], (len(betas), 1))
        body = _body(file, file.stat().st_mtime_ns)
    return rest_joints(body, torch.from_numpy(betas.astype(np.float32)))[:, 0].double().numpy()


def read_pictures(path: Path, name: str, frames: int, last: tuple[int, ...]) -> Shaped[np.ndarray, "t 240 320 *c"]:
    """name_1 .. name_T of a file (MATLAB counts from 1), stacked.

    Raises:
        UserError: damaged, one is missing, or not of 240 x 320.
    """
    content = read_mat(path)
    shape = (SIZE_PX[1], SIZE_PX[0], *last)
    pictures = []
    for number in range(1, frames + 1):
        picture = np.asarray(entry(content, f"{name}_{number}", path))
        if picture.shape != shape or picture.dtype.kind not in "fui":
            raise UserError(f"{path}: {name}_{number} is {picture.dtype} {picture.shape}; numbers {shape} are needed")
        pictures.append(picture)
    return np.stack(pictures)


def subject(clip: str) -> str:
    """CMU's number of who moves: "01" of "01_05_c0003" and of "ung_01_05_c0003" (ung: fitted without a gender)."""
    match = re.match(r"(?:[A-Za-z]+_)*(\d+)_", clip)
    return match[1] if match else clip.rpartition("_c")[0]


def is_monster(clip: str) -> bool:
    """Whether SURREAL's README lists it as broken: subjects 18 and 19, whose motions are of two people, and 143_21."""
    return subject(clip) in ("18", "19") or re.search(r"(?:^|_)143_21_c\d", clip) is not None
