"""How a training went, as small multiples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aign.data.publish import published
from aign.framework.errors import UserError
from aign.inference.plot import FAINT, INK, METHOD_COLOURS, QUIET, new_figure


def training_curves(path: Path, curves: Mapping[str, Sequence[Mapping[str, float | int]]]) -> None:
    """Write a png of small multiples: one panel a metric, one line a method, over steps.

    How hard each term pulls, and whither, is for whoever tunes weights; here it would double the panels.

    Args:
        path: of the new .png.
        curves: by method, rows as a training logs them: "step" and whichever metrics that step has.

    Raises:
        UserError: no metric, a row without "step", or the file cannot be written.
    """
    if any("step" not in row for rows in curves.values() for row in rows):
        raise UserError('got a row of metrics without "step"; allowed: rows that say when they were measured')
    seen = dict.fromkeys(key for rows in curves.values() for row in rows for key in row if key != "step")
    drawn = [name for name in seen if not name.startswith(("gradient/", "cosine/"))]
    names = sorted(drawn, key=lambda name: "/" not in name)  # losses, then what the runs are judged by
    if not names:
        raise UserError(f"got no metric of {list(curves) or 'any method'} to draw; allowed: at least one")
    columns = min(3, len(names))
    rows_of_panels = -(-len(names) // columns)
    figure = new_figure(12.0, 2.9 * rows_of_panels + 0.6)
    axes = figure.subplots(rows_of_panels, columns, squeeze=False).flatten()
    for axis, name in zip(axes, names, strict=False):
        for number, (method, rows) in enumerate(curves.items()):
            points = np.array([(row["step"], row[name]) for row in rows if name in row], dtype=float).reshape(-1, 2)
            colour = METHOD_COLOURS[number % len(METHOD_COLOURS)]
            marker = "o" if len(points) < 8 else ""
            axis.plot(points[:, 0], points[:, 1], color=colour, label=method, lw=1.8, marker=marker, ms=4)
        _style_panel(axis, name)
        axis.set_xlim(0, 1.01 * max(row["step"] for rows in curves.values() for row in rows))
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    # Every method is in every panel, with or without points, so the first panel's entries are all there are.
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="upper left", ncols=len(curves), frameon=False, fontsize=13,
        labelcolor=INK, bbox_to_anchor=(0.035, 1.0), handlelength=1.4,
    )  # fmt: skip
    height = figure.get_figheight()
    figure.subplots_adjust(left=0.05, right=0.985, wspace=0.2, hspace=0.42, top=1 - 0.85 / height, bottom=0.42 / height)
    with published(path) as unfinished:
        figure.savefig(unfinished, format="png")


def _style_panel(axis: Any, name: str) -> None:
    axis.set_title(name, loc="left", fontsize=13, color=INK)
    axis.tick_params(labelsize=11, labelcolor=QUIET, length=0)
    axis.grid(axis="y", color=FAINT)
    axis.set_axisbelow(True)
    axis.spines[:].set_visible(False)
    axis.locator_params(nbins=4)
    axis.annotate("step", (1, 0), xytext=(0, -24), xycoords="axes fraction", textcoords="offset points", ha="right",
                  color=QUIET, fontsize=11)  # fmt: skip
