"""What `aign reproduce` leaves behind: tables as Markdown, CSV and HTML, the picture, and one page with all of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

from rich.console import Console

from aign import __version__
from aign.data.store import Store
from aign.evaluation import summary as summaries
from aign.evaluation.published import CANDIDATES, DETECTED_2D, GROUND_TRUTH_2D, PublishedTable
from aign.evaluation.report import Report
from aign.evaluation.summary import Measured, Summary, mean_report, summarise
from aign.evaluation.table_model import ErrorTable
from aign.evaluation.tables import error_table, render_html, render_markdown, render_rich, slide_table
from aign.inference.page import Entry
from aign.inference.report import DemoReport, Picture, write_report
from aign.inference.reproduce_figures import Curve, Point, table_figure
from aign.recipes.lifting import LiftingRecipe
from aign.recipes.lifting_tables import Row
from pipelines.commit import commit
from pipelines.reproduce_roles import role_lines
from pipelines.run_folder import publish

OUTPUTS = ("table.md", "table.csv", "table.html", "figure.png", "index.html")
"""Files in OUT; also artifacts of the table's run in MLflow."""
PUBLISHED: Mapping[str, PublishedTable] = {"table1": GROUND_TRUTH_2D, "table2": DETECTED_2D}
PRINTED_AS: Mapping[str, str] = {
    "forward": "Forward2Dto3D",
    "interpreter": "3Dinterpr [33]",
    "monocap": "Monocap [39]",
    "aign": "AIGN",
}
"""Key of a row -> its name in the slides."""
REFERENCES: Mapping[str, str] = {"forward": "/F2D", "interpreter": "/interp."}
"""Rows that the others are divided by."""
HEADINGS: Mapping[str, str] = {
    "methods": "methods",
    "ablation": "ablation: one ingredient changed",
    "labels": "labelled fraction",
    "weight": "weight of the critics",
    "regimes": "regimes",
}
_WALKING_X = 0.5
WIDTH = 160
"""Columns that the summary is given at least: cut off, it would say nothing."""


@dataclass(frozen=True, kw_only=True)
class Reproduced:
    """A table that was measured.

    Attributes:
        table: table1 or table2.
        measured: every row, over its seeds.
        rows: the same rows, in the same order.
        base: recipe whose roles the untrained rows share.
        store: of all data.
        tracking_uri: of MLflow.
    """

    table: str
    measured: tuple[Measured, ...]
    rows: tuple[Row, ...]
    base: LiftingRecipe
    store: Store
    tracking_uri: str

    @property
    def title(self) -> str:
        """Which table it is."""
        return f"Table {self.table[-1]}: 3D reconstruction error from {PUBLISHED[self.table].input}"

    @property
    def summary(self) -> Summary:
        """Means, spreads and ratios."""
        return summarise([replace(m, group=HEADINGS[m.group]) for m in self.measured], REFERENCES)

    @property
    def reports(self) -> list[Report]:
        """The mean report of each row."""
        return [mean_report(m.reports) for m in self.measured]

    @property
    def per_action(self) -> list[ErrorTable]:
        """The slides' layout, for every alignment that they may have used and that was measured."""
        reports = self.reports
        shared = [a for a in CANDIDATES if all(a in report.scores for report in reports)]
        if len(shared) == len(CANDIDATES):
            return [slide_table(reports, PUBLISHED[self.table])]
        # The slides do not name theirs: on other data one copy of their numbers is enough.
        first, *others = shared
        beside = error_table(reports, alignment=first, published=PUBLISHED[self.table])
        return [beside, *(error_table(reports, alignment=a) for a in others)]


def write_all(out: Path, done: Reproduced) -> None:
    """Write `OUTPUTS` into a folder."""
    publish(out / "table.md", markdown(done))
    publish(out / "table.csv", summaries.render_csv(done.summary))
    tables = "".join(render_html(table) for table in done.per_action)
    numbers = f"{summaries.render_html(done.summary)}{_list(notes(done))}{tables}"
    publish(out / "table.html", numbers)
    sweeps = curves(done)
    swept = {HEADINGS[group] for group in sweeps}
    bars = tuple(row for row in done.summary.rows if row.group not in swept) or done.summary.rows
    table_figure(out / "figure.png", replace(done.summary, rows=bars), published_marks(done), list(sweeps.values()))
    write_report(out, _page(done, numbers))


def print_tables(console: Console, done: Reproduced) -> None:
    """The summary, what it says, and the slides' table beside ours."""
    console.print(f"\n[bold]{done.title}[/bold]\n", highlight=False)
    wide = Console(width=max(console.width, WIDTH), file=console.file, force_terminal=console.is_terminal)
    wide.print(summaries.render_rich(done.summary))
    console.print()
    for line in (*conditions(done), *notes(done)):
        console.print(f"- {line}", style="dim", highlight=False, markup=False, soft_wrap=True)
    console.print()
    console.print(render_rich(done.per_action[0], width=console.width))


def markdown(done: Reproduced) -> str:
    """All tables and what they were measured on."""
    parts = [f"# {done.title}", "", *(f"- {line}" for line in conditions(done)), ""]
    parts += [summaries.render_markdown(done.summary), *(f"- {line}" for line in notes(done)), ""]
    return "\n".join([*parts, *(render_markdown(table) for table in done.per_action)])


def conditions(done: Reproduced) -> tuple[str, ...]:
    """Data, protocol and who plays which part, in lines."""
    report = done.measured[0].reports[0]
    lines = [
        f"data: {report.data}; store {report.store_hash[:12]}; protocol {report.protocol} ({report.protocol_hash}); "
        f"{report.num_frames + report.num_skipped} test frames",
    ]
    played = [(row.label, row.recipe) for row in done.rows if row.recipe is not None] or [("all", done.base)]
    return (*lines, *role_lines(played, done.store))


def notes(done: Reproduced) -> tuple[str, ...]:
    """How the numbers are to be read."""
    spread = (
        "; +- is the sample standard deviation over seeds" if any(len(m.reports) > 1 for m in done.measured) else ""
    )
    lines = [f"millimetres, lower is better{spread}"]
    heads = {head: PRINTED_AS[key] for key, head in done.summary.references.items()}
    if heads:
        words = " and ".join(f"{head} to {name}'s" for head, name in heads.items())
        lines.append(f"ratio of means {words}; the slides' ratios are {_slide_ratios(done.table)}")
    if any(m.kind == "bound" for m in done.measured):
        lines.append(
            "the bound has seen the truth: the nearest pose that the memory's pose basis can make, oriented and placed "
            "as the truth is"
        )
    return tuple(lines)


def _averages(table: str) -> dict[str, float]:
    return {row.method: row.average for row in PUBLISHED[table].rows}


def _slide_ratios(table: str) -> str:
    averages = _averages(table)
    base, interpreter = averages["Forward2Dto3D"], averages["3Dinterpr [33]"]
    ours = averages["AIGN"]
    return f"AIGN {ours / base:.2f} of Forward2Dto3D and {ours / interpreter:.2f} of the interpreter"


def published_marks(done: Reproduced) -> dict[str, float]:
    """PA-MPJPE that each row would have here with the slides' ratio to Forward2Dto3D."""
    averages = _averages(done.table)
    ours = {row.key: row.cells["pa_mpjpe_mm"].mean for row in done.summary.rows if "pa_mpjpe_mm" in row.cells}
    if "forward" not in ours:
        return {}
    ratios = {key: averages[name] / averages["Forward2Dto3D"] for key, name in PRINTED_AS.items() if name in averages}
    return {key: ratio * ours["forward"] for key, ratio in ratios.items() if key in ours and key != "forward"}


def curves(done: Reproduced) -> dict[str, Curve]:
    """The sweeps that were measured, by group."""
    nearest = {m.key: m for m in done.summary.rows}.get("nearest-pose")
    level = None if nearest is None else ("nearest memory pose", nearest.cells["pa_mpjpe_mm"].mean)
    found = {}
    for group, title, x_label in (
        ("labels", "Labels against error", "labelled frames of the labelled subject"),
        ("weight", "Critics against error", "weight of the paper's critics, times the recipe's"),
    ):
        lines = _lines(done, group)
        if any(len(line) > 1 for line in lines.values()):
            shown = level if group == "labels" else None
            found[group] = Curve(title=title, x_label=x_label, lines=lines, level=shown)
    return found


def _lines(done: Reproduced, group: str) -> dict[str, list[Point]]:
    """Points of a sweep by method, which is what stands before the last comma of a row's label.

    The methods' own rows are a point of the label sweep too if they have walking alone labelled; that is no share, so
    it stands between none and the smallest one.
    """
    lines: dict[str, list[Point]] = {}
    cells = {row.key: row.cells["pa_mpjpe_mm"] for row in done.summary.rows}
    for row in done.rows:
        if row.group == group and row.x is not None:
            name, _, _ = row.label.rpartition(", ")
            tick = f"{row.x:g}" if group == "weight" else f"{row.x:g} %" if row.x else "none"
            lines.setdefault(name, []).append(Point(tick=tick, x=row.x, error=cells[row.key]))
    if group == "labels":
        for row in done.rows:
            if row.group == "methods" and row.label in lines and row.recipe and row.recipe.roles.regime == "shifted":
                lines[row.label].append(Point(tick="walking only,\nother cameras", x=_WALKING_X, error=cells[row.key]))
    return lines


def _list(lines: Sequence[str]) -> str:
    return f'<ul class="aign-notes">{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>'


def _page(done: Reproduced, numbers: str) -> DemoReport:
    return DemoReport(
        title=done.title,
        summary=(
            f"Methods trained and measured on the same data under the same protocol, {_seeds(done)}; what the paper's "
            "slides print stands beside them. The published numbers come from Human3.6M under a protocol that is not "
            "fully known: compare ratios, not millimetres, unless the store is Human3.6M.",
            *(f"{line[0].upper()}{line[1:]}." for line in conditions(done)),
        ),
        pictures=(
            Picture(
                path="figure.png",
                caption=f"Mean error over {done.measured[0].reports[0].num_frames} test frames; PA-MPJPE forgives "
                "position, orientation and size, MPJPE position alone.",
                alt="bars of the errors of all methods",
            ),
        ),
        evaluation_html=numbers,
        files=tuple(
            Entry(term=name, text=text)
            for name, text in (
                ("table.md", "the tables"),
                ("table.csv", "the summary, all digits"),
                ("runs", "every training: model, curves, its own table"),
                ("mlflow", f"the same in MLflow: mlflow ui --backend-store-uri {done.tracking_uri}"),
            )
        ),
        provenance=(
            Entry(term="aign", text=f"{__version__} {commit()[:12]}".strip()),
            Entry(term="store", text=f"{done.store.url} {done.store.hash[:16]}"),
            Entry(term="2D keypoints", text=_made_by(done.store)),
        ),
        licences=tuple(Entry(term="data", text=text) for text in done.store.manifest.licences),
    )


def _seeds(done: Reproduced) -> str:
    seeds = max(len(m.reports) for m in done.measured)
    return "with one seed each" if seeds == 1 else f"with {seeds} seeds each"


def _made_by(store: Store) -> str:
    """The stages that the keypoints went through."""
    stages = {
        s.name: None for part in store.manifest.parts if part.table == "keypoints" for s in part.provenance.stages
    }
    return ", ".join(stages)
