"""A search's folder: one folder a trial, which is all that is known of it and all that going on needs."""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from aign.evaluation.trials import Goal, State, Trial, mean_cosines
from aign.framework.errors import UserError
from aign.recipes.search import with_values
from aign.recipes.tasks import TASKS, Recipe, task_of
from aign.training.hooks import logged_lines
from pipelines.run_folder import publish

TRIALS, DRAWN, PROGRESS, ENDED, BEST = "trials", "trial.json", "progress.json", "end.json", "best.json"
"""Folder of the trials; in each what was drawn, how far it is and how it ended; beside them the best."""
DEFAULT = Path("tune")
"""Where searches are kept if nothing else is said: tune/RECIPE."""


@dataclass(frozen=True, kw_only=True)
class SearchFolder:
    """Where a search is.

    Attributes:
        out: its absolute folder.
        recipe: that is varied, with all its steps.
        steps: of a trial.
        goal: what trials are judged by.
    """

    out: Path
    recipe: Recipe
    steps: int
    goal: Goal

    def folder(self, number: int) -> Path:
        """Of a trial."""
        return self.out / TRIALS / f"{number:03d}"

    def numbers(self) -> list[int]:
        """Trials that were drawn."""
        return sorted(int(path.parent.name) for path in (self.out / TRIALS).glob(f"*/{DRAWN}"))

    def values(self, number: int) -> dict[str, float] | None:
        """What a trial was drawn; None: it was not."""
        path = self.folder(number) / DRAWN
        return dict(json.loads(path.read_text())["values"]) if path.exists() else None

    def open(self, number: int, values: Mapping[str, float]) -> None:
        """Begin a trial: write down what it is, so that it can be trained again by its folder alone."""
        recipe = with_values(self.recipe, values)
        drawn = {"number": number, "values": dict(values), "recipe": dataclasses.asdict(recipe)}
        folder = self.folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        publish(folder / DRAWN, json.dumps({**drawn, "task": task_of(recipe).name}, indent=1))

    def end(self, number: int, state: State, why: str = "") -> None:
        """Close a trial; its checkpoint has no more use."""
        folder = self.folder(number)
        publish(folder / ENDED, json.dumps({"state": state, "why": why}))
        (folder / "checkpoint.pt").unlink(missing_ok=True)

    def ended(self, number: int) -> bool:
        """Whether a trial needs nothing more."""
        return (self.folder(number) / ENDED).exists()

    def validations(self, number: int) -> list[dict[str, float | int]]:
        """The rows of a trial's log that hold the goal's metric."""
        rows = (json.loads(line) for line in logged_lines(self.folder(number)))
        return [row for row in rows if self.goal.metric.name in row]

    def trial(self, number: int) -> Trial:
        """All that is known of a trial."""
        folder = self.folder(number)
        progress, ended = _read(folder / PROGRESS), _read(folder / ENDED)
        return Trial(
            number=number,
            values=self.values(number) or {},
            state=ended.get("state", "open"),
            step=progress.get("step", 0),
            metrics=progress.get("metrics", {}),
            dead=tuple(progress.get("dead", ())),
            cosines=mean_cosines([json.loads(line) for line in logged_lines(folder)]),
            why=ended.get("why", ""),
        )

    def trials(self) -> Iterator[Trial]:
        """All that were drawn, in order."""
        return (self.trial(number) for number in self.numbers())

    def loss(self, number: int) -> float | None:
        """What a trial came to, lower is better: None where it has not ended, infinity where it failed."""
        ended = _read(self.folder(number) / ENDED)
        if not ended:
            return None
        metric = self.goal.metric
        value = _read(self.folder(number) / PROGRESS).get("metrics", {}).get(metric.name)
        return math.inf if ended["state"] == "failed" or value is None else metric.loss(value)


@dataclass(frozen=True, kw_only=True)
class Found:
    """A trial to be trained again: its recipe with all steps, and what to call it."""

    recipe: Recipe
    label: str


def find_trial(place: str, recipe_name: str) -> Found:
    """The trial that a place names.

    Args:
        place: a search's folder: its best; a trial's folder; or a trial's number in tune/RECIPE.
        recipe_name: of the recipe that is to be trained.

    Raises:
        UserError: there is none, or it is of another recipe.
    """
    path = Path(place).expanduser()
    if place.isdigit() and not path.exists():
        path = DEFAULT / recipe_name / TRIALS / f"{int(place):03d}"
    elif (path.parent / TRIALS / path.name / DRAWN).exists():
        path = path.parent / TRIALS / path.name
    elif (path / BEST).exists():
        path = path / TRIALS / f"{_read(path / BEST)['number']:03d}"
    drawn = _read(path / DRAWN)
    if not drawn:
        raise UserError(
            f"{place} is no trial: {path / DRAWN} is not there; allowed: OUT of `aign tune` (its best), "
            f"OUT/trials/NNN, or NNN of {DEFAULT / recipe_name}"
        )
    name = drawn["recipe"]["name"]
    if name != recipe_name:
        raise UserError(f"trial {path} is of recipe {name}, not of {recipe_name}; allowed: aign train {name}")
    try:
        kind: type[Any] = TASKS[drawn["task"]].recipe
        recipe: Recipe = TypeAdapter(kind).validate_python(drawn["recipe"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"trial {path} is of another version of {name}: {where}: {first['msg']}") from None
    return Found(recipe=recipe, label=f"trial{path.name}")


def _read(path: Path) -> dict[str, Any]:
    """A small JSON file, empty where there is none; it was published whole."""
    return dict(json.loads(path.read_text())) if path.exists() else {}
