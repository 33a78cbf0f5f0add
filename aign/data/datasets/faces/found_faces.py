"""What a landmark net adds to pictures of faces: FACE5, mouth, nose and eyes, and pictures in the canonical frame."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from aign.data import assets
from aign.data.datasets.job import Made, stage
from aign.data.face_frame import part_boxes
from aign.data.pixels import decode_jpeg, encode_jpeg, encode_parts
from aign.data.stages.faces import aligned, find_face
from aign.data.store import Stage
from aign.framework.errors import UserError

LANDMARKS, ALIGNED = "landmarks", "aligned"
STAGES = (LANDMARKS, ALIGNED)
DEFAULT_SIDE_PX = 128
SIDES_PX = (32, 512)


def check_stages(stages: tuple[str, ...], side_px: int | None) -> None:
    """Refuse what is no stage of pictures.

    Raises:
        UserError: an unknown stage, or a side without the stage that needs one.
    """
    unknown = [name for name in stages if name not in STAGES]
    if unknown:
        raise UserError(f"got stages {list(stages)}; of pictures {' and '.join(STAGES)} are allowed")
    if side_px is not None and ALIGNED not in stages:
        raise UserError(f"--side-px is for pictures that are cut out; add --stages {ALIGNED}")
    if side_px is not None and not SIDES_PX[0] <= side_px <= SIDES_PX[1]:
        raise UserError(f"aligned faces of {side_px} px; {SIDES_PX[0]} to {SIDES_PX[1]} px are allowed")


def landmark_stage(stages: tuple[str, ...], side_px: int | None) -> Stage:
    """The stage that is hashed into the names of the parts."""
    nets = sorted(asset.sha256 for asset in assets.ASSETS if asset.group == "face")
    side = (side_px or DEFAULT_SIDE_PX) if ALIGNED in stages else 0
    return stage("face-landmarks", "1", nets=nets, aligned_side_px=side)


def with_parts(made: Made, stages: tuple[str, ...], side_px: int | None) -> Made:
    """The pictures in which a face is found, with landmarks and parts; the others are left out by number.

    Raises:
        UserError: no picture has a face, or the nets are not on this machine.
    """
    side = (side_px or DEFAULT_SIDE_PX) if ALIGNED in stages else None
    faces, parts, without = [], [], []
    for row in made.tables["faces"]:
        try:
            face, part = _looked_at(row, side)
        except UserError as error:
            without.append(f"picture {row['frame_start']} of {row['sequence']}: {error}")
            continue
        faces.append(face)
        parts.append(part)
    if not faces:
        raise UserError(f"none of {len(without)} pictures can be used: {without[0]}")
    return Made(tables={"faces": faces, "face_parts": parts}, left_out=(*made.left_out, *without))


def _looked_at(row: Mapping[str, Any], side_px: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """One row of both tables."""
    image, new = decode_jpeg(row["face_jpeg"][0]), dict(row)
    face = find_face(image)
    if side_px is not None:
        image, fit = aligned(image, face.landmarks_px, side_px)
        face = face.moved(fit)
        new |= {"face_jpeg": [encode_jpeg(image)], "face_size_px": np.array([side_px, side_px], np.int32)}
    new |= {"landmarks_px": face.landmarks_px, "landmarks_valid": True}
    labels = face.parts(image.shape[1], image.shape[0])
    boxes, valid = part_boxes(labels)
    key = {name: row[name] for name in row if name in _KEYS}
    return new, {**key, "parts_png": [encode_parts(labels)], "boxes_px": boxes, "boxes_valid": valid}


_KEYS = ("sequence", "subject", "action", "camera", "source", "frame_start", "num_frames", "fps")
