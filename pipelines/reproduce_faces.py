"""`aign reproduce faces`: the slides' rows of pictures, with a table, goals and an audit of what each bias changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from aign.data.datasets.faces.rendered_faces import FaceOptions, plan
from aign.data.store import Store
from aign.framework.errors import UserError
from aign.recipes.faces_tables import Group, rows
from aign.registry.licences import LicencePolicy, check_policy
from aign.registry.tracking import RunFacts, Tracking, finish, log_files, open_tracking, start_run
from infra.storage import absolute
from pipelines.arguments import parse
from pipelines.commit import commit
from pipelines.origins import of_store
from pipelines.preprocess import preprocess, tell
from pipelines.register import register
from pipelines.reproduce_checks import check_counts, check_out, choose
from pipelines.reproduce_faces_here import ALL, FRAMES, Chosen, chosen_rows, config_of
from pipelines.reproduce_faces_measure import best_seed, measure_all
from pipelines.reproduce_faces_report import OUTPUTS, Faced, draw_terminal, write_all
from pipelines.reproduce_faces_runs import Bench, say
from pipelines.reproduce_runs import Place, train_all
from pipelines.run_folder import Run


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Rebuild the slides' rows of faces: train each bias and the controls, measure, audit, and draw the pictures.

    Without a store, 20 000 faces are rendered. Run again, it goes on
    where it was: finished runs are kept. `--steps 50 --seeds 1 --frames 2000` is a quick look.

    Attributes:
        store: folder or URL of a store of faces; nothing: rendered into OUT/store.
        out: folder that receives everything.
        seeds: how many times each row is trained.
        groups: parts of the table.
        only: keys of rows, of whatever group; nothing: all rows of the groups. A wrong key lists them.
        side_px: of the pictures that are made, 32, 64 or 128; super-resolution starts from a quarter.
        frames: pictures that are rendered.
        steps: training steps of each row; nothing: the recipes' own.
        start: OUT of an earlier table of this size, whose networks go on here for fewer steps: for a store with few
            pictures, such as portraits.
        sweep: sex=female too at several weights of the critic, one seed each, as a plot.
        sweep_steps: training steps of those.
        bfloat16: train the networks in it: twice as fast where the processor or GPU computes it.
        workers: Ray Train workers; 0: this process, without Ray.
        license_policy: permissive: refuse a store that not everybody may use for anything; any: take it.
        champion: register each bias' network, that of the seed which was best on the validation part, as
            superresolution-female and the like; `aign translate` uses those.
        mlflow: folder of the embedded MLflow store, the same each time; MLFLOW_TRACKING_URI wins.
    """

    store: str | None = None
    out: Path = Path("reproduce/faces")
    seeds: int = 3
    groups: tuple[Group, ...] = ALL
    only: tuple[str, ...] = ()
    side_px: int = 64
    frames: int = FRAMES
    steps: int | None = None
    start: Path | None = None
    sweep: bool = False
    sweep_steps: int = 500
    bfloat16: bool = False
    workers: int = 0
    license_policy: LicencePolicy = "any"
    champion: bool = False
    mlflow: Path = Path("mlflow")


def store_of(args: Arguments, out: Path) -> Store:
    """The store that was given, or one that is rendered."""
    if args.store is not None:
        return Store.open(absolute(args.store))
    url = str(out / "store")
    tell(preprocess(plan(FaceOptions(frames=args.frames, side_px=args.side_px)), url), url)
    return Store.open(url)


def _chosen(args: Arguments, store: Store) -> Chosen:
    """Rows that are asked for; a sweep is one more group, whatever else is.

    Raises:
        UserError: what `chosen_rows` raises, or there is no model to register.
    """
    extra: tuple[Group, ...] = ("sweep",) if args.sweep else ()
    groups = tuple(dict.fromkeys((*args.groups, *extra)))
    chosen = chosen_rows(store, args.side_px, groups, args.only)
    if args.sweep and args.only:
        swept = chosen_rows(store, args.side_px, ("sweep",), ()).rows
        by_key = {row.key: row for row in (*chosen.rows, *swept)}
        chosen = Chosen(rows=tuple(by_key.values()), left_out=chosen.left_out)
    if args.champion and not any(row.is_biased for row in chosen.rows):
        asked = " ".join(row.key for row in chosen.rows)
        raise UserError(f"--champion registers rows of a bias, of which there is none in {asked}; add one to --only")
    return chosen


def _crown(bench: Bench, chosen: Chosen, seeds: int, tracking: Tracking) -> None:
    """Register the networks of our rows of a bias."""
    for row in chosen.rows:
        if row.is_biased:
            seed = best_seed(bench, row, seeds)
            told = register(Run.open(bench.run(row, seed).folder), row.model, tracking)
            state = "is the champion" if told.promoted else "is registered"
            print(f"{row.model} version {told.version} (seed {seed}) {state}: {told.reason}")


def _made(args: Arguments, bench: Bench, chosen: Chosen, tracking: Tracking) -> Faced:
    """Train, measure and write everything, as runs of one parent in MLflow."""
    store = bench.store
    facts = RunFacts(recipe="reproduce-faces", store_hash=store.hash, licences=store.manifest.licences, commit=commit())
    parent = start_run(tracking, f"faces {args.steps or 'full'}", config_of(bench), facts)
    place = Place(store=store, out=bench.out, tracking=tracking, parent=parent, workers=args.workers)
    try:
        todo = [place.training(r.row.key, r.row.label, r.recipe) for r in bench.runs(chosen.rows, args.seeds)]
        train_all(todo, place)
        done = Faced(
            measured=measure_all(chosen.rows, bench, args.seeds),
            bench=bench,
            left_out=chosen.left_out,
            commit=commit(),
            tracking_uri=tracking.uri,
        )
        write_all(bench.out, done)
        log_files(tracking, parent, [bench.out / name for name in OUTPUTS if (bench.out / name).exists()])
    except BaseException as error:
        finish(tracking, parent, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    finish(tracking, parent)
    return done


def main(argv: Sequence[str]) -> None:
    """Parse and run."""
    args = parse(Arguments, "aign reproduce faces", argv[1:])
    steps = 1 if args.steps is None else args.steps
    check_counts(args.workers, seeds=args.seeds, steps=steps, frames=args.frames, **{"sweep-steps": args.sweep_steps})
    choose(rows(args.side_px, 0), args.groups, args.only)  # a wrong key is told before anything takes time
    out = args.out.expanduser().absolute()
    out.mkdir(parents=True, exist_ok=True)
    store = store_of(args, out)
    check_policy(args.license_policy, of_store(store))
    bench = Bench(
        store=store,
        out=out,
        side_px=args.side_px,
        steps=args.steps,
        sweep_steps=args.sweep_steps,
        start=args.start.expanduser().absolute() if args.start else None,
        bfloat16=args.bfloat16,
    )
    if args.champion and bench.few and args.seeds > 1:
        raise UserError(
            f"--champion chooses a seed by the validation part, but {store.url} is measured on it too, having few; "
            f"got --seeds {args.seeds}, allowed here is --seeds 1"
        )
    chosen = _chosen(args, store)
    check_out(out, config_of(bench))
    say(f"judge: {bench.judge.name}")  # trained once, before anything else takes time
    tracking = open_tracking(args.mlflow, experiment=f"reproduce faces {store.hash[:8]}")
    done = _made(args, bench, chosen, tracking)
    draw_terminal(Console(), done)
    if args.champion:
        _crown(bench, chosen, args.seeds, tracking)
    print(f"\nwritten to {out}; open {out / 'index.html'}")
