"""Regimes: whose motion is remembered, labelled, only seen, and tested, for any store with enough of it.

Subjects never play two of the parts memory, labelled, unlabelled and test; where there are too few of them, as in the
embedded motions, sequences do not. `check_roles` proves it on the store itself.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from aign.data.actions import ACTIONS_15, canonical_action
from aign.data.store import Selection, Store
from aign.framework.errors import UserError
from aign.recipes.lifting import Roles, lifting_demo

Regime: TypeAlias = Literal["unpaired", "semi", "shifted", "full"]
WALKING = "Walking"


@dataclass(frozen=True, kw_only=True)
class Take:
    """A sequence of the store that has keypoints and labels.

    Attributes:
        name: its id.
        subject: whose.
        action: canonical if it is one of Human3.6M's, else the data's own name.
        frames: frames of one camera.
    """

    name: str
    subject: str
    action: str
    frames: int


@dataclass(frozen=True, kw_only=True)
class Cast:
    """Subjects by part, or sequences of too few subjects, and what the store holds.

    Attributes:
        apart: whether the four parts are names of subjects or of sequences.
        labelled: may be labelled.
        unlabelled: are only seen.
        memory: are remembered.
        validation: sequences that judge a training while it runs; of the labelled subjects, or of a subject of its own.
        test: are reported.
        cameras: of the store.
        takes: of the labelled and unlabelled, without those of validation.
    """

    apart: Literal["subjects", "sequences"]
    labelled: tuple[str, ...]
    unlabelled: tuple[str, ...]
    memory: tuple[str, ...]
    validation: Selection
    test: tuple[str, ...]
    cameras: tuple[str, ...]
    takes: tuple[Take, ...]


H36M_TEST = ("S9", "S11")
H36M_PARTS = {"labelled": ("S1",), "unlabelled": ("S5", "S6"), "memory": ("S7",)}
VALIDATION_ACTIONS = ("Discussion", "Posing")
"""Of the labelled subject, where no subject can be spared for validation."""
FEWEST_SUBJECTS, FEWEST_SEQUENCES = 4, 8


def cast(store: Store) -> Cast:
    """Who plays what in a store.

    Human3.6M's subjects, or a file with its names: S1 is labelled, S5 and S6 are seen, S7 is remembered; S9 and S11
    are tested and S8 validates, or where they are not there, S8 is tested and two actions of S1 validate. Other stores,
    in the order of the subjects' names: the first fifth (one at least) is labelled, the last is tested, the one before
    it remembered, the others are seen; a fifth of the sequences of the first validates.

    With fewer than four subjects the parts are sequences: the embedded motions play what they play in `lifting_demo`;
    of others, in an order that means nothing, a quarter is tested, a quarter remembered, an eighth validates, an eighth
    is labelled and the rest is seen.

    Raises:
        UserError: fewer than four subjects, and fewer than eight sequences.
    """
    every, cameras = _takes(store)
    subjects = sorted({s.subject for s in every})
    parts = H36M_PARTS
    if {s for names in parts.values() for s in names} <= set(subjects) and "S8" in subjects:
        tested = tuple(s for s in H36M_TEST if s in subjects)
        test = tested or ("S8",)
        validation = Selection(subjects=("S8",)) if tested else Selection(subjects=("S1",), actions=VALIDATION_ACTIONS)
    elif len(subjects) >= FEWEST_SUBJECTS:
        fifth = max(1, len(subjects) // 5)
        first, seen, memory = subjects[:fifth], subjects[fifth : -2 * fifth], subjects[-2 * fifth : -fifth]
        parts = {"labelled": tuple(first), "unlabelled": tuple(seen), "memory": tuple(memory)}
        test = tuple(subjects[-fifth:])
        its = [s.name for s in _shuffled([s for s in every if s.subject in first])]
        validation = Selection(sequences=tuple(sorted(its[: max(1, len(its) // 5)])))
    elif len(every) >= FEWEST_SEQUENCES:
        return _cast_sequences(every, cameras)
    else:
        names = ", ".join(subjects)
        raise UserError(
            f"store {store.url} has {len(subjects)} subjects ({names}) and {len(every)} sequences; a table needs at "
            f"least {FEWEST_SUBJECTS} subjects or {FEWEST_SEQUENCES} sequences, because memory, labelled, unlabelled "
            "and test share none"
        )
    held = store.sequences(("keypoints", "labels"), validation)
    training = (*parts["labelled"], *parts["unlabelled"])
    free = tuple(s for s in every if s.subject in training and s.name not in held)
    return Cast(apart="subjects", **parts, validation=validation, test=test, cameras=cameras, takes=free)


def _cast_sequences(every: Sequence[Take], cameras: tuple[str, ...]) -> Cast:
    """Parts by sequence."""
    demo = lifting_demo().roles
    given = {name: vars(demo)[name].sequences for name in ("memory", "labelled", "unlabelled", "validation", "test")}
    if {name for names in given.values() for name in names} != {s.name for s in every}:
        names = [s.name for s in _shuffled(every)]
        quarter, eighth = len(names) // 4, len(names) // 8
        sizes = {"test": quarter, "memory": quarter, "validation": eighth, "labelled": eighth, "unlabelled": None}
        given = {}
        for part, size in sizes.items():
            given[part], names = tuple(sorted(names[:size])), names[size:] if size else []
    validation = Selection(sequences=given.pop("validation"))
    training = (*given["labelled"], *given["unlabelled"])
    free = tuple(s for s in every if s.name in training)
    return Cast(apart="sequences", **given, validation=validation, cameras=cameras, takes=free)


def _takes(store: Store) -> tuple[tuple[Take, ...], tuple[str, ...]]:
    """Sequences with labels by name, and all cameras."""
    frames: dict[tuple[str, str, str], int] = {}
    cameras: set[str] = set()
    for found in store.row_groups(("keypoints", "labels")):
        group = found.group
        key = (group.sequence, group.subject, _action(group.action))
        cameras |= group.cameras
        frames[key] = frames.get(key, 0) + group.frames // max(len(group.cameras), 1)
    takes = tuple(
        Take(name=name, subject=subject, action=action, frames=count)
        for (name, subject, action), count in sorted(frames.items())
    )
    return takes, tuple(sorted(cameras))


def _action(name: str) -> str:
    try:
        return canonical_action(name)
    except UserError:  # other data have names of their own
        return name


def _walks(take: Take) -> bool:
    """Walking by Human3.6M's name (with a dog or together is another action), or any walk of other data."""
    return take.action == WALKING or (take.action not in ACTIONS_15 and "walk" in take.action.lower())


def _part(who: Cast, names: tuple[str, ...]) -> Selection:
    return Selection(subjects=names) if who.apart == "subjects" else Selection(sequences=names)


def _labelled(who: Cast) -> list[Take]:
    """Takes that may be labelled."""
    return [s for s in who.takes if (s.subject if who.apart == "subjects" else s.name) in who.labelled]


def roles(who: Cast, regime: Regime) -> Roles:
    """Roles of a regime.

    unpaired: no labels. semi: the labelled subjects are labelled whole. shifted: of them walking alone (a fifth of the
    frames, where no motion has that name), by half of the cameras, while the unlabelled are seen by the other half.
    full: labelled and unlabelled subjects are labelled, nobody is only seen. Where sequences are the parts, the same is
    said of them, but everybody is seen by all cameras, as half of so few frames would not fill a step of windows: of
    the embedded motions one walk may be labelled, so shifted is semi there.
    """
    takes = _labelled(who)
    unlabelled = _part(who, who.unlabelled)
    if regime == "full":
        takes = list(who.takes)
    labelled = _named(takes)
    if regime == "shifted":
        labelled = _named([s for s in takes if _walks(s)] or _share(takes, 20.0))
        if who.apart == "subjects":
            half = len(who.cameras) // 2
            labelled = replace(labelled, cameras=who.cameras[:half] or None)
            unlabelled = replace(unlabelled, cameras=who.cameras[half:])
    return Roles(
        regime=regime,
        apart=who.apart,
        memory=_part(who, who.memory),
        labelled=None if regime == "unpaired" else labelled,
        unlabelled=None if regime == "full" else unlabelled,
        validation=who.validation,
        test=_part(who, who.test),
    )


def _named(takes: Sequence[Take]) -> Selection:
    return Selection(sequences=tuple(s.name for s in takes))


def label_roles(who: Cast, percent: float) -> Roles:
    """Roles with that share of the labelled subjects' frames labelled, by whole sequences, at least one."""
    takes = _share(_labelled(who), percent)
    return replace(roles(who, "semi"), regime=f"semi {percent:g} %", labelled=_named(takes))


def _share(sequences: Sequence[Take], percent: float) -> list[Take]:
    """Sequences in an order that means nothing, until the share of the frames is reached."""
    wanted = percent / 100 * sum(s.frames for s in sequences)
    chosen: list[Take] = []
    for sequence in _shuffled(sequences):
        if chosen and sum(s.frames for s in chosen) + sequence.frames / 2 > wanted:
            break
        chosen.append(sequence)
    return sorted(chosen, key=lambda s: s.name)


def _shuffled(sequences: Sequence[Take]) -> list[Take]:
    return sorted(sequences, key=lambda s: hashlib.sha256(s.name.encode()).hexdigest())
