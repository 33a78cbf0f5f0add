"""The Ray cluster a command runs on: its own local one, or the one RAY_ADDRESS or --address names."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

OBJECT_STORE_BYTES = 200 * 2**20
"""Enough for what crosses it: names and records, never frames."""
CONNECT_SECONDS = 10.0


@contextmanager
def cluster(address: str | None = None) -> Iterator[None]:
    """Be connected to Ray; a local cluster that was started here ends here.

    Args:
        address: of a running cluster ("auto", "ray://host:10001"); None: RAY_ADDRESS, else a local cluster.

    Raises:
        ConnectionError: no cluster answers there.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Our workers ask for no accelerator unless they say so; Ray's coming default is set now, without its warning.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    where = address or os.environ.get("RAY_ADDRESS")
    if where:
        check_answers(where)
        ray.init(address=where, log_to_driver=False, logging_level=logging.ERROR)
    else:
        # "local", because a bare init would join whatever cluster a file in the temporary folder points at.
        ray.init(
            address="local",
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    try:
        yield
    finally:
        ray.shutdown()


def check_answers(address: str, seconds: float = CONNECT_SECONDS) -> None:
    """One quick question: Ray itself would try for minutes before it gives up.

    Raises:
        ConnectionError: nobody answers there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=seconds).close()
        except OSError as error:
            raise ConnectionError(f"no Ray cluster answers at {address}: {error}") from error


def is_own(address: str | None = None) -> bool:
    """Whether `cluster` starts a cluster of this machine's own, which stays as it is."""
    return not (address or os.environ.get("RAY_ADDRESS"))


def cpus() -> int:
    """CPUs of the connected cluster."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def gpus() -> float:
    """GPUs of the connected cluster."""
    import ray

    return float(ray.cluster_resources().get("GPU", 0))
