"""Recipes: one Python function per run. `RECIPES` is the one table of them."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from aign.framework.errors import UserError
from aign.recipes import faces_runs
from aign.recipes.lifting import forward, interpreter, lifting_demo, lifting_h36m
from aign.recipes.lifting_tables import best, heatmaps
from aign.recipes.mocap_runs import mocap_joint, mocap_pretrain, mocap_selfsup
from aign.recipes.tasks import Recipe

RECIPES: Mapping[str, Callable[[], Recipe]] = {
    "lifting-demo": lifting_demo,
    "lifting-demo-forward": lambda: forward(lifting_demo()),
    "lifting-demo-interpreter": lambda: interpreter(lifting_demo()),
    "lifting-h36m": lifting_h36m,
    "lifting-h36m-forward": lambda: forward(lifting_h36m()),
    "lifting-h36m-interpreter": lambda: interpreter(lifting_h36m()),
    "lifting-h36m-heatmaps": lambda: replace(heatmaps(lifting_h36m()), name="lifting-h36m-heatmaps"),
    "lifting-h36m-ours": lambda: replace(best(lifting_h36m()), name="lifting-h36m-ours"),
    "mocap-pretrain": mocap_pretrain,
    "mocap-selfsup": mocap_selfsup,
    "mocap-joint": mocap_joint,
    "superresolution": faces_runs.superresolution_recipe,
    "superresolution-8-32": faces_runs.superresolution_tiny,
    "superresolution-32-128": faces_runs.superresolution_32,
    "superresolution-renderer": lambda: faces_runs.renderer_only(faces_runs.superresolution_recipe()),
    "superresolution-paired": lambda: faces_runs.paired_only(faces_runs.superresolution_recipe()),
    "superresolution-cycle": lambda: faces_runs.cycled(faces_runs.superresolution_recipe()),
    "inpainting": faces_runs.inpainting_recipe,
    "inpainting-nose": faces_runs.inpainting_nose,
}


def recipe(name: str) -> Recipe:
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
