"""The sections of the page as HTML; every text that comes from a store is escaped here."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

from rich import filesize

from aign.inference.page import section
from aign.inference.store_report.charts import bars, histogram
from aign.inference.store_report.facts import Chain, Facts
from aign.inference.store_report.findings import Finding
from aign.inference.store_report.gallery import ClipFigure, Gallery, Tile
from aign.inference.store_report.quality import FIGURES, Quality, Verdict
from aign.inference.store_report.words import duration, number, parameters, shortened

_ROWS = 300
"""A list shows this many of its items and counts the rest."""
_LAYERS = {
    "joints": '<i class="swatch left"></i>left <i class="swatch right"></i>right <i class="swatch centre"></i>centre',
    "mask": '<i class="swatch mask"></i>',
    "flow": '<i class="swatch flow"></i>',
}


def findings(found: Sequence[Finding]) -> str:
    """What is wrong, and what to do about it."""
    items = "".join(
        f'<li class="{f.level}"><b>{f.level}</b>{escape(f.what)}'
        + (f"<span>{escape(f.remedy)}</span>" if f.remedy else "")
        + "</li>"
        for f in found
    )
    body = f'<ul class="findings">{items}</ul>' if items else "<p>Nothing was found.</p>"
    return section("What is wrong", body)


def clips(gallery: Gallery) -> str:
    """Random and worst clips."""
    figures = (*gallery.random, *gallery.worst)
    if not any(figure.tiles for figure in figures):
        return ""
    drawn = "".join(tile.svg for figure in figures for tile in figure.tiles)
    boxes = "".join(
        f'<label><input type="checkbox" value="{name}" checked> {name} {swatches}</label>'
        for name, swatches in _LAYERS.items()
        if f"layer-{name}" in drawn
    )
    layers = f'<div class="layers" hidden>{boxes}</div>' if boxes else ""
    worst = _grid(gallery.worst) or '<p class="text">No quality was measured, so no clip is known to be the worst.</p>'
    return section("Clips to look at", f"{layers}<h3>At random</h3>{_grid(gallery.random)}<h3>The worst</h3>{worst}")


def _grid(figures: Sequence[ClipFigure]) -> str:
    kind = " faces" if figures and all(len(figure.tiles) <= 1 for figure in figures) else ""
    items = "".join(_clip(figure) for figure in figures)
    return f'<div class="clips{kind}">{items}</div>' if items else ""


def _clip(figure: ClipFigure) -> str:
    said = []
    if figure.verdict is not None:
        said = [f"{name} {number(value)}" for name, value in figure.verdict.figures.items()]
    badge = _badge(figure.verdict)
    missing = () if figure.tiles else ("nothing of this clip can be shown",)
    notes = "; ".join((*said, *figure.notes, *missing))
    tiles = "".join(_tile(tile) for tile in figure.tiles)
    return (
        f'<article class="clip"><h3>{badge}<span data-name>{escape(figure.clip.name)}</span></h3>'
        f'<div class="strip">{tiles}</div>' + (f"<p>{escape(notes)}</p>" if notes else "") + "</article>"
    )


def _badge(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    if verdict.passed:
        return '<span class="badge">passed</span>'
    return f'<span class="badge dropped">dropped: {escape("; ".join(verdict.reasons) or "no reason is stored")}</span>'


def _tile(tile: Tile) -> str:
    picture = '<span class="gone">damaged picture</span>' if tile.jpeg is None and not tile.svg else ""
    if tile.jpeg is not None:
        picture = f'<img src="data:image/jpeg;base64,{base64.b64encode(tile.jpeg).decode()}" alt="">'
    ratio = f"{tile.width / tile.height:.4f}"
    return (
        f'<button type="button" class="tile" aria-label="frame {tile.frame}" data-ratio="{ratio}" '
        f'style="aspect-ratio:{tile.width}/{tile.height}">{picture}'
        f'<svg viewBox="0 0 {tile.width} {tile.height}" aria-hidden="true">{tile.svg}</svg>'
        f'<span class="at">{tile.frame}</span></button>'
    )


def contents(facts: Facts) -> str:
    """Tables, and clips by the key columns."""
    rows = [
        (
            escape(t.name), f"{t.parts:,}", f"{t.clips:,}", f"{t.frames:,}", duration(t.seconds),
            filesize.decimal(t.bytes), f"{t.bytes / max(1, t.frames):,.0f}",
        )
        for t in facts.tables
    ]  # fmt: skip
    heads = ("table", "parts", "clips", "frames", "time", "size", "bytes a frame")
    tallies = "".join(bars(tally) for tally in facts.tallies)
    return section("What is in it", _table(heads, rows) + f'<div class="tallies">{tallies}</div>')


def quality(found: Quality | None) -> str:
    """Histograms of the figures, and the clips that failed."""
    if found is None:
        return ""
    charts = "".join(
        histogram(name, found.values(name), found.limits.get(name, ())) for name in FIGURES if len(found.values(name))
    )
    if not found.dropped:
        return section("Quality", f'<div class="charts">{charts}</div><p>No clip failed.</p>')
    reasons = _table(("reason", "clips"), [(escape(kind), f"{count:,}") for kind, count in found.reasons.items()])
    rows = [(escape(v.clip.name), escape("; ".join(v.reasons))) for v in found.dropped]
    share = f"{len(found.dropped):,} of {len(found.verdicts):,} clips failed"
    listed = _details(f"{share}: which, and why", _table(("clip", "why"), rows, wrap=True))
    return section("Quality", f'<div class="charts">{charts}</div>{reasons}{listed}')


def numbers(facts: Facts) -> str:
    """Columns in words, and how tall people are."""
    rows = [
        (
            f"{escape(c.table)}.{escape(c.column)}",
            escape(c.words) + (f" <b>{escape(c.suspicion)}</b>" if c.suspicion else ""),
        )
        for c in facts.columns
    ]
    marks = ["warning" if c.suspicion else "" for c in facts.columns]
    body = _table(("column", "what its numbers say"), rows, marks, wrap=True)
    if facts.people:
        told = ", ".join(f"{escape(p.subject)} {p.height_m:.2f} m" for p in facts.people)
        body += f'<p class="text">Height from ankle to crown, along the bones: {told}.</p>'
    return section("What the numbers say", body)


def not_here(facts: Facts) -> str:
    """Sources that could not be used, and what was left out of others."""
    body = ""
    if facts.quarantine:
        rows = [(escape(q.source), escape(q.stage), escape(shortened(q.error))) for q in facts.quarantine]
        body += "<h3>Quarantine</h3>" + _table(("source", "stage", "error"), rows, wrap=True)
    if facts.left_out:
        rows2 = [(escape(line.source), escape(line.why)) for line in facts.left_out]
        lines = _table(("source", "left out"), rows2, wrap=True)
        body += "<h3>Left out of sources that were used</h3>" + lines
    return section("What is not in it", body)


def provenance(facts: Facts) -> str:
    """Licences, stages, and every part."""
    licences = [(escape(x.tag or "none"), f"{x.parts:,}", f"{x.frames:,}", _names(x.sources)) for x in facts.licences]
    rows, marks = [], []
    for part in facts.parts:
        problem = facts.broken.get((part.table, part.part), "")
        origin = part.provenance
        hashes = " ".join(_short_hash(h) for h in origin.source_hashes)
        rows.append(
            (
                escape(part.path), _names(tuple(dict.fromkeys(g.source for g in part.row_groups))),
                f"{part.frames:,}", filesize.decimal(part.bytes), f"<code>{part.sha256[:12]}</code>", hashes,
                escape(problem or "sound"),
            )
        )  # fmt: skip
        marks.append("broken" if problem else "")
    heads = ("part", "source", "frames", "size", "sha256", "sources' hashes", "state")
    listed = _details(f"All {len(rows):,} parts", _table(heads, rows, marks, wrap=True))
    body = (
        "<h3>Licences</h3>" + _table(("licence", "parts", "frames", "sources"), licences, wrap=True)
        + "<h3>Stages</h3>" + "".join(_chain(chain) for chain in facts.chains) + listed
    )  # fmt: skip
    return section("Where it comes from", body)


def _chain(chain: Chain) -> str:
    count = "1 part" if len(chain.parts) == 1 else f"{len(chain.parts):,} parts"
    stages = "".join(
        f"<li><b>{escape(s.name)}</b> {escape(s.version)} "
        f"<code>{escape(shortened(parameters(dict(s.params))))}</code></li>"
        for s in chain.stages
    )
    return (
        f'<div class="chain"><h3>{escape(chain.table)} <small>{count}, by {escape(chain.producer)}</small></h3>'
        f'<ol class="stages">{stages}</ol></div>'
    )


def _short_hash(value: str) -> str:
    return f'<code title="{escape(value)}">{escape(value[:12])}</code>'


def _names(names: Sequence[str], most: int = 6) -> str:
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return escape(", ".join(names[:most]) + rest)


def _details(summary: str, body: str) -> str:
    return f"<details><summary>{summary}</summary>{body}</details>"


def _table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], marks: Iterable[str] = (), *, wrap: bool = False
) -> str:
    """A table of cells that are HTML already."""
    classes = [*marks] or [""] * len(rows)
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(
        f'<tr class="{mark}">' + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"
        for row, mark in zip(rows[:_ROWS], classes[:_ROWS], strict=True)
    )
    more = f'<p class="note">and {len(rows) - _ROWS:,} more</p>' if len(rows) > _ROWS else ""
    kind = "plain wrap" if wrap else "plain"
    inside = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="scroll"><table class="{kind}">{inside}</table></div>{more}'
