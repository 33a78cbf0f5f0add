"""Runs in MLflow: one per training, found again by its name, so that a resumed training goes on in the same run.

The store is an SQLite file by default, or the server that MLFLOW_TRACKING_URI names. Everything goes through a client
that is told where to write, never through MLflow's global state: a worker in another process needs only `Tracking`
and the run's id, both plain data.
"""

import hashlib
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from aign.framework.errors import StorageError, UserError
from aign.registry.client import client_of, told
from aign.registry.parameters import flatten

DATABASE, ARTIFACTS, CONFIG = "mlflow.db", "artifacts", "config.json"
SQLITE, SERVERS = "sqlite:///", ("http://", "https://")
PATIENCE_SECONDS = 300.0
"""So long a finished training waits for a server that went away."""
RUN_TAG, CONFIG_TAG = "aign.run", "aign.config_hash"
PARENT_TAG = "mlflow.parentRunId"
"""MLflow's own, of a run that is nested in another."""
PARAMS_PER_BATCH = 100
DIGEST = 36
_NAME = re.compile(r"[\w.+=@:/ -]{1,200}", re.ASCII)

Status: TypeAlias = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Where runs and models are kept; plain data, made by `open_tracking`.

    Attributes:
        uri: sqlite:////abs/mlflow.db or http(s)://server.
        experiment: the runs' experiment.
    """

    uri: str
    experiment: str

    @property
    def artifact_location(self) -> str | None:
        """Of a new experiment; None on a server, which knows its own (a file:// there would land on the client)."""
        if not self.uri.startswith(SQLITE):
            return None
        return (Path(self.uri.removeprefix(SQLITE)).parent / ARTIFACTS).as_uri()


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a run is tagged with.

    Attributes:
        recipe: its name.
        store_hash: of the store it trains on.
        licences: of the data in it.
        commit: of the code, "" where unknown.
        stores: hash of every store it takes data from, by the part that the store plays.
        store_url: where the store is; "" where that is not known.
    """

    recipe: str
    store_hash: str
    licences: tuple[str, ...]
    commit: str = ""
    stores: Mapping[str, str] = field(default_factory=dict)
    store_url: str = ""


def open_tracking(folder: Path = Path("mlflow"), experiment: str = "aign") -> Tracking:
    """The server of MLFLOW_TRACKING_URI if that is set, else an SQLite store in the folder.

    An SQLite store remembers absolute paths, so its folder cannot be moved.

    Args:
        folder: receives mlflow.db and artifacts/; ignored where the environment names a store.
        experiment: name of the experiment, made on first use.

    Raises:
        UserError: the store cannot be reached, read or written, or is of a kind that MLflow no longer supports.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{folder.absolute() / DATABASE}"
    if uri.startswith(SERVERS):
        _check_server(uri)
    elif uri.startswith(f"{SQLITE}/"):
        _check_file(Path(uri.removeprefix(SQLITE)))
    else:
        raise UserError(f"got MLFLOW_TRACKING_URI={uri}; allowed are {SQLITE}/absolute/path.db and http(s)://server")
    return Tracking(uri=uri, experiment=experiment)


def check_there(tracking: Tracking, seconds: float = 10.0) -> None:
    """Make sure that a server answers, in so many seconds at most; a file is always there.

    Raises:
        StorageError: it does not.
    """
    if tracking.uri.startswith(SERVERS):
        _check_server(tracking.uri, seconds)


def wait_for(tracking: Tracking, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until a server answers that went away.

    Raises:
        StorageError: it does not come back in time.
    """
    until, told_once = time.monotonic() + seconds, False
    while True:
        try:
            return check_there(tracking)
        except StorageError as error:
            if time.monotonic() > until:
                raise
            if not told_once:
                print(f"{error}; waiting for it, at most {seconds:.0f} s", file=sys.stderr, flush=True)
            told_once = True
            time.sleep(1.0)


def start_run(tracking: Tracking, name: str, config: Mapping[str, Any], facts: RunFacts) -> str:
    """Make the run of a training, or find the one that it left, and set it running.

    Args:
        tracking: where.
        name: the training's own, the same when it is resumed.
        config: the resolved configuration, JSON-like; logged whole as config.json and flattened as parameters.
        facts: its tags.

    Returns:
        The run's id.

    Raises:
        UserError: the name is taken by a training with another configuration, or the store fails.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"got run name {name!r}; allowed are 1 to 200 letters, digits and . _ + = @ : / - and spaces")
    params, text = flatten(config), json.dumps(config, indent=1, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    client = client_of(tracking.uri)
    with told(f"log a run to {tracking.uri}"):
        run = _find(tracking, name)
        if run is None:
            tags = {RUN_TAG: name, CONFIG_TAG: digest, **{f"aign.{k}": v for k, v in _tags(facts).items()}}
            run = client.create_run(_experiment_id(tracking), run_name=name, tags=tags)
        elif run.data.tags.get(CONFIG_TAG) != digest:
            raise UserError(_other_config(name, params, run.data.params))
        run_id: str = run.info.run_id
        client.update_run(run_id, status="RUNNING")
        # Again on every start: a training killed in between had left the run without them.
        _log_params(client, run_id, params)
        client.log_text(run_id, text, CONFIG)
        client.log_inputs(run_id, datasets=_inputs(facts))
    return run_id


def find_run(tracking: Tracking, name: str) -> str:
    """Id of a training's run.

    Raises:
        UserError: there is none; the message lists the newest ones.
    """
    with told(f"read runs from {tracking.uri}"):
        run = _find(tracking, name) if _NAME.fullmatch(name) else None
        if run is not None:
            return str(run.info.run_id)
        newest = client_of(tracking.uri).search_runs([_experiment_id(tracking)], max_results=20)
    names = [r.data.tags.get(RUN_TAG, r.info.run_name) for r in newest]
    raise UserError(f"no run {name!r} in experiment {tracking.experiment!r}; there are {names}")


def running_under(tracking: Tracking, parent: str) -> dict[str, str]:
    """Ids, by name, of the runs nested in a run that MLflow believes to go on."""
    client = client_of(tracking.uri)
    asked = f"attributes.status = 'RUNNING' and tags.`{PARENT_TAG}` = '{parent}'"
    with told(f"read runs from {tracking.uri}"):
        runs = client.search_runs([_experiment_id(tracking)], filter_string=asked, max_results=1000)
    return {run.data.tags[RUN_TAG]: run.info.run_id for run in runs}


def log_files(tracking: Tracking, run_id: str, paths: Sequence[Path], folder: str | None = None) -> None:
    """Keep files, or whole folders, with a run.

    Args:
        tracking: where.
        run_id: of the run.
        paths: files, or folders whose content is kept under their name.
        folder: inside the run's artifacts; None: at the top.

    Raises:
        UserError: a path is missing, or the store fails.
    """
    if missing := [str(p) for p in paths if not p.exists()]:
        raise UserError(f"cannot keep with the run what does not exist: {', '.join(missing)}")
    client = client_of(tracking.uri)
    with told(f"log files to {tracking.uri}"):
        for path in paths:
            if path.is_dir():
                client.log_artifacts(run_id, str(path), "/".join(filter(None, (folder, path.name))))
            else:
                client.log_artifact(run_id, str(path), folder)


def finish(tracking: Tracking, run_id: str, status: Status = "FINISHED") -> None:
    """Say how a run ended."""
    with told(f"end a run in {tracking.uri}"):
        client_of(tracking.uri).set_terminated(run_id, status)


def _tags(facts: RunFacts) -> dict[str, str]:
    return {
        "recipe": facts.recipe,
        "store_hash": facts.store_hash,
        "licences": json.dumps(facts.licences),
        "commit": facts.commit,
    }


def _inputs(facts: RunFacts) -> list[Any]:
    """The stores as MLflow's data sets; its digests are shorter than our hashes, which stand in the tags."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    found = []
    for part, digest in (facts.stores or {"store": facts.store_hash}).items():
        url = facts.store_url if digest == facts.store_hash else ""
        tags = {"mlflow.data.context": part, "store_hash": digest, "licences": json.dumps(facts.licences)}
        source = json.dumps({"uri": url})
        name = url.rstrip("/").rpartition("/")[2] or part
        dataset = Dataset(name=name, digest=digest[:DIGEST], source_type="aign_store", source=source)
        found.append(DatasetInput(dataset, [InputTag(key, value) for key, value in tags.items()]))
    return found


def _find(tracking: Tracking, name: str) -> Any:
    found = client_of(tracking.uri).search_runs(
        [_experiment_id(tracking)],
        filter_string=f"tags.`{RUN_TAG}` = '{name}'",
        max_results=1,
        order_by=["attributes.start_time ASC"],
    )
    return found[0] if found else None


def _experiment_id(tracking: Tracking) -> str:
    client = client_of(tracking.uri)
    found = client.get_experiment_by_name(tracking.experiment)
    if found is None:
        return str(client.create_experiment(tracking.experiment, artifact_location=tracking.artifact_location))
    if found.lifecycle_stage != "active":
        raise UserError(f"experiment {tracking.experiment!r} was deleted in {tracking.uri}; restore it or name another")
    return str(found.experiment_id)


def _log_params(client: Any, run_id: str, params: Mapping[str, str]) -> None:
    from mlflow.entities import Param

    entries = [Param(k, v) for k, v in params.items()]
    for start in range(0, len(entries), PARAMS_PER_BATCH):
        client.log_batch(run_id, params=entries[start : start + PARAMS_PER_BATCH])


def _other_config(name: str, new: Mapping[str, str], old: Mapping[str, str]) -> str:
    changed = sorted(k for k in new.keys() | old.keys() if new.get(k) != old.get(k))
    shown = ", ".join(f"{k} {old.get(k)} -> {new.get(k)}" for k in changed[:3]) or "beyond what parameters show"
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return f"run {name!r} was started with another configuration ({shown}{more}); give the new training another name"


def _check_server(uri: str, seconds: float = 10.0) -> None:
    """One quick question: MLflow itself would try for minutes before it gives up."""
    try:
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=seconds).close()
    except urllib.error.HTTPError:
        return  # it refuses, so it is there; credentials are MLflow's matter
    except (OSError, ValueError) as error:
        raise StorageError(f"no MLflow server answers at {uri}: {error}") from error


def _check_file(path: Path) -> None:
    if set(str(path)) & set("?#%"):
        raise UserError(f"got MLflow store {path}; its path may not hold ? # or %")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            file.seek(0)
            head = file.read(16)
    except OSError as error:
        raise StorageError(f"cannot write the MLflow store {path}: {error.strerror}") from error
    if head and head != b"SQLite format 3\0":
        raise UserError(f"{path} is not an SQLite file; name another folder for the MLflow store")
