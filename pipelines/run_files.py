"""What a run leaves in its folder beside its log: the model, its report, tables and curves. Nothing here needs Ray."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from aign.inference.curves import training_curves
from aign.inference.package import ModelCard, save_package
from aign.recipes.task import Sources
from aign.recipes.tasks import Recipe, task_of
from pipelines.run_folder import publish

RESULTS = ("report.json", "table.md", "table.html", "table.csv", "curves.png", "package")


def write_results(folder: Path, recipe: Recipe, sources: Sources, model: nn.Module, report: Any) -> None:
    """Write `RESULTS` into a run's folder; report.json is the last, so a folder that has it has them all."""
    task = task_of(recipe)
    card = ModelCard(
        network=task.network(recipe),
        recipe=recipe.name,
        store_hash=sources.hashes["store"],
        sequences=sources.sequences,
        licences=sources.licences,
        protocol=f"{report.protocol} ({report.protocol_hash})",
        metrics=task.numbers(report),
        body=task.body,
        intended_use=task.intended_use,
        limits=task.limits(report),
    )
    save_package(folder / "package", model, card)
    table = task.draw([report], None)
    publish(folder / "table.md", table.markdown)
    publish(folder / "table.html", table.html)
    publish(folder / "table.csv", table.csv)
    training_curves(folder / "curves.png", {recipe.name: logged(folder)})
    publish(folder / "report.json", report.to_json())


def logged(folder: Path) -> list[dict[str, float]]:
    """The rows of a run's metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
