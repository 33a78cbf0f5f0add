"""Recipes of faces by name: the sizes, and the controls that leave out the critic, the memory or the renderer."""

from dataclasses import replace
from typing import Any, TypeVar

from aign.recipes.faces import InpaintingRecipe, SuperResolutionRecipe
from aign.tasks.faces import superresolution

R = TypeVar("R", bound=SuperResolutionRecipe | InpaintingRecipe)
FEW_STEPS, FEW_BATCH, FEW_SHARE = 240, 8, 0.9
"""Of a training on few pictures: steps, pictures a step, and share of the members that are remembered."""
FEW_GAMMA, FEW_PAIRED = 0.2, 0.1
"""Likewise: of the penalty on the critic, and weight of the true pictures by the renderer's."""


def superresolution_recipe() -> SuperResolutionRecipe:
    """16 to 64 px: minutes on two cores. --bias sex=female and the like; nothing: plain super-resolution."""
    return SuperResolutionRecipe(name="superresolution")


def superresolution_32() -> SuperResolutionRecipe:
    """32 to 128 px, the paper's size."""
    base = superresolution_recipe()
    generator = replace(base.task.generator, low_px=32, channels=64, blocks=8)
    task = replace(base.task, generator=generator)
    return replace(base, name="superresolution-32-128", task=task)


def superresolution_tiny() -> SuperResolutionRecipe:
    """8 to 32 px: seconds."""
    base = superresolution_recipe()
    task = replace(
        base.task,
        generator=replace(base.task.generator, low_px=8, channels=16, blocks=2),
        critic=replace(base.task.critic, channels=16, patches=False, gamma=1.0),
        weights=superresolution.weights(render=100.0, critic=0.3),
    )
    fit = replace(base.fit, steps=300, lr=2e-3, ema=0.98, validate_every=300)
    return replace(base, name="superresolution-8-32", task=task, fit=fit)


def weighed(recipe: SuperResolutionRecipe, name: str, **on: float) -> SuperResolutionRecipe:
    """The same run with these weights alone."""
    task = replace(recipe.task, weights=superresolution.weights(**on))
    return replace(recipe, name=f"{recipe.name}-{name}", task=task)


def renderer_only(recipe: SuperResolutionRecipe) -> SuperResolutionRecipe:
    """Control: no critic, so nothing is biased and nothing imagined."""
    return weighed(recipe, "renderer", render=recipe.task.weights["render"])


def paired_only(recipe: SuperResolutionRecipe) -> SuperResolutionRecipe:
    """Control: supervised by the true pictures, squared error."""
    return weighed(recipe, "paired", paired=100.0)


def cycled(recipe: SuperResolutionRecipe) -> SuperResolutionRecipe:
    """Control: a second network back instead of the renderer (the author's, papers.md 1.4)."""
    kept = recipe.task.weights
    return weighed(recipe, "cycle", cycle=kept["render"], critic=kept["critic"])


def inpainting_recipe() -> InpaintingRecipe:
    """64 px, lips; --bias 'lips>q90'. Most of the few members are remembered, as in the author code."""
    return InpaintingRecipe(name="inpainting", memory_share=0.9)


def inpainting_nose() -> InpaintingRecipe:
    """The same for the nose."""
    base = inpainting_recipe()
    return replace(base, name="inpainting-nose", task=replace(base.task, mask=replace(base.task.mask, part="nose")))


def going_on(recipe: R, package: str, steps: int | None = None) -> R:
    """The same run from a trained model on, on other and fewer pictures: shorter, slower, most members remembered.

    A critic of few whole pictures soon knows them by heart, and what the generator then makes is hatching. Patches are
    many more, and a share of supervision by the true pictures, where the renderer plays, keeps noise away.

    Args:
        recipe: as it is from nothing.
        package: folder of the model.
        steps: None: `FEW_STEPS`.
    """
    task: Any = replace(recipe.task, critic=replace(recipe.task.critic, patches=True, gamma=FEW_GAMMA))
    on = task.weights
    if on["render"] > 0 and on["critic"] > 0:
        task = replace(task, weights={**on, "paired": FEW_PAIRED * on["render"]})
    slower = replace(recipe.fit, steps=steps or FEW_STEPS, lr=0.5 * recipe.fit.lr)
    return replace(recipe, task=task, start=package, batch=FEW_BATCH, memory_share=FEW_SHARE, fit=slower)
