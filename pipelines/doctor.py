"""`aign doctor`: what is here, what each thing enables, and what to type for what is missing."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from pipelines import doctor_checks as checks
from pipelines.arguments import parse
from pipelines.doctor_checks import Check

SICK = 1
_STYLES = {"ok": "green", "note": "yellow", "absent": "dim", "broken": "bold red"}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Look at the environment, the machine, Ray, MLflow, assets, body models and data; nothing is changed or fetched.

    Exits with 0 when nothing is broken (what is absent is not), with 1 when something is, with 2 for a wrong flag.

    Attributes:
        body: files or folders to search for body models, besides AIGN_BODY; they are told by what is in them.
        data: folders of data sets or stores to look at; some seconds more.
        mlflow: folder of the embedded MLflow store; MLFLOW_TRACKING_URI wins.
        address: of a running Ray cluster; else RAY_ADDRESS.
        json: print one JSON object for programs in place of the table.
    """

    body: tuple[Path, ...] = ()
    data: tuple[Path, ...] = ()
    mlflow: Path = Path("mlflow")
    address: str | None = None
    json: bool = False


def examine(args: Arguments) -> list[Check]:
    """Every check; one that fails by itself is a broken line and hides no other."""
    areas: list[tuple[str, Callable[[], Iterator[Check]]]] = [
        ("environment", checks.environment),
        ("machine", checks.machine),
        ("gpu", checks.gpu),
        ("ray", lambda: checks.ray(args.address)),
        ("mlflow", lambda: checks.mlflow(args.mlflow)),
        ("assets", checks.assets),
        ("bodies", lambda: checks.bodies(args.body)),
        *(("data", lambda place=place: checks.data(place)) for place in args.data),
    ]
    return [check for area, run in areas for check in _told(area, run)]


def _told(area: str, run: Callable[[], Iterator[Check]]) -> list[Check]:
    found: list[Check] = []
    try:
        found.extend(run())
    except Exception as error:  # whatever it is: a doctor who falls ill tells nothing of the rest
        reason = f"cannot be looked at: {type(error).__name__}: {' '.join(str(error).split())}"
        remedy = checks.INSTALL if isinstance(error, ImportError) else ""
        found.append(Check(area=area, name=area, state="broken", found=reason, remedy=remedy))
    return found


def drawn(found: Sequence[Check]) -> Table:
    """A row for each check; what to type stands below what it enables."""
    names = ("", "state", "what", "found", "enables; what to type")
    table = Table(*(Column(name, overflow="fold") for name in names), title="aign doctor")
    before = ""
    for check in found:
        do = Text(check.enables)
        if check.remedy:
            do.append(("\n" if check.enables else "") + check.remedy, style="bold")
        area = "" if check.area == before else check.area
        table.add_row(area, Text(check.state, _STYLES[check.state]), Text(check.name), Text(check.found), do)
        before = check.area
    return table


def main(argv: Sequence[str]) -> None:
    """Parse, look, tell."""
    args = parse(Arguments, "aign doctor", argv)
    found = examine(args)
    broken = [check for check in found if check.state == "broken"]
    if args.json:
        print(json.dumps({"ok": not broken, "checks": [asdict(check) for check in found]}, indent=1))
    else:
        Console().print(drawn(found))
        names = ", ".join(f"{check.area} {check.name}" for check in broken)
        print(f"broken: {names}" if broken else "nothing is broken")
    if broken:
        raise SystemExit(SICK)
