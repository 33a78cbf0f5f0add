"""The rows of a table: trained seed by seed, or measured where there is nothing to train; what is done is kept."""

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aign.data.store import Store
from aign.evaluation.baselines.oracle import measure_oracle
from aign.evaluation.baselines.untrained import BASELINES
from aign.evaluation.lifting import View, load_view, measure
from aign.evaluation.report import Provenance, Report
from aign.evaluation.summary import Kind, Measured
from aign.framework.errors import UserError
from aign.recipes.lifting import LiftingRecipe, load_memory
from aign.recipes.lifting_tables import Row
from aign.recipes.tasks import Recipe
from aign.registry.client import client_of, told
from aign.registry.tracking import PARENT_TAG, Tracking
from aign.tasks.lifting.factors import pca
from pipelines.run_folder import FINISHED, alone, check_same, publish
from pipelines.train import run_recipe

ORACLE = "oracle-basis"


@dataclass(frozen=True, kw_only=True)
class Training:
    """One row with one seed.

    Attributes:
        key: of the row.
        label: of the row.
        seed: which.
        recipe: with that seed, and the run's name.
        store_url: what it is trained on.
        folder: of the run.
    """

    key: str
    label: str
    seed: int
    recipe: Recipe
    store_url: str
    folder: Path

    @property
    def finished(self) -> bool:
        """Whether an earlier command has done it."""
        return (self.folder / FINISHED).exists()


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where rows are trained and measured.

    Attributes:
        store: of all data.
        out: folder of the runs' folder.
        tracking: of the runs.
        parent: their parent run.
        workers: of each training; 0: this process.
    """

    store: Store
    out: Path
    tracking: Tracking
    parent: str
    workers: int

    def training(self, key: str, label: str, recipe: Recipe) -> Training:
        """A row to be trained here."""
        folder = self.out / "runs" / recipe.name
        url = self.store.url
        return Training(key=key, label=label, seed=recipe.seed, recipe=recipe, store_url=url, folder=folder)


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def trainings(chosen: Sequence[Row], seeds: int, steps: int | None, place: Place) -> list[Training]:
    """What is to be trained: all keys with a seed before the next seed, each once whatever groups it stands in."""
    recipes: dict[str, tuple[Row, LiftingRecipe]] = {}
    for row in chosen:
        if row.recipe is not None:
            _, recipe = recipes.setdefault(row.key, (row, row.recipe))
            assert recipe == row.recipe, f"rows {row.key} of two groups are one run"
    todo = []
    for seed in range(seeds):
        for key, (row, recipe) in recipes.items():
            named = dataclasses.replace(recipe, seed=seed, name=f"{key}-seed{seed}")
            if steps is not None:
                named = dataclasses.replace(named, fit=dataclasses.replace(named.fit, steps=steps))
            todo.append(place.training(key, row.label, named))
    return todo


@dataclass
class Clock:
    """What is left, from the speed so far.

    Attributes:
        left: steps that are still to be made.
    """

    left: int
    _steps: int = field(init=False, default=0)
    _seconds: float = field(init=False, default=0.0)

    def count(self, steps: int, seconds: float) -> None:
        """A run of so many steps took so long."""
        self.left -= steps
        self._steps += steps
        self._seconds += seconds

    @property
    def text(self) -> str:
        """In words; nothing as long as nothing was measured."""
        if not self._steps:
            return ""
        seconds = self.left * self._seconds / self._steps
        return f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"


def train_all(todo: Sequence[Training], place: Place) -> dict[tuple[str, int], Any]:
    """Train what is not trained yet; reports by row and seed."""
    reports = {}
    clock = Clock(left=sum(t.recipe.fit.steps for t in todo if not t.finished))
    for number, training in enumerate(todo, start=1):
        kept, began = training.finished, time.monotonic()
        state = "finished before" if kept else f"{training.recipe.fit.steps} steps{clock.text}"
        say(f"run {number} of {len(todo)}: {training.label}, seed {training.seed} ({state})")
        run = run_recipe(training.recipe, training.store_url, training.folder, place.tracking, place.workers)
        with told(f"find a run of {place.out} in {place.tracking.uri} (was it begun with another MLflow store?)"):
            client_of(place.tracking.uri).set_tag(run.run_id, PARENT_TAG, place.parent)
        if not kept:
            clock.count(training.recipe.fit.steps, time.monotonic() - began)
        reports[training.key, training.seed] = run.report
    return reports


def kept(folder: Path, config: Mapping[str, Any], read: Callable[[str], Any], make: Callable[[], Any]) -> Any:
    """A report that is measured once and kept in a folder of its own, as runs are.

    Raises:
        UserError: the folder holds the report of other data.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        check_same(folder, config)
        path = folder / "report.json"
        if not path.exists():
            publish(path, make().to_json())
        return read(path.read_text())


def untrained(row: Row, base: LiftingRecipe, store: Store, view: View, folder: Path) -> Report:
    """A row that no network stands behind.

    Raises:
        UserError: no such row, or the folder holds the report of other data.
    """
    if row.key not in (*BASELINES, ORACLE):
        raise UserError(f"row {row.key!r} has no recipe; without one there are {', '.join((*BASELINES, ORACLE))}")
    roles = {"memory": dataclasses.asdict(base.roles.memory), "test": dataclasses.asdict(base.roles.test)}
    components = base.task.lifter.components
    config = {"row": row.key, "store": store.hash, "protocol": base.protocol, "roles": roles, "components": components}

    def make() -> Report:
        memory = load_memory(store, base.roles.memory).canonical_m
        provenance = Provenance(method=row.label, data="test", store_hash=store.hash)
        if row.key == ORACLE:
            return measure_oracle(pca(memory, components), view, base.protocol, provenance)
        return measure(BASELINES[row.key](memory), view, base.protocol, provenance)

    report: Report = kept(folder, config, Report.from_json, make)
    return report


def measure_all(
    chosen: Sequence[Row], base: LiftingRecipe, place: Place, seeds: int, steps: int | None
) -> tuple[Measured, ...]:
    """Every row over its seeds: untrained rows first, as they are quick and need the same data."""
    store = place.store
    data = f"{len(store.sequences(('keypoints', 'labels'), base.roles.test))} held-out sequences"
    data = f"{data}, {', '.join(store.manifest.licences)}"
    given: dict[str, tuple[Report, ...]] = {}
    without = [row for row in chosen if row.recipe is None]
    view = load_view(store, base.roles.test) if without else None
    for number, row in enumerate(without, start=1):
        assert view is not None, "loaded where it is needed"
        say(f"row {number} of {len(without)} without training: {row.label}")
        given[row.key] = (untrained(row, base, store, view, place.out / "runs" / row.key),)
    learned = train_all(trainings(chosen, seeds, steps, place), place)
    for row in chosen:
        if row.recipe is not None:
            given[row.key] = tuple(learned[row.key, seed] for seed in range(seeds))
    return tuple(_measured(row, given[row.key], data) for row in chosen)


def _measured(row: Row, reports: Sequence[Report], data: str) -> Measured:
    """A row as it is printed; a bound says so wherever it stands, and so gets a section of its own."""
    kind: Kind = "trained" if row.recipe else "bound" if row.key == ORACLE else "untrained"
    told_data = f"{data}; a bound that sees the truth" if kind == "bound" else data
    named = tuple(dataclasses.replace(report, method=row.label, data=told_data) for report in reports)
    return Measured(key=row.key, label=row.label, group=row.group, kind=kind, reports=named)
