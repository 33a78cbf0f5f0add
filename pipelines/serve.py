"""A model behind HTTP, on Ray Serve: requests that come together are answered together."""

import asyncio
import json
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from aign.framework.errors import StorageError, UserError
from aign.inference.package import load_card
from aign.inference.serving import SERVICES, Arrays, serve
from aign.inference.wire import Answer, answer_all, answer_json, parse_inputs
from infra.cluster import cluster
from pipelines.arguments import parse
from pipelines.package_place import package_folder

HOST = "127.0.0.1"
MAX_BODY_BYTES = 64 * 2**20
"""Of a request; pictures as JSON are four times as large as pictures."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Serve a model over HTTP on 127.0.0.1: POST /invocations, GET /health, GET / (what it is and what it is asked).

    Attributes:
        model: run folder, package folder, or models:/NAME@ALIAS.
        port: to listen on.
        replicas: processes that answer, of one CPU each.
        batch: requests that are answered in one pass, at most.
        wait_ms: how long a request waits for others to be answered with.
        address: of a running Ray cluster whose nodes see the model's folder; else RAY_ADDRESS, else a local one.
        mlflow: folder of the embedded MLflow store that models:/ names; MLFLOW_TRACKING_URI wins.
    """

    model: tyro.conf.Positional[str]
    port: int = 8000
    replicas: int = 1
    batch: int = 16
    wait_ms: float = 5.0
    address: str | None = None
    mlflow: Path = Path("mlflow")


class Replica:
    """One process that answers; Ray Serve makes it of a package.

    Args:
        package: folder of the model.
        batch: see `Arguments`.
        wait_ms: likewise.
    """

    def __init__(self, package: str, batch: int, wait_ms: float) -> None:
        from ray import serve as ray_serve

        self._served = serve(Path(package))
        self._task = self._served.card.task
        self._ask = ray_serve.batch(max_batch_size=batch, batch_wait_timeout_s=wait_ms / 1000)(self._answers)

    async def _answers(self, requests: list[Arrays]) -> list[Answer]:
        """In a thread, so that more can be collected meanwhile."""
        return await asyncio.to_thread(answer_all, self._served, requests)

    async def __call__(self, request: Any) -> Any:
        """One request of HTTP."""
        route = (request.method, request.url.path)
        if route == ("GET", "/health"):
            return _reply(200, json.dumps({"status": "ok", "model": self._served.card.recipe}))
        if route == ("GET", "/"):
            return _reply(200, json.dumps(self._about()))
        if route != ("POST", "/invocations"):
            told = f"got {' '.join(route)}; allowed are POST /invocations, GET /health and GET /"
            return _reply(404, json.dumps({"error": told}))
        try:
            if int(request.headers.get("content-length") or 0) > MAX_BODY_BYTES:
                raise UserError(f"got more than {MAX_BODY_BYTES:,} bytes; send fewer frames at a time")
            given = await asyncio.to_thread(parse_inputs, self._task, await request.body())
            answer = await self._ask(given)
            if isinstance(answer, UserError):
                raise answer
        except UserError as error:
            return _reply(400, json.dumps({"error": " ".join(str(error).split())}))
        return _reply(200, await asyncio.to_thread(answer_json, answer))

    def _about(self) -> dict[str, Any]:
        card, service = self._served.card, SERVICES[self._task]
        return {
            "task": self._task,
            "recipe": card.recipe,
            "intended_use": card.intended_use,
            "limits": card.limits,
            "inputs": service.inputs,
            "outputs": service.outputs,
        }


def _reply(status: int, text: str) -> Any:
    from starlette.responses import Response

    return Response(text, status_code=status, media_type="application/json")


def application(args: Mapping[str, str]) -> Any:
    """What a RayService runs (infra/kuberay/rayservice.yaml).

    Args:
        args: `model` and `mlflow` as in `Arguments`; the latter is a folder that all nodes share.

    Raises:
        UserError: no such model.
    """
    package = package_folder(args["model"], Path(args["mlflow"])).absolute()
    return _deployment(package, Arguments(model=args["model"]))


def _deployment(package: Path, args: Arguments) -> Any:
    from ray import serve as ray_serve

    made = ray_serve.deployment(
        num_replicas=args.replicas, max_ongoing_requests=4 * args.batch, ray_actor_options={"num_cpus": 1}
    )
    return made(Replica).bind(str(package), args.batch, args.wait_ms)


@contextmanager
def serving(args: Arguments) -> Iterator[str]:
    """Serve a model; the URL that it answers at.

    Raises:
        UserError: no such model, a number out of range, ray[serve] is not installed, or the port is taken.
    """
    if min(args.replicas, args.batch) < 1 or args.wait_ms < 0:
        raise UserError("--replicas and --batch must be at least 1, --wait-ms at least 0")
    package = package_folder(args.model, args.mlflow).absolute()
    load_card(package)
    _check_free(args.port)
    try:
        from ray import serve as ray_serve
        from ray.serve.config import HTTPOptions
    except ImportError as error:
        raise UserError(f"aign serve needs pip install 'aign[serve]' ({error})") from error
    with cluster(args.address):
        ray_serve.start(http_options=HTTPOptions(host=HOST, port=args.port))
        try:
            ray_serve.run(_deployment(package, args), name="aign", route_prefix="/")
            yield f"http://{HOST}:{args.port}"
        finally:
            ray_serve.shutdown()


def _check_free(port: int) -> None:
    """Ray's proxy would try again for minutes."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise StorageError(f"cannot listen on {HOST}:{port}: {error}; give another --port") from error


def main(argv: Sequence[str]) -> None:
    """Parse and serve until interrupted."""
    args = parse(Arguments, "aign serve", argv)
    with serving(args) as url:
        print(
            f"{args.model} answers at {url}: POST /invocations, GET /health; Ctrl-C ends it",
            file=sys.stderr,
            flush=True,
        )
        threading.Event().wait()
