"""Everything there is to say about a store, read from its manifest and, where that is not enough, from its parts."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from aign.data.schema import SCHEMA_VERSION, ClipKey
from aign.data.store import PartRecord, Quarantined, Stage, Store
from aign.data.store.files import list_files
from aign.inference.store_report.clips import ClipReader
from aign.inference.store_report.findings import (
    Finding,
    Place,
    broken_findings,
    broken_parts,
    gaps,
    source_findings,
    stray_files,
)
from aign.inference.store_report.numbers import HEIGHT_M, ColumnFacts, Person, column_facts, people
from aign.inference.store_report.quality import Quality, read_quality


@dataclass(frozen=True, kw_only=True)
class TableFacts:
    """One table: how much of it there is."""

    name: str
    parts: int
    clips: int
    frames: int
    bytes: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Clips and frames by one of the key columns, the most frames first."""

    title: str
    rows: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Parts of one table that the same stages made."""

    table: str
    stages: tuple[Stage, ...]
    producer: str
    parts: tuple[PartRecord, ...]


@dataclass(frozen=True, kw_only=True)
class Licence:
    """What is under one licence; frames count once, in however many tables they are."""

    tag: str
    parts: int
    frames: int
    sources: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Something a source also held."""

    source: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A store in numbers and names.

    Attributes:
        url: of the store.
        hash: of its content.
        schema_version: of its tables.
        skeleton: joint set.
        num_joints: its joint count.
        verified: whether every byte was compared; else only sizes were.
        files_bytes: of everything in its folder.
        tables: by name.
        tallies: by subject, action, camera and frame rate.
        columns: the float columns in words.
        people: heights.
        quality: of the clips, if there is such a table.
        left_out: of all sources.
        quarantine: sources that could not be used.
        chains: what made the parts.
        licences: of the parts.
        parts: all, as the manifest names them.
        broken: what is wrong with which part.
        findings: what is wrong, the worst first.
    """

    url: str
    hash: str
    schema_version: int
    skeleton: str
    num_joints: int
    verified: bool
    files_bytes: int
    tables: tuple[TableFacts, ...]
    tallies: tuple[Tally, ...]
    columns: tuple[ColumnFacts, ...]
    people: tuple[Person, ...]
    quality: Quality | None
    left_out: tuple[LeftOut, ...]
    quarantine: tuple[Quarantined, ...]
    chains: tuple[Chain, ...]
    licences: tuple[Licence, ...]
    parts: tuple[PartRecord, ...]
    broken: Mapping[Place, str]
    findings: tuple[Finding, ...]


def gather(store: Store, verify: bool = True) -> Facts:
    """Look at all of a store; whatever is broken is noted, and the rest goes on.

    Args:
        store: which.
        verify: compare every byte with the manifest, instead of sizes only.

    Raises:
        UserError: the store's folder cannot be listed.
    """
    manifest = store.manifest
    sizes = list_files(store.url)
    reader = ClipReader(store, broken_parts(store, sizes, verify))
    named = broken_findings(store, reader.broken)
    quality, persons = read_quality(reader), people(reader)
    columns = column_facts(store)
    found = [
        *named, *reader.findings, *gaps(store), *source_findings(store),
        *_suspicions(columns, persons), *_losses(quality), *stray_files(store, sizes),
    ]  # fmt: skip
    return Facts(
        url=store.url,
        hash=store.hash,
        schema_version=SCHEMA_VERSION,
        skeleton=manifest.skeleton,
        num_joints=manifest.num_joints,
        verified=verify,
        files_bytes=sum(sizes.values()),
        tables=tuple(_table(name, parts) for name, parts in manifest.tables.items()),
        tallies=_tallies(manifest.parts),
        columns=tuple(columns),
        people=tuple(persons),
        quality=quality,
        left_out=_left_out(manifest.parts),
        quarantine=manifest.quarantine,
        chains=_chains(manifest.parts),
        licences=_licences(manifest.parts),
        parts=manifest.parts,
        broken=reader.broken,
        findings=in_order(found),
    )


def in_order(findings: list[Finding]) -> tuple[Finding, ...]:
    """The worst first."""
    return tuple(sorted(findings, key=lambda f: ("broken", "warning", "note").index(f.level)))


def _table(name: str, parts: tuple[PartRecord, ...]) -> TableFacts:
    return TableFacts(
        name=name,
        parts=len(parts),
        clips=sum(part.rows for part in parts),
        frames=sum(part.frames for part in parts),
        bytes=sum(part.bytes for part in parts),
        seconds=sum(group.frames / group.fps for part in parts for group in part.row_groups),
    )


def _tallies(parts: tuple[PartRecord, ...]) -> tuple[Tally, ...]:
    """Every clip counts once, in however many tables it is; a motion that cameras saw counts through them."""
    seen: dict[tuple[str, str, int], ClipKey] = {}
    for part in parts:
        for group in part.row_groups:
            seen.update({(k.sequence, k.camera, k.frame_start): k for k in group.clip_keys()})
    filmed = {key.sequence for key in seen.values() if key.camera}
    keys = [key for key in seen.values() if key.camera or key.sequence not in filmed]
    columns: Mapping[str, Callable[[ClipKey], str]] = {
        "subject": lambda key: key.subject,
        "action": lambda key: key.action,
        "camera": lambda key: key.camera,
        "frame rate": lambda key: f"{key.fps:g} a second",
    }
    tallies = []
    for title, of in columns.items():
        clips, frames = Counter[str](), Counter[str]()
        for key in keys:
            if of(key):
                clips[of(key)] += 1
                frames[of(key)] += key.num_frames
        if clips:
            rows = tuple((name, clips[name], count) for name, count in frames.most_common())
            tallies.append(Tally(title=title, rows=rows))
    return tuple(tallies)


def _chains(parts: tuple[PartRecord, ...]) -> tuple[Chain, ...]:
    made: dict[tuple[str, str, str], list[PartRecord]] = defaultdict(list)
    for part in parts:
        stages = json.dumps([asdict(stage) for stage in part.provenance.stages], sort_keys=True)
        made[part.table, stages, part.provenance.producer].append(part)
    return tuple(
        Chain(table=table, stages=same[0].provenance.stages, producer=producer, parts=tuple(same))
        for (table, _, producer), same in made.items()
    )


def _licences(parts: tuple[PartRecord, ...]) -> tuple[Licence, ...]:
    tags: dict[str, list[PartRecord]] = defaultdict(list)
    for part in parts:
        tags[part.provenance.licence].append(part)
    return tuple(
        Licence(
            tag=tag,
            parts=len(same),
            frames=sum(max(p.frames for p in same if p.part == number) for number in {p.part for p in same}),
            sources=tuple(dict.fromkeys(group.source for part in same for group in part.row_groups)),
        )
        for tag, same in sorted(tags.items())
    )


def _left_out(parts: tuple[PartRecord, ...]) -> tuple[LeftOut, ...]:
    """Each line once: all tables of a part repeat what its source lost."""
    lines = {(part.part, why): part.row_groups[0].source for part in parts for why in part.left_out}
    return tuple(LeftOut(source=source, why=why) for (_, why), source in sorted(lines.items()))


def _suspicions(columns: list[ColumnFacts], persons: list[Person]) -> list[Finding]:
    found = [
        Finding(level="warning", what=f"{c.table}.{c.column}: {c.suspicion} ({c.words})")
        for c in columns
        if c.suspicion
    ]
    for person in persons:
        if not person.plausible:
            what = f"subject {person.subject} is {person.height_m:.2f} m tall along the bones"
            allowed = f"people are {HEIGHT_M[0]:g} to {HEIGHT_M[1]:g} m: look at the source's units and joint order"
            found.append(Finding(level="warning", what=what, remedy=allowed))
    return found


def _losses(quality: Quality | None) -> list[Finding]:
    if quality is None or not quality.dropped:
        return []
    lost, total = len(quality.dropped), len(quality.verdicts)
    what = f"{lost} of {total} clips failed their quality limits"
    return [
        Finding(
            level="warning" if 2 * lost > total else "note",
            what=what,
            remedy="no selection takes them unless it asks for dropped clips",
        )
    ]
