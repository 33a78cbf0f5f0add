"""Recipes of motion capture, and how a recipe and its stores become a training."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from aign.body.assets import load_body
from aign.data.loader import ClipLoader, LoaderConfig
from aign.data.store import Selection, Store
from aign.data.store.reader import Columns
from aign.evaluation.body_view import encoder_method, estimate, load_body_view, measure_view
from aign.evaluation.mocap import image_values
from aign.evaluation.report import Provenance
from aign.framework.aign import Aign
from aign.framework.errors import UserError
from aign.geometry.rotation import from_axis_angle, to_6d
from aign.geometry.skeleton import skeleton
from aign.inference.package import load_as
from aign.tasks.motion_capture import MotionCaptureConfig, build
from aign.tasks.motion_capture.factors import BodyFactors
from aign.tasks.motion_capture.feed import (
    BODY_COLUMNS,
    EVIDENCE_COLUMNS,
    PICTURE_COLUMNS,
    Augmentation,
    MotionCaptureFeed,
)
from aign.tasks.motion_capture.memory import BodyClips, remember
from aign.tasks.motion_capture.nets import Encoder, EncoderConfig, upright
from aign.tasks.motion_capture.observation import Observation
from aign.tasks.motion_capture.render import BodyRender
from aign.tasks.motion_capture.terms import OF_SURFACE, SUPERVISED
from aign.training import FitConfig, Hooks

PROTOCOL = "aign-nips17-mesh24/pelvis"


@dataclass(frozen=True, kw_only=True)
class Shares:
    """How the sequences of a store are shared out, by the hash of their names: the same for every run.

    Attributes:
        validation: share that judges a training while it runs.
        test: share that is reported.
        actions: these motions alone; nothing: all.
    """

    validation: float = 0.05
    test: float = 0.2
    actions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MocapRecipe:
    """One run, whole.

    Attributes:
        name: of the recipe.
        task: networks, critics, weights.
        shares: of the store: its training part is labelled where `labelled_batch` says so and there is no `replay`, and
            only seen where `unlabelled_batch` says so; validation and test are never trained on.
        replay: folder or URL of the store that is labelled and remembered; "": the store itself.
        replay_actions: its motions; nothing: all.
        start: folder of the packaged model that the training goes on from; "": a new one.
        frames: of a window.
        labelled_batch: labelled windows of a step over all ranks.
        unlabelled_batch: windows that are only seen.
        augmentation: random changes of what the encoder sees.
        loader_streams: canonical streams of each loader; world sizes must divide it.
        loader_mix: row groups that a stream shuffles together.
        fit: how long and how fast.
        protocol: id of the protocol of the final report.
        seed: of networks, memory and data order.
    """

    name: str
    task: MotionCaptureConfig = MotionCaptureConfig()
    shares: Shares = Shares()
    replay: str = ""
    replay_actions: tuple[str, ...] = ()
    start: str = ""
    frames: int = 1
    labelled_batch: int = 64
    unlabelled_batch: int = 0
    augmentation: Augmentation = Augmentation()
    loader_streams: int = 4
    loader_mix: int = 4
    fit: FitConfig = FitConfig(lr=5e-4)
    protocol: str = PROTOCOL
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class MocapTraining:
    """What `fit` needs, made of a recipe and its stores."""

    aign: Aign[Observation, BodyFactors, BodyRender]
    feed: MotionCaptureFeed
    validate: Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a store: nobody's clip is in two."""

    train: Selection
    validation: Selection
    test: Selection


def parts(store: Store, shares: Shares) -> Parts:
    """Share out a store; the subject decides where there are several, else the sequence.

    Raises:
        UserError: shares that leave nothing, or a part without a sequence.
    """
    if not (shares.validation > 0 and shares.test > 0 and shares.validation + shares.test < 1):
        raise UserError(f"got shares validation {shares.validation}, test {shares.test}; allowed: positive, below 1")
    chosen = Selection(actions=shares.actions or None)
    groups = [found.group for found in store.row_groups(("keypoints", "frames"), chosen)]
    several = len({group.subject for group in groups}) >= MIN_SUBJECTS
    units = {group.sequence: group.subject if several else group.sequence for group in groups}
    found: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for sequence, unit in sorted(units.items()):
        place = zlib.crc32(unit.encode()) / 2**32
        part = "test" if place < shares.test else "validation" if place < shares.test + shares.validation else "train"
        found[part].append(sequence)
    if empty := [name for name, sequences in found.items() if not sequences]:
        raise UserError(f"{len(units)} sequences of {store.url} leave none for {' and '.join(empty)}; more are needed")
    return Parts(**{name: Selection(sequences=tuple(sequences)) for name, sequences in found.items()})


MIN_SUBJECTS = 20
"""From so many on, subjects are shared out and not sequences."""


def new_encoder(config: EncoderConfig, memory: BodyClips, seed: int = 0) -> Encoder:
    """A generator whose first answer is the memory's mean pose, upright in front of a level camera."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Encoder(config, upright(to_6d(memory.rotmats).mean(0)))


def first_encoder(recipe: MocapRecipe, memory: BodyClips) -> Encoder:
    """The generator of the package that the recipe starts from, or a new one.

    Raises:
        UserError: the package is damaged, of another task, or its network is not the recipe's.
    """
    if not recipe.start:
        return new_encoder(recipe.task.encoder, memory, recipe.seed)
    encoder, card = load_as(Encoder, Path(recipe.start))
    theirs, ours = vars(encoder.config), vars(recipe.task.encoder)
    if other := [
        f"--task.encoder.{name.replace('_', '-')} {theirs[name]}" for name in ours if ours[name] != theirs[name]
    ]:
        raise UserError(
            f"the model to start from (recipe {card.recipe}) is another network; allowed: {' '.join(other)}"
        )
    return encoder.train()


def load_bodies(store: Store, selection: Selection | None) -> BodyClips:
    """The bodies of a store as a memory keeps them, without the pictures they belong to.

    Raises:
        UserError: the store has no bodies.
    """
    clips = store.read({"body": ("body_pose_rad", "betas", "body_trans_cam_m")}, selection)
    arrays = {name: torch.from_numpy(value) for name, value in clips.arrays.items()}
    index = torch.from_numpy(clips.clip_index)
    first = torch.ones_like(index, dtype=torch.bool)
    first[1:] = index[1:] != index[:-1]
    return BodyClips(
        rotmats=from_axis_angle(arrays["body_pose_rad"]),
        pelvis_m=arrays["body_trans_cam_m"],
        clip=index,
        betas=arrays["betas"][first],
    )


def _loader(
    store: Store, columns: Columns, selection: Selection, batch: int, recipe: MocapRecipe, hooks: Hooks
) -> ClipLoader:
    config = LoaderConfig(
        batch_size=batch,
        streams=recipe.loader_streams,
        mix=recipe.loader_mix,
        seed=recipe.seed,
        window_frames=recipe.frames,
        decode_threads=1,
    )
    return ClipLoader(store, columns, selection, config, rank=hooks.rank, world=hooks.world)


def prepare(recipe: MocapRecipe, store: Store, hooks: Hooks) -> MocapTraining:
    """Networks, batches and validation of a recipe on its stores.

    Raises:
        UserError: parts are empty, sizes do not fit, or the weights ask for labels or evidence that are not there.
    """
    own = parts(store, recipe.shares)
    source, labelled = store, own.train
    if recipe.replay:
        source, labelled = Store.open(recipe.replay), Selection(actions=recipe.replay_actions or None)
    check_batches(recipe)
    bodies = load_bodies(source, labelled)
    encoder = first_encoder(recipe, bodies)
    body, side_px = load_body(), recipe.task.encoder.side_px
    memory = remember(bodies, recipe.frames)
    columns = {**PICTURE_COLUMNS, **EVIDENCE_COLUMNS}
    loaders = (
        (source, {**PICTURE_COLUMNS, **BODY_COLUMNS}, labelled, recipe.labelled_batch),
        (store, columns, own.train, recipe.unlabelled_batch),
    )
    feeds = [
        (_loader(where, what, which, batch, recipe, hooks), skeleton(where.manifest.skeleton)) if batch else None
        for where, what, which, batch in loaders
    ]
    view = load_body_view(store, own.validation) if hooks.rank == 0 else None

    def validate(net: nn.Module) -> dict[str, float]:
        assert view is not None, "only rank 0 validates"
        bodies = estimate(encoder_method(net, hooks.device), view)
        provenance = Provenance(method=recipe.name, data="validation", store_hash=store.hash)
        if view.truth is None:
            numbers = {
                name: float(value.nanmean()) for name, value in image_values(bodies, view.rows, view.evidence).items()
            }
        else:
            numbers = dict(measure_view(bodies, view, recipe.protocol, provenance).numbers)
        return {f"val/{name}": value for name, value in numbers.items()}

    return MocapTraining(
        aign=build(recipe.task, encoder, body, memory, hooks.rank, hooks.world, recipe.seed),
        feed=MotionCaptureFeed(feeds[0], feeds[1], side_px, body.to(hooks.device), recipe.augmentation, hooks.device),
        validate=validate,
    )


def check_batches(recipe: MocapRecipe) -> None:
    """Refuse weights that nothing in a batch could answer.

    Raises:
        UserError: as said.
    """
    on = {name for name, weight in recipe.task.weights.items() if weight > 0}
    for names, batch, what in (
        (SUPERVISED, "labelled_batch", "labelled windows"),
        (OF_SURFACE, "unlabelled_batch", "windows with masks and flow"),
    ):
        if wanting := sorted(on & set(names)) if not vars(recipe)[batch] else []:
            raise UserError(f"got weights for {', '.join(wanting)} and no {what}: allowed with {batch} of 1 or more")
    if recipe.frames < 2 and (moving := sorted(on & {"motion", "motion_everywhere", "contact", "motion_critic"})):
        raise UserError(f"got weights for {', '.join(moving)} and windows of 1 frame; allowed: frames of 2 or more")
