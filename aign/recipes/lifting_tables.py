"""The slides' two tables as rows: every method is a recipe, every ingredient of the best one is a row of its own.

Table 1 lifts ground-truth 2D, table 2 what a detector found; the store decides which, the rows are the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from aign.data.store import Store
from aign.recipes.lifting import LiftingRecipe, forward, interpreter
from aign.recipes.regimes import Cast, Regime, cast, label_roles, roles
from aign.tasks.lifting import LifterConfig, LiftingConfig
from aign.training import FitConfig

Group: TypeAlias = Literal["methods", "ablation", "labels", "weight", "regimes"]
PROTOCOLS: Mapping[bool, str] = {True: "aign-iccv17-15", False: "open-motion/heldout/j17/root0"}
"""By whether the test subjects are Human3.6M's S9 and S11."""
LABEL_PERCENTS = (5.0, 20.0)
COMPONENTS = 32
"""Of 51: the paper's share, 60 of 96 (papers.md 1.2)."""
CRITIC_WEIGHTS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Of the paper's two critics together, relative to the recipe's."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table.

    Attributes:
        key: fit for a file name; rows of one key are the same run, shown in more than one comparison.
        label: as printed.
        group: which comparison it belongs to.
        recipe: how it is trained; None: it is not.
        x: where it stands on its group's axis: percent of labels, or weight of the critics.
    """

    key: str
    label: str
    group: Group
    recipe: LiftingRecipe | None = None
    x: float | None = None


def paper(who: Cast, regime: Regime) -> LiftingRecipe:
    """AIGN as in the paper: pose basis and camera, reprojection, critics of canonical shape and camera, coordinates."""
    return LiftingRecipe(
        name=f"lifting-{regime}",
        roles=roles(who, regime),
        task=LiftingConfig(lifter=LifterConfig(components=COMPONENTS, width=256)),
        labelled_batch=64,
        unlabelled_batch=256,
        fit=FitConfig(steps=3000, validate_every=1000, log_every=100),
        protocol=PROTOCOLS["S9" in who.test],
    )


def _weighted(recipe: LiftingRecipe, **weights: float) -> LiftingRecipe:
    return replace(recipe, task=replace(recipe.task, weights={**recipe.task.weights, **weights}))


def heatmaps(recipe: LiftingRecipe) -> LiftingRecipe:
    """The paper's figure: heatmaps go in."""
    return replace(recipe, task=replace(recipe.task, lifter=replace(recipe.task.lifter, input="heatmaps")))


def direct(recipe: LiftingRecipe) -> LiftingRecipe:
    """Joints come out, no basis."""
    return replace(recipe, task=replace(recipe.task, lifter=replace(recipe.task.lifter, head="direct")))


def temporal(recipe: LiftingRecipe) -> LiftingRecipe:
    """Nine frames go in."""
    return replace(recipe, task=replace(recipe.task, lifter=replace(recipe.task.lifter, frames=9)))


def chain_critic(recipe: LiftingRecipe) -> LiftingRecipe:
    """A critic in kinematic chain space beside the others."""
    return _weighted(recipe, chain=0.1)


def joint_critic(recipe: LiftingRecipe) -> LiftingRecipe:
    """A critic of each joint beside the others."""
    return _weighted(recipe, joints=0.1)


def picture_critic(recipe: LiftingRecipe) -> LiftingRecipe:
    """A critic of random re-projections beside the others."""
    return _weighted(recipe, picture=0.1)


def bone_prior(recipe: LiftingRecipe) -> LiftingRecipe:
    """Bones as long as the memory's."""
    return _weighted(recipe, bones=0.003)


def imagined(recipe: LiftingRecipe) -> LiftingRecipe:
    """The memory is rendered and lifted back; as many samples in all as before."""
    if recipe.unlabelled_batch:
        half = recipe.unlabelled_batch // 2
        return replace(recipe, unlabelled_batch=half, imagined_batch=half)
    half = recipe.labelled_batch // 2
    return replace(recipe, labelled_batch=half, imagined_batch=half)


def mixed(recipe: LiftingRecipe) -> LiftingRecipe:
    """Rendered memories recombined: half of them get the arms of another moment."""
    return replace(imagined(recipe), imagined_mix=0.5)


def no_augmentation(recipe: LiftingRecipe) -> LiftingRecipe:
    """Neither mirrored nor turned, nothing hidden, no noise."""
    still = replace(recipe.task.augmentation, flip=0.0, roll_deg=0.0, drop=0.0, noise=0.0)
    return replace(recipe, task=replace(recipe.task, augmentation=still))


def no_average(recipe: LiftingRecipe) -> LiftingRecipe:
    """The last weights in place of their running mean."""
    return replace(recipe, fit=replace(recipe.fit, ema=0.0))


def memory_alone(recipe: LiftingRecipe) -> LiftingRecipe:
    """A control: labels and the rendered memory, supervised; nothing is only seen, no critic plays."""
    return mixed(replace(forward(recipe), labelled_batch=2 * recipe.labelled_batch))


def best(recipe: LiftingRecipe) -> LiftingRecipe:
    """AIGN, ours: chosen whole in development; alone, only the rendered memory is sure to help (decision 10)."""
    return direct(temporal(bone_prior(mixed(recipe))))


Change: TypeAlias = Callable[[LiftingRecipe], LiftingRecipe]
METHODS: Mapping[str, tuple[str, Change]] = {
    "forward": ("Forward2Dto3D", forward),
    "interpreter": ("3D interpreter", interpreter),
    "aign-heatmaps": ("AIGN, heatmaps", heatmaps),
    "aign": ("AIGN", lambda recipe: recipe),
    "aign-ours": ("AIGN, ours", best),
}
REGIME_METHODS: Mapping[Regime, tuple[str, ...]] = {
    "unpaired": ("aign", "aign-ours"),
    "semi": ("forward", "interpreter", "aign", "aign-ours"),
    "full": ("forward", "aign", "aign-ours"),
}
UNTRAINED: Mapping[str, str] = {
    "mean-pose": "mean pose",
    "nearest-pose": "nearest memory pose",
    "monocap": "Monocap",
    "oracle-basis": "bound: nearest pose of the basis",
}
INGREDIENTS: Mapping[str, tuple[str, Change]] = {
    "direct": ("direct joints, no basis", direct),
    "temporal": ("+ nine frames", temporal),
    "chain": ("+ critic of kinematic chains", chain_critic),
    "joints": ("+ critic of each joint", joint_critic),
    "picture": ("+ critic of random re-projections", picture_critic),
    "bones": ("+ bone-length prior", bone_prior),
    "imagined": ("+ memory rendered and lifted back", imagined),
    "mixed": ("+ the same, arms recombined", mixed),
    "memory-alone": ("labels and rendered memory alone", memory_alone),
    "no-augmentation": ("- augmentation", no_augmentation),
    "no-ema": ("- running mean of the weights", no_average),
}


def rows(store: Store) -> tuple[Row, ...]:
    """All rows of a table on a store.

    Raises:
        UserError: the store has too few subjects.
    """
    who = cast(store)
    shifted = paper(who, "shifted")
    return (
        *(Row(key=key, label=label, group="methods") for key, label in UNTRAINED.items()),
        *(_row(key, label, "methods", change(shifted)) for key, (label, change) in METHODS.items()),
        *(_row(f"ablation-{k}", label, "ablation", change(shifted)) for k, (label, change) in INGREDIENTS.items()),
        *(_label_rows(who, shifted) if who.apart == "subjects" else ()),  # of one subject too little is labelled
        *_weight_rows(shifted),
        *_regime_rows(who),
    )


def _row(key: str, label: str, group: Group, recipe: LiftingRecipe, x: float | None = None) -> Row:
    return Row(key=key, label=label, group=group, recipe=replace(recipe, name=key), x=x)


def _label_rows(who: Cast, base: LiftingRecipe) -> tuple[Row, ...]:
    """Error against labels: none, and shares of the labelled subject's frames; walking only is the methods' group."""
    none = replace(base, roles=roles(who, "unpaired"), labelled_batch=0)
    some = {f"labels-{p:g}": (replace(base, roles=label_roles(who, p)), p) for p in LABEL_PERCENTS}
    whole = replace(base, roles=roles(who, "semi"))
    found = []
    for start, (recipe, percent) in {"unpaired": (none, 0.0), **some, "semi": (whole, 100.0)}.items():
        for key in ("forward", "aign", "aign-ours"):
            if percent or key != "forward":
                label, change = METHODS[key]
                found.append(_row(f"{start}-{key}", f"{label}, {percent:g} %", "labels", change(recipe), percent))
    return tuple(found)


def _weight_rows(base: LiftingRecipe) -> tuple[Row, ...]:
    weights = base.task.weights
    return tuple(
        _row(
            "aign" if factor == 1 else f"weight-{factor:g}", f"AIGN, critics x {factor:g}", "weight",
            _weighted(base, pose=factor * weights["pose"], camera=factor * weights["camera"]), factor,
        )
        for factor in CRITIC_WEIGHTS
    )  # fmt: skip


def _regime_rows(who: Cast) -> tuple[Row, ...]:
    """The methods where nothing is labelled, one subject is, and all are."""
    found = []
    for regime, keys in REGIME_METHODS.items():
        base = paper(who, regime)
        if regime == "unpaired":
            base = replace(base, labelled_batch=0)
        if regime == "full":
            base = replace(base, labelled_batch=base.labelled_batch + base.unlabelled_batch, unlabelled_batch=0)
        for key in keys:
            label, change = METHODS[key]
            found.append(_row(f"{regime}-{key}", f"{label}, {regime}", "regimes", change(base)))
    return tuple(found)
