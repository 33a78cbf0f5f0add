"""Who plays which part in a reproduced table, in words, with how much it is."""

from collections.abc import Sequence

from aign.data.store import Selection, Store
from aign.recipes.lifting import LiftingRecipe

ROLES = ("memory", "labelled", "unlabelled", "validation", "test")
TABLES = {"keypoints": "frames", "memory_pose": "poses"}
_FEW = 3


def role_lines(played: Sequence[tuple[str, LiftingRecipe]], store: Store) -> tuple[str, ...]:
    """Regime and roles, and what is apart; rows that differ are told one by one.

    Args:
        played: label and recipe of each row.
        store: of all data.
    """
    lines = []
    for name in ("regime", *ROLES):
        said: dict[str, list[str]] = {}
        for label, recipe in played:
            text = recipe.roles.regime if name == "regime" else role_text(store, name, _role(recipe, name))
            said.setdefault(f"{name}: {text}", []).append(label)
        lines += [line if len(said) == 1 else f"{line} ({', '.join(labels)})" for line, labels in said.items()]
    apart = {recipe.roles.apart for _, recipe in played} == {"subjects"}
    people = ", and nobody is two of memory, labelled, unlabelled and test" if apart else ""
    lines.append(f"no sequence is in two of a row's roles{people}: checked on the store before anything was trained")
    return tuple(lines) if apart else (*lines, _few(store))


def role_text(store: Store, name: str, role: Selection | None) -> str:
    """A role in words, with how much it is."""
    if role is None:
        return "nothing"
    table = "memory_pose" if name == "memory" else "keypoints"
    found = store.row_groups((table,), role)
    parts = [", ".join(sorted({group.group.subject for group in found}))]
    actions = sorted({group.group.action for group in found} - {""})  # CMU's own file names say none
    if 0 < len(actions) <= _FEW:
        parts.append(f"{', '.join(actions)} only")
    if role.cameras is not None and name != "memory":
        parts.append(f"cameras {', '.join(role.cameras)} only")
    count = len({group.group.sequence for group in found})
    sequences = "1 sequence" if count == 1 else f"{count} sequences"
    return f"{'; '.join(parts)}: {sequences}, {sum(group.frames for group in found)} {TABLES[table]}"


def _role(recipe: LiftingRecipe, name: str) -> Selection | None:
    """A role as the recipe plays it: without samples in a batch it is not played."""
    sizes = {"labelled": recipe.labelled_batch, "unlabelled": recipe.unlabelled_batch}
    roles: dict[str, Selection | None] = {role: vars(recipe.roles)[role] for role in ROLES}
    return None if sizes.get(name) == 0 else roles[name]


def _few(store: Store) -> str:
    """What a table is worth whose parts are sequences."""
    groups = [found.group for found in store.row_groups(("keypoints", "labels"))]
    people = sorted({group.subject for group in groups})
    who = f"one subject ({people[0]})" if len(people) == 1 else f"{len(people)} subjects ({', '.join(people)})"
    return (
        f"the motions are few, {len({group.sequence for group in groups})} of {who}: whoever is tested is remembered "
        "and labelled too, in other motions. The numbers show that everything works, not what the methods can reach"
    )
