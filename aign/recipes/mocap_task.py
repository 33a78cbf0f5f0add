"""Motion capture, as the pipelines see it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from aign.body.assets import DEFAULT_BODY, load_body
from aign.data.store import Selection, Store
from aign.evaluation.baselines.body_fit import direct, staged
from aign.evaluation.body_view import BodyMethod, BodyView, encoder_method, estimate, load_body_view, measure_view
from aign.evaluation.mocap import image_values, value_name
from aign.evaluation.mocap_report import MocapReport, summarise
from aign.evaluation.mocap_table import mocap_table, render_csv, render_html, render_markdown
from aign.evaluation.mocap_terminal import render_terminal
from aign.evaluation.paired import Units
from aign.evaluation.protocol import PROTOCOLS, resolve
from aign.evaluation.published import NIPS17_MESH, PublishedMesh
from aign.evaluation.report import Provenance
from aign.evaluation.trials import Goal, Metric
from aign.framework.errors import UserError
from aign.geometry.skeleton import SMPL24, skeleton
from aign.inference.body_predictor import clip_arrays
from aign.inference.package import ModelCard, Network, load_card
from aign.inference.predictor import sees_person
from aign.recipes.mocap import PROTOCOL, MocapRecipe, Shares, check_batches, load_bodies, parts, prepare
from aign.recipes.mocap_memory import embedded_bodies
from aign.recipes.task import Drawn, Headline, KeypointChoice, Sources, Task
from aign.tasks.motion_capture import CRITICS
from aign.tasks.motion_capture.clips import read_clips
from aign.tasks.motion_capture.feed import EVIDENCE_COLUMNS, PICTURE_COLUMNS
from aign.tasks.motion_capture.memory import BodyMemory, remember
from aign.tasks.motion_capture.nets import EncoderConfig

FITS: Mapping[str, Callable[[BodyMemory], BodyMethod]] = {"body-fit-direct": direct, "body-fit-staged": staged}
EXAMPLE_FRAMES = 4
WITHOUT_TRUTH = "reprojection_px"
"""Headline of a report on data whose bodies nobody knows; it is of the picture, so nothing may be chosen by it."""
PUBLISHED_BESIDE = tuple(name for name, protocol in PROTOCOLS.items() if protocol.joint_set == SMPL24.name)


def _network(recipe: MocapRecipe) -> EncoderConfig:
    return recipe.task.encoder


def _label(recipe: MocapRecipe) -> str:
    return f"actions {', '.join(recipe.shares.actions)}; " if recipe.shares.actions else ""


def _goal(recipe: MocapRecipe, store: Store) -> Goal:
    if "body" not in store.manifest.tables:
        raise UserError(
            f"nobody knows the bodies of {store.url}, so there is nothing to choose by: whoever chooses by "
            "reprojection chooses weights of 0 for the critics; allowed: a store with a body table"
        )
    protocol = resolve(recipe.protocol)
    metric = Metric(name=f"val/{value_name(protocol.headline, protocol)}")
    return Goal(metric=metric, traded=(Metric(name="val/reprojection_px"), Metric(name="val/flip_rate")))


def _sources(recipe: MocapRecipe, store: Store) -> Sources:
    check_batches(recipe)
    own = parts(store, recipe.shares)
    sequences = {role: tuple(selection.sequences or ()) for role, selection in vars(own).items()}
    origins, hashes = {f"store {store.url}": store.manifest.licences}, {"store": store.hash}
    if recipe.replay:
        replay = Store.open(recipe.replay)
        if replay.hash == store.hash:
            raise UserError(f"the replay store {recipe.replay} is the store itself; allowed: another one, or none")
        origins[f"replay store {replay.url}"] = replay.manifest.licences
        hashes["replay_store"] = replay.hash
    if recipe.start:
        card = load_card(Path(recipe.start))
        _check_unseen(card, store, sequences["test"])
        origins[f"starting model {recipe.start}"] = card.licences
    body = load_body()
    origins[f"body {body.name}"] = (body.licence,)
    return Sources(sequences=sequences, origins=origins, hashes=hashes)


def _check_unseen(card: ModelCard, store: Store, test: Sequence[str]) -> None:
    """A model that learnt from the clips it is tested on would look better than it is."""
    if card.store_hash == store.hash and (shared := sorted(set(card.sequences.get("train", ())) & set(test))):
        raise UserError(
            f"the model to start from (recipe {card.recipe}) was trained on {len(shared)} of the test clips, "
            f"{shared[0]} first; give the same --shares as it had"
        )


def _generator_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An encoder's own weights, whether a teacher stood beside it or not."""
    alone = {name.removeprefix("net."): value for name, value in state.items() if name.startswith("net.")}
    return alone or dict(state)


def _located(recipe: MocapRecipe, store: Callable[[str], str], model: Callable[[str], str]) -> MocapRecipe:
    return replace(
        recipe,
        replay=store(recipe.replay) if recipe.replay else "",
        start=model(recipe.start) if recipe.start else "",
    )


def _view(store: Store, selection: Selection, _: Network | None) -> BodyView:
    return load_body_view(store, selection, more=EVIDENCE_COLUMNS)


def _method(encoder: nn.Module) -> BodyMethod:
    return encoder_method(encoder, torch.device("cpu"))


def _measure(method: BodyMethod, view: BodyView, protocol: str, provenance: Provenance) -> MocapReport:
    bodies = estimate(method, view, f"measure {provenance.method}")
    if view.truth is not None:
        return measure_view(bodies, view, protocol, provenance)
    values = image_values(bodies, view.rows, view.evidence)
    return summarise(values, WITHOUT_TRUTH, view.rows, resolve(protocol), provenance)


def _example(store: Store, selection: Selection) -> Mapping[str, np.ndarray]:
    """The first frames in a row that show enough of a person.

    Raises:
        UserError: there are none.
    """
    source = skeleton(store.manifest.skeleton)
    for clip in read_clips(store, PICTURE_COLUMNS, selection):
        arrays = clip_arrays(clip, source)
        part = {name: value[:EXAMPLE_FRAMES] for name, value in arrays.items()}
        if sees_person(part["kp2d_px"], part["kp2d_conf"]).all():
            return part
    raise UserError(f"no clip of {store.url} begins with {EXAMPLE_FRAMES} frames that show enough of a person")


def _selection(role: str, store: Store, card: ModelCard | None) -> Selection | None:
    """Of another store than the model's, the parts that every training on it would leave out."""
    if role == "memory":
        return None
    return card.role(role) if card and card.store_hash == store.hash else parts(store, Shares()).test


def _fitted(store: Store, memory: Selection | None, make: Callable[[BodyMemory], BodyMethod]) -> BodyMethod:
    """Bodies fitted to each clip; poses are remembered of the embedded motions unless the user names clips."""
    return make(remember(embedded_bodies() if memory is None else load_bodies(store, memory), 1))


def _headline(report: MocapReport) -> Headline:
    told = report.headline_name != WITHOUT_TRUTH
    return Headline(name=report.headline_name, value=report.headline if told else None)


def _numbers(report: MocapReport) -> Mapping[str, float]:
    return report.numbers


def _units(report: MocapReport) -> Units:
    return report.units


def _limits(report: MocapReport) -> tuple[str, ...]:
    flips = report.numbers.get("flip_rate")
    told = () if flips is None else (f"{flips:.1%} of the test frames are mirrored in depth.",)
    return (
        "One person at a time; hands and face are not estimated, and clothes and hair are no part of the body model.",
        "Shape is a guess where the picture shows loose clothes; it is not a measurement of a body.",
        "Feet may slide, and a person half seen gets limbs that were never seen.",
        *told,
    )


def _published(_: Store, __: Selection, protocol: str, choice: KeypointChoice) -> Sequence[PublishedMesh]:
    return NIPS17_MESH if choice != "none" and resolve(protocol).id in PUBLISHED_BESIDE else ()


def _draw(reports: Sequence[MocapReport], published: Sequence[PublishedMesh] | None) -> Drawn:
    table = mocap_table(reports, published=published or ())
    return Drawn(
        rich=lambda width: render_terminal(table, width),
        markdown=render_markdown(table),
        html=render_html(table),
        csv=render_csv(table),
    )


MOTION_CAPTURE = Task(
    name="motion_capture",
    recipe=MocapRecipe,
    protocol=PROTOCOL,
    body=DEFAULT_BODY.stem,
    critics=CRITICS,
    goal=_goal,
    label=_label,
    network=_network,
    sources=_sources,
    prepare=prepare,
    generator_state=_generator_state,
    located=_located,
    view=_view,
    method=_method,
    measure=_measure,
    known=resolve,
    example=_example,
    selection=_selection,
    baselines={name: partial(_fitted, make=make) for name, make in FITS.items()},
    read_report=MocapReport.from_json,
    headline=_headline,
    numbers=_numbers,
    units=_units,
    intended_use="Pose, shape and place of one person's body from a crop of a video and its 2D keypoints, in a "
    "calibrated camera.",
    limits=_limits,
    published=_published,
    draw=_draw,
)
