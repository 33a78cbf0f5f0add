"""Storage on a URL as Ray's checkpoints need it: a server that is away for a while delays a run and does not end it.

Ray ends a run when its controller cannot write one small file. Here every operation is tried again until the server
answers, for up to `PATIENCE_S`, and a file is put whole when it is closed, so that putting it can be tried again too.
"""

import tempfile
import time
from collections.abc import Callable
from typing import Any, TypeVar

import fsspec
from pyarrow import NativeFile, PythonFile
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FSSpecHandler, PyFileSystem

PATIENCE_S = 300.0
"""A server that has not answered for so long is not coming back."""
LONGEST_PAUSE_S = 10.0
IN_MEMORY_BYTES = 1 << 20

T = TypeVar("T")


def passing(error: Exception) -> bool:
    """Whether what went wrong with a server may be over by itself: it was away, slow or busy."""
    if isinstance(
        error, FileNotFoundError | PermissionError | FileExistsError | IsADirectoryError | NotADirectoryError
    ):
        return False
    # s3fs lets botocore's own errors (no connection, no credentials) through; it need not be installed.
    of_botocore = type(error).__module__.partition(".")[0] == "botocore"
    return isinstance(error, OSError) or (of_botocore and "Credentials" not in type(error).__name__)


def patiently(action: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """Do it, again and again while what goes wrong may be over by itself; then its error is raised."""
    until, pause_s = time.monotonic() + patience_s, 0.5
    while True:
        try:
            return action()
        except Exception as error:
            if not passing(error) or time.monotonic() + pause_s > until:
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


class _Whole:
    """A file that is put in one piece when it is closed."""

    def __init__(self, fs: Any, path: str) -> None:
        self._fs, self._path = fs, path
        self._content = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115  it lives until `close`
        self.closed = False

    def write(self, data: bytes) -> int:
        """Kept here."""
        return self._content.write(data)

    def flush(self) -> None:
        """Nothing is put before the end."""

    def close(self) -> None:
        """Put it."""
        if not self.closed:
            self.closed = True
            with self._content:
                patiently(self._put)

    def _put(self) -> None:
        self._content.seek(0)
        with self._fs.open(self._path, mode="wb") as file:
            while piece := self._content.read(1 << 23):
                file.write(piece)


class _Patient(FSSpecHandler):  # type: ignore[misc]
    """What Ray asks of a file system."""

    def get_file_info(self, paths: list[str]) -> list[FileInfo]:
        return patiently(lambda: super(_Patient, self).get_file_info(paths))

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        # Asked first: fsspec's `exists`, which is used there, takes a server that is away for a file that is not.
        self.get_file_info([selector.base_dir])
        return patiently(lambda: super(_Patient, self).get_file_info_selector(selector))

    def create_dir(self, path: str, recursive: bool) -> None:
        patiently(lambda: super(_Patient, self).create_dir(path, recursive))

    def delete_dir(self, path: str) -> None:
        patiently(lambda: super(_Patient, self).delete_dir(path))

    def delete_file(self, path: str) -> None:
        patiently(lambda: self.fs.rm(path))

    def open_input_file(self, path: str) -> NativeFile:
        return patiently(lambda: PythonFile(self.fs.open(path, mode="rb"), mode="r"))

    def open_input_stream(self, path: str) -> NativeFile:
        return self.open_input_file(path)

    def open_output_stream(self, path: str, _: object) -> NativeFile:
        return PythonFile(_Whole(self.fs, path), mode="w")


def open_fresh(url: str) -> tuple[Any, str]:
    """The fsspec file system and the path of a URL; what other processes write is seen at once."""
    fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return fs, str(path).rstrip("/")


def ray_storage(url: str) -> tuple[FileSystem, str]:
    """What Ray's RunConfig wants of a URL: storage_filesystem and storage_path."""
    fs, path = open_fresh(url)
    return PyFileSystem(_Patient(fs)), path
