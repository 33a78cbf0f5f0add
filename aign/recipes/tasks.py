"""The one table of tasks that are trained, measured and registered."""

from collections.abc import Mapping
from typing import TypeAlias

from aign.recipes.faces import InpaintingRecipe, SuperResolutionRecipe
from aign.recipes.faces_task import INPAINTING, SUPERRESOLUTION
from aign.recipes.lifting import LiftingRecipe
from aign.recipes.lifting_task import LIFTING
from aign.recipes.mocap import MocapRecipe
from aign.recipes.mocap_task import MOTION_CAPTURE
from aign.recipes.task import Task

Recipe: TypeAlias = LiftingRecipe | MocapRecipe | SuperResolutionRecipe | InpaintingRecipe

TASKS: Mapping[str, Task] = {task.name: task for task in (LIFTING, MOTION_CAPTURE, SUPERRESOLUTION, INPAINTING)}


def task_of(recipe: Recipe) -> Task:
    """The task of a recipe."""
    return next(task for task in TASKS.values() if isinstance(recipe, task.recipe))
