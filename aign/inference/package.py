"""A trained model as a folder: safe weights and a description, nothing that runs.

`model.safetensors` holds the averaged generator; `model.json` says what it is, what it was trained on and how good it
was. Models of all tasks have the same format; `KINDS` says what may stand in their descriptions.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, get_args

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from aign import __version__
from aign.data.store import Selection
from aign.framework.errors import UserError
from aign.tasks.faces.inpainting import SIDES as FACE_SIDES
from aign.tasks.faces.inpainting import Inpainter, InpainterConfig
from aign.tasks.faces.masks import PARTS as FACE_PARTS
from aign.tasks.faces.superresolution import LOW_SIDES, SuperResolver, SuperResolverConfig
from aign.tasks.lifting import LifterConfig, build_lifter
from aign.tasks.lifting.nets import HEADS, InputKind, Lifter
from aign.tasks.motion_capture.nets import HEADS as BODY_HEADS
from aign.tasks.motion_capture.nets import MAX_FRAMES, SIDES, Encoder, EncoderConfig

WEIGHTS, CARD = "model.safetensors", "model.json"
FORMAT = 3
OLD_CARD = "lifter.json"
"""Of formats 1 and 2, which held lifters alone."""
_TEXTS = ("recipe", "store_hash", "protocol", "version", "body")

Network: TypeAlias = LifterConfig | EncoderConfig | SuperResolverConfig | InpainterConfig
Net: TypeAlias = Lifter | Encoder | SuperResolver | Inpainter
N = TypeVar("N", Lifter, Encoder, SuperResolver, Inpainter)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Models of one task.

    Attributes:
        config: describes a network.
        net: is one.
        blank: makes one of its description; its weights mean nothing.
        allowed: values of the fields of the description, each of one type, but of those that it checks by itself.
            Sizes are bounded: beyond is no description of a model but an attack on memory.
    """

    config: type[Network]
    net: type[Net]
    blank: Callable[[Any], Net]
    allowed: Mapping[str, Sequence[Any]]


def _blank_lifter(config: LifterConfig) -> Lifter:
    shapes = torch.randn(max(config.components, 2) + 1, 17, 3, generator=torch.Generator().manual_seed(0))
    return build_lifter(config, shapes)


def _blank_encoder(config: EncoderConfig) -> Encoder:
    return Encoder(config, torch.zeros(24, 6))


KINDS: Mapping[str, Kind] = {
    "lifting": Kind(
        config=LifterConfig,
        net=Lifter,
        blank=_blank_lifter,
        allowed={
            "head": tuple(HEADS), "input": get_args(InputKind), "components": range(1, 49), "width": range(1, 16385),
            "blocks": range(1, 65), "frames": range(1, 244),
        },
    ),
    "motion_capture": Kind(
        config=EncoderConfig,
        net=Encoder,
        blank=_blank_encoder,
        allowed={
            "head": tuple(BODY_HEADS), "side_px": SIDES, "channels": range(8, 129), "width": range(1, 8193),
            "frames": range(1, MAX_FRAMES + 1), "picture": (False, True),
        },
    ),
    "superresolution": Kind(
        config=SuperResolverConfig,
        net=SuperResolver,
        blank=SuperResolver,
        allowed={"low_px": LOW_SIDES, "channels": range(1, 513), "blocks": range(65), "exact": (False, True)},
    ),
    "inpainting": Kind(
        config=InpainterConfig,
        net=Inpainter,
        blank=Inpainter,
        allowed={
            "side_px": FACE_SIDES, "channels": range(8, 513), "blocks": range(65), "part": tuple(FACE_PARTS),
        },
    ),
}  # fmt: skip
"""By task."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a packaged model says of itself.

    Attributes:
        network: its description.
        recipe: name of the recipe.
        store_hash: of the store it was trained on.
        sequences: of that store, by role (memory, labelled, unlabelled, train, validation, test).
        licences: of everything it was trained on; they reach the weights.
        protocol: id and hash of the protocol of `metrics`.
        metrics: on the test role of that store, by name; the unit stands at the name's end.
        body: name of the body model whose pose and shape it tells; "" of a lifter.
        version: of the package that made it.
        intended_use: what it is for, in words.
        limits: what it is not for and where it fails, in sentences.
    """

    network: Network
    recipe: str
    store_hash: str
    sequences: Mapping[str, tuple[str, ...]]
    licences: tuple[str, ...]
    protocol: str
    metrics: Mapping[str, float]
    body: str = ""
    version: str = __version__
    intended_use: str = ""
    limits: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        """Which of `KINDS` it is."""
        return next(name for name, kind in KINDS.items() if isinstance(self.network, kind.config))

    def role(self, name: str) -> Selection:
        """The clips that played a part in the model's making or judging.

        Raises:
            UserError: there was no such part.
        """
        if name not in self.sequences:
            raise UserError(f"the model of recipe {self.recipe} had no {name} clips; it had {sorted(self.sequences)}")
        return Selection(sequences=tuple(self.sequences[name]))


def blank(network: Network) -> Net:
    """A network of that description, to be given weights; the random state of the process stays as it is."""
    kind = next(kind for kind in KINDS.values() if isinstance(network, kind.config))
    with torch.random.fork_rng(devices=[]):
        return kind.blank(network)


def save_package(folder: Path, model: nn.Module, card: ModelCard) -> None:
    """Write a model into a new or empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    safetensors.torch.save_file(state, folder / WEIGHTS)
    content = {"format": FORMAT, "task": card.task, **dataclasses.asdict(card)}
    (folder / CARD).write_text(json.dumps(content, indent=1) + "\n")


def package_in(folder: Path) -> Path:
    """The package of a run's folder; another folder is one itself."""
    return folder / "package" if (folder / "package").is_dir() else folder


def load_card(folder: Path) -> ModelCard:
    """The description of a packaged model.

    Raises:
        UserError: there is none, or it is of another format.
    """
    if (folder / OLD_CARD).exists():
        raise UserError(f"{folder} is a package of format 2 ({OLD_CARD}); allowed is {FORMAT}: train the model again")
    try:
        data: dict[str, Any] = json.loads((folder / CARD).read_text())
        number = data.pop("format")
        # Before anything is made of them: sizes are bounded here.
        wrong = _wrong_field(data) if number == FORMAT else f"format {number}; allowed is {FORMAT}"
        if wrong is None:
            config = KINDS[data.pop("task")].config(**data.pop("network"))
            return ModelCard(network=config, **_with_tuples(data))
    # ValueError: neither JSON nor text; RecursionError: JSON made to break its reader.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{folder} is not a packaged model: {error}; it needs {WEIGHTS} and {CARD}") from error
    raise UserError(f"{folder / CARD} has {wrong}")


def _with_tuples(data: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's lists back to tuples."""
    sequences = {role: tuple(names) for role, names in data["sequences"].items()}
    told = {"licences": tuple(data["licences"]), "limits": tuple(data.get("limits", ()))}
    return {**data, **told, "sequences": sequences}


def _wrong_field(data: Mapping[str, Any]) -> str | None:
    """What no writer of ours would have written."""
    licences, metrics = data["licences"], data["metrics"]
    limits, texts = data.get("limits", []), [data.get("intended_use", ""), *(data[name] for name in _TEXTS)]
    listed = isinstance(licences, list) and isinstance(limits, list)
    if not listed or not all(isinstance(t, str) for t in (*texts, *licences, *limits)):
        return f"{', '.join(_TEXTS)}, intended_use, licences or limits that are no text"
    sequences = data["sequences"]
    if not isinstance(sequences, dict) or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in sequences.values()
    ):
        return "sequences that are no lists of texts by role"
    if not isinstance(metrics, dict) or not all(isinstance(v, float) for v in metrics.values()):
        return "metrics that are no numbers"
    if data["task"] not in tuple(KINDS):
        return f"task {data['task']!r}; allowed are {', '.join(KINDS)}"
    network = dict(data["network"])
    for name, allowed in KINDS[data["task"]].allowed.items():
        if type(network[name]) is not type(allowed[0]) or network[name] not in allowed:
            return f"{data['task']} {name} {network[name]!r}; allowed are {_in_words(allowed)}"
    return None


def _in_words(allowed: Sequence[Any]) -> str:
    if isinstance(allowed, range):
        return f"{allowed[0]} to {allowed[-1]}"
    return ", ".join(map(str, allowed))


def load_package(folder: Path) -> tuple[Net, ModelCard]:
    """The network, ready to predict, and its description.

    Raises:
        UserError: a file is missing or damaged, the weights do not fit the description or are not finite.
    """
    card = load_card(folder)
    model = blank(card.network)
    try:
        model.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{folder / WEIGHTS} does not hold this model: {str(error).splitlines()[0]}") from error
    if wrong := [name for name, value in model.state_dict().items() if not value.isfinite().all()]:
        raise UserError(f"{folder / WEIGHTS} holds weights that are not finite: {wrong[0]}; allowed are finite numbers")
    return model.eval(), card


def load_as(net: type[N], folder: Path) -> tuple[N, ModelCard]:
    """`load_package` where a model of one task is needed.

    Raises:
        UserError: what `load_package` raises, or a model of another task.
    """
    card, wanted = load_card(folder), next(task for task, kind in KINDS.items() if kind.net is net)
    if card.task != wanted:
        raise UserError(f"{folder} holds a model of {card.task} (recipe {card.recipe}); needed is one of {wanted}")
    model, _ = load_package(folder)
    assert isinstance(model, net), "the description said so"
    return model, card
