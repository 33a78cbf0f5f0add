"""What `aign reproduce faces` leaves behind: pictures first, then the table, the goals and the audit in every form."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

from rich.console import Console

from aign import __version__
from aign.evaluation.faces_audit import (
    AuditTable,
    audit_csv,
    audit_html,
    audit_markdown,
    audit_rich,
    audit_table,
    group_table,
)
from aign.evaluation.faces_report import FaceReport
from aign.evaluation.faces_table import FaceTable, face_table, judge_in_words
from aign.evaluation.mocap_table import render_csv, render_html, render_markdown
from aign.evaluation.mocap_terminal import render_terminal
from aign.inference.page import Entry
from aign.inference.report import DemoReport, Picture, write_report
from aign.recipes.faces_tables import FaceRow, Goal, goals
from pipelines.reproduce_faces_measure import IDENTITY_CHANGE, MeasuredFaces
from pipelines.reproduce_faces_pictures import draw_pictures, draw_sweep, filled_columns, resolved_columns
from pipelines.reproduce_faces_runs import Bench
from pipelines.run_folder import publish

PICTURES = {"superresolution": "faces-superresolution.png", "inpainting": "faces-inpainting.png"}
"""By group of rows."""
SWEEP = "faces-sweep.png"
OUTPUTS = ("faces.md", "faces.csv", "faces.html", "faces-audit.csv", *PICTURES.values(), SWEEP, "index.html")
"""Files in OUT; also artifacts of the table's run in MLflow. Those that need what was not measured are left out."""


@dataclass(frozen=True, kw_only=True)
class Faced:
    """A table that was measured.

    Attributes:
        measured: every row, by the biases that judge it, over its seeds.
        bench: where.
        left_out: rows that the store has nothing for, and why, a line each.
        commit: of the code.
        tracking_uri: of MLflow, if it was there.
    """

    measured: tuple[MeasuredFaces, ...]
    bench: Bench
    left_out: tuple[str, ...] = ()
    commit: str = ""
    tracking_uri: str = ""

    @property
    def biased(self) -> tuple[MeasuredFaces, ...]:
        """Our own rows of a bias."""
        return tuple(m for m in self.measured if m.row.is_biased)

    @property
    def table(self) -> FaceTable:
        """A section for each bias, in the order of the rows; the sweep is a plot, and in the file with all digits."""
        return self._table([m for m in self.measured if m.row.group != "sweep"] or self.measured)

    @property
    def everything(self) -> FaceTable:
        """The table with the sweep."""
        return self._table(self.measured)

    def _table(self, measured: Sequence[MeasuredFaces]) -> FaceTable:
        reports = self._reports(measured)
        table = face_table(reports)
        judges = dict.fromkeys(judge_in_words(r) for r in reports)
        return replace(table, notes=(table.notes[0], *judges, *_counts(measured)))

    def _reports(self, measured: Sequence[MeasuredFaces]) -> list[FaceReport]:
        sections = dict.fromkeys((m.row.group, m.bias) for m in measured)
        data = ", ".join(self.bench.store.manifest.licences)
        return [
            replace(report, method=m.row.label, bias="", data=f"{group}, judged by {bias}; {data}")
            for group, bias in sections
            for m in measured
            if (m.row.group, m.bias) == (group, bias)
            for report in m.reports
        ]

    @property
    def goals(self) -> tuple[Goal, ...]:
        """What is asked of our own rows."""
        return tuple(goal for m in self.biased for goal in goals(m.bias, m.mean))

    def trained(self, group: str) -> tuple[FaceRow, ...]:
        """Rows of a group that have a network."""
        found = {m.row.key: m.row for m in self.measured if m.row.group == group and m.row.recipe}
        return tuple(found.values())


def _counts(measured: Sequence[MeasuredFaces]) -> tuple[str, ...]:
    """How many pictures the numbers are of that are not of all."""
    said = []
    for name, words in (("target_points", "points are of people without the target"), ("kid", "FID and KID are of")):
        counts = {m.bias: m.reports[0].counts[name] for m in measured if name in m.reports[0].counts}
        if counts:
            said.append(f"{words}: {', '.join(f'{bias} {count} pictures' for bias, count in counts.items())}.")
    return tuple(said)


def goal_table(done: Faced) -> AuditTable:
    """What was asked for, what was reached, and which is which."""
    rows = tuple(
        (goal.bias, goal.what, f"{goal.wanted:g}", f"{goal.got:.1f}", "met" if goal.met else "missed")
        for goal in done.goals
    )
    return AuditTable(title="What is asked for", heads=("bias", "", "at least", "mean over seeds", ""), rows=rows)


def change_table(done: Faced) -> AuditTable:
    """A row an attribute, a column a bias: what each bias changes beside its target, and whose face it is."""
    means = {m.bias: m.mean for m in done.biased}
    names = dict.fromkeys(name for report in means.values() for name in report.audit)
    rows = [(name, *(_cell(r.audit.get(name, {}).get("change_sd")) for r in means.values())) for name in names]
    rows.append(("identity", *(_cell(r.numbers.get(IDENTITY_CHANGE), 3) for r in means.values())))
    for head, number in (("mean drift", "drift_sd"), ("largest drift", "drift_worst_sd")):
        rows.append((head, *(_cell(r.numbers.get(number)) for r in means.values())))
    rows.append(("target/drift", *(_cell(r.numbers.get("target_per_drift"), 1) for r in means.values())))
    return AuditTable(
        title="Audit: what each bias changes",
        heads=("attribute", *means),
        rows=tuple(rows),
        notes=(
            "Mean change from what was there before (bicubic; for inpainting the true picture), standard deviations of "
            "the judge's training labels. Identity: cosine distance from the true picture's embedding, less that of "
            "what was there before. Drift: of all attributes but the target.",
        ),
    )


def _cell(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:+.{digits}f}"


def people_table(report: FaceReport) -> AuditTable:
    """`group_table` with the change of identity beside."""
    table = group_table(report)
    rows = tuple(
        (*cells, _cell(report.numbers.get(f"{IDENTITY_CHANGE} {group}"), 3))
        for cells, group in zip(table.rows, report.groups, strict=True)
    )
    return replace(table, heads=(*table.heads, "identity"), rows=rows)


def audits(done: Faced) -> list[AuditTable]:
    """The overview, then of each bias every attribute and every group."""
    if not done.biased:
        return []
    return [change_table(done), *(t for m in done.biased for t in (audit_table(m.mean), people_table(m.mean)))]


def notes(done: Faced) -> tuple[str, ...]:
    """What the numbers are of."""
    bench = done.bench
    seeds = max(len(m.reports) for m in done.measured)
    return (
        f"store {bench.store.hash[:12]}; {', '.join(bench.store.manifest.licences)}",
        f"{bench.side_px // 4} to {bench.side_px} px; {'one seed' if seeds == 1 else f'{seeds} seeds'}; measured on "
        f"{bench.measured_on}, nobody of which was seen in training, at 8 bits a channel",
        *([f"every network went on from that of {bench.start}"] if bench.start else []),
        "the controls remember and see the same pictures as ours of the first bias; FID and KID are on features of the "
        "judge, which is named below, and say little outside of this domain",
        *(f"left out: {line}" for line in done.left_out),
    )


def _picture_note(done: Faced) -> str:
    return (
        f"{_whose(done)[0].upper()}{_whose(done)[1:]}, a person a row, seed 0; not chosen. {_data(done)}. Marked: "
        "imagined by a network."
    )


def _whose(done: Faced) -> str:
    which = "every few pictures by key" if done.bench.few else "the first pictures by key"
    return f"{which} of {done.bench.measured_on}"


def _data(done: Faced) -> str:
    return ", ".join(done.bench.store.manifest.licences)


def draw_all(out: Path, done: Faced) -> tuple[Picture, ...]:
    """Write the pictures that there is something to draw of."""
    made = []
    for group, columns in (("superresolution", resolved_columns), ("inpainting", filled_columns)):
        rows = [row for row in done.trained(group) if row.ours]
        if rows:
            shown = columns(done.bench, rows)
            draw_pictures(out / PICTURES[group], shown, _picture_note(done))
            people = len(next(iter(shown.values())))
            caption = f"{people} people: {_whose(done)}, seed 0. Not chosen. {_data(done)}."
            made.append(Picture(path=PICTURES[group], caption=caption, alt=f"{group}: input, what was imagined, truth"))
    if any(m.row.weight is not None and "target_points" in m.mean.numbers for m in done.measured):
        draw_sweep(out / SWEEP, done.measured)
        made.append(
            Picture(
                path=SWEEP,
                caption="Faithfulness against bias over the critic's weight: short runs of one seed.",
                alt="points of a sweep of weights",
            )
        )
    return tuple(made)


def write_all(out: Path, done: Faced) -> None:
    """Write `OUTPUTS` into a folder."""
    pictures = draw_all(out, done)
    text = audit_tables(done)
    shown = "\n\n".join(f"![{picture.alt}]({picture.path})\n\n{picture.caption}" for picture in pictures)
    lines = "\n".join(f"- {line}" for line in notes(done))
    table = render_markdown(done.table)
    publish(out / "faces.md", f"# Faces\n\n{shown}\n\n{lines}\n\n{table}\n{audit_markdown(text)}")
    publish(out / "faces.csv", render_csv(done.everything))
    publish(out / "faces-audit.csv", audit_csv([replace(m.mean, method=m.row.label) for m in done.biased]))
    items = "".join(f"<li>{escape(line)}</li>" for line in notes(done))
    numbers = f'{render_html(done.table)}<ul class="aign-notes">{items}</ul>{audit_html(text)}'
    publish(out / "faces.html", numbers)
    write_report(out, _page(done, numbers, pictures))


def audit_tables(done: Faced) -> list[AuditTable]:
    """The goals and the audit."""
    return [*([goal_table(done)] if done.goals else []), *audits(done)]


def draw_terminal(console: Console, done: Faced) -> None:
    """The table, the goals, and what each bias changes."""
    console.print(render_terminal(done.table, console.width))
    for line in notes(done):
        console.print(f"- {line}", style="dim", highlight=False, markup=False, soft_wrap=True)
    for table in audit_tables(done)[:2]:
        console.print(audit_rich(table))


def _page(done: Faced, numbers: str, pictures: tuple[Picture, ...]) -> DemoReport:
    uri = done.tracking_uri
    return DemoReport(
        title="Faces: super-resolution and plastic surgery with a declared bias",
        summary=(
            "Networks that make a small or holed picture whole again. Each remembers other pictures, chosen by a bias "
            "that is said openly, and imagines faces like those, as far as the known renderer allows. "
            "Nothing here is evidence of what anybody looks like.",
        ),
        pictures=pictures,
        evaluation_html=numbers,
        files=(
            Entry(term="faces.md", text="pictures, table, goals, audit"),
            Entry(term="faces.csv", text="the table, all digits, the sweep included"),
            Entry(term="faces-audit.csv", text="the audit, all digits"),
            Entry(term="runs", text="every training: model, log"),
            *([Entry(term="mlflow", text=f"mlflow ui --backend-store-uri {uri}")] if uri else []),
        ),
        provenance=(
            Entry(term="aign", text=f"{__version__} {done.commit[:12]}".strip()),
            Entry(term="store", text=f"{done.bench.store.url} {done.bench.store.hash[:16]}"),
        ),
        licences=tuple(Entry(term="data", text=text) for text in done.bench.store.manifest.licences),
    )
