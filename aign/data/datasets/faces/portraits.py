"""AI-generated portraits with prompts: {female,male}/128/N.jpg and {female,male}/metadata/N.json.

Sex is the folder's name; age stands in the prompt ("profile picture of a 31-year-old woman from ..."). The pictures
show nobody: they were made by Stable Diffusion 3, which must be said wherever one is shown.
"""

import json
import math
import re
from pathlib import Path

import numpy as np

from aign.data.datasets.faces.face_table import FaceTable
from aign.data.datasets.faces.faces import Face, pictures_in
from aign.data.datasets.faces.image_folder import ImageFolderPart, LookFor, jobs_of
from aign.data.datasets.raw_files import sha256_of, some
from aign.data.synthetic.faces.people import YOUNG_UNDER
from aign.framework.errors import UserError

LICENCE = "CC0-1.0, AI-generated (Stable Diffusion 3)"
ATTRIBUTES = ("Male", "Young", "age")
SEXES = {"female": -1.0, "male": 1.0}
SIDE = "128"
_AGE = re.compile(r"\b(\d{1,3})-year-old\b")
_PARTITION = {8: "val", 9: "test"}
"""By the last digit of a picture's number; the others are for training."""


def plan(path: Path, look_for: LookFor | None = None) -> list[ImageFolderPart]:
    """Jobs of the portraits.

    Raises:
        UserError: no pictures, or a prompt that cannot be read.
    """
    path = path.resolve()
    read_portraits(path)
    prompts = [file for file in map(_prompt_of, _pictures(path)) if file.is_file()]
    template = ImageFolderPart(
        folder=path,
        table=path,
        read=read_portraits,
        partition="",
        first=0,
        last=0,
        hashes=tuple(sorted({sha256_of(file) for file in prompts})),
        look_for=look_for or LookFor(),
    )
    return jobs_of(template, pictures_in(path, inner=True))


def looks_like(path: Path) -> bool:
    """Whether both folders of pictures and of prompts are there."""
    return all((path / sex / part).is_dir() for sex in SEXES for part in (SIDE, "metadata"))


def found(path: Path) -> str:
    """One line."""
    return f"AI-generated portraits: {len(_pictures(path))} pictures of {SIDE} px with prompts"


def missing(path: Path) -> list[str]:
    """Pictures without a prompt: their age is unknown."""
    without = [str(p.relative_to(path)) for p in _pictures(path) if not _prompt_of(p).is_file()]
    return [f"prompts of {len(without)} portraits: {some(without)}"] if without else []


def read_portraits(path: Path) -> FaceTable:
    """The pictures with what their folders and prompts say.

    Raises:
        UserError: no pictures, or a prompt that cannot be read.
    """
    pictures = _pictures(path)
    if not pictures:
        raise UserError(f"no pictures in {path}/{{{','.join(SEXES)}}}/{SIDE}; N.jpg are needed")
    faces = []
    for number, picture in enumerate(pictures):
        age = _age(_prompt_of(picture))
        young = math.nan if math.isnan(age) else 1.0 if age < YOUNG_UNDER else -1.0
        values = (SEXES[picture.parts[-3]], young, age)
        faces.append(
            Face(
                file=str(picture.relative_to(path)),
                number=number,
                attributes=np.array(values, np.float32),
                landmarks_px=None,
                identity=-1,
            )
        )
    return FaceTable(
        attribute_names=ATTRIBUTES,
        faces=tuple(faces),
        partitions=tuple(_PARTITION.get(int(p.stem) % 10, "train") for p in pictures),
        licence=LICENCE,
    )


def _pictures(path: Path) -> list[Path]:
    files = [p for sex in SEXES for p in (path / sex / SIDE).glob("*.jpg") if p.stem.isdigit()]
    return sorted(files, key=lambda p: (p.parts[-3], int(p.stem)))


def _prompt_of(picture: Path) -> Path:
    return picture.parents[1] / "metadata" / f"{picture.stem}.json"


def _age(prompt: Path) -> float:
    """Years; NaN where there is no prompt or none in it."""
    if not prompt.is_file():
        return math.nan
    try:
        words = json.loads(prompt.read_text(encoding="utf-8"))["prompt"]
        years = _AGE.search(words)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{prompt}: not a portrait's JSON with a prompt ({error})") from error
    return float(years[1]) if years else math.nan
