"""Small charts as HTML and inline SVG; they take their colours from the page."""

from collections.abc import Sequence
from html import escape

import numpy as np
from jaxtyping import Float

from aign.inference.store_report.facts import Tally
from aign.inference.store_report.words import counted, number

_BINS = 28
_WIDTH, _HEIGHT, _FOOT = 280, 120, 20
_BARS = 12


def histogram(title: str, values: Float[np.ndarray, " n"], limits: Sequence[float]) -> str:
    """How often which value occurs; what lies below the lowest limit is drawn as failed.

    Args:
        title: name of the values.
        values: at least one.
        limits: each a line.
    """
    low, high = float(min(values.min(), *limits, np.inf)), float(max(values.max(), *limits, -np.inf))
    span = (high - low) or max(abs(high), 1.0)
    low, high = low - 0.02 * span, high + 0.02 * span
    counts, edges = np.histogram(values, bins=_BINS, range=(low, high))
    wide = _WIDTH / _BINS
    bars = ""
    for i, count in enumerate(counts.tolist()):
        tall = (_HEIGHT - 14) * count / counts.max()
        failed = " failed" if limits and edges[i + 1] <= min(limits) else ""
        if count:
            bars += (
                f'<rect class="column{failed}" x="{i * wide + 0.5:.1f}" y="{_HEIGHT - tall:.1f}" '
                f'width="{wide - 1:.1f}" height="{tall:.1f}"><title>{counted(count, "clip")}, {number(edges[i])} to '
                f"{number(edges[i + 1])}</title></rect>"
            )
    marks = ""
    for limit in limits:
        x = _WIDTH * (limit - low) / (high - low)
        anchor = "end" if x > _WIDTH / 2 else "start"
        shift = -4 if anchor == "end" else 4
        marks += (
            f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{_HEIGHT}"/>'
            f'<text class="limit" x="{x + shift:.1f}" y="10" text-anchor="{anchor}">limit {limit:g}</text>'
        )
    below = f", {int((values < min(limits)).sum())} below the limit" if limits else ""
    caption = f"{counted(len(values), 'clip')}, median {number(np.median(values))}{below}"
    return (
        f'<figure class="chart"><figcaption><b>{escape(title)}</b> {caption}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + _FOOT}" role="img" aria-label="{escape(title)}: {caption}">'
        f'{bars}<line class="axis" x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}"/>{marks}'
        f'<text x="0" y="{_HEIGHT + 15}">{number(low)}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT + 15}" text-anchor="end">{number(high)}</text></svg></figure>'
    )


def bars(tally: Tally) -> str:
    """Frames by one key: the largest, and the rest together."""
    shown, rest = tally.rows[:_BARS], tally.rows[_BARS:]
    total = sum(frames for _, _, frames in tally.rows)
    rows = [*shown]
    if rest:
        rows.append((f"{len(rest)} more", sum(clips for _, clips, _ in rest), sum(frames for *_, frames in rest)))
    most = max(frames for *_, frames in rows)
    items = "".join(
        f'<li><span class="name">{escape(name)}</span>'
        f'<span class="track"><i style="width:{100 * frames / most:.1f}%"></i></span>'
        f'<span class="count">{counted(frames, "frame")}, {counted(clips, "clip")}</span></li>'
        for name, clips, frames in rows
    )
    many = f" <small>{len(tally.rows):,} in {counted(total, 'frame')}</small>"
    return f'<div class="tally"><h3>By {escape(tally.title)}{many}</h3><ul>{items}</ul></div>'
