"""What the files of MPI-INF-3DHP hold, checked, in metres and on Human3.6M's 17 joints (protocols 3.5 j)."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from jaxtyping import Bool, Float

from aign.data.datasets.raw_files import entry, numbers, read_mat
from aign.framework.errors import UserError
from aign.geometry.camera import CalibratedCamera, Pinhole, Rigid

TRAIN_JOINTS = (
    *("spine3", "spine4", "spine2", "spine", "pelvis", "neck", "head", "head_top"),
    *("l_clavicle", "l_shoulder", "l_elbow", "l_wrist", "l_hand", "r_clavicle", "r_shoulder", "r_elbow", "r_wrist"),
    *("r_hand", "l_hip", "l_knee", "l_ankle", "l_foot", "l_toe", "r_hip", "r_knee", "r_ankle", "r_foot", "r_toe"),
)
TEST_JOINTS = (
    *("head_top", "neck", "r_shoulder", "r_elbow", "r_wrist", "l_shoulder", "l_elbow", "l_wrist"),
    *("r_hip", "r_knee", "r_ankle", "l_hip", "l_knee", "l_ankle", "pelvis", "spine", "head"),
)
H36M_ORDER = (
    *("pelvis", "r_hip", "r_knee", "r_ankle", "l_hip", "l_knee", "l_ankle", "spine", "neck", "head", "head_top"),
    *("l_shoulder", "l_elbow", "l_wrist", "r_shoulder", "r_elbow", "r_wrist"),
)
"""The joints that stand for Human3.6M's 17, right leg first; neck for its thorax, and head for its nose, as everyone
who reports numbers on this data set has it (the two are some centimetres apart)."""
TRAIN_TO_H36M = tuple(TRAIN_JOINTS.index(name) for name in H36M_ORDER)
TEST_TO_H36M = tuple(TEST_JOINTS.index(name) for name in H36M_ORDER)
CAMERAS_IN_FILE = 14
TRAIN_OFF_PX = 2.0
"""Median distance allowed between annot2 and annot3 under the calibration: univ_annot3 is tens of pixels off."""
TEST_OFF_PX = 5.0
"""As above for the test set, whose outdoor lens bends a little."""
M_PER_MM = 1e-3
Y_UP_TO_Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


@dataclass(frozen=True, kw_only=True)
class Labels:
    """One camera's labels.

    Attributes:
        joints_cam_m: annot3.
        joints_px: annot2.
        valid: frames that count.
    """

    joints_cam_m: Float[np.ndarray, "t 17 3"]
    joints_px: Float[np.ndarray, "t 17 2"]
    valid: Bool[np.ndarray, " t"]


def read_train(path: Path, camera: int) -> Labels:
    """One camera of a training annot.mat (MATLAB version 5, a cell a camera).

    Raises:
        UserError: damaged, or something is missing or of the wrong size or kind.
    """
    content = read_mat(path, ("annot2", "annot3"))

    def cell(name: str, width: int) -> Float[np.ndarray, "t w"]:
        cells = np.asarray(entry(content, name, path))
        if cells.dtype != object or cells.size != CAMERAS_IN_FILE:
            raise UserError(f"{path}: {name} is {cells.dtype} {cells.shape}; a cell (14, 1), one a camera, is needed")
        return numbers(cells.reshape(-1)[camera], (None, width), f"{path}: {name} of camera {camera}")

    px, mm = cell("annot2", 2 * len(TRAIN_JOINTS)), cell("annot3", 3 * len(TRAIN_JOINTS))
    if len(px) != len(mm):
        raise UserError(f"{path}: camera {camera} has {len(px)} frames in annot2 and {len(mm)} in annot3")
    order = list(TRAIN_TO_H36M)
    return Labels(
        joints_cam_m=mm.reshape(len(mm), -1, 3)[:, order] * M_PER_MM,
        joints_px=px.reshape(len(px), -1, 2)[:, order],
        valid=np.ones(len(px), bool),
    )


def read_test(path: Path) -> Labels:
    """A test annot_data.mat (HDF5).

    Raises:
        UserError: as `read_train`.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    content = {}
    try:
        with h5py.File(path, "r") as file:
            for name in ("annot2", "annot3", "valid_frame"):
                if isinstance(file.get(name), h5py.Dataset):
                    content[name] = np.asarray(file[name])
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a whole HDF5 file ({type(error).__name__}: {error})") from error
    joints = len(TEST_JOINTS)
    px = numbers(entry(content, "annot2", path), (None, 1, joints, 2), f"{path}: annot2")[:, 0]
    mm = numbers(entry(content, "annot3", path), (None, 1, joints, 3), f"{path}: annot3")[:, 0]
    valid = numbers(np.ravel(entry(content, "valid_frame", path)), (None,), f"{path}: valid_frame") > 0
    if not len(px) == len(mm) == len(valid):
        raise UserError(f"{path}: {len(px)} frames in annot2, {len(mm)} in annot3, {len(valid)} in valid_frame")
    order = list(TEST_TO_H36M)
    return Labels(joints_cam_m=mm[:, order] * M_PER_MM, joints_px=px[:, order], valid=valid)


def read_calibration(path: Path) -> dict[int, CalibratedCamera]:
    """camera.calibration: a header line, then a block a camera; millimetres, a world with y up.

    Convention: x_cam = R x_world + t as in the file, in metres and a world with z up.

    Raises:
        UserError: not there, no such file, or numbers that are no camera.
    """
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    blocks: list[dict[str, list[str]]] = []
    for line in lines[1:]:
        words = line.split()
        if words and words[0] == "name":
            blocks.append({})
        if words and blocks:
            blocks[-1][words[0]] = words[1:]
    if not blocks:
        raise UserError(f"{path}: no camera in it; lines name, sensor, size, animated, intrinsic, extrinsic are needed")
    cameras = [_camera(block, path) for block in blocks]
    return {int(camera.name): camera for camera in cameras}


def _camera(block: dict[str, list[str]], path: Path) -> CalibratedCamera:
    def values(key: str, count: int) -> Float[np.ndarray, " n"]:
        where = f"{path}: {key} of camera {' '.join(block['name'])}"
        try:
            return numbers([float(word) for word in block.get(key, [])], (count,), where)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error

    name, (width, height) = values("name", 1)[0], values("size", 2)
    lens, pose = values("intrinsic", 16).reshape(4, 4), values("extrinsic", 16).reshape(4, 4)
    rot = pose[:3, :3]
    if np.abs(rot @ rot.T - np.eye(3)).max() > 1e-3 or np.linalg.det(rot) < 0:
        raise UserError(f"{path}: extrinsic of camera {name:.0f} has determinant {np.linalg.det(rot):.3g}; 1 is needed")
    if min(lens[0, 0], lens[1, 1], width, height) <= 0:
        raise UserError(f"{path}: intrinsic or size of camera {name:.0f} is not positive")
    return CalibratedCamera(
        name=f"{name:.0f}",
        pinhole=Pinhole.of(torch.tensor([lens[0, 0], lens[1, 1], lens[0, 2], lens[1, 2]], dtype=torch.float64)),
        world_to_cam=Rigid(
            rot=torch.from_numpy(rot @ Y_UP_TO_Z_UP.T), trans_m=torch.from_numpy(pose[:3, 3] * M_PER_MM)
        ),
        image_size_px=(int(width), int(height)),
    )


@dataclass(frozen=True, kw_only=True)
class Stand:
    """Where a camera of the test set stood, as its calibration file says: millimetres, y up."""

    origin_mm: tuple[float, float, float]
    up: tuple[float, float, float]
    right: tuple[float, float, float]
    image_size_px: tuple[int, int]


_INDOORS = Stand(
    origin_mm=(3427.28, 1387.86, 309.42),
    up=(-0.208215, 0.976233, 0.06014),
    right=(0.000575281, 0.0616098, -0.9981),
    image_size_px=(2048, 2048),
)
_OUTDOORS = Stand(
    origin_mm=(-2104.3074, 1038.6707, -4596.6367),
    up=(0.025272345, 0.995038509, 0.096227370),
    right=(-0.939647257, -0.009210289, 0.342020929),
    image_size_px=(1920, 1080),
)
TEST_STANDS = {name: _OUTDOORS if name in ("TS5", "TS6") else _INDOORS for name in (f"TS{n}" for n in range(1, 7))}


def fitted_camera(labels: Labels, stand: Stand, path: Path) -> CalibratedCamera:
    """The test set's camera: intrinsics that take annot3 to annot2 (its .mat has none), pose by its calibration.

    Raises:
        UserError: no pinhole camera takes one to the other.
    """
    joints, px = labels.joints_cam_m[labels.valid].reshape(-1, 3), labels.joints_px[labels.valid].reshape(-1, 2)
    lens = []
    for axis in (0, 1):
        ray = joints[:, axis] / np.where(joints[:, 2] > 0, joints[:, 2], np.inf)
        (focal, centre), *_ = np.linalg.lstsq(np.stack((ray, np.ones_like(ray)), axis=-1), px[:, axis], rcond=None)
        lens.append((float(focal), float(centre)))
    (fx, cx), (fy, cy) = lens
    width, height = stand.image_size_px
    if not (min(fx, fy) > 0.3 * width and 0.2 < cx / width < 0.8 and 0.2 < cy / height < 0.8):
        raise UserError(
            f"{path}: annot2 is not a picture of annot3 (focal {fx:.0f}, {fy:.0f}, centre {cx:.0f}, {cy:.0f})"
        )
    axes = np.stack((stand.right, -np.array(stand.up), np.cross(stand.up, stand.right)))
    left, _, right = np.linalg.svd(axes)  # its decimals leave it a rotation to 1e-4
    rot = left @ right
    camera = CalibratedCamera(
        name="test",
        pinhole=Pinhole.of(torch.tensor([fx, fy, cx, cy], dtype=torch.float64)),
        world_to_cam=Rigid(
            rot=torch.from_numpy(rot @ Y_UP_TO_Z_UP.T),
            trans_m=torch.from_numpy(-rot @ np.array(stand.origin_mm) * M_PER_MM),
        ),
        image_size_px=stand.image_size_px,
    )
    check_pixels(labels, camera, TEST_OFF_PX, path)
    return camera


def check_pixels(labels: Labels, camera: CalibratedCamera, allowed_px: float, path: Path) -> None:
    """Refuse labels whose annot2 is not the projection of annot3.

    Raises:
        UserError: saying how far off.
    """
    joints = labels.joints_cam_m[labels.valid]
    focal, centre = camera.pinhole.focal_px.numpy(), camera.pinhole.centre_px.numpy()
    px = joints[..., :2] / np.maximum(joints[..., 2:], 1e-3) * focal + centre
    off = float(np.median(np.linalg.norm(px - labels.joints_px[labels.valid], axis=-1)))
    if off > allowed_px:
        raise UserError(
            f"{path}: annot2 is {off:.3g} px from the projection of annot3 (median); allowed is {allowed_px:g} "
            "(univ_annot3, rescaled bodies, does not fit)"
        )
