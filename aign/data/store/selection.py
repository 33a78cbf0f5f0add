"""Which clips of a store are meant, decided from the manifest alone."""

from collections.abc import Collection
from dataclasses import dataclass

from aign.data.store.records import RowGroup
from aign.framework.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A filter on clips; None means all.

    Args:
        subjects: allowed subjects.
        sequences: allowed sequence ids.
        actions: allowed canonical actions.
        cameras: allowed cameras (tables without cameras are not filtered by it).
    """

    subjects: tuple[str, ...] | None = None
    sequences: tuple[str, ...] | None = None
    actions: tuple[str, ...] | None = None
    cameras: tuple[str, ...] | None = None

    def rows(self, group: RowGroup) -> tuple[int, ...]:
        """Rows of the group that are meant, in order."""
        if (
            (self.subjects is not None and group.subject not in self.subjects)
            or (self.sequences is not None and group.sequence not in self.sequences)
            or (self.actions is not None and group.action not in self.actions)
        ):
            return ()
        return tuple(
            i
            for i, span in enumerate(group.clips)
            if self.cameras is None or not span.camera or span.camera in self.cameras
        )

    def matches(self, group: RowGroup) -> bool:
        """Whether any clip of the group is meant."""
        return bool(self.rows(group))


def check_disjoint(
    one: Collection[str], other: Collection[str], names: tuple[str, str] = ("memory", "training")
) -> None:
    """Refuse two parts of a data set that share motion: critics, or judges, would see the answers.

    Args:
        one: sequence ids actually selected for one part (`Store.sequences`).
        other: sequence ids actually selected for the other.
        names: of the parts.

    Raises:
        UserError: naming shared sequences.
    """
    shared = sorted(set(one) & set(other))
    if shared:
        some = ", ".join(repr(name) for name in shared[:5]) + (", ..." if len(shared) > 5 else "")
        raise UserError(f"{' and '.join(names)} share {len(shared)} sequences ({some}); they must share none")
