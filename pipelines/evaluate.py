"""Models and baselines measured on a store under a named protocol."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import tyro
from rich.console import Console

from aign.data.actions import ACTIONS_15
from aign.data.store import Selection, Store
from aign.evaluation.baselines.untrained import BASELINES
from aign.evaluation.lifting import Method, lifter_method, load_view, measure
from aign.evaluation.protocol import SLIDE_PROTOCOLS, Protocol, resolve
from aign.evaluation.published import CANDIDATES, SLIDE, Keypoints, PublishedTable, keypoints_of
from aign.evaluation.report import Provenance, Report
from aign.evaluation.table_model import ErrorTable
from aign.evaluation.tables import error_table, render_csv, render_html, render_markdown, render_rich, slide_table
from aign.framework.errors import UserError
from aign.inference.package import load_card, load_package
from aign.recipes.lifting import load_memory
from aign.registry import models
from aign.registry.tracking import open_tracking
from infra.storage import absolute
from pipelines.arguments import parse
from pipelines.run_folder import publish

BASELINE = "baseline:"
"""Before the name of one that is not trained."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Measure models on a store; one row of the table each.

    Attributes:
        models: run folders, package folders, models:/NAME@ALIAS, baseline:mean-pose, baseline:nearest-pose,
            baseline:monocap.
        store: folder or fsspec URL of the store.
        protocol: id of the protocol; a wrong one lists them all.
        test: which clips; nothing: those the first model was tested on.
        memory: which motion the baselines remember; nothing: what the first model remembered.
        keypoints: which 2D the store has, and so which of the slides' tables is printed beside ours; auto: as the store
            says; none: print none of them.
        out: folder that receives table.md, table.html, table.csv and a report per row, numbered as the rows are.
        mlflow: folder of the embedded MLflow store that models:/ names; MLFLOW_TRACKING_URI wins.
    """

    models: tyro.conf.Positional[tuple[str, ...]]
    store: str
    protocol: str = "open-motion/heldout/j17/root0"
    test: Selection = field(default_factory=Selection)
    memory: Selection = field(default_factory=Selection)
    keypoints: Literal["auto", "ground-truth", "detected", "none"] = "auto"
    out: Path | None = None
    mlflow: Path = Path("mlflow")


def package_folder(model: str, mlflow: Path) -> Path:
    """The package of a run folder, a package folder or a registered model."""
    if model.startswith("models:/"):
        return models.pull(open_tracking(mlflow), model, mlflow / "pulled")
    folder = Path(model).expanduser()
    return folder / "package" if (folder / "package").is_dir() else folder


def _method(model: str, folder: Path | None, store: Store, memory: Selection) -> tuple[str, Method]:
    if folder is None:
        name = model.removeprefix(BASELINE)
        return name, BASELINES[name](load_memory(store, memory).canonical_m)
    lifter, card = load_package(folder)
    return card.recipe, lifter_method(lifter, torch.device("cpu"))


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Reports of all models on the same frames, and the slide's rows that may stand beside them."""

    reports: tuple[Report, ...]
    published: PublishedTable | None

    @property
    def table(self) -> ErrorTable:
        """The slide's table with all it may have aligned, or one table of the protocol's headline."""
        if self.reports[0].protocol in SLIDE_PROTOCOLS:
            return slide_table(self.reports, self.published)
        headline = next(iter(self.reports[0].scores))
        human36m = all(set(r.frames_per_action) <= set(ACTIONS_15) for r in self.reports)
        beside = self.published if human36m and headline in CANDIDATES else None
        return error_table(self.reports, published=beside)


def _published(args: Arguments, store: Store, test: Selection, protocol: Protocol) -> PublishedTable | None:
    if args.keypoints == "none":
        return None
    told: Keypoints | None = keypoints_of(store.manifest, test) if args.keypoints == "auto" else args.keypoints
    if told is None and protocol.id in SLIDE_PROTOCOLS:
        raise UserError(
            f"it is not known whether the keypoints of {store.url} are projected or detected (it does not say, or says "
            f"both), and which rows of the slides belong beside {protocol.id}; say --keypoints ground-truth, detected "
            "or none"
        )
    return None if told is None else SLIDE[told]


def evaluate_all(args: Arguments) -> list[Report]:
    """A report for every model, on the same frames."""
    return list(evaluated(args).reports)


def evaluated(args: Arguments) -> Evaluated:
    """A report for every model, on the same frames, and the slide's rows.

    Raises:
        UserError: an unknown model or protocol, nothing selected, or what the keypoints are has to be said.
    """
    if not args.models:
        raise UserError("name at least one model")
    known = [f"{BASELINE}{name}" for name in BASELINES]
    unknown = [m for m in args.models if m.startswith(BASELINE) and m not in known]
    if unknown:
        raise UserError(f"unknown {unknown[0]}; allowed: {', '.join(known)}")
    protocol = resolve(args.protocol)
    store = Store.open(absolute(args.store))
    folders = {m: package_folder(m, args.mlflow) for m in args.models if m not in known}
    test, memory = args.test, args.memory
    if folders:
        card = load_card(next(iter(folders.values())))
        test = card.role("test") if test == Selection() else test
        memory = card.role("memory") if memory == Selection() else memory
    elif Selection() in (test, memory):
        raise UserError("baselines alone need to be told --test... and --memory...")
    published = _published(args, store, test, protocol)
    view = load_view(store, test)
    data = f"{len(set(view.rows.sequence.tolist()))} sequences of {', '.join(store.manifest.licences)}"
    reports = []
    for model in args.models:
        name, method = _method(model, folders.get(model), store, memory)
        provenance = Provenance(method=name, data=data, store_hash=store.hash)
        reports.append(measure(method, view, args.protocol, provenance))
    return Evaluated(reports=tuple(reports), published=published)


def main(argv: Sequence[str]) -> None:
    """Parse, measure, print."""
    args = parse(Arguments, "aign evaluate", argv)
    done = evaluated(args)
    table = done.table
    console = Console()
    console.print(render_rich(table, width=console.width))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        publish(args.out / "table.md", render_markdown(table))
        publish(args.out / "table.html", render_html(table))
        publish(args.out / "table.csv", render_csv(table))
        for number, report in enumerate(done.reports):
            publish(args.out / f"{number:02d}-{report.method}.json", report.to_json())
        print(f"written to {args.out}")
