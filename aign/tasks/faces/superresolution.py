"""Biased super-resolution: four times the side, as somebody else if the memory says so (papers.md 1.4)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aign.data.counter import uniform
from aign.framework.aign import Aign
from aign.framework.errors import UserError
from aign.losses.image import mean_square
from aign.nets.image_generator import Shrinker, Upscaler
from aign.render.image import FACTOR, area_downsample, back_projected
from aign.tasks.faces.bias import parse_bias
from aign.tasks.faces.critic import CriticConfig, Remembered, picture_critic
from aign.tasks.faces.pictures import squared

LOW_SIDES = (8, 16, 32, 64)
NAMES = ("render", "paired", "cycle", "critic")
"""Everything that has a weight."""
MIRRORED = 0.5


@dataclass(frozen=True, kw_only=True)
class LowPicture:
    """What the generator sees.

    Attributes:
        low: in 0..1.
        truth: the picture that it was made from; only the term `paired` and the judge read it.
    """

    low: Float[Tensor, "b 3 l l"]
    truth: Float[Tensor, "b 3 s s"]


@dataclass(frozen=True, kw_only=True)
class Enlarged:
    """What the generator imagines.

    Attributes:
        picture: about 0..1, not cut off.
        back: the small picture that a second network makes of it; None where there is none.
    """

    picture: Float[Tensor, "b 3 s s"]
    back: Float[Tensor, "b 3 l l"] | None = None


@dataclass(frozen=True, kw_only=True)
class SuperResolverShape:
    """The generator's network.

    Attributes:
        low_px: side of its input; four times that is the picture's.
        channels: of its layers, at the small size.
        blocks: residual blocks.
        exact: whether its answer is projected on the pictures that the renderer turns into the input. The paper has a
            loss instead.
    """

    low_px: int = 16
    channels: int = 48
    blocks: int = 4
    exact: bool = False

    def __post_init__(self) -> None:
        if self.low_px not in LOW_SIDES:
            raise UserError(f"got low_px {self.low_px}; allowed are {', '.join(map(str, LOW_SIDES))}")
        if self.channels < 1 or self.blocks < 0:
            raise UserError(f"got {self.channels} channels, {self.blocks} blocks; allowed: 1 and more, 0 and more")

    @property
    def side_px(self) -> int:
        """Of the picture."""
        return FACTOR * self.low_px


@dataclass(frozen=True, kw_only=True)
class SuperResolverConfig(SuperResolverShape):
    """The generator: its network, and what it is for.

    Attributes:
        bias: that its memory was chosen by (`aign.tasks.faces.bias`); "": none.
    """

    bias: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_bias(self.bias)


def weights(**on: float) -> dict[str, float]:
    """A weight for every name: those given, and 0."""
    return {**dict.fromkeys(NAMES, 0.0), **on}


@dataclass(frozen=True, kw_only=True)
class SuperResolutionConfig:
    """The task.

    Attributes:
        generator: network.
        critic: network and game.
        weights: of the terms and critics in `NAMES`.
    """

    generator: SuperResolverShape = SuperResolverShape()
    critic: CriticConfig = CriticConfig()
    weights: dict[str, float] = field(default_factory=lambda: weights(render=100.0, critic=1.0))


class SuperResolver(nn.Module):
    """G: a small picture to a large one."""

    def __init__(self, config: SuperResolverConfig) -> None:
        super().__init__()
        self.config = config
        self.net = Upscaler(config.channels, config.blocks)

    def forward(self, seen: LowPicture) -> Enlarged:
        """The imagined picture."""
        return Enlarged(picture=self.enlarge(seen.low))

    def enlarge(self, low: Float[Tensor, "b 3 l l"]) -> Float[Tensor, "b 3 s s"]:
        """Four times the side; about 0..1, not cut off."""
        picture: Tensor = self.net(low)
        return back_projected(picture, low) if self.config.exact else picture


class ThereAndBack(nn.Module):
    """The author's control: a second network makes the small picture again, no renderer is known (papers.md 1.4)."""

    def __init__(self, forth: SuperResolver) -> None:
        super().__init__()
        self.forth = forth
        self.back = Shrinker(max(forth.config.channels // 2, 1))

    def forward(self, seen: LowPicture) -> Enlarged:
        """The imagined picture, and what became of it."""
        picture = self.forth(seen).picture
        return Enlarged(picture=picture, back=self.back(picture))


def forth_alone(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of the generator, whether a way back was trained beside it or not."""
    alone = {name.removeprefix("forth."): value for name, value in state.items() if name.startswith("forth.")}
    return alone or dict(state)


def resolver_of(net: nn.Module) -> SuperResolver:
    """The generator alone."""
    alone = net.forth if isinstance(net, ThereAndBack) else net
    assert isinstance(alone, SuperResolver), "a generator of this task"
    return alone


def observe(batch: Mapping[str, Tensor], side_px: int) -> LowPicture:
    """Pictures of a store, half of them mirrored by their `sample_seed`, and the small ones made of them."""
    truth = squared(batch["face_rgb"], side_px)
    mirrored = uniform(batch["sample_seed"], 1, purpose=20)[:, 0] < MIRRORED
    truth = torch.where(mirrored[:, None, None, None], truth.flip(-1), truth)
    return LowPicture(low=area_downsample(truth), truth=truth)


def render(z: Enlarged, _: LowPicture) -> Float[Tensor, "b 3 l l"]:
    """P: area averages, as the input was made."""
    return area_downsample(z.picture)


def faithful(seen: LowPicture, _: Enlarged, rendered: Tensor) -> Float[Tensor, " b"]:
    """The small picture is made again."""
    return mean_square(rendered, seen.low)


def paired(seen: LowPicture, z: Enlarged, _: Tensor) -> Float[Tensor, " b"]:
    """The picture is the true one: supervision, for the control."""
    return mean_square(z.picture, seen.truth)


def cycle(seen: LowPicture, z: Enlarged, _: Tensor) -> Float[Tensor, " b"]:
    """The second network makes the small picture again."""
    assert z.back is not None, "a way back was built"
    return mean_square(z.back, seen.low)


def view_picture(z: Enlarged, _: LowPicture) -> Float[Tensor, "b 3 s s"]:
    """What the critic judges."""
    return z.picture


def new_resolver(config: SuperResolverConfig, seed: int = 0) -> SuperResolver:
    """A generator whose first answer is the bicubic interpolation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SuperResolver(config)


def build(
    config: SuperResolutionConfig, generator: SuperResolver, remembered: Remembered
) -> Aign[LowPicture, Enlarged, Tensor]:
    """The problem of a generator; the other networks start from the memory's seed, so every rank starts alike.

    Args:
        config: critic and weights.
        generator: fresh, or trained before.
        remembered: the memory.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(remembered.seed)
        critic = picture_critic(config.critic, generator.config.side_px, remembered, view_picture)
        net: nn.Module = ThereAndBack(generator) if config.weights.get("cycle") else generator
    return Aign(
        encode=net,
        render=render,
        terms={"render": faithful, "paired": paired, "cycle": cycle},
        critics={"critic": critic},
        weights=config.weights,
    )
