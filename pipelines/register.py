"""A finished run into the MLflow registry, behind its gates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from aign.data.store import Store
from aign.evaluation.report import Provenance
from aign.framework.errors import UserError
from aign.inference.package import load_card, load_package
from aign.recipes.task import Task
from aign.registry import models
from aign.registry.gates import Score
from aign.registry.tracking import Tracking, open_tracking
from pipelines.arguments import parse
from pipelines.run_folder import Run
from pipelines.run_place import opened


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Register a finished run; it becomes champion only if its protocol metric is better on the same store.

    Attributes:
        run: folder or fsspec URL of the run.
        name: of the registered model; nothing: the task's, lifting or motion_capture.
        mlflow: folder of the embedded MLflow store; MLFLOW_TRACKING_URI wins.
    """

    run: tyro.conf.Positional[str]
    name: str = ""
    mlflow: Path = Path("mlflow")


def score_of(report: Any, task: Task) -> Score:
    """A report's headline as what the gate compares.

    Raises:
        UserError: the report has no headline.
    """
    headline = task.headline(report)
    if headline.value is None:
        raise UserError(
            f"the report of {report.method} has no number to compare: it was measured without the truth in 3D"
        )
    return Score(
        protocol=report.protocol,
        protocol_hash=report.protocol_hash,
        store_hash=report.store_hash,
        metric=headline.name,
        value_mm=float(headline.value),
    )


def example_of(run: Run) -> Mapping[str, np.ndarray]:
    """A few real frames of the run's test role."""
    return run.task.example(Store.open(run.store_url), load_card(run.package).role("test"))


def register(run: Run, name: str, tracking: Tracking) -> models.Registered:
    """Add the run's model; a champion that was measured on another store is measured on this one first.

    A run that is registered already keeps its version and is only judged again.

    Raises:
        UserError: nothing was measured, the model of that name is of another task, or what `models.register` raises.
    """
    score = score_of(run.report, run.task)
    _measure_champion(run, name, tracking, score)
    there = [row.version for row in models.list_models(tracking) if (row.name, row.run_id) == (name, run.run_id)]
    if there:
        decision = models.promote(tracking, name, there[0])
        return models.Registered(version=there[0], promoted=decision.promote, reason=decision.reason)
    return models.register(tracking, run.run_id, run.package, name, score, example_of(run))


def _measure_champion(run: Run, name: str, tracking: Tracking, score: Score) -> None:
    """Give the present champion a score that the candidate's can be compared with."""
    for row in models.list_models(tracking):
        known, task = row.score, run.task
        if row.name != name or "champion" not in row.aliases or known is None:
            continue
        if (known.store_hash, known.protocol_hash) == (score.store_hash, score.protocol_hash):
            continue
        champion, card = load_package(models.pull(tracking, f"models:/{name}@champion", run.folder / "champion"))
        if card.task != task.name:
            raise UserError(f"{name} holds models of {card.task}, the run's is of {task.name}; give it another --name")
        mine = load_card(run.package)
        view = task.view(Store.open(run.store_url), mine.role("test"), mine.network)
        provenance = Provenance(method=card.recipe, data=run.report.data, store_hash=score.store_hash)
        report = task.measure(task.method(champion), view, score.protocol, provenance)
        models.record_score(tracking, name, row.version, score_of(report, task))


def main(argv: Sequence[str]) -> None:
    """Parse and run."""
    args = parse(Arguments, "aign register", argv)
    with opened(args.run) as run:
        name = args.name or run.task.name
        done = register(run, name, open_tracking(args.mlflow))
    state = "is now the champion" if done.promoted else "is registered"
    print(f"{name} version {done.version} {state}: {done.reason}")
