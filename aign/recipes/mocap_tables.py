"""The slides' table of motion capture as rows: fits, a supervised network, and what unlabelled video adds to it.

Each trained row but the first goes on from the supervised network of its seed, on videos of another domain whose labels
nobody reads, for as many steps as the others; what differs is which terms are on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from aign.recipes.mocap import MocapRecipe, Shares
from aign.recipes.mocap_runs import mocap_pretrain, mocap_selfsup
from aign.tasks.motion_capture.nets import EncoderConfig

Group: TypeAlias = Literal["methods", "ladder", "ablation"]
GROUPS: tuple[Group, ...] = get_args(Group)
SUPERVISED, OURS = "supervised", "selfsup"
FITS: Mapping[str, str] = {
    "body-fit-direct": "optimisation, direct",
    "body-fit-staged": "optimisation, staged with priors",
}
"""Key of an untrained row, which is its name among the task's baselines, and its label."""
RELEASED_KEYPOINTS = 0.04
"""Near the truth squared pixels then pull as hard as the recipe's robust keypoints."""
RELEASED_MASK = 1e-19
"""As the released code has it (papers.md 2.10)."""


@dataclass(frozen=True, kw_only=True)
class Domains:
    """Where labels come from, and where they are missing.

    Attributes:
        source_url: store of pictures and bodies.
        target_url: store of pictures whose bodies are for the judge alone.
        source_actions: its motions; nothing: all.
        target_actions: likewise.
    """

    source_url: str
    target_url: str
    source_actions: tuple[str, ...] = ()
    target_actions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MocapRow:
    """One line of the table.

    Attributes:
        key: fit for a file name; rows of one key are the same run, shown in more than one comparison.
        label: as printed.
        group: which comparison it belongs to.
        recipe: how it is trained; None: it is not. The supervised one is trained on the source, the others on the
            target, going on from it.
    """

    key: str
    label: str
    group: Group
    recipe: MocapRecipe | None = None


def target_shares(domains: Domains) -> Shares:
    """Of the target: seen without labels, looked at while training, and what every row is measured on."""
    return Shares(validation=0.1, test=0.2, actions=domains.target_actions)


def supervised(domains: Domains, side_px: int) -> MocapRecipe:
    """The network that the others go on from: the source's labels alone."""
    recipe = mocap_pretrain()
    return replace(
        recipe,
        name=SUPERVISED,
        task=replace(recipe.task, encoder=EncoderConfig(side_px=side_px)),
        shares=Shares(validation=0.03, test=0.03, actions=domains.source_actions),
    )


def selfsup(domains: Domains, side_px: int) -> MocapRecipe:
    """Everything on: keypoints, masks and motion reprojected, critics, teacher, and the source's labels replayed."""
    recipe = mocap_selfsup()
    return replace(
        recipe,
        name=OURS,
        task=replace(recipe.task, encoder=EncoderConfig(side_px=side_px)),
        shares=target_shares(domains),
        replay=domains.source_url,
        replay_actions=domains.source_actions,
    )


def _weighted(recipe: MocapRecipe, **changed: float) -> MocapRecipe:
    return replace(recipe, task=replace(recipe.task, weights={**recipe.task.weights, **changed}))


def rows(domains: Domains, side_px: int) -> tuple[MocapRow, ...]:
    """All rows.

    Args:
        domains: the stores.
        side_px: of the crop that the networks see.
    """
    full = selfsup(domains, side_px)
    no_critics = _weighted(full, pose_critic=0.0, shape_critic=0.0, motion_critic=0.0)
    no_motion = _weighted(no_critics, motion=0.0)
    no_mask = _weighted(no_motion, segmentation=0.0)
    replay = replace(
        _weighted(no_mask, keypoints=0.0, teacher=0.0),
        labelled_batch=full.labelled_batch + full.unlabelled_batch,
        unlabelled_batch=0,
    )
    released = _weighted(
        no_mask, keypoints=0.0, teacher=0.0,
        keypoints_released=RELEASED_KEYPOINTS, segmentation_released=RELEASED_MASK,
    )  # fmt: skip
    no_surface = _weighted(full, segmentation=0.0, motion=0.0)
    everywhere = _weighted(no_motion, motion_everywhere=full.task.weights["motion"])
    target: tuple[tuple[str, str, Group, MocapRecipe], ...] = (
        (OURS, "+ self-supervised", "methods", full),
        ("keypoints", "+ keypoints", "ladder", no_mask),
        ("segmentation", "+ segmentation", "ladder", no_motion),
        ("motion", "+ motion", "ladder", no_critics),
        (OURS, "+ critics", "ladder", full),
        ("replay", "source's labels for as long", "ablation", replay),
        ("released", "terms of the released code", "ablation", released),
        ("critics", "keypoints and critics alone", "ablation", no_surface),
        ("everywhere", "motion of hidden vertices too", "ablation", everywhere),
        ("motion", "motion of visible vertices", "ablation", no_critics),
    )
    found = [
        *(MocapRow(key=key, label=label, group="methods") for key, label in FITS.items()),
        *(
            MocapRow(key=SUPERVISED, label=SUPERVISED, group=group, recipe=supervised(domains, side_px))
            for group in GROUPS
        ),
        *(
            MocapRow(key=key, label=label, group=group, recipe=replace(recipe, name=key))
            for key, label, group, recipe in target
        ),
    ]
    return tuple(found)
