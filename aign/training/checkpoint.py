"""Checkpoints: one file, written whole, read without running code."""

import io
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from aign.data.publish import published
from aign.framework.errors import UserError

REQUIRED = {"step", "config"}
"""What every checkpoint holds."""


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors, numbers, strings and containers of them; the file before it stays until the new one is whole.

    Raises:
        StorageError: the folder cannot be written.
    """
    content = io.BytesIO()  # torch.save hides a full disk behind a RuntimeError of its own
    torch.save(dict(state), content)
    with published(path) as unfinished, unfinished.open("wb") as file:
        file.write(content.getbuffer())
        file.flush()
        os.fsync(file.fileno())


def load_state(path: Path) -> dict[str, Any]:
    """Read a checkpoint with torch's restricted unpickler: data only, no code.

    Raises:
        UserError: the file is damaged, of something else, or would run code.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{path} is not a readable checkpoint of this project: {why}") from error
    if not isinstance(state, dict) or not state.keys() >= REQUIRED:
        wanted = ", ".join(sorted(REQUIRED))
        raise UserError(f"{path} is not a readable checkpoint of this project: it does not hold {wanted}")
    return state
