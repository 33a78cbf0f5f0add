"""A registered model of faces on somebody's photographs: pictures with another face, marked as such, and a page."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from aign.data import assets
from aign.framework.errors import UserError
from aign.inference.body_video import file_name
from aign.inference.face_page import Done, write_page, write_translation
from aign.inference.face_translate import FaceTranslator, read_photo
from pipelines.arguments import parse
from pipelines.package_place import package_folder


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Translate the face in each photograph; what lies outside of it stays as it is.

    Attributes:
        images: photographs (JPEG, PNG).
        model: models:/NAME@ALIAS, or a package folder; of superresolution (the face is reduced first) or inpainting.
        out: folder that receives index.html and a PNG for each photograph, marked as synthetic in its corner and in
            its text.
        mlflow: folder of the embedded MLflow store that models:/ names; MLFLOW_TRACKING_URI wins.
    """

    images: tyro.conf.Positional[tuple[Path, ...]]
    model: str = "models:/superresolution@champion"
    out: Path = Path("translated")
    mlflow: Path = Path("mlflow")


def translate(args: Arguments) -> tuple[Path, tuple[str, ...]]:
    """Translate all; the page, and for each photograph that could not be done what was wrong with it.

    Raises:
        UserError: no photograph is named or none can be done, no such model, or the folder cannot be written.
    """
    if not args.images:
        raise UserError("name at least one photograph")
    translator = FaceTranslator.of(package_folder(args.model, args.mlflow))
    assets.pull(["face"])
    args.out.mkdir(parents=True, exist_ok=True)
    done: list[Done] = []
    failed: list[str] = []
    names = _names(args.images)
    for path, name in zip(args.images, names, strict=True):
        try:
            photo = read_photo(path)
            result = translator.translate(photo)
        except UserError as error:
            failed.append(str(error) if str(path) in str(error) else f"{path}: {error}")
            if len(args.images) > 1:  # of a single one the last line says it
                print(f"aign translate: {failed[-1]}", file=sys.stderr)
            continue
        done.append(write_translation(args.out, name, path, photo, result, args.model, translator.what))
    if not done:
        more = f"none of {len(failed)} photographs could be translated; first " if len(failed) > 1 else ""
        raise UserError(f"{more}{failed[0]}")
    return write_page(args.out, done, failed, translator, args.model), tuple(failed)


def _names(images: Sequence[Path]) -> tuple[str, ...]:
    """A file name for each, by its own; two of one name are numbered."""
    stems = [file_name(path.stem) for path in images]
    return tuple(s if stems.count(s) == 1 else f"{s}-{i}" for i, s in enumerate(stems, 1))


def main(argv: Sequence[str]) -> None:
    """Parse, translate, say where the page is; not all done is an error, though the others are."""
    args = parse(Arguments, "aign translate", argv)
    page, failed = translate(args)
    print(page.absolute())
    if failed:
        raise UserError(f"{len(failed)} of {len(args.images)} photographs were not translated; first {failed[0]}")
