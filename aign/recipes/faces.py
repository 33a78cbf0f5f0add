"""Recipes of faces, and how a recipe and a store become a training."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor, nn

from aign.data.loader import ClipLoader, LoaderConfig
from aign.data.store import Selection, Store
from aign.data.store.reader import Columns
from aign.framework.aign import Aign
from aign.framework.errors import UserError
from aign.inference.package import load_as
from aign.tasks.faces import inpainting, superresolution
from aign.tasks.faces.bias import LEAST_MEMBERS, members, parse_bias
from aign.tasks.faces.critic import Remembered
from aign.tasks.faces.feed import BOX_COLUMNS, PICTURE_COLUMNS, FaceFeed
from aign.tasks.faces.inpainting import Inpainter, InpainterConfig, InpaintingConfig
from aign.tasks.faces.labels import FaceLabels, read_labels
from aign.tasks.faces.masks import read_boxes, read_windows
from aign.tasks.faces.pictures import PictureSelection, check_size, chosen, read_pictures
from aign.tasks.faces.superresolution import SuperResolutionConfig, SuperResolver, SuperResolverConfig
from aign.training import FitConfig, Hooks

SUPERRESOLUTION_PROTOCOL = "faces/superresolution-4x"
INPAINTING_PROTOCOL = "faces/inpainting"
PARTITIONS: Mapping[str, str] = {"train": "train", "validation": "val", "test": "test"}
"""By role: how the sequences of its pictures end."""
VALIDATED = 256
"""Pictures, at most, that judge a training while it runs."""
N = TypeVar("N", SuperResolver, Inpainter)


@dataclass(frozen=True, kw_only=True)
class FaceRecipe:
    """One run, whole, but for the task's own part.

    Attributes:
        name: of the recipe.
        bias: whom the memory remembers: sex=female, age>50, identity=7, lips>q90, ...; "": everybody.
        memory_share: share of these pictures that are remembered; the rest, and all others, are seen.
        data_sets: of the store; nothing: all.
        start: folder of the packaged model that the training goes on from; "": a new one.
        batch: pictures of a step over all ranks.
        loader_streams: canonical streams of the loader; world sizes must divide it.
        loader_mix: row groups that a stream shuffles together.
        fit: how long and how fast.
        protocol: id of the protocol of the final report.
        seed: of networks, memory and data order.
    """

    name: str
    bias: str = ""
    memory_share: float = 0.5
    data_sets: tuple[str, ...] = ()
    start: str = ""
    batch: int = 16
    loader_streams: int = 4
    loader_mix: int = 4
    fit: FitConfig = FitConfig(steps=2000, lr=1e-3, critic_lr=1e-3, log_every=50, validate_every=500, ema=0.995)
    protocol: str = SUPERRESOLUTION_PROTOCOL
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class SuperResolutionRecipe(FaceRecipe):
    """One run of super-resolution.

    Attributes:
        task: networks, critic, weights.
    """

    task: SuperResolutionConfig = field(default_factory=SuperResolutionConfig)


@dataclass(frozen=True, kw_only=True)
class InpaintingRecipe(FaceRecipe):
    """One run of inpainting.

    Attributes:
        task: networks, critic, mask, weights.
    """

    task: InpaintingConfig = field(default_factory=InpaintingConfig)
    protocol: str = INPAINTING_PROTOCOL


@dataclass(frozen=True, kw_only=True)
class FaceTraining:
    """What `fit` needs, made of a recipe and a store."""

    aign: Aign[Any, Any, Tensor]
    feed: FaceFeed[Any]
    validate: Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a store: nobody's picture is in two."""

    train: Selection
    validation: Selection
    test: Selection


@dataclass(frozen=True, kw_only=True)
class Cast:
    """Pictures of the training part, none of them in both."""

    memory: PictureSelection
    inputs: PictureSelection


def parts(store: Store, data_sets: tuple[str, ...] = ()) -> Parts:
    """The partitions that the pictures came with.

    Raises:
        UserError: the store has no faces, or a partition has no picture.
    """
    sequences = sorted(store.sequences(("faces",), Selection(subjects=data_sets or None)))
    found = {role: tuple(s for s in sequences if s.endswith(f"/{end}")) for role, end in PARTITIONS.items()}
    if empty := [PARTITIONS[role] for role, names in found.items() if not names]:
        raise UserError(
            f"{store.url} has no pictures of partition {' and '.join(empty)}: it has {', '.join(sequences)}; "
            "preprocess the faces again with a partition for each (train, val, test)"
        )
    return Parts(**{role: Selection(sequences=names) for role, names in found.items()})


def cast(
    recipe: FaceRecipe, store: Store, train: Selection, side_px: int, usable: frozenset[tuple[str, int]] | None = None
) -> Cast:
    """Which pictures of the training part are remembered, and which are seen: those that are not remembered.

    Members are remembered in an order that the hash of their key decides, the same for every run.

    Args:
        recipe: its bias and share.
        store: with faces.
        train: the training part.
        side_px: that the pictures must have.
        usable: pictures that take part; None: all.

    Raises:
        UserError: what `members` raises, a share that is none, pictures too small, or none left to be seen.
    """
    if not 0 < recipe.memory_share < 1:
        raise UserError(f"got memory_share {recipe.memory_share:g}; allowed is more than 0 and less than 1")
    labels = read_labels(store, train)
    check_size(labels, side_px)
    member = members(parse_bias(recipe.bias), labels.attributes, labels.names, labels.identity)
    keys = zip(labels.sequence.tolist(), labels.number.tolist(), strict=True)
    whole = np.array([usable is None or key in usable for key in keys])
    member &= whole
    count = max(LEAST_MEMBERS, round(recipe.memory_share * int(member.sum())))
    remembered = np.zeros(len(member), bool)
    remembered[_by_hash(labels, member)[:count]] = True
    seen = whole & ~remembered
    if seen.sum() < recipe.batch:
        raise UserError(
            f"{int(remembered.sum())} of {len(seen)} pictures are remembered and {int(seen.sum())} are left to be "
            f"seen; a step needs {recipe.batch}: give a smaller --batch or --memory-share"
        )
    return Cast(memory=chosen(labels, remembered), inputs=chosen(labels, seen))


def _by_hash(labels: FaceLabels, which: Bool[np.ndarray, " n"]) -> list[int]:
    """The marked rows in an order that means nothing."""
    keys = {int(i): f"{labels.sequence[i]}/{labels.number[i]}" for i in np.flatnonzero(which)}
    return sorted(keys, key=lambda i: (zlib.crc32(keys[i].encode()), keys[i]))


def first_pictures(store: Store, selection: Selection, count: int) -> PictureSelection:
    """So many pictures at most, in an order that means nothing.

    Raises:
        UserError: nothing is selected.
    """
    labels = read_labels(store, selection)
    some = np.zeros(len(labels.identity), bool)
    some[_by_hash(labels, ~some)[:count]] = True
    return chosen(labels, some)


def resolver_config(recipe: SuperResolutionRecipe) -> SuperResolverConfig:
    """The generator as its card describes it."""
    shape = recipe.task.generator
    return SuperResolverConfig(
        low_px=shape.low_px, channels=shape.channels, blocks=shape.blocks, exact=shape.exact, bias=recipe.bias
    )


def inpainter_config(recipe: InpaintingRecipe) -> InpainterConfig:
    """The generator as its card describes it."""
    shape = recipe.task.generator
    return InpainterConfig(
        side_px=shape.side_px,
        channels=shape.channels,
        blocks=shape.blocks,
        part=recipe.task.mask.part,
        bias=recipe.bias,
    )


def _started(net: type[N], fresh: N, start: str) -> N:
    """The fresh generator with the weights of the package that the recipe starts from; its bias may be another.

    Raises:
        UserError: the package is damaged, of another task, or its network is not the recipe's.
    """
    if not start:
        return fresh
    trained, card = load_as(net, Path(start))
    theirs, ours = ({k: v for k, v in vars(n.config).items() if k not in ("bias", "part")} for n in (trained, fresh))
    if other := [f"--task.generator.{k.replace('_', '-')} {v}" for k, v in theirs.items() if ours[k] != v]:
        raise UserError(
            f"the model to start from (recipe {card.recipe}) is another network; allowed: {' '.join(other)}"
        )
    fresh.load_state_dict(trained.state_dict())
    return fresh


def _loader(recipe: FaceRecipe, store: Store, columns: Columns, inputs: Selection, hooks: Hooks) -> ClipLoader:
    config = LoaderConfig(
        batch_size=recipe.batch,
        streams=recipe.loader_streams,
        mix=recipe.loader_mix,
        seed=recipe.seed,
        decode_threads=1,
    )
    return ClipLoader(store, columns, inputs, config, rank=hooks.rank, world=hooks.world)


Pictures: TypeAlias = UInt8[Tensor, "n 3 s s"]


def _remembered(recipe: FaceRecipe, playing: bool, read: Callable[[], Pictures], hooks: Hooks) -> Remembered:
    """The memory's pictures; where no critic plays, none is read."""
    pictures = read() if playing else torch.zeros(1, 3, 1, 1, dtype=torch.uint8)
    return Remembered(pictures=pictures, rank=hooks.rank, world=hooks.world, seed=recipe.seed)


Validate = Callable[[nn.Module], dict[str, float]]


def prepare_superresolution(
    recipe: SuperResolutionRecipe, store: Store, hooks: Hooks, validate: Validate
) -> FaceTraining:
    """Networks and batches of a recipe on a store.

    Raises:
        UserError: what `parts` and `cast` raise, or sizes do not fit.
    """
    side_px, playing = recipe.task.generator.side_px, recipe.task.weights["critic"] > 0
    roles = cast(recipe, store, parts(store, recipe.data_sets).train, side_px)
    fresh = superresolution.new_resolver(resolver_config(recipe), recipe.seed)
    return FaceTraining(
        aign=superresolution.build(
            recipe.task,
            _started(SuperResolver, fresh, recipe.start),
            _remembered(recipe, playing, partial(read_pictures, store, roles.memory, side_px), hooks),
        ),
        feed=FaceFeed(
            _loader(recipe, store, PICTURE_COLUMNS, roles.inputs, hooks),
            partial(superresolution.observe, side_px=side_px),
            hooks.device,
        ),
        validate=validate,
    )


def prepare_inpainting(recipe: InpaintingRecipe, store: Store, hooks: Hooks, validate: Validate) -> FaceTraining:
    """Networks and batches of a recipe on a store; faces whose part nobody has found are left out.

    Raises:
        UserError: what `parts` and `cast` raise, the store has no parts, or sizes do not fit.
    """
    side_px, playing = recipe.task.generator.side_px, recipe.task.weights["critic"] > 0
    train = parts(store, recipe.data_sets).train
    boxes = read_boxes(store, train, recipe.task.mask.part)
    usable = frozenset(key for key, valid in zip(boxes.keys, boxes.valid, strict=True) if valid)
    roles = cast(recipe, store, train, side_px, usable)
    read = partial(read_pictures, store, roles.memory, side_px)
    if recipe.task.judged == "part":
        read = partial(read_windows, store, roles.memory, side_px, recipe.task.mask.part)
    fresh = inpainting.new_inpainter(inpainter_config(recipe), recipe.seed)
    return FaceTraining(
        aign=inpainting.build(
            recipe.task,
            _started(Inpainter, fresh, recipe.start),
            _remembered(recipe, playing, read, hooks),
        ),
        feed=FaceFeed(
            _loader(recipe, store, {**PICTURE_COLUMNS, **BOX_COLUMNS}, roles.inputs, hooks),
            partial(inpainting.observe, side_px=side_px, how=recipe.task.mask),
            hooks.device,
        ),
        validate=validate,
    )
