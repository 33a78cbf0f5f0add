"""One run: a recipe trained on a store, judged on its test role, packaged, and written down in MLflow."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from torch import nn

from aign.data.store import Selection, Store
from aign.evaluation.report import Provenance
from aign.framework.errors import StorageError, UserError
from aign.inference.figure import training_curves
from aign.inference.package import ModelCard, blank, save_package
from aign.recipes import RECIPES
from aign.recipes import recipe as recipe_named
from aign.recipes.task import Sources
from aign.recipes.tasks import Recipe, task_of
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
from pipelines.arguments import parse_over
from pipelines.evaluate import package_folder
from pipelines.ray_train import Job, train
from pipelines.run_folder import FINISHED, Run, alone, check_same, publish


def commit() -> str:
    """The commit of the code, "" outside a checkout."""
    where = Path(__file__).parent
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=where, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def run_recipe(
    recipe: Recipe, store_url: str, folder: Path, tracking: Tracking, workers: int, address: str | None = None
) -> Run:
    """Train, test, package, track. A folder that holds the run goes on where it was; a finished one is kept.

    Raises:
        UserError: roles overlap, the folder holds a run of another configuration, another process trains it, or what
            `train` raises.
    """
    store = Store.open(store_url)
    sources = task_of(recipe).sources(recipe, store)
    config = {**dataclasses.asdict(recipe), **sources.hashes}
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        check_same(folder, config)
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
        job = Job(recipe=recipe, store_url=store_url, run_dir=folder, workers=workers, tracking=tracking, run_id=run_id)
        try:
            speed = _train_and_test(job, store, sources, address)
        except BaseException as error:
            _end(tracking, run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        finish(tracking, run_id)
        publish(folder / FINISHED, json.dumps({"run_id": run_id, "store_url": store_url}, indent=1))
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
    recipe, folder, task = job.recipe, job.run_dir, task_of(job.recipe)
    trained = train(job, address)
    if trained.dead:
        print(dead_warning(trained.dead), file=sys.stderr)
    model = blank(task.network(recipe))
    model.load_state_dict(trained.generator)
    report = test(model, recipe, store, sources)
    _write(folder, recipe, sources, model, report)
    assert job.tracking is not None, "a run is tracked"
    wait_for(job.tracking)
    tested = {f"test/{name}": value for name, value in task.numbers(report).items()}
    sync(job.tracking, job.run_id, [*logged(folder), {"step": recipe.fit.steps, **tested}])
    kept = ("report.json", "table.md", "table.html", "table.csv", "curves.png", "package")
    log_files(job.tracking, job.run_id, [folder / name for name in kept])
    return trained.steps_per_second


def test(model: nn.Module, recipe: Recipe, store: Store, sources: Sources) -> Any:
    """The report of a recipe's test role under its protocol."""
    task = task_of(recipe)
    view = task.view(store, Selection(sequences=sources.sequences["test"]), task.network(recipe))
    count = len(set(view.rows.sequence.tolist()))
    data = f"{task.label(recipe)}{count} held-out sequences, {', '.join(store.manifest.licences)}"
    provenance = Provenance(method=recipe.name, data=data, store_hash=store.hash)
    return task.measure(task.method(model), view, recipe.protocol, provenance)


def _write(folder: Path, recipe: Recipe, sources: Sources, model: nn.Module, report: Any) -> None:
    task = task_of(recipe)
    card = ModelCard(
        network=task.network(recipe),
        recipe=recipe.name,
        store_hash=sources.hashes["store"],
        sequences=sources.sequences,
        licences=sources.licences,
        protocol=f"{report.protocol} ({report.protocol_hash})",
        metrics=task.numbers(report),
        body=task.body,
        intended_use=task.intended_use,
        limits=task.limits(report),
    )
    save_package(folder / "package", model, card)
    table = task.draw([report], None)
    publish(folder / "table.md", table.markdown)
    publish(folder / "table.html", table.html)
    publish(folder / "table.csv", table.csv)
    publish(folder / "report.json", report.to_json())
    # How hard each term pulls is for whoever tunes weights, and in the tracking; here it would double the panels.
    rows = [{k: v for k, v in row.items() if not k.startswith("gradient/")} for row in logged(folder)]
    training_curves(folder / "curves.png", {recipe.name: rows})


def logged(folder: Path) -> list[dict[str, float]]:
    """The rows of a run's metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Train a recipe on a store. Every number of the recipe is a flag, e.g. --fit.steps 200 --task.weights.pose 0.3.

    Attributes:
        store: folder or fsspec URL of the store.
        name: of the run; the same name goes on where it was. Nothing: the recipe's.
        runs: folder of the runs.
        mlflow: folder of the embedded MLflow store; MLFLOW_TRACKING_URI wins.
        workers: Ray Train workers; 0: this process, without Ray.
        address: of a running Ray cluster; else RAY_ADDRESS, else a local one.
    """

    store: str
    name: str = ""
    runs: Path = Path("runs")
    mlflow: Path = Path("mlflow")
    workers: int = 2
    address: str | None = None


def _flags(kind: type[Any]) -> tuple[type[Any], type[Any]]:
    """A kind of recipe as flags (its own name is none, for --name is the run's), and the arguments that hold it."""
    unnamed = make_dataclass(
        f"_{kind.__name__}", [("name", tyro.conf.Suppress[str])], bases=(kind,), frozen=True, kw_only=True
    )
    recipe: Any = Annotated[unnamed, tyro.conf.arg(name="")]
    both = make_dataclass(
        f"{kind.__name__}Arguments", [("recipe", recipe)], bases=(Arguments,), frozen=True, kw_only=True
    )
    unnamed.__doc__, both.__doc__ = kind.__doc__, Arguments.__doc__
    return unnamed, both


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """Arguments, and the recipe that they tell of."""

    args: Arguments
    recipe: Recipe


def parse(argv: Sequence[str]) -> Parsed:
    """RECIPE and its flags."""
    known = f"recipes: {', '.join(RECIPES)}"
    if argv and argv[0] in ("-h", "--help"):
        print(f"usage: aign train RECIPE --store URL ...   (aign train RECIPE --help tells its flags)\n\n{known}")
        raise SystemExit(0)
    if not argv or argv[0].startswith("-"):
        raise UserError(f"name a recipe first: aign train RECIPE --store URL; {known}")
    named = recipe_named(argv[0])
    unnamed, both = _flags(type(named))
    args: Any = parse_over(both(store=tyro.MISSING, recipe=unnamed(**vars(named))), f"aign train {argv[0]}", argv[1:])
    return Parsed(args=args, recipe=type(named)(**vars(args.recipe)))


def chosen(parsed: Parsed) -> Recipe:
    """The recipe, with the places that it names where every worker finds them."""
    mlflow = parsed.args.mlflow

    def model(name: str) -> str:
        return str(package_folder(name, mlflow).absolute())

    located: Recipe = task_of(parsed.recipe).located(parsed.recipe, absolute, model)
    return located


def main(argv: Sequence[str]) -> None:
    """Parse and run."""
    parsed = parse(argv)
    args, recipe = parsed.args, chosen(parsed)
    folder = (args.runs.expanduser() / (args.name or recipe.name)).absolute()
    run = run_recipe(recipe, absolute(args.store), folder, open_tracking(args.mlflow), args.workers, args.address)
    console = Console()
    console.print(run.task.draw([run.report], None).rich(console.width))
    speed = f"{run.steps_per_second:.0f} steps/s" if run.steps_per_second else "finished before"
    print(f"run {folder} ({speed}); next: aign register {folder} --name {run.task.name}")
