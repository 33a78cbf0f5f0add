"""Lifting, as the pipelines see it."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from aign.data.actions import ACTIONS_15
from aign.data.store import Selection, Store
from aign.evaluation.baselines.untrained import BASELINES
from aign.evaluation.lifting import METRIC_NAMES, Method, View, lifter_method, load_view, measure, metrics
from aign.evaluation.paired import Units
from aign.evaluation.protocol import SLIDE_PROTOCOLS, resolve
from aign.evaluation.published import CANDIDATES, SLIDE, Keypoints, PublishedTable, keypoints_of
from aign.evaluation.report import Report
from aign.evaluation.tables import error_table, render_csv, render_html, render_markdown, render_rich, slide_table
from aign.evaluation.trials import Goal, Metric
from aign.framework.errors import UserError
from aign.inference.package import ModelCard, Network
from aign.inference.predictor import sees_person
from aign.recipes.lifting import VALIDATION_PROTOCOL, LiftingRecipe, check_roles, load_memory, prepare
from aign.recipes.task import Drawn, Headline, KeypointChoice, Sources, Task
from aign.tasks.lifting import CRITICS, LifterConfig

EXAMPLE_FRAMES = 4


def _network(recipe: LiftingRecipe) -> LifterConfig:
    return recipe.task.lifter


def _label(recipe: LiftingRecipe) -> str:
    return f"regime {recipe.roles.regime}; "


def _goal(_: LiftingRecipe, __: Store) -> Goal:
    metric = Metric(name=f"val/{METRIC_NAMES[resolve(VALIDATION_PROTOCOL).headline]}")
    return Goal(metric=metric, traded=(Metric(name="val/reprojection_px"), Metric(name="val/flip_rate")))


def _sources(recipe: LiftingRecipe, store: Store) -> Sources:
    found = check_roles(store, recipe.roles)
    return Sources(
        sequences={role: tuple(sorted(names)) for role, names in found.items()},
        origins={f"store {store.url}": store.manifest.licences},
        hashes={"store": store.hash},
    )


def _located(recipe: LiftingRecipe, _: Callable[[str], str], __: Callable[[str], str]) -> LiftingRecipe:
    """It names no place."""
    return recipe


def _view(store: Store, selection: Selection, _: Network | None) -> View:
    return load_view(store, selection)


def _method(lifter: nn.Module) -> Method:
    return lifter_method(lifter, torch.device("cpu"))


def _example(store: Store, selection: Selection) -> Mapping[str, np.ndarray]:
    """Frames that show enough of a person, spread over all."""
    frames = load_view(store, selection).frames
    kp, conf = frames.kp2d_px.numpy(), frames.conf.numpy()
    usable = np.flatnonzero(sees_person(kp, conf))
    chosen = usable[np.linspace(0, len(usable) - 1, min(EXAMPLE_FRAMES, len(usable))).astype(int)]
    intrinsics = torch.cat((frames.camera.focal_px, frames.camera.centre_px), dim=1).numpy()
    return {"kp2d_px": kp[chosen], "kp2d_conf": conf[chosen], "intrinsics_px": intrinsics[chosen]}


def _selection(role: str, _: Store, card: ModelCard | None) -> Selection:
    if card is None:
        raise UserError("baselines alone need to be told --test... and --memory...")
    return card.role(role)


def _untrained(store: Store, memory: Selection | None, name: str) -> Method:
    return BASELINES[name](load_memory(store, memory or Selection()).canonical_m)


def _headline(report: Report) -> Headline:
    return Headline(name=METRIC_NAMES[next(iter(report.scores))], value=report.headline)


def _units(report: Report) -> Units:
    return {METRIC_NAMES.get(name, name): of for name, of in report.units.items()}


def _limits(report: Report) -> tuple[str, ...]:
    return (
        "Depth along the line of sight is the least certain; the absolute distance of a person follows from a body of "
        "ordinary size.",
        "People half seen, upside down or in poses that the memory does not hold are outside of what was tested.",
        f"{report.flip_rate:.1%} of the test poses are mirrored in depth.",
    )


def _published(store: Store, test: Selection, protocol: str, choice: KeypointChoice) -> PublishedTable | None:
    if choice == "none":
        return None
    told: Keypoints | None = keypoints_of(store.manifest, test) if choice == "auto" else choice
    protocol = resolve(protocol).id
    if told is None and protocol in SLIDE_PROTOCOLS:
        raise UserError(
            f"it is not known whether the keypoints of {store.url} are projected or detected (it does not say, or says "
            f"both), and which rows of the slides belong beside {protocol}; say --keypoints ground-truth, detected "
            "or none"
        )
    return None if told is None else SLIDE[told]


def _draw(reports: Sequence[Report], published: PublishedTable | None) -> Drawn:
    """The slide's table with all it may have aligned, or one table of the protocol's headline."""
    if reports[0].protocol in SLIDE_PROTOCOLS:
        table = slide_table(reports, published)
    else:
        headline = next(iter(reports[0].scores))
        human36m = all(set(r.frames_per_action) <= set(ACTIONS_15) for r in reports)
        table = error_table(reports, published=published if human36m and headline in CANDIDATES else None)
    return Drawn(
        rich=lambda width: render_rich(table, width=width),
        markdown=render_markdown(table),
        html=render_html(table),
        csv=render_csv(table),
    )


def _same(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return dict(state)


LIFTING = Task(
    name="lifting",
    recipe=LiftingRecipe,
    protocol=VALIDATION_PROTOCOL,
    body="",
    critics=CRITICS,
    goal=_goal,
    label=_label,
    network=_network,
    sources=_sources,
    prepare=prepare,
    generator_state=_same,
    located=_located,
    view=_view,
    method=_method,
    measure=measure,
    known=resolve,
    example=_example,
    selection=_selection,
    baselines={name: partial(_untrained, name=name) for name in BASELINES},
    read_report=Report.from_json,
    headline=_headline,
    numbers=metrics,
    units=_units,
    intended_use="Joints in 3D, in the camera's frame, from 2D keypoints of one person in a calibrated camera.",
    limits=_limits,
    published=_published,
    draw=_draw,
)
