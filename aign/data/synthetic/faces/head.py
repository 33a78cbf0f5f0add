"""The free head: MakeHuman's CC0 base mesh with its targets, as one file (`tools/build_face_model.py`).

Convention: metres, +y up, facing +z, the person's left = +x, as the body models of this library.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32

HEAD = Path(__file__).with_name("face_model.npz")
SKIN, EYES, TEETH, CLOTHES, CAP, CURTAIN = range(6)
"""What a triangle is made of. Cap: hair on the skull, a second layer over the skin. Curtain: hair that hangs."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """The mesh at rest and how it may change.

    Attributes:
        template_m: the head of nobody.
        names: of the targets.
        offsets_m: what each target at weight 1 adds.
        faces: triangles of skin, eyes, teeth and clothes.
        material: of each triangle: SKIN, EYES, TEETH or CLOTHES.
        lips: at least 0.5 on the lips.
        mouth: at least 0.5 inside of the mouth.
        ears: at least 0.5 on the ears.
        nose: at least 0.5 on the nose.
    """

    template_m: Float32[np.ndarray, "v 3"]
    names: tuple[str, ...]
    offsets_m: Float32[np.ndarray, "k v3"]
    faces: Int32[np.ndarray, "f 3"]
    material: Int32[np.ndarray, " f"]
    lips: Float32[np.ndarray, " v"]
    mouth: Float32[np.ndarray, " v"]
    ears: Float32[np.ndarray, " v"]
    nose: Float32[np.ndarray, " v"]

    def shaped(self, weights: Mapping[str, float]) -> Float32[np.ndarray, "v 3"]:
        """The head with its targets at these weights; a name that is not there is a bug."""
        row = np.zeros(len(self.names), np.float32)
        for name, weight in weights.items():
            row[self.names.index(name)] += weight
        used = np.flatnonzero(row)
        # einsum adds in one order on every machine; a threaded matrix product does not.
        change = np.einsum("k,kv->v", row[used], self.offsets_m[used], optimize=False)
        return np.asarray(self.template_m + change.reshape(-1, 3), np.float32)


@lru_cache(maxsize=1)
def load_head() -> Head:
    """The head that comes with the library."""
    with np.load(HEAD, allow_pickle=False) as file:
        groups = {
            SKIN: [file["faces_body"]],
            EYES: [file["faces_l_eye"], file["faces_r_eye"]],
            TEETH: [file["faces_upper_teeth"]],
            CLOTHES: [file["faces_tights"]],
        }
        offsets = file["offsets"].astype(np.float32) * file["step_m"]
        return Head(
            template_m=file["vertices_m"],
            names=tuple(str(name) for name in file["names"]),
            offsets_m=offsets.reshape(len(offsets), -1),
            faces=np.concatenate([part for parts in groups.values() for part in parts]),
            material=np.concatenate([np.full(len(p), m, np.int32) for m, parts in groups.items() for p in parts]),
            lips=file["lips"],
            mouth=file["inside_mouth"],
            ears=file["ears"],
            nose=file["nose"],
        )
