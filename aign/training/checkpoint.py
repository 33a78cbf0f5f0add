"""Checkpoints: one file, written whole, read without running code."""

import os
import pickle
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from aign.framework.errors import UserError


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors, numbers, strings and containers of them under a temporary name, then publish."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write checkpoint {path}: {error.strerror}; the one before it is untouched") from error
    finally:
        temporary.unlink(missing_ok=True)


def load_state(path: Path) -> dict[str, Any]:
    """Read a checkpoint with torch's restricted unpickler: data only, no code."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} is not a readable checkpoint of this project: {str(error).splitlines()[0]}") from error
    return state
