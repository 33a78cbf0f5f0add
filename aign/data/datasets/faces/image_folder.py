"""A folder of face pictures of any size with a table of their attributes (CSV)."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from aign.data import assets
from aign.data.datasets.faces.face_table import FaceTable, read_table
from aign.data.datasets.faces.faces import (
    PICTURES_PER_JOB,
    Faces,
    face_provenance,
    listing_hash,
    make,
    pictures_in,
)
from aign.data.datasets.faces.found_faces import check_stages, landmark_stage, with_parts
from aign.data.datasets.job import Made, Stored
from aign.data.datasets.raw_files import sha256_of, some
from aign.data.store import Provenance
from aign.framework.errors import UserError

TABLE = "attributes.csv"


@dataclass(frozen=True, kw_only=True)
class LookFor:
    """What is looked for in the pictures.

    Attributes:
        stages: none, "landmarks" (FACE5, and the table face_parts), or "aligned" (the same, and the pictures cut out in
            the canonical frame).
        side_px: of the pictures that are cut out; None: 128.
    """

    stages: tuple[str, ...] = ()
    side_px: int | None = None

    def __post_init__(self) -> None:
        check_stages(self.stages, self.side_px)
        if self.stages:  # asked now: it would quarantine every picture later
            for name in ("face_detector", "face_landmark"):
                assets.path(name)


@dataclass(frozen=True, kw_only=True)
class ImageFolderPart:
    """Consecutive pictures of one partition.

    Attributes:
        folder: of the pictures.
        table: the CSV, or what else `read` reads.
        read: what tells the labels.
        partition: "train", "val", "test", or "all".
        first, last: numbers of the first and the last row that may be in it.
        hashes: of the table, and of the pictures' names and sizes.
        look_for: what a landmark net adds.
        without_row: pictures of the folder that the table does not name, told of by the first job.
    """

    folder: Path
    table: Path
    read: Callable[[Path], FaceTable]
    partition: str
    first: int
    last: int
    hashes: tuple[str, ...]
    look_for: LookFor
    without_row: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Folder, partition and rows."""
        return f"{self.folder}:{self.partition}/{self.first}-{self.last}"

    @property
    def table_groups(self) -> tuple[tuple[str, ...], ...]:
        """Faces, and their parts where a net looks for them."""
        return (("faces", "face_parts"),) if self.look_for.stages else (("faces",),)

    def provenance(self, table: str) -> Provenance:
        """Hash of the table and of the pictures' names and sizes."""
        plain = face_provenance(self.hashes, "image-folder", self.read(self.table).licence)
        look = self.look_for
        return (
            replace(plain, stages=(*plain.stages, landmark_stage(look.stages, look.side_px))) if look.stages else plain
        )

    def clips(self, wanted: Collection[str], stored: Stored) -> Made:
        """The pictures with their labels.

        Raises:
            UserError: no picture can be used.
        """
        table = self.read(self.table)
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
        if self.look_for.stages:
            made = with_parts(made, self.look_for.stages, self.look_for.side_px)
        if not self.without_row:
            return made
        line = f"{len(self.without_row)} pictures have no row in {self.table.name}: {some(self.without_row)}"
        return Made(tables=made.tables, left_out=(*made.left_out, line))


def plan(path: Path, look_for: LookFor | None = None) -> list[ImageFolderPart]:
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
    template = ImageFolderPart(
        folder=path,
        table=file,
        read=read_table,
        partition="",
        first=0,
        last=0,
        hashes=(sha256_of(file),),
        look_for=look_for or LookFor(),
        without_row=without_row,
    )
    return jobs_of(template, sizes)


def jobs_of(template: ImageFolderPart, sizes: Mapping[str, int]) -> list[ImageFolderPart]:
    """The jobs of all pictures of a table, alike but for which pictures they are.

    Args:
        template: what they share; `without_row` is told by the first one.
        sizes: of the pictures, as `pictures_in` gives them.
    """
    table = template.read(template.table)
    jobs: list[ImageFolderPart] = []
    for partition in dict.fromkeys(table.partitions):
        members = [f for f, p in zip(table.faces, table.partitions, strict=True) if p == partition]
        for start in range(0, len(members), PICTURES_PER_JOB):
            part = members[start : start + PICTURES_PER_JOB]
            jobs.append(
                replace(
                    template,
                    partition=partition,
                    first=part[0].number,
                    last=part[-1].number,
                    hashes=(*template.hashes, listing_hash([face.file for face in part], sizes)),
                    without_row=() if jobs else template.without_row,
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
