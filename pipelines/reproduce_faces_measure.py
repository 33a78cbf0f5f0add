"""The rows of the table of faces, measured on the same test pictures; what is measured is kept beside the runs."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import UInt8

from aign.data.progress import progress
from aign.evaluation.faces_protocol import resolve_faces
from aign.evaluation.faces_report import FaceReport
from aign.evaluation.faces_view import FaceView, groups_of
from aign.evaluation.report import Provenance
from aign.evaluation.summary import spread
from aign.framework.errors import UserError
from aign.inference.package import WEIGHTS, load_package
from aign.recipes.faces_tables import BICUBIC, DIFFUSED, FaceRow
from aign.recipes.faces_task import INPAINTING, SUPERRESOLUTION
from aign.recipes.faces_view import (
    FaceMethod,
    bicubic_method,
    diffused_method,
    inpainter_method,
    measure,
    resolver_method,
)
from aign.tasks.faces.inpainting import Inpainter
from aign.training.hooks import logged_lines
from pipelines.reproduce_faces_runs import Bench, FaceRun, seeds_of
from pipelines.run_folder import publish

IDENTITY_CHANGE = "identity_change"
"""Of a report's numbers: how much further from the truth's identity than what was there before; also of each group."""


@dataclass(frozen=True, kw_only=True)
class MeasuredFaces:
    """A row as it is judged by a bias: a report a seed."""

    row: FaceRow
    bias: str
    reports: tuple[FaceReport, ...]

    @property
    def mean(self) -> FaceReport:
        """Over the seeds."""
        return mean_report(self.reports)


def measure_all(
    chosen: Sequence[FaceRow], bench: Bench, seeds: int, device: torch.device | None = None
) -> tuple[MeasuredFaces, ...]:
    """Every row judged by each of its biases, over its seeds.

    Raises:
        UserError: a row is not trained.
    """
    total = sum(len(row.judged_by) * seeds_of(row, seeds) for row in chosen)
    found: dict[tuple[str, str], list[FaceReport]] = {}
    with progress(total, "measure", "reports") as advance:
        for row in chosen:
            for seed in range(seeds_of(row, seeds)):
                method = _Once(bench, row, seed, device or torch.device("cpu"))
                for bias in row.judged_by:
                    found.setdefault((row.key, bias), []).append(_kept(method, bias))
                    advance(1)
    return tuple(
        MeasuredFaces(row=row, bias=bias, reports=tuple(found[row.key, bias]))
        for row in chosen
        for bias in row.judged_by
    )


@dataclass
class _Once:
    """A row's answers, of which the last are kept: several biases judge the same pictures."""

    bench: Bench
    row: FaceRow
    seed: int
    device: torch.device
    _last: tuple[UInt8[np.ndarray, "n a b 3"], UInt8[np.ndarray, "n s s 3"]] | None = None

    @property
    def run(self) -> FaceRun | None:
        """The run that the row is of, if it is trained."""
        return self.bench.run(self.row, self.seed) if self.row.recipe else None

    @property
    def identity(self) -> str:
        """What decides the answers: the weights, or the name of what has none."""
        if self.run is None:
            return self.row.key
        try:
            return hashlib.sha256((self.run.package / WEIGHTS).read_bytes()).hexdigest()
        except OSError as error:
            raise UserError(f"{self.run.folder} is not trained ({error.strerror}); train it first") from error

    def __call__(self, view: FaceView) -> UInt8[np.ndarray, "n s s 3"]:
        if self._last is None or self._last[0] is not view.inputs:
            self._last = view.inputs, method_of(self.bench, self.row, self.seed, self.device)(view)
        return self._last[1]


def method_of(bench: Bench, row: FaceRow, seed: int, device: torch.device | None = None) -> FaceMethod:
    """A row as a way to answer a view."""
    if row.recipe is None:
        return {BICUBIC: bicubic_method, DIFFUSED: diffused_method}[row.key](bench.store, None)
    net, _ = load_package(bench.run(row, seed).package)
    method = inpainter_method if isinstance(net, Inpainter) else resolver_method
    return method(net.to(device or torch.device("cpu")))


def _kept(method: _Once, bias: str) -> FaceReport:
    """A report that is measured once, for as long as weights, judge and pictures are the same."""
    bench, row = method.bench, method.row
    task = INPAINTING if row.group == "inpainting" else SUPERRESOLUTION
    what = [row.key, method.identity, bias, bench.store.hash, resolve_faces(task.protocol).hash, bench.side_px]
    digest = hashlib.sha256(json.dumps([*what, dict(bench.judge.facts)], sort_keys=True).encode()).hexdigest()
    folder = bench.out / "measured" / f"{row.key}-seed{method.seed}"
    path = folder / f"{re.sub(r'[^a-z0-9]+', '-', bias)}-{digest[:12]}.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        view = bench.view(row, bias)
        provenance = Provenance(method=row.label, data="test", store_hash=bench.store.hash)
        report = measure(method, view, task.protocol, provenance)
        publish(path, with_identity(report, method(view), view).to_json())
    return FaceReport.from_json(path.read_text())


def with_identity(report: FaceReport, images: UInt8[np.ndarray, "n s s 3"], view: FaceView) -> FaceReport:
    """The report with how much further from the truth's identity the pictures are than what was there before.

    Of everybody, and of each group of people: cosine distances, where the judge knows identities.
    """
    truth, before = view.read_truth, view.read_before
    if view.judge is None or truth is None or before is None:
        return report
    after = view.judge.read(images).embedding
    if after is None or truth.embedding is None or before.embedding is None:
        return report
    further = ((before.embedding - after) * truth.embedding).sum(1).astype(np.float64)
    parts_of = {IDENTITY_CHANGE: np.ones(len(further), bool)}
    parts_of |= {f"{IDENTITY_CHANGE} {group}": which for group, which in groups_of(view).items()}
    numbers = {name: float(further[which].mean()) for name, which in parts_of.items()}
    counts = {name: int(which.sum()) for name, which in parts_of.items()}
    return replace(report, numbers={**report.numbers, **numbers}, counts={**report.counts, **counts})


def mean_report(reports: Sequence[FaceReport]) -> FaceReport:
    """Means over seeds of everything that all of them have."""

    def mean(tables: Sequence[Mapping[str, float]]) -> dict[str, float]:
        shared = [name for name in tables[0] if all(name in table for table in tables)]
        return {name: spread([table[name] for table in tables]).mean for name in shared}

    first = reports[0]
    return replace(
        first,
        numbers=mean([r.numbers for r in reports]),
        audit={name: mean([r.audit[name] for r in reports]) for name in first.audit},
        groups={name: mean([r.groups[name] for r in reports]) for name in first.groups},
    )


def best_seed(bench: Bench, row: FaceRow, seeds: int) -> int:
    """The seed that was best on the validation part when its training ended: the test part chooses nothing."""

    def value(seed: int) -> float:
        lines = [json.loads(line) for line in logged_lines(bench.run(row, seed).folder)]
        of_target = [line["val/target_points"] for line in lines if "val/target_points" in line]
        return float(of_target[-1]) if of_target else -math.inf

    return max(range(seeds), key=value)
