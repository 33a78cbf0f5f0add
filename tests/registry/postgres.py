"""A PostgreSQL server of a test, in a folder of its own."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.registry.server import free_port

NOBODY = 65534


def _binary(name: str) -> str:
    """Of the newest PostgreSQL; Debian keeps them out of PATH."""
    there = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    found = str(there[-1]) if there else shutil.which(name)
    if found is None:
        pytest.skip(f"no PostgreSQL on this machine ({name}); Debian: apt-get install postgresql")
    return found


@contextmanager
def postgres() -> Iterator[str]:
    """SQLAlchemy's address of an empty database."""
    pytest.importorskip("psycopg2")
    initdb, server, port = _binary("initdb"), _binary("postgres"), free_port()
    # Not in pytest's folder, which is root's alone where root runs the tests; and PostgreSQL refuses to be root.
    with tempfile.TemporaryDirectory(prefix="aign-postgres-", ignore_cleanup_errors=True) as data:
        who: dict[str, Any] = {"cwd": "/"}
        if os.geteuid() == 0:
            os.chown(data, NOBODY, NOBODY)
            who |= {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        made = subprocess.run(
            [initdb, "-D", data, "-U", "aign", "--auth", "trust", "--no-sync", "-E", "UTF8", "--locale", "C"],
            capture_output=True, text=True, check=False, **who,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        log = Path(data) / "server.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [server, "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", data, "-c", "fsync=off"],
                stdout=file, stderr=file, **who,
            )  # fmt: skip
        try:
            _wait(process, port, log)
            # SQLAlchemy 2.1 takes psycopg 3 where no driver is named.
            yield f"postgresql+psycopg2://aign@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # its fast way to end
            process.wait(60)


def _wait(process: subprocess.Popen, port: int, log: Path) -> None:
    import psycopg2

    until = time.monotonic() + 120
    while True:
        assert process.poll() is None, log.read_text()
        try:
            psycopg2.connect(host="127.0.0.1", port=port, user="aign", dbname="postgres").close()
            return
        except psycopg2.OperationalError:
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
