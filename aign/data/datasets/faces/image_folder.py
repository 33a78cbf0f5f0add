"""A folder of face pictures of any size with a table of their attributes (CSV)."""

import csv
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np

from aign.data.datasets.faces.faces import (
    ALL,
    LANDMARKS,
    PARTITIONS,
    PICTURES_PER_JOB,
    Face,
    Faces,
    face_provenance,
    listing_hash,
    make,
    pictures_in,
)
from aign.data.datasets.job import Made, Stored
from aign.data.datasets.raw_files import sha256_of, some
from aign.data.store import Provenance
from aign.framework.errors import UserError

TABLE = "attributes.csv"
FILE_COLUMNS = ("file", "filename", "image", "path", "image_id")
LICENCE = "licence of the pictures' owner"

_SIGNS = {"1": 1, "+1": 1, "1.0": 1, "true": 1, "yes": 1, "-1": -1, "-1.0": -1, "0": -1, "0.0": -1}
_SIGNS |= {"false": -1, "no": -1}
_PARTITIONS = {name: name for name in (*PARTITIONS, ALL)} | {str(i): name for i, name in enumerate(PARTITIONS)}
_PARTITIONS |= {"valid": "val", "validation": "val"}


@dataclass(frozen=True, kw_only=True)
class FaceTable:
    """A checked table: every row is a picture with its labels."""

    attribute_names: tuple[str, ...]
    faces: tuple[Face, ...]
    partitions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ImageFolderPart:
    """Consecutive pictures of one partition.

    Attributes:
        folder: of the pictures.
        table: the CSV.
        partition: "train", "val", "test", or "all".
        first, last: numbers of the first and the last row that may be in it.
        hashes: of the table, and of the pictures' names and sizes.
        without_row: pictures of the folder that the table does not name, told of by the first job.
    """

    folder: Path
    table: Path
    partition: str
    first: int
    last: int
    hashes: tuple[str, ...]
    without_row: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Folder, partition and rows."""
        return f"{self.folder}:{self.partition}/{self.first}-{self.last}"

    @property
    def table_groups(self) -> tuple[tuple[str, ...], ...]:
        """Faces."""
        return (("faces",),)

    def provenance(self, table: str) -> Provenance:
        """Hash of the table and of the pictures' names and sizes."""
        return face_provenance(self.hashes, "image-folder", LICENCE)

    def clips(self, wanted: Collection[str], stored: Stored) -> Made:
        """The pictures with their labels.

        Raises:
            UserError: no picture can be used.
        """
        table = read_table(self.table)
        faces = [
            face
            for face, partition in zip(table.faces, table.partitions, strict=True)
            if partition == self.partition and self.first <= face.number <= self.last
        ]
        made = make(
            Faces(
                data_set=self.folder.name,
                source=self.source,
                folder=self.folder,
                partition=self.partition,
                attribute_names=table.attribute_names,
                faces=faces,
            )
        )
        if not self.without_row:
            return made
        line = f"{len(self.without_row)} pictures have no row in {self.table.name}: {some(self.without_row)}"
        return Made(tables=made.tables, left_out=(*made.left_out, line))


def plan(path: Path) -> list[ImageFolderPart]:
    """Jobs of a folder of pictures with a table of attributes.

    Raises:
        UserError: no pictures, no table, or a table that cannot be used.
    """
    path = path.resolve()
    file = find_table(path)
    sizes = pictures_in(path, inner=True)
    if not sizes:
        raise UserError(f"no picture in {path}; .jpg and .png files are needed, and {TABLE} beside them")
    table = read_table(file)
    if not any(face.file in sizes for face in table.faces):
        raise UserError(f"{file} names {some([f.file for f in table.faces])}, of which none is in {path}")
    without_row = tuple(sorted(set(sizes) - {face.file for face in table.faces}))
    jobs: list[ImageFolderPart] = []
    for partition in dict.fromkeys(table.partitions):
        members = [f for f, p in zip(table.faces, table.partitions, strict=True) if p == partition]
        for start in range(0, len(members), PICTURES_PER_JOB):
            part = members[start : start + PICTURES_PER_JOB]
            jobs.append(
                ImageFolderPart(
                    folder=path,
                    table=file,
                    partition=partition,
                    first=part[0].number,
                    last=part[-1].number,
                    hashes=(sha256_of(file), listing_hash([face.file for face in part], sizes)),
                    without_row=() if jobs else without_row,
                )
            )
    return jobs


def looks_like(path: Path) -> bool:
    """Whether there are pictures and a table beside them."""
    return path.is_dir() and any(p.suffix.lower() == ".csv" for p in path.glob("*")) and bool(pictures_in(path, True))


def found(path: Path) -> str:
    """One line: how many pictures, and which attributes."""
    table = read_table(find_table(path))
    return f"pictures with attributes: {len(table.faces)} rows; {some(table.attribute_names, 8)}"


def missing(path: Path) -> list[str]:
    """Rows whose picture is not there."""
    sizes = pictures_in(path, inner=True)
    gone = [face.file for face in read_table(find_table(path)).faces if face.file not in sizes]
    return [f"{len(gone)} pictures of {find_table(path).name}: {some(gone)}"] if gone else []


def find_table(path: Path) -> Path:
    """The folder's attributes.csv, or its only CSV.

    Raises:
        UserError: none, or it cannot be told which.
    """
    if (path / TABLE).is_file():
        return path / TABLE
    there = sorted(p for p in path.glob("*") if p.suffix.lower() == ".csv")
    if len(there) != 1:
        names = some([p.name for p in there]) or "no CSV"
        raise UserError(f"{path} has {names}; {TABLE} is needed: a column 'file' and one column for each attribute")
    return there[0]


def read_table(path: Path) -> FaceTable:
    """Read and check a table of attributes.

    One column names the picture (file, filename, image, path or image_id). Columns `identity` (a whole number),
    `partition` (train, val, test, or CelebA's 0, 1, 2) and CelebA's ten landmark columns are taken as such. Every other
    column is an attribute with two values, of which yes, true and 1 become +1 and no, false, 0 and -1 become -1.

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
    special = {n.lower(): i for n, i in columns.items() if n.lower() in ("identity", "partition", *LANDMARKS)}
    marks = [special[name] for name in LANDMARKS if name in special]
    if marks and len(marks) != len(LANDMARKS):
        raise UserError(f"{file} has {len(marks)} of the landmark columns; all of {' '.join(LANDMARKS)} or none")
    attributes = [n for n, i in columns.items() if n != named_by and i not in special.values()]
    if not attributes:
        raise UserError(f"{file} has no attribute; beside {named_by!r}, a column for each one is needed")
    signs = np.stack([_signs([row[columns[n]] for _, row in lines], n, file) for n in attributes], axis=1)
    faces = tuple(
        Face(
            file=_picture_name(row[columns[named_by]], file, line),
            number=number,
            attributes=signs[number],
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
    return FaceTable(attribute_names=tuple(attributes), faces=faces, partitions=partitions)


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


def _signs(cells: Sequence[str], name: str, path: Path) -> np.ndarray:
    """A column as +1 and -1 [n]."""
    kinds = dict.fromkeys(cell.lower() for cell in cells)
    values = sorted(kinds)
    if "" in kinds:
        empty = next(i for i, cell in enumerate(cells) if not cell)
        raise UserError(f"{path}: {name} is empty in row {empty + 1}; 1 or -1 (yes or no) is needed for every picture")
    if all(kind in _SIGNS for kind in kinds):
        if {"0", "0.0"} & set(kinds) and {"-1", "-1.0"} & set(kinds):
            raise UserError(f"{path}: {name} has 0 and -1, which both mean no; write one of them")
        return np.array([_SIGNS[cell.lower()] for cell in cells], np.int32)
    if len(kinds) == 2:
        hint = f"write a column {values[0]} with yes and no in its place"
    elif all(_is_number(kind) for kind in kinds):
        hint = f"an attribute is yes or no: write a column such as {name}_over_N with 1 and 0 in its place"
    else:
        hint = "an attribute is yes or no: write a column of yes and no for each of these in its place, or leave it out"
    raise UserError(f"{path}: {name} has {some(values)}; {hint}")


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


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
