"""What `aign reproduce mocap` leaves behind: the table in every form, bars, bodies to look at, and one page."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

from rich.console import Console

from aign import __version__
from aign.body.assets import load_body
from aign.data.store import Store
from aign.evaluation.body_view import estimate
from aign.evaluation.mocap_report import MocapReport
from aign.evaluation.mocap_table import MocapTable, mocap_table, render_csv, render_html, render_markdown
from aign.evaluation.mocap_terminal import render_terminal
from aign.evaluation.published import NIPS17_MESH
from aign.evaluation.summary import Spread, Summary, SummaryRow, spread
from aign.inference.mocap_figure import bodies_figure, chosen_frames, shown
from aign.inference.package import load_package
from aign.inference.page import Entry
from aign.inference.report import DemoReport, Picture, write_report
from aign.inference.reproduce_figures import table_figure
from aign.recipes.mocap import parts
from aign.recipes.mocap_tables import OURS, SUPERVISED, Group, target_shares
from aign.recipes.mocap_task import MOTION_CAPTURE, WITHOUT_TRUTH
from pipelines.commit import commit
from pipelines.reproduce_mocap_runs import Bench, MeasuredRow, package
from pipelines.run_folder import publish

OUTPUTS = ("table.md", "table.csv", "table.html", "figure.png", "bodies.png", "index.html")
"""Files in OUT; also artifacts of the table's run in MLflow. Those that need what was not measured are left out."""
HEADINGS: Mapping[Group, str] = {
    "methods": "methods",
    "ladder": "the ladder: one kind of evidence after the other",
    "ablation": "ablation",
}
SHOWN = 6
"""Frames in bodies.png."""
BARS: Mapping[str, str] = {"pa_mpjpe_mm": "pa_mpjpe_mm", "mpjpe_mm": "mpjpe_pelvis_mm"}
"""Column of bars -> number of the reports."""


@dataclass(frozen=True, kw_only=True)
class Captured:
    """A table that was measured.

    Attributes:
        measured: every row, over its seeds.
        bench: where.
        source: the labelled store.
        target: the unlabelled one.
    """

    measured: tuple[MeasuredRow, ...]
    bench: Bench
    source: Store
    target: Store

    @property
    def has_truth(self) -> bool:
        """Whether the target's bodies are known to the judge."""
        return self.measured[0].reports[0].headline_name != WITHOUT_TRUTH

    @property
    def table(self) -> MocapTable:
        """Sections by comparison, the slide's rows beside them."""
        reports = [
            replace(report, method=m.row.label, data=f"{HEADINGS[m.row.group]}; {_data(self, report)}")
            for m in self.measured
            for report in m.reports
        ]
        there = {m.row.label for m in self.measured}
        return mocap_table(reports, published=NIPS17_MESH, reference="supervised" if "supervised" in there else None)

    def mean(self, key: str) -> float | None:
        """Headline of a row over its seeds."""
        found = [m for m in self.measured if m.row.key == key]
        return spread([report.headline for report in found[0].reports]).mean if found else None


def _data(done: Captured, report: MocapReport) -> str:
    return f"{len(report.per_clip)} held-out clips, {', '.join(done.target.manifest.licences)}"


def write_all(out: Path, done: Captured) -> None:
    """Write `OUTPUTS` into a folder."""
    table = done.table
    lines = notes(done)
    publish(
        out / "table.md", "\n".join(["# Motion capture", "", *(f"- {x}" for x in lines), "", render_markdown(table)])
    )
    publish(out / "table.csv", render_csv(table))
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    numbers = f'{render_html(table)}<ul class="aign-notes">{items}</ul>'
    publish(out / "table.html", numbers)
    pictures = []
    if done.has_truth:
        table_figure(out / "figure.png", bars(done), {})
        pictures.append(
            Picture(path="figure.png", caption="Mean error over the test frames.", alt="bars of the methods' errors")
        )
    if {SUPERVISED, OURS} <= {m.row.key for m in done.measured}:
        draw_bodies(out / "bodies.png", done)
        caption = (
            "Test frames, the middle one of a clip of each motion, seed 0: each body drawn into the picture and, "
            "beside it, seen from the person's side."
        )
        pictures.append(Picture(path="bodies.png", caption=caption, alt="bodies that the methods see in pictures"))
    write_report(out, _page(done, numbers, tuple(pictures)))


def draw_terminal(console: Console, done: Captured) -> None:
    """The table and how to read it."""
    console.print(render_terminal(done.table, console.width))
    for line in notes(done):
        console.print(f"- {line}", style="dim", highlight=False, markup=False, soft_wrap=True)


def notes(done: Captured) -> tuple[str, ...]:
    """What the numbers are of, and what they say."""
    domains, bench = done.bench.domains, done.bench
    own = parts(done.target, target_shares(domains))
    told = {
        "labelled (source)": f"{_motions(domains.source_actions)}; store {done.source.hash[:12]}",
        "only seen (target)": f"{len(own.train.sequences or ())} sequences of {_motions(domains.target_actions)}; "
        f"store {done.target.hash[:12]}",
        "looked at while training": f"{len(own.validation.sequences or ())} sequences of the target",
        "measured": f"{len(own.test.sequences or ())} other sequences of the target, {bench.side_px} px networks",
    }
    return (*(f"{name}: {text}" for name, text in told.items()), *_verdicts(done))


def _motions(actions: tuple[str, ...]) -> str:
    return ", ".join(actions) if actions else "all motions"


def _verdicts(done: Captured) -> list[str]:
    """The slides' two claims, in this table's numbers."""
    said = []
    base, ours, direct = (done.mean(key) for key in (SUPERVISED, OURS, "body-fit-direct"))
    if base and direct:
        said.append(f"supervised against direct optimisation: {direct / base:.2f} times better (the slides: 4.48)")
    if base and ours:
        said.append(f"self-supervision: {100 * (1 - ours / base):.1f} % below supervised (the slides: 21.7 %)")
    return said


def bars(done: Captured) -> Summary:
    """The table as bars."""
    rows = []
    for m in done.measured:
        cells: dict[str, Spread] = {
            bar: spread([report.numbers[name] for report in m.reports]) for bar, name in BARS.items()
        }
        kind = "trained" if m.row.recipe else "untrained"
        rows.append(
            SummaryRow(
                key=m.row.key, label=m.row.label, group=HEADINGS[m.row.group], seeds=len(m.reports),
                kind="trained" if kind == "trained" else "untrained", cells=cells, ratios={},
            )
        )  # fmt: skip
    return Summary(rows=tuple(rows), references={})


def draw_bodies(path: Path, done: Captured) -> None:
    """The picture of bodies: supervised, self-supervised, and the truth where it is known."""
    view, out = done.bench.view, done.bench.place.out
    labels = {SUPERVISED: "supervised", OURS: "+ self-supervised"}
    bodies = {
        label: estimate(MOTION_CAPTURE.method(load_package(package(out, key, 0))[0]), view)
        for key, label in labels.items()
    }
    known = {} if view.truth is None else {"truth": view.truth}
    body = load_body()
    bodies_figure(path, shown(view, chosen_frames(view, SHOWN), {**bodies, **known}, body), body)


def _page(done: Captured, numbers: str, pictures: tuple[Picture, ...]) -> DemoReport:
    seeds = max(len(m.reports) for m in done.measured)
    licences = dict.fromkeys((*done.source.manifest.licences, *done.target.manifest.licences))
    return DemoReport(
        title="Motion capture: supervised, then self-supervised",
        summary=(
            f"Networks that see a body in a picture, with {seeds} seed{'s' if seeds > 1 else ''} each: trained on the "
            "labels of one domain, then on videos of another whose labels nobody reads, by what their renders should "
            "look like. All rows are measured on the same held-out clips of the second domain.",
        ),
        pictures=pictures,
        evaluation_html=numbers,
        files=(
            Entry(term="table.md", text="the table"),
            Entry(term="table.csv", text="all digits"),
            Entry(term="runs", text="every training: model, curves, its own table"),
            Entry(term="mlflow", text=f"mlflow ui --backend-store-uri {done.bench.place.tracking.uri}"),
        ),
        provenance=(
            Entry(term="aign", text=f"{__version__} {commit()[:12]}".strip()),
            Entry(term="source", text=f"{done.source.url} {done.source.hash[:16]}"),
            Entry(term="target", text=f"{done.target.url} {done.target.hash[:16]}"),
        ),
        licences=tuple(Entry(term="data", text=text) for text in licences),
    )
