"""Sources into a store, one Ray task per source."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import tyro
from rich.console import Console

from aign.data.datasets.job import Job, run
from aign.data.progress import progress
from aign.data.sources import Dataset, SourceOptions, plan
from aign.data.store import Manifest, PartRecord, Quarantined, commit, find_manifest, writing
from aign.framework.errors import UserError
from infra.cluster import cluster, cpus
from infra.storage import absolute


@dataclass(frozen=True, kw_only=True)
class Preprocessed:
    """What a run of preprocessing did."""

    manifest: Manifest
    made: int
    kept: int
    quarantined: tuple[Quarantined, ...]


def _is_done(job: Job, manifest: Manifest, numbers: dict[str, int]) -> bool:
    wanted = job.provenance().hash
    made = {p.table for p in manifest.parts if p.part == numbers[job.source] and p.provenance.hash == wanted}
    return {table for group in job.table_groups for table in group} <= made


def _numbers(jobs: Sequence[Job], manifest: Manifest) -> dict[str, int]:
    """Part number of every source: what it had before, or the next free one."""
    numbers = {group.source: part.part for part in manifest.parts for group in part.row_groups}
    free = max(numbers.values(), default=-1) + 1
    for job in jobs:
        if job.source not in numbers:
            numbers[job.source], free = free, free + 1
    return numbers


def _results(jobs: Sequence[Job], url: str, numbers: dict[str, int]) -> Iterator[tuple[PartRecord, ...] | Quarantined]:
    """Run the jobs as tasks with a bounded number in flight; a task that dies with its worker is tried again."""
    task = ray.remote(num_cpus=1, max_retries=3, retry_exceptions=[OSError])(run)
    waiting, flying = list(reversed(jobs)), set[Any]()
    while waiting or flying:
        while waiting and len(flying) < 2 * cpus():
            job = waiting.pop()
            flying.add(task.remote(job, url, numbers[job.source]))
        ready, _ = ray.wait(list(flying), num_returns=1)
        flying -= set(ready)
        for reference in ready:
            try:
                yield ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None  # our own message, without the worker's traceback


def preprocess(jobs: Sequence[Job], url: str, address: str | None = None) -> Preprocessed:
    """Bring a store up to date with its sources: what is there stays, what is broken is quarantined by name.

    Raises:
        UserError: the store cannot be written, another process is writing it, or no source could be used.
    """
    if not jobs:
        raise UserError("got no source to preprocess; at least one is needed")
    shape = jobs[0].provenance()
    with writing(url):
        manifest = find_manifest(url) or Manifest(skeleton=shape.skeleton, num_joints=shape.num_joints)
        numbers = _numbers(jobs, manifest)
        todo = [job for job in jobs if not _is_done(job, manifest, numbers)]
        bad: list[Quarantined] = []
        if todo:
            with cluster(address), progress(len(todo), f"preprocess into {url}", "sources") as advance:
                for result in _results(todo, url, numbers):
                    if isinstance(result, Quarantined):
                        bad.append(result)
                        manifest = manifest.updated((), [result])
                    else:
                        manifest = manifest.updated(result)
                    commit(url, manifest)
                    advance(1)
    if not manifest.parts:
        raise UserError(f"none of the {len(jobs)} sources could be used: {'; '.join(q.error for q in bad[:3])}")
    return Preprocessed(
        manifest=manifest, made=len(todo) - len(bad), kept=len(jobs) - len(todo), quarantined=tuple(bad)
    )


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Bring a source into a store: clips, keypoints, labels and memory as Parquet.

    Attributes:
        source: a file or folder (videos, BVH/AMASS/DeepMimic motion, data_3d_h36m.npz), demo-motions or demo-videos.
        store: folder or fsspec URL of the store.
        dataset: how to read the source; auto decides by what is there.
        options: of the data set.
        address: of a running Ray cluster; else RAY_ADDRESS, else a local one.
    """

    source: tyro.conf.Positional[str]
    store: str
    dataset: Dataset = "auto"
    options: tyro.conf.OmitArgPrefixes[SourceOptions] = SourceOptions()
    address: str | None = None


def tell(done: Preprocessed, url: str) -> None:
    """Say what is in the store now and what could not be used."""
    console = Console(stderr=True)
    for bad in done.quarantined:
        console.print(f"quarantined at {bad.stage}: {bad.error}", style="yellow", highlight=False, soft_wrap=True)
    tables = ", ".join(
        f"{name} ({sum(p.rows for p in parts)} clips, {sum(p.frames for p in parts)} frames)"
        for name, parts in done.manifest.tables.items()
    )
    console.print(
        f"{url}: {done.made} sources added, {done.kept} were there, {len(done.quarantined)} quarantined; {tables}",
        highlight=False,
        soft_wrap=True,
    )


def main(argv: Sequence[str]) -> None:
    """Parse and run."""
    args = tyro.cli(Arguments, prog="aign preprocess", args=list(argv))
    jobs = plan(args.source, args.dataset, args.options)
    tell(preprocess(jobs, absolute(args.store), args.address), args.store)
