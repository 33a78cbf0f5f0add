"""`manifest.json`: what a store holds. A part exists only if the manifest names it."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from aign.data.schema import SCHEMA_VERSION
from aign.data.store.files import open_url, storage_errors, write_bytes
from aign.data.store.records import PartRecord
from aign.data.store.statistics import Moments
from aign.framework.errors import UserError

MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A source that could not be used: where it failed and why, for people to read."""

    source: str
    stage: str
    error: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a store holds.

    Args:
        skeleton: joint set of the whole store.
        num_joints: its joint count.
        parts: sorted by table and number.
        quarantine: sources left out.
    """

    skeleton: str
    num_joints: int
    parts: tuple[PartRecord, ...] = ()
    quarantine: tuple[Quarantined, ...] = ()

    def __post_init__(self) -> None:
        for part in self.parts:
            got = (part.provenance.skeleton, part.provenance.num_joints)
            if got != (self.skeleton, self.num_joints):
                raise UserError(
                    f"{part.path} has skeleton {got[0]!r} ({got[1]} joints); "
                    f"this store allows {self.skeleton!r} ({self.num_joints} joints)"
                )

    def updated(self, parts: Iterable[PartRecord], quarantine: Sequence[Quarantined] = ()) -> "Manifest":
        """With these parts in place of those of the same table and number, and these sources quarantined.

        A source that was quarantined before and is in a part now leaves the quarantine.
        """
        new = tuple(parts)
        by_place = {(p.table, p.part): p for p in (*self.parts, *new)}
        used = {group.source for part in new for group in part.row_groups}
        kept = {q.source: q for q in (*self.quarantine, *quarantine) if q.source not in used}
        return replace(
            self,
            parts=tuple(by_place[place] for place in sorted(by_place)),
            quarantine=tuple(kept[name] for name in sorted(kept)),
        )

    @property
    def tables(self) -> Mapping[str, tuple[PartRecord, ...]]:
        """Parts of every table, by number."""
        names = sorted({part.table for part in self.parts})
        return {name: tuple(p for p in self.parts if p.table == name) for name in names}

    @property
    def statistics(self) -> Mapping[str, Mapping[str, Moments]]:
        """Moments of every float column over the whole store, by table and column: for normalisation."""
        return {
            table: {name: Moments.merge([p.statistics[name] for p in parts]) for name in parts[0].statistics}
            for table, parts in self.tables.items()
        }

    @property
    def licences(self) -> tuple[str, ...]:
        """Licence tags of all parts."""
        return tuple(sorted({part.provenance.licence for part in self.parts}))

    @property
    def fps(self) -> tuple[float, ...]:
        """Frame rates that occur."""
        return tuple(sorted({group.fps for part in self.parts for group in part.row_groups}))

    @property
    def hash(self) -> str:
        """Sha256 over the sorted sha256s of all parts: the identity of the content."""
        return hashlib.sha256("\n".join(sorted(part.sha256 for part in self.parts)).encode()).hexdigest()

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        head = {"schema_version": SCHEMA_VERSION, "skeleton": self.skeleton, "num_joints": self.num_joints}
        parts = ",\n".join(json.dumps(part.to_dict()) for part in self.parts)  # a line each: for grep and diff
        quarantine = ",\n".join(json.dumps(asdict(q)) for q in self.quarantine)
        return f'{json.dumps(head)[:-1]},\n"parts": [\n{parts}\n],\n"quarantine": [\n{quarantine}\n]}}\n'


def check_schema_version(got: object, where: str) -> None:
    """Refuse a store that another version of the schema wrote."""
    if got != SCHEMA_VERSION:
        raise UserError(f"{where} has schema version {got}; allowed is {SCHEMA_VERSION}: preprocess the sources again")


def commit(url: str, manifest: Manifest) -> None:
    """Publish the manifest atomically; the parts it names become the store's content.

    Raises:
        UserError: if the place cannot be written.
    """
    fs, root = open_url(url)
    write_bytes(fs, f"{root}/{MANIFEST_NAME}", manifest.to_json().encode())


def find_manifest(url: str) -> Manifest | None:
    """The committed manifest, or None where there is none yet.

    Raises:
        UserError: if it is damaged or of another schema version.
    """
    fs, root = open_url(url)
    try:
        with storage_errors(f"read {url}/{MANIFEST_NAME}"):
            text = fs.cat_file(f"{root}/{MANIFEST_NAME}")
    except UserError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return None
        raise
    try:
        data = json.loads(text)
        version = data["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(url, error) from error
    check_schema_version(version, f"store {url}")
    try:
        return Manifest(
            skeleton=data["skeleton"],
            num_joints=data["num_joints"],
            parts=tuple(PartRecord.from_dict(p) for p in data["parts"]),
            quarantine=tuple(Quarantined(**q) for q in data["quarantine"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(url, error) from error


def _damaged(url: str, error: Exception) -> UserError:
    return UserError(
        f"{MANIFEST_NAME} of store {url} is damaged ({type(error).__name__}: {error}); "
        "run the same preprocessing again: finished parts are kept"
    )


def read_manifest(url: str) -> Manifest:
    """The committed manifest.

    Raises:
        UserError: if there is none, or it is damaged or of another schema version.
    """
    manifest = find_manifest(url)
    if manifest is None:
        raise UserError(
            f"no store at {url}: {MANIFEST_NAME} is missing; make one with `aign preprocess SOURCE --store {url}`"
        )
    return manifest
