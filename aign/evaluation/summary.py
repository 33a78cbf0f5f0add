"""Several seeds of each method in one table: mean, spread, and the ratio to the methods that are to be beaten.

The spread is the sample standard deviation over seeds. A ratio is one of means, so it has no spread of its own.
"""

import csv
import html
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from rich.table import Table

from aign.evaluation.lifting import metrics
from aign.evaluation.report import Report, Scores
from aign.framework.errors import UserError

COLUMNS: Mapping[str, str] = {
    "pa_mpjpe_mm": "PA-MPJPE",
    "mpjpe_mm": "MPJPE",
    "n_mpjpe_mm": "N-MPJPE",
    "flip_rate": "flips %",
}
"""What is shown of each method, and its head; millimetres but for the last, which is in percent."""

COMPARED: Mapping[str, str] = {"pa_mpjpe_mm": "PA", "mpjpe_mm": "MPJPE"}
"""Errors that ratios are made of."""

DASH = "-"

Kind: TypeAlias = Literal["trained", "untrained", "bound"]
"""A network; a method that has none; or a bound, which has seen the truth and is no competitor."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean over seeds and sample standard deviation, which one seed does not have."""

    mean: float
    deviation: float | None
    seeds: int


def spread(values: Sequence[float]) -> Spread:
    """Mean and spread of one value a seed.

    Raises:
        UserError: no value.
    """
    if not values:
        raise UserError("got no value to average; a row needs at least one seed")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Spread(mean=mean, deviation=None, seeds=1)
    square = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return Spread(mean=mean, deviation=math.sqrt(square), seeds=len(values))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A method and what was measured of it.

    Attributes:
        key: of the method; one that stands in several groups is the same method.
        label: as printed.
        group: heading that it stands under.
        reports: one a seed, of the same frames under the same protocol.
        kind: what it is.
    """

    key: str
    label: str
    group: str
    reports: tuple[Report, ...]
    kind: Kind = "trained"


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    """A method over its seeds.

    Attributes:
        key: of the method.
        label: as printed.
        group: heading that it stands under.
        seeds: how many.
        kind: what it is.
        cells: by name in `COLUMNS`; flips in percent. What the protocol does not compute is not there.
        ratios: by (name in `COMPARED`, key of the reference), of the means.
    """

    key: str
    label: str
    group: str
    seeds: int
    kind: Kind
    cells: Mapping[str, Spread]
    ratios: Mapping[tuple[str, str], float]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The table before it is drawn.

    Attributes:
        rows: in order; those of a group stand together.
        references: key of each method that others are divided by, and its head, e.g. "/F2D".
    """

    rows: tuple[SummaryRow, ...]
    references: Mapping[str, str]

    @property
    def heads(self) -> tuple[str, ...]:
        """Of all columns but the first."""
        return (*COLUMNS.values(), *(f"{short} {head}" for short, head in self._pairs().values()))

    def cells(self, row: SummaryRow) -> tuple[str, ...]:
        """Text of all columns of a row but the first."""
        values = [_cell(row.cells.get(name), name) for name in COLUMNS]
        ratios = [row.ratios.get(pair) for pair in self._pairs()]
        return (*values, *(DASH if ratio is None else f"{ratio:.2f}" for ratio in ratios))

    def is_best(self, row: SummaryRow, column: int) -> bool:
        """Whether no other method that plays fair has a smaller error; never of flips, where many have none."""
        name = dict(enumerate(name for name in COLUMNS if name != "flip_rate")).get(column, "")
        means = [fair.cells[name].mean for fair in self.rows if fair.kind != "bound" and name in fair.cells]
        mine = row.cells.get(name)
        return mine is not None and row.kind != "bound" and len(means) > 1 and mine.mean == min(means)

    def groups(self) -> Iterator[tuple[str, tuple[SummaryRow, ...]]]:
        """Headings and their rows, in order of first appearance."""
        for group in dict.fromkeys(row.group for row in self.rows):
            yield group, tuple(row for row in self.rows if row.group == group)

    def _pairs(self) -> dict[tuple[str, str], tuple[str, str]]:
        return {(n, key): (short, head) for n, short in COMPARED.items() for key, head in self.references.items()}


def summarise(measured: Sequence[Measured], references: Mapping[str, str]) -> Summary:
    """Means, spreads and ratios.

    Args:
        measured: the methods.
        references: key of each method to divide by, and its column's head; one that was not measured is left out.

    Raises:
        UserError: a key twice in a group, a method without a report, or reports of different frames, stores or
            protocols.
    """
    places = [(m.group, m.key) for m in measured]
    if twice := sorted({key for group, key in places if places.count((group, key)) > 1}):
        raise UserError(f"got {', '.join(twice)} twice; allowed are rows of different keys in a group")
    _check_alike(measured)
    cells = {m.key: _cells(m.reports) for m in measured}
    known = {key: head for key, head in references.items() if key in cells}
    rows = tuple(
        SummaryRow(
            key=m.key, label=m.label, group=m.group, seeds=len(m.reports), kind=m.kind, cells=cells[m.key],
            ratios=_ratios(cells, m.key, known),
        )
        for m in measured
    )  # fmt: skip
    return Summary(rows=rows, references=known)


def _check_alike(measured: Sequence[Measured]) -> None:
    """Rows may be compared only if they are of the same frames under the same protocol.

    A bound that needs joints which are not always known may skip frames, so what was selected counts.
    """
    found = {
        (r.protocol, r.protocol_hash, r.store_hash, r.num_frames + r.num_skipped): m.label
        for m in measured
        for r in m.reports
    }
    if len(found) > 1:
        (one, first), (other, second) = list(found.items())[:2]
        fields = ("protocol", "its hash", "store", "frames")
        differ = ", ".join(f"{n} {a} and {b}" for n, a, b in zip(fields, one, other, strict=True) if a != b)
        raise UserError(f"{first!r} and {second!r} cannot stand in one table: {differ}")


def _cells(reports: Sequence[Report]) -> dict[str, Spread]:
    numbers = [metrics(report) for report in reports]
    percent = [{**n, "flip_rate": 100 * n["flip_rate"]} for n in numbers]
    shared = [name for name in COLUMNS if not percent or all(name in n for n in percent)]
    return {name: spread([n[name] for n in percent]) for name in shared}


def _ratios(
    cells: Mapping[str, Mapping[str, Spread]], key: str, references: Mapping[str, str]
) -> dict[tuple[str, str], float]:
    return {
        (name, other): cells[key][name].mean / cells[other][name].mean
        for name in COMPARED
        for other in references
        if name in cells[key] and name in cells[other] and cells[other][name].mean > 0
    }


def mean_report(reports: Sequence[Report]) -> Report:
    """One report whose numbers are the means over seeds, for a table with a line a method.

    Raises:
        UserError: no report.
    """
    if not reports:
        raise UserError("got no report to average; a row needs at least one seed")
    first = reports[0]
    scores = {name: _mean_scores([r.scores[name] for r in reports]) for name in first.scores}
    return replace(first, scores=scores, flip_rate=math.fsum(r.flip_rate for r in reports) / len(reports))


def _mean_scores(scores: Sequence[Scores]) -> Scores:
    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return math.fsum(known) / len(known) if len(known) == len(values) else None

    return Scores(
        per_action={a: math.fsum(s.per_action[a] for s in scores) / len(scores) for a in scores[0].per_action},
        mean_actions=mean([s.mean_actions for s in scores]),
        mean_frames=mean([s.mean_frames for s in scores]),
        mean_13=mean([s.mean_13 for s in scores]),
        mean_15=mean([s.mean_15 for s in scores]),
    )


def _cell(value: Spread | None, name: str) -> str:
    """Mean +- spread; flips of well under a percent need a second digit."""
    if value is None:
        return DASH
    digits = 2 if name == "flip_rate" and value.mean < 1 else 1
    deviation = "" if value.deviation is None else f" +- {value.deviation:.{digits}f}"
    return f"{value.mean:.{digits}f}{deviation}"


def render_rich(summary: Summary) -> Table:
    """For a terminal; the best of a column in green."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", no_wrap=True)
    for head in summary.heads:
        table.add_column(head, justify="right", no_wrap=True)
    for group, rows in summary.groups():
        table.add_row(f"[italic dim]{group}[/]")
        for row in rows:
            cells = [
                f"[bold green]{text}[/]" if summary.is_best(row, i) else text
                for i, text in enumerate(summary.cells(row))
            ]
            table.add_row(row.label, *cells, style="dim" if row.kind == "bound" else None)
    return table


def render_markdown(summary: Summary) -> str:
    """A Markdown table; the best of a column in bold."""
    out = ["| | " + " | ".join(summary.heads) + " |", "|:--|" + "--:|" * len(summary.heads)]
    for group, rows in summary.groups():
        out.append(f"| *{_plain(group)}* |" + " |" * len(summary.heads))
        for row in rows:
            cells = [f"**{t}**" if summary.is_best(row, i) else t for i, t in enumerate(summary.cells(row))]
            out.append(f"| {_plain(row.label)} | " + " | ".join(cells) + " |")
    return "\n".join(out) + "\n"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def render_html(summary: Summary) -> str:
    """An HTML fragment in the classes of `aign.evaluation.tables`, whose style it needs beside it."""
    heads = "".join(f"<th>{html.escape(head)}</th>" for head in summary.heads)
    out = [f'<table class="aign-table"><thead><tr><th></th>{heads}</tr></thead><tbody>']
    for group, rows in summary.groups():
        out.append(f'<tr class="section"><td colspan="{len(summary.heads) + 1}">{html.escape(group)}</td></tr>')
        for row in rows:
            cells = [
                f'<td><span class="best">{text}</span></td>' if summary.is_best(row, i) else f"<td>{text}</td>"
                for i, text in enumerate(text.replace("+-", "\N{PLUS-MINUS SIGN}") for text in summary.cells(row))
            ]
            out.append(f"<tr><td>{html.escape(row.label)}</td>{''.join(cells)}</tr>")
    return "\n".join([*out, "</tbody></table>"]) + "\n"


def render_csv(summary: Summary) -> str:
    """One line a method, all digits: key, label, group, seeds, mean and spread of every column, every ratio."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [part for name in COLUMNS for part in (name, f"{name}_sd")]
    pairs = [(name, key) for name in COMPARED for key in summary.references]
    writer.writerow(["key", "label", "group", "seeds", *names, *(f"{name}_ratio_to_{key}" for name, key in pairs)])
    for row in summary.rows:
        cells = [row.cells.get(name) for name in COLUMNS]
        numbers = [x for cell in cells for x in ((None, None) if cell is None else (cell.mean, cell.deviation))]
        ratios = [row.ratios.get(pair) for pair in pairs]
        writer.writerow([row.key, row.label, row.group, row.seeds, *numbers, *ratios])
    return text.getvalue()
