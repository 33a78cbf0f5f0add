"""One per-action table, four ways to show it: terminal, Markdown, HTML, CSV.

Measured and published rows stand in separate, labelled sections, because they come from different data and often from
different protocols: nearness of two numbers in a table must not suggest more than the data allow.
"""

import csv
import html
import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import replace

from rich.text import Text

from aign.data.actions import ACTIONS_13, ACTIONS_15, SHORT_LABELS
from aign.evaluation.notes import MEAN_13, MEAN_15, MEAN_ACTIONS, MEAN_FRAMES, alignment_in_words, notes
from aign.evaluation.pose import METRICS, Alignment
from aign.evaluation.published import CANDIDATES, PUBLISHED_DATA, PublishedRow, PublishedTable
from aign.evaluation.report import Report, Scores
from aign.evaluation.table_model import Block, ErrorTable, Line, Section
from aign.framework.errors import UserError

DASH = "-"
HTML_STYLE = (
    "<style>.aign-table{border-collapse:collapse;font:14px system-ui,sans-serif;font-variant-numeric:tabular-nums}"
    ".aign-table th,.aign-table td{padding:4px 8px;text-align:right}"
    ".aign-table th:first-child,.aign-table td:first-child{text-align:left;white-space:nowrap}"
    ".aign-table thead th{border-bottom:2px solid currentColor}"
    ".aign-table caption,.aign-table .section td{text-align:left;color:#666;padding-top:10px}"
    ".aign-table .average{font-weight:600;background:rgba(120,120,120,.12)}"
    ".aign-table .best{color:#0a7d38;font-weight:700}"
    ".aign-notes{font:13px system-ui,sans-serif;color:#666}</style>"
)
"""Of every table where it stands alone; a page brings its own."""


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
        published: rows to print beside ours; the columns are then in the slide's order.

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
    return ErrorTable(
        title=f"{_name(chosen)} in mm, lower is better ({alignment_in_words(chosen)})",
        blocks=_blocks(reports, chosen, published),
        notes=notes(reports, published),
    )


def slide_table(reports: Sequence[Report], published: PublishedTable | None = None) -> ErrorTable:
    """The slide's table: its columns, its rows beside ours, and a block for each alignment it may have used.

    Args:
        reports: one per row.
        published: the slide's rows; they stand in every block, because which alignment they are of is not known.

    Raises:
        UserError: no report, or one that lacks an alignment.
    """
    tables = [(chosen, error_table(reports, alignment=chosen, published=published)) for chosen in CANDIDATES]
    blocks = [
        replace(block, caption=f"{_name(chosen)} ({alignment_in_words(chosen)})")
        for chosen, table in tables
        for block in table.blocks
    ]
    title = f"3D reconstruction error in mm, lower is better; {len(CANDIDATES)} readings of what the slides aligned"
    return ErrorTable(title=title, blocks=tuple(blocks), notes=tables[0][1].notes)


def _name(alignment: Alignment) -> str:
    return METRICS[alignment][0]


def _blocks(reports: Sequence[Report], chosen: Alignment, published: PublishedTable | None) -> tuple[Block, ...]:
    ours = {a for r in reports for a in r.columns}
    if published is None:
        return (_block(reports, chosen, _in_order(ours, ACTIONS_15)),)
    # Open data with action names of its own has no column in common with Human3.6M: two blocks, not a wall of dashes.
    if not ours & set(ACTIONS_13):
        means = (MEAN_13, MEAN_15)
        theirs = Block(heads=(*_heads(ACTIONS_13), *means), sections=(_printed(published, ACTIONS_13, means),))
        return (_block(reports, chosen, _in_order(ours, ACTIONS_15)), theirs)
    measured = {a for r in reports for a in r.scores[chosen].per_action if a in ACTIONS_15}
    slide = (*ACTIONS_13, *(a for a in ACTIONS_15 if a not in ACTIONS_13))
    return (_block(reports, chosen, _in_order({*ours, *measured, *ACTIONS_13}, slide), published),)


def _in_order(actions: set[str], order: tuple[str, ...]) -> tuple[str, ...]:
    known = tuple(a for a in order if a in actions)
    return known + tuple(sorted(actions - set(known)))


def _heads(actions: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(SHORT_LABELS.get(a, a) for a in actions)


def _block(
    reports: Sequence[Report], chosen: Alignment, columns: tuple[str, ...], published: PublishedTable | None = None
) -> Block:
    means = _means([r.scores[chosen] for r in reports], published is not None)
    sections = _measured(reports, chosen, columns, means)
    printed = () if published is None else (_printed(published, columns, means),)
    return Block(heads=(*_heads(columns), *means), sections=(*sections, *printed))


def _means(scores: Sequence[Scores], slide: bool) -> tuple[str, ...]:
    """Averages that say something: those of 13 and 15 actions where somebody has all of them, else of what there is."""
    wanted = {
        MEAN_ACTIONS: any(s.mean_13 is None for s in scores),
        MEAN_13: slide or any(s.mean_13 is not None for s in scores),
        MEAN_15: slide or any(s.mean_15 is not None for s in scores),
        MEAN_FRAMES: True,
    }
    return tuple(name for name, shown in wanted.items() if shown)


def _measured(
    reports: Sequence[Report], alignment: Alignment, columns: tuple[str, ...], means: tuple[str, ...]
) -> tuple[Section, ...]:
    groups: dict[str, list[Line]] = {}
    for r in reports:
        label = f"measured here: {r.data}; protocol {r.protocol} ({r.protocol_hash}); store {r.store_hash[:12]}"
        s = r.scores[alignment]
        known = {MEAN_ACTIONS: s.mean_actions, MEAN_13: s.mean_13, MEAN_15: s.mean_15, MEAN_FRAMES: s.mean_frames}
        values = (*(s.per_action.get(a) for a in columns), *(known[name] for name in means))
        groups.setdefault(label, []).append(Line(method=r.method, values=values))
    return tuple(Section(label=label, lines=tuple(lines), measured=True) for label, lines in groups.items())


def _printed(table: PublishedTable, columns: tuple[str, ...], means: tuple[str, ...]) -> Section:
    def line(row: PublishedRow) -> Line:
        # The printed average fits 15 actions (see `PublishedTable`); that of the 13 printed columns is taken here.
        known = {MEAN_13: sum(row.columns) / len(row.columns), MEAN_15: row.average}
        values = (*(row.per_action.get(a) for a in columns), *(known.get(name) for name in means))
        return Line(method=row.method + (" *" if row.note else ""), values=values)

    label = f"published: {PUBLISHED_DATA}; {table.input} input; AIGN slides"
    return Section(label=label, lines=tuple(line(row) for row in table.rows), measured=False)


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
        if block.caption:
            text.append("\n" + textwrap.fill(block.caption, width) + "\n", style="bold")
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
        out += [f"*{block.caption}*", ""] if block.caption else []
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
    out = [HTML_STYLE]
    for number, block in enumerate(table.blocks):
        lines = [*([table.title] if number == 0 else []), *([block.caption] if block.caption else [])]
        caption = f"<caption>{'<br/>'.join(map(html.escape, lines))}</caption>" if lines else ""
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
    return ' class="average"' if head in (MEAN_ACTIONS, MEAN_13, MEAN_15, MEAN_FRAMES) else ""


def render_csv(table: ErrorTable) -> str:
    """One line per row of any block: which error, where it comes from, the method, and the values to 0.001 mm.

    Columns are those of all blocks; a value that is not there is empty. The notes are not in it.
    """
    heads = list(dict.fromkeys(head for block in table.blocks for head in block.heads))
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["error", "source", "method", *heads])
    for block in table.blocks:
        for section in block.sections:
            for line in section.lines:
                values = dict(zip(block.heads, line.values, strict=True))
                cells = ["" if (v := values.get(head)) is None else f"{v:.3f}" for head in heads]
                out.writerow([block.caption or table.title, section.label, line.method, *cells])
    return text.getvalue()
