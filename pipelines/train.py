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
from aign.recipes import recipe as recipe_named
from aign.recipes.lifting import LiftingRecipe, load_memory
from aign.registry.run_log import RunLog
from aign.registry.tracking import RunFacts, Tracking, finish, log_files, open_tracking, start_run
from aign.tasks.lifting import build_lifter
from infra.storage import absolute
from pipelines.ray_train import Job, train


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run's folder: metrics.jsonl, package/, report.json, table.md, table.html, curves.png, run.json.

    Attributes:
        folder: absolute.
        run_id: in MLflow.
        store_url: what it was trained and tested on.
        report: of the test role.
        steps_per_second: of the training loop; 0 where it was finished before.
    """

    folder: Path
    run_id: str
    store_url: str
    report: Report
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
            facts = json.loads((folder / "run.json").read_text())
            report = Report.from_json((folder / "report.json").read_text())
            return Run(folder=folder.absolute(), run_id=facts["run_id"], store_url=facts["store_url"], report=report)
        except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise UserError(f"{folder} is not a finished run: {error}; train one with `aign train`") from error


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
        UserError: the folder holds a run of another configuration, or what `train` raises.
    """
    store = Store.open(store_url)
    folder.mkdir(parents=True, exist_ok=True)
    facts = RunFacts(recipe=recipe.name, store_hash=store.hash, licences=store.manifest.licences, commit=commit())
    run_id = start_run(tracking, folder.name, {**dataclasses.asdict(recipe), "store": store.hash}, facts)
    try:
        job = Job(recipe=recipe, store_url=store_url, run_dir=folder, workers=workers, tracking=tracking, run_id=run_id)
        trained = train(job, address)
        lifter = build_lifter(recipe.task.lifter, load_memory(store, recipe.roles.memory).canonical_m)
        lifter.load_state_dict(trained.lifter)
        report = test(lifter, recipe, store)
        _write(folder, recipe, store, lifter, report)
        run = Run(
            folder=folder,
            run_id=run_id,
            store_url=store_url,
            report=report,
            steps_per_second=trained.steps_per_second,
        )
        _publish(folder / "run.json", json.dumps({"run_id": run_id, "store_url": store_url}, indent=1))
        log = RunLog(tracking, run_id)
        log.log(recipe.fit.steps, {f"test/{name}": value for name, value in metrics(report).items()})
        log.flush()
        kept = ("report.json", "table.md", "table.html", "curves.png", "package")
        log_files(tracking, run_id, [folder / name for name in kept])
    except BaseException as error:
        finish(tracking, run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    finish(tracking, run_id)
    return run


def test(lifter: nn.Module, recipe: LiftingRecipe, store: Store) -> Report:
    """The report of a recipe's test role under its protocol."""
    view = load_view(store, recipe.roles.test)
    data = f"{len(set(view.rows.sequence.tolist()))} held-out sequences, {', '.join(store.manifest.licences)}"
    provenance = Provenance(method=recipe.name, data=data, store_hash=store.hash)
    return measure(lifter_method(lifter, torch.device("cpu")), view, recipe.protocol, provenance)


def _write(folder: Path, recipe: LiftingRecipe, store: Store, lifter: nn.Module, report: Report) -> None:
    card = ModelCard(
        lifter=recipe.task.lifter,
        recipe=recipe.name,
        store_hash=store.hash,
        licences=store.manifest.licences,
        protocol=f"{report.protocol} ({report.protocol_hash})",
        metrics=metrics(report),
    )
    save_package(folder / "package", lifter, card)
    table = error_table([report])
    _publish(folder / "table.md", render_markdown(table))
    _publish(folder / "table.html", render_html(table))
    _publish(folder / "report.json", report.to_json())
    training_curves(folder / "curves.png", {recipe.name: logged(folder)})


def logged(folder: Path) -> list[dict[str, float]]:
    """The rows of a run's metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _publish(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(text)
    unfinished.replace(path)


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
    recipe: Annotated[LiftingRecipe, tyro.conf.arg(name="")]


def parse(argv: Sequence[str]) -> Arguments:
    """RECIPE and its flags."""
    if not argv or argv[0].startswith("-"):
        from aign.recipes import RECIPES

        raise UserError(f"name a recipe first: aign train RECIPE --store URL; recipes: {', '.join(RECIPES)}")
    chosen = recipe_named(argv[0])
    marker: Any = tyro.MISSING
    default = Arguments(store=marker, recipe=chosen)
    return tyro.cli(Arguments, prog=f"aign train {argv[0]}", default=default, args=list(argv[1:]))


def main(argv: Sequence[str]) -> None:
    """Parse and run."""
    args = parse(argv)
    folder = (args.runs / (args.name or args.recipe.name)).absolute()
    tracking = open_tracking(args.mlflow)
    run = run_recipe(args.recipe, absolute(args.store), folder, tracking, args.workers, args.address)
    console = Console()
    console.print(render_rich(error_table([run.report]), width=console.width))
    print(f"run {folder} ({run.steps_per_second:.0f} steps/s); next: aign register {folder} --name lifting")
