"""The table of a search, best first: terminal, Markdown, HTML, CSV."""

import csv
import html
import io
import math
from collections.abc import Sequence

from rich.table import Table

from aign.evaluation.tables import HTML_STYLE
from aign.evaluation.trials import Search, Trial

DASH = "-"


def short(name: str) -> str:
    """The last part of a dotted or slashed name, by which a column is called."""
    return name.rpartition("/")[2].rpartition(".")[2]


def heads(search: Search) -> tuple[str, ...]:
    """Heads of the columns: which, how far, how good, with what."""
    return (
        *("trial", "state", "step", short(search.goal.metric.name), *(short(m.name) for m in search.traded), "front"),
        *(short(name) for name in search.ranges),
    )


def cells(search: Search) -> list[tuple[str, ...]]:
    """A row a trial, as texts."""
    front = {trial.number for trial in search.front()}
    return [_row(search, trial, trial.number in front) for trial in search.ranked()]


def _row(search: Search, trial: Trial, front: bool) -> tuple[str, ...]:
    name = f"{trial.number} (the recipe)" if trial.number == 0 else str(trial.number)
    numbers = [_number(trial.metrics.get(m.name)) for m in (search.goal.metric, *search.traded)]
    drawn = [_number(trial.values.get(n)) for n in search.ranges]
    return (name, trial.state, str(trial.step), *numbers, "*" if front else "", *drawn)


def _number(value: float | None) -> str:
    return DASH if value is None or not math.isfinite(value) else f"{value:.4g}"


def render_rich(search: Search, most: int = 10) -> Table:
    """The first few for a terminal, without what was drawn: that is wider than one."""
    table = Table(title=_title(search), title_justify="left", box=None, pad_edge=False)
    shown = heads(search)[: -len(search.ranges)]
    for number, head in enumerate(shown):
        table.add_column(head, justify="left" if number < 2 else "right", no_wrap=True)
    for row in cells(search)[:most]:
        table.add_row(*row[: len(shown)])
    return table


def _title(search: Search) -> str:
    return (
        f"{search.recipe}: {len(search.trials)} trials of {search.steps} steps by {search.goal.metric.name}, best first"
    )


def render_markdown(search: Search, notes: Sequence[str] = ()) -> str:
    """All of them, with notes over the table."""
    head = heads(search)
    rule = ["---", "---", *["---:"] * (len(head) - 2)]
    rows = ["| " + " | ".join(text.replace("|", "/") for text in row) + " |" for row in (head, rule, *cells(search))]
    return "\n".join([f"# {_title(search)}", "", *(f"- {note}" for note in notes), "", *rows]) + "\n"


def render_html(search: Search, notes: Sequence[str] = ()) -> str:
    """A fragment in the classes of `aign.evaluation.tables`."""
    head = "".join(f"<th>{html.escape(text)}</th>" for text in heads(search))
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in cells(search))
    items = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return (
        f'{HTML_STYLE}<table class="aign-table"><caption>{html.escape(_title(search))}</caption>'
        f'<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table><ul class="aign-notes">{items}</ul>\n'
    )


def render_csv(search: Search) -> str:
    """A line a trial with full names and all digits, every metric among them."""
    metrics = sorted({name for trial in search.trials for name in trial.metrics})
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["trial", "state", "step", *metrics, *search.ranges, "dead", "why"])
    for t in search.ranked():
        numbers = [t.metrics.get(name) for name in metrics]
        drawn = [t.values.get(name) for name in search.ranges]
        out.writerow([t.number, t.state, t.step, *numbers, *drawn, " ".join(t.dead), t.why])
    return text.getvalue()
