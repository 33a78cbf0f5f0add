"""Files of a store on any fsspec URL: nothing under a final name is ever half-written.

Locally a file is written beside its final name, synced and renamed; elsewhere (S3) it is built in the system's
temporary folder and put whole, which object stores do atomically.
"""

import errno
import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from aign.framework.errors import StorageError, UserError

TEMP_PREFIX = ".tmp-"
_REASONS = {
    errno.ENOSPC: "no space left on the disk; free some or choose another place",
    errno.EDQUOT: "the disk quota is used up; free some or choose another place",
    errno.EFBIG: "the file would be larger than this disk or process may write",
    errno.EROFS: "the place is read-only; choose a store that may be written",
    errno.EACCES: "permission denied; choose a store that may be written",
    errno.EPERM: "permission denied; choose a store that may be written",
}


def open_url(url: str) -> tuple[Any, str]:
    """The fsspec file system and the path of a store URL.

    Raises:
        UserError: if the URL's protocol is unknown or its package is not installed.
    """
    try:
        fs, root = fsspec.core.url_to_fs(os.path.expanduser(url))
    except (ImportError, ValueError) as error:
        raise UserError(
            f"cannot open store {url!r}: {one_line(error)}; allowed are local paths and fsspec URLs"
        ) from error
    return fs, str(root).rstrip("/")


def is_local(fs: object) -> bool:
    """Whether paths of this file system are paths of this machine."""
    return isinstance(fs, LocalFileSystem)


def one_line(error: BaseException) -> str:
    """An error's text on one line."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def storage_errors(action: str) -> Iterator[None]:
    """Turn what an operating system or object store says into one `StorageError` line: "cannot <action>: <why>"."""
    try:
        yield
    except OSError as error:
        number = error.errno if error.errno is not None else 0
        reason = _REASONS.get(number) or one_line(error)
        raise StorageError(f"cannot {action}: {reason}") from error
    except Exception as error:
        # s3fs lets botocore's own errors (no credentials, no connection) through; it need not be installed.
        if type(error).__module__.partition(".")[0] != "botocore":
            raise
        raise StorageError(f"cannot {action}: {one_line(error)}") from error


def sha256_file(fs: Any, path: str) -> str:
    """Sha256 of one file, read in pieces."""
    digest = hashlib.sha256()
    with fs.open(path, "rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


@contextmanager
def atomic_file(fs: Any, path: str) -> Iterator[Path]:
    """A local file to write; leaving the block publishes it as `path`, an error inside leaves nothing.

    Yields:
        where to write; the caller closes what it opens there.

    Raises:
        UserError: if the place is read-only or full.
    """
    with storage_errors(f"write {path}"):
        if is_local(fs):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            folder = Path(path).parent
        else:
            folder = Path(tempfile.gettempdir())
        temp = folder / f"{TEMP_PREFIX}{uuid.uuid4().hex}-{os.path.basename(path)}"
        try:
            yield temp
            _publish(fs, temp, path)
        finally:
            temp.unlink(missing_ok=True)


def _publish(fs: Any, temp: Path, path: str) -> None:
    if not is_local(fs):
        fs.put_file(str(temp), path)
        return
    _sync(temp)
    os.replace(temp, path)
    _sync(temp.parent)  # the rename itself must survive a power cut


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(fs: Any, path: str, data: bytes) -> None:
    """Publish a small file in one piece."""
    with atomic_file(fs, path) as temp:
        temp.write_bytes(data)


def remove_orphans(url: str) -> tuple[str, ...]:
    """Remove temporary files that killed processes left in a local store; object stores keep none.

    Only the process that holds the store's lock may call it: another writer's file is an orphan to it.

    Returns:
        names of the removed files.
    """
    fs, root = open_url(url)
    if not is_local(fs):
        return ()
    orphans = sorted([*Path(root).glob(f"{TEMP_PREFIX}*"), *Path(root).glob(f"*/{TEMP_PREFIX}*")])
    with storage_errors(f"clean {url}"):
        for orphan in orphans:
            orphan.unlink(missing_ok=True)
    return tuple(orphan.name for orphan in orphans)


def list_files(url: str) -> dict[str, int]:
    """Size in bytes of every file of a store, by its path in the store.

    Raises:
        UserError: the place cannot be listed.
    """
    fs, root = open_url(url)
    with storage_errors(f"list {url}"):
        fs.invalidate_cache()
        found = fs.find(root, detail=True)
    return {str(path)[len(root) :].lstrip("/"): int(info["size"]) for path, info in found.items()}
