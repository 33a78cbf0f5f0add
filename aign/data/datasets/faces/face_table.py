"""A table of face pictures and their labels, and how it is read from a CSV."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float32

from aign.data.datasets.faces.faces import ALL, LANDMARKS, PARTITIONS, Face
from aign.data.datasets.raw_files import sha256_of, some
from aign.framework.errors import UserError

FILE_COLUMNS = ("file", "filename", "image", "path", "image_id")
LICENCE = "licence of the pictures' owner"
LICENCE_COLUMNS = ("licence", "license")
_UNKNOWN = ("", "nan", "na", "n/a", "?")

_SIGNS = {"1": 1, "+1": 1, "1.0": 1, "true": 1, "yes": 1, "-1": -1, "-1.0": -1, "0": -1, "0.0": -1}
_SIGNS |= {"false": -1, "no": -1}
_PARTITIONS = {name: name for name in (*PARTITIONS, ALL)} | {str(i): name for i, name in enumerate(PARTITIONS)}
_PARTITIONS |= {"valid": "val", "validation": "val"}


@dataclass(frozen=True, kw_only=True)
class FaceTable:
    """A checked table: every row is a picture with its labels.

    Attributes:
        attribute_names: in order.
        faces: pictures with their labels, numbered by rows.
        partitions: of each.
        licence: of the pictures.
    """

    attribute_names: tuple[str, ...]
    faces: tuple[Face, ...]
    partitions: tuple[str, ...]
    licence: str


def read_table(path: Path) -> FaceTable:
    """Read and check a table of attributes.

    One column names the picture (file, filename, image, path or image_id). Columns `identity` (a whole number),
    `partition` (train, val, test, or CelebA's 0, 1, 2), `licence` (a text) and CelebA's ten landmark columns are taken
    as such. Every other column is an attribute: of two values, where yes, true and 1 become +1 and no, false, 0 and -1
    become -1; or of numbers such as an age, which stay. An empty cell is unknown.

    Raises:
        UserError: not a table of this kind; the message says in which line and how it may be written.
    """
    return _read_table(str(path), sha256_of(path))


@lru_cache(maxsize=2)
def _read_table(path: str, _: str) -> FaceTable:
    file = Path(path)
    header, lines = _rows(file)
    columns = {name: i for i, name in enumerate(header)}
    (named_by,) = [name for name in header if name.lower() in FILE_COLUMNS]
    taken = ("identity", "partition", *LICENCE_COLUMNS, *LANDMARKS)
    special = {n.lower(): i for n, i in columns.items() if n.lower() in taken}
    marks = [special[name] for name in LANDMARKS if name in special]
    if marks and len(marks) != len(LANDMARKS):
        raise UserError(f"{file} has {len(marks)} of the landmark columns; all of {' '.join(LANDMARKS)} or none")
    attributes = [n for n, i in columns.items() if n != named_by and i not in special.values()]
    if not attributes:
        raise UserError(f"{file} has no attribute; beside {named_by!r}, a column for each one is needed")
    values = np.stack([_values([row[columns[n]] for _, row in lines], n, file) for n in attributes], axis=1)
    faces = tuple(
        Face(
            file=_picture_name(row[columns[named_by]], file, line),
            number=number,
            attributes=values[number],
            landmarks_px=_landmarks([row[i] for i in marks], file, line),
            identity=_identity(row[special["identity"]], file, line) if "identity" in special else -1,
        )
        for number, (line, row) in enumerate(lines)
    )
    seen: dict[str, int] = {}
    for face, (line, _row) in zip(faces, lines, strict=True):
        if face.file in seen:
            raise UserError(f"{file}: lines {seen[face.file]} and {line} are both of {face.file}; one is allowed")
        seen[face.file] = line
    at = special.get("partition")
    partitions = tuple(ALL if at is None else _partition(row[at], file, line) for line, row in lines)
    licences = [row[special[n]] for n in LICENCE_COLUMNS if n in special for _, row in lines]
    return FaceTable(
        attribute_names=tuple(attributes),
        faces=faces,
        partitions=partitions,
        licence=", ".join(dict.fromkeys(licence or LICENCE for licence in licences)) or LICENCE,
    )


def _rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header, and each further row with its line number."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets begin a file with a mark
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error.reason}); save it as CSV UTF-8") from error
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not a well-formed CSV ({error})") from error
    if len(rows) < 2:
        raise UserError(f"{path} has {len(rows)} lines; a header and a line for each picture are needed")
    header = ["_".join(name.split()) for name in rows[0][1]]  # the store's attribute names have no spaces
    lowered = [name.lower() for name in header]
    if "" in header or len(set(lowered)) < len(header):
        raise UserError(f"{path} has the columns {', '.join(header)}; each needs a name of its own")
    if sum(name in FILE_COLUMNS for name in lowered) != 1:
        raise UserError(f"{path} has the columns {some(header, 12)}; one of {', '.join(FILE_COLUMNS)} is needed")
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise UserError(f"{path}, line {line}: {len(row)} cells, the header has {len(header)}")
    return header, rows[1:]


def _values(cells: Sequence[str], name: str, path: Path) -> Float32[np.ndarray, " n"]:
    """A column as +1 and -1, or as its numbers; NaN where it says nothing."""
    lowered = [cell.lower() for cell in cells]
    kinds = sorted(set(lowered) - set(_UNKNOWN))
    if not kinds:
        raise UserError(f"{path}: {name} is empty in every row; leave the column out")
    if all(kind in _SIGNS for kind in kinds):
        if {"0", "0.0"} & set(kinds) and {"-1", "-1.0"} & set(kinds):
            raise UserError(f"{path}: {name} has 0 and -1, which both mean no; write one of them")
        return np.array([_SIGNS.get(cell, math.nan) for cell in lowered], np.float32)
    if all(_is_number(kind) for kind in kinds):
        return np.array([math.nan if cell in _UNKNOWN else float(cell) for cell in lowered], np.float32)
    if len(kinds) == 2:
        hint = f"write a column {kinds[0]} with yes and no in its place"
    else:
        hint = "an attribute is yes or no, or a number: write a column of yes and no for each of these, or leave it out"
    raise UserError(f"{path}: {name} has {some(kinds)}; {hint}")


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


def _picture_name(cell: str, path: Path, line: int) -> str:
    name = PurePosixPath(cell.replace("\\", "/"))
    if not name.name or name.is_absolute() or ".." in name.parts:
        raise UserError(f"{path}, line {line}: got {cell!r}; a picture inside {path.parent} is needed")
    return str(name)


def _landmarks(cells: Sequence[str], path: Path, line: int) -> np.ndarray | None:
    """Five points [5, 2] in pixels, or None where all cells are empty."""
    if not any(cells):
        return None
    try:
        points = np.array([float(cell) for cell in cells]).reshape(5, 2)
    except ValueError as error:
        raise UserError(f"{path}, line {line}: a landmark is no number ({error}); ten of them, or none") from error
    if not np.isfinite(points).all():
        raise UserError(f"{path}, line {line}: a landmark is not finite; ten numbers are needed, or none")
    return points


def _identity(cell: str, path: Path, line: int) -> int:
    if cell and not cell.removeprefix("-").isdigit():
        raise UserError(f"{path}, line {line}: identity is {cell!r}; a whole number is needed, or nothing if unknown")
    return max(int(cell), -1) if cell else -1


def _partition(cell: str, path: Path, line: int) -> str:
    if cell.lower() not in _PARTITIONS:
        allowed = ", ".join((*PARTITIONS, ALL))
        raise UserError(
            f"{path}, line {line}: partition is {cell!r}; allowed: {allowed}, or 0, 1, 2 for the first three"
        )
    return _PARTITIONS[cell.lower()]
