"""Recipes: one Python function per run. `RECIPES` is the one table of them."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from aign.framework.errors import UserError
from aign.recipes.lifting import LiftingRecipe, forward, interpreter, lifting_demo, lifting_h36m
from aign.recipes.lifting_tables import best, heatmaps

RECIPES: Mapping[str, Callable[[], LiftingRecipe]] = {
    "lifting-demo": lifting_demo,
    "lifting-demo-forward": lambda: forward(lifting_demo()),
    "lifting-demo-interpreter": lambda: interpreter(lifting_demo()),
    "lifting-h36m": lifting_h36m,
    "lifting-h36m-forward": lambda: forward(lifting_h36m()),
    "lifting-h36m-interpreter": lambda: interpreter(lifting_h36m()),
    "lifting-h36m-heatmaps": lambda: replace(heatmaps(lifting_h36m()), name="lifting-h36m-heatmaps"),
    "lifting-h36m-ours": lambda: replace(best(lifting_h36m()), name="lifting-h36m-ours"),
}


def recipe(name: str) -> LiftingRecipe:
    """The recipe of that name.

    Raises:
        UserError: there is none; close names are offered.
    """
    if name not in RECIPES:
        import difflib

        close = difflib.get_close_matches(name, RECIPES, n=2)
        hint = f"did you mean {' or '.join(close)}?" if close else f"allowed: {', '.join(RECIPES)}"
        raise UserError(f"unknown recipe {name!r}; {hint}")
    return RECIPES[name]()
