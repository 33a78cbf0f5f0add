"""Recipes of the lifting task, and how a recipe and a store become a training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor, nn

from aign.data.loader import ClipLoader, LoaderConfig
from aign.data.store import Selection, Store, check_disjoint
from aign.evaluation.lifting import lifter_method, load_view, measure, metrics, reprojection_px
from aign.evaluation.report import Provenance
from aign.framework.aign import Aign
from aign.framework.errors import UserError
from aign.geometry.skeleton import H36M17, skeleton
from aign.tasks.lifting import LifterConfig, LiftingConfig, build
from aign.tasks.lifting.factors import PoseFactors, PoseMemory, remember
from aign.tasks.lifting.feed import KEYPOINT_COLUMNS, LABEL_COLUMNS, LiftingFeed, labels_h36m17
from aign.tasks.lifting.frames import Frames, neighbours
from aign.tasks.lifting.imagination import Imagination
from aign.tasks.lifting.observation import Observation, observe
from aign.training import FitConfig, Hooks

VALIDATION_PROTOCOL = "open-motion/heldout/j17/root0"
"""What a training is judged by while it runs, whatever its data: no subject is prescribed, the recipe says which."""


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Which clips of the store play which part; None: that part is not played.

    Attributes:
        regime: what the choice is called: unpaired, semi, shifted, full (`aign.recipes.regimes`).
        apart: what memory, labelled, unlabelled and test may not share: a subject, or (of one subject) a sequence.
        memory: real poses for basis and critics, unpaired.
        labelled: 2D with 3D labels.
        unlabelled: 2D alone.
        validation: what the training is judged on while it runs.
        test: what is reported.
    """

    regime: str
    apart: Literal["subjects", "sequences"] = "subjects"
    memory: Selection
    labelled: Selection | None
    unlabelled: Selection | None
    validation: Selection
    test: Selection


@dataclass(frozen=True, kw_only=True)
class LiftingRecipe:
    """One run, whole.

    Attributes:
        name: of the recipe.
        task: networks, critics, weights.
        roles: who is memory, who is seen, who is tested.
        labelled_batch: labelled samples of a step over all ranks.
        unlabelled_batch: unlabelled ones.
        imagined_batch: remembered ones, rendered by P and labelled with what was remembered.
        imagined_mix: the share of them that get the arms of another remembered moment.
        loader_streams: canonical streams of each loader; world sizes must divide it.
        fit: how long and how fast.
        protocol: id of the protocol of the final report.
        seed: of networks, memory and data order.
    """

    name: str
    task: LiftingConfig = LiftingConfig()
    roles: Roles
    labelled_batch: int = 128
    unlabelled_batch: int = 384
    imagined_batch: int = 0
    imagined_mix: float = 0.0
    loader_streams: int = 8
    fit: FitConfig = FitConfig()
    protocol: str = VALIDATION_PROTOCOL
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Training:
    """What `fit` needs, made of a recipe and a store."""

    aign: Aign[Observation, PoseFactors, Tensor]
    feed: LiftingFeed
    validate: Callable[[nn.Module], dict[str, float]]


def check_roles(store: Store, roles: Roles) -> dict[str, frozenset[str]]:
    """Sequences of every role, after proving that no two roles share one, nor a subject where they may not.

    Raises:
        UserError: two roles share a sequence or a subject, or one is empty.
    """
    tables = {
        "memory": ("memory_pose",),
        "labelled": ("keypoints", "labels"),
        "unlabelled": ("keypoints",),
        "validation": ("keypoints", "labels"),
        "test": ("keypoints", "labels"),
    }
    chosen = {name: (tables[name], role) for name, role in vars(roles).items() if name in tables and role is not None}
    found = {name: store.sequences(*role) for name, role in chosen.items()}
    for (one, its), (other, others) in combinations(found.items(), 2):
        check_disjoint(its, others, (one, other))
    if roles.apart == "subjects":
        _check_subjects(store, chosen)
    return found


def _check_subjects(store: Store, chosen: Mapping[str, tuple[tuple[str, ...], Selection]]) -> None:
    """Validation may be of a subject that is labelled or seen; nobody is two of the others, nor validation and test."""
    people = {name: {found.group.subject for found in store.row_groups(*role)} for name, role in chosen.items()}
    for one, other in combinations(people, 2):
        if "validation" in (one, other) and "test" not in (one, other):
            continue
        if shared := sorted(people[one] & people[other]):
            raise UserError(f"{one} and {other} share subjects {', '.join(shared)}; they must share none")


def load_imagination(store: Store, selection: Selection, frames: int = 1) -> Imagination:
    """The memory's motion and cameras, as windows of so many frames."""
    clips = store.read({"memory_pose": ("joints_world_m", "rig_rot_world_to_cam")}, selection)
    source = skeleton(store.manifest.skeleton)
    joints = torch.from_numpy(clips.arrays["joints_world_m"])
    poses, valid = labels_h36m17(joints, torch.ones(joints.shape[:2], dtype=torch.bool), source)
    if not valid.all():
        raise UserError(f"a memory needs all 17 joints; {source.name} gives {int(valid[0].sum())} of them")
    counts = clips.counts["rig_rot_world_to_cam"]
    if (counts != counts[0]).any():
        raise UserError(f"memory clips have rigs of {counts.min()} to {counts.max()} cameras; one size is needed")
    rigs = torch.from_numpy(clips.arrays["rig_rot_world_to_cam"]).reshape(len(counts), -1, 3, 3)
    clip = torch.from_numpy(clips.clip_index).long()
    return Imagination(joints_world_m=poses, rig_rot=rigs[clip], windows=neighbours(clip, frames // 2))


def load_memory(store: Store, selection: Selection, roll_deg: float = 0.0, seen: Selection | None = None) -> PoseMemory:
    """The memory's poses as the task's factors, its cameras rolled by up to `roll_deg`.

    Args:
        store: with memory_pose.
        selection: of the memory.
        roll_deg: see `remember`.
        seen: whose keypoints are remembered as pictures; None: the memory's own poses are projected.
    """
    motion = load_imagination(store, selection)
    pictures = None if seen is None else _pictures(load_view(store, seen, labels=False).frames)
    return remember(motion.joints_world_m, motion.rig_rot, roll_deg, pictures)


def _pictures(frames: Frames) -> tuple[Tensor, Tensor]:
    """Keypoints of the frames that show every joint that is shown at all (in a tenth of the frames, or more)."""
    there = frames.conf > 0
    shown = there.float().mean(0) > 0.1
    shown = shown & shown[list(H36M17.mirrored)]
    whole = frames.part((there | ~shown).all(1))
    if not shown[0] or len(whole) == 0:
        raise UserError("no frame shows the pelvis and the other joints, so there are no pictures to compare with")
    return observe(whole.kp2d_px.unsqueeze(1), whole.conf.unsqueeze(1), whole.camera)[0].target2d, shown


def prepare(recipe: LiftingRecipe, store: Store, hooks: Hooks) -> Training:
    """Networks, batches and validation of a recipe on a store.

    Raises:
        UserError: roles overlap or are empty, or sizes do not fit.
    """
    check_roles(store, recipe.roles)
    # The critic of pictures compares with what is really seen, if anything is.
    seen = recipe.roles.unlabelled if recipe.task.weights.get("picture") else None
    memory = load_memory(store, recipe.roles.memory, recipe.task.augmentation.roll_deg, seen)
    aign = build(recipe.task, memory, hooks.rank, hooks.world, recipe.seed)

    def loader(
        selection: Selection | None, batch: int, columns: dict[str, tuple[str, ...]], offset: int
    ) -> ClipLoader | None:
        if selection is None or batch == 0:
            return None
        config = LoaderConfig(
            batch_size=batch,
            streams=recipe.loader_streams,
            seed=recipe.seed + offset,
            window_frames=recipe.task.lifter.frames,
        )
        return ClipLoader(store, columns, selection, config, rank=hooks.rank, world=hooks.world)

    labelled_columns = {"keypoints": KEYPOINT_COLUMNS, "labels": LABEL_COLUMNS}
    feed = LiftingFeed(
        loader(recipe.roles.labelled, recipe.labelled_batch, labelled_columns, 0),
        loader(recipe.roles.unlabelled, recipe.unlabelled_batch, {"keypoints": KEYPOINT_COLUMNS}, 1),
        skeleton(store.manifest.skeleton),
        recipe.task.augmentation,
        hooks.device,
        _imagination(recipe, store),
    )

    view = load_view(store, recipe.roles.validation) if hooks.rank == 0 else None

    def validate(lifter: nn.Module) -> dict[str, float]:
        assert view is not None, "only rank 0 validates"
        provenance = Provenance(method=recipe.name, data="validation", store_hash=store.hash)
        joints = lifter_method(lifter, hooks.device)(view.frames)
        report = measure(lambda _: joints, view, VALIDATION_PROTOCOL, provenance)
        numbers = {**metrics(report), "reprojection_px": reprojection_px(joints, view.frames)}
        return {f"val/{name}": value for name, value in numbers.items()}

    return Training(aign=aign, feed=feed, validate=validate)


def _imagination(recipe: LiftingRecipe, store: Store) -> tuple[Imagination, int] | None:
    """What the feed needs to imagine."""
    if recipe.imagined_batch == 0:
        return None
    beside = recipe.unlabelled_batch or recipe.labelled_batch
    if beside % recipe.imagined_batch:
        raise UserError(
            f"got imagined_batch {recipe.imagined_batch}; allowed are divisors of {beside}, the samples it is beside"
        )
    motion = load_imagination(store, recipe.roles.memory, recipe.task.lifter.frames)
    return replace(motion, mix=recipe.imagined_mix), beside // recipe.imagined_batch


def forward(recipe: LiftingRecipe) -> LiftingRecipe:
    """Forward2Dto3D: the labelled subset alone, supervised regression alone."""
    weights = dict.fromkeys(recipe.task.weights, 0.0) | {"supervised": recipe.task.weights["supervised"]}
    return replace(
        recipe,
        name=f"{recipe.name}-forward",
        task=replace(recipe.task, weights=weights),
        unlabelled_batch=0,
        imagined_batch=0,
    )


def interpreter(recipe: LiftingRecipe) -> LiftingRecipe:
    """3D interpreter style (Wu et al., ECCV 2016): supervised, and reprojection on everything seen; no critic."""
    kept = {name: recipe.task.weights[name] for name in ("supervised", "reprojection")}
    weights = dict.fromkeys(recipe.task.weights, 0.0) | kept
    return replace(
        recipe, name=f"{recipe.name}-interpreter", task=replace(recipe.task, weights=weights), imagined_batch=0
    )


def _demo(*names: str) -> Selection:
    return Selection(sequences=tuple(f"demo/{name}" for name in names))


def lifting_demo() -> LiftingRecipe:
    """The embedded clips: seven are memory, one is labelled, five are only seen, two validate, five are held out."""
    return LiftingRecipe(
        name="lifting-demo",
        task=LiftingConfig(lifter=LifterConfig(width=256)),
        roles=Roles(
            regime="semi",
            apart="sequences",
            memory=_demo("backflip", "getup_faceup", "kick", "punch", "roll", "spin", "turn_right1"),
            labelled=_demo("0walk_forward"),
            unlabelled=_demo("cartwheel", "crawl", "dance_a", "getup_facedown", "run"),
            validation=_demo("turn_left0", "turn_left1"),
            test=_demo("dance_b", "jump", "spinkick", "turn_right0", "walk"),
        ),
        labelled_batch=64,
        unlabelled_batch=192,
        fit=FitConfig(steps=1500, validate_every=500),
    )


def lifting_h36m() -> LiftingRecipe:
    """Human3.6M, semi-supervised: S1 labelled, S5 and S6 seen, S7 remembered, S8 validates, S9 and S11 test."""
    return LiftingRecipe(
        name="lifting-h36m",
        roles=Roles(
            regime="semi",
            memory=Selection(subjects=("S7",)),
            labelled=Selection(subjects=("S1",)),
            unlabelled=Selection(subjects=("S5", "S6")),
            validation=Selection(subjects=("S8",)),
            test=Selection(subjects=("S9", "S11")),
        ),
        fit=FitConfig(steps=20000, validate_every=2000),
        protocol="aign-iccv17-15",
    )
