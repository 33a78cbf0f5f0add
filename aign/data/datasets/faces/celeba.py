"""CelebA, aligned and cropped: Img/img_align_celeba, Anno and Eval, or the same files in one folder (protocols 3.5 l).

Liu et al., "Deep Learning Face Attributes in the Wild" (2015). list_bbox_celeba.txt and list_landmarks_celeba.txt are
of the pictures before they were aligned, and are not read.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

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

PICTURES = "img_align_celeba"
ATTRIBUTES = "list_attr_celeba.txt"
ALIGNED_LANDMARKS = "list_landmarks_align_celeba.txt"
IDENTITIES = "identity_CelebA.txt"
PARTITION = "list_eval_partition.txt"
LICENCE = "CelebA: non-commercial research only"


@dataclass(frozen=True, kw_only=True)
class CelebaFiles:
    """Where everything lies; None: not there, and not needed."""

    pictures: Path
    attributes: Path
    landmarks: Path | None
    identities: Path | None
    partition: Path | None

    @property
    def annotations(self) -> tuple[Path, ...]:
        """All text files."""
        return tuple(f for f in (self.attributes, self.landmarks, self.identities, self.partition) if f is not None)


@dataclass(frozen=True, kw_only=True)
class CelebaPart:
    """Consecutive pictures of one partition.

    Attributes:
        files: of the data set.
        partition: "train", "val", "test", or "all".
        names: of the pictures.
        hashes: of the annotations, and of the pictures' names and sizes.
    """

    files: CelebaFiles
    partition: str
    names: tuple[str, ...]
    hashes: tuple[str, ...]

    @property
    def source(self) -> str:
        """Folder, partition and the first and last picture."""
        return f"{self.files.pictures}:{self.partition}/{Path(self.names[0]).stem}-{Path(self.names[-1]).stem}"

    @property
    def table_groups(self) -> tuple[tuple[str, ...], ...]:
        """Faces."""
        return (("faces",),)

    def provenance(self, table: str) -> Provenance:
        """Hash of the annotations and of the pictures' names and sizes."""
        return face_provenance(self.hashes, "celeba-aligned", LICENCE)

    def clips(self, wanted: Collection[str], stored: Stored) -> Made:
        """The pictures with their labels.

        Raises:
            UserError: the annotations are not CelebA's, or do not fit the pictures.
        """
        names, attributes = _listed(self.files.attributes, self.names)
        marks = _landmarks(self.files.landmarks, self.names)
        identities = _whole_numbers(self.files.identities, self.names)
        faces = [
            Face(
                file=name,
                number=int(Path(name).stem),
                attributes=attributes[i].astype(np.float32),
                landmarks_px=None if marks is None else marks[i].reshape(5, 2).astype(np.float64),
                identity=-1 if identities is None else identities[i],
            )
            for i, name in enumerate(self.names)
        ]
        if not (np.abs(attributes) == 1).all():
            raise UserError(f"{self.files.attributes}: got {np.unique(attributes).tolist()}; allowed are 1 and -1")
        return make(
            Faces(
                data_set="celeba",
                source=self.source,
                folder=self.files.pictures,
                partition=self.partition,
                attribute_names=tuple(names),
                faces=faces,
            )
        )


def plan(path: Path) -> list[CelebaPart]:
    """Jobs of CelebA's folder.

    Raises:
        UserError: not CelebA, something is missing or still packed, or the files do not fit together.
    """
    files = find_files(path)
    sizes = pictures_in(files.pictures)
    names = list(_counted(files.attributes)[1])
    without = sorted(set(sizes) - set(names))
    if without:
        raise UserError(f"{files.attributes} has no attributes for {len(without)} pictures there: {some(without)}")
    odd = [name for name in names if not Path(name).stem.isdigit()]
    if odd:
        raise UserError(f"{files.attributes} names {some(odd)}; CelebA's pictures are numbered: 000001.jpg")
    names.sort(key=lambda name: int(Path(name).stem))
    annotations = tuple(map(sha256_of, files.annotations))
    jobs = []
    for partition, members in _partitions(files.partition, names).items():
        for start in range(0, len(members), PICTURES_PER_JOB):
            part = tuple(members[start : start + PICTURES_PER_JOB])
            hashes = (*annotations, listing_hash(part, sizes))
            jobs.append(CelebaPart(files=files, partition=partition, names=part, hashes=hashes))
    return jobs


def looks_like(path: Path) -> bool:
    """Whether CelebA's attributes lie there."""
    return path.is_dir() and _found(path, ATTRIBUTES) is not None


def found(path: Path) -> str:
    """One line: how many pictures, and which annotations."""
    files = find_files(path)
    notes = ", ".join(file.name for file in files.annotations)
    return f"CelebA: {len(pictures_in(files.pictures))} pictures in {files.pictures}; {notes}"


def missing(path: Path) -> list[str]:
    """Annotations that are not there, what they would give and where they come from."""
    wanted = {
        ALIGNED_LANDMARKS: "landmarks, from CelebA's Anno",
        IDENTITIES: "identities, from CelebA's Anno (on request)",
        PARTITION: "train, val and test, from CelebA's Eval",
    }
    return [f"{name} ({what})" for name, what in wanted.items() if _found(path, name) is None]


def find_files(path: Path) -> CelebaFiles:
    """Where CelebA's files lie under a folder.

    Raises:
        UserError: the pictures or their attributes are not there.
    """
    attributes = _found(path, ATTRIBUTES)
    if attributes is None:
        raise UserError(f"no {ATTRIBUTES} in {path} or {path / 'Anno'}; it comes with CelebA's annotations (Anno)")
    folders = [path / "Img" / PICTURES, path / PICTURES, path / "Img", path]
    pictures = next((f for f in folders if f.is_dir() and pictures_in(f)), None)
    if pictures is None:
        packed = next((p for p in (path / "Img", path) for p in p.glob(f"{PICTURES}.zip*")), None)
        if packed is not None:
            raise UserError(f"{packed} is still packed; extract it beside itself: unzip {packed} -d {packed.parent}")
        raise UserError(f"no pictures in {path / 'Img' / PICTURES} or {path / PICTURES}; extract {PICTURES}.zip there")
    return CelebaFiles(
        pictures=pictures,
        attributes=attributes,
        landmarks=_found(path, ALIGNED_LANDMARKS),
        identities=_found(path, IDENTITIES),
        partition=_found(path, PARTITION),
    )


def _found(path: Path, name: str) -> Path | None:
    return next((f for f in (path / "Anno" / name, path / "Eval" / name, path / name) if f.is_file()), None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error})") from error


def _counted(path: Path) -> tuple[list[str], dict[str, str]]:
    """A file with a count, a header and a line a picture: the header's words, and each line by its picture."""
    lines = _lines(path)
    if len(lines) < 3 or not lines[0].strip().isdigit():
        got = lines[0][:60] if lines else "nothing"
        raise UserError(f"{path} begins with {got!r}; the number of pictures, a line of names and a line a picture")
    rows = _by_picture(lines[2:], path)
    if len(rows) != int(lines[0]):
        raise UserError(f"{path} announces {int(lines[0])} pictures and has {len(rows)}; is it cut off?")
    return lines[1].split(), rows


def _by_picture(lines: Sequence[str], path: Path) -> dict[str, str]:
    rows: dict[str, str] = {}
    for line in lines:
        name, *rest = line.split(maxsplit=1)[:2] or [""]
        if name in rows:
            raise UserError(f"{path} has two lines for {name}; one is allowed")
        if name:
            rows[name] = rest[0] if rest else ""
    return rows


def _listed(path: Path, names: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The header of a counted file, and the whole numbers [n, k] in the lines of these pictures."""
    header, rows = _counted(path)
    _check_there(path, names, rows)
    try:
        values = [[int(word) for word in rows[name].split()] for name in names]
    except ValueError as error:
        raise UserError(f"{path} has something other than whole numbers ({error})") from error
    wrong = [name for name, row in zip(names, values, strict=True) if len(row) != len(header)]
    if wrong:
        raise UserError(f"{path}: its header has {len(header)} names, the lines of {some(wrong)} have another number")
    return header, np.array(values, np.int32).reshape(len(names), len(header))


def _check_there(path: Path, names: Sequence[str], rows: Collection[str]) -> None:
    missing = [name for name in names if name not in rows]
    if missing:
        raise UserError(f"{path} has no line for {len(missing)} of the pictures: {some(missing)}")


def _landmarks(path: Path | None, names: Sequence[str]) -> np.ndarray | None:
    if path is None:
        return None
    header, marks = _listed(path, names)
    if tuple(header) != LANDMARKS:
        raise UserError(f"{path} has the columns {' '.join(header)}; {' '.join(LANDMARKS)} are needed")
    return marks


def _headless(path: Path) -> dict[str, int]:
    """A file without count and header: a picture and a whole number in each line."""
    rows = _by_picture(_lines(path), path)
    wrong = [name for name, value in rows.items() if not value.strip().lstrip("-").isdigit()]
    if wrong:
        line = f"{wrong[0]} {rows[wrong[0]]}"
        raise UserError(f"{path} has the line {line.strip()!r}; a picture and a whole number are needed, no header")
    return {name: int(value) for name, value in rows.items()}


def _whole_numbers(path: Path | None, names: Sequence[str]) -> list[int] | None:
    if path is None:
        return None
    rows = _headless(path)
    _check_there(path, names, rows)
    return [rows[name] for name in names]


def _partitions(path: Path | None, names: Sequence[str]) -> dict[str, list[str]]:
    codes = _whole_numbers(path, names)
    if codes is None:
        return {ALL: list(names)}
    wrong = sorted(set(codes) - set(range(len(PARTITIONS))))
    if wrong:
        allowed = ", ".join(f"{code} {name}" for code, name in enumerate(PARTITIONS))
        raise UserError(f"{path} has the partition {wrong[0]} for {names[codes.index(wrong[0])]}; allowed: {allowed}")
    found = {p: [n for n, c in zip(names, codes, strict=True) if c == code] for code, p in enumerate(PARTITIONS)}
    return {partition: members for partition, members in found.items() if members}
