"""A recipe named on the command line, and its numbers as flags."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import tyro

from aign.framework.errors import UserError
from aign.recipes import RECIPES
from aign.recipes import recipe as recipe_named
from aign.recipes.lifting import LiftingRecipe
from aign.recipes.mocap import MocapRecipe
from aign.recipes.tasks import Recipe
from infra.storage import absolute
from pipelines.evaluate import package_folder


@dataclass(frozen=True, kw_only=True)
class LiftingFlags(LiftingRecipe):
    """A recipe as flags: its own name is none, for --name is the run's."""

    name: tyro.conf.Suppress[str]


@dataclass(frozen=True, kw_only=True)
class MocapFlags(MocapRecipe):
    """Likewise."""

    name: tyro.conf.Suppress[str]


Flags: TypeAlias = LiftingFlags | MocapFlags


def named(verb: str, argv: Sequence[str]) -> Recipe:
    """The recipe that a verb's arguments begin with; --help in its place lists them.

    Raises:
        UserError: there is none of that name, or no name.
    """
    known = f"recipes: {', '.join(RECIPES)}"
    if argv and argv[0] in ("-h", "--help"):
        print(f"usage: aign {verb} RECIPE --store URL ...   (aign {verb} RECIPE --help tells its flags)\n\n{known}")
        raise SystemExit(0)
    if not argv or argv[0].startswith("-"):
        raise UserError(f"name a recipe first: aign {verb} RECIPE --store URL; {known}")
    return recipe_named(argv[0])


def recipe_of(flags: Flags, mlflow: Path) -> Recipe:
    """The recipe, with the places that it names where every worker finds them."""
    if isinstance(flags, LiftingFlags):
        return LiftingRecipe(**vars(flags))
    recipe = MocapRecipe(**vars(flags))
    start = str(package_folder(recipe.start, mlflow).absolute()) if recipe.start else ""
    return dataclasses.replace(recipe, replay=absolute(recipe.replay) if recipe.replay else "", start=start)
