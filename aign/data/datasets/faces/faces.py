"""What the loaders of face pictures share: a picture with its labels becomes one row of the faces table."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from aign.data.datasets.job import PRODUCER, Made, stage
from aign.data.datasets.raw_files import sizes_sha256, some
from aign.data.pixels import JPEG_QUALITY, MAX_SIDE_PX, decode_jpeg, encode_jpeg
from aign.data.store import Provenance
from aign.framework.errors import UserError
from aign.geometry.skeleton import FACE5

PICTURES_PER_JOB = 4096
"""Bounds what a worker holds: at most this many encoded pictures."""
SUFFIXES = (".jpg", ".jpeg", ".png")
PARTITIONS = ("train", "val", "test")
ALL = "all"
LANDMARKS = tuple(
    f"{part}_{axis}" for part in ["lefteye", "righteye", "nose", "leftmouth", "rightmouth"] for axis in "xy"
)
"""CelebA's names; left is the picture's left (`FACE5`)."""
# A landmark may lie a little outside a tight crop; further out, it is of another picture.
_OUTSIDE = 0.25


@dataclass(frozen=True, kw_only=True)
class Face:
    """Labels of one picture.

    Attributes:
        file: the picture, relative to its folder.
        number: its place in the data set.
        attributes: +1 or -1, or a number; NaN: unknown.
        landmarks_px: FACE5 in the picture's own pixels; None: unknown.
        identity: whose face; -1: unknown.
    """

    file: str
    number: int
    attributes: Float[np.ndarray, " k"]
    landmarks_px: Float[np.ndarray, "5 2"] | None
    identity: int


@dataclass(frozen=True, kw_only=True)
class Faces:
    """Pictures of one partition, on their way into the store.

    Attributes:
        data_set: name of the whole.
        source: of the job.
        folder: where the pictures lie.
        partition: "train", "val", "test", or "all" where none is known.
        attribute_names: of the attributes, in order; no spaces in them.
        faces: the pictures.
    """

    data_set: str
    source: str
    folder: Path
    partition: str
    attribute_names: tuple[str, ...]
    faces: Sequence[Face]


def pictures_in(folder: Path, inner: bool = False) -> dict[str, int]:
    """Size in bytes of every picture of a folder (with `inner`: and of the folders in it), by relative path."""
    found: dict[str, int] = {}
    for entry in os.scandir(folder):
        if entry.is_dir():
            found |= {f"{entry.name}/{k}": n for k, n in pictures_in(Path(entry.path), True).items()} if inner else {}
        elif entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith("."):
            found[entry.name] = entry.stat().st_size
    return found


def listing_hash(files: Sequence[str], sizes: Mapping[str, int]) -> str:
    """Sha256 of names and sizes: stands for pictures whose content would take minutes to hash."""
    return sizes_sha256((file, sizes.get(file, "missing")) for file in files)


def face_provenance(source_hashes: tuple[str, ...], layout: str, licence: str) -> Provenance:
    """Provenance of a job of faces."""
    return Provenance(
        source_hashes=source_hashes,
        stages=(stage("faces", "2", layout=layout, recoded_quality=JPEG_QUALITY),),
        skeleton=FACE5.name,
        num_joints=len(FACE5),
        licence=licence,
        producer=PRODUCER,
    )


def read_picture(path: Path) -> tuple[bytes, tuple[int, int]]:
    """A picture as JPEG, and its width and height.

    A JPEG with three channels that need not be turned upright keeps its bytes: nothing is lost to coding it again.

    Raises:
        UserError: no picture, or not a whole one.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path.name} cannot be read ({error.strerror})") from error
    if data.startswith(b"\xff\xd8") and _channels(data) == 3:
        try:
            image = decode_jpeg(data)
        except UserError as error:
            raise UserError(f"{path.name}: {error}") from error
        # Only a few cameras' pictures carry a turn; reading both ways tells without reading EXIF ourselves.
        if b"Exif\0\0" not in data[:65536] or np.array_equal(image, _decoded(data, path)):
            return data, (image.shape[1], image.shape[0])
    image = _decoded(data, path)
    return encode_jpeg(image), (image.shape[1], image.shape[0])


def _decoded(data: bytes, path: Path) -> UInt8[np.ndarray, "h w 3"]:
    cut_off = data.startswith(b"\x89PNG") and b"IEND" not in data[-64:]
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data and not cut_off else None
    except cv2.error:  # a header that promises more pixels than OpenCV reads
        bgr = None
    if bgr is None:
        raise UserError(f"{path.name} ({len(data)} bytes) is not a whole JPEG or PNG picture")
    if max(bgr.shape) > MAX_SIDE_PX:
        raise UserError(f"{path.name} has {bgr.shape[1]} x {bgr.shape[0]} px; at most {MAX_SIDE_PX} a side are allowed")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _channels(data: bytes) -> int:
    """Channels in a JPEG's frame header; 0 where it has none."""
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[at + 9]
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big") if marker != 0xFF else 1
    return 0


def make(part: Faces) -> Made:
    """The rows of a job; pictures that cannot be used are left out by name, and the rest is kept.

    Raises:
        UserError: no picture is left, or the landmarks are of other pictures.
    """
    rows, bad, absent, astray = [], [], [], []
    for face in part.faces:
        path = part.folder / face.file
        if not path.is_file():
            absent.append(face.file)
            continue
        try:
            data, size = read_picture(path)
        except UserError as error:
            bad.append(str(error))
            continue
        marks = face.landmarks_px
        if marks is not None and not _inside(marks, size):
            astray.append(face.file)
            marks = None
        rows.append({**_key(part, face), "face_jpeg": [data], **_labels(part, face, size, marks)})
    left_out = list(bad)
    if absent:
        left_out.append(f"{len(absent)} pictures are not there: {some(absent)}")
    if astray:
        left_out.append(f"landmarks of {len(astray)} pictures lie outside of them, so they are unknown: {some(astray)}")
    if not rows:
        raise UserError(f"{part.source}: none of {len(part.faces)} pictures can be used: {'; '.join(left_out[:3])}")
    if 2 * len(astray) > len(rows):
        raise UserError(
            f"{part.source}: landmarks of {len(astray)} of {len(rows)} pictures lie outside of them ({some(astray)}); "
            "are they of the pictures before these were cut out and aligned?"
        )
    return Made(tables={"faces": rows}, left_out=tuple(left_out))


def _inside(marks_px: Float[np.ndarray, "5 2"], size_px: tuple[int, int]) -> bool:
    share = marks_px / np.array(size_px)
    return bool(((share >= -_OUTSIDE) & (share <= 1 + _OUTSIDE)).all())


def _key(part: Faces, face: Face) -> dict[str, str | int | float]:
    return {
        "sequence": f"{part.data_set}/{part.partition}",
        "subject": part.data_set,
        "action": "face",
        "camera": "",
        "source": part.source,
        "frame_start": face.number,
        "num_frames": 1,
        "fps": 1.0,
    }


def _labels(
    part: Faces, face: Face, size_px: tuple[int, int], marks_px: Float[np.ndarray, "5 2"] | None
) -> dict[str, object]:
    return {
        "face_size_px": np.array(size_px, np.int32),
        "landmarks_px": np.zeros((5, 2), np.float32) if marks_px is None else marks_px.astype(np.float32),
        "landmarks_valid": marks_px is not None,
        "attributes": face.attributes.astype(np.float32),
        "attribute_names": " ".join(part.attribute_names),
        "identity": face.identity,
        "partition": part.partition,
    }
