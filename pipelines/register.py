"""A finished run into the MLflow registry, behind its gates."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from aign.data.store import Store
from aign.evaluation.lifting import METRIC_NAMES, lifter_method, load_view, measure
from aign.evaluation.report import Provenance, Report
from aign.framework.errors import UserError
from aign.inference.package import load_card, load_package
from aign.inference.predictor import sees_person
from aign.registry import models
from aign.registry.gates import Score
from aign.registry.packages import Example
from aign.registry.tracking import Tracking, open_tracking
from pipelines.arguments import parse
from pipelines.run_folder import Run

EXAMPLE_FRAMES = 4


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Register a finished run; it becomes champion only if its protocol metric is better on the same store.

    Attributes:
        run: folder of the run.
        name: of the registered model.
        mlflow: folder of the embedded MLflow store; MLFLOW_TRACKING_URI wins.
    """

    run: tyro.conf.Positional[Path]
    name: str = "lifting"
    mlflow: Path = Path("mlflow")


def score_of(report: Report) -> Score:
    """A report's headline as what the gate compares.

    Raises:
        UserError: the report has no headline.
    """
    if report.headline is None:
        raise UserError(f"the report of {report.method} has no number to compare")
    return Score(
        protocol=report.protocol,
        protocol_hash=report.protocol_hash,
        store_hash=report.store_hash,
        metric=METRIC_NAMES[next(iter(report.scores))],
        value_mm=float(report.headline),
    )


def example_of(run: Run) -> Example:
    """A few real frames of the run's test role."""
    view = load_view(Store.open(run.store_url), load_card(run.package).role("test"))
    frames = view.frames
    kp, conf = frames.kp2d_px.numpy(), frames.conf.numpy()
    usable = np.flatnonzero(sees_person(kp, conf))
    chosen = usable[np.linspace(0, len(usable) - 1, min(EXAMPLE_FRAMES, len(usable))).astype(int)]
    intrinsics = torch.cat((frames.camera.focal_px, frames.camera.centre_px), dim=1).numpy()
    return Example(kp2d_px=kp[chosen], kp2d_conf=conf[chosen], intrinsics_px=intrinsics[chosen])


def register(run: Run, name: str, tracking: Tracking) -> models.Registered:
    """Add the run's model; a champion that was measured on another store is measured on this one first.

    A run that is registered already keeps its version and is only judged again.
    """
    score = score_of(run.report)
    _measure_champion(run, name, tracking, score)
    there = [row.version for row in models.list_models(tracking) if (row.name, row.run_id) == (name, run.run_id)]
    if there:
        decision = models.promote(tracking, name, there[0])
        return models.Registered(version=there[0], promoted=decision.promote, reason=decision.reason)
    return models.register(tracking, run.run_id, run.package, name, score, example_of(run))


def _measure_champion(run: Run, name: str, tracking: Tracking, score: Score) -> None:
    """Give the present champion a score that the candidate's can be compared with."""
    for row in models.list_models(tracking):
        known = row.score
        if row.name != name or "champion" not in row.aliases or known is None:
            continue
        if (known.store_hash, known.protocol_hash) == (score.store_hash, score.protocol_hash):
            continue
        lifter, card = load_package(models.pull(tracking, f"models:/{name}@champion", run.folder / "champion"))
        view = load_view(Store.open(run.store_url), load_card(run.package).role("test"))
        provenance = Provenance(method=card.recipe, data=run.report.data, store_hash=score.store_hash)
        report = measure(lifter_method(lifter, torch.device("cpu")), view, score.protocol, provenance)
        models.record_score(tracking, name, row.version, score_of(report))


def main(argv: Sequence[str]) -> None:
    """Parse and run."""
    args = parse(Arguments, "aign register", argv)
    done = register(Run.open(args.run), args.name, open_tracking(args.mlflow))
    state = "is now the champion" if done.promoted else "is registered"
    print(f"{args.name} version {done.version} {state}: {done.reason}")
