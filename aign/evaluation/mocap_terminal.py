"""The table of motion-capture methods on a terminal of any width: as many columns at a time as fit."""

from dataclasses import replace

from rich.console import Group, RenderableType
from rich.text import Text

from aign.evaluation.mocap_table import Group as Section
from aign.evaluation.mocap_table import MocapTable, render_rich

GAP = 2
"""Between two columns."""


def render_terminal(table: MocapTable, width: int) -> RenderableType:
    """Blocks of columns below each other, what a section's rows are of said once above them by number.

    Args:
        table: of `mocap_table`.
        width: of the terminal, characters.
    """
    numbered = tuple(replace(g, label=f"({i})") for i, g in enumerate(table.groups, 1))
    rows = [row for group in numbered for row in group.rows]
    room = width - max(len(row.method) for row in rows)
    blocks: list[tuple[str, ...]] = [()]
    for name in table.names:
        wider = replace(table, names=(*blocks[-1], name), reference=None)
        heads = zip(wider.heads, *(wider.texts(row) for row in rows), strict=True)
        if blocks[-1] and sum(max(map(len, column)) + GAP for column in heads) > room:
            blocks.append(())
        blocks[-1] = (*blocks[-1], name)
    parts = [replace(table, title="", names=names, groups=_with_any(numbered, names), notes=()) for names in blocks]
    # What the others are compared by stands once, beside the last columns.
    parts = [replace(part, reference=None) for part in parts[:-1]] + parts[-1:]
    labels = (f"({i}) {group.label}" for i, group in enumerate(table.groups, 1))
    return Group(
        Text(table.title, style="italic"),
        *(Text(label, style="dim") for label in labels),
        *map(render_rich, parts),
        *(Text(note, style="italic dim") for note in table.notes),
    )


def _with_any(sections: tuple[Section, ...], names: tuple[str, ...]) -> tuple[Section, ...]:
    """Those that have something to show in some columns."""
    return tuple(s for s in sections if any(name in row.cells for row in s.rows for name in names))
