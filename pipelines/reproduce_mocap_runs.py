"""The rows of the motion-capture table: supervised on the source, then everything else on the target."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from aign.data.store import Selection, Store
from aign.evaluation.body_view import BodyMethod, BodyView
from aign.evaluation.mocap_report import MocapReport
from aign.evaluation.report import Provenance
from aign.inference.package import load_package
from aign.recipes.mocap import PROTOCOL, MocapRecipe, load_bodies, parts
from aign.recipes.mocap_tables import SUPERVISED, Domains, MocapRow, supervised, target_shares
from aign.recipes.mocap_task import FITS, MOTION_CAPTURE
from aign.tasks.motion_capture.memory import remember
from pipelines.reproduce_runs import Place, Training, kept, say, train_all


@dataclass(frozen=True, kw_only=True)
class MeasuredRow:
    """A row and its reports, one a seed, all of the target's test part."""

    row: MocapRow
    reports: tuple[MocapReport, ...]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where rows are trained and measured.

    Attributes:
        place: with the target as its store.
        domains: whose target it is.
        side_px: of the networks.
        steps: of each row in place of the recipes' own, or None.
    """

    place: Place
    domains: Domains
    side_px: int
    steps: int | None

    @cached_property
    def test(self) -> Selection:
        """The target's clips that every row is measured on."""
        return parts(self.place.store, target_shares(self.domains)).test

    @cached_property
    def view(self) -> BodyView:
        """Their frames; read where a row needs them."""
        view: BodyView = MOTION_CAPTURE.view(self.place.store, self.test, None)
        return view

    def training(self, row_key: str, label: str, recipe: MocapRecipe, seed: int) -> Training:
        """A row with a seed; what is trained on the target goes on from that seed's supervised network."""
        fit = recipe.fit if self.steps is None else dataclasses.replace(recipe.fit, steps=self.steps)
        named = dataclasses.replace(recipe, seed=seed, name=f"{row_key}-seed{seed}", fit=fit)
        if row_key == SUPERVISED:
            training = self.place.training(row_key, label, named)
            return dataclasses.replace(training, store_url=self.domains.source_url)
        start = str(package(self.place.out, SUPERVISED, seed))
        return self.place.training(row_key, label, dataclasses.replace(named, start=start))


def package(out: Path, key: str, seed: int) -> Path:
    """The model of a row and seed."""
    return out / "runs" / f"{key}-seed{seed}" / "package"


def measure_all(chosen: Sequence[MocapRow], bench: Bench, seeds: int) -> tuple[MeasuredRow, ...]:
    """Every row over its seeds."""
    fits = {row.key: row for row in chosen if row.recipe is None}
    found = {(key, 0): _fit(row, bench) for key, row in fits.items()}
    trained = [row for row in chosen if row.recipe is not None]
    recipes: dict[str, tuple[str, MocapRecipe]] = {}
    if trained:  # what the others go on from, asked for or not
        recipes[SUPERVISED] = ("supervised", supervised(bench.domains, bench.side_px))
    for row in trained:
        assert row.recipe is not None, "chosen so"
        recipes.setdefault(row.key, (row.label, row.recipe))
    todo = [
        bench.training(key, label, recipe, seed) for seed in range(seeds) for key, (label, recipe) in recipes.items()
    ]
    found.update(train_all(todo, bench.place))
    if SUPERVISED in {row.key for row in chosen}:
        found.update({(SUPERVISED, seed): _carried_over(seed, bench) for seed in range(seeds)})
    return tuple(
        MeasuredRow(row=row, reports=tuple(found[row.key, seed] for seed in range(seeds if row.recipe else 1)))
        for row in chosen
    )


def _fit(row: MocapRow, bench: Bench) -> MocapReport:
    """A row without a network, which remembers the poses that the networks' critics do."""
    domains = bench.domains
    source = Store.open(domains.source_url)

    def make() -> MocapReport:
        bodies = load_bodies(source, Selection(actions=domains.source_actions or None))
        return _measured(FITS[row.key](remember(bodies, 1)), row.key, bench)

    say(f"row without training: {row.label}")
    return _kept(bench.place.out / "runs" / row.key, {"row": row.key, "memory": source.hash}, bench, make)


def _carried_over(seed: int, bench: Bench) -> MocapReport:
    """The supervised network of a seed, on pictures of the other domain."""
    trained = package(bench.place.out, SUPERVISED, seed)

    def make() -> MocapReport:
        return _measured(MOTION_CAPTURE.method(load_package(trained)[0]), SUPERVISED, bench)

    folder = trained.parent.with_name(f"{SUPERVISED}-seed{seed}-on-target")
    return _kept(folder, {"row": SUPERVISED, "package": str(trained)}, bench, make)


def _kept(folder: Path, config: dict[str, str], bench: Bench, make: Callable[[], MocapReport]) -> MocapReport:
    measured_on = {"store": bench.place.store.hash, "test": list(bench.test.sequences or ()), "protocol": PROTOCOL}
    report: MocapReport = kept(folder, {**config, **measured_on}, MocapReport.from_json, make)
    return report


def _measured(method: BodyMethod, name: str, bench: Bench) -> MocapReport:
    provenance = Provenance(method=name, data="test", store_hash=bench.place.store.hash)
    report: MocapReport = MOTION_CAPTURE.measure(method, bench.view, PROTOCOL, provenance)
    return report
