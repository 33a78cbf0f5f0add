"""One run: a recipe trained on a store, judged on its test role, packaged, and written down in MLflow."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from torch import nn

from aign.data.store import Selection, Store
from aign.evaluation.report import Provenance
from aign.framework.errors import StorageError
from aign.inference.package import blank
from aign.recipes.task import Sources
from aign.recipes.tasks import Recipe, task_of
from aign.registry.licences import LicencePolicy, check_policy
from aign.registry.run_log import sync
from aign.registry.tracking import (
    RunFacts,
    Status,
    Tracking,
    check_there,
    finish,
    log_files,
    open_tracking,
    start_run,
    wait_for,
)
from aign.training.gradients import dead_warning
from infra.storage import absolute
from pipelines.commit import commit
from pipelines.ray_train import Job, train
from pipelines.recipe_flags import Parsed, chosen, named, parse_recipe
from pipelines.run_files import RESULTS, logged, write_results
from pipelines.run_folder import FINISHED, Run, alone, check_same, publish
from pipelines.run_place import Place, place_of, push
from pipelines.tune_folder import find_trial
from pipelines.workers import Workers


def run_recipe(
    recipe: Recipe, store_url: str, folder: Path, tracking: Tracking, workers: int, address: str | None = None
) -> Run:
    """`run_at` in a folder, with so many workers."""
    return run_at(recipe, store_url, Place(folder=folder), tracking, Workers.fixed(workers), address)


def run_at(
    recipe: Recipe,
    store_url: str,
    place: Place,
    tracking: Tracking,
    workers: Workers,
    address: str | None = None,
    policy: LicencePolicy = "any",
) -> Run:
    """Train, test, package, track. A place that holds the run goes on where it was; a finished one is kept.

    Raises:
        UserError: roles overlap, something it is made of does not fit the licence policy, the place holds a run of
            another configuration, another process trains it, or what `train` raises.
    """
    store, folder = Store.open(store_url), place.folder
    sources = task_of(recipe).sources(recipe, store)
    check_policy(policy, sources.origins)
    config = {**dataclasses.asdict(recipe), **sources.hashes}
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        check_same(folder, config)
        push(place)
        if (folder / FINISHED).exists():
            return Run.open(folder)
        facts = RunFacts(
            recipe=recipe.name,
            store_hash=store.hash,
            licences=sources.licences,
            commit=commit(),
            stores=sources.hashes,
            store_url=store_url,
        )
        run_id = start_run(tracking, folder.name, config, facts)
        job = Job(recipe=recipe, store_url=store_url, place=place, workers=workers, tracking=tracking, run_id=run_id)
        try:
            speed = _train_and_test(job, store, sources, address)
        except BaseException as error:
            _end(tracking, run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        finish(tracking, run_id)
        publish(folder / FINISHED, json.dumps({"run_id": run_id, "store_url": store_url}, indent=1))
        push(place)
        return dataclasses.replace(Run.open(folder), steps_per_second=speed)


def _end(tracking: Tracking, run_id: str, status: Status) -> None:
    """Say how a run ended; where nobody listens, the run's own error is what the user needs to read."""
    try:
        check_there(tracking)
    except StorageError as error:
        print(f"{error}; its run there still says that it runs", file=sys.stderr)
    else:
        finish(tracking, run_id, status)


def _train_and_test(job: Job, store: Store, sources: Sources, address: str | None) -> float:
    """Everything of a run but its end; steps per second."""
    recipe, folder, task = job.recipe, job.place.folder, task_of(job.recipe)
    trained = train(job, address)
    if trained.dead:
        print(dead_warning(trained.dead), file=sys.stderr)
    model = blank(task.network(recipe))
    model.load_state_dict(trained.generator)
    report = test(model, recipe, store, sources)
    write_results(folder, recipe, sources, model, report)
    assert job.tracking is not None, "a run is tracked"
    wait_for(job.tracking)
    tested = {f"test/{name}": value for name, value in task.numbers(report).items()}
    sync(job.tracking, job.run_id, [*logged(folder), {"step": recipe.fit.steps, **tested}])
    log_files(job.tracking, job.run_id, [folder / name for name in RESULTS])
    return trained.steps_per_second


def test(model: nn.Module, recipe: Recipe, store: Store, sources: Sources) -> Any:
    """The report of a recipe's test role under its protocol."""
    task = task_of(recipe)
    view = task.view(store, Selection(sequences=sources.sequences["test"]), task.network(recipe))
    count = len(set(view.rows.sequence.tolist()))
    data = f"{task.label(recipe)}{count} held-out sequences, {', '.join(store.manifest.licences)}"
    provenance = Provenance(method=recipe.name, data=data, store_hash=store.hash)
    return task.measure(task.method(model), view, recipe.protocol, provenance)


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Train a recipe on a store. Every number of the recipe is a flag, e.g. --fit.steps 200 --task.weights.pose 0.3.

    Attributes:
        store: folder or fsspec URL of the store.
        from_trial: train with the numbers of a trial of `aign tune` and all steps of the recipe: the search's folder
            (its best trial), a trial's folder, or its number in tune/RECIPE. Flags beside it win.
        name: of the run; the same name goes on where it was. Nothing: the recipe's, and the trial's.
        runs: folder or fsspec URL of the runs.
        mlflow: folder of the embedded MLflow store; MLFLOW_TRACKING_URI wins.
        workers: Ray Train workers; 1:4: as many of these as there is place for; 0: this process, without Ray.
        gpus_per_worker: 0: none; 1: one each; between: a part, shared with other workers.
        license_policy: permissive: refuse, before anything begins, stores, bodies and models that not everybody may use
            for anything; any: take them, and write their licences on the model's card.
        address: of a running Ray cluster; else RAY_ADDRESS, else a local one.
    """

    store: str
    from_trial: str = ""
    name: str = ""
    runs: str = "runs"
    mlflow: Path = Path("mlflow")
    workers: str = "2"
    gpus_per_worker: float = 0.0
    license_policy: LicencePolicy = "any"
    address: str | None = None


def parse(argv: Sequence[str]) -> Parsed[Arguments]:
    """RECIPE and its flags; what a trial found stands in for the recipe's own numbers."""
    recipe, place, name = named("train", argv), _from_trial(argv[1:]), ""
    if place:
        found = find_trial(place, recipe.name)
        recipe, name = found.recipe, f"{recipe.name}-{found.label}"
    missing: Any = tyro.MISSING
    return parse_recipe(
        Arguments(store=missing, from_trial=place, name=name), recipe, f"aign train {recipe.name}", argv[1:]
    )


def _from_trial(argv: Sequence[str]) -> str:
    """Read before the others, because it says what their defaults are; whether it is well formed is for tyro to say."""
    for flag, after in pairwise((*argv, "")):
        key, is_joined, value = flag.partition("=")
        if key.replace("_", "-") == "--from-trial":
            return value if is_joined else after
    return ""


def main(argv: Sequence[str]) -> None:
    """Parse and run."""
    parsed = parse(argv)
    args, recipe = parsed.args, chosen(parsed.recipe, parsed.args.mlflow)
    workers = Workers.parse(args.workers, args.gpus_per_worker)
    tracking = open_tracking(args.mlflow)
    with place_of(args.runs, args.name or recipe.name) as place:
        run = run_at(recipe, absolute(args.store), place, tracking, workers, args.address, args.license_policy)
    console = Console()
    console.print(run.task.draw([run.report], None).rich(console.width))
    speed = f"{run.steps_per_second:.0f} steps/s" if run.steps_per_second else "finished before"
    print(f"run {place.shown} ({speed}); next: aign register {place.shown} --name {run.task.name}")
