"""One per-action table, three ways to show it: terminal, Markdown, HTML.

Measured and published rows stand in separate, labelled sections, because they come from different data and often from
different protocols: nearness of two numbers in a table must not suggest more than the data allow.
"""

import html
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from aign.data.actions import ACTIONS_13, ACTIONS_15, SHORT_LABELS
from aign.evaluation.pose import METRICS, Alignment
from aign.evaluation.published import PUBLISHED_DATA, PublishedTable
from aign.evaluation.report import Report
from aign.framework.errors import UserError

DASH = "-"
MEAN_ACTIONS, MEAN_FRAMES = "Avg/act", "Avg/frm"
_HTML_STYLE = (
    "<style>.aign-table{border-collapse:collapse;font:14px system-ui,sans-serif;font-variant-numeric:tabular-nums}"
    ".aign-table th,.aign-table td{padding:4px 8px;text-align:right}"
    ".aign-table th:first-child,.aign-table td:first-child{text-align:left;white-space:nowrap}"
    ".aign-table thead th{border-bottom:2px solid currentColor}"
    ".aign-table caption,.aign-table .section td{text-align:left;color:#666;padding-top:10px}"
    ".aign-table .average{font-weight:600;background:rgba(120,120,120,.12)}"
    ".aign-table .best{color:#0a7d38;font-weight:700}"
    ".aign-notes{font:13px system-ui,sans-serif;color:#666}</style>"
)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One method: its name and one value per head, None where there is none."""

    method: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Section:
    """Rows that share data and protocol. Columns are the table's own unless `heads` says otherwise."""

    label: str
    lines: tuple[Line, ...]
    measured: bool

    def best(self, column: int) -> float | None:
        """Smallest value of a column where there is a choice; published rows are never marked."""
        values = [v for v in (line.values[column] for line in self.lines) if v is not None]
        return min(values) if self.measured and len(values) > 1 else None


@dataclass(frozen=True, kw_only=True)
class Block:
    """Sections that share columns: actions first, then the two averages."""

    heads: tuple[str, ...]
    sections: tuple[Section, ...]


@dataclass(frozen=True, kw_only=True)
class ErrorTable:
    """A table before it is drawn."""

    title: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]


def error_table(
    reports: Sequence[Report],
    *,
    alignment: Alignment | None = None,
    published: PublishedTable | None = None,
) -> ErrorTable:
    """Per-action errors of one or more methods, with a slide table beside them.

    Args:
        reports: one per row; reports of other data or protocols get a section of their own.
        alignment: which error; the first report's headline by default.
        published: rows to print beside ours.

    Raises:
        UserError: no report, or one that lacks the alignment.
    """
    if not reports:
        raise UserError("got no report; a table needs at least one")
    chosen: Alignment = alignment if alignment is not None else next(iter(reports[0].scores))
    for report in reports:
        if chosen not in report.scores:
            raise UserError(
                f"got alignment {chosen!r}; {report.method} under {report.protocol} has {list(report.scores)}"
            )
    ours = _in_order({a for r in reports for a in r.columns})
    theirs = ACTIONS_13 if published else ()
    shared = set(ours) & set(theirs)
    # Open data with action names of its own has no column in common with Human3.6M: two blocks, not a wall of dashes.
    if published and shared:
        columns = _in_order({*ours, *theirs})
        blocks = [_block(columns, (*_measured(reports, chosen, columns), _printed(published, columns)))]
    else:
        blocks = [_block(ours, _measured(reports, chosen, ours))]
        blocks += [_block(theirs, (_printed(published, theirs),))] if published else []
    return ErrorTable(
        title=f"{METRICS[chosen][0]} in mm, lower is better ({_alignment_in_words(chosen)})",
        blocks=tuple(blocks),
        notes=_notes(reports, published),
    )


def _in_order(actions: set[str]) -> tuple[str, ...]:
    known = tuple(a for a in ACTIONS_15 if a in actions)
    return known + tuple(sorted(actions - set(known)))


def _alignment_in_words(alignment: Alignment) -> str:
    return {
        "root": "roots put together, nothing else aligned",
        "similarity": "each pose turned, moved and scaled to fit; never mirrored",
        "scale": "roots put together, each pose scaled to fit",
        "rigid": "each pose turned and moved to fit, size kept; never mirrored",
        "limb329": "roots put together, hip-to-shoulder scaled to 329 mm",
    }[alignment]


def _block(actions: tuple[str, ...], sections: tuple[Section, ...]) -> Block:
    heads = tuple(SHORT_LABELS.get(a, a) for a in actions)
    return Block(heads=(*heads, MEAN_ACTIONS, MEAN_FRAMES), sections=sections)


def _measured(reports: Sequence[Report], alignment: Alignment, columns: tuple[str, ...]) -> tuple[Section, ...]:
    groups: dict[str, list[Line]] = {}
    for r in reports:
        label = f"measured here: {r.data}; protocol {r.protocol} ({r.protocol_hash}); store {r.store_hash[:12]}"
        scores = r.scores[alignment]
        values = (*(scores.per_action.get(a) for a in columns), scores.mean_actions, scores.mean_frames)
        groups.setdefault(label, []).append(Line(method=r.method, values=values))
    return tuple(Section(label=label, lines=tuple(lines), measured=True) for label, lines in groups.items())


def _printed(table: PublishedTable, columns: tuple[str, ...]) -> Section:
    lines = tuple(
        Line(
            method=row.method + (" *" if row.note else ""),
            values=(*(row.per_action.get(a) for a in columns), row.average, None),
        )
        for row in table.rows
    )
    return Section(label=f"published: {PUBLISHED_DATA}; {table.input} input; AIGN slides", lines=lines, measured=False)


def _notes(reports: Sequence[Report], published: PublishedTable | None) -> tuple[str, ...]:
    notes = [
        f"{MEAN_ACTIONS} is the unweighted mean of the protocol's actions that have data, {MEAN_FRAMES} the mean over "
        "all frames of those actions."
    ]
    for r in reports:
        missing = [a for a in r.columns if a not in r.frames_per_action]
        gap = f"; no data for {', '.join(missing)}" if missing else ""
        skipped = f", {r.num_skipped} skipped" if r.num_skipped else ""
        first = next(iter(r.scores.values()))
        means = [f"{n}-action mean {v:.1f}" for n, v in ((13, first.mean_13), (15, first.mean_15)) if v is not None]
        extra = f", {', '.join(means)} ({METRICS[next(iter(r.scores))][0]})" if means else ""
        notes.append(f"{r.method}: {r.num_frames} poses{skipped}, flip rate {100 * r.flip_rate:.1f} %{extra}{gap}.")
    if published:
        notes.append(
            "Published averages are lower than the mean of the 13 printed columns; they fit a mean of 15 actions, two "
            "of which are not printed. The slides do not name the alignment; later papers file them under PA-MPJPE."
        )
        notes += [f"* {row.method}: {row.note} in the slide." for row in published.rows if row.note]
    return tuple(notes)


def _cell(value: float | None) -> str:
    return DASH if value is None else f"{value:.1f}"


def render_text(table: ErrorTable, *, width: int = 100) -> str:
    """Plain text at most `width` wide as long as one column fits: columns that do not fit go on below."""
    return render_rich(table, width=width).plain


def render_rich(table: ErrorTable, *, width: int = 100) -> Text:
    """The same with colour: bold heads, the best measured value of a column in green, published rows dim."""
    text = Text()
    text.append(textwrap.fill(table.title, width) + "\n", style="bold")
    for block in table.blocks:
        for band in _bands(block, width):
            text.append("\n")
            _draw_band(text, block, band, width)
    text.append("\n")
    for note in table.notes:
        text.append(textwrap.fill(note, width, subsequent_indent="  ") + "\n", style="dim")
    return text


def _name_width(block: Block) -> int:
    return max(len(line.method) for section in block.sections for line in section.lines)


def _widths(block: Block) -> list[int]:
    lines = [line for section in block.sections for line in section.lines]
    return [max(len(head), *(len(_cell(line.values[i])) for line in lines)) + 2 for i, head in enumerate(block.heads)]


def _bands(block: Block, width: int) -> list[list[int]]:
    """Column indices that fit side by side, about as many in each band."""
    room, widths = width - _name_width(block), _widths(block)
    share = sum(widths) / math.ceil(sum(widths) / max(room, 1))
    bands: list[list[int]] = [[]]
    for index, need in enumerate(widths):
        taken = sum(widths[i] for i in bands[-1])
        if bands[-1] and (taken + need > room or taken >= share):
            bands.append([])
        bands[-1].append(index)
    return bands


def _draw_band(text: Text, block: Block, band: list[int], width: int) -> None:
    names, widths = _name_width(block), _widths(block)
    heads = " " * names + "".join(block.heads[i].rjust(widths[i]) for i in band)
    text.append(heads + "\n", style="bold").append("-" * len(heads) + "\n", style="dim")
    for section in block.sections:
        text.append(textwrap.fill(section.label, width, subsequent_indent="  ") + "\n", style="italic dim")
        for line in section.lines:
            text.append(line.method.ljust(names))
            for i in band:
                best = line.values[i] is not None and line.values[i] == section.best(i)
                style = "bold green" if best else ("" if section.measured else "dim")
                text.append(_cell(line.values[i]).rjust(widths[i]), style=style)
            text.append("\n")


def render_markdown(table: ErrorTable) -> str:
    """A Markdown table per block; the best measured value of a column in bold."""
    out = [f"**{table.title}**", ""]
    for block in table.blocks:
        out += ["| | " + " | ".join(block.heads) + " |", "|:--|" + "--:|" * len(block.heads)]
        for section in block.sections:
            out.append(f"| *{_escape_markdown(section.label)}* |" + " |" * len(block.heads))
            for line in section.lines:
                cells = [
                    f"**{_cell(v)}**" if v is not None and v == section.best(i) else _cell(v)
                    for i, v in enumerate(line.values)
                ]
                out.append(f"| {_escape_markdown(line.method)} | " + " | ".join(cells) + " |")
        out.append("")
    return "\n".join([*out, *(f"- {_escape_markdown(note)}" for note in table.notes)]) + "\n"


def _escape_markdown(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def render_html(table: ErrorTable) -> str:
    """An HTML fragment with its own small style: no script, nothing fetched."""
    out = [_HTML_STYLE]
    for number, block in enumerate(table.blocks):
        caption = f"<caption>{html.escape(table.title)}</caption>" if number == 0 else ""
        heads = "".join(f"<th{_average_class(head)}>{html.escape(head)}</th>" for head in block.heads)
        out.append(f'<table class="aign-table">{caption}<thead><tr><th></th>{heads}</tr></thead><tbody>')
        for section in block.sections:
            label = html.escape(section.label)
            out.append(f'<tr class="section"><td colspan="{len(block.heads) + 1}">{label}</td></tr>')
            out += [_html_row(block, section, line) for line in section.lines]
        out.append("</tbody></table>")
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in table.notes)
    return "\n".join([*out, f'<ul class="aign-notes">{notes}</ul>']) + "\n"


def _html_row(block: Block, section: Section, line: Line) -> str:
    cells = []
    for i, (head, value) in enumerate(zip(block.heads, line.values, strict=True)):
        best = value is not None and value == section.best(i)
        text = f'<span class="best">{_cell(value)}</span>' if best else _cell(value)
        cells.append(f"<td{_average_class(head)}>{text}</td>")
    return f"<tr><td>{html.escape(line.method)}</td>{''.join(cells)}</tr>"


def _average_class(head: str) -> str:
    return ' class="average"' if head in (MEAN_ACTIONS, MEAN_FRAMES) else ""
