"""What a table of errors consists of before it is drawn."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Line:
    """One method: its name and one value per head, None where there is none."""

    method: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Section:
    """Rows that share data and protocol. Columns are the table's own unless `heads` says otherwise."""

    label: str
    lines: tuple[Line, ...]
    measured: bool

    def best(self, column: int) -> float | None:
        """Smallest value of a column where there is a choice; published rows are never marked."""
        values = [v for v in (line.values[column] for line in self.lines) if v is not None]
        return min(values) if self.measured and len(values) > 1 else None


@dataclass(frozen=True, kw_only=True)
class Block:
    """Sections that share columns: actions first, then the averages; with a caption where there are several errors."""

    heads: tuple[str, ...]
    sections: tuple[Section, ...]
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class ErrorTable:
    """A table before it is drawn."""

    title: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]
