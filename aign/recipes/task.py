"""What a pipeline asks of a kind of recipe and its models, so that no pipeline asks which kind it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from rich.console import RenderableType
from torch import Tensor, nn

from aign.data.store import Selection, Store
from aign.evaluation.paired import Units
from aign.evaluation.report import Provenance
from aign.evaluation.trials import Goal
from aign.inference.package import ModelCard, Network
from aign.training import Hooks

KeypointChoice: TypeAlias = Literal["auto", "ground-truth", "detected", "none"]
"""Which published rows stand beside ours; auto: as the store says; none: none of them."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What a run is made of.

    Attributes:
        sequences: of the store, by role; no clip plays two that it may not.
        origins: licences of everything that the weights come from, by what it is: stores, the body, a starting model.
        hashes: of every store, by name.
    """

    sequences: Mapping[str, tuple[str, ...]]
    origins: Mapping[str, tuple[str, ...]]
    hashes: Mapping[str, str]

    @property
    def licences(self) -> tuple[str, ...]:
        """Of all of them, each once: what the weights inherit."""
        return tuple(dict.fromkeys(licence for licences in self.origins.values() for licence in licences))


@dataclass(frozen=True, kw_only=True)
class Headline:
    """A report's one number.

    Attributes:
        name: what it is called; the unit stands at its end.
        value: None where there is none.
        higher_is_better: else lower is.
        subject: what the model was made for where the task does not say it; reports of two are of two things.
    """

    name: str
    value: float | None
    higher_is_better: bool = False
    subject: str = ""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A table in every form; `rich` takes the terminal's width."""

    rich: Callable[[int], RenderableType]
    markdown: str
    html: str
    csv: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """One kind of recipe, its models and its reports. Types of different tasks differ, so they are Any here.

    Attributes:
        name: of the task, as on the cards.
        recipe: type of its recipes.
        protocol: that its models are measured under where nothing else is said.
        body: name of the body model whose numbers its models tell; "": none.
        critics: the weights that are critics'.
        goal: (recipe, store) -> the validation metrics that choices are made by; raises UserError where there are none.
        label: (recipe) -> what to say first of the data of its report; "": nothing.
        network: (recipe) -> description of the generator.
        sources: (recipe, store) -> what a run is made of; raises UserError where roles overlap or are empty.
        prepare: (recipe, store, hooks) -> what `fit` needs: aign, feed, validate.
        generator_state: the state of the trained generator alone, from that of what was trained.
        located: (recipe, where a store is, where a model's package is) -> the recipe with the places that it names,
            as every worker finds them.
        view: (store, selection, description of the first model's generator) -> frames as methods and the judge see
            them; a description of None: there are only baselines.
        method: (network) -> a way to answer a view.
        measure: (method, view, protocol, provenance) -> report.
        known: raises UserError where the id of a protocol is none of the task's.
        example: (store, selection) -> a few real frames as the service of the task takes them.
        selection: (role, store, card of the first model) -> the clips of a role, test or memory, where nobody names
            any; a card of None: there are only baselines. None: what the task remembers without a store.
        baselines: by name: (store, the memory's selection) -> a method that is not trained.
        read_report: inverse of a report's to_json.
        headline: (report) -> its one number.
        numbers: (report) -> all means by name.
        units: (report) -> of the means over test sequences or pictures, each one's part, named as in `numbers`.
        intended_use: of its models, one sentence.
        limits: (report) -> what its models are not for and where this one fails, in sentences.
        published: (store, selection, protocol, choice) -> printed numbers that may stand beside.
        draw: (reports, published) -> the table.
    """

    name: str
    recipe: type[Any]
    protocol: str
    body: str
    critics: tuple[str, ...]
    goal: Callable[[Any, Store], Goal]
    label: Callable[[Any], str]
    network: Callable[[Any], Network]
    sources: Callable[[Any, Store], Sources]
    prepare: Callable[[Any, Store, Hooks], Any]
    generator_state: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    located: Callable[[Any, Callable[[str], str], Callable[[str], str]], Any]
    view: Callable[[Store, Selection, Network | None], Any]
    method: Callable[[nn.Module], Any]
    measure: Callable[[Any, Any, str, Provenance], Any]
    known: Callable[[str], object]
    example: Callable[[Store, Selection], Mapping[str, np.ndarray]]
    selection: Callable[[str, Store, ModelCard | None], Selection | None]
    baselines: Mapping[str, Callable[[Store, Selection | None], Any]]
    read_report: Callable[[str], Any]
    headline: Callable[[Any], Headline]
    numbers: Callable[[Any], Mapping[str, float]]
    units: Callable[[Any], Units]
    intended_use: str
    limits: Callable[[Any], tuple[str, ...]]
    published: Callable[[Store, Selection, str, KeypointChoice], Any]
    draw: Callable[[Any, Any], Drawn]
