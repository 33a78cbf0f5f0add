"""A trained lifter as a folder: safe weights and a description, nothing that runs.

`lifter.safetensors` holds the averaged generator, basis included; `lifter.json` says what it is, what it was trained
on and how good it was.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from aign import __version__
from aign.data.store import Selection
from aign.framework.errors import UserError
from aign.tasks.lifting import LifterConfig, build_lifter
from aign.tasks.lifting.nets import HEADS, InputKind, Lifter

WEIGHTS, CARD = "lifter.safetensors", "lifter.json"
FORMAT = 2
_TEXTS = ("recipe", "store_hash", "protocol", "version")
_SIZES = {"components": 48, "width": 16384, "blocks": 64, "frames": 243}
"""Of a lifter, at most: more is no description of a lifter but an attack on memory."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a packaged model says of itself.

    Attributes:
        lifter: its network.
        recipe: name of the recipe.
        store_hash: of the store it was trained on.
        sequences: of that store, by role: memory, labelled, unlabelled, validation, test.
        licences: of everything it was trained on; they reach the weights.
        protocol: id and hash of the protocol of `metrics`.
        metrics: on the test role of that store, by name, millimetres.
        version: of the package that made it.
    """

    lifter: LifterConfig
    recipe: str
    store_hash: str
    sequences: Mapping[str, tuple[str, ...]]
    licences: tuple[str, ...]
    protocol: str
    metrics: Mapping[str, float]
    version: str = __version__

    def role(self, name: str) -> Selection:
        """The clips that played a part in the model's making or judging.

        Raises:
            UserError: there was no such part.
        """
        if name not in self.sequences:
            raise UserError(f"the model of recipe {self.recipe} had no {name} clips; it had {sorted(self.sequences)}")
        return Selection(sequences=tuple(self.sequences[name]))


def save_package(folder: Path, lifter: nn.Module, card: ModelCard) -> None:
    """Write a model into a new or empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in lifter.state_dict().items()}
    safetensors.torch.save_file(state, folder / WEIGHTS)
    (folder / CARD).write_text(json.dumps({"format": FORMAT, **dataclasses.asdict(card)}, indent=1) + "\n")


def load_card(folder: Path) -> ModelCard:
    """The description of a packaged model.

    Raises:
        UserError: there is none, or it is of another format.
    """
    try:
        data: dict[str, Any] = json.loads((folder / CARD).read_text())
        number, lifter = data.pop("format"), dict(data.pop("lifter"))
        # Before anything is made of them: sizes are bounded here.
        wrong = _wrong_field(data, lifter) if number == FORMAT else f"format {number}; allowed is {FORMAT}"
        if wrong is None:
            return ModelCard(lifter=LifterConfig(**lifter), **_with_tuples(data))
    # ValueError: neither JSON nor text; RecursionError: JSON made to break its reader.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{folder} is not a packaged lifter: {error}; it needs {WEIGHTS} and {CARD}") from error
    raise UserError(f"{folder / CARD} has {wrong}")


def _with_tuples(data: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's lists back to tuples."""
    sequences = {role: tuple(names) for role, names in data["sequences"].items()}
    return {**data, "licences": tuple(data["licences"]), "sequences": sequences}


def _wrong_field(data: Mapping[str, Any], lifter: Mapping[str, Any]) -> str | None:
    """What no writer of ours would have written."""
    licences, metrics = data["licences"], data["metrics"]
    if not isinstance(licences, list) or not all(isinstance(t, str) for t in (*(data[n] for n in _TEXTS), *licences)):
        return f"{', '.join(_TEXTS)} or licences that are no text"
    sequences = data["sequences"]
    if not isinstance(sequences, dict) or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in sequences.values()
    ):
        return "sequences that are no lists of texts by role"
    if not isinstance(metrics, dict) or not all(isinstance(v, float) for v in metrics.values()):
        return "metrics that are no numbers"
    for name, allowed in (("head", tuple(HEADS)), ("input", get_args(InputKind))):
        if lifter[name] not in allowed:
            return f"lifter {name} {lifter[name]!r}; allowed are {', '.join(allowed)}"
    for name, most in _SIZES.items():
        if type(lifter[name]) is not int or not 1 <= lifter[name] <= most:
            return f"lifter {name} {lifter[name]!r}; allowed are 1 to {most}"
    return None


def load_package(folder: Path) -> tuple[Lifter, ModelCard]:
    """The network, ready to predict, and its description.

    Raises:
        UserError: a file is missing or damaged, or the weights do not fit the description.
    """
    card = load_card(folder)
    blank = torch.randn(max(card.lifter.components, 2) + 1, 17, 3, generator=torch.Generator().manual_seed(0))
    lifter = build_lifter(card.lifter, blank)
    try:
        lifter.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{folder / WEIGHTS} does not hold this lifter: {str(error).splitlines()[0]}") from error
    return lifter.eval(), card
