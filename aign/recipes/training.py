"""A recipe of any task, trained on a store in one process."""

from aign.data.store import Store
from aign.recipes.tasks import Recipe, task_of
from aign.training import FitResult, Hooks, fit
from aign.training.identity import flatten


def train_recipe(recipe: Recipe, store: Store, hooks: Hooks) -> FitResult:
    """Train, as the rank that the hooks say and from where they say.

    Raises:
        UserError: what the task's `prepare` and `fit` raise.
    """
    training = task_of(recipe).prepare(recipe, store, hooks)
    identity = {**flatten(recipe), "store_hash": store.hash}
    try:
        return fit(training.aign, training.feed, recipe.fit, hooks, training.validate, identity)
    finally:
        training.feed.close()
