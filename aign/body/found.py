"""Body files that lie somewhere, told by what is in them and never by their names. Nothing here needs torch."""

import hashlib
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aign.framework.errors import UserError
from aign.framework.safe_pickle import load_object_npz, load_pickle, to_array

REQUIRED = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f")
"""Keys of an SMPL file."""
DEFAULT_SHA256 = "613e12e95ff5b37ded6359b9a75af141e506e78908d550deb8fbf260f0b1f3b6"
"""Of the free body that comes with this package."""
SMPL = "SMPL"
KINDS = {(6890, 24): SMPL, (6890, 52): "SMPL+H", (10475, 55): "SMPL-X", (778, 16): "MANO", (5023, 5): "FLAME"}
"""By vertices and joints."""
ENDINGS = (".npz", ".pkl")
_TELLING = ("v_template", "kintree_table", "f")
"""What every body of this family has, and next to nothing else."""
_SEARCHED = 5000


@dataclass(frozen=True, kw_only=True)
class FoundBody:
    """A file that holds a body.

    Attributes:
        path: where it lies.
        sha256: of the file.
        kind: which body, by its numbers of vertices and joints.
        vertices: how many.
        joints: how many.
        problem: why it cannot be read; "": it can.
    """

    path: Path
    sha256: str
    kind: str
    vertices: int
    joints: int
    problem: str = ""


def find_bodies(places: Sequence[Path], seconds: float = 2.0) -> tuple[list[FoundBody], bool]:
    """The body files in files and folders, the same content once, and whether all was looked at in that time."""
    until, found, whole = time.monotonic() + seconds, dict[str, FoundBody](), True
    for number, path in enumerate(_files(places)):
        if time.monotonic() > until or number >= _SEARCHED:
            whole = False
            break
        body = look(path)
        if body is not None:
            found.setdefault(body.sha256, body)
    return list(found.values()), whole


def look(path: Path) -> FoundBody | None:
    """What body a file holds; None: none, or it is no file that can be opened."""
    try:
        if not _tells(path):
            return None
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        content: Any = load_object_npz(path) if path.suffix == ".npz" else load_pickle(path)
        vertices = len(to_array(content["v_template"], str(path)))
        joints = to_array(content["kintree_table"], str(path)).shape[1]
    except OSError:
        return None
    except (UserError, KeyError, TypeError, IndexError) as error:
        reason = " ".join(str(error).split())
        return FoundBody(path=path, sha256=digest, kind="a damaged body", vertices=0, joints=0, problem=reason)
    kind = KINDS.get((vertices, joints), f"a body of {vertices} vertices and {joints} joints")
    missing = [key for key in REQUIRED if key not in content]
    problem = f"no {', '.join(missing)} in it" if missing else ""
    return FoundBody(path=path, sha256=digest, kind=kind, vertices=vertices, joints=joints, problem=problem)


def _files(places: Sequence[Path]) -> Iterator[Path]:
    for place in places:
        if place.is_file():
            yield place
        else:
            yield from (p for p in sorted(place.rglob("*")) if p.suffix in ENDINGS and p.is_file())


def _tells(path: Path) -> bool:
    """Whether the names of a body's arrays stand in a file; cheap, and nothing in it is run."""
    if path.suffix == ".npz":
        try:
            with zipfile.ZipFile(path) as archive:
                names = set(archive.namelist())
        except zipfile.BadZipFile:
            return False
        return all(f"{key}.npy" in names for key in _TELLING)
    content = path.read_bytes()
    return content[:1] in (b"\x80", b"(") and all(key.encode() in content for key in _TELLING[:2])
