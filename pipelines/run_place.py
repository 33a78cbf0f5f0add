"""Runs that are kept at a URL: a process works in a folder of its own, and what counts is copied there and back.

Ray writes checkpoints straight to the URL, under `ray/`; a checkpoint holds the log up to its step, so the two never
disagree. Everything else of a run is small.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aign.data.store.files import storage_errors
from aign.data.store.lock import writing
from aign.framework.errors import StorageError
from aign.training.hooks import LOG, last_step
from infra.patience import open_fresh, patiently
from infra.storage import is_url
from pipelines.run_folder import FINISHED, Run

CHECKPOINTS = "ray"
"""Of a run, what Ray writes and nobody copies."""
REFRESH_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run is.

    Attributes:
        folder: where this process reads and writes it; its name is the run's.
        url: where it is kept; "": in the folder.
    """

    folder: Path
    url: str = ""

    @property
    def shown(self) -> str:
        """What the user calls it."""
        return self.url or str(self.folder)


@contextmanager
def place_of(runs: str, name: str) -> Iterator[Place]:
    """The place of a run, with what is there of it already; one at a URL is this process's alone.

    Raises:
        UserError: another process trains the run, or the URL cannot be read or written.
    """
    if not is_url(runs):
        yield Place(folder=(Path(runs).expanduser() / name).absolute())
        return
    url = f"{runs.rstrip('/')}/{name}"
    with tempfile.TemporaryDirectory(prefix="aign-run-") as own, writing(url, "run"):
        place = Place(folder=Path(own) / name, url=url)
        pull(place)
        yield place


@contextmanager
def opened(run: str) -> Iterator[Run]:
    """A finished run, wherever it is kept.

    Raises:
        UserError: it is none.
    """
    if not is_url(run):
        yield Run.open(Path(run))
        return
    url = run.rstrip("/")
    with tempfile.TemporaryDirectory(prefix="aign-run-") as own:
        place = Place(folder=Path(own) / url.rpartition("/")[2], url=url)
        pull(place)
        yield Run.open(place.folder)


def pull(place: Place) -> None:
    """Copy a run from its URL, but for the checkpoints."""
    fs, root = open_fresh(place.url)
    place.folder.mkdir(parents=True, exist_ok=True)
    with storage_errors(f"read run {place.url}"):
        names = [str(path)[len(root) + 1 :] for path in fs.find(root)]
        for name in names:
            if not name.startswith((".", f"{CHECKPOINTS}/")):
                target = place.folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                fs.get_file(f"{root}/{name}", str(target))


def push(place: Place) -> None:
    """Copy a run to its URL, what says that it is finished last; nothing to do for one that is kept in a folder."""
    if not place.url:
        return
    fs, root = open_fresh(place.url)
    files = [path for path in place.folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    with storage_errors(f"write run {place.url}"):
        for path in sorted(files, key=lambda path: path.name == FINISHED):
            name = path.relative_to(place.folder).as_posix()
            patiently(lambda path=path, name=name: fs.put_file(str(path), f"{root}/{name}"))  # type: ignore[misc]


def step_at(place: Place) -> Callable[[], int]:
    """Asks for the newest step in a run's log; what cannot be read just now is as it was."""
    if not place.url:
        return lambda: last_step(place.folder)
    shown = 0

    def ask() -> int:
        nonlocal shown
        fs, root = open_fresh(place.url)
        with tempfile.TemporaryDirectory() as own:
            try:
                with storage_errors(f"read run {place.url}"):
                    fs.get_file(f"{root}/{LOG}", f"{own}/{LOG}")
            except StorageError:
                return shown
            shown = last_step(Path(own))
        return shown

    return ask


@dataclass
class Mirror:
    """A copy of the log at the run's URL for whoever looks on; the one that counts is in the checkpoints.

    Attributes:
        place: of the run.
    """

    place: Place
    _thread: ThreadPoolExecutor = field(init=False, default_factory=lambda: ThreadPoolExecutor(max_workers=1))
    _copying: Future[None] | None = field(init=False, default=None)
    _at: float = field(init=False, default=0.0)

    def refresh(self) -> None:
        """Copy it in the background, if the last copy is done and some seconds old."""
        if (self._copying is None or self._copying.done()) and time.monotonic() - self._at > REFRESH_S:
            self._at = time.monotonic()
            self._copying = self._thread.submit(self._copy)

    def _copy(self) -> None:
        fs, root = open_fresh(self.place.url)
        try:
            with storage_errors(f"write run {self.place.url}"):
                fs.put_file(str(self.place.folder / LOG), f"{root}/{LOG}")
        except StorageError:
            return  # the next line brings another copy
