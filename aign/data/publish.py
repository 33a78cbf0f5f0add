"""Files that appear under their name only when they are whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aign.framework.errors import StorageError


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, of the same ending, that takes its place when the block ends well.

    Raises:
        StorageError: the folder cannot be written; whatever `path` was before is untouched and nothing is left over.
    """
    # Always the same name: what a killed process left half-written, its successor overwrites.
    temporary = path.with_name(f".{path.stem}.unfinished{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
