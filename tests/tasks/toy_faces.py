"""Toy faces: discs with eyes and a mouth, drawn in a millisecond, whose labels are exact.

Beards are vertical stripes of two pixels, which no average over 4 x 4 pixels shows: a picture with a beard and the same
without it have the same small picture, so only a bias can decide.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aign.data.pixels import encode_jpeg, encode_parts
from aign.data.store import Manifest, Provenance, Stage, Store, commit, write_part
from aign.evaluation.faces_judge import Judge, Reading

NAMES = ("Male", "age", "lips")
PARTITIONS = {"train": 0.75, "val": 0.125, "test": 0.125}
BEARD = 0.18
"""Amplitude of the stripes."""


def toy_face(rng: np.random.Generator, side: int, male: bool, lips: float) -> tuple[np.ndarray, np.ndarray]:
    """A picture [s, s, 3] in 0..255 and its parts [s, s]."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    image = np.empty((side, side, 3))
    image[:] = rng.uniform(0.1, 0.4, 3)
    skin = np.array([0.75, 0.55, 0.45]) * rng.uniform(0.8, 1.1)
    face = ((x - 0.5) / 0.32) ** 2 + ((y - 0.52) / 0.42) ** 2 < 1
    image[face] = skin
    parts = np.zeros((side, side), np.uint8)
    for cx in (0.38, 0.62):
        eye = (x - cx) ** 2 + (y - 0.42) ** 2 < 0.045**2
        image[eye], parts[eye] = 0.1, 3
    nose = (abs(x - 0.5) < 0.03) & (abs(y - 0.55) < 0.07)
    image[nose], parts[nose] = 0.8 * skin, 2
    if male:
        beard = face & (y > 0.56)
        image[beard] += BEARD * np.broadcast_to(_stripes(side), (side, side))[beard][:, None]
    mouth = (abs(x - 0.5) < 0.14) & (abs(y - 0.72) < 0.02 + 0.05 * lips)
    image[mouth], parts[mouth] = (0.7, 0.2, 0.2), 1
    return (image.clip(0, 1) * 255).round().astype(np.uint8), parts


def _stripes(side: int) -> np.ndarray:
    """+1 and -1, whose mean over every four pixels is 0, the same in a mirror."""
    return np.where((np.arange(side) + 1) % 4 < 2, 1.0, -1.0)


def beard(pictures: np.ndarray) -> np.ndarray:
    """How much of a beard pictures [n, s, s, 3] in 0..255 have: 1 as drawn, 0 none."""
    side = pictures.shape[1]
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    where = (abs(x - 0.5) < 0.125) & (abs(y - 0.85) < 0.05)  # the chin: whole stripes, and no mouth
    bands = (pictures.astype(float).mean(-1) / 255 * _stripes(side))[:, where]
    return np.asarray(bands.mean(1) / BEARD)


def toy_judge() -> Judge:
    """Reads beards, exactly."""

    def read(images: np.ndarray) -> Reading:
        value = np.clip(2 * beard(images) - 1, -1, 1).astype(np.float32)
        return Reading(values=value[:, None], features=images.mean((1, 2)).astype(np.float32))

    ones = np.ones(1, np.float32)
    return Judge(name="beards of toy faces", names=("Male",), is_sign=(True,), scale=ones, read=read, facts={})


def _boxes(parts: np.ndarray) -> np.ndarray:
    places = [np.nonzero(parts == part) for part in (1, 2, 3)]
    return np.array([(x.min() - 0.5, y.min() - 0.5, x.max() + 0.5, y.max() + 0.5) for y, x in places], np.float32)


def toy_rows(partition: str, count: int, side: int, seed: int) -> dict[str, list[dict[str, Any]]]:
    """Rows of the tables faces and face_parts."""
    rng = np.random.default_rng((seed, len(partition), count))
    faces, parts = [], []
    for number in range(count):
        male, lips = bool(rng.random() < 0.5), float(rng.random())
        image, labels = toy_face(rng, side, male, lips)
        key = {
            **{"sequence": f"toy/{partition}", "subject": "toy", "action": "face", "camera": "", "source": "drawn"},
            **{"frame_start": number, "num_frames": 1, "fps": 1.0},
        }
        faces.append(
            {
                **key,
                "face_jpeg": [encode_jpeg(image)],
                "face_size_px": np.array([side, side], np.int32),
                "landmarks_px": np.zeros((5, 2), np.float32),
                "landmarks_valid": False,
                "attributes": np.array([1 if male else -1, rng.uniform(18, 80), lips], np.float32),
                "attribute_names": " ".join(NAMES),
                "identity": number % 20,
                "partition": partition,
            }
        )
        boxes = {"boxes_px": _boxes(labels), "boxes_valid": np.array([number % 11 > 0, True, True])}
        parts.append({**key, "parts_png": [encode_parts(labels)], **boxes})
    return {"faces": faces, "face_parts": parts}


def store_of(url: str, parts: Sequence[Mapping[str, Sequence[Mapping[str, Any]]]]) -> Store:
    """A committed store of these parts."""
    made = Provenance(
        source_hashes=(url,),
        stages=(Stage(name="toy", version="1", params={}),),
        skeleton="face5",
        num_joints=5,
        licence="CC0-1.0",
        producer="test",
    )
    records = [record for number, rows in enumerate(parts) for record in write_part(url, number, rows, made)]
    commit(url, Manifest(skeleton="face5", num_joints=5).updated(records))
    return Store.open(url)


def toy_store(url: str, count: int = 160, side: int = 32, seed: int = 0) -> Store:
    """A committed store of so many toy faces; every eleventh mouth was not found."""
    return store_of(url, [toy_rows(name, round(count * share), side, seed) for name, share in PARTITIONS.items()])
