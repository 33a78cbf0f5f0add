"""Biased inpainting, "plastic surgery": a hidden part of a face is imagined anew (papers.md 1.5)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aign.data.counter import uniform
from aign.framework.aign import Aign
from aign.framework.errors import UserError
from aign.losses.image import masked_mean_square
from aign.nets.conv import GROUPS
from aign.nets.image_generator import Filler
from aign.render.image import composited, masked
from aign.tasks.faces.bias import parse_bias
from aign.tasks.faces.critic import CriticConfig, Remembered, picture_critic
from aign.tasks.faces.masks import PARTS, MaskConfig, Part, in_square, mirrored_boxes, part_masks
from aign.tasks.faces.pictures import squared, window

SIDES = (32, 64, 128, 256)
NAMES = ("render", "paired", "critic")
"""Everything that has a weight."""
MIRRORED = 0.5
Judged: TypeAlias = Literal["part", "picture", "network"]


@dataclass(frozen=True, kw_only=True)
class MaskedPicture:
    """What the generator sees.

    Attributes:
        given: in 0..1; 0 where the picture is hidden.
        keep: 1 where it is given, 0 where it is hidden.
        box_px: of the part, whatever of it is hidden.
        truth: the whole picture; only the term `paired` and the judge read it.
    """

    given: Float[Tensor, "b 3 s s"]
    keep: Float[Tensor, "b 1 s s"]
    box_px: Float[Tensor, "b 4"]
    truth: Float[Tensor, "b 3 s s"]


@dataclass(frozen=True, kw_only=True)
class Filled:
    """What the generator imagines.

    Attributes:
        whole: the picture as the network has it, the given part included; about 0..1.
        picture: its hidden part in the given picture.
    """

    whole: Float[Tensor, "b 3 s s"]
    picture: Float[Tensor, "b 3 s s"]


@dataclass(frozen=True, kw_only=True)
class InpainterShape:
    """The generator's network.

    Attributes:
        side_px: of the picture.
        channels: after the first halving, a multiple of 8; they double.
        blocks: residual blocks at the smallest size.
    """

    side_px: int = 64
    channels: int = 32
    blocks: int = 3

    def __post_init__(self) -> None:
        if self.side_px not in SIDES:
            raise UserError(f"got side_px {self.side_px}; allowed are {', '.join(map(str, SIDES))}")
        if self.channels < GROUPS or self.channels % GROUPS or self.blocks < 0:
            raise UserError(
                f"got {self.channels} channels, {self.blocks} blocks; allowed: multiples of {GROUPS}, 0 and more"
            )


@dataclass(frozen=True, kw_only=True)
class InpainterConfig(InpainterShape):
    """The generator: its network, and what it is for.

    Attributes:
        part: of the face that was hidden from it.
        bias: that its memory was chosen by (`aign.tasks.faces.bias`); "": none.
    """

    part: Part = "lips"
    bias: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_bias(self.bias)


def weights(**on: float) -> dict[str, float]:
    """A weight for every name: those given, and 0."""
    return {**dict.fromkeys(NAMES, 0.0), **on}


@dataclass(frozen=True, kw_only=True)
class InpaintingConfig:
    """The task.

    Attributes:
        generator: network.
        critic: network and game; with a tenth of this gamma two of six runs filled the hole with one colour.
        mask: what is hidden.
        judged: what the critic sees: a window of half the side round the part, in the given picture; that whole
            picture; or, as in the paper, the network's picture, which only the term `render` ties to the given one.
        weights: of the terms and critics in `NAMES`.
    """

    generator: InpainterShape = InpainterShape()
    critic: CriticConfig = CriticConfig(gamma=0.5)
    mask: MaskConfig = MaskConfig()
    judged: Judged = "part"
    weights: dict[str, float] = field(default_factory=lambda: weights(render=10.0, critic=0.1))


class Inpainter(nn.Module):
    """G: a picture with a hidden part to a whole one."""

    def __init__(self, config: InpainterConfig) -> None:
        super().__init__()
        self.config = config
        self.net = Filler(config.side_px, config.channels, config.blocks)

    def forward(self, seen: MaskedPicture) -> Filled:
        """The imagined picture."""
        whole: Tensor = self.net(seen.given, seen.keep)
        return Filled(whole=whole, picture=composited(seen.given, whole, seen.keep))

    def fill(self, given: Float[Tensor, "b 3 s s"], keep: Float[Tensor, "b 1 s s"]) -> Float[Tensor, "b 3 s s"]:
        """The given picture with its hidden part imagined; that is about 0..1, not cut off."""
        return composited(given, self.net(masked(given, keep), keep), keep)


def observe(batch: Mapping[str, Tensor], side_px: int, how: MaskConfig) -> MaskedPicture:
    """Pictures of a store with a part hidden; mask and mirroring are decided by their `sample_seed`."""
    truth, seed = squared(batch["face_rgb"], side_px), batch["sample_seed"]
    boxes = batch["boxes_px"].reshape(len(truth), -1, 4)[:, PARTS[how.part]].to(truth.dtype)
    height, width = batch["face_rgb"].shape[1:3]
    boxes = in_square(boxes, boxes.new_tensor((width, height)).expand(len(boxes), 2), side_px)
    mirrored = uniform(seed, 1, purpose=20) < MIRRORED
    truth = torch.where(mirrored[:, :, None, None], truth.flip(-1), truth)
    boxes = torch.where(mirrored, mirrored_boxes(boxes, side_px), boxes)
    keep = part_masks(boxes, side_px, seed, how)
    return MaskedPicture(given=masked(truth, keep), keep=keep, box_px=boxes, truth=truth)


def render(z: Filled, seen: MaskedPicture) -> Float[Tensor, "b 3 s s"]:
    """P: the picture with the part hidden again."""
    return masked(z.whole, seen.keep)


def faithful(seen: MaskedPicture, _: Filled, rendered: Tensor) -> Float[Tensor, " b"]:
    """The given part is made again."""
    return masked_mean_square(rendered, seen.given, seen.keep)


def paired(seen: MaskedPicture, z: Filled, _: Tensor) -> Float[Tensor, " b"]:
    """The hidden part is the true one: supervision, for the control."""
    return masked_mean_square(z.whole, seen.truth, 1 - seen.keep)


def view_part(z: Filled, seen: MaskedPicture) -> Float[Tensor, "b 3 w w"]:
    """The part and what is round it: all that is new, and a quarter of the pixels."""
    return window(z.picture, seen.box_px)


def view_picture(z: Filled, _: MaskedPicture) -> Float[Tensor, "b 3 s s"]:
    """The hidden part inside the given picture."""
    return z.picture


def view_network(z: Filled, _: MaskedPicture) -> Float[Tensor, "b 3 s s"]:
    """The network's picture alone."""
    return z.whole


VIEWS: Mapping[Judged, Callable[[Filled, MaskedPicture], Tensor]] = {
    "part": view_part,
    "picture": view_picture,
    "network": view_network,
}


def new_inpainter(config: InpainterConfig, seed: int = 0) -> Inpainter:
    """A generator that knows nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Inpainter(config)


def build(
    config: InpaintingConfig, generator: Inpainter, remembered: Remembered
) -> Aign[MaskedPicture, Filled, Tensor]:
    """The problem of a generator; the critic starts from the memory's seed, so every rank starts alike.

    Args:
        config: critic and weights.
        generator: fresh, or trained before.
        remembered: the memory: what the critic is to see of its members.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(remembered.seed)
        side = generator.config.side_px // (2 if config.judged == "part" else 1)
        critic = picture_critic(config.critic, side, remembered, VIEWS[config.judged])
    return Aign(
        encode=generator,
        render=render,
        terms={"render": faithful, "paired": paired},
        critics={"critic": critic},
        weights=config.weights,
    )
