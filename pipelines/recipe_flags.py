"""A recipe named on the command line, and its numbers as flags."""

from collections.abc import Sequence
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from aign.framework.errors import UserError
from aign.recipes import RECIPES
from aign.recipes import recipe as recipe_named
from aign.recipes.tasks import Recipe, task_of
from infra.storage import absolute
from pipelines.arguments import parse_over
from pipelines.package_place import package_folder

A = TypeVar("A")


@dataclass(frozen=True, kw_only=True)
class Parsed(Generic[A]):
    """A verb's own arguments, and the recipe that the other flags tell of."""

    args: A
    recipe: Recipe


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


def parse_recipe(args: A, recipe: Recipe, prog: str, flags: Sequence[str]) -> Parsed[A]:
    """Flags over a verb's arguments and over every number of a recipe.

    Args:
        args: a dataclass of the verb's own; tyro.MISSING in it is a required flag.
        recipe: whose numbers stand where no flag says otherwise.
        prog: that help is of.
        flags: of both.

    Raises:
        UserError: what `parse_over` raises.
    """
    unnamed, both = _flags(type(recipe), type(args))
    told: Any = parse_over(both(**vars(args), recipe=unnamed(**vars(recipe))), prog, flags)
    own = replace(args, **{name: vars(told)[name] for name in vars(args)})  # type: ignore[type-var]
    return Parsed(args=own, recipe=type(recipe)(**vars(told.recipe)))


def chosen(recipe: Recipe, mlflow: Path) -> Recipe:
    """The recipe, with the places that it names where every worker finds them."""

    def model(name: str) -> str:
        return str(package_folder(name, mlflow).absolute())

    located: Recipe = task_of(recipe).located(recipe, absolute, model)
    return located


def _flags(kind: type[Any], arguments: type[Any]) -> tuple[type[Any], type[Any]]:
    """A kind of recipe as flags (its own name is none, for --name is the run's), and the arguments that hold it."""
    unnamed = make_dataclass(
        f"_{kind.__name__}", [("name", tyro.conf.Suppress[str])], bases=(kind,), frozen=True, kw_only=True
    )
    recipe: Any = Annotated[unnamed, tyro.conf.arg(name="")]
    both = make_dataclass(
        f"{kind.__name__}Arguments", [("recipe", recipe)], bases=(arguments,), frozen=True, kw_only=True
    )
    unnamed.__doc__, both.__doc__ = kind.__doc__, arguments.__doc__
    return unnamed, both
