"""The picture of a reproduced table: a bar with its spread for every row, and the sweeps as curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from aign.data.publish import published
from aign.evaluation.summary import COLUMNS, Kind, Spread, Summary, SummaryRow
from aign.framework.errors import UserError
from aign.inference.plot import FAINT, INK, METHOD_COLOURS, QUIET, new_figure

PANELS = {"pa_mpjpe_mm": "each pose turned, moved and scaled to fit", "mpjpe_mm": "roots put together"}
"""Errors that have a column of bars, and what is aligned in words."""

_PLAIN = "#9aa1ab"
_TRAINED, _MARK = METHOD_COLOURS[0], METHOD_COLOURS[1]
_WIDTH_IN, _ROW_IN, _CURVE_IN = 12.0, 0.36, 3.6
_TOP_IN, _BOTTOM_IN, _GAP_IN = 0.7, 0.75, 1.05
_LABEL_SHARE = 0.085


Place: TypeAlias = tuple[str, str]
"""A row: its group and its key."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One place of a sweep: its name on the axis, where it stands, and the error there."""

    tick: str
    x: float
    error: Spread


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A sweep.

    Attributes:
        title: of the panel.
        x_label: what is swept, with its unit.
        lines: by name, the points of each line.
        level: name and PA-MPJPE in mm of what stays the same along the sweep, or None.
    """

    title: str
    x_label: str
    lines: Mapping[str, Sequence[Point]]
    level: tuple[str, float] | None = None


def table_figure(path: Path, summary: Summary, marks: Mapping[str, float], curves: Sequence[Curve] = ()) -> None:
    """Write a png, 1200 px wide: bars of PA-MPJPE and MPJPE with their spread over seeds, and a panel a sweep.

    Args:
        path: of the new .png.
        summary: the rows.
        marks: by key, the PA-MPJPE in mm that the published ratio to Forward2Dto3D would mean here.
        curves: at most two sweeps.

    Raises:
        UserError: nothing to draw, more than two sweeps, or the file cannot be written.
    """
    if not summary.rows or len(curves) > 2:
        raise UserError(
            f"got {len(summary.rows)} rows and {len(curves)} sweeps to draw; allowed: some rows, two sweeps"
        )
    places, heads = _places(summary)
    bars_in = _ROW_IN * (max([*places.values(), *heads.values()]) + 1)
    height = _TOP_IN + bars_in + _BOTTOM_IN + (_GAP_IN + _CURVE_IN if curves else 0)
    figure = new_figure(_WIDTH_IN, height)
    left = _label_width(summary) / _WIDTH_IN
    wide = (0.985 - left - 0.03) / 2
    low = (height - _TOP_IN - bars_in) / height
    for number, name in enumerate(PANELS):
        axis = figure.add_axes((left + number * (wide + 0.03), low, wide, bars_in / height))
        _draw_bars(axis, summary, name, places, marks if name == "pa_mpjpe_mm" else {})
        if number == 0:
            _name_rows(axis, summary, places, heads)
    _legend(figure, summary, marks, low - 0.45 / height)
    for number, curve in enumerate(curves):
        wide = 0.4 if len(_named(curve)) < 2 else 0.43 - 0.008 * max(len(name) for name in _named(curve))
        box = (0.062 + 0.525 * number, _BOTTOM_IN / height, wide, (_CURVE_IN - 0.55) / height)
        _draw_curve(figure.add_axes(box), curve)
    with published(path) as unfinished:
        figure.savefig(unfinished, format="png")


def _places(summary: Summary) -> tuple[dict[Place, float], dict[str, float]]:
    """Rows of the axis, from the top: of every row, and of every group's heading."""
    places: dict[Place, float] = {}
    heads: dict[str, float] = {}
    at = 0.0
    for group, rows in summary.groups():
        heads[group] = at
        for number, row in enumerate(rows, start=1):
            places[group, row.key] = at + number
        at += len(rows) + 1.4
    return places, heads


def _label_width(summary: Summary) -> float:
    """Inches that the longest label takes."""
    longest = max(len(row.label) for row in summary.rows)
    return min(max(0.092 * longest + 0.35, 1.6), 4.4)


def _draw_bars(
    axis: Any, summary: Summary, name: str, places: Mapping[Place, float], marks: Mapping[str, float]
) -> None:
    rows = [row for row in summary.rows if name in row.cells]
    reach = max(
        [*(_end(row, name) for row in rows), *(marks[row.key] for row in rows if row.key in marks)], default=1.0
    )
    for row in rows:
        _draw_bar(axis, row, row.cells[name], places[row.group, row.key])
        end = _end(row, name)
        if row.key in marks:
            y, x = places[row.group, row.key], marks[row.key]
            axis.plot([x, x], [y - 0.42, y + 0.42], color=_MARK, lw=3, solid_capstyle="butt", zorder=6)
            end = max(end, x) if x > row.cells[name].mean else end
        best = summary.is_best(row, list(COLUMNS).index(name))
        axis.annotate(
            _value(row.cells[name]), (end, places[row.group, row.key]), xytext=(7, 0), textcoords="offset points",
            va="center", color=INK, fontsize=11.5, fontweight="bold" if best else "normal", zorder=7,
        )  # fmt: skip
    axis.set(xlim=(0, 1.27 * reach), ylim=(max(places.values()) + 0.6, -0.4), yticks=[], facecolor="white")
    axis.set_title(f"{COLUMNS[name]}, mm", loc="left", fontsize=14, color=INK, pad=20)
    axis.annotate(PANELS[name], (0, 1), xytext=(0, 5), xycoords="axes fraction", textcoords="offset points",
                  color=QUIET, fontsize=11)  # fmt: skip
    _quiet_axes(axis, "x")


def _draw_bar(axis: Any, row: SummaryRow, value: Spread, y: float) -> None:
    """Trained rows are filled, methods without a network grey, a bound is an outline; whiskers are the spread."""
    look: dict[Kind, dict[str, Any]] = {
        "trained": {"color": _TRAINED},
        "untrained": {"color": _PLAIN},
        "bound": {"facecolor": "white", "edgecolor": _PLAIN, "hatch": "////", "lw": 1},
    }
    axis.barh(y, value.mean, height=0.62, zorder=3, **look[row.kind])
    if value.deviation is not None:
        ends = [value.mean - value.deviation, value.mean + value.deviation]
        axis.plot(ends, [y, y], color=INK, lw=1.6, solid_capstyle="butt", zorder=5)
        for x in ends:
            axis.plot([x, x], [y - 0.14, y + 0.14], color=INK, lw=1.6, zorder=5)


def _end(row: SummaryRow, name: str) -> float:
    value = row.cells[name]
    return value.mean + (value.deviation or 0.0)


def _value(value: Spread) -> str:
    deviation = "" if value.deviation is None else f" \N{PLUS-MINUS SIGN}{value.deviation:.1f}"
    return f"{value.mean:.1f}{deviation}"


def _name_rows(axis: Any, summary: Summary, places: Mapping[Place, float], heads: Mapping[str, float]) -> None:
    for row in summary.rows:
        weight = "bold" if summary.is_best(row, 0) else "normal"
        axis.annotate(
            row.label, (0, places[row.group, row.key]), xytext=(-8, 0), textcoords="offset points", ha="right",
            va="center", color=INK, fontsize=12, fontweight=weight, annotation_clip=False,
        )  # fmt: skip
    for group, y in heads.items():
        axis.annotate(
            group, (0, y), xytext=(-8, 0), textcoords="offset points", ha="right", va="center", color=QUIET,
            fontsize=11, fontstyle="italic", annotation_clip=False,
        )  # fmt: skip


def _legend(figure: Any, summary: Summary, marks: Mapping[str, float], y: float) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: list[tuple[Any, str]] = []
    if any(cell.deviation is not None for row in summary.rows for cell in row.cells.values()):
        entries.append((Line2D([], [], color=INK, lw=1.6, marker="|", ms=7), "one standard deviation over seeds"))
    if any(row.kind == "bound" for row in summary.rows):
        entries.append((Patch(facecolor="white", edgecolor=_PLAIN, hatch="////"), "bound that sees the truth"))
    if marks:
        entries.append((Line2D([], [], color=_MARK, lw=3), "where the slides' ratio to Forward2Dto3D would put it"))
    if entries:
        figure.legend(
            [mark for mark, _ in entries], [text for _, text in entries], loc="upper left", ncols=len(entries),
            bbox_to_anchor=(0.01, y), frameon=False, fontsize=11, labelcolor=QUIET, handlelength=1.6, columnspacing=2,
        )  # fmt: skip


def _draw_curve(axis: Any, curve: Curve) -> None:
    """Places stand at even distances, so that 0 and 100 % and what lies between can be read."""
    points = [point for line in curve.lines.values() for point in line]
    ticks = {point.x: point.tick for point in sorted(points, key=lambda point: point.x)}
    where = {x: number for number, x in enumerate(ticks)}
    ends: dict[str, tuple[float, float, str]] = {}
    for number, (name, line) in enumerate(curve.lines.items()):
        ordered = sorted(line, key=lambda point: point.x)
        xs, ys = [where[p.x] for p in ordered], [p.error.mean for p in ordered]
        colour = METHOD_COLOURS[number % len(METHOD_COLOURS)]
        deviations = [p.error.deviation or 0.0 for p in ordered]
        axis.errorbar(xs, ys, yerr=deviations, color=colour, lw=2, marker="o", ms=6, capsize=4, zorder=4)
        ends[name] = (xs[-1], ys[-1], colour)
    if curve.level is not None:
        name, level = curve.level
        axis.axhline(level, color=_PLAIN, lw=1.5, ls=(0, (4, 3)), zorder=2)
        ends[name] = (axis.get_xlim()[1], level, QUIET)
    axis.set_xticks(list(where.values()), list(ticks.values()))
    axis.set_xlim(-0.3, len(where) - 0.7)
    axis.set_ylim(bottom=0)
    if len(ends) > 1:
        _label_ends(axis, ends)
    axis.set_title(curve.title, loc="left", fontsize=14, color=INK, pad=10)
    axis.set_xlabel(curve.x_label, fontsize=12, color=QUIET)
    axis.set_ylabel("PA-MPJPE, mm", fontsize=12, color=QUIET)
    _quiet_axes(axis, "y")


def _named(curve: Curve) -> list[str]:
    """What has its name beside it."""
    return [*curve.lines, *([] if curve.level is None else [curve.level[0]])]


def _label_ends(axis: Any, ends: Mapping[str, tuple[float, float, str]]) -> None:
    """Names beside the ends of their lines, moved apart where they would meet."""
    low, high = axis.get_ylim()
    right = axis.get_xlim()[1]
    least = _LABEL_SHARE * (high - low)
    before = -float("inf")
    for name, (x, y, colour) in sorted(ends.items(), key=lambda item: item[1][1]):
        before = max(y, before + least)
        arrow = {"arrowstyle": "-", "color": colour, "lw": 0.8, "alpha": 0.5, "shrinkA": 0, "shrinkB": 4}
        axis.annotate(
            name, (x, y), xytext=(right, before), textcoords="data", va="center", color=colour, fontsize=12,
            fontweight="normal" if colour == QUIET else "bold", annotation_clip=False,
            arrowprops={**arrow, "relpos": (0, 0.5)},
        )  # fmt: skip


def _quiet_axes(axis: Any, grid: str) -> None:
    axis.tick_params(labelsize=11, labelcolor=QUIET, length=0)
    axis.grid(axis=grid, color=FAINT)
    axis.set_axisbelow(True)
    axis.spines[:].set_visible(False)
