"""A registered model asked in a process that knows nothing of the one that made it.

`python -m aign.registry.clean_check MODEL_URI OUT.npz` is that process: MLflow's own loader, the model's own input
example, and nothing else. OUT receives what was asked as given/NAME and what was answered as answer/NAME.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aign.framework.errors import UserError
from aign.inference.serving import SERVICES, Arrays
from aign.registry.client import quieten
from aign.registry.packages import checked_package, download, try_example
from aign.registry.tracking import Tracking

SECONDS = 600
RTOL, ATOL = 1e-4, 1e-5


def ask(uri: str, out: Path) -> None:
    """Load the model with `mlflow.pyfunc` and answer its input example."""
    quieten()
    import mlflow

    model = mlflow.pyfunc.load_model(uri)
    task = model.metadata.metadata["task"]
    # JSON keeps no types.
    given = {name: np.asarray(model.input_example[name], kind) for name, (kind, _) in SERVICES[task].inputs.items()}
    answer = model.predict(dict(given))
    arrays: dict[str, Any] = {**_named("given", given), **_named("answer", answer)}
    np.savez(out, **arrays)


def clean_refusal(tracking: Tracking, name: str, version: int, source: str) -> str | None:
    """Why a version does not answer elsewhere as it does here; None: it does.

    Args:
        tracking: where it is.
        name: of the registered model.
        version: its number.
        source: where its files are, as the registry says.

    Raises:
        StorageError: it cannot be fetched.
    """
    with tempfile.TemporaryDirectory(prefix="aign-check-") as temp:
        folder, out = download(tracking, source, Path(temp) / "package"), Path(temp) / "out.npz"
        if refusal := _asked_elsewhere(tracking, f"models:/{name}/{version}", out):
            return refusal
        with np.load(out, allow_pickle=False) as content:
            given, theirs = (_part(content, side) for side in ("given", "answer"))
        served = checked_package(folder)
        try:
            try_example(served, given)
        except UserError as error:
            return str(error)
        return _gap(served.answer(given), theirs)


def _asked_elsewhere(tracking: Tracking, uri: str, out: Path) -> str | None:
    command = [sys.executable, "-m", "aign.registry.clean_check", uri, str(out)]
    env = os.environ | dict.fromkeys(("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"), tracking.uri)
    try:
        done = subprocess.run(
            command, cwd=out.parent, env=env, capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"a clean process had no answer of it after {SECONDS} s"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return f"a clean process cannot run it: {last}"
    return None


def _gap(ours: Arrays, theirs: Arrays) -> str | None:
    for name, value in ours.items():
        other = theirs.get(name)
        if other is None or other.shape != value.shape:
            got = "nothing" if other is None else f"shape {list(other.shape)}"
            return f"a clean process answers {name} with {got}, this one with shape {list(value.shape)}"
        if not np.allclose(other, value, rtol=RTOL, atol=ATOL, equal_nan=True):
            gap = float(np.nanmax(np.abs(other.astype(np.float64) - value)))
            return f"a clean process answers {name} differently, by up to {gap:.3g}"
    return None


def _named(side: str, arrays: Arrays) -> dict[str, np.ndarray]:
    return {f"{side}/{name}": value for name, value in arrays.items()}


def _part(content: Mapping[str, np.ndarray], side: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(f"{side}/"): content[name] for name in content if name.startswith(f"{side}/")}


if __name__ == "__main__":
    ask(sys.argv[1], Path(sys.argv[2]))
