"""`aign reproduce`: a table of the papers, rebuilt; each has its own flags."""

import importlib
from collections.abc import Mapping, Sequence

from aign.framework.errors import UserError

TABLES: Mapping[str, tuple[str, str]] = {
    "table1": ("pipelines.reproduce_lifting", "3D pose from ground-truth 2D (ICCV 2017)"),
    "table2": ("pipelines.reproduce_lifting", "3D pose from detected 2D (ICCV 2017)"),
    "mocap": ("pipelines.reproduce_mocap", "motion capture: fitted, supervised, self-supervised (NIPS 2017)"),
    "faces": ("pipelines.reproduce_faces", "biased super-resolution and inpainting: the slides' pictures (ICCV 2017)"),
}
"""Table -> the module whose main(argv) makes it, argv with the table's name; and one line of help."""


def main(argv: Sequence[str]) -> None:
    """Run the table that is named first.

    Raises:
        UserError: none is.
    """
    if argv and argv[0] in ("-h", "--help"):
        rows = "\n".join(f"  {table:<8}{text}" for table, (_, text) in TABLES.items())
        print(f"usage: aign reproduce TABLE ...   (aign reproduce TABLE --help tells its flags)\n\n{rows}")
        raise SystemExit(0)
    if not argv or argv[0] not in TABLES:
        got = f"got {argv[0]!r}; " if argv else ""
        raise UserError(f"{got}name a table first: aign reproduce {' | '.join(TABLES)}")
    importlib.import_module(TABLES[argv[0]][0]).main(argv)
