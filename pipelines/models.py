"""`aign models list|promote|roll-back|pull`."""

from collections.abc import Callable, Sequence
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from aign.registry import models
from aign.registry.tracking import open_tracking
from pipelines.arguments import run_verb

MLFLOW = Path("mlflow")


def listing(mlflow: Path = MLFLOW) -> None:
    """Show every version: aliases, what it was measured at, licences.

    Args:
        mlflow: folder of the embedded MLflow store; MLFLOW_TRACKING_URI wins.
    """
    table = Table("model", "version", "alias", "metric", "mm", "protocol", "store", "licences", "recipe")
    for row in models.list_models(open_tracking(mlflow)):
        score = row.score
        told = (score.metric, f"{score.value_mm:.1f}", score.protocol, score.store_hash[:12]) if score else ("",) * 4
        table.add_row(row.name, str(row.version), ", ".join(row.aliases), *told, "\n".join(row.licences), row.recipe)
    Console().print(table if table.row_count else "no model is registered yet; see: aign register --help")


def promote(
    name: tyro.conf.Positional[str], version: tyro.conf.Positional[int], force: bool = False, mlflow: Path = MLFLOW
) -> None:
    """Make a version the champion, if the gate allows it.

    Args:
        name: of the model.
        version: its number.
        force: although the gate refuses.
        mlflow: folder of the embedded MLflow store; MLFLOW_TRACKING_URI wins.
    """
    decision = models.promote(open_tracking(mlflow), name, version, force)
    print(f"{name} version {version} is {'now' if decision.promote else 'not'} the champion: {decision.reason}")


def roll_back(name: tyro.conf.Positional[str], mlflow: Path = MLFLOW) -> None:
    """Give the title back to the champion before.

    Args:
        name: of the model.
        mlflow: folder of the embedded MLflow store; MLFLOW_TRACKING_URI wins.
    """
    print(f"{name} version {models.roll_back(open_tracking(mlflow), name)} is the champion again")


def pull(uri: tyro.conf.Positional[str], out: Path = Path("models"), mlflow: Path = MLFLOW) -> None:
    """Fetch a model's package: safe weights and their card.

    Args:
        uri: models:/NAME@champion or models:/NAME/3.
        out: folder that receives it.
        mlflow: folder of the embedded MLflow store; MLFLOW_TRACKING_URI wins.
    """
    print(models.pull(open_tracking(mlflow), uri, out))


def main(argv: Sequence[str]) -> None:
    """Parse and run."""
    verbs: dict[str, Callable[..., None]] = {"list": listing, "promote": promote, "roll-back": roll_back, "pull": pull}
    run_verb(verbs, "aign models", argv, __doc__ or "")
