"""Super-resolution and inpainting of faces, as the pipelines see them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import nn

from aign.data.store import Selection, Store
from aign.evaluation.faces import FAITHFUL, can_tell
from aign.evaluation.faces_protocol import resolve_faces
from aign.evaluation.faces_report import FaceReport
from aign.evaluation.faces_table import face_table
from aign.evaluation.faces_view import FaceView, read_faces
from aign.evaluation.mocap_table import render_csv, render_html, render_markdown
from aign.evaluation.mocap_terminal import render_terminal
from aign.evaluation.paired import Units
from aign.evaluation.report import Provenance
from aign.evaluation.trials import Goal, Metric
from aign.framework.errors import UserError
from aign.inference.package import ModelCard, Network, load_card
from aign.recipes.faces import (
    INPAINTING_PROTOCOL,
    SUPERRESOLUTION_PROTOCOL,
    VALIDATED,
    FaceRecipe,
    FaceTraining,
    InpaintingRecipe,
    SuperResolutionRecipe,
    first_pictures,
    inpainter_config,
    parts,
    prepare_inpainting,
    prepare_superresolution,
    resolver_config,
)
from aign.recipes.faces_view import (
    FaceMethod,
    bicubic_method,
    diffused_method,
    hole_view,
    inpainter_method,
    judge_of,
    low_view,
    measure,
    resolver_method,
)
from aign.recipes.task import Drawn, Headline, KeypointChoice, Sources, Task
from aign.tasks.faces.bias import parse_bias
from aign.tasks.faces.inpainting import SIDES, InpainterConfig
from aign.tasks.faces.labels import read_labels
from aign.tasks.faces.superresolution import SuperResolverConfig, forth_alone
from aign.training import Hooks

EXAMPLES = 4
AUDITED = 10
"""Attributes that stand on a model's card, those that moved most; the report has all."""
R = TypeVar("R", bound=FaceRecipe)


def _label(recipe: FaceRecipe) -> str:
    return f"bias {recipe.bias or 'none'}; "


def _located(recipe: R, _: Callable[[str], str], model: Callable[[str], str]) -> R:
    return replace(recipe, start=model(recipe.start) if recipe.start else "")


def _goal(recipe: FaceRecipe, store: Store) -> Goal:
    """What the bias asks for, against faithfulness; without one, how real the pictures are.

    Never faithfulness alone: whoever chooses by it chooses weights of 0 for the critic.
    """
    faithful, target = Metric(name=f"val/{FAITHFUL}", higher=True), parse_bias(recipe.bias)
    if target.none:
        return Goal(metric=Metric(name="val/kid"), traded=(faithful,))
    judge = judge_of(store)
    if not can_tell(judge, target):
        raise UserError(
            f"got bias {recipe.bias}, which the judge of {store.url} cannot tell, so there is nothing to choose by; it "
            f"tells {', '.join(judge.names)}"
        )
    metric = Metric(name=f"val/{resolve_faces(recipe.protocol).headline}", higher=True)
    return Goal(metric=metric, traded=(faithful, Metric(name="val/drift_sd")))


def _sources(recipe: FaceRecipe, store: Store) -> Sources:
    """Pictures that are remembered and those that are seen are of the same sequences, but never the same ones."""
    parse_bias(recipe.bias)
    found = parts(store, recipe.data_sets)
    origins = {f"store {store.url}": store.manifest.licences}
    if recipe.start:
        origins[f"starting model {recipe.start}"] = load_card(Path(recipe.start)).licences
    return Sources(
        sequences={role: tuple(selection.sequences or ()) for role, selection in vars(found).items()},
        origins=origins,
        hashes={"store": store.hash},
    )


def _validator(
    recipe: FaceRecipe, store: Store, view: Callable[[Selection], FaceView], method: Callable[[nn.Module], FaceMethod]
) -> Callable[[nn.Module], dict[str, float]]:
    """Measures a generator on the first pictures of the validation part; they are read when they are first needed."""
    seen: list[FaceView] = []

    def validate(net: nn.Module) -> dict[str, float]:
        if not seen:
            seen.append(view(first_pictures(store, parts(store, recipe.data_sets).validation, VALIDATED)))
        provenance = Provenance(method=recipe.name, data="validation", store_hash=store.hash)
        report = measure(method(net), seen[0], recipe.protocol, provenance)
        return {f"val/{name}": value for name, value in report.numbers.items()}

    return validate


def _resolver_view(store: Store, selection: Selection, network: Network | None) -> FaceView:
    config = network or SuperResolverConfig()
    assert isinstance(config, SuperResolverConfig), "a model of this task"
    return low_view(store, selection, config, judge_of(store))


def _inpainter_view(store: Store, selection: Selection, network: Network | None) -> FaceView:
    config = network or InpainterConfig()
    assert isinstance(config, InpainterConfig), "a model of this task"
    return hole_view(store, selection, config, judge_of(store))


def _prepare_superresolution(recipe: SuperResolutionRecipe, store: Store, hooks: Hooks) -> FaceTraining:
    network = resolver_config(recipe)
    view = partial(_resolver_view, store, network=network)
    return prepare_superresolution(recipe, store, hooks, _validator(recipe, store, view, resolver_method))


def _prepare_inpainting(recipe: InpaintingRecipe, store: Store, hooks: Hooks) -> FaceTraining:
    network = inpainter_config(recipe)
    view = partial(_inpainter_view, store, network=network)
    return prepare_inpainting(recipe, store, hooks, _validator(recipe, store, view, inpainter_method))


def _resolver_example(store: Store, selection: Selection) -> Mapping[str, np.ndarray]:
    """The first pictures, as large as the smallest of them; the service makes them as small as its model wants them."""
    some = first_pictures(store, selection, EXAMPLES)
    side_px = int(read_labels(store, some).size_px.min())
    return {"picture_rgb": read_faces(store, side_px, some)[0].images}


def _inpainter_example(store: Store, selection: Selection) -> Mapping[str, np.ndarray]:
    """The first pictures whose lips were found, and where those are; any side that a model may have, as above."""
    some = first_pictures(store, selection, 4 * EXAMPLES)
    smallest = int(read_labels(store, some).size_px.min())
    side_px = max(side for side in SIDES if side <= max(smallest, SIDES[0]))
    view = hole_view(store, some, InpainterConfig(side_px=side_px), None)
    assert view.hole is not None, "a view of inpainting"
    return {"picture_rgb": view.inputs[:EXAMPLES], "hole": view.hole[:EXAMPLES]}


def _selection(role: str, store: Store, card: ModelCard | None) -> Selection | None:
    """No baseline remembers anything; of another store than the model's, its own test part."""
    if role == "memory":
        return None
    return card.role(role) if card and card.store_hash == store.hash else parts(store).test


def _headline(report: FaceReport) -> Headline:
    subject = f"bias {report.bias or 'none'}, {report.side_px} px"
    return Headline(name=report.headline_name, value=report.headline, higher_is_better=True, subject=subject)


def _numbers(report: FaceReport) -> Mapping[str, float]:
    return report.numbers


def _units(report: FaceReport) -> Units:
    return report.units


def _limits(report: FaceReport) -> tuple[str, ...]:
    """What faces are never for, and what the audit found of this model."""
    moved = {name: entry for name, entry in report.audit.items() if "change_sd" in entry}
    return (
        "Every detail is imagined: it says nothing of the person in the picture. Never identify anybody by it.",
        "It changes what its memory is biased to, and other things with it; groups of people are changed differently.",
        *(
            f"Audit: {name} moves by {entry['change_sd']:+.2f} standard deviations."
            for name, entry in sorted(moved.items(), key=lambda item: -abs(item[1]["change_sd"]))[:AUDITED]
        ),
        *(
            f"Audit: among {group} ({change['count']:.0f} pictures) {worst} moves most, by {change[worst]:+.2f} "
            "standard deviations."
            for group, change in report.groups.items()
            if (worst := max((n for n in change if n != "count"), key=lambda n: abs(change[n]), default=""))
        ),
        f"The judge of the audit: {report.judge}." if report.judge else "Nothing judged what it changes: no audit.",
    )


def _published(_: Store, __: Selection, ___: str, ____: KeypointChoice) -> None:
    """Nobody has printed a number for these (papers.md 1.4)."""


def _draw(reports: Sequence[FaceReport], _: object) -> Drawn:
    table = face_table(reports)
    return Drawn(
        rich=lambda width: render_terminal(table, width),
        markdown=render_markdown(table),
        html=render_html(table),
        csv=render_csv(table),
    )


_SHARED: Mapping[str, Any] = {
    "body": "",
    "critics": ("critic",),
    "goal": _goal,
    "label": _label,
    "sources": _sources,
    "located": _located,
    "measure": measure,
    "known": resolve_faces,
    "selection": _selection,
    "read_report": FaceReport.from_json,
    "headline": _headline,
    "numbers": _numbers,
    "units": _units,
    "limits": _limits,
    "published": _published,
    "draw": _draw,
}
SUPERRESOLUTION = Task(
    name="superresolution",
    recipe=SuperResolutionRecipe,
    protocol=SUPERRESOLUTION_PROTOCOL,
    network=resolver_config,
    prepare=_prepare_superresolution,
    generator_state=forth_alone,
    view=_resolver_view,
    method=resolver_method,
    example=_resolver_example,
    baselines={"bicubic": bicubic_method},
    intended_use="A larger picture of a face, one of many that the small one may have been made of; for demonstration.",
    **_SHARED,
)
INPAINTING = Task(
    name="inpainting",
    recipe=InpaintingRecipe,
    protocol=INPAINTING_PROTOCOL,
    network=inpainter_config,
    prepare=_prepare_inpainting,
    generator_state=dict,
    view=_inpainter_view,
    method=inpainter_method,
    example=_inpainter_example,
    baselines={"diffused": diffused_method},
    intended_use="A part of a face that was hidden or taken away, imagined anew; for demonstration.",
    **_SHARED,
)
