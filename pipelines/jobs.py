"""`aign jobs list|show|follow|stop`: jobs that `aign submit` or `ray job submit` sent to a cluster."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import tyro
from rich.console import Console
from rich.table import Column, Table

from pipelines.arguments import run_verb
from pipelines.job_client import connect, details, exit_code, follow, outcome, settled, told


def _time(milliseconds: int | None) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") if milliseconds else ""


def listing(address: str | None = None) -> None:
    """Show every job, the newest first.

    Args:
        address: of the dashboard; else RAY_API_SERVER_ADDRESS, else RAY_ADDRESS, else http://127.0.0.1:8265.
    """
    client = connect(address)
    with told(client.get_address()):
        jobs = [job for job in client.list_jobs() if job.submission_id]
    table = Table(*(Column(name, no_wrap=True) for name in ("job", "status", "began (UTC)", "command")))
    for job in sorted(jobs, key=lambda job: job.start_time or 0, reverse=True):
        command = job.entrypoint.rpartition(" && exec ")[2]
        table.add_row(job.submission_id, job.status.value.lower(), _time(job.start_time), command)
    Console().print(table if jobs else "no job was submitted yet; see: aign submit --help")


def show(job: tyro.conf.Positional[str], address: str | None = None) -> None:
    """Show one job: how it stands, and if it failed why.

    Args:
        job: its id.
        address: of the dashboard; else RAY_API_SERVER_ADDRESS, else RAY_ADDRESS, else http://127.0.0.1:8265.
    """
    info = details(connect(address), job)
    print(f"{job} {outcome(info)}")
    print(f"command: {info.entrypoint}")
    print(f"began {_time(info.start_time) or 'not yet'}, ended {_time(info.end_time) or 'not yet'} (UTC)")


def follow_job(job: tyro.conf.Positional[str], address: str | None = None) -> None:
    """Print a job's log until it ends, and exit as its command did; Ctrl-C leaves the job running.

    Args:
        job: its id.
        address: of the dashboard; else RAY_API_SERVER_ADDRESS, else RAY_ADDRESS, else http://127.0.0.1:8265.
    """
    raise SystemExit(follow(connect(address), job))


def stop(job: tyro.conf.Positional[str], address: str | None = None) -> None:
    """End a job as Ctrl-C would: what is finished is kept. One that ended before is left as it is.

    Args:
        job: its id.
        address: of the dashboard; else RAY_API_SERVER_ADDRESS, else RAY_ADDRESS, else http://127.0.0.1:8265.
    """
    client = connect(address)
    details(client, job)
    with told(client.get_address()):
        client.stop_job(job)
    info = settled(client, job)
    print(f"{job} {outcome(info)}")
    if not info.status.is_terminal():
        raise SystemExit(exit_code(info))


def main(argv: Sequence[str]) -> None:
    """Parse and run."""
    verbs: dict[str, Callable[..., None]] = {"list": listing, "show": show, "follow": follow_job, "stop": stop}
    run_verb(verbs, "aign jobs", argv, __doc__ or "")
