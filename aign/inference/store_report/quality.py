"""The quality figures of all clips, and which clips they cost."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from aign.data.schema import TABLES
from aign.data.store import Stage
from aign.data.store.codec import Block
from aign.inference.store_report.clips import ClipReader, ClipRef, clips_of

FIGURES = tuple(name for name, column in TABLES["quality"].columns.items() if column.dtype == "float32")
"""Columns of the quality table; of all of them more is better."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One clip's quality.

    Attributes:
        clip: which.
        figures: by name; empty where the part that holds them is broken.
        passed: whether a selection takes it.
        reasons: why not, each with its numbers.
    """

    clip: ClipRef
    figures: Mapping[str, float]
    passed: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The quality of every clip that was judged.

    Attributes:
        verdicts: by part, in its order.
        limits: of the figures whose stage names one; more than one where parts were judged differently.
    """

    verdicts: tuple[Verdict, ...]
    limits: Mapping[str, tuple[float, ...]]

    @property
    def dropped(self) -> tuple[Verdict, ...]:
        """Clips that failed."""
        return tuple(verdict for verdict in self.verdicts if not verdict.passed)

    @property
    def reasons(self) -> Mapping[str, int]:
        """How many clips failed for what, the most frequent first; a clip may have several reasons."""
        kinds = Counter(kind for verdict in self.dropped for kind in {reason_kind(r) for r in verdict.reasons})
        return dict(kinds.most_common())

    def values(self, figure: str) -> Float[np.ndarray, " n"]:
        """One figure of all clips that have it."""
        return np.array([v.figures[figure] for v in self.verdicts if figure in v.figures], np.float64)

    def worst(self) -> list[Verdict]:
        """All verdicts, dropped clips first, then by their lowest rank among all clips in any figure."""
        lowest = dict.fromkeys(range(len(self.verdicts)), 1.0)
        for figure in FIGURES:
            there = [i for i, verdict in enumerate(self.verdicts) if figure in verdict.figures]
            values = self.values(figure)
            below = np.searchsorted(np.sort(values), values)  # ties share a rank; a constant figure tells nothing
            for i, rank in zip(there, below.tolist(), strict=True):
                if len(np.unique(values)) > 1:
                    lowest[i] = min(lowest[i], rank / len(values))
        order = sorted(lowest, key=lambda i: (self.verdicts[i].passed, lowest[i]))
        return [self.verdicts[i] for i in order]


def reason_kind(reason: str) -> str:
    """A reason without its numbers: the figure it is about, or its words."""
    figure = next((name for name in FIGURES if reason.startswith(name)), None)
    return figure or re.sub(r"\d+(\.\d+)?(e-?\d+)?", "#", reason)


def read_quality(reader: ClipReader) -> Quality | None:
    """Every clip's verdict; None where the store has no quality table.

    What the manifest says about broken parts is kept: which of their clips were dropped.
    """
    records = reader.store.manifest.tables.get("quality", ())
    if not records:
        return None
    verdicts: list[Verdict] = []
    limits: dict[str, set[float]] = {}
    for record in records:
        for stage in record.provenance.stages:
            for figure, limit in _limits(stage).items():
                limits.setdefault(figure, set()).add(limit)
        refs = iter(clips_of(record))
        row = 0
        for index, group in enumerate(record.row_groups):
            broken = ("quality", record.part) in reader.broken
            block = None if broken else reader.group("quality", (*FIGURES, "passed", "reasons"), record.part, index)
            for at in range(len(group.clips)):
                verdicts.append(_verdict(next(refs), block, at, row in record.dropped))
                row += 1
    return Quality(verdicts=tuple(verdicts), limits={name: tuple(sorted(values)) for name, values in limits.items()})


def _verdict(clip: ClipRef, block: Block | None, row: int, dropped: bool) -> Verdict:
    if block is None:
        told = ("not known: its quality part is broken",) if dropped else ()
        return Verdict(clip=clip, figures={}, passed=not dropped, reasons=told)
    said = [text.strip() for text in str(block.arrays["reasons"][row]).split(";")]
    figures = {name: float(block.arrays[name][row]) for name in FIGURES}
    passed = bool(block.arrays["passed"][row])
    return Verdict(clip=clip, figures=figures, passed=passed, reasons=tuple(filter(None, said)) if not passed else ())


def _limits(stage: Stage) -> dict[str, float]:
    """Limits in a stage's parameters: numbers whose name has a figure's in it, at the top or one mapping down.

    A limit of 0 switches a figure off (`aign.data.stages.quality.QualityLimits`).
    """
    nested = [value for value in stage.params.values() if isinstance(value, Mapping)]
    found = {}
    for params in (stage.params, *nested):
        for name, value in params.items():
            figure = next((figure for figure in FIGURES if figure in name), None)
            if figure is not None and isinstance(value, int | float) and value > 0:
                found[figure] = float(value)
    return found
