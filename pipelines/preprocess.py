"""Sources into a store, one Ray task per source."""

import functools
import signal
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, TypeAlias

import cv2
import ray
import tyro
from rich.console import Console

from aign.data.datasets.job import Job, run, tables_of
from aign.data.progress import progress
from aign.data.sources import Dataset, SourceOptions, recognise
from aign.data.store import Manifest, PartRecord, Provenance, Quarantined, commit, find_manifest, writing
from aign.data.store.files import list_files, remove_orphans
from aign.framework.errors import UserError
from infra.cluster import cluster, cpus
from infra.storage import absolute
from pipelines.arguments import parse

Result: TypeAlias = Sequence[PartRecord] | Quarantined

RETRIES = 3
"""How often a task is tried again whose worker process died."""
CANCEL_SECONDS = 10.0
TASK_SECONDS = 3600.0
"""Longest time for one source, or one range of a video; minutes are usual."""
TOLD = 12
"""Lines of one kind that are printed before "and more"."""
COMMIT_SHARE = 0.02
"""Committing the manifest takes at most about this share of the driver's time."""


class _Ledger:
    """Enters results into the manifest, and commits it now and then: with many parts a commit takes a while.

    What a killed run did not commit is lost from the manifest, not from the store: the next run finds the parts.
    """

    def __init__(self, url: str, manifest: Manifest) -> None:
        self.bad: list[Quarantined] = []
        self._url, self._manifest = url, manifest
        self._parts: list[PartRecord] = []
        self._committed_bad = 0
        self._next = 0.0

    def enter(self, result: Result) -> None:
        """Take a result in."""
        if isinstance(result, Quarantined):
            self.bad.append(result)
        else:
            self._parts += result
        if time.monotonic() >= self._next:
            self.close()

    def close(self) -> Manifest:
        """Commit what is not committed yet."""
        if not self._parts and len(self.bad) == self._committed_bad:
            return self._manifest
        began = time.monotonic()
        self._manifest = self._manifest.updated(self._parts, self.bad[self._committed_bad :])
        commit(self._url, self._manifest)
        self._parts, self._committed_bad = [], len(self.bad)
        ended = time.monotonic()
        self._next = ended + (ended - began) / COMMIT_SHARE
        return self._manifest


@dataclass(frozen=True, kw_only=True)
class Preprocessed:
    """What a run of preprocessing did."""

    manifest: Manifest
    made: int
    kept: int
    quarantined: tuple[Quarantined, ...]


Origins: TypeAlias = Mapping[str, Mapping[str, Provenance]]
"""By source and table; a source that cannot be read has no tables here. Files are hashed for it, so it is made once."""


def _origins(jobs: Sequence[Job]) -> Origins:
    def of(job: Job) -> Mapping[str, Provenance]:
        try:
            return {table: job.provenance(table) for table in tables_of(job)}
        except UserError:
            return {}  # its task says so in the quarantine

    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
        return dict(zip((job.source for job in jobs), pool.map(of, jobs), strict=True))


def _to_do(
    jobs: Sequence[Job], origins: Origins, manifest: Manifest, numbers: Mapping[str, int], url: str
) -> list[Job]:
    """Jobs of which a part is not there, was cut off, or was made in another way."""
    sizes = list_files(url) if manifest.parts else {}
    made = {(p.part, p.table, p.provenance.hash) for p in manifest.parts if sizes.get(p.path) == p.bytes}

    def is_made(job: Job) -> bool:
        origin = origins[job.source]
        return bool(origin) and all((numbers[job.source], t, p.hash) in made for t, p in origin.items())

    return [job for job in jobs if not is_made(job)]


def _numbers(jobs: Sequence[Job], manifest: Manifest) -> dict[str, int]:
    """Part number of every source: what it had before, or the smallest free one, in the sources' order.

    A run that was stopped, whatever had been finished of it, so goes on with the numbers it had begun with.
    """
    numbers = {group.source: part.part for part in manifest.parts for group in part.row_groups}
    taken = set(numbers.values())
    free = (number for number in count() if number not in taken)
    return numbers | {job.source: next(free) for job in jobs if job.source not in numbers}


def _work(job: Job, url: str, number: int, seconds: float) -> Result:
    """One task: one CPU, so OpenCV gets one thread; and one source must not hold up all others for ever."""
    cv2.setNumThreads(1)
    with _deadline(job.source, seconds):
        return run(job, url, number)


@contextmanager
def _deadline(source: str, seconds: float) -> Iterator[None]:
    """Give up on a source after so long, as on any other that cannot be used.

    Raises:
        UserError: it was not done in time.
    """

    def late(*_: object) -> None:
        raise UserError(
            f"{source}: not done after {seconds:g} s; it may be damaged in a way that its reader loops over"
        )

    before = signal.signal(signal.SIGALRM, late)  # tasks run in the main thread of their process
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _results(jobs: Sequence[Job], url: str, numbers: Mapping[str, int]) -> Generator[Result, None, None]:
    """Run the jobs as tasks with a bounded number in flight; a task that dies with its worker is tried again.

    However this ends, no task is left writing.
    """
    task = ray.remote(num_cpus=1, max_retries=RETRIES, retry_exceptions=[OSError])(_work)
    waiting, flying = list(reversed(jobs)), dict[Any, Job]()
    try:
        while waiting or flying:
            while waiting and len(flying) < 2 * cpus():
                job = waiting.pop()
                flying[task.remote(job, url, numbers[job.source], TASK_SECONDS)] = job
            (reference,), _ = ray.wait(list(flying), num_returns=1)
            yield _result(reference, flying.pop(reference))
    finally:
        if flying:
            # A finished task must not be cancelled: Ray may still be entering its result, and ends the driver over it.
            _, running = ray.wait(list(flying), num_returns=len(flying), timeout=0)
            for reference in running:
                ray.cancel(reference, force=True)
            ray.wait(list(flying), num_returns=len(flying), timeout=CANCEL_SECONDS)


def _result(reference: Any, job: Job) -> Result:
    try:
        result: Result = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None  # our own message, without the worker's traceback
        raise
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        died = f"{job.source}: its worker process died {RETRIES + 1} times ({type(error).__name__}); is it too large?"
        stage = job.provenance(tables_of(job)[0]).stages[-1].name
        return Quarantined(source=job.source, stage=stage, error=died)
    return result


def _fitting(origins: Origins, manifest: Manifest | None, url: str) -> Manifest:
    """The store's manifest, or a new one, once all jobs fit it: a store has one skeleton."""
    manifest = manifest or Manifest(skeleton="", num_joints=0)
    for source, origin in origins.items():
        for got in origin.values():
            if not manifest.skeleton:  # nothing could be read so far
                manifest = replace(manifest, skeleton=got.skeleton, num_joints=got.num_joints)
            if (got.skeleton, got.num_joints) != (manifest.skeleton, manifest.num_joints):
                raise UserError(
                    f"{source} gives skeleton {got.skeleton}; store {url} holds {manifest.skeleton}, and a store "
                    "allows one; name another --store"
                )
    return manifest


def preprocess(jobs: Sequence[Job], url: str, address: str | None = None) -> Preprocessed:
    """Bring a store up to date with its sources: what is there stays, what is broken is quarantined by name.

    Raises:
        UserError: the store cannot be written, another process is writing it, or no source could be used.
    """
    if not jobs:
        raise UserError("got no source to preprocess; at least one is needed")
    with writing(url):
        origins = _origins(jobs)
        manifest = _fitting(origins, find_manifest(url), url)
        numbers = _numbers(jobs, manifest)
        todo = _to_do(jobs, origins, manifest, numbers, url)
        ledger = _Ledger(url, manifest)
        try:
            if todo:
                with (
                    cluster(address),
                    progress(len(todo), f"preprocess into {url}", "sources") as advance,
                    closing(_results(todo, url, numbers)) as results,
                ):
                    for result in results:
                        ledger.enter(result)
                        advance(1)
        except BaseException:
            remove_orphans(url)  # of tasks that were stopped while they wrote
            raise
        finally:
            manifest = ledger.close()
        bad = ledger.bad
    if not manifest.parts:
        raise UserError(f"none of the {len(jobs)} sources could be used: {'; '.join(q.error for q in bad[:3])}")
    return Preprocessed(
        manifest=manifest, made=len(todo) - len(bad), kept=len(jobs) - len(todo), quarantined=tuple(bad)
    )


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Bring a source into a store: clips, keypoints, labels and memory as Parquet.

    Attributes:
        source: a file or folder of any data set below, demo-motions, demo-videos or demo-faces.
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
    """Say what is in the store now, what was left out or dropped, and what could not be used."""
    console = Console(stderr=True)
    say = functools.partial(console.print, highlight=False, markup=False, soft_wrap=True)
    for bad in done.quarantined:
        say(f"quarantined at {bad.stage}: {bad.error}", style="yellow")
    parts = done.manifest.parts
    left_out = {(p.row_groups[0].source, line) for p in parts for line in p.left_out}
    for source, line in sorted(left_out)[:TOLD]:
        say(f"left out of {source}: {line}", style="yellow")
    if len(left_out) > TOLD:
        say(f"left out: {len(left_out) - TOLD} more (aign data doctor {url} lists them)", style="yellow")
    if dropped := sum(len(part.dropped) for part in parts):
        judged = sum(part.rows for part in parts if part.table == "quality")
        say(
            f"dropped for their quality: {dropped} of {judged} clips (aign data doctor {url} shows them)",
            style="yellow",
        )
    tables = ", ".join(
        f"{name} ({sum(p.rows for p in its)} clips, {sum(p.frames for p in its)} frames)"
        for name, its in done.manifest.tables.items()
    )
    say(f"{url}: {done.made} sources added, {done.kept} were there, {len(done.quarantined)} quarantined; {tables}")


def main(argv: Sequence[str]) -> None:
    """Parse and run."""
    args = parse(Arguments, "aign preprocess", argv)
    source = recognise(args.source, args.dataset, args.options)
    console = Console(stderr=True)
    console.print(f"{args.source}: {source.found}", highlight=False, markup=False, soft_wrap=True)
    missing = source.missing
    for line in missing[:TOLD]:
        console.print(f"not there: {line}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    if len(missing) > TOLD:
        console.print(f"not there: {len(missing) - TOLD} more", style="yellow")
    tell(preprocess(source.jobs, absolute(args.store), args.address), args.store)
