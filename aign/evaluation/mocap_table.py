"""One table of motion-capture methods: a row each, mean and spread over seeds, what was published in a section apart.

Every column has its own unit and its own meaning, so what stands in it says what was forgiven; a column that nobody has
a value for is not drawn.
"""

import csv
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from aign.evaluation.mocap_report import MocapReport
from aign.evaluation.published import PublishedMesh
from aign.evaluation.summary import Spread, spread
from aign.framework.errors import UserError

DASH = "-"


@dataclass(frozen=True, kw_only=True)
class Column:
    """A number of the reports as it is shown.

    Attributes:
        head: with the unit where it is not millimetres.
        meaning: what it forgives, for the note.
        factor: from the report's unit to the shown one.
        digits: behind the point.
        more_is_better: only of overlaps.
    """

    head: str
    meaning: str
    factor: float = 1.0
    digits: int = 1
    more_is_better: bool = False


COLUMNS: Mapping[str, Column] = {
    "mpjpe_origin_mm": Column(head="MPJPE origin", meaning="joints about the body model's origin"),
    "mpjpe_pelvis_mm": Column(head="MPJPE pelvis", meaning="joints about the pelvis"),
    "mpjpe_root_mm": Column(head="MPJPE root", meaning="joints about the protocol's root"),
    "pa_mpjpe_mm": Column(head="PA-MPJPE", meaning="joints after the best similarity of each frame"),
    "pve_mm": Column(head="PVE", meaning="vertices about the pelvis"),
    "surface_canonical_mm": Column(head="surface", meaning="vertices before the global rotation, which costs nothing"),
    "acceleration_m_per_s2": Column(
        head="accel m/s2", meaning="second differences in time of joints about the root", digits=2
    ),
    "foot_slide_mm": Column(head="foot slide", meaning="mm a frame that a standing foot moves in the camera"),
    "ankle_slide_mm": Column(head="ankle slide", meaning="the same of the ankle, in joint sets without feet"),
    "reprojection_px": Column(head="reproj. px", meaning="projected joints from the keypoints", digits=2),
    "mask_iou": Column(
        head="IoU %",
        meaning="overlap of the drawn body and the mask; more is better",
        factor=100.0,
        more_is_better=True,
    ),
    "flow_error_px": Column(head="flow px", meaning="the mesh's motion from the flow, at visible vertices", digits=2),
}
"""What is shown, in order; other numbers of a report stay in its file."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A method; `cells` holds what it has, in the reports' own units."""

    method: str
    seeds: int
    cells: Mapping[str, Spread]
    change: float | None = None


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows of the same frames under the same protocol, or published ones."""

    label: str
    rows: tuple[Row, ...]
    measured: bool

    def is_best(self, row: Row, name: str) -> bool:
        """Whether no other row has a better mean, where there is a choice; published rows are never marked."""
        means = [r.cells[name].mean for r in self.rows if name in r.cells]
        if not self.measured or len(means) < 2 or name not in row.cells:
            return False
        return row.cells[name].mean == (max(means) if COLUMNS[name].more_is_better else min(means))


@dataclass(frozen=True, kw_only=True)
class MocapTable:
    """The table before it is drawn; `reference` is the method that the last column compares with, if any."""

    title: str
    names: tuple[str, ...]
    groups: tuple[Group, ...]
    notes: tuple[str, ...]
    reference: str | None = None

    @property
    def heads(self) -> tuple[str, ...]:
        """Of all columns but the first."""
        return (*(COLUMNS[name].head for name in self.names), *([f"to {self.reference}"] if self.reference else []))

    def texts(self, row: Row) -> tuple[str, ...]:
        """Cells of a row but the first."""
        change = DASH if row.change is None else f"{100 * row.change:+.1f} %"
        return (*(_cell(row.cells.get(name), COLUMNS[name]) for name in self.names), *([change] * bool(self.reference)))

    def best(self, group: Group, row: Row) -> tuple[bool, ...]:
        """Which cells of a row are the best of their column."""
        return (*(group.is_best(row, name) for name in self.names), *([False] * bool(self.reference)))


def mocap_table(
    reports: Sequence[MocapReport], *, published: Sequence[PublishedMesh] = (), reference: str | None = None
) -> MocapTable:
    """One row per method.

    Args:
        reports: those of one method, of the same frames and protocol, are its seeds.
        published: rows to stand beside, each in a section of its data.
        reference: method that the headline of the others is compared with, in percent.

    Raises:
        UserError: no report, or none of the reference.
    """
    if not reports:
        raise UserError("got no report; a table needs at least one")
    if reference is not None and reference not in {r.method for r in reports}:
        raise UserError(f"got reference {reference!r}; allowed are {sorted({r.method for r in reports})}")
    found: dict[str, list[MocapReport]] = {}
    for r in reports:
        found.setdefault(_label(r), []).append(r)
    measured = [Group(label=k, rows=_rows(v, reference), measured=True) for k, v in found.items()]
    printed: dict[str, list[Row]] = {}
    for p in published:
        printed.setdefault(f"published: {p.data}; {p.source}", []).append(_published(p))
    groups = (*measured, *(Group(label=k, rows=tuple(v), measured=False) for k, v in printed.items()))
    names = tuple(n for n in COLUMNS if any(n in row.cells for group in groups for row in group.rows))
    return MocapTable(
        title="Motion capture: mm where no other unit stands, lower is better but for IoU",
        names=names,
        groups=groups,
        notes=(_legend(names), *_uneven(found), *_caveats(published)),
        reference=reference,
    )


def _label(r: MocapReport) -> str:
    what = f"{r.data}; protocol {r.protocol} ({r.protocol_hash})"
    return f"measured here: {what}; store {r.store_hash[:12]}; {r.num_frames + r.num_skipped} frames"


def _rows(reports: Sequence[MocapReport], reference: str | None) -> tuple[Row, ...]:
    methods: dict[str, list[MocapReport]] = {}
    for r in reports:
        methods.setdefault(r.method, []).append(r)
    name = reports[0].headline_name
    base = None if reference not in methods else spread([r.numbers[name] for r in methods[reference]]).mean
    return tuple(_row(method, seeds, name, base) for method, seeds in methods.items())


def _row(method: str, reports: Sequence[MocapReport], headline: str, base: float | None) -> Row:
    shared = [name for name in COLUMNS if all(name in r.numbers for r in reports)]
    cells = {name: spread([r.numbers[name] for r in reports]) for name in shared}
    change = None if not base else spread([r.numbers[headline] for r in reports]).mean / base - 1
    return Row(method=method, seeds=len(reports), cells=cells, change=change)


def _published(p: PublishedMesh) -> Row:
    known = {"mpjpe_origin_mm": p.per_joint_mm, "surface_canonical_mm": p.surface_mm}
    return Row(method=f"{p.method} *", seeds=1, cells={n: spread([v]) for n, v in known.items() if v is not None})


def _legend(names: Sequence[str]) -> str:
    return "; ".join(f"{COLUMNS[n].head}: {COLUMNS[n].meaning}" for n in names) + ". +- is the spread over seeds."


def _uneven(found: Mapping[str, Sequence[MocapReport]]) -> tuple[str, ...]:
    """Numbers that rows of one section have of other frames: a body outside of the picture has no flow error."""
    notes = []
    for reports in found.values():
        for name in COLUMNS:
            counts = {r.method: r.frames[name] for r in reports if name in r.frames}
            if len(set(counts.values())) > 1:
                told = ", ".join(f"{method} {count}" for method, count in counts.items())
                notes.append(f"{COLUMNS[name].head} is not of the same frames: {told}.")
    return tuple(notes)


def _caveats(published: Sequence[PublishedMesh]) -> tuple[str, ...]:
    if not published:
        return ()
    return (
        "* Published numbers stand in the column that the authors' released code computes; the slides and the paper's "
        "citations do not say which error it is (98.4 is filed as MPJPE by one site and as PA-MPJPE by one paper), the "
        "data are not ours, and that method was given the true 2D keypoints and masks. Compare the order and the "
        "relative gain (98.4 is 21.7 % below 125.6), never the numbers.",
    )


def _cell(value: Spread | None, column: Column) -> str:
    if value is None:
        return DASH
    deviation = "" if value.deviation is None else f" +- {value.deviation * column.factor:.{column.digits}f}"
    return f"{value.mean * column.factor:.{column.digits}f}{deviation}"


def render_rich(table: MocapTable) -> Table:
    """For a terminal; the best of a column in green, published rows dim."""
    out = Table(
        title=table.title, title_justify="left", caption="\n".join(table.notes), caption_justify="left", box=None
    )
    out.add_column("", max_width=40)  # labels of sections are long
    for head in table.heads:
        out.add_column(head, justify="right")
    for group in table.groups:
        out.add_row(f"[italic dim]{group.label}[/]")
        for row in group.rows:
            marks = zip(table.texts(row), table.best(group, row), strict=True)
            cells = [f"[bold green]{text}[/]" if best else text for text, best in marks]
            out.add_row(row.method, *cells, style=None if group.measured else "dim")
    return out


def render_markdown(table: MocapTable) -> str:
    """A Markdown table; the best of a column in bold."""
    out = [f"**{table.title}**", "", "| | " + " | ".join(table.heads) + " |", "|:--|" + "--:|" * len(table.heads)]
    for group in table.groups:
        out.append(f"| *{_plain(group.label)}* |" + " |" * len(table.heads))
        for row in group.rows:
            marks = zip(table.texts(row), table.best(group, row), strict=True)
            cells = [f"**{text}**" if best else text for text, best in marks]
            out.append(f"| {_plain(row.method)} | " + " | ".join(cells) + " |")
    return "\n".join([*out, "", *(f"- {_plain(note)}" for note in table.notes)]) + "\n"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def render_html(table: MocapTable) -> str:
    """An HTML fragment in the classes of `aign.evaluation.tables`, whose style it needs beside it."""
    heads = "".join(f"<th>{html.escape(head)}</th>" for head in table.heads)
    caption = f"<caption>{html.escape(table.title)}</caption>"
    out = [f'<table class="aign-table">{caption}<thead><tr><th></th>{heads}</tr></thead><tbody>']
    for group in table.groups:
        label = html.escape(group.label)
        out.append(f'<tr class="section"><td colspan="{len(table.heads) + 1}">{label}</td></tr>')
        for row in group.rows:
            texts = [text.replace("+-", "\N{PLUS-MINUS SIGN}") for text in table.texts(row)]
            marks = zip(texts, table.best(group, row), strict=True)
            cells = [f'<td><span class="best">{t}</span></td>' if best else f"<td>{t}</td>" for t, best in marks]
            out.append(f"<tr><td>{html.escape(row.method)}</td>{''.join(cells)}</tr>")
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in table.notes)
    return "\n".join([*out, "</tbody></table>", f'<ul class="aign-notes">{notes}</ul>']) + "\n"


def render_csv(table: MocapTable) -> str:
    """One line a row, all digits, in the units of the names: source, method, seeds, mean and spread of every column."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["source", "method", "seeds", *(part for name in table.names for part in (name, f"{name}_sd"))])
    for group in table.groups:
        for row in group.rows:
            cells = [row.cells.get(name) for name in table.names]
            numbers = [x for c in cells for x in ((None, None) if c is None else (c.mean, c.deviation))]
            out.writerow([group.label, row.method, row.seeds, *numbers])
    return text.getvalue()
