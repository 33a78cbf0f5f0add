"""From store columns to batches of observations."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from aign.data.loader import ClipLoader
from aign.data.store.reader import Columns

B = TypeVar("B")
PICTURE_COLUMNS: Columns = {"faces": ("face_jpeg",)}
BOX_COLUMNS: Columns = {"face_parts": ("boxes_px",)}


class FaceFeed(Generic[B]):
    """Endless batches of observations; no label of a face is ever read.

    Args:
        loader: of the pictures, and of boxes where parts are hidden.
        observe: a batch as the generator sees it.
        device: where batches go, still as bytes.
    """

    def __init__(self, loader: ClipLoader, observe: Callable[[Mapping[str, Tensor]], B], device: torch.device) -> None:
        self._loader, self._observe, self._device = loader, observe, device
        self._batches: Iterator[dict[str, Tensor]] = iter(loader)

    def next(self) -> B:
        """The next batch."""
        batch = {key: value.to(self._device, non_blocking=True) for key, value in next(self._batches).items()}
        return self._observe(batch)

    def state_dict(self) -> dict[str, Any]:
        """Position of the loader."""
        return {"pictures": self._loader.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to the position."""
        self._loader.load_state_dict(state["pictures"])

    def close(self) -> None:
        """Stop the loader's threads."""
        self._loader.close()
