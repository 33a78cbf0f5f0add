"""A model as a file for other programs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from aign.framework.errors import UserError
from aign.inference.onnx_lifter import export_onnx
from pipelines.arguments import parse
from pipelines.package_place import package_folder


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Write a lifter as one file that other programs run, compared with the model before it appears.

    Attributes:
        model: run folder, package folder, or models:/NAME@ALIAS.
        to: format; onnx needs pip install 'aign[onnx]'.
        out: the new file.
        mlflow: folder of the embedded MLflow store that models:/ names; MLFLOW_TRACKING_URI wins.
    """

    model: tyro.conf.Positional[str]
    to: Literal["onnx"] = "onnx"
    out: Path
    mlflow: Path = Path("mlflow")


def main(argv: Sequence[str]) -> None:
    """Parse and run."""
    args = parse(Arguments, "aign export", argv)
    if args.out.suffix != f".{args.to}":
        raise UserError(f"--out must end in .{args.to}; got {args.out}")
    gap = export_onnx(package_folder(args.model, args.mlflow), args.out)
    print(f"{args.out}: {args.out.stat().st_size:,} bytes; differs from the model by at most {gap:.1e} m")
