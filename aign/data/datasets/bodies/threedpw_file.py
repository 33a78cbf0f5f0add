"""What a sequence file of 3DPW holds, checked (protocols 3.5 i)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from aign.data.datasets.raw_files import entry, numbers
from aign.framework.errors import UserError
from aign.framework.safe_pickle import to_array

BODY_MODELS = {"m": "smpl-male", "f": "smpl-female"}
SHAPES_USED = 10
LANDSCAPE_PX = (1920, 1080)
"""Of the pictures, or turned by a right angle; the files do not say which, but the principal point does."""
REST_PELVIS_M = 0.5
"""How far the rest pelvis may be from the body's origin: SMPL's is 0.2 to 0.25 m below it."""
PELVIS_JITTER_M = 0.02


@dataclass(frozen=True, kw_only=True)
class Lens:
    """The phone's camera.

    Attributes:
        intrinsics_px: fx, fy, cx, cy.
        size_px: w, h.
    """

    intrinsics_px: Float[np.ndarray, "4"]
    size_px: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Actor:
    """One person of a sequence, as the file has them; invalid frames hold zeros.

    Attributes:
        valid: frames whose camera pose fits the picture.
        pose_rad: SMPL pose, global orientation in the file's world.
        trans_m: SMPL translation in it.
        joints_world_m: jointPositions.
        rot: world to camera, every frame its own.
        shift_m: its translation.
        betas: the first 10.
        body_model: by gender.
    """

    valid: Bool[np.ndarray, " t"]
    pose_rad: Float[np.ndarray, "t 24 3"]
    trans_m: Float[np.ndarray, "t 3"]
    joints_world_m: Float[np.ndarray, "t 24 3"]
    rot: Float[np.ndarray, "t 3 3"]
    shift_m: Float[np.ndarray, "t 3"]
    betas: Float[np.ndarray, "10"]
    body_model: str

    def joints_cam_m(self) -> Float[np.ndarray, "t 24 3"]:
        """Joints in the camera of their frame."""
        return np.asarray(self.joints_world_m @ self.rot.transpose(0, 2, 1) + self.shift_m[:, None])


def rest_pelvis_m(actor: Actor, where: str) -> Float[np.ndarray, "3"]:
    """J0 of the actor's shaped body: what lies between SMPL's translation and the pelvis, the same in every frame.

    Raises:
        UserError: it cannot be that.
    """
    offset = (actor.joints_world_m[:, 0] - actor.trans_m)[actor.valid]
    rest: np.ndarray = np.median(offset, axis=0)
    jitter = float(np.abs(offset - rest).max())
    if np.linalg.norm(rest) > REST_PELVIS_M or jitter > PELVIS_JITTER_M:
        raise UserError(
            f"{where}: the pelvis is {np.linalg.norm(rest):.3g} m (changing by {jitter:.2g}) from trans; at most "
            f"{REST_PELVIS_M} m and always the same is needed"
        )
    return rest


def read_lens(content: Mapping[str, Any], path: Path) -> Lens:
    """The camera, and the pictures' size it is for.

    Raises:
        UserError: cam_intrinsics is no camera matrix.
    """
    matrix = numbers(entry(content, "cam_intrinsics", path), (3, 3), f"{path}: cam_intrinsics")
    fx, fy, cx, cy = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
    if min(fx, fy, cx, cy) <= 0 or not np.allclose(matrix[[0, 1, 2, 2, 2], [1, 0, 0, 1, 2]], [0, 0, 0, 0, 1]):
        raise UserError(f"{path}: cam_intrinsics is {matrix.tolist()}; [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] is needed")
    size = LANDSCAPE_PX if cx > cy else (LANDSCAPE_PX[1], LANDSCAPE_PX[0])
    return Lens(intrinsics_px=np.array([fx, fy, cx, cy]), size_px=size)


def count_people(content: Mapping[str, Any], path: Path) -> int:
    """One or two.

    Raises:
        UserError: neither.
    """
    people = entry(content, "poses", path)
    if not isinstance(people, Sequence) or not 1 <= len(people) <= 2:
        raise UserError(f"{path}: poses is a {type(people).__name__}; a list of one or two people is needed")
    return len(people)


def read_actor(content: Mapping[str, Any], number: int, path: Path) -> Actor:
    """One person. Frames without a camera pose may hold anything; they become zeros.

    Raises:
        UserError: something is missing, of the wrong size or kind, or not finite.
    """

    def of_actor(name: str) -> Any:
        people = entry(content, name, path)
        if not isinstance(people, Sequence | np.ndarray) or len(people) <= number:
            raise UserError(f"{path}: {name} has nothing for person {number}")
        return people[number]

    def array(value: Any, shape: tuple[int | None, ...], name: str) -> Float[np.ndarray, "..."]:
        where = f"{path}: {name} of person {number}"
        there = to_array(value, where)
        if there.ndim == len(shape) and shape[0] is None and len(there) == len(valid) and there.dtype.kind == "f":
            there = np.where(valid.reshape(-1, *[1] * (there.ndim - 1)), there, 0)  # what is not used may be NaN
        checked = numbers(there, shape, where)
        if shape[0] is None and len(checked) != len(valid):
            raise UserError(f"{where}: has {len(checked)} frames, campose_valid has {len(valid)}")
        return checked

    flags = to_array(of_actor("campose_valid"), f"{path}: campose_valid of person {number}")
    if flags.ndim != 1 or flags.dtype.kind not in "biuf" or len(flags) == 0:
        raise UserError(f"{path}: campose_valid of person {number} is {flags.dtype} {flags.shape}; a flag a frame")
    valid = flags.astype(bool)
    where = f"{path}: betas of person {number}"
    betas = numbers(np.ravel(to_array(of_actor("betas"), where)), (None,), where)
    if len(betas) < SHAPES_USED:
        raise UserError(f"{path}: person {number} has {len(betas)} betas; 10 or 300 are needed")
    gender = str(of_actor("genders"))
    if gender not in BODY_MODELS:
        raise UserError(f"{path}: gender of person {number} is {gender!r}; 'm' and 'f' are allowed")
    poses = array(of_actor("poses"), (None, 72), "poses")
    joints = array(of_actor("jointPositions"), (None, 72), "jointPositions")
    cameras = array(entry(content, "cam_poses", path), (None, 4, 4), "cam_poses")
    rot = np.where(valid[:, None, None], cameras[:, :3, :3], np.eye(3))
    _check_rotations(rot, path)
    return Actor(
        valid=valid,
        pose_rad=poses.reshape(-1, 24, 3),
        trans_m=array(of_actor("trans"), (None, 3), "trans"),
        joints_world_m=joints.reshape(-1, 24, 3),
        rot=rot,
        shift_m=cameras[:, :3, 3],
        betas=betas[:SHAPES_USED],
        body_model=BODY_MODELS[gender],
    )


def _check_rotations(rot: Float[np.ndarray, "t 3 3"], path: Path) -> None:
    skew = np.abs(rot @ rot.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    bad = (skew > 1e-3) | (np.linalg.det(rot) < 0)
    if bad.any():
        raise UserError(f"{path}: cam_poses of frame {int(bad.argmax())} and {int(bad.sum()) - 1} more is no rotation")
