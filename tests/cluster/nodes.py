"""Two Ray nodes on this machine, each with its own address and folder, closed by a token."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

START_SECONDS = 180.0
BIN = Path(sys.executable).parent
OURS = "AIGN_TEST_CLUSTER"
"""Marks every process of a cluster that a test started."""


@dataclass(frozen=True, kw_only=True)
class TwoNodes:
    """A cluster of one CPU each on 127.0.0.2 (the head) and 127.0.0.3; of 127.0.0.1 Ray makes the network's address.

    Attributes:
        dashboard: where jobs go.
        token: file that a client needs.
        folder: that both share.
        logs: what Ray and the jobs wrote, one folder a node.
    """

    dashboard: str
    token: Path
    folder: Path
    logs: tuple[Path, ...]

    @property
    def client(self) -> dict[str, str]:
        """Variables of a client."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token)}


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@contextmanager
def two_nodes(shared: Path, secrets: Mapping[str, str]) -> Iterator[TwoNodes]:
    """Start both, and end them however the test ends.

    Args:
        shared: folder that all jobs work in.
        secrets: variables that only the nodes know.
    """
    root = Path(tempfile.mkdtemp(prefix="aign", dir="/tmp"))
    token = root / "token"
    token.touch(mode=0o600)
    token.write_text("0123456789abcdef" * 4)
    gcs, dashboard, door, *agents = free_ports(9)
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RAY_ADDRESS")} | {
        **secrets,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        OURS: root.name,
    }
    head = ("--head", f"--port={gcs}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}")
    head += (f"--ray-client-server-port={door}",)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for number, where in enumerate((head, (f"--address=127.0.0.2:{gcs}",))):
            listen, grpc, metrics = agents[3 * number : 3 * number + 3]
            command = [
                *(str(BIN / "ray"), "start", "--block", *where, f"--node-ip-address=127.0.0.{number + 2}"),
                *(f"--temp-dir={root}/{number}", "--num-cpus=1", "--object-store-memory=100000000"),
                *(f"--dashboard-agent-listen-port={listen}", f"--dashboard-agent-grpc-port={grpc}"),
                *(f"--metrics-export-port={metrics}", "--disable-usage-stats"),
            ]
            with (root / f"start-{number}.log").open("wb") as log:
                processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=root))
            if not number:
                _wait_for_port("127.0.0.2", gcs, processes[0], root)
        _wait_for_port("127.0.0.1", dashboard, processes[0], root)
        yield TwoNodes(
            dashboard=f"http://127.0.0.1:{dashboard}",
            token=token,
            folder=shared,
            logs=(root / "0", root / "1"),
        )
    finally:
        _end(processes, root.name)
        shutil.rmtree(root, ignore_errors=True)


def _wait_for_port(host: str, port: int, process: subprocess.Popen[bytes], root: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((host, port), timeout=1).close()
            return
        except OSError:
            said = (root / "start-0.log").read_text()
            assert process.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.1)


def _end(processes: list[subprocess.Popen[bytes]], mark: str) -> None:
    """Kill what was started here, and what that has started: all of it carries our mark."""
    ours = {child for started in processes for child in _tree(started.pid)}
    ours |= {process for process in psutil.process_iter() if _marked(process, mark)}
    for process in ours:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    for started in processes:
        started.wait()


def _tree(pid: int) -> list[psutil.Process]:
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(OURS) == mark
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
