"""One writing process per store, or per run at a URL: its `.lock` says who it is."""

import fcntl
import json
import os
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aign.data.store.files import TEMP_PREFIX, is_local, one_line, open_url, remove_orphans, storage_errors
from aign.framework.errors import UserError

LOCK_NAME = ".lock"


@contextmanager
def writing(url: str, what: str = "store") -> Iterator[None]:
    """Hold a store, or another place, for writing; the coordinating process takes it once, its workers do not.

    Temporary files that killed runs left behind are removed on entry. The lock is released however the block ends,
    Ctrl-C included; the lock of a process that died on this host is taken over.

    Args:
        url: of it, local or any fsspec URL.
        what: it is called.

    Raises:
        UserError: if another run holds the store, or the store cannot be written.
    """
    fs, root = open_url(url)
    path = f"{root}/{LOCK_NAME}"
    token = uuid.uuid4().hex
    me = {"host": socket.gethostname(), "pid": os.getpid(), "time": time.strftime("%Y-%m-%d %H:%M:%S"), "token": token}
    with storage_errors(f"lock {what} {url}"):
        _acquire(fs, path, what, json.dumps(me).encode())
    try:
        remove_orphans(url)
        yield
    finally:
        # Somebody may have removed the file by hand, as the error message says, and a new run may hold the store now.
        if _holder(fs, path).get("token") == token:
            fs.rm_file(path)


def _acquire(fs: Any, path: str, what: str, content: bytes) -> None:
    root = os.path.dirname(path)
    if is_local(fs):
        os.makedirs(root, exist_ok=True)
    # Only dead locks of this host are taken over: locking out this host's processes is enough for any store.
    folder = os.open(root if is_local(fs) else tempfile.gettempdir(), os.O_RDONLY)
    try:
        # Of two runs that find the same dead lock the second would remove the first one's new lock.
        fcntl.flock(folder, fcntl.LOCK_EX)
        _create_or_take_over(fs, path, what, content)
    finally:
        os.close(folder)


def _create_or_take_over(fs: Any, path: str, what: str, content: bytes) -> None:
    if _create(fs, path, content):
        return
    holder = _holder(fs, path)
    if not _died_here(holder):
        _refuse(path, what, holder)
    fs.rm_file(path)
    if not _create(fs, path, content):
        _refuse(path, what, _holder(fs, path))


def _create(fs: Any, path: str, content: bytes) -> bool:
    """Exclusive create with the whole content at once; False if the file is there."""
    try:
        if is_local(fs):
            _link_new(path, content)
        else:
            fs.pipe_file(path, content, mode="create")  # on S3: put if-none-match
    except FileExistsError:
        return False
    except OSError as error:
        if "PreconditionFailed" in one_line(error):
            return False
        raise
    return True


def _link_new(path: str, content: bytes) -> None:
    temp = Path(path).with_name(f"{TEMP_PREFIX}{uuid.uuid4().hex}{LOCK_NAME}")
    try:
        temp.write_bytes(content)
        os.link(temp, path)  # a link, unlike a rename, never replaces
    finally:
        temp.unlink(missing_ok=True)


def _holder(fs: Any, path: str) -> dict[str, Any]:
    try:
        holder = json.loads(fs.cat_file(path))
    except (FileNotFoundError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _died_here(holder: dict[str, Any]) -> bool:
    pid = holder.get("pid")
    if holder.get("host") != socket.gethostname() or not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # alive, somebody else's
    return False


def _refuse(path: str, what: str, holder: dict[str, Any]) -> None:
    who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')} since {holder.get('time', '?')}"
    raise UserError(
        f"the {what} is being written by {who}; wait for it, or remove {path} if that process is gone for certain"
    )
