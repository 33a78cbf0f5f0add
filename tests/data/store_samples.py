"""Random but bodily clips for the store's tests."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from aign.data.schema import TABLES
from aign.data.store import Manifest, Provenance, Stage, commit, write_part

J = 17
CAMERAS = ("54138969", "55011271")


def provenance(source: str = "s1", **params: Any) -> Provenance:
    return Provenance(
        source_hashes=(source,),
        stages=(Stage(name="project", version="1", params={"noise_px": 1.0, **params}),),
        skeleton="h36m_17",
        num_joints=J,
        licence="CC0-1.0",
        producer="test",
    )


def rotation(rng: np.random.Generator) -> np.ndarray:
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return np.asarray(q * np.sign(np.linalg.det(q))).reshape(9)


def key(sequence: str, camera: str, frames: int, start: int = 0) -> dict[str, Any]:
    subject, action = sequence.split("/")
    return {
        "sequence": sequence,
        "subject": subject,
        "action": action.split()[0],
        "camera": camera,
        "source": f"{sequence}.npz",
        "frame_start": start,
        "num_frames": frames,
        "fps": 50.0,
    }


def pose(rng: np.random.Generator, frames: int) -> np.ndarray:
    body = rng.uniform(-0.8, 0.8, size=(J, 3))
    return (body + 0.02 * rng.normal(size=(frames, J, 3))).astype(np.float32)


def keypoints(rng: np.random.Generator, sequence: str, camera: str, frames: int, start: int = 0) -> dict[str, Any]:
    return key(sequence, camera, frames, start) | {
        "kp2d_px": rng.uniform(0, 1000, size=(frames, J, 2)).astype(np.float32),
        "kp2d_conf": rng.uniform(0, 1, size=(frames, J)).astype(np.float32),
        "intrinsics_px": rng.uniform(400, 1200, size=4).astype(np.float32),
        "distortion": rng.normal(size=5).astype(np.float32),
        "image_size_px": np.array([1000, 1002], np.int32),
        "intrinsics_source": "calibration",
    }


def labels(rng: np.random.Generator, sequence: str, camera: str, frames: int, start: int = 0) -> dict[str, Any]:
    return key(sequence, camera, frames, start) | {
        "joints_cam_m": pose(rng, frames) + np.array([0, 0, 5], np.float32),
        "joints_valid": rng.random((frames, J)) < 0.95,
        "rot_world_to_cam": rotation(rng),
        "trans_world_to_cam_m": rng.normal(size=3),
    }


def memory_pose(rng: np.random.Generator, sequence: str, frames: int, rigs: int = 4) -> dict[str, Any]:
    return key(sequence, "", frames) | {
        "joints_world_m": pose(rng, frames),
        "rig_rot_world_to_cam": np.stack([rotation(rng) for _ in range(rigs)]),
    }


def pictures(rng: np.random.Generator, sequence: str, camera: str, frames: int) -> dict[str, Any]:
    return key(sequence, camera, frames) | {
        "image_jpeg": [b"\xff\xd8\xff" + rng.bytes(int(rng.integers(10, 90))) for _ in range(frames)],
        "time_s": np.arange(frames, dtype=np.float32) / 50,
        "frame_size_px": np.array([256, 256], np.int32),
        "image_size_px": np.array([1000, 1002], np.int32),
        "crop_xyxy_px": np.array([100, 200, 500, 600], np.float32),
        "frame_intrinsics_px": np.array([700, 700, 120, 130], np.float32),
    }


def face_parts(rng: np.random.Generator, sequence: str, camera: str, frames: int) -> dict[str, Any]:
    low = rng.uniform(0, 30, size=(3, 2))
    return key(sequence, camera, frames) | {
        "parts_png": [MAGIC["PNG"] + rng.bytes(int(rng.integers(10, 90))) for _ in range(frames)],
        "boxes_px": np.concatenate((low, low + rng.uniform(1, 30, size=(3, 2))), axis=1).astype(np.float32),
        "boxes_valid": np.ones(3, bool),
    }


MAGIC = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n"}


def anything(table: str, rng: np.random.Generator, sequence: str, camera: str, frames: int) -> dict[str, Any]:
    """A clip of any table whose checks random small numbers pass, or of `face_parts`."""
    if table == "face_parts":
        return face_parts(rng, sequence, camera, frames)
    clip = key(sequence, camera, frames)
    for name, column in TABLES[table].columns.items():
        items = frames if column.per == "frame" else int(rng.integers(1, 5)) if column.ragged else 1
        shape = (items, *column.item_shape(J))
        magic = next((MAGIC[c.__name__] for c in column.checks if c.__name__ in MAGIC), b"")
        made: Any = {
            "binary": lambda m=magic, n=items: [m + rng.bytes(int(rng.integers(10, 90))) for _ in range(n)],
            "string": lambda: "some words",
            "bool": lambda s=shape: np.ones(s, bool),
            "int32": lambda s=shape: rng.choice([1], s).astype(np.int32),
            "float32": lambda s=shape: rng.uniform(0, 1, s).astype(np.float32),
        }[column.dtype]()
        clip[name] = made[0] if column.per == "clip" and column.numeric and not column.ragged else made
    return clip


def pair_part(url: str, part: int, clips: Sequence[tuple[str, str, int]], seed: int = 0) -> Any:
    """Write keypoints and labels of (sequence, camera, frames) clips."""
    rng = np.random.default_rng((seed, part))
    tables = {
        "keypoints": [keypoints(rng, *clip) for clip in clips],
        "labels": [labels(rng, *clip) for clip in clips],
    }
    return write_part(url, part, tables, provenance(f"s{part}", seed=seed))


def pair_store(url: str, parts: int = 3, seed: int = 0) -> Manifest:
    """A committed store: `parts` parts, two cameras, a few sequences of different lengths."""
    records = []
    for part in range(parts):
        clips = [
            (f"S{part + 1}/{action} {trial}", camera, 30 + 7 * trial + 3 * part)
            for action in ("Walking", "Sitting")
            for trial in (1, 2)
            for camera in CAMERAS
        ]
        records += pair_part(url, part, clips, seed)
    manifest = Manifest(skeleton="h36m_17", num_joints=J).updated(records)
    commit(url, manifest)
    return manifest
