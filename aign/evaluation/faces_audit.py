"""The bias audit of a report: every attribute before and after, and how far each moved in every group of people."""

import csv
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from aign.evaluation.faces_report import FaceReport
from aign.evaluation.faces_table import judge_in_words, row_name

DASH = "-"
_SHOWN = {
    "truth": "truth",
    "before": "before",
    "after": "after",
    "change_sd": "change SD",
    "change_abs_sd": "|change| SD",
    "change_from_truth_sd": "from truth SD",
    "judge_accuracy_truth": "judge, truth",
    "judge_accuracy_before": "judge, before",
}


@dataclass(frozen=True, kw_only=True)
class AuditTable:
    """Texts of a table: heads of its columns, a name and cells a row, and what must be said beside."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def audit_table(report: FaceReport) -> AuditTable:
    """A row an attribute, the one that moved most first."""
    order = sorted(report.audit, key=lambda name: -abs(report.audit[name].get("change_sd", 0.0)))
    rows = []
    for name in order:
        entry = dict(report.audit[name])
        for side in ("truth", "before"):  # one column for how right the judge is: accuracy of a sign, else correlation
            entry.setdefault(f"judge_accuracy_{side}", entry.get(f"judge_r_{side}", float("nan")))
        rows.append((name, *(_text(entry.get(key), signed="change" in key) for key in _SHOWN)))
    ratio = report.numbers.get("target_per_drift")
    told = () if ratio is None else (f"Target's change by the mean drift of all others: {ratio:.1f}.",)
    return AuditTable(
        title=f"Audit of {row_name(report)}: {report.num_pictures} pictures",
        heads=("attribute", *_SHOWN.values()),
        rows=tuple(rows),
        notes=(
            "Means of what the judge reads: -1 to 1 of a sign, else the attribute's own unit. SD: standard deviations "
            "of the judge's training labels. The last two columns say how right the judge is on these pictures: "
            "balanced accuracy of a sign, else the correlation with the label.",
            *told,
            judge_in_words(report),
        ),
    )


def group_table(report: FaceReport) -> AuditTable:
    """A row a group of people: the mean change of every attribute in standard deviations."""
    names = tuple(report.audit)
    rows = tuple(
        (f"{group} ({change['count']:.0f})", *(_text(change.get(name), signed=True) for name in names))
        for group, change in report.groups.items()
    )
    return AuditTable(
        title=f"Change by group of {row_name(report)}, standard deviations",
        heads=("group (pictures)", *names),
        rows=rows,
        notes=("Groups are by label. A group of few pictures says little.",),
    )


def _text(value: float | None, signed: bool) -> str:
    if value is None or math.isnan(value):
        return DASH
    return f"{value:+.2f}" if signed else f"{value:.3g}"


def audit_rich(table: AuditTable) -> Table:
    """For a terminal."""
    out = Table(
        title=table.title, title_justify="left", caption="\n".join(table.notes), caption_justify="left", box=None
    )
    for i, head in enumerate(table.heads):
        out.add_column(head, justify="right" if i else "left")
    for row in table.rows:
        out.add_row(*row)
    return out


def audit_markdown(tables: Sequence[AuditTable]) -> str:
    """Tables below each other in Markdown."""
    out: list[str] = []
    for table in tables:
        out += [f"**{_plain(table.title)}**", "", "| " + " | ".join(map(_plain, table.heads)) + " |"]
        out += ["|:--|" + "--:|" * (len(table.heads) - 1)]
        out += ["| " + " | ".join(map(_plain, row)) + " |" for row in table.rows]
        out += ["", *(f"- {_plain(note)}" for note in table.notes), ""]
    return "\n".join(out)


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def audit_html(tables: Sequence[AuditTable]) -> str:
    """An HTML fragment in the classes of `aign.evaluation.tables`."""
    out = []
    for table in tables:
        heads = "".join(f"<th>{html.escape(head)}</th>" for head in table.heads)
        rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in table.notes)
        out.append(
            f'<table class="aign-table"><caption>{html.escape(table.title)}</caption><thead><tr>{heads}</tr></thead>'
            f'<tbody>{rows}</tbody></table><ul class="aign-notes">{notes}</ul>'
        )
    return "\n".join(out) + "\n"


def audit_csv(reports: Sequence[FaceReport]) -> str:
    """One line for each method, attribute and group ("all": everybody), all digits."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["method", "bias", "group", "pictures", "attribute", "truth", "before", "after", "change_sd"])
    for r in reports:
        for name, entry in r.audit.items():
            sides = [entry.get(side) for side in ("truth", "before", "after", "change_sd")]
            out.writerow([r.method, r.bias, "all", r.num_pictures, name, *sides])
        for group, change in r.groups.items():
            for name in r.audit:
                out.writerow([r.method, r.bias, group, int(change["count"]), name, "", "", "", change.get(name)])
    return text.getvalue()
