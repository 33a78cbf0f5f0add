"""`aign submit -- VERB ...`: a command as a job on a running cluster, with this checkout's code."""

import heapq
import logging
import os
import re
import secrets
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aign import __version__
from aign.framework.errors import UserError
from pipelines.arguments import parse
from pipelines.cli import CLIENT_VERSION, VERBS
from pipelines.commit import VARIABLE, commit
from pipelines.job_client import connect, follow, told

UPLOAD_BYTES = 50 * 2**20
"""Most that is uploaded, before it is packed. Ray keeps it in the head's memory."""
PASSED = ("AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_REGION", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_URI")
"""Variables that go along where they are set here. What goes along can be read by everyone who may list jobs."""
SECRET = re.compile("KEY|SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")
"""In a URL."""
STOPPING: Mapping[str, str] = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "30"}
"""A job is stopped as with Ctrl-C, so it cancels its tasks and commits what is finished, and has the time for it."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Run a command as a job on a running cluster: aign submit [flags] -- VERB ...

    Attributes:
        address: of the dashboard; else RAY_API_SERVER_ADDRESS, else RAY_ADDRESS, else http://127.0.0.1:8265.
        folder: where the command runs: a folder that all nodes share; relative paths of the command are in it.
        code: checkout whose code the job runs; nothing: this folder, if it is one, else the cluster's own aign.
        env: names of further variables that go along, with the values they have here; no secrets.
        wait: follow the log until the job ends, and exit as its command did.
    """

    address: str | None = None
    folder: Path = Path("/mnt/aign")
    code: Path | None = None
    env: tuple[str, ...] = ()
    wait: bool = True


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our flags, and the command after the first --.

    Raises:
        UserError: there is no command, or it is none that a cluster can run.
    """
    flags = list(argv[: argv.index("--")]) if "--" in argv else list(argv)
    command = list(argv[len(flags) + 1 :])
    if not command and not {"-h", "--help"} & set(flags):
        raise UserError("name the command after --, like: aign submit -- train lifting-demo --store s3://bucket/motion")
    allowed = [verb for verb in VERBS if verb not in ("submit", "jobs")]
    if command and command[0] not in allowed:
        raise UserError(f"got command {command[0]!r}; allowed: {', '.join(allowed)}")
    for word in command:
        if PASSWORD.search(word):
            raise UserError("a URL of the command holds a password, which every user of the cluster could read")
    return flags, command


def environment(more: Sequence[str] = ()) -> dict[str, str]:
    """The variables that go along: of a few names, and of those the user adds.

    Raises:
        UserError: one may be a secret, or is not set.
    """
    for name in more:
        if SECRET.search(name):
            raise UserError(
                f"got --env {name}: it may be a secret, and whoever may list jobs reads their variables; "
                "set it on the cluster's nodes"
            )
        if name not in os.environ:
            raise UserError(f"got --env {name}, which is not set here")
    found = {name: os.environ[name] for name in (*PASSED, *more) if os.environ.get(name)}
    for name, value in found.items():
        if PASSWORD.search(value):
            raise UserError(f"{name} holds a password; clients read it from their own environment or credentials file")
    uri = found.get("MLFLOW_TRACKING_URI", "http://")
    if not uri.startswith(("http://", "https://")):
        raise UserError(f"MLFLOW_TRACKING_URI={uri} is of this machine; a cluster needs a server, http(s)://...")
    return found


@dataclass(frozen=True, kw_only=True)
class Upload:
    """What would be uploaded of a folder: Ray's own choice by .gitignore and .rayignore."""

    files: int
    size_bytes: int
    largest: tuple[str, ...]


def measured(folder: Path) -> Upload:
    """Size of an upload, before it is packed."""
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

    sizes: dict[str, int] = {}

    def enter(path: Path) -> None:
        if path.is_file():
            sizes[str(path.relative_to(folder))] = path.stat().st_size

    excludes = [_get_excludes(folder, get_runtime_env_default_excludes())]
    _dir_travel(folder, excludes, enter, include_gitignore=True, logger=logging.getLogger(__name__))
    largest = heapq.nlargest(3, sizes, key=lambda name: sizes[name])
    return Upload(files=len(sizes), size_bytes=sum(sizes.values()), largest=tuple(largest))


def checkout(code: Path | None) -> Path | None:
    """The folder to upload.

    Raises:
        UserError: it is no checkout, or too large.
    """
    folder = (code or Path()).expanduser().absolute()
    if not (folder / "pipelines" / "cli.py").is_file():
        if code is not None:
            raise UserError(f"got --code {code}; it is no checkout of aign: it has no pipelines/cli.py")
        print("this folder is no checkout: the job runs the cluster's own aign", file=sys.stderr)
        return None
    upload = measured(folder)
    told_size = f"{upload.size_bytes / 2**20:.1f} MB in {upload.files} files"
    if upload.size_bytes > UPLOAD_BYTES:
        raise UserError(
            f"{folder} would upload {told_size}; allowed are {UPLOAD_BYTES >> 20} MB. Largest: "
            f"{', '.join(upload.largest)}; name what is not code in .rayignore"
        )
    print(f"uploading {folder}: {told_size}", file=sys.stderr)
    return folder


def runtime_env(code: Path | None, passed: Mapping[str, str]) -> dict[str, Any]:
    """What Ray is told of the job: code and variables. Everyone who may list jobs can read it."""
    told_names = ", ".join(passed) or "none"
    print(f"variables that go along: {told_names}", file=sys.stderr)
    facts = {CLIENT_VERSION: __version__}
    if code is not None and (revision := commit()):
        facts[VARIABLE] = revision
    variables = {**passed, **STOPPING, **facts}
    return {"env_vars": variables} | ({"working_dir": str(code)} if code is not None else {})


def submit(args: Arguments, command: Sequence[str]) -> int:
    """Send a command, and follow it; its exit code, 0 where it is not waited for.

    Raises:
        UserError: something of it cannot be sent, or the cluster does not take it.
    """
    if not args.folder.is_absolute():
        raise UserError(f"got --folder {args.folder}; it must be absolute, for it is the cluster's")
    passed = environment(args.env)
    client = connect(args.address)
    code = checkout(args.code)
    job = f"aign-{command[0]}-{secrets.token_hex(4)}"
    entrypoint = f"cd {shlex.quote(str(args.folder))} && exec aign {shlex.join(command)}"
    with told(client.get_address()):
        client.submit_job(entrypoint=entrypoint, submission_id=job, runtime_env=runtime_env(code, passed))
    print(f"submitted {job}", file=sys.stderr)
    if args.wait:
        return follow(client, job)
    print(job)
    return 0


def main(argv: Sequence[str]) -> None:
    """Parse and run."""
    flags, command = split(argv)
    raise SystemExit(submit(parse(Arguments, "aign submit", flags), command))
