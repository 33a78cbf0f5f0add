"""`aign reproduce mocap`: the slides' table of motion capture, its ladder of terms, and the picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from aign.data.sources import SourceOptions, plan
from aign.data.store import Store
from aign.framework.errors import UserError
from aign.recipes.mocap import parts
from aign.recipes.mocap_tables import OURS, Domains, Group, rows, supervised, target_shares
from aign.registry.licences import LicencePolicy, check_policy
from aign.registry.tracking import RunFacts, Tracking, finish, log_files, open_tracking, start_run
from infra.storage import absolute
from pipelines.arguments import parse
from pipelines.commit import commit
from pipelines.origins import of_store
from pipelines.preprocess import preprocess, tell
from pipelines.register import register
from pipelines.reproduce_checks import check_counts, check_out, choose
from pipelines.reproduce_mocap_report import OUTPUTS, Captured, draw_terminal, write_all
from pipelines.reproduce_mocap_runs import Bench, measure_all, package
from pipelines.reproduce_runs import Place
from pipelines.run_folder import Run

SOURCE_ACTIONS = (
    *("walk_forward", "kick", "punch", "roll", "turn_right", "crawl", "getup_faceup", "dance_a", "run", "spin"),
)
TARGET_ACTIONS = (*("walk", "jump", "spinkick", "dance_b", "turn_left", "cartwheel", "backflip", "getup_facedown"),)
"""Of the embedded motions: nobody moves alike in both domains."""
STORED_PX = 128
CLIP_FRAMES = {"source": 8, "target": 16}
SEEDS = {"source": 1, "target": 2}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Rebuild the slides' table of motion capture: fits, supervised, self-supervised; print and draw it.

    Without stores, people are rendered in two domains that differ in motion, light, clothes, cameras and body shapes.
    Run again, it goes on where it was: finished runs are kept. On one core the supervised network takes about 12
    minutes a seed, each other row 3 to 6. `--steps 50 --seeds 1 --frames 2000` is a quick look.

    Attributes:
        source: folder or URL of a labelled store (synthetic, SURREAL); nothing: rendered into OUT/stores.
        target: folder or URL of a store with pictures, keypoints, masks and flow that nobody labelled; its bodies,
            where it has them, are for the judge alone. Nothing: rendered.
        out: folder that receives everything.
        seeds: how many times each row is trained.
        groups: parts of the table.
        only: keys of rows, of whatever group; nothing: all rows of the groups. A wrong key lists them.
        side_px: of the crop that the networks see: 32, 64, 128 or 256.
        frames: pictures that are rendered of the source; the target has 2 for 5 of them.
        steps: training steps of each row; nothing: the recipes' own.
        workers: Ray Train workers; 0: this process, without Ray.
        license_policy: permissive: refuse a store that not everybody may use for anything; any: take it.
        champion: register the self-supervised network of seed 0 as motion_capture, which makes it the champion where it
            is better than the one there; `aign capture` uses that.
        mlflow: folder of the embedded MLflow store, the same each time; MLFLOW_TRACKING_URI wins.
    """

    source: str | None = None
    target: str | None = None
    out: Path = Path("reproduce/mocap")
    seeds: int = 3
    groups: tuple[Group, ...] = ("methods", "ladder", "ablation")
    only: tuple[str, ...] = ()
    side_px: int = 64
    frames: int = 24_000
    steps: int | None = None
    workers: int = 0
    license_policy: LicencePolicy = "any"
    champion: bool = False
    mlflow: Path = Path("mlflow")


def rendered(domain: str, frames: int, out: Path) -> str:
    """A store of rendered people in OUT/stores; made where it is not there."""
    url = str(out / "stores" / domain)
    options = SourceOptions(
        keypoints="detector",
        domain="source" if domain == "source" else "target",
        frames=frames,
        clip_frames=CLIP_FRAMES[domain],
        side_px=STORED_PX,
        seed=SEEDS[domain],
    )
    tell(preprocess(plan("demo-motions", "synthetic", options), url), url)
    return url


def domains_of(args: Arguments, out: Path) -> Domains:
    """The stores that were given; those that were not are rendered."""
    return Domains(
        source_url=absolute(args.source) if args.source else rendered("source", args.frames, out),
        target_url=absolute(args.target) if args.target else rendered("target", args.frames * 2 // 5, out),
        source_actions=() if args.source else SOURCE_ACTIONS,
        target_actions=() if args.target else TARGET_ACTIONS,
    )


def _crown(out: Path, tracking: Tracking) -> None:
    """Register what was learnt of everything, as the model that `aign capture` takes."""
    run = Run.open(package(out, OURS, 0).parent)
    told = register(run, run.task.name, tracking)
    state = "is the champion" if told.promoted else "is registered"
    print(f"{run.task.name} version {told.version} {state}: {told.reason}")


def main(argv: Sequence[str]) -> None:
    """Parse and run."""
    args = parse(Arguments, "aign reproduce mocap", argv[1:])
    check_counts(args.workers, seeds=args.seeds, steps=1 if args.steps is None else args.steps, frames=args.frames)
    if args.champion and args.only and OURS not in args.only:
        raise UserError(
            f"--champion registers {OURS}, which --only leaves out; allowed: with {OURS}, or without --only"
        )
    out = args.out.expanduser().absolute()
    out.mkdir(parents=True, exist_ok=True)
    given = {"--source": args.source, "--target": args.target}
    for name, url in given.items():
        if url:
            check_policy(args.license_policy, of_store(Store.open(absolute(url)), f"{name} store"))
    domains = domains_of(args, out)
    source, target = Store.open(domains.source_url), Store.open(domains.target_url)
    chosen = choose(rows(domains, args.side_px), args.groups, args.only)
    config: dict[str, Any] = {
        "table": "mocap", "source": source.hash, "target": target.hash, "side_px": args.side_px, "steps": args.steps,
    }  # fmt: skip
    check_out(out, config)
    for store, shares in ((source, supervised(domains, args.side_px).shares), (target, target_shares(domains))):
        parts(store, shares)  # a store that is too small is refused before anything takes time
    tracking = open_tracking(args.mlflow, experiment=f"reproduce mocap {target.hash[:8]}")
    licences = tuple(dict.fromkeys((*source.manifest.licences, *target.manifest.licences)))
    facts = RunFacts(recipe="reproduce-mocap", store_hash=target.hash, licences=licences, commit=commit())
    parent = start_run(tracking, f"mocap {args.steps or 'full'}", config, facts)
    place = Place(store=target, out=out, tracking=tracking, parent=parent, workers=args.workers)
    try:
        bench = Bench(place=place, domains=domains, side_px=args.side_px, steps=args.steps)
        done = Captured(measured=measure_all(chosen, bench, args.seeds), bench=bench, source=source, target=target)
        write_all(out, done)
        log_files(tracking, parent, [out / name for name in OUTPUTS if (out / name).exists()])
    except BaseException as error:
        finish(tracking, parent, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    finish(tracking, parent)
    draw_terminal(Console(), done)
    if args.champion:
        _crown(out, tracking)
    print(f"\nwritten to {out}; open {out / 'index.html'}")
