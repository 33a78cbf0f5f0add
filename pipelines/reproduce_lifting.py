"""`aign reproduce table1|table2`: every row of the paper's tables, trained, measured on the same frames, and drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import tyro
from rich.console import Console

from aign.data.sources import SourceOptions, recognise
from aign.data.store import Store
from aign.evaluation.published import Keypoints, keypoints_of
from aign.framework.errors import UserError
from aign.recipes.lifting import LiftingRecipe, check_roles
from aign.recipes.lifting_tables import Group, Row, rows
from aign.registry.licences import LicencePolicy, check_policy
from aign.registry.tracking import RunFacts, finish, log_files, open_tracking, start_run
from infra.storage import absolute
from pipelines.arguments import parse
from pipelines.commit import commit
from pipelines.origins import of_jobs, of_store
from pipelines.preprocess import preprocess, tell
from pipelines.reproduce_checks import check_counts, check_out, choose
from pipelines.reproduce_report import OUTPUTS, Reproduced, print_tables, write_all
from pipelines.reproduce_runs import Place, measure_all, say

Table: TypeAlias = Literal["table1", "table2"]

EMBEDDED = "demo-motions"
SOURCES: Mapping[Table, str] = {"table1": "gt", "table2": "detector"}
"""Where the 2D of a motion comes from, as `SourceOptions` names it."""
KEYPOINTS: Mapping[Table, Keypoints] = {"table1": "ground-truth", "table2": "detected"}
"""The same, as a store tells it."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Rebuild a table of the paper: train its rows, measure them on the same frames, print and draw them.

    Run again, it goes on where it was: finished runs are kept. On one core a row takes half a minute (Forward2Dto3D) to
    six (heatmaps) a seed: the methods with 3 seeds about an hour, each other group less. `--steps 200` is a quick look.

    Attributes:
        table: table1 (ground-truth 2D) or table2 (detected 2D).
        store: folder or fsspec URL of a store, of Human3.6M or any other with keypoints, labels and memory.
        motion: instead: a folder of motion (CMU asf/amc, BVH, AMASS) or data_3d_h36m.npz, brought into OUT/store first.
            Neither: the embedded clips, which are few.
        out: folder that receives everything. Nothing: reproduce/TABLE.
        seeds: how many times each row is trained.
        groups: parts of the table.
        only: keys of rows, of whatever group; nothing: all rows of the groups. A wrong key lists them.
        workers: Ray Train workers; 0: this process, without Ray.
        steps: training steps of each row; nothing: the recipes' own.
        license_policy: permissive: refuse a store that not everybody may use for anything; any: take it.
    """

    table: tyro.conf.Positional[Table]
    store: str | None = None
    motion: Path | None = None
    out: Path | None = None
    seeds: int = 3
    groups: tuple[Group, ...] = ("methods",)
    only: tuple[str, ...] = ()
    workers: int = 0
    steps: int | None = None
    license_policy: LicencePolicy = "any"


def check(args: Arguments) -> None:
    """Refuse what cannot be before anything takes time.

    Raises:
        UserError: naming what was got.
    """
    if args.store is not None and args.motion is not None:
        raise UserError(f"got --store {args.store} and --motion {args.motion}; allowed is one of them")
    check_counts(args.workers, seeds=args.seeds, steps=1 if args.steps is None else args.steps)


def open_store(args: Arguments, out: Path) -> Store:
    """The store that was given, or one made of motion in OUT/store.

    Raises:
        UserError: there is nothing usable, or it does not fit the licence policy.
    """
    if args.store is not None:
        store = Store.open(absolute(args.store))
        check_policy(args.license_policy, of_store(store))
        return store
    if args.motion is None:
        say(
            "no --store and no --motion: taking the embedded clips, which are few. The numbers show that everything "
            "works, not what the methods can reach; see docs/reproduce.md for data"
        )
    origin = EMBEDDED if args.motion is None else str(args.motion)
    source = recognise(origin, options=SourceOptions(keypoints=SOURCES[args.table]))
    say(f"{origin}: {source.found}")
    check_policy(args.license_policy, of_jobs(origin, source.jobs))
    url = str(out / "store")
    tell(preprocess(source.jobs, url), url)
    return Store.open(url)


def check_keypoints(table: Table, store: Store, base: LiftingRecipe) -> None:
    """Refuse a store of the other table's 2D; one that does not say what it has is believed.

    Raises:
        UserError: the store says that its keypoints are of the other kind.
    """
    told = keypoints_of(store.manifest, base.roles.test)
    if told is not None and told != KEYPOINTS[table]:
        raise UserError(
            f"{table} is of {KEYPOINTS[table]} 2D; store {store.url} says that its keypoints are {told}: make one with "
            f"`aign preprocess SOURCE --store URL --keypoints {SOURCES[table]}`, or ask for the other table"
        )


def base_recipe(every: Sequence[Row], chosen: Sequence[Row], store: Store) -> LiftingRecipe:
    """The recipe that says what is remembered and tested for rows that have none; all rows' roles are checked first.

    Raises:
        UserError: two roles of a row share a sequence, or one is empty.
    """
    for row in chosen:
        if row.recipe is not None:
            check_roles(store, row.recipe.roles)
    recipes = [row.recipe for row in every if row.recipe is not None]
    assert len({(r.protocol, r.roles.test) for r in recipes}) == 1, "rows of a table are tested on the same frames"
    return recipes[0]


def main(argv: Sequence[str]) -> None:
    """Parse and run."""
    args = parse(Arguments, "aign reproduce", argv)
    check(args)
    out = (args.out or Path("reproduce") / args.table).expanduser().absolute()
    out.mkdir(parents=True, exist_ok=True)
    store = open_store(args, out)
    every = rows(store)
    chosen = choose(every, args.groups, args.only)
    base = base_recipe(every, chosen, store)
    check_keypoints(args.table, store, base)
    config: dict[str, Any] = {"table": args.table, "store": store.hash, "steps": args.steps}
    check_out(out, config)
    tracking = open_tracking(out / "mlflow", experiment=f"reproduce {args.table} {store.hash[:8]}")
    facts = RunFacts(
        recipe=f"reproduce-{args.table}", store_hash=store.hash, licences=store.manifest.licences, commit=commit()
    )
    parent = start_run(tracking, f"{args.table} {args.steps or 'full'}", config, facts)
    place = Place(store=store, out=out, tracking=tracking, parent=parent, workers=args.workers)
    try:
        measured = measure_all(chosen, base, place, args.seeds, args.steps)
        done = Reproduced(
            table=args.table, measured=measured, rows=chosen, base=base, store=store, tracking_uri=tracking.uri
        )
        write_all(out, done)
        log_files(tracking, parent, [out / name for name in OUTPUTS])
    except BaseException as error:
        finish(tracking, parent, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    finish(tracking, parent)
    print_tables(Console(), done)
    print(f"\nwritten to {out}; open {out / 'index.html'}")
