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
from aign.registry.evidence import record_measured
from aign.registry.gates import Measured, Score, units_hash
from aign.registry.licences import LicencePolicy, check_policy
from aign.registry.promotion import promote
from aign.registry.tracking import Tracking, open_tracking
from pipelines.arguments import parse
from pipelines.run_folder import Run
from pipelines.run_place import opened


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Register a finished run; it becomes champion only if it passes the gates, else it waits as challenger.

    Attributes:
        run: folder or fsspec URL of the run.
        name: of the registered model; nothing: the task's name.
        license_policy: which licences the champions of that name may have, said once for a name: permissive ones, or
            any. Nothing: the name's; for a new name permissive where this model's licences are. A model that does not
            fit a policy that is said is refused before anything is written.
        mlflow: folder of the embedded MLflow store; MLFLOW_TRACKING_URI wins.
    """

    run: tyro.conf.Positional[str]
    name: str = ""
    license_policy: LicencePolicy | None = None
    mlflow: Path = Path("mlflow")


def measured_of(report: Any, task: Task) -> Measured:
    """A report as the gates compare it.

    Raises:
        UserError: the report has no headline.
    """
    headline, units = task.headline(report), task.units(report)
    if headline.value is None:
        raise UserError(
            f"the report of {report.method} has no number to compare: it was measured without the truth in 3D"
        )
    score = Score(
        protocol=report.protocol,
        protocol_hash=report.protocol_hash,
        store_hash=report.store_hash,
        metric=headline.name,
        value=float(headline.value),
        higher_is_better=headline.higher_is_better,
        subject=headline.subject,
        test=units_hash(units.get(headline.name, {})),
    )
    return Measured(score=score, numbers=dict(task.numbers(report)), units=units)


def example_of(run: Run) -> Mapping[str, np.ndarray]:
    """A few real frames of the run's test role."""
    return run.task.example(Store.open(run.store_url), load_card(run.package).role("test"))


def register(run: Run, name: str, tracking: Tracking, policy: LicencePolicy | None = None) -> models.Registered:
    """Add the run's model; a champion that was not measured on the same test clips is measured on them first.

    A run that is registered already keeps its version and is only judged again.

    Raises:
        UserError: its licences do not fit the policy, nothing was measured, the model of that name is of another task
            or for something else, or what `models.register` raises.
    """
    if policy is not None:
        check_policy(policy, {f"the model of {run.folder}": load_card(run.package).licences})
    measured = measured_of(run.report, run.task)
    rows = [row for row in models.list_models(tracking) if row.name == name]
    for row in rows:
        if "champion" in row.aliases and row.score is not None:
            _check_alike(name, row, run, measured.score)
            _measure_champion(run, row, tracking, measured.score)
    if there := [row.version for row in rows if row.run_id == run.run_id]:
        record_measured(tracking, name, there[0], measured)
        decision = promote(tracking, name, there[0])
        return models.Registered(version=there[0], promoted=decision.promote, reason=decision.reason)
    candidate = models.Candidate(run_id=run.run_id, package=run.package, measured=measured, example=example_of(run))
    return models.register(tracking, candidate, name, policy)


def _check_alike(name: str, champion: models.ModelRow, run: Run, score: Score) -> None:
    """One name holds models of one task, for one thing."""
    if champion.task and champion.task != run.task.name:
        raise UserError(f"{name} holds models of {champion.task}, the run's is of {run.task.name}; give another --name")
    if champion.score and champion.score.subject != score.subject:
        raise UserError(
            f"{name} holds models for {champion.score.subject}, the run's is for {score.subject}; give another --name"
        )


def _measure_champion(run: Run, row: models.ModelRow, tracking: Tracking, score: Score) -> None:
    """Give the present champion a score that the candidate's can be compared with."""
    if score.key in row.compared:
        return
    champion, card = load_package(models.pull(tracking, f"models:/{row.name}/{row.version}", run.folder / "champion"))
    task, mine = run.task, load_card(run.package)
    view = task.view(Store.open(run.store_url), mine.role("test"), mine.network)
    provenance = Provenance(method=card.recipe, data=run.report.data, store_hash=score.store_hash)
    report = task.measure(task.method(champion), view, score.protocol, provenance)
    record_measured(tracking, row.name, row.version, measured_of(report, task))


def main(argv: Sequence[str]) -> None:
    """Parse and run."""
    args = parse(Arguments, "aign register", argv)
    with opened(args.run) as run:
        name = args.name or run.task.name
        done = register(run, name, open_tracking(args.mlflow), args.license_policy)
    state = "is now the champion" if done.promoted else "is registered"
    print(f"{name} version {done.version} {state}: {done.reason}")
