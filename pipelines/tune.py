"""`aign tune`: a search for the weights and learning rates of a recipe, on all processors there are."""

import dataclasses
import hashlib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias, cast

import tyro
from rich.console import Console

from aign.data.store import Store
from aign.evaluation.trial_table import render_rich
from aign.evaluation.trials import Search
from aign.framework.errors import UserError
from aign.recipes.draws import Method, check
from aign.recipes.search import Space, anchor, space_of
from aign.recipes.tasks import Recipe, task_of
from aign.registry.licences import LicencePolicy, check_policy
from aign.registry.tracking import RunFacts, finish, log_files, open_tracking, start_run
from infra.storage import absolute
from pipelines.commit import commit
from pipelines.recipe_flags import Parsed, chosen, named, parse_recipe
from pipelines.reproduce_checks import check_counts
from pipelines.reproduce_runs import say
from pipelines.run_folder import alone, check_same
from pipelines.tune_folder import DEFAULT, SearchFolder
from pipelines.tune_report import OUTPUTS, write_all
from pipelines.tune_search import Plan, Scheduler, search
from pipelines.tune_trial import Searched

Texts: TypeAlias = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Search for better numbers of a recipe: every weight above 0 but the largest, and the learning rates.

    Trial 0 is the recipe as it is. Each trial takes one CPU (and --gpus), and as many run at once as there are. The
    same command goes on where it was; with more --trials it adds some. Every other number of the recipe is a flag.

    Attributes:
        store: folder or fsspec URL of the store.
        trials: how many.
        scheduler: asha: of three that get to a ninth and to a third of their steps one goes on; median: who is worse
            than the median of the others at that step is stopped; fifo: nobody is.
        search: random, or optuna: its TPE sampler after ten random trials (pip install 'aign[tune-optuna]').
        steps: of a trial; nothing: the recipe's own.
        space: NAME=LOW:HIGH, log-uniform, in place of or beside the default; NAME alone: a tenth to ten times of its
            value. Again for each. E.g. --space fit.lr=1e-4:1e-2 --space task.weights.camera
        fix: a name that stays as it is, * for anything; again for each. E.g. --fix task.weights.pose
        draw_seed: of the draws; --seed is the recipe's, which all trials share.
        gpus: of each trial, e.g. 0.5; 0: it computes on its CPU.
        license_policy: permissive: refuse, before anything begins, stores, bodies and models that not everybody may use
            for anything; any: take them.
        out: folder that receives everything. Nothing: tune/RECIPE.
        mlflow: folder of the embedded MLflow store; MLFLOW_TRACKING_URI wins.
        address: of a running Ray cluster; else RAY_ADDRESS, else a local one.
    """

    store: str
    trials: int = 20
    scheduler: Scheduler = "asha"
    search: Method = "random"
    steps: int | None = None
    space: Texts = ()
    fix: Texts = ()
    draw_seed: int = 0
    gpus: float = 0.0
    license_policy: LicencePolicy = "any"
    out: Path | None = None
    mlflow: Path = Path("mlflow")
    address: str | None = None


def parse(argv: Sequence[str]) -> Parsed[Arguments]:
    """RECIPE and its flags."""
    recipe, missing = named("tune", argv), cast(Any, tyro.MISSING)
    return parse_recipe(Arguments(store=missing), recipe, f"aign tune {recipe.name}", argv[1:])


def result(place: SearchFolder, space: Space, held: str | None) -> Search:
    """What is known of a search."""
    return Search(
        recipe=place.recipe.name,
        goal=place.goal,
        steps=place.steps,
        held=held,
        ranges={name: (r.low, r.high) for name, r in space.items()},
        trials=tuple(place.trials()),
    )


def tune(args: Arguments, recipe: Recipe) -> tuple[SearchFolder, Search]:
    """Search, or go on; then write down what was found.

    Raises:
        UserError: something cannot be searched, the folder holds another search, or no trial ended.
    """
    check_counts(0, trials=args.trials, steps=1 if args.steps is None else args.steps)
    check(args.search)
    space, store = space_of(recipe, args.space, args.fix), Store.open(absolute(args.store))
    task = task_of(recipe)
    sources, goal = task.sources(recipe, store), task.goal(recipe, store)
    check_policy(args.license_policy, sources.origins)
    out = (args.out or DEFAULT / recipe.name).expanduser().absolute()
    place = SearchFolder(out=out, recipe=recipe, steps=args.steps or recipe.fit.steps, goal=goal)
    config: dict[str, Any] = {
        "recipe": dataclasses.asdict(recipe), "space": {k: [r.low, r.high] for k, r in space.items()},
        "steps": place.steps, "search": args.search, "scheduler": args.scheduler, "seed": args.draw_seed,
        **sources.hashes,
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    tracking = open_tracking(args.mlflow)
    with alone(out):
        check_same(out, config)
        facts = RunFacts(recipe=recipe.name, store_hash=store.hash, licences=sources.licences, commit=commit())
        name = f"tune {out.name} {hashlib.sha256(str(out).encode()).hexdigest()[:8]}"
        parent = start_run(tracking, name, config, facts)
        searched = Searched(
            place=place, store_url=store.url, tracking=tracking, name=name, parent=parent, facts=facts, gpus=args.gpus
        )
        plan = Plan(
            searched=searched, space=space, method=args.search, scheduler=args.scheduler, trials=args.trials,
            seed=args.draw_seed, say=say,
        )  # fmt: skip
        try:
            died = search(plan, args.address)
            found = result(place, space, anchor_of(recipe, space))
            write_all(out, found, store, command(place, found, args.store))
            log_files(tracking, parent, [out / file for file in OUTPUTS if (out / file).exists()])
        except BaseException as error:
            finish(tracking, parent, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        finish(tracking, parent, "FAILED" if died else "FINISHED")
    if died:
        raise UserError(f"workers of some trials died: {died}; the rest is in {out}, the same command tries them again")
    return place, found


def anchor_of(recipe: Recipe, space: Space) -> str | None:
    """The weight that the search held."""
    held = anchor(recipe)
    return held if held not in space else None


def command(place: SearchFolder, found: Search, store: str) -> str:
    """What trains the best trial with all steps."""
    where = shlex.quote(str(place.folder(found.best.number)))
    return f"aign train {place.recipe.name} --from-trial {where} --store {shlex.quote(store)}"


def main(argv: Sequence[str]) -> None:
    """Parse and run."""
    parsed = parse(argv)
    args, recipe = parsed.args, chosen(parsed.recipe, parsed.args.mlflow)
    place, found = tune(args, recipe)
    console = Console()
    console.print(render_rich(found))
    out = place.out
    for line in (out / "table.md").read_text().splitlines():
        if line.startswith("- "):
            console.print(line, style="dim", highlight=False, markup=False, soft_wrap=True)
    print(f"\nwritten to {out}; open {out / 'index.html'}; next:\n{command(place, found, args.store)}")
    sys.stdout.flush()
