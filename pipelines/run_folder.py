"""A run's folder: what it holds when it is finished, who may write it, and which configuration it belongs to."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aign.data.publish import published
from aign.framework.errors import UserError
from aign.inference.package import load_card
from aign.recipes.task import Task
from aign.recipes.tasks import TASKS
from aign.training.identity import flatten

FINISHED = "run.json"
"""In a run's folder, written last: the run is complete, and in MLflow."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run's folder: metrics.jsonl, package/, report.json, table.md, table.html, curves.png, run.json.

    Attributes:
        folder: absolute.
        run_id: in MLflow.
        store_url: what it was trained and tested on.
        task: of its model.
        report: of the test role, of the task's type.
        steps_per_second: of the training loop; 0 where it was finished before.
    """

    folder: Path
    run_id: str
    store_url: str
    task: Task
    report: Any
    steps_per_second: float = 0.0

    @property
    def package(self) -> Path:
        """The model."""
        return self.folder / "package"

    @staticmethod
    def open(folder: Path) -> "Run":
        """Read a finished run.

        Raises:
            UserError: the folder is none.
        """
        try:
            facts = json.loads((folder / FINISHED).read_text())
            run_id, store_url = str(facts["run_id"]), str(facts["store_url"])
            text = (folder / "report.json").read_text()
        except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise UserError(f"{folder} is not a finished run: {error}; train one with `aign train`") from error
        task = TASKS[load_card(folder / "package").task]
        report = task.read_report(text)
        return Run(folder=folder.absolute(), run_id=run_id, store_url=store_url, task=task, report=report)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process trains a run; the system frees the lock however that process ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError(
            f"run {folder} is being trained by another process; wait for it, or give another name"
        ) from None
    finally:
        os.close(handle)


def check_same(folder: Path, config: Mapping[str, Any]) -> None:
    """Write the configuration into a new run's folder; refuse another one in a folder that has one."""
    path, text = folder / "config.json", json.dumps(config, indent=1, sort_keys=True)
    if not path.exists():
        publish(path, text)
        return
    old, new = flatten(json.loads(path.read_text())), flatten(json.loads(text))
    changed = [f"{k} {old.get(k)} -> {new.get(k)}" for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k)]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise UserError(
            f"run {folder} was started with another configuration: {', '.join(changed[:3])}{more}; give the new one "
            "another --name"
        )


def publish(path: Path, text: str) -> None:
    """Write a small file that is never seen half-written."""
    with published(path) as temporary:
        temporary.write_text(text)
