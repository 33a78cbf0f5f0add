"""The judge that is trained on a domain's own labels: deterministic by seed, minutes on one core of a CPU."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from aign.data.progress import progress
from aign.evaluation.baselines.bicubic import bicubic
from aign.evaluation.faces_image import area_down
from aign.evaluation.faces_judge import (
    Judge,
    LabelledFaces,
    Reading,
    attribute_facts,
    identity_facts,
    parts_facts,
)
from aign.evaluation.faces_net import SIDE_PX, AttributeNet, NetShape, at_side, parts_at_side
from aign.framework.errors import UserError

CHUNK = 256
MIN_KNOWN = 16
"""An attribute with fewer known values, or of one value only, is not learnt."""
HELD_OUT = "val"
IDENTITY_SCALE = 16.0
"""Cosines times this are the logits of identities."""
PART_WEIGHTS = (1.0, 2.0, 2.0, 2.0)
"""Of the classes: parts are a few percent of the pixels."""
BLUR = 4
"""Pictures that are shrunk by this and enlarged again are judged too: bicubic is what others are compared with."""
LEAST_DEVIATION = 0.1
"""Of a feature, by the mean of all."""
CLIPPED = 1.0
"""Largest norm of a step's gradient."""


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """Training of a judge; the same data and configuration give the same judge.

    Attributes:
        steps: of Adam; its rate falls along a half cosine.
        batch: pictures a step.
        rate: learning rate at the start.
        degraded: share of pictures that are shrunk by `BLUR` and enlarged again.
        shift_px: pictures are moved by up to so much.
        seed: of the weights and the order.
    """

    steps: int = 1500
    batch: int = 32
    rate: float = 2e-3
    degraded: float = 0.25
    shift_px: int = 2
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Heads:
    """What the outputs of a network mean.

    Attributes:
        names: of the attributes.
        is_sign: of each, whether its output is a logit.
        mean: of each number in training, 0 of signs.
        scale: standard deviation of each in training.
        identities: number of each.
    """

    names: tuple[str, ...]
    is_sign: tuple[bool, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    identities: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TrainedJudge:
    """A network, what its outputs mean, and how good it is on pictures it has not seen."""

    net: AttributeNet
    heads: Heads
    facts: Mapping[str, float]

    def judge(self, data: str) -> Judge:
        """As a judge; `data` says in words what it was trained on."""
        known = self.net.gallery().detach().numpy() if self.heads.identities else None
        return Judge(
            name=f"attribute net trained on the labels of {data}",
            names=self.heads.names,
            is_sign=self.heads.is_sign,
            scale=np.array(self.heads.scale, np.float32),
            read=lambda images: read_pictures(self.net, self.heads, images),
            facts=self.facts,
            identities=self.heads.identities,
            gallery=known,
        )


@torch.no_grad()
def read_pictures(net: AttributeNet, heads: Heads, images: UInt8[np.ndarray, "n s s 3"]) -> Reading:
    """What a network reads in pictures of any square size."""
    seen = [
        net(torch.from_numpy(at_side(images[i : i + CHUNK], SIDE_PX))) for i in range(0, max(len(images), 1), CHUNK)
    ]
    raw = torch.cat([s.attributes for s in seen]).numpy()
    signs, mean, scale = (np.array(v) for v in (heads.is_sign, heads.mean, heads.scale))
    values = np.where(signs, np.tanh(raw / 2), mean + scale * raw)  # tanh(x / 2) = 2 sigmoid(x) - 1
    parts = [s.parts.argmax(1).to(torch.uint8) for s in seen if s.parts is not None]
    return Reading(
        values=values.astype(np.float32),
        features=(torch.cat([s.features for s in seen]) / net.feature_scale).numpy(),
        embedding=torch.cat([s.embedding for s in seen]).numpy() if heads.identities else None,
        parts=torch.cat(parts).numpy() if parts else None,
    )


def enlarged(images: UInt8[np.ndarray, "n s s 3"]) -> UInt8[np.ndarray, "n s s 3"]:
    """What bicubic enlargement makes of pictures that were shrunk by `BLUR`."""
    return bicubic(np.rint(area_down(images, BLUR)).astype(np.uint8), images.shape[1])


def split(faces: LabelledFaces) -> tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]:
    """Rows that a judge is trained on, and those that it is measured on; never the test part.

    Where nothing is called "val", every eighth identity of the training part (or picture, where none is known) is.

    Raises:
        UserError: too few pictures.
    """
    train = np.flatnonzero(np.isin(faces.partition, ("train", "all")))
    held = np.flatnonzero(faces.partition == HELD_OUT)
    if not len(held):
        who = np.where(faces.identity[train] >= 0, faces.identity[train], train)
        out = np.isin(who, np.unique(who)[::8])
        train, held = train[~out], train[out]
    if len(train) < MIN_KNOWN or len(held) < 2:
        raise UserError(
            f"got {len(train)} pictures to train a judge of faces on and {len(held)} to measure it on; needed are "
            f"{MIN_KNOWN} and 2"
        )
    return train, held


def heads_of(faces: LabelledFaces, train: Int[np.ndarray, " a"]) -> Heads:
    """Attributes and identities that can be learnt of these rows."""
    kept: list[tuple[str, bool, float, float]] = []
    for name, column in zip(faces.names, faces.attributes[train].T, strict=True):
        value = column[~np.isnan(column)].astype(np.float64)
        if len(value) < MIN_KNOWN or value.std() < 1e-6:
            continue
        is_sign = bool(np.isin(value, (-1, 1)).all())
        kept.append((name, is_sign, 0.0 if is_sign else float(value.mean()), float(value.std())))
    who, count = np.unique(faces.identity[train], return_counts=True)
    people = who[(who >= 0) & (count > 1)]
    return Heads(
        names=tuple(name for name, _, _, _ in kept),
        is_sign=tuple(is_sign for _, is_sign, _, _ in kept),
        mean=tuple(mean for _, _, mean, _ in kept),
        scale=tuple(scale for _, _, _, scale in kept),
        identities=tuple(people.tolist()) if len(people) > 1 else (),
    )


def train_judge(faces: LabelledFaces, config: JudgeConfig | None = None, label: str | None = None) -> TrainedJudge:
    """Train a judge, and measure it on what it has not seen.

    Args:
        faces: of the domain that it will judge.
        config: of the training.
        label: of the progress bar; None: no bar.

    Raises:
        UserError: too few pictures, or nothing to learn.
    """
    config = config or JudgeConfig()
    train, held = split(faces)
    heads = heads_of(faces, train)
    if not heads.names:
        raise UserError(
            f"got no attribute with {MIN_KNOWN} known values that differ, of {len(faces.names)}; a judge needs one"
        )
    small = at_side(faces.images, SIDE_PX)
    parts = None if faces.parts is None else parts_at_side(faces.parts, SIDE_PX)
    columns = [faces.names.index(name) for name in heads.names]
    number = {who: i for i, who in enumerate(heads.identities)}
    data = _Tensors(
        images=torch.from_numpy(small),
        targets=torch.from_numpy(faces.attributes[:, columns]),
        identity=torch.tensor([number.get(who, -1) for who in faces.identity.tolist()]),
        parts=None if parts is None else torch.from_numpy(parts),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        shape = NetShape(attributes=len(heads.names), identities=len(heads.identities), parts=parts is not None)
        net = AttributeNet(shape)
        _learn(net, heads, data.part(torch.from_numpy(train)), config, label)
    net.eval().requires_grad_(False)
    _scale_features(net, heads, small[train])
    found = read_pictures(net, heads, small[held])
    blurred = read_pictures(net, heads, enlarged(small[held]))
    labels = faces.attributes[held][:, columns]
    of_blurred = attribute_facts(heads.names, heads.is_sign, blurred.values, labels)
    facts = {
        "pictures": float(len(held)),
        **attribute_facts(heads.names, heads.is_sign, found.values, labels),
        **{f"{name}_of_bicubic": value for name, value in of_blurred.items()},
        **identity_facts(found.embedding, faces.identity[held]),
        **({} if parts is None or found.parts is None else parts_facts(found.parts, parts[held])),
    }
    return TrainedJudge(net=net, heads=heads, facts=facts)


@dataclass(frozen=True, kw_only=True)
class _Tensors:
    images: Tensor
    targets: Tensor
    identity: Tensor
    parts: Tensor | None
    blurred: Tensor | None = None

    def part(self, rows: Tensor) -> "_Tensors":
        parts = None if self.parts is None else self.parts[rows]
        return _Tensors(images=self.images[rows], targets=self.targets[rows], identity=self.identity[rows], parts=parts)


def _learn(net: AttributeNet, heads: Heads, data: _Tensors, config: JudgeConfig, label: str | None) -> None:
    optimizer = torch.optim.AdamW(net.parameters(), config.rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    with progress(config.steps, label or "", "steps") if label else _quiet() as advance:
        for _ in range(config.steps):
            batch = _augmented(data.part(torch.randint(len(data.images), (config.batch,))), config)
            loss = _loss(net, heads, batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(net.parameters(), CLIPPED)
            optimizer.step()
            schedule.step()
            advance(1)


def _scale_features(net: AttributeNet, heads: Heads, images: UInt8[np.ndarray, "n s s 3"]) -> None:
    """Let features vary by 1, over sharp and blurred pictures: FID and KID are of one size for every judge then."""
    deviation = read_pictures(net, heads, np.concatenate((images, enlarged(images)))).features.std(0)
    # A feature that hardly ever moves would else count the most.
    floor = max(LEAST_DEVIATION * float(deviation.mean()), 1e-6)
    net.feature_scale.copy_(torch.from_numpy(np.maximum(deviation, floor)))


@contextmanager
def _quiet() -> Iterator[Callable[[int], None]]:
    yield lambda _: None


def _augmented(batch: _Tensors, config: JudgeConfig) -> _Tensors:
    """Moved by whole pixels with their parts, edges repeated; some blurred as bicubic pictures are. Never mirrored."""
    shift = config.shift_px
    dx, dy = (int(v) for v in torch.randint(-shift, shift + 1, (2,)))
    rows = (torch.arange(SIDE_PX) + dy).clamp(0, SIDE_PX - 1)
    columns = (torch.arange(SIDE_PX) + dx).clamp(0, SIDE_PX - 1)
    images = batch.images[:, rows][:, :, columns].clone()
    blurred = torch.rand(len(images)) < config.degraded
    if blurred.any():
        low = F.avg_pool2d(images[blurred].permute(0, 3, 1, 2).float(), BLUR)
        high = F.interpolate(low, scale_factor=float(BLUR), mode="bicubic", align_corners=False)
        images[blurred] = high.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    parts = None if batch.parts is None else batch.parts[:, rows][:, :, columns]
    return _Tensors(images=images, targets=batch.targets, identity=batch.identity, parts=parts, blurred=blurred)


def _loss(net: AttributeNet, heads: Heads, batch: _Tensors) -> Tensor:
    """Every head's own loss, of what is known; all of the same weight."""
    seen = net(batch.images)
    known = ~batch.targets.isnan()
    target = torch.where(known, batch.targets, 0.0)
    signs = torch.tensor(heads.is_sign)
    number = (target - torch.tensor(heads.mean)) / torch.tensor(heads.scale)
    of_signs = F.binary_cross_entropy_with_logits(seen.attributes, (target > 0).float(), reduction="none")
    of_numbers = F.smooth_l1_loss(seen.attributes, number, reduction="none")
    each = torch.where(signs, of_signs, of_numbers) * known
    loss = each.sum() / known.sum().clamp_min(1)
    if batch.blurred is not None:
        told = net.blurred(seen.features)[:, 0]
        loss = loss + 0.2 * F.binary_cross_entropy_with_logits(told, batch.blurred.float())
    someone = batch.identity >= 0
    if heads.identities and someone.any():
        cosines = seen.embedding[someone] @ F.normalize(net.identities, dim=1).T
        loss = loss + 0.2 * F.cross_entropy(IDENTITY_SCALE * cosines, batch.identity[someone])
    if seen.parts is not None and batch.parts is not None:
        loss = loss + F.cross_entropy(seen.parts, batch.parts.long(), torch.tensor(PART_WEIGHTS))
    return loss
