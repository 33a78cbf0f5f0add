"""What the store holds, as data: one literal entry per table and column.

Arrow schemas, writing, reading and validation all derive from `TABLES`; a new modality (masks, flow, faces) is one more
literal entry. A row is one clip of consecutive frames of one sequence; a column holds one item per frame or per clip.
Units and frames of reference stand in the column names.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

SCHEMA_VERSION = 2

# The smallest and largest side of the box round a body, in metres: a crouching child to a jump with raised arms.
BODY_EXTENT_M = (0.2, 4.0)
ROTATION_TOLERANCE = 1e-3
MAX_ANGLE_RAD = 4 * math.pi

Check = Callable[[np.ndarray, np.ndarray | None], tuple[int, str] | None]
"""(values of one column, its validity column) -> None, or the index of the first bad item and what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class ClipKey:
    """The key columns of every table: which recorded motion a row is, seen by which camera.

    Args:
        sequence: unique id of the recorded motion, for example "S1/Walking 1"; all cameras of one motion share it.
        subject: who moves.
        action: canonical action name without the trial number.
        camera: camera name; empty in tables that no camera took part in.
        source: the file or asset the clip came from, named in errors.
        frame_start: first frame of the clip in its sequence.
        num_frames: consecutive frames in the clip.
        fps: frames per second.
    """

    sequence: str
    subject: str
    action: str
    camera: str
    source: str
    frame_start: int
    num_frames: int
    fps: float


KEY_TYPES: Mapping[str, str] = {
    "sequence": "string",
    "subject": "string",
    "action": "string",
    "camera": "string",
    "source": "string",
    "frame_start": "int32",
    "num_frames": "int32",
    "fps": "float32",
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: what an item is and what must hold for it.

    Args:
        per: one item per "frame" or one per "clip".
        shape: of one item. "J" is the joint count of the store's skeleton; a leading "*" is any count of at least one
            that may differ from clip to clip (per="clip" only).
        dtype: "bool" is stored as uint8; "binary" and "string" have no shape.
        checks: beside finiteness, which every float column must have.
        unknown: whether NaN may stand for a number that nobody knows.
        valid_by: the bool column that says which of the values count; `checks` wait until it is there too.
    """

    per: Literal["frame", "clip"]
    dtype: Literal["float32", "int32", "bool", "binary", "string"]
    shape: tuple[int | Literal["J", "*"], ...] = ()
    checks: tuple[Check, ...] = ()
    valid_by: str | None = None
    unknown: bool = False

    @property
    def number_checks(self) -> tuple[Check, ...]:
        """What must hold for the numbers themselves."""
        if self.dtype != "float32":
            return ()
        return (finite_or_unknown if self.unknown else finite,)

    @property
    def ragged(self) -> bool:
        """Whether clips may hold different counts of items."""
        return "*" in self.shape

    @property
    def numeric(self) -> bool:
        """Whether items are numbers, so that they can become tensors."""
        return self.dtype not in ("binary", "string")

    def item_shape(self, num_joints: int) -> tuple[int, ...]:
        """Shape of one item (of one of the counted items where `ragged`)."""
        return tuple(num_joints if n == "J" else int(n) for n in self.shape if n != "*")

    def item_size(self, num_joints: int) -> int:
        """Numbers in one item."""
        return math.prod(self.item_shape(num_joints))


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table: its columns beside the key columns, and whether a camera took part in it."""

    columns: Mapping[str, Column]
    has_camera: bool = True


def _first(bad: np.ndarray) -> int:
    return int(np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))[0])


def finite(values: np.ndarray, _: np.ndarray | None) -> tuple[int, str] | None:
    """Refuse NaN and infinity."""
    if np.isfinite(values).all():
        return None
    index = _first(~np.isfinite(values))
    return index, f"got {int((~np.isfinite(values[index])).sum())} NaN or infinite values; only finite ones are allowed"


def finite_or_unknown(values: np.ndarray, _: np.ndarray | None) -> tuple[int, str] | None:
    """Refuse infinity; NaN stands for a number that nobody knows."""
    if not np.isinf(values).any():
        return None
    return _first(np.isinf(values)), "got infinity; allowed are finite numbers, and NaN for what is unknown"


def unit_interval(values: np.ndarray, _: np.ndarray | None) -> tuple[int, str] | None:
    """Refuse confidences outside 0..1."""
    bad = (values < 0) | (values > 1)
    if not bad.any():
        return None
    index = _first(bad)
    return index, f"got confidences from {values[index].min():g} to {values[index].max():g}; allowed is 0..1"


def body_metres(values: np.ndarray, valid: np.ndarray | None) -> tuple[int, str] | None:
    """Refuse joints [n, J, 3] whose box is no body's in metres; joints that `valid` [n, J] marks False do not count."""
    if valid is None:
        extent, judged = np.ptp(values, axis=1).max(axis=1), np.ones(len(values), bool)
    else:
        low = np.where(valid[..., None], values, np.inf).min(axis=1)
        high = np.where(valid[..., None], values, -np.inf).max(axis=1)
        # Half a body may be small, so frames with fewer valid joints than that are not judged.
        extent, judged = (high - low).max(axis=1), 2 * valid.sum(axis=1) >= valid.shape[1]
    low_m, high_m = BODY_EXTENT_M
    bad = judged & ~((extent >= low_m) & (extent <= high_m))
    if not bad.any():
        return None
    index = _first(bad)
    hint = " (this looks like millimetres)" if 100 * low_m < extent[index] < 2000 * high_m else ""
    return index, f"got a body {extent[index]:.4g} m across{hint}; allowed is {low_m:g} to {high_m:g} m"


def rotations(values: np.ndarray, _: np.ndarray | None) -> tuple[int, str] | None:
    """Refuse row-major [n, 9] matrices that are no proper rotations."""
    m = values.reshape(-1, 3, 3).astype(np.float64)
    skew = np.abs(m @ m.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    bad = (skew > ROTATION_TOLERANCE) | (np.linalg.det(m) < 0)
    if not bad.any():
        return None
    index = _first(bad)
    return index, f"got a matrix with determinant {np.linalg.det(m[index]):.3g}; allowed are proper rotations"


def positive(values: np.ndarray, _: np.ndarray | None) -> tuple[int, str] | None:
    """Refuse sizes of zero or less."""
    if (values > 0).all():
        return None
    index = _first(values <= 0)
    return index, f"got {values[index].tolist()}; allowed are positive sizes"


def positive_focal(values: np.ndarray, _: np.ndarray | None) -> tuple[int, str] | None:
    """Refuse intrinsics [n, 4] (fx, fy, cx, cy) with a focal length of zero or less."""
    if (values[:, :2] > 0).all():
        return None
    index = _first(values[:, :2] <= 0)
    return index, f"got fx, fy = {values[index, :2].tolist()}; allowed are positive focal lengths"


def intrinsics_origin(values: np.ndarray, _: np.ndarray | None) -> tuple[int, str] | None:
    """Refuse anything but "calibration" (measured) or "assumed" (guessed from the image size)."""
    bad = ~np.isin(values, ("calibration", "assumed"))
    if not bad.any():
        return None
    index = _first(bad)
    return index, f"got {str(values[index])!r}; allowed are 'calibration' and 'assumed'"


def _starting_with(magic: bytes, what: str) -> Check:
    def check(values: np.ndarray, _: np.ndarray | None) -> tuple[int, str] | None:
        for index, data in enumerate(values):
            if not data.startswith(magic):
                start = data[:4].hex() or "nothing"
                return index, f"got {len(data)} bytes that start with {start}; allowed are {what} files"
        return None

    check.__name__ = what
    return check


jpeg = _starting_with(b"\xff\xd8\xff", "JPEG")
png = _starting_with(b"\x89PNG\r\n\x1a\n", "PNG")


def ordered_box(values: np.ndarray, _: np.ndarray | None) -> tuple[int, str] | None:
    """Refuse boxes [n, 4] (x0, y0, x1, y1) that enclose nothing."""
    bad: np.ndarray = np.any(values[:, 2:] <= values[:, :2], axis=1)
    if not bad.any():
        return None
    index = _first(bad)
    return index, f"got {values[index].tolist()}; allowed are x0 < x1, y0 < y1"


def rotation_vectors(values: np.ndarray, _: np.ndarray | None) -> tuple[int, str] | None:
    """Refuse axis-angle vectors [n, J, 3] longer than two turns: they are degrees, or no rotations."""
    angle: np.ndarray = np.sqrt((values**2).sum(axis=-1))
    bad = angle > MAX_ANGLE_RAD
    if not bad.any():
        return None
    index = _first(bad)
    return (
        index,
        f"got a turn of {angle[index].max():.4g} rad; allowed is up to {MAX_ANGLE_RAD:.4g} (are these degrees?)",
    )


def part_boxes(values: np.ndarray, valid: np.ndarray | None) -> tuple[int, str] | None:
    """Refuse boxes [n, 3, 4] that enclose nothing; boxes that `valid` [n, 3] marks False do not count."""
    bad = np.any(values[..., 2:] <= values[..., :2], axis=-1)
    bad &= True if valid is None else valid
    if not bad.any():
        return None
    index = _first(bad)
    return index, f"got {values[index].tolist()}; allowed are x0 < x1, y0 < y1"


def _image_size() -> Column:
    return Column(per="clip", shape=(2,), dtype="int32", checks=(positive,))


def _per_frame_bytes(*checks: Check) -> Column:
    return Column(per="frame", dtype="binary", checks=checks)


def _figure() -> Column:
    return Column(per="clip", shape=(), dtype="float32")


TABLES: Mapping[str, Table] = {
    "frames": Table(
        columns={
            "image_jpeg": _per_frame_bytes(jpeg),
            "time_s": Column(per="frame", dtype="float32"),
            "frame_size_px": _image_size(),  # w, h of the stored pictures
            "image_size_px": _image_size(),  # w, h of the video they were cut from: what *_px columns refer to
            # The part of the video's picture that the stored ones show: edges, the top-left corner at (-0.5, -0.5).
            "crop_xyxy_px": Column(per="clip", shape=(4,), dtype="float32", checks=(ordered_box,)),
            "frame_intrinsics_px": Column(per="clip", shape=(4,), dtype="float32", checks=(positive_focal,)),
        }
    ),
    "keypoints": Table(
        columns={
            "kp2d_px": Column(per="frame", shape=("J", 2), dtype="float32"),
            "kp2d_conf": Column(per="frame", shape=("J",), dtype="float32", checks=(unit_interval,)),
            "intrinsics_px": Column(per="clip", shape=(4,), dtype="float32", checks=(positive_focal,)),  # fx fy cx cy
            "distortion": Column(per="clip", shape=(5,), dtype="float32"),  # k1 k2 k3 p1 p2, Human3.6M's own model
            "image_size_px": _image_size(),  # w, h
            "intrinsics_source": Column(per="clip", dtype="string", checks=(intrinsics_origin,)),
        }
    ),
    "labels": Table(
        columns={
            "joints_cam_m": Column(
                per="frame", shape=("J", 3), dtype="float32", checks=(body_metres,), valid_by="joints_valid"
            ),
            "joints_valid": Column(per="frame", shape=("J",), dtype="bool"),
            "rot_world_to_cam": Column(per="clip", shape=(9,), dtype="float32", checks=(rotations,)),  # row-major
            "trans_world_to_cam_m": Column(per="clip", shape=(3,), dtype="float32"),
        }
    ),
    "memory_pose": Table(
        has_camera=False,
        columns={
            "joints_world_m": Column(per="frame", shape=("J", 3), dtype="float32", checks=(body_metres,)),
            # Cameras that may watch such a world, unpaired with any picture of it.
            "rig_rot_world_to_cam": Column(per="clip", shape=("*", 9), dtype="float32", checks=(rotations,)),
        },
    ),
    # Byte columns are made and read by aign.data.pixels; all are in the pixels of the stored pictures.
    "masks": Table(columns={"mask_png": _per_frame_bytes(png)}),  # 1 bit: the person
    "parts": Table(columns={"parts_png": _per_frame_bytes(png)}),  # 8 bit: 0 background, 1..24 SMPL's parts
    "flow": Table(columns={"flow_zst": _per_frame_bytes()}),  # frame t to t + 1
    "flow_back": Table(columns={"flow_back_zst": _per_frame_bytes()}),  # frame t to t - 1
    "depth": Table(columns={"depth_zst": _per_frame_bytes()}),  # millimetres along the optical axis
    "body": Table(
        columns={
            "body_pose_rad": Column(per="frame", shape=(24, 3), dtype="float32", checks=(rotation_vectors,)),
            "betas": Column(per="frame", shape=(10,), dtype="float32"),
            "body_trans_cam_m": Column(per="frame", shape=(3,), dtype="float32"),
            "body_model": Column(per="clip", dtype="string"),
        }
    ),
    "visibility": Table(columns={"visible_bits": _per_frame_bytes()}),  # one bit a vertex
    "quality": Table(
        columns={
            "keypoint_conf": _figure(),
            "mask_agreement": _figure(),
            "flow_consistency": _figure(),
            "sharpness": _figure(),
            "passed": Column(per="clip", dtype="bool"),
            "reasons": Column(per="clip", dtype="string"),
        }
    ),
    # One row is one picture.
    "faces": Table(
        columns={
            "face_jpeg": _per_frame_bytes(jpeg),
            "face_size_px": _image_size(),
            "landmarks_px": Column(per="clip", shape=(5, 2), dtype="float32"),
            "landmarks_valid": Column(per="clip", dtype="bool"),
            # Yes and no are +1 and -1; numbers such as the age in years stand as they are.
            "attributes": Column(per="clip", shape=("*",), dtype="float32", unknown=True),
            "attribute_names": Column(per="clip", dtype="string"),
            "identity": Column(per="clip", dtype="int32"),
            "partition": Column(per="clip", dtype="string"),
        }
    ),
    # The pictures of `faces`: where mouth, nose and eyes are, in the picture's pixels.
    "face_parts": Table(
        columns={
            "parts_png": _per_frame_bytes(png),  # 8 bit: 0 nothing, 1 lips, 2 nose, 3 eyes
            "boxes_px": Column(
                per="clip", shape=(3, 4), dtype="float32", checks=(part_boxes,), valid_by="boxes_valid"
            ),  # mouth, nose, eyes: edges x0, y0, x1, y1
            "boxes_valid": Column(per="clip", shape=(3,), dtype="bool"),
        }
    ),
}
