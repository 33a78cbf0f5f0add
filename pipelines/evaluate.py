"""Models and baselines measured on a store under a named protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from aign.data.store import Selection, Store
from aign.evaluation.report import Provenance
from aign.framework.errors import UserError
from aign.inference.package import ModelCard, load_card, load_package, package_in
from aign.recipes.task import KeypointChoice, Task
from aign.recipes.tasks import TASKS
from aign.registry import models
from infra.storage import absolute
from pipelines.arguments import parse
from pipelines.run_folder import publish

BASELINE = "baseline:"
"""Before the name of one that is not trained."""
KNOWN: Mapping[str, Task] = {f"{BASELINE}{name}": task for task in TASKS.values() for name in task.baselines}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Measure models on a store; one row of the table each.

    Attributes:
        models: run folders, package folders, models:/NAME@ALIAS, baseline:mean-pose, baseline:nearest-pose,
            baseline:monocap, baseline:body-fit-direct, baseline:body-fit-staged,
            baseline:bicubic, baseline:diffused; all of one task.
        store: folder or fsspec URL of the store.
        protocol: id of the protocol, a wrong one lists them all; nothing: the task's own.
        test: which clips; nothing: those the first model was tested on (a mocap model on another store: a fifth of it).
        memory: which motion the baselines remember; nothing: what the first model remembered (body fits: the embedded
            motions).
        keypoints: which 2D the store has, and so which of the slides' tables is printed beside ours; auto: as the store
            says; none: print none of them.
        out: folder that receives table.md, table.html, table.csv and a report per row, numbered as the rows are.
        mlflow: folder of the embedded MLflow store that models:/ names; MLFLOW_TRACKING_URI wins.
    """

    models: tyro.conf.Positional[tuple[str, ...]]
    store: str
    protocol: str = ""
    test: Selection = field(default_factory=Selection)
    memory: Selection = field(default_factory=Selection)
    keypoints: KeypointChoice = "auto"
    out: Path | None = None
    mlflow: Path = Path("mlflow")


def package_folder(model: str, mlflow: Path) -> Path:
    """The package of a run folder, a package folder or a registered model."""
    if model.startswith("models:/"):
        return models.fetch(model, mlflow)
    return package_in(Path(model).expanduser())


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Reports of all models on the same frames, of the task's type, and the printed rows that may stand beside them."""

    task: Task
    reports: tuple[Any, ...]
    published: Any


def _task(cards: Mapping[str, ModelCard], names: Sequence[str]) -> Task:
    """Of all of them."""
    found = {name: TASKS[cards[name].task] if name in cards else KNOWN[name] for name in names}
    first, task = next(iter(found.items()))
    for name, other in found.items():
        if other is not task:
            raise UserError(f"{first} is of {task.name}, {name} of {other.name}; a table is of one task")
    return task


def evaluate_all(args: Arguments) -> list[Any]:
    """A report for every model, on the same frames."""
    return list(evaluated(args).reports)


def evaluated(args: Arguments) -> Evaluated:
    """A report for every model, on the same frames, and the slide's rows.

    Raises:
        UserError: an unknown model or protocol, models of several tasks, nothing selected, or what the keypoints are
            has to be said.
    """
    if not args.models:
        raise UserError("name at least one model")
    if unknown := [m for m in args.models if m.startswith(BASELINE) and m not in KNOWN]:
        raise UserError(f"unknown {unknown[0]}; allowed: {', '.join(KNOWN)}")
    store = Store.open(absolute(args.store))
    folders = {m: package_folder(m, args.mlflow) for m in args.models if m not in KNOWN}
    cards = {m: load_card(folder) for m, folder in folders.items()}
    task = _task(cards, args.models)
    protocol = args.protocol or task.protocol
    task.known(protocol)

    first = next(iter(cards.values()), None)
    test = args.test if args.test != Selection() else task.selection("test", store, first)
    assert test is not None, "every task says what is tested"
    published = task.published(store, test, protocol, args.keypoints)
    methods = {m: task.baselines[m.removeprefix(BASELINE)] for m in args.models if m in KNOWN}
    made = {}
    if methods:
        memory = args.memory if args.memory != Selection() else task.selection("memory", store, first)
        made = {m: make(store, memory) for m, make in methods.items()}
    view = task.view(store, test, first.network if first else None)
    data = f"{len(set(view.rows.sequence.tolist()))} sequences of {', '.join(store.manifest.licences)}"
    reports = []
    for model in args.models:
        name = cards[model].recipe if model in cards else model.removeprefix(BASELINE)
        method = made[model] if model in made else task.method(load_package(folders[model])[0])
        provenance = Provenance(method=name, data=data, store_hash=store.hash)
        reports.append(task.measure(method, view, protocol, provenance))
    return Evaluated(task=task, reports=tuple(reports), published=published)


def main(argv: Sequence[str]) -> None:
    """Parse, measure, print."""
    args = parse(Arguments, "aign evaluate", argv)
    done = evaluated(args)
    table = done.task.draw(done.reports, done.published)
    console = Console()
    console.print(table.rich(console.width))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        publish(args.out / "table.md", table.markdown)
        publish(args.out / "table.html", table.html)
        publish(args.out / "table.csv", table.csv)
        for number, report in enumerate(done.reports):
            publish(args.out / f"{number:02d}-{report.method}.json", report.to_json())
        print(f"written to {args.out}")
