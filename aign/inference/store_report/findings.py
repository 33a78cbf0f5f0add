"""What is wrong with a store, part by part, whatever else is broken."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rich import filesize

from aign.data.progress import track
from aign.data.schema import TABLES
from aign.data.store import PartRecord, Store
from aign.data.store.files import TEMP_PREFIX, one_line, open_url, sha256_file, storage_errors
from aign.data.store.lock import LOCK_NAME
from aign.data.store.manifest import MANIFEST_NAME
from aign.framework.errors import UserError
from aign.inference.store_report.words import counted

MAKE_AGAIN = "remove it and run the same preprocessing again"
_NAMED = 8
"""Sources that one line names; the rest is counted."""

Place: TypeAlias = tuple[str, int]
"""Table and number of a part."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something a person should know.

    Attributes:
        level: "broken": data of the store cannot be used; "warning": look at it; "note": good to know.
        what: in one sentence.
        remedy: what to do about it, if anything.
    """

    level: Literal["broken", "warning", "note"]
    what: str
    remedy: str = ""


def broken_parts(store: Store, sizes: Mapping[str, int], verify: bool) -> dict[Place, str]:
    """What is wrong with each part that is missing or is not what the manifest says.

    Args:
        store: every part of it is looked at.
        sizes: of its files, see `list_files`.
        verify: read every part for its sha256, instead of comparing sizes only.
    """
    parts = store.manifest.parts
    judged = track(parts, f"verify {store.url}", "parts") if verify else parts
    problems = {(part.table, part.part): _problem(store.url, part, sizes, verify) for part in judged}
    return {place: problem for place, problem in problems.items() if problem}


def _problem(url: str, part: PartRecord, sizes: Mapping[str, int], verify: bool) -> str:
    if part.path not in sizes:
        return "missing: there is no such file"
    if sizes[part.path] != part.bytes:
        kind = "truncated" if sizes[part.path] < part.bytes else "changed"
        return f"{kind}: {sizes[part.path]} bytes, the manifest says {part.bytes}"
    if not verify:
        return ""
    fs, root = open_url(url)
    try:
        with storage_errors(f"read {part.path}"):
            sha256 = sha256_file(fs, f"{root}/{part.path}")
    except UserError as error:
        return one_line(error)
    return "" if sha256 == part.sha256 else "changed: its sha256 is not the manifest's"


def broken_findings(store: Store, broken: Mapping[Place, str]) -> list[Finding]:
    """One finding for every broken part, naming it and its sources."""
    found = []
    for part in store.manifest.parts:
        problem = broken.get((part.table, part.part))
        if problem:
            again = "run the same preprocessing again" if problem.startswith("missing") else MAKE_AGAIN
            sources = _named(sorted({group.source for group in part.row_groups}))
            found.append(Finding(level="broken", what=f"{part.path} ({sources}) is {problem}", remedy=again))
    return found


def stray_files(store: Store, sizes: Mapping[str, int]) -> list[Finding]:
    """Files that the manifest does not name."""
    known = {part.path for part in store.manifest.parts} | {MANIFEST_NAME, LOCK_NAME}
    stray = {path: size for path, size in sizes.items() if path not in known}
    temporary = [path for path in stray if path.rsplit("/", 1)[-1].startswith(TEMP_PREFIX)]
    parts = [path for path in stray if path.partition("/")[0] in TABLES and path not in temporary]
    rest = sorted(set(stray) - set(parts) - set(temporary))
    found = []
    if parts:
        size = filesize.decimal(sum(stray[path] for path in parts))
        files = f"{counted(len(parts), 'superseded file')} ({size})"
        found.append(
            Finding(
                level="note",
                what=f"{files} that the manifest does not name: {_named(sorted(parts))}",
                remedy="newer parts took their place, or a run that was stopped left them; they may be removed",
            )
        )
    if temporary:
        again = "of a run that was killed, or of one that is writing now; the next run removes what is left over"
        found.append(Finding(level="note", what=counted(len(temporary), "half-written file"), remedy=again))
    if rest:
        found.append(Finding(level="note", what=f"{counted(len(rest), 'file')} of no table: {_named(rest)}"))
    if LOCK_NAME in sizes:
        busy = f"{LOCK_NAME} is there: somebody writes this store now, or a run was killed"
        found.append(Finding(level="note", what=busy, remedy="this page shows what was committed when it was made"))
    return found


def gaps(store: Store) -> list[Finding]:
    """Tables that some parts lack and others have, and tables of one part that hold other clips than its others."""
    tables = {name: {part.part: part for part in parts} for name, parts in store.manifest.tables.items()}
    sources = {part.part: group.source for part in store.manifest.parts for group in part.row_groups[:1]}
    found = []
    for name, parts in tables.items():
        lacking = [f"part {number} ({source})" for number, source in sorted(sources.items()) if number not in parts]
        if lacking:
            what = f"{len(lacking)} of {counted(len(sources), 'part number')} without {name}: {_named(lacking)}"
            found.append(Finding(level="warning", what=what, remedy="what reads this table leaves their clips out"))
    other: Counter[tuple[str, str]] = Counter()
    for number in sources:
        held = [name for name, parts in tables.items() if number in parts and TABLES[name].has_camera]
        held.sort(key=list(TABLES).index)
        for name in held[1:]:
            if tables[name][number].row_groups != tables[held[0]][number].row_groups:
                other[held[0], name] += 1
    for (first, name), count in other.items():
        what = f"{counted(count, 'part number')} with other clips in {name} than in {first}"
        found.append(Finding(level="warning", what=what, remedy="these two tables cannot be read side by side"))
    return found


def source_findings(store: Store) -> list[Finding]:
    """Sources in quarantine, and licences that are not known."""
    held = store.manifest.quarantine
    found = []
    if held:
        what = f"{counted(len(held), 'source')} in quarantine: {_named([q.source for q in held])}"
        found.append(Finding(level="warning", what=what, remedy="mend them and run the same preprocessing again"))
    unknown = [part for part in store.manifest.parts if part.provenance.licence.strip().lower() in ("", "unknown")]
    if unknown:
        what = f"{counted(len(unknown), 'part')} without a known licence: {_named([p.path for p in unknown])}"
        found.append(
            Finding(level="warning", what=what, remedy="find out before a model trained on them is given away")
        )
    return found


def _named(names: list[str]) -> str:
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + rest
