"""Rendered faces as a source of stores: people with exact labels, several pictures of each (`demo-faces`)."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from aign.data.datasets.faces.faces import PARTITIONS
from aign.data.datasets.job import PRODUCER, Made, Stored, stage
from aign.data.pixels import JPEG_QUALITY, encode_jpeg, encode_parts
from aign.data.store import Provenance
from aign.data.synthetic.faces.head import HEAD
from aign.data.synthetic.faces.people import (
    GREY_OVER,
    LIGHT_DEGREES,
    ORIGINS,
    YOUNG_UNDER,
    Person,
    Sitting,
    draw_person,
    draw_sitting,
)
from aign.data.synthetic.faces.render import RenderedFace, render_face
from aign.framework.errors import UserError
from aign.geometry.skeleton import FACE5

EMBEDDED = "demo-faces"
PICTURES_EACH = 8
"""Pictures of one person."""
PEOPLE_A_JOB = 40
SIDES_PX = (32, 512)
LICENCE = "CC0-1.0 (MakeHuman's head, rendered)"
TABLES = ("faces", "face_parts")
ATTRIBUTES = (
    *("Male", "Young", "Smiling", "Gray_Hair", "No_Beard"),
    *("age", "lips", "nose", "lip_area", *ORIGINS, "yaw", "light", "hair_length"),
)


@dataclass(frozen=True, kw_only=True)
class FaceOptions:
    """What to make.

    Args:
        frames: how many pictures in all.
        side_px: width and height of the pictures.
        seed: of everything random.
    """

    frames: int = 20_000
    side_px: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise UserError(f"{self.frames} rendered faces were asked for; at least 1 is needed")
        if not SIDES_PX[0] <= self.side_px <= SIDES_PX[1]:
            raise UserError(f"rendered faces of {self.side_px} px; {SIDES_PX[0]} to {SIDES_PX[1]} px are allowed")
        if self.seed < 0:
            raise UserError(f"seed {self.seed}; 0 or more is allowed")


@dataclass(frozen=True, kw_only=True)
class RenderedFaces:
    """One job: the pictures of some people.

    Attributes:
        options: what to make.
        number: of the job.
        first, last: identities; the last one may have fewer pictures than the others.
    """

    options: FaceOptions
    number: int
    first: int
    last: int

    @property
    def source(self) -> str:
        """Seed and number."""
        return f"{EMBEDDED}:seed-{self.options.seed}/{self.number:05d}"

    @property
    def table_groups(self) -> tuple[tuple[str, ...], ...]:
        """Both tables hold the same pictures."""
        return (TABLES,)

    def provenance(self, table: str) -> Provenance:
        """Hash of the head and of everything that decides a picture."""
        o = self.options
        pictures = min(o.frames, (self.last + 1) * PICTURES_EACH) - self.first * PICTURES_EACH
        drawn = stage(
            "draw-faces", "1", seed=o.seed, first=self.first, pictures=pictures, each=PICTURES_EACH, side_px=o.side_px
        )
        # Sizes and shapes of the parts are decided by the head, colours and coding by what comes after.
        own = stage("shade", "1", quality=JPEG_QUALITY) if table == "faces" else stage("rasterise", "1")
        return Provenance(
            source_hashes=(_head_sha256(),),
            stages=(drawn, own),
            skeleton=FACE5.name,
            num_joints=len(FACE5),
            licence=LICENCE,
            producer=PRODUCER,
        )

    def clips(self, wanted: Collection[str], stored: Stored) -> Made:
        """Render; pictures are ordered by partition, then by identity."""
        tables: dict[str, list[dict[str, Any]]] = {table: [] for table in wanted}
        people = sorted(range(self.first, self.last + 1), key=lambda i: (PARTITIONS.index(partition_of(i)), i))
        for identity in people:
            person = draw_person(self.options.seed, identity)
            for picture in range(PICTURES_EACH):
                number = identity * PICTURES_EACH + picture
                if number >= self.options.frames:
                    break
                sitting = draw_sitting(self.options.seed, identity, picture)
                face = render_face(person, sitting, self.options.side_px)
                key = self._key(identity, number)
                rows = {"faces": _face(identity, person, sitting, face), "face_parts": face_parts(face)}
                for table in wanted:
                    tables[table].append({**key, **rows[table]})
        return Made(tables=tables)

    def _key(self, identity: int, number: int) -> dict[str, str | int | float]:
        return {
            "sequence": f"rendered-{self.options.seed}/{partition_of(identity)}",
            "subject": f"rendered-{self.options.seed}",
            "action": "face",
            "camera": "",
            "source": self.source,
            "frame_start": number,
            "num_frames": 1,
            "fps": 1.0,
        }


def plan(options: FaceOptions) -> list[RenderedFaces]:
    """Jobs that make exactly `options.frames` pictures."""
    people = -(-options.frames // PICTURES_EACH)
    return [
        RenderedFaces(options=options, number=number, first=first, last=min(first + PEOPLE_A_JOB, people) - 1)
        for number, first in enumerate(range(0, people, PEOPLE_A_JOB))
    ]


def looks_like(path: Path) -> bool:
    """Whether it is the name of the embedded source."""
    return str(path) == EMBEDDED


def found(path: Path) -> str:
    """One line."""
    return f"faces rendered from {HEAD.name} (MakeHuman's CC0 head), {PICTURES_EACH} pictures a person"


def missing(path: Path) -> list[str]:
    """Nothing: the head comes with the library."""
    return []


def partition_of(identity: int) -> str:
    """Eight of ten people are for training, one for validation, one for tests."""
    return {8: "val", 9: "test"}.get(identity % 10, "train")


def face_parts(face: RenderedFace) -> dict[str, object]:
    """The columns of `face_parts`."""
    return {"parts_png": [encode_parts(face.parts)], "boxes_px": face.boxes_px, "boxes_valid": face.boxes_valid}


def attributes(person: Person, sitting: Sitting, lip_area: float) -> dict[str, float]:
    """What is true of a picture, by name."""

    def sign(yes: bool) -> float:
        return 1.0 if yes else -1.0

    return {
        "Male": sign(person.male),
        "Young": sign(person.age < YOUNG_UNDER),
        "Smiling": sign(sitting.smiling),
        "Gray_Hair": sign(person.grey > GREY_OVER),
        "No_Beard": sign(person.beard == 0),
        "age": person.age,
        "lips": person.lips,
        "nose": person.nose,
        "lip_area": lip_area,
        **dict(zip(ORIGINS, person.origin, strict=True)),
        "yaw": sitting.yaw,
        "light": sitting.light_degrees[0] / LIGHT_DEGREES,
        "hair_length": person.hair.length,
    }


def _face(identity: int, person: Person, sitting: Sitting, face: RenderedFace) -> dict[str, object]:
    side, named = face.rgb.shape[0], attributes(person, sitting, face.lip_area)
    return {
        "face_jpeg": [encode_jpeg(face.rgb)],
        "face_size_px": np.array([side, side], np.int32),
        "landmarks_px": face.landmarks_px,
        "landmarks_valid": True,
        "attributes": np.array([named[name] for name in ATTRIBUTES], np.float32),
        "attribute_names": " ".join(ATTRIBUTES),
        "identity": identity,
        "partition": partition_of(identity),
    }


@cache
def _head_sha256() -> str:
    return hashlib.sha256(HEAD.read_bytes()).hexdigest()
