"""Model packages going into MLflow and coming back: two files, checked on either side."""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import aign.registry
from aign import __version__
from aign.framework.errors import UserError
from aign.inference.package import CARD, WEIGHTS, load_card
from aign.inference.serving import SERVICES, Arrays, Served, Specs, serve
from aign.registry.client import client_of, told
from aign.registry.tracking import Tracking

PACKAGE = "package"
CODE = Path(aign.registry.__file__).with_name("pyfunc_package.py")
_TEMP = ".tmp-"


@dataclass(frozen=True, kw_only=True)
class Uploaded:
    """A model in MLflow: its id, and where its files are."""

    model_id: str
    source: str


def checked_package(folder: Path) -> Served:
    """Load a package that holds its two files and nothing else.

    Raises:
        UserError: something else lies in it, or it is damaged.
    """
    names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    if extra := [n for n in names if n not in (WEIGHTS, CARD)]:
        raise UserError(f"{folder} holds {', '.join(extra)}; a package is {WEIGHTS} and {CARD}, nothing else")
    if linked := [n for n in names if not (folder / n).is_file() or (folder / n).is_symlink()]:
        raise UserError(f"{', '.join(linked)} in {folder} is not a plain file")
    return serve(folder)


def try_example(served: Served, example: Arrays) -> None:
    """Make sure that a model answers.

    Args:
        served: the model.
        example: a few real frames, by the names of its service's inputs.

    Raises:
        UserError: the example is refused, or the answer is not finite.
    """
    outputs = SERVICES[served.card.task].outputs
    answer = served.answer(example)
    for name in outputs:
        if not len(answer[name]) or not np.isfinite(answer[name]).all():
            raise UserError(
                f"the model gives no finite {name} for its own example of {len(answer[name])} frames; give frames that "
                "show a person, or do not register this model"
            )


def upload(
    tracking: Tracking,
    run_id: str,
    folder: Path,
    example: Arrays,
    metadata: Mapping[str, str],
    beside: Callable[[Path], None],
) -> Uploaded:
    """Log a package as an MLflow pyfunc model of its run.

    Args:
        tracking: where.
        run_id: the training's.
        folder: the package, checked.
        example: its input example.
        metadata: written into MLmodel.
        beside: writes what else belongs to the model into its folder.

    Raises:
        UserError: the store fails; the logged model is then marked as failed.
    """
    client = client_of(tracking.uri)
    with tempfile.TemporaryDirectory() as temp, told(f"log the model to {tracking.uri}"):
        # MLflow names the folder inside the model after the local one, and `download` looks for it by name.
        package = Path(temp) / PACKAGE
        package.mkdir()
        for name in (WEIGHTS, CARD):
            shutil.copyfile(folder / name, package / name)
        experiment = client.get_run(run_id).info.experiment_id
        task = load_card(package).task
        logged = client.create_logged_model(experiment, name=task, source_run_id=run_id, tags=dict(metadata))
        try:
            _save(Path(temp) / "model", package, example, _signature(task), _mlmodel(logged, run_id, metadata))
            beside(Path(temp) / "model")
            client.log_model_artifacts(logged.model_id, f"{temp}/model")
        except BaseException:
            client.finalize_logged_model(logged.model_id, "FAILED")
            raise
        client.finalize_logged_model(logged.model_id, "READY")
        return Uploaded(model_id=logged.model_id, source=logged.artifact_location)


def download(tracking: Tracking, source: str, folder: Path) -> Path:
    """Fetch the package of an uploaded model.

    Args:
        tracking: where.
        source: `Uploaded.source`, as the registry gives it back.
        folder: a new one; it appears whole or not at all.

    Raises:
        UserError: the model holds no sound package, or the store fails.
    """
    with _temporary_beside(folder) as temp:
        with told(f"fetch a model from {tracking.uri}"):
            from mlflow.artifacts import download_artifacts

            uri = f"{source}/artifacts/{PACKAGE}"
            local = Path(download_artifacts(artifact_uri=uri, dst_path=str(temp), tracking_uri=tracking.uri))
        checked_package(local)
        if not folder.is_dir():  # another process may have been first
            with told(f"write {folder}"):
                os.replace(local, folder)
    return folder


@contextmanager
def _temporary_beside(path: Path) -> Iterator[Path]:
    with told(f"write {path.parent}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        temp = Path(tempfile.mkdtemp(prefix=_TEMP, dir=path.parent))
    try:
        yield temp
    finally:
        shutil.rmtree(temp)


def _mlmodel(logged: Any, run_id: str, metadata: Mapping[str, str]) -> Any:
    from mlflow.models import Model

    return Model(
        artifact_path=logged.artifact_location,
        run_id=run_id,
        model_id=logged.model_id,
        model_uuid=logged.model_id,
        metadata=dict(metadata),
    )


def _save(path: Path, package: Path, example: Arrays, signature: Any, mlmodel: Any) -> None:
    import mlflow.pyfunc

    mlflow.pyfunc.save_model(
        path=path,
        mlflow_model=mlmodel,
        python_model=str(CODE),
        artifacts={PACKAGE: str(package)},
        signature=signature,
        input_example=dict(example),
        pip_requirements=_requirements(),
    )
    for cached in path.rglob("__pycache__"):
        shutil.rmtree(cached)


def _signature(task: str) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def schema(specs: Specs) -> Any:
        return Schema([TensorSpec(np.dtype(kind), shape, name) for name, (kind, shape) in specs.items()])

    return ModelSignature(inputs=schema(SERVICES[task].inputs), outputs=schema(SERVICES[task].outputs))


def _requirements() -> list[str]:
    """This package and what computes in it, without local labels such as +cpu, which no index serves."""
    import safetensors
    import torch

    versions = {
        "aign": __version__, "torch": torch.__version__, "numpy": np.__version__, "safetensors": safetensors.__version__
    }  # fmt: skip
    return [f"{name}=={re.split('[+]', version)[0]}" for name, version in versions.items()]
