"""The slides' rows of faces: each bias, and the controls that leave out the critic, the memory or the renderer.

A row is trained for one bias and judged by one or several: the controls by the first, bicubic and plain
super-resolution by every one, so that what a bias did stands beside what happens anyway.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import numpy as np

from aign.data.store import Store
from aign.evaluation.faces_report import FaceReport
from aign.framework.errors import UserError
from aign.recipes.faces import InpaintingRecipe, SuperResolutionRecipe, parts
from aign.recipes.faces_runs import (
    cycled,
    inpainting_nose,
    inpainting_recipe,
    paired_only,
    renderer_only,
    superresolution_32,
    superresolution_recipe,
    superresolution_tiny,
)
from aign.tasks.faces.bias import IDENTITY, LEAST_MEMBERS, SEX, members, parse_bias
from aign.tasks.faces.labels import read_labels
from aign.tasks.faces.masks import Part

Group: TypeAlias = Literal["superresolution", "inpainting", "sweep"]
GROUPS: tuple[Group, ...] = get_args(Group)
SIZES: Mapping[int, Callable[[], SuperResolutionRecipe]] = {
    32: superresolution_tiny,
    64: superresolution_recipe,
    128: superresolution_32,
}
"""Recipe by the side of its pictures."""
BICUBIC, PLAIN, DIFFUSED, IDENTITY_ROW = "bicubic", "plain", "diffused", "identity"
CONTROLLED = "sex=female"
"""The bias that controls and sweep are for."""
SWEPT = tuple(10 ** (k / 2) for k in range(-3, 4))
"""Weights of the critic, times the recipe's."""
SWEPT_EXACT = (0.1, 1.0, 10.0)
"""The same where the renderer is built into the generator."""
ALONE_SHARE, ALONE_WEIGHT = 0.9, 0.1
"""Of one person's pictures are remembered: there are few, and nobody else is to be told from them. Weight of their
critic by the recipe's: it is always sure, so it pulls harder than the critic of a crowd."""
LEAST_DB, LEAST_POINTS, LEAST_AREA = 40.0, 60.0, 0.15
"""What is asked for: of faithfulness, of the change of sex and age, and of the area of lips."""


@dataclass(frozen=True, kw_only=True)
class FaceRow:
    """One line of the table, or one for each of the biases that it is judged by.

    Attributes:
        key: fit for a file name.
        label: as printed.
        group: which part of the table it belongs to.
        judged_by: biases.
        recipe: how it is trained; None: it is not.
        weight: of the critic by the renderer's, in a sweep.
    """

    key: str
    label: str
    group: Group
    judged_by: tuple[str, ...]
    recipe: SuperResolutionRecipe | InpaintingRecipe | None = None
    weight: float | None = None

    @property
    def is_biased(self) -> bool:
        """Whether it is one of the rows that the table is about: ours, of a bias."""
        return self.group != "sweep" and self.recipe is not None and self.judged_by == (self.recipe.bias,) and self.ours

    @property
    def ours(self) -> bool:
        """Whether renderer and critic are both on."""
        return self.recipe is not None and all(self.recipe.task.weights[name] > 0 for name in ("render", "critic"))

    @property
    def model(self) -> str:
        """Under which its network is registered, e.g. superresolution-female."""
        return f"{self.group}-{self.key}"


def hidden_part(row: FaceRow, bias: str) -> Part:
    """What inpainting hides of a row's inputs where it is judged by a bias."""
    if isinstance(row.recipe, InpaintingRecipe):
        return row.recipe.task.mask.part
    return "nose" if bias.startswith("nose") else "lips"


def most_pictured(store: Store) -> int | None:
    """The person with the most pictures in the training part, the smallest number of several; None: too few."""
    identity = read_labels(store, parts(store).train).identity
    who, count = np.unique(identity[identity >= 0], return_counts=True)
    return int(who[count.argmax()]) if len(who) and count.max() >= LEAST_MEMBERS else None


def rows(side_px: int, person: int | None) -> tuple[FaceRow, ...]:
    """All rows.

    Args:
        side_px: of the pictures that are made, one of `SIZES`.
        person: whose memory the row `identity` has; None: no such row.

    Raises:
        UserError: no such size.
    """
    if side_px not in SIZES:
        raise UserError(f"got --side-px {side_px}; allowed: {', '.join(map(str, SIZES))}")
    base = SIZES[side_px]()
    return (*_resolved(base, person), *_filled(side_px), *_swept(base))


def _resolved(base: SuperResolutionRecipe, person: int | None) -> tuple[FaceRow, ...]:
    biases = {
        "female": CONTROLLED,
        "male": "sex=male",
        "older": "age>50",
        "younger": "age<30",
        **({} if person is None else {IDENTITY_ROW: f"{IDENTITY}={person}"}),
    }
    # Where the renderer is built into the network nothing would be left of these controls.
    loose = replace(_with_exact(base, False), bias=CONTROLLED)
    every = tuple(biases.values())
    rows = [
        ("paired", "paired, squared error", (CONTROLLED,), paired_only(loose)),
        ("renderer", "renderer only", (CONTROLLED,), renderer_only(loose)),
        ("cycle", "cycle, no renderer", (CONTROLLED,), cycled(loose)),
        (PLAIN, "ours, no bias", every, base),
    ]
    alone = replace(_weighed(base, ALONE_WEIGHT), memory_share=ALONE_SHARE)
    for key, bias in biases.items():
        recipe = replace(alone if key == IDENTITY_ROW else base, bias=bias)
        rows.append((key, f"ours, {bias}", (bias,), recipe))
    made = (
        FaceRow(key=key, label=label, group="superresolution", judged_by=by, recipe=recipe)
        for key, label, by, recipe in rows
    )
    return (FaceRow(key=BICUBIC, label="bicubic", group="superresolution", judged_by=every), *made)


def _filled(side_px: int) -> tuple[FaceRow, ...]:
    found = [FaceRow(key=DIFFUSED, label="diffused", group="inpainting", judged_by=("lips>q90", "nose>q90"))]
    for part, recipe in (("lips", inpainting_recipe()), ("nose", inpainting_nose())):
        sized = replace(recipe, task=replace(recipe.task, generator=replace(recipe.task.generator, side_px=side_px)))
        bias = f"{part}>q90"
        for key, label, made in (
            (f"{part}-{PLAIN}", "ours, no bias", sized),
            (part, f"ours, {bias}", replace(sized, bias=bias)),
        ):
            found.append(FaceRow(key=key, label=label, group="inpainting", judged_by=(bias,), recipe=made))
    return tuple(found)


def _swept(base: SuperResolutionRecipe) -> tuple[FaceRow, ...]:
    """The first bias at several weights of the critic, with the renderer as a loss and built into the network."""
    found = []
    for exact, factors in ((False, SWEPT), (True, SWEPT_EXACT)):
        for factor in factors:
            recipe = replace(_weighed(_with_exact(base, exact), factor), bias=CONTROLLED)
            weight = recipe.task.weights["critic"] / recipe.task.weights["render"]
            found.append(
                FaceRow(
                    key=f"sweep-{'exact-' if exact else ''}{weight:.0e}",
                    label=f"critic by {'exact ' if exact else ''}renderer {weight:.1e}",
                    group="sweep",
                    judged_by=(CONTROLLED,),
                    recipe=recipe,
                    weight=weight,
                )
            )
    return tuple(found)


def _weighed(recipe: SuperResolutionRecipe, factor: float) -> SuperResolutionRecipe:
    """The critic's weight so many times the recipe's."""
    weights = {**recipe.task.weights, "critic": factor * recipe.task.weights["critic"]}
    return replace(recipe, task=replace(recipe.task, weights=weights))


def is_exact(row: FaceRow) -> bool:
    """Whether the renderer is built into a row's network."""
    return isinstance(row.recipe, SuperResolutionRecipe) and row.recipe.task.generator.exact


def _with_exact(recipe: SuperResolutionRecipe, exact: bool) -> SuperResolutionRecipe:
    generator = replace(recipe.task.generator, exact=exact)
    return replace(recipe, task=replace(recipe.task, generator=generator))


def available(every: Sequence[FaceRow], store: Store) -> tuple[tuple[FaceRow, ...], dict[str, str]]:
    """The rows that a store has everything for, each judged by the biases that it can be; of the others, what lacks.

    Args:
        every: rows.
        store: with faces.
    """
    labels = read_labels(store, parts(store).train)
    lacks: dict[str, str] = {}
    for bias in dict.fromkeys(bias for row in every for bias in row.judged_by):
        try:
            members(parse_bias(bias), labels.attributes, labels.names, labels.identity)
        except UserError as error:
            lacks[bias] = str(error)
    there, out = [], {}
    for row in every:
        biases = tuple(bias for bias in row.judged_by if bias not in lacks)
        if row.group == "inpainting" and "face_parts" not in store.manifest.tables:
            out[row.key] = "the store has no parts of faces"
        elif biases:
            there.append(replace(row, judged_by=biases))
        else:
            out[row.key] = lacks[row.judged_by[0]]
    return tuple(there), out


@dataclass(frozen=True, kw_only=True)
class Goal:
    """Something that is asked for.

    Attributes:
        bias: of the row.
        what: in words, with its unit.
        wanted: at least so much.
        got: the mean over seeds.
    """

    bias: str
    what: str
    wanted: float
    got: float

    @property
    def met(self) -> bool:
        """Whether it was reached."""
        return self.got >= self.wanted


def goals(bias: str, report: FaceReport) -> tuple[Goal, ...]:
    """What is asked of a report of our own row of a bias; what was not measured is not reached."""
    wanted: list[tuple[str, str, float, float]] = []
    if report.protocol.startswith("faces/superresolution"):
        wanted.append(("faithful dB", "faithful_psnr_db", LEAST_DB, 1.0))
    if parse_bias(bias).attribute in (SEX, "age"):
        wanted.append(("points over bicubic", "target_points", LEAST_POINTS, 1.0))
    if bias.startswith("lips"):
        wanted.append(("lip area in the mask, % more", "lips_area_change", 100 * LEAST_AREA, 100.0))
    return tuple(
        Goal(bias=bias, what=what, wanted=least, got=factor * report.numbers.get(name, float("nan")))
        for what, name, least, factor in wanted
    )
