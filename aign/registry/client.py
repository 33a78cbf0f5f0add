"""The door to MLflow: opened on first use, without telemetry, and with its failures told in one line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from aign.framework.errors import StorageError

_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


def quieten() -> None:
    """Set MLflow's environment where the user has not; it counts only before MLflow is imported."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


@cache
def client_of(uri: str) -> Any:
    """The `mlflow.MlflowClient` of a store: runs and models in one place, whatever MLflow's global state says."""
    quieten()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def told(what: str) -> Iterator[None]:
    """Turn MLflow's and the file system's failures into "cannot WHAT: why".

    Raises:
        StorageError: on any of them.
    """
    quieten()
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise StorageError(f"cannot {what}: {lines[0]}") from error
