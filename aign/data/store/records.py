"""What is written down about one part: where it comes from, what is in it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aign.data.schema import SCHEMA_VERSION, ClipKey
from aign.data.store.statistics import Moments


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One preprocessing step that made the data: a change of any field makes new parts."""

    name: str
    version: str
    params: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a part comes from; written into its file.

    Args:
        source_hashes: sha256 (or a like fingerprint) of the inputs, in order.
        stages: the stage chain that was run on them.
        skeleton: name of the joint set of all "J" axes.
        num_joints: its joint count.
        licence: licence tag of the data.
        producer: program and version that wrote the part.
    """

    source_hashes: tuple[str, ...]
    stages: tuple[Stage, ...]
    skeleton: str
    num_joints: int
    licence: str
    producer: str

    @property
    def hash(self) -> str:
        """Sha256 over what decides the content: inputs, stage chain, skeleton and schema version."""
        made_of = [list(self.source_hashes), [asdict(s) for s in self.stages], self.skeleton, SCHEMA_VERSION]
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "Provenance":
        """Inverse of `dataclasses.asdict`."""
        rest = {**data, "source_hashes": tuple(data["source_hashes"])}
        return Provenance(**{**rest, "stages": tuple(Stage(**s) for s in data["stages"])})


@dataclass(frozen=True, kw_only=True)
class ClipSpan:
    """What differs between the rows of one row group."""

    camera: str
    frame_start: int
    num_frames: int


@dataclass(frozen=True, kw_only=True)
class RowGroup:
    """Consecutive rows of one sequence: the unit of selection and of the training loader."""

    sequence: str
    subject: str
    action: str
    source: str
    fps: float
    clips: tuple[ClipSpan, ...]

    @property
    def frames(self) -> int:
        """Frames of all clips."""
        return sum(span.num_frames for span in self.clips)

    @property
    def cameras(self) -> frozenset[str]:
        """Cameras of the clips."""
        return frozenset(span.camera for span in self.clips)

    def clip_keys(self) -> tuple[ClipKey, ...]:
        """The key columns of every row."""
        return tuple(
            ClipKey(
                sequence=self.sequence,
                subject=self.subject,
                action=self.action,
                camera=span.camera,
                source=self.source,
                frame_start=span.frame_start,
                num_frames=span.num_frames,
                fps=self.fps,
            )
            for span in self.clips
        )

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "RowGroup":
        """Inverse of `dataclasses.asdict`."""
        return RowGroup(**{**data, "clips": tuple(ClipSpan(**c) for c in data["clips"])})


@dataclass(frozen=True, kw_only=True)
class PartRecord:
    """One published file.

    Args:
        table: its table.
        part: its number; the same number holds the same clips in every table.
        path: relative to the store.
        bytes: file size.
        sha256: of the file.
        provenance: what made it.
        row_groups: what is in it, in order.
        statistics: moments of its float columns.
        left_out: what its source also held and why it is not here, a line each.
        dropped: rows, counted through all row groups, that failed their quality limits; only quality parts have some.
    """

    table: str
    part: int
    path: str
    bytes: int
    sha256: str
    provenance: Provenance
    row_groups: tuple[RowGroup, ...]
    statistics: Mapping[str, Moments]
    left_out: tuple[str, ...] = ()
    dropped: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """Clips in the part."""
        return sum(len(group.clips) for group in self.row_groups)

    @property
    def frames(self) -> int:
        """Frames in the part."""
        return sum(group.frames for group in self.row_groups)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "statistics": {k: v.to_dict() for k, v in self.statistics.items()}}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "PartRecord":
        """Inverse of `to_dict`."""
        return PartRecord(
            **{
                **data,
                "provenance": Provenance.from_dict(data["provenance"]),
                "row_groups": tuple(RowGroup.from_dict(g) for g in data["row_groups"]),
                "statistics": {k: Moments.from_dict(v) for k, v in data["statistics"].items()},
                "left_out": tuple(data["left_out"]),
                "dropped": tuple(data["dropped"]),
            }
        )
