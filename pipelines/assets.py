"""`aign assets pull|list|verify`."""

from collections.abc import Callable, Sequence

import tyro
from rich.console import Console
from rich.table import Table

from aign.data import assets
from aign.framework.errors import UserError
from pipelines.arguments import run_verb


def pull(names: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Fetch pinned assets through pip and npm into the cache.

    Args:
        names: names or groups (pose, pose2sim, motions); nothing: what a run needs.
    """
    found = assets.pull(names or None)
    print(f"{len(found)} assets are in place; `aign assets list` says where")


def listing() -> None:
    """Show every asset: package, licence, size, and where it lies."""
    table = Table("asset", "package", "licence", "size", "here", title="pinned assets")
    for row in assets.listing():
        package = row.asset.package
        table.add_row(
            row.asset.name,
            f"{package.registry}: {package.name} {package.version}",
            package.licence,
            f"{row.asset.size_bytes / 1e6:.1f} MB",
            str(row.at) if row.at else "no",
        )
    Console().print(table)


def verify() -> None:
    """Compare every asset that is here with its pinned sha256."""
    rows = assets.verify()
    bad = [f"{name} ({why})" for name, ok, why in rows if not ok and why != "not pulled"]
    absent = sum(why == "not pulled" for _, _, why in rows)
    if bad:
        raise UserError(f"damaged assets: {'; '.join(bad)}; run: aign assets pull")
    print(f"{len(rows) - absent} assets are intact, {absent} are not pulled")


def main(argv: Sequence[str]) -> None:
    """Parse and run."""
    verbs: dict[str, Callable[..., None]] = {"pull": pull, "list": listing, "verify": verify}
    run_verb(verbs, "aign assets", argv, __doc__ or "")
