"""The project's one progress bar: live on a terminal, one line at the start and one at the end elsewhere."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")


@contextmanager
def progress(total: int | None, label: str, unit: str) -> Iterator[Callable[[int], None]]:
    """Show how far a job of `total` units is (None: unknown); yields `advance(n)`.

    Everything goes to stderr. A job that raises leaves no "done" line.
    """
    if sys.stderr.isatty():
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(label, total=total)
            yield lambda n: bar.advance(task, n)
        return
    done = 0

    def advance(n: int) -> None:
        nonlocal done
        done += n

    started = time.monotonic()
    print(f"{label}: {'?' if total is None else total} {unit} ...", file=sys.stderr, flush=True)
    yield advance
    print(f"{label}: {done} {unit} in {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)


def track(items: Iterable[T], label: str, unit: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a progress bar; `total` where the items have no length."""
    known = len(items) if total is None and isinstance(items, Sized) else total
    with progress(known, label, unit) as advance:
        for item in items:
            yield item
            advance(1)
