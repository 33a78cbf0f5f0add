"""The pictures of a search: what was tried and what mattered, what is traded for what, and what pulls against what."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aign.data.publish import published
from aign.evaluation.importance import Importance
from aign.evaluation.trial_table import short
from aign.evaluation.trials import Metric, Search, Trial, undominated
from aign.inference.plot import FAINT, INK, METHOD_COLOURS, QUIET, new_figure

_BEST, _RECIPE, _STOPPED = METHOD_COLOURS[1], METHOD_COLOURS[0], "#c3c8cf"
_DASHED = (0, (4, 2))
_WIDTH_IN = 12.0
MANY = 10
"""From so many whole trials on, the worst tenth of them shares the end of the scale."""
CLEAR = 0.6
"""Rank correlation from which on a direction is told: under it, the best may lie in the middle."""


def search_figure(path: Path, search: Search, found: Importance | None) -> None:
    """Write a png, 1200 px wide: each trial as a line through its numbers, coloured by its error; bars of importance.

    Args:
        path: of the new .png.
        search: with at least one trial that made all its steps.
        found: what mattered; None: no bars.
    """
    lines_in, bar_in = 4.6, 0.36
    bars = 0.0 if found is None else bar_in * len(found.shares) + 1.3
    height = lines_in + 1.5 + bars
    figure = new_figure(_WIDTH_IN, height)
    axis = figure.add_axes((0.045, 1 - (lines_in + 0.75) / height, 0.9, lines_in / height))
    _draw_lines(figure, axis, search)
    if found is not None:
        box = (0.2, 0.62 / height, 0.72, (bars - 1.25) / height)
        _draw_bars(figure.add_axes(box), found)
    _save(figure, path)


def pareto_figure(path: Path, search: Search) -> None:
    """Write a png, 1200 px wide: the error against each metric that it is traded for, and the front of the two.

    Args:
        path: of the new .png.
        search: with a metric that is traded and varied.
    """
    ended = [trial for trial in search.trials if trial.state == "complete"]
    figure = new_figure(_WIDTH_IN, 4.6)
    axes = figure.subplots(1, len(search.varied), squeeze=False)[0]
    for axis, other in zip(axes, search.varied, strict=True):
        judged = (other, search.goal.metric)
        points = np.array([[t.metrics[m.name] for m in judged] for t in ended])
        front = points[undominated(np.array([[m.loss(t.metrics[m.name]) for m in judged] for t in ended]))]
        front = front[np.argsort(front[:, 0])]
        axis.step(
            front[:, 0],
            front[:, 1],
            where="pre" if other.higher else "post",
            color=_BEST,
            lw=1.5,
            label="front",
            zorder=1,
        )
        axis.scatter(points[:, 0], points[:, 1], s=42, color=_STOPPED, edgecolor="white", zorder=2, label="trial")
        axis.scatter(front[:, 0], front[:, 1], s=52, color=_BEST, edgecolor="white", zorder=3)
        for trial, (x, y) in zip(ended, points, strict=True):
            if trial.number == 0:
                axis.scatter([x], [y], s=70, marker="D", color=_RECIPE, edgecolor="white", zorder=4, label="the recipe")
            if (y, x) in {(q, p) for p, q in front.tolist()}:
                axis.annotate(str(trial.number), (x, y), xytext=(6, 5), textcoords="offset points", color=QUIET)
        axis.set_xlabel(_named(other), color=INK, fontsize=12)
        axis.set_ylabel(_named(search.goal.metric), color=INK, fontsize=12)
        axis.margins(0.12)
        _quiet(axis)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="upper left", ncols=3, frameon=False, fontsize=11, labelcolor=INK,
        bbox_to_anchor=(0.065, 1.0),
    )  # fmt: skip
    figure.subplots_adjust(left=0.075, right=0.985, bottom=0.14, top=0.9, wspace=0.24)
    _save(figure, path)


def conflict_figure(path: Path, search: Search) -> None:
    """Write a png: cosines of the terms' gradients at the generator's outputs, mean over all trials' steps.

    Args:
        path: of the new .png.
        search: with cosines of at least two terms.
    """
    names, table = search.conflicts()
    side, label = 0.66 * len(names), 0.35 + 0.1 * max(len(name) for name in names)
    width, height = label + side + 1.5, label + side + 0.1
    figure = new_figure(width, height)
    axis = figure.add_axes((label / width, 0.1 / height, side / width, side / height))
    shown = np.where(np.eye(len(names), dtype=bool), np.nan, table)
    image = axis.imshow(shown, cmap="RdBu", vmin=-1, vmax=1)
    for (i, j), value in np.ndenumerate(shown):
        if math.isfinite(value):
            colour = "white" if abs(value) > 0.6 else INK
            axis.text(j, i, f"{value:+.2f}", ha="center", va="center", fontsize=9.5, color=colour)
    axis.set_xticks(range(len(names)), names, rotation=45, ha="left", fontsize=11, color=INK)
    axis.set_yticks(range(len(names)), names, fontsize=11, color=INK)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    place = figure.add_axes(((label + side + 0.25) / width, 0.1 / height, 0.16 / width, side / height))
    bar = figure.colorbar(image, cax=place, ticks=[-1, 0, 1])
    bar.ax.set_yticklabels(["against", "unrelated", "together"], fontsize=10, color=QUIET)
    bar.outline.set_visible(False)
    _save(figure, path)


def _draw_lines(figure: Any, axis: Any, search: Search) -> None:
    """Parallel coordinates: a column a number, logarithmic over its range, and the goal at the right end."""
    from matplotlib.colors import Normalize

    ended = [t for t in search.ranked() if t.state == "complete"]
    losses = [search.loss(t) for t in ended]
    # A few that went astray would leave one colour for all others.
    low, high = losses[0], losses[-1] if len(losses) < MANY else float(np.quantile(losses, 0.9))
    scale = Normalize(low, high if high > low else low + 1, clip=True)
    count = len(search.ranges)
    for trial in [t for t in search.trials if t.state != "complete"]:
        axis.plot(range(count), _heights(search, trial), color=_STOPPED, lw=0.9, alpha=0.8, zorder=1)
    for trial in reversed(ended):
        worse = float(scale(search.loss(trial)))
        look: dict[str, Any] = {"color": _shade(worse), "lw": 1.6, "zorder": 2}
        if trial.number == 0:
            look = {"color": _RECIPE, "lw": 2.2, "ls": _DASHED, "zorder": 3}
        if trial is ended[0]:
            look = {"color": _BEST, "lw": 3.2, "zorder": 4}
        axis.plot(range(count + 1), [*_heights(search, trial), 1 - worse], **look)
    for column, (name, height) in enumerate(zip(search.ranges, _heights(search, ended[0]), strict=True)):
        _tell(axis, column, height, f"{ended[0].values[name]:.2g}")
    _draw_columns(axis, search, (low, high))
    _draw_legend(figure, ended)


def _draw_columns(axis: Any, search: Search, losses: tuple[float, float]) -> None:
    """The columns, their names, and the numbers at their ends; the best of the goal is at the top."""
    metric = search.goal.metric
    best, worst = (f"{metric.loss(end):.4g}" for end in losses)
    if any(search.loss(trial) > losses[1] for trial in search.trials if trial.state == "complete"):
        worst = f"{worst} or worse"
    columns = [(name, f"{low:.2g}", f"{high:.2g}") for name, (low, high) in search.ranges.items()]
    for column, (name, bottom, top) in enumerate([*columns, (metric.name, worst, best)]):
        axis.axvline(column, color=FAINT, lw=1.2, zorder=0)
        axis.text(column, -0.035, bottom, ha="center", va="top", fontsize=9.5, color=QUIET)
        axis.text(column, 1.035, top, ha="center", va="bottom", fontsize=9.5, color=QUIET)
        axis.text(column, -0.115, short(name), ha="center", va="top", fontsize=11, color=INK)
    axis.set(xlim=(-0.4, len(columns) + 0.3), ylim=(-0.02, 1.02), xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def _draw_legend(figure: Any, ended: Sequence[Trial]) -> None:
    from matplotlib.lines import Line2D

    shown = [
        (Line2D([], [], color=_BEST, lw=3.2), f"best: trial {ended[0].number}"),
        (Line2D([], [], color=_shade(0.5), lw=1.6), "made all steps, the darker the worse"),
        (Line2D([], [], color=_STOPPED, lw=0.9), "stopped early, or failed"),
    ]
    if any(trial.number == 0 for trial in ended[1:]):
        shown.insert(1, (Line2D([], [], color=_RECIPE, lw=2.2, ls=_DASHED), "the recipe as it is"))
    figure.legend(
        *zip(*shown, strict=True), loc="upper left", ncols=len(shown), frameon=False, fontsize=11, labelcolor=INK,
        bbox_to_anchor=(0.03, 1.0),
    )  # fmt: skip


def _shade(worse: float) -> Any:
    """Of a trial, 0 the best to 1; the first quarter of the colours is too pale on white."""
    from matplotlib import colormaps

    return colormaps["viridis_r"](0.25 + 0.75 * worse)


def _tell(axis: Any, column: int, height: float, text: str) -> None:
    """A number of the best trial, beside where its line crosses a column."""
    axis.scatter([column], [height], s=30, color=_BEST, zorder=5)
    axis.annotate(
        text, (column, height), xytext=(7, 0), textcoords="offset points", va="center", fontsize=10, color=_BEST,
        fontweight="bold", zorder=6, bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.0},
    )  # fmt: skip


def _named(metric: Metric) -> str:
    """With the way that is better."""
    return f"{short(metric.name)}, {'higher' if metric.higher else 'lower'} is better"


def _heights(search: Search, trial: Trial) -> list[float]:
    """Where a trial's numbers lie in their ranges, 0 to 1; the recipe's own may lie outside and are put at the end."""
    shares = [math.log(trial.values[name] / low) / math.log(high / low) for name, (low, high) in search.ranges.items()]
    return [min(max(share, 0.0), 1.0) for share in shares]


def _draw_bars(axis: Any, found: Importance) -> None:
    names = list(found.shares)
    for place, name in enumerate(names):
        share, direction = found.shares[name], found.directions[name]
        counts = share > found.chance
        axis.barh(place, share, height=0.62, color=_RECIPE if counts else _STOPPED)
        said = f"{100 * share:.0f} %"
        if counts and abs(direction) >= CLEAR:
            said += ", smaller is better" if direction > 0 else ", larger is better"
        axis.text(share, place, f"  {said}", va="center", fontsize=10.5, color=INK)
    axis.axvline(found.chance, color=_BEST, lw=1.2, ls=(0, (3, 2)))
    axis.text(found.chance, -0.75, " as much as a number that nobody used", va="center", fontsize=10, color=_BEST)
    axis.set_yticks(range(len(names)), names, fontsize=11, color=INK)
    axis.set(ylim=(len(names) - 0.4, -1.1), xlim=(0, max(*found.shares.values(), found.chance) * 1.35), xticks=[])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_xlabel("share of what explains the ranking of the trials", fontsize=11, color=QUIET)


def _save(figure: Any, path: Path) -> None:
    with published(path) as unfinished:
        figure.savefig(unfinished, format="png")


def _quiet(axis: Any) -> None:
    axis.tick_params(labelsize=10.5, labelcolor=QUIET, length=0)
    axis.grid(color=FAINT)
    axis.set_axisbelow(True)
    axis.spines[:].set_visible(False)
