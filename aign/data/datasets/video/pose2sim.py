"""Qualisys calibrations, as Pose2Sim's demo carries them (Calib.qca.txt)."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch

from aign.framework.errors import UserError
from aign.geometry.camera import CalibratedCamera, Pinhole, Rigid

_UNITS_PER_PX = 64.0
_MAX_ASPECT_CHANGE = 0.05


def read_qca(path: Path) -> tuple[CalibratedCamera, ...]:
    """Read a Qualisys calibration (XML).

    Convention: the file gives intrinsics in 1/64 px, the camera's axes as columns of r11..r33 in a camera that looks
    along -z with y up, and its centre in mm; here x_cam = R x_world + t, +y down, +z forward, metres, pixels.
    Its tangential terms are Brown's, whose cross terms `aign.geometry.camera.distort` halves: under 0.3 px on a
    person in the middle of these images.

    Raises:
        UserError: not such a file, a value is missing, or a rotation is none.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise UserError(f"cannot read calibration {path}: {error.strerror}") from error
    except ElementTree.ParseError as error:
        raise UserError(f"{path} is no XML ({error}); allowed: a Qualisys calibration (.qca.txt)") from error
    cameras = tuple(_camera(node, path) for node in root.iter("camera"))
    if not cameras:
        raise UserError(f"{path} has no <camera>; allowed: a Qualisys calibration (.qca.txt)")
    return cameras


def _camera(node: ElementTree.Element, path: Path) -> CalibratedCamera:
    name = node.get("serial", "?")

    def numbers(tag: str, *keys: str) -> list[float]:
        child = node.find(tag)
        try:
            values = [float(child.attrib[key]) for key in keys] if child is not None else None
        except (KeyError, ValueError) as error:
            raise UserError(f"{path}: camera {name} has a bad or missing value in <{tag}>: {error}") from error
        if values is None or not np.isfinite(values).all():
            raise UserError(f"{path}: camera {name} has no finite <{tag}>")
        return values

    lens = numbers("intrinsic", "focalLengthU", "focalLengthV", "centerPointU", "centerPointV")
    bend = numbers(
        "intrinsic", *(f"radialDistortion{i}" for i in (1, 2, 3)), *(f"tangentalDistortion{i}" for i in (1, 2))
    )
    axes = np.array(numbers("transform", *(f"r{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)))).reshape(3, 3)
    if np.abs(axes @ axes.T - np.eye(3)).max() > 1e-3 or np.linalg.det(axes) < 0:
        raise UserError(f"{path}: r11..r33 of camera {name} is not a rotation")
    centre_m = np.array(numbers("transform", "x", "y", "z")) / 1000
    left, right, top, bottom = numbers("fov_video", "left", "right", "top", "bottom")
    rot = np.diag([1.0, -1.0, -1.0]) @ axes
    return CalibratedCamera(
        name=name,
        pinhole=Pinhole.of(
            torch.tensor(lens, dtype=torch.float32) / _UNITS_PER_PX, torch.tensor(bend, dtype=torch.float32)
        ),
        world_to_cam=Rigid(
            rot=torch.tensor(rot, dtype=torch.float32), trans_m=torch.tensor(-rot @ centre_m, dtype=torch.float32)
        ),
        image_size_px=(round(right - left) + 1, round(bottom - top) + 1),
    )


def fit_to_frames(camera: CalibratedCamera, width_px: int, height_px: int) -> CalibratedCamera:
    """The camera for a video that was re-encoded at another size.

    The image is taken to be scaled as a whole and centred between black bars. That is what happened to cam01 and
    cam02 of Pose2Sim's demo: calibrated at 1088 x 1920, stored as 1080 x 1920 with 7 black rows above and below.

    Raises:
        UserError: the shape of the frames differs by more than 5 % (say, portrait against landscape).
    """
    width, height = camera.image_size_px
    if abs(width_px / height_px * height / width - 1) > _MAX_ASPECT_CHANGE:
        raise UserError(
            f"camera {camera.name} is calibrated for {width} x {height} px but its video has "
            f"{width_px} x {height_px}; allowed: the same shape within {_MAX_ASPECT_CHANGE:.0%}"
        )
    scale = min(width_px / width, height_px / height)
    bars = torch.tensor([(width_px - scale * width) / 2, (height_px - scale * height) / 2])
    lens = camera.pinhole
    # Pixel centres are whole numbers, so the image starts at -0.5.
    moved = Pinhole(
        focal_px=lens.focal_px * scale,
        centre_px=(lens.centre_px + 0.5) * scale - 0.5 + bars,
        distortion=lens.distortion,
    )
    return replace(camera, pinhole=moved, image_size_px=(width_px, height_px))


def stacked(cameras: tuple[CalibratedCamera, ...]) -> tuple[Pinhole, Rigid]:
    """All cameras as one batch [c]."""
    lenses = [camera.pinhole for camera in cameras]
    poses = [camera.world_to_cam for camera in cameras]
    return (
        Pinhole(
            focal_px=torch.stack([lens.focal_px for lens in lenses]),
            centre_px=torch.stack([lens.centre_px for lens in lenses]),
            distortion=torch.stack([lens.distortion for lens in lenses]),
        ),
        Rigid(rot=torch.stack([p.rot for p in poses]), trans_m=torch.stack([p.trans_m for p in poses])),
    )
