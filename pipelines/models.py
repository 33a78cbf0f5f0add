"""`aign models list|show|compare|promote|rollback|pull`."""

from collections.abc import Callable, Sequence
from pathlib import Path

import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from aign.evaluation.paired import MIN_UNITS, Difference
from aign.registry import models, promotion
from aign.registry.comparison import compare
from aign.registry.gates import Measured
from aign.registry.tracking import open_tracking
from pipelines.arguments import run_verb

MLFLOW = Path("mlflow")


def listing(mlflow: Path = MLFLOW) -> None:
    """Show every version: aliases, what it was measured at, licences.

    Args:
        mlflow: folder of the embedded MLflow store; MLFLOW_TRACKING_URI wins.
    """
    table = Table("model", "version", "alias", "metric", "value", "protocol", "store", "licences", "recipe")
    for row in models.list_models(open_tracking(mlflow)):
        score = row.score
        told = (score.metric, f"{score.value:.1f}", score.protocol, score.store_hash[:12]) if score else ("",) * 4
        table.add_row(row.name, str(row.version), ", ".join(row.aliases), *told, "\n".join(row.licences), row.recipe)
    Console().print(table if table.row_count else "no model is registered yet; see: aign register --help")


def show(uri: tyro.conf.Positional[str], mlflow: Path = MLFLOW) -> None:
    """Show everything of a version: card, limits, licences, numbers, what the gates said, who moved which alias.

    Args:
        uri: models:/NAME@champion or models:/NAME/3.
        mlflow: folder of the embedded MLflow store; MLFLOW_TRACKING_URI wins.
    """
    found, console = models.show(open_tracking(mlflow), uri), Console()
    row = found.row
    aliases = ", ".join(row.aliases) or "no alias"
    console.print(f"{row.name} version {row.version} ({aliases}), run {row.run_id}, {row.created:%Y-%m-%d %H:%M} UTC")
    console.print(f"licence policy of {row.name}: {found.policy}", highlight=False)
    console.print(Markdown(found.description))
    for measured in found.measured:
        console.print(_numbers(measured))
    gates = Table("at", "who", "champion", "the gates said", title="Gates", title_justify="left")
    for ruling in found.rulings:
        gates.add_row(ruling.at, f"{ruling.user}@{ruling.host}", "yes" if ruling.promote else "no", ruling.reason)
    console.print(gates)
    trail = Table("at", "who", "alias", "to version", "why", title=f"Aliases of {row.name}", title_justify="left")
    for move in found.moves:
        trail.add_row(move.at, f"{move.user}@{move.host}", move.alias, str(move.version), move.reason)
    console.print(trail)


def _numbers(measured: Measured) -> Table:
    score = measured.score
    title = f"Measured under {score.protocol} ({score.protocol_hash}) on store {score.store_hash[:12]}"
    table = Table("number", "value", "test units", title=title, title_justify="left")
    for name, value in measured.numbers.items():
        units = measured.units.get(name)
        table.add_row(name, f"{value:.4g}", str(len(units)) if units else "")
    return table


def comparing(first: tyro.conf.Positional[str], second: tyro.conf.Positional[str], mlflow: Path = MLFLOW) -> None:
    """Put two versions side by side: numbers, differences, and the 95 % interval of each.

    Args:
        first: models:/NAME@champion or models:/NAME/3.
        second: another.
        mlflow: folder of the embedded MLflow store; MLFLOW_TRACKING_URI wins.
    """
    found = compare(open_tracking(mlflow), first, second)
    better = "higher" if found.score.higher_is_better else "lower"
    title = f"{found.score.protocol} on store {found.score.store_hash[:12]}; {found.score.metric}: {better} is better"
    table = Table("number", found.first, found.second, "difference", "95 % interval", title=title, title_justify="left")
    for row in found.rows:
        told = _interval(row.difference)
        table.add_row(row.name, f"{row.first:.4g}", f"{row.second:.4g}", f"{row.second - row.first:+.4g}", told)
    Console().print(table)
    print(f"*: not luck. Intervals are of the paired bootstrap over test units; fewer than {MIN_UNITS} tell nothing.")


def _interval(found: Difference | None) -> str:
    if found is None:
        return ""
    star = " *" if found.significant else ""
    return f"{found.low:+.3g} to {found.high:+.3g} ({found.units}){star}"


def promote(
    name: tyro.conf.Positional[str], version: tyro.conf.Positional[int], force: bool = False, mlflow: Path = MLFLOW
) -> None:
    """Make a version the champion, if the gates allow it.

    Args:
        name: of the model.
        version: its number.
        force: although it was not measured better; licences and the check in a clean process still count.
        mlflow: folder of the embedded MLflow store; MLFLOW_TRACKING_URI wins.
    """
    decision = promotion.promote(open_tracking(mlflow), name, version, force)
    print(f"{name} version {version} is {'now' if decision.promote else 'not'} the champion: {decision.reason}")


def rollback(name: tyro.conf.Positional[str], mlflow: Path = MLFLOW) -> None:
    """Give the title back to the champion before.

    Args:
        name: of the model.
        mlflow: folder of the embedded MLflow store; MLFLOW_TRACKING_URI wins.
    """
    print(f"{name} version {promotion.roll_back(open_tracking(mlflow), name)} is the champion again")


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
    verbs: dict[str, Callable[..., None]] = {
        "list": listing, "show": show, "compare": comparing, "promote": promote, "rollback": rollback, "pull": pull
    }  # fmt: skip
    run_verb(verbs, "aign models", argv, __doc__ or "")
