"""One run: a recipe trained on a store, judged on its test role, packaged, and written down in MLflow."""

import dataclasses
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from torch import nn

from aign.data.store import Store
from aign.evaluation.lifting import lifter_method, load_view, measure, metrics
from aign.evaluation.report import Provenance, Report
from aign.evaluation.tables import error_table, render_html, render_markdown, render_rich
from aign.framework.errors import UserError
from aign.inference.figure import training_curves
from aign.inference.package import ModelCard, save_package
from aign.recipes import RECIPES
from aign.recipes import recipe as recipe_named
from aign.recipes.lifting import LiftingRecipe, check_roles, load_memory
from aign.registry.run_log import RunLog
from aign.registry.tracking import RunFacts, Tracking, finish, log_files, open_tracking, start_run
from aign.tasks.lifting import build_lifter
from infra.storage import absolute
from pipelines.arguments import parse_over
from pipelines.ray_train import Job, train
from pipelines.run_folder import FINISHED, Run, alone, check_same, publish


def commit() -> str:
    """The commit of the code, "" outside a checkout."""
    where = Path(__file__).parent
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=where, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def run_recipe(
    recipe: LiftingRecipe, store_url: str, folder: Path, tracking: Tracking, workers: int, address: str | None = None
) -> Run:
    """Train, test, package, track. A folder that holds the run goes on where it was; a finished one is kept.

    Raises:
        UserError: roles overlap, the folder holds a run of another configuration, another process trains it, or what
            `train` raises.
    """
    store = Store.open(store_url)
    check_roles(store, recipe.roles)
    config = {**dataclasses.asdict(recipe), "store": store.hash}
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        check_same(folder, config)
        if (folder / FINISHED).exists():
            return Run.open(folder)
        facts = RunFacts(recipe=recipe.name, store_hash=store.hash, licences=store.manifest.licences, commit=commit())
        run_id = start_run(tracking, folder.name, config, facts)
        job = Job(recipe=recipe, store_url=store_url, run_dir=folder, workers=workers, tracking=tracking, run_id=run_id)
        try:
            speed = _train_and_test(job, store, tracking, address)
        except BaseException as error:
            finish(tracking, run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        finish(tracking, run_id)
        publish(folder / FINISHED, json.dumps({"run_id": run_id, "store_url": store_url}, indent=1))
        return dataclasses.replace(Run.open(folder), steps_per_second=speed)


def _train_and_test(job: Job, store: Store, tracking: Tracking, address: str | None) -> float:
    """Everything of a run but its end; steps per second."""
    recipe, folder = job.recipe, job.run_dir
    trained = train(job, address)
    lifter = build_lifter(recipe.task.lifter, load_memory(store, recipe.roles.memory).canonical_m)
    lifter.load_state_dict(trained.lifter)
    report = test(lifter, recipe, store)
    _write(folder, recipe, store, lifter, report)
    log = RunLog(tracking, job.run_id)
    log.log(recipe.fit.steps, {f"test/{name}": value for name, value in metrics(report).items()})
    log.flush()
    kept = ("report.json", "table.md", "table.html", "curves.png", "package")
    log_files(tracking, job.run_id, [folder / name for name in kept])
    return trained.steps_per_second


def test(lifter: nn.Module, recipe: LiftingRecipe, store: Store) -> Report:
    """The report of a recipe's test role under its protocol."""
    view = load_view(store, recipe.roles.test)
    count, licences = len(set(view.rows.sequence.tolist())), ", ".join(store.manifest.licences)
    data = f"regime {recipe.roles.regime}; {count} held-out sequences, {licences}"
    provenance = Provenance(method=recipe.name, data=data, store_hash=store.hash)
    return measure(lifter_method(lifter, torch.device("cpu")), view, recipe.protocol, provenance)


def _write(folder: Path, recipe: LiftingRecipe, store: Store, lifter: nn.Module, report: Report) -> None:
    card = ModelCard(
        lifter=recipe.task.lifter,
        recipe=recipe.name,
        store_hash=store.hash,
        sequences={role: tuple(sorted(names)) for role, names in check_roles(store, recipe.roles).items()},
        licences=store.manifest.licences,
        protocol=f"{report.protocol} ({report.protocol_hash})",
        metrics=metrics(report),
    )
    save_package(folder / "package", lifter, card)
    table = error_table([report])
    publish(folder / "table.md", render_markdown(table))
    publish(folder / "table.html", render_html(table))
    publish(folder / "report.json", report.to_json())
    training_curves(folder / "curves.png", {recipe.name: logged(folder)})


def logged(folder: Path) -> list[dict[str, float]]:
    """The rows of a run's metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@dataclass(frozen=True, kw_only=True)
class _Recipe(LiftingRecipe):
    """A recipe as flags: its own name is none, for --name is the run's."""

    name: tyro.conf.Suppress[str]


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
        recipe: what to train.
    """

    store: str
    name: str = ""
    runs: Path = Path("runs")
    mlflow: Path = Path("mlflow")
    workers: int = 2
    address: str | None = None
    recipe: Annotated[_Recipe, tyro.conf.arg(name="")]


def parse(argv: Sequence[str]) -> Arguments:
    """RECIPE and its flags."""
    known = f"recipes: {', '.join(RECIPES)}"
    if argv and argv[0] in ("-h", "--help"):
        print(f"usage: aign train RECIPE --store URL ...   (aign train RECIPE --help tells its flags)\n\n{known}")
        raise SystemExit(0)
    if not argv or argv[0].startswith("-"):
        raise UserError(f"name a recipe first: aign train RECIPE --store URL; {known}")
    marker: Any = tyro.MISSING
    default = Arguments(store=marker, recipe=_Recipe(**vars(recipe_named(argv[0]))))
    return parse_over(default, f"aign train {argv[0]}", argv[1:])


def main(argv: Sequence[str]) -> None:
    """Parse and run."""
    args = parse(argv)
    recipe = LiftingRecipe(**vars(args.recipe))
    folder = (args.runs.expanduser() / (args.name or recipe.name)).absolute()
    run = run_recipe(recipe, absolute(args.store), folder, open_tracking(args.mlflow), args.workers, args.address)
    console = Console()
    console.print(render_rich(error_table([run.report]), width=console.width))
    speed = f"{run.steps_per_second:.0f} steps/s" if run.steps_per_second else "finished before"
    print(f"run {folder} ({speed}); next: aign register {folder} --name lifting")
