"""The table of faces without Ray, MLflow and tyro: for a machine that has torch, a GPU, and little else.

    python -m pipelines.reproduce_faces_here --frames 20000 --out OUT --device cuda

What it leaves in OUT is taken by `aign reproduce faces --out OUT --store OUT/store`, which enters it into MLflow.
"""

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from aign.data.datasets.faces.rendered_faces import FaceOptions, plan
from aign.data.datasets.job import Job, run
from aign.data.progress import progress
from aign.data.store import Manifest, PartRecord, Quarantined, Store, commit
from aign.framework.errors import UserError
from aign.geometry.skeleton import FACE5
from aign.recipes.faces_tables import GROUPS, IDENTITY_ROW, FaceRow, Group, available, most_pictured, rows
from pipelines.reproduce_checks import check_counts, check_out, choose
from pipelines.reproduce_faces_measure import measure_all
from pipelines.reproduce_faces_report import Faced, write_all
from pipelines.reproduce_faces_runs import Bench, train_here

FRAMES = 20_000
ALL: tuple[Group, ...] = ("superresolution", "inpainting")
"""Groups that are made where nobody names any."""


def rendered_here(url: str, frames: int, side_px: int, processes: int | None = None) -> Store:
    """A store of faces, rendered by processes of this machine; what is there is not rendered again.

    Raises:
        UserError: a picture cannot be made, or the store cannot be written.
    """
    jobs = plan(FaceOptions(frames=frames, side_px=side_px))
    records: list[PartRecord] = []
    with ProcessPoolExecutor(processes or os.cpu_count()) as pool, progress(len(jobs), "render", "jobs") as advance:
        for made in pool.map(partial(_made, url), jobs, range(len(jobs))):
            if isinstance(made, Quarantined):
                raise UserError(f"{made.source} cannot be rendered: {made.error}")
            records += made
            advance(1)
    commit(url, Manifest(skeleton=FACE5.name, num_joints=len(FACE5)).updated(records))
    return Store.open(url)


def _made(url: str, job: Job, number: int) -> Sequence[PartRecord] | Quarantined:
    return run(job, url, number)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Rows to be made, and those that the store has nothing for, with the reason, a line each."""

    rows: tuple[FaceRow, ...]
    left_out: tuple[str, ...]


def chosen_rows(store: Store, side_px: int, groups: Sequence[Group], only: Sequence[str]) -> Chosen:
    """The rows of groups, or those that are named.

    Raises:
        UserError: an unknown key, no such size, or the store has nothing for a row that is named.
    """
    person = most_pictured(store)
    there, lacking = available(rows(side_px, person), store)
    if person is None:
        lacking[IDENTITY_ROW] = "nobody has enough pictures in the training part"
    if wrong := [f"{key}: {lacking[key]}" for key in only if key in lacking]:
        raise UserError(f"got --only {wrong[0]}")
    groups_of = {row.key: row.group for row in rows(side_px, -1)}
    told = tuple(f"{key}: {why}" for key, why in lacking.items() if not only and groups_of[key] in groups)
    return Chosen(rows=choose(there, groups, only), left_out=told)


def reproduce_here(bench: Bench, chosen: Chosen, seeds: int, device: torch.device) -> Faced:
    """Train, measure and write everything.

    Raises:
        UserError: OUT was begun otherwise, or what the parts raise.
    """
    bench.out.mkdir(parents=True, exist_ok=True)
    check_out(bench.out, config_of(bench))
    _ = bench.judge  # trained once, before anything else takes time
    train_here(bench.runs(chosen.rows, seeds), bench, device)
    done = Faced(measured=measure_all(chosen.rows, bench, seeds, device), bench=bench, left_out=chosen.left_out)
    write_all(bench.out, done)
    return done


def config_of(bench: Bench) -> dict[str, str | int | None]:
    """What a folder belongs to."""
    begun = {} if bench.start is None else {"start": str(bench.start)}
    lean = {"bfloat16": "yes"} if bench.bfloat16 else {}
    return {
        "table": "faces",
        "store": bench.store.hash,
        "side_px": bench.side_px,
        "steps": bench.steps,
        **begun,
        **lean,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="folder of a store; nothing: rendered into OUT/store")
    parser.add_argument("--out", type=Path, default=Path("reproduce/faces"))
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--side-px", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--start", type=Path, help="folder of an earlier table, whose networks go on here")
    parser.add_argument("--sweep-steps", type=int, default=500)
    parser.add_argument("--bfloat16", action="store_true", help="train in it, where the processor or GPU computes it")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=ALL)
    parser.add_argument("--only", nargs="+", default=())
    parser.add_argument("--train-only", action="store_true", help="so that several processes share the rows")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    args = parser.parse_args(argv)
    check_counts(0, seeds=args.seeds, frames=args.frames, steps=1 if args.steps is None else args.steps)
    out = args.out.expanduser().absolute()
    store = Store.open(args.store) if args.store else rendered_here(str(out / "store"), args.frames, args.side_px)
    bench = Bench(
        store=store,
        out=out,
        side_px=args.side_px,
        steps=args.steps,
        sweep_steps=args.sweep_steps,
        start=args.start.expanduser().absolute() if args.start else None,
        bfloat16=args.bfloat16,
    )
    chosen = chosen_rows(store, args.side_px, args.groups, args.only)
    if args.train_only:
        train_here(bench.runs(chosen.rows, args.seeds), bench, args.device)
        return
    reproduce_here(bench, chosen, args.seeds, args.device)


if __name__ == "__main__":
    main()
