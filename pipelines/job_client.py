"""The cluster's job server, through Ray's own client: whatever is wrong between the two is one line."""

import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import ray
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from aign.framework.errors import UserError

DASHBOARD = "http://127.0.0.1:8265"
"""Where `ray dashboard ray_cluster.yaml` and `kubectl port-forward` bring it."""
CONNECT_SECONDS = 10.0
SETTLE_SECONDS = 40.0
"""Longest time between the end of a job's log, or the order to stop, and the status that says so."""
RECONNECTS = 5
STOPPED_CODE = 143
"""As a shell says of a command that was ended by a signal."""
CAUSE_CHARS = 500
CHATTY = (
    "ray._private.runtime_env.packaging",
    "ray._private.runtime_env.working_dir",
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
)
"""What they log, we say in one line, or it is nothing to know."""


def dashboard_url(address: str | None) -> str:
    """Where the job server is: the flag, else RAY_API_SERVER_ADDRESS, else RAY_ADDRESS, else this machine's port 8265.

    Raises:
        UserError: it is no http address.
    """
    variable = next((n for n in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS") if os.environ.get(n)), None)
    url = address or (os.environ[variable] if variable else DASHBOARD)
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no number after the colon, a bracket without its other
        usable = False
    if not usable:
        source = "--address" if address else variable
        raise UserError(
            f"got {source} {url!r}; jobs go to the dashboard's address, like --address {DASHBOARD} "
            "(`ray dashboard ray_cluster.yaml` brings it there)"
        )
    if parts.username or parts.password:
        raise UserError("the address may not hold a password; Ray's token stands in ~/.ray/auth_token")
    return url.rstrip("/")


def connect(address: str | None) -> JobSubmissionClient:
    """A client of a job server that answers, takes our token, and runs our version of Ray.

    Raises:
        UserError: it does not.
    """
    url = dashboard_url(address)
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:  # Ray and requests would wait for minutes
        socket.create_connection((str(parts.hostname), port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise UserError(f"no Ray dashboard answers at {url}: {error.strerror or error}") from error
    # Ray lets its variables win over its argument.
    os.environ["RAY_API_SERVER_ADDRESS"] = url
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    with told(url):
        client = JobSubmissionClient(url)
    theirs = client._server_ray_version  # the only place where Ray keeps what it asked
    if theirs != ray.__version__:
        raise UserError(f"the cluster at {url} runs Ray {theirs}, this machine {ray.__version__}; they must be equal")
    return client


@contextmanager
def told(url: str) -> Iterator[None]:
    """What the client raises, as one line.

    Raises:
        UserError: the token is missing or wrong, the job does not exist, or what answers is no job server.
    """
    try:
        yield
    except AuthenticationError as error:
        if "Authentication failed" in error.message:
            why = "the token here is not the cluster's; copy the cluster's into ~/.ray/auth_token"
        else:
            why = "it asks for a token; set RAY_AUTH_MODE=token and put the cluster's into ~/.ray/auth_token"
        raise UserError(f"the cluster at {url} refuses: {why} (or where RAY_AUTH_TOKEN_PATH points)") from None
    except requests.exceptions.ConnectionError as error:
        raise UserError(f"the connection to {url} broke: {cause(str(error))}") from None
    except (requests.exceptions.RequestException, KeyError) as error:
        raise UserError(f"what answers at {url} is not a Ray dashboard: {cause(str(error))}") from None
    except RuntimeError as error:
        if "Version check returned 404" in str(error):
            raise UserError(f"what answers at {url} is not a Ray dashboard") from None
        raise UserError(f"the cluster at {url} refuses: {cause(str(error))}") from None


def cause(message: str) -> str:
    """The line of a traceback or log that says why: its last, on one line and not too long."""
    lines = [" ".join(line.split()) for line in message.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Running entrypoint")]  # Ray may write that last
    return lines[-1][:CAUSE_CHARS] if lines else "nothing was said"


def details(client: JobSubmissionClient, job: str) -> Any:
    """Everything that the server knows of a job.

    Raises:
        UserError: there is none of that id.
    """
    url = client.get_address()
    try:
        with told(url):
            return client.get_job_info(job)
    except UserError as error:
        if "does not exist" in str(error):
            raise UserError(f"no job {job!r} at {url}; `aign jobs list` shows them") from None
        raise


def settled(client: JobSubmissionClient, job: str) -> Any:
    """Details of a job that is about to end, once it has ended; or as it is after a while."""
    end = time.monotonic() + SETTLE_SECONDS
    while not (info := details(client, job)).status.is_terminal() and time.monotonic() < end:
        time.sleep(0.3)
    return info


def exit_code(info: Any) -> int:
    """The command's own; of one that a signal ended, 128 and the signal, as a shell says it."""
    if info.status == JobStatus.SUCCEEDED:
        return 0
    if info.status == JobStatus.STOPPED:
        return STOPPED_CODE
    code = info.driver_exit_code
    if code is None:
        return 1
    return int(code) if code >= 0 else 128 - int(code)


def outcome(info: Any) -> str:
    """How a job stands, and if it failed why, in one line."""
    code = info.driver_exit_code
    if info.status != JobStatus.FAILED:
        return "was stopped" if info.status == JobStatus.STOPPED else str(info.status.value).lower()
    if code is None:
        return f"failed before its command ran to an end: {cause(info.message or '')}"
    if code < 0:
        return f"was killed by signal {-code}" + (" (out of memory?)" if code == -9 else "")
    return f"failed with exit code {code}: {cause(info.message or '')}"


def follow(client: JobSubmissionClient, job: str) -> int:
    """Print a job's log from its beginning until it ends; its command's exit code.

    Ctrl-C leaves the job running and says how to go on; so does a connection that stays broken.

    Raises:
        UserError: there is no such job, or the connection broke and did not come back.
        SystemExit: 130 after Ctrl-C.
    """
    details(client, job)
    again = f"the job goes on; aign jobs follow {job} shows it again, aign jobs stop {job} ends it"
    try:
        asyncio.run(_print_log(client, job, again))
        info = settled(client, job)
    except KeyboardInterrupt:
        print(f"\n{again}", file=sys.stderr)
        raise SystemExit(130) from None
    print(f"job {job} {outcome(info)}", file=sys.stderr)
    return exit_code(info)


async def _print_log(client: JobSubmissionClient, job: str, again: str) -> None:
    import aiohttp

    printed = 0
    for tries in range(RECONNECTS + 1):
        seen = 0  # the server begins at the beginning every time
        try:
            async for text in client.tail_job_logs(job):
                new = text[max(0, printed - seen) :]
                seen += len(text)
                printed = max(printed, seen)
                sys.stdout.write(new)
                sys.stdout.flush()
            return
        except (RuntimeError, OSError, aiohttp.ClientError) as error:
            if tries == RECONNECTS:
                raise UserError(
                    f"the connection to {client.get_address()} broke ({cause(str(error))}); {again}"
                ) from None
            await asyncio.sleep(2.0**tries)
