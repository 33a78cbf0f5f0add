"""Faces of a few pixels' worth of truth: what a judge can learn is in their colours and sizes."""

from dataclasses import replace

import numpy as np

from aign.evaluation.faces_judge import Judge, LabelledFaces, Reading
from aign.evaluation.report import Provenance
from aign.evaluation.rows import Rows

WHO = Provenance(method="toy", data="drawn faces", store_hash="0123abcd" * 8)
NAMES = ("Male", "age", "lips")


def drawn(n: int = 48, side: int = 64, seed: int = 0) -> LabelledFaces:
    """Discs: men are blue and women red, the old are bright, lips are a box whose height is the label."""
    rng = np.random.default_rng(seed)
    male = rng.choice([-1.0, 1.0], n)
    age, lips = rng.uniform(20, 70, n), rng.uniform(0, 1, n)
    images = np.zeros((n, side, side, 3), np.uint8)
    parts = np.zeros((n, side, side), np.uint8)
    y, x = np.mgrid[0:side, 0:side] / side
    for i in range(n):
        face = (x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.16
        red, blue = (0, 60) if male[i] > 0 else (60, 0)
        images[i][face] = (80 + age[i] + red, 80, 80 + age[i] + blue)
        mouth = (np.abs(x - 0.5) < 0.15) & (np.abs(y - 0.7) < 0.03 + 0.06 * lips[i])
        images[i][mouth], parts[i][mouth] = (220, 20, 20), 1
        parts[i][(np.abs(x - 0.5) < 0.05) & (np.abs(y - 0.5) < 0.05)] = 2
    images = np.clip(images.astype(int) + rng.integers(-3, 4, images.shape), 0, 255).astype(np.uint8)
    return LabelledFaces(
        images=images,
        names=NAMES,
        attributes=np.stack([male, age, lips], 1).astype(np.float32),
        identity=np.arange(n) // 2,
        partition=np.array(["val" if i // 2 % 4 == 0 else "train" for i in range(n)]),
        parts=parts,
    )


def part(faces: LabelledFaces, rows: np.ndarray | slice) -> LabelledFaces:
    """Some of the faces."""
    parts = None if faces.parts is None else faces.parts[rows]
    names = ("images", "attributes", "identity", "partition")
    return replace(faces, parts=parts, **{name: getattr(faces, name)[rows] for name in names})


def face_rows(n: int) -> Rows:
    return Rows(
        sequence=np.array(["drawn/test"] * n),
        subject=np.array(["drawn"] * n),
        action=np.array(["face"] * n),
        camera=np.array([""] * n),
        frame=np.arange(n),
    )


def colour_judge(**other: object) -> Judge:
    """A judge that can be followed by hand: sex is blue less red, age is green, features are mean colours."""

    def read(images: np.ndarray) -> Reading:
        mean = images.reshape(len(images), -1, 3).mean(1) / 255
        values = np.stack([np.sign(mean[:, 2] - mean[:, 0]), 100 * mean[:, 1]], 1)
        embedding = (mean + 1e-9) / np.linalg.norm(mean + 1e-9, axis=1, keepdims=True)
        lips = (images[..., 0] > 200).astype(np.uint8)
        return Reading(
            values=values.astype(np.float32),
            features=mean.astype(np.float32),
            embedding=embedding.astype(np.float32),
            parts=lips,
        )

    fields: dict[str, object] = {
        "name": "colours",
        "names": ("Male", "age"),
        "is_sign": (True, False),
        "scale": np.array([1, 10], np.float32),
        "read": read,
        "facts": {"Male_accuracy": 0.9},
        "identities": (7, 8),
        "gallery": np.eye(3, dtype=np.float32)[[0, 2]],
    }
    return Judge(**{**fields, **other})  # type: ignore[arg-type]
