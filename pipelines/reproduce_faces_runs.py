"""The rows of the table of faces, trained; nothing here needs Ray, MLflow or tyro.

So a machine with torch and a GPU can make all of the table (`pipelines.reproduce_faces_here`).
"""

import dataclasses
import hashlib
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from aign.data.store import Selection, Store
from aign.evaluation.faces_judge import Judge, Reading
from aign.evaluation.faces_view import FaceView
from aign.evaluation.report import Provenance
from aign.framework.errors import UserError
from aign.inference.package import blank
from aign.recipes.faces import InpaintingRecipe, SuperResolutionRecipe, parts
from aign.recipes.faces_runs import going_on
from aign.recipes.faces_tables import FaceRow, hidden_part
from aign.recipes.faces_view import (
    hole_view,
    judge_of,
    low_view,
    measure,
    target_of,
)
from aign.recipes.tasks import task_of
from aign.recipes.training import train_recipe
from aign.tasks.faces.inpainting import InpainterConfig
from aign.tasks.faces.labels import read_labels
from aign.tasks.faces.masks import Part
from aign.tasks.faces.superresolution import SuperResolverConfig
from aign.training import LocalHooks
from aign.training.gradients import dead_warning
from pipelines.run_files import write_results
from pipelines.run_folder import alone, check_same

KEPT_READINGS = 6
FEW = 20
"""Pictures for tests; with fewer a point is too coarse, and those for validation are measured on too."""


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True, kw_only=True)
class FaceRun:
    """A row with a seed.

    Attributes:
        row: which.
        recipe: with that seed, and the run's name.
        folder: of the run.
    """

    row: FaceRow
    recipe: SuperResolutionRecipe | InpaintingRecipe
    folder: Path

    @property
    def package(self) -> Path:
        """The model, once it is trained."""
        return self.folder / "package"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where rows are trained and measured.

    Attributes:
        store: with faces.
        out: receives runs/ and measured/.
        side_px: of the pictures that are made.
        steps: of each row in place of the recipes' own, or None.
        sweep_steps: of each row of the sweep.
        start: folder of another table, whose runs ours go on from; None: new networks.
        bfloat16: whether networks are trained in it.
    """

    store: Store
    out: Path
    side_px: int = 64
    steps: int | None = None
    sweep_steps: int = 500
    start: Path | None = None
    bfloat16: bool = False

    @cached_property
    def test(self) -> Selection:
        """The pictures that every row is measured on; where those for tests are few, those for validation too."""
        found = parts(self.store)
        if not self.few:
            return found.test
        return Selection(sequences=(*(found.validation.sequences or ()), *(found.test.sequences or ())))

    @cached_property
    def few(self) -> bool:
        """Whether there are few pictures for tests."""
        return len(read_labels(self.store, parts(self.store).test).identity) < FEW

    @property
    def measured_on(self) -> str:
        """`test` in words."""
        return "the validation and test parts" if self.few else "the test part"

    @cached_property
    def judge(self) -> Judge:
        """Of the store; what it has read lately is not read again."""
        judge = judge_of(self.store)
        return replace(judge, read=_Remembering(judge))

    @cached_property
    def low(self) -> FaceView:
        """The test pictures made small."""
        return self.low_of(self.test, self.judge)

    def low_of(self, selection: Selection, judge: Judge | None) -> FaceView:
        """Some pictures made small."""
        return low_view(self.store, selection, SuperResolverConfig(low_px=self.side_px // 4), judge)

    @cached_property
    def holes(self) -> Mapping[Part, FaceView]:
        """The test pictures with a part hidden."""
        return {part: self.hole_of(self.test, part, self.judge) for part in ("lips", "nose")}

    def hole_of(self, selection: Selection, part: Part, judge: Judge | None) -> FaceView:
        """Some pictures with a part hidden."""
        return hole_view(self.store, selection, InpainterConfig(side_px=self.side_px, part=part), judge)

    def view(self, row: FaceRow, bias: str) -> FaceView:
        """What a row is measured on where it is judged by a bias."""
        base = self.holes[hidden_part(row, bias)] if row.group == "inpainting" else self.low
        return replace(base, target=target_of(self.store, bias))

    def run(self, row: FaceRow, seed: int) -> FaceRun:
        """A row with a seed.

        Raises:
            UserError: the row is not trained, or there is nothing that it could go on from.
        """
        if row.recipe is None:
            raise UserError(f"row {row.key} has no recipe; allowed is a row that is trained")
        steps = self.sweep_steps if row.group == "sweep" else self.steps
        made: SuperResolutionRecipe | InpaintingRecipe = row.recipe
        fit = replace(made.fit, bfloat16=self.bfloat16, **({} if steps is None else {"steps": steps}))
        made = replace(made, seed=seed, name=f"{row.key}-seed{seed}", fit=fit)
        if self.start is not None:
            package = self.start / "runs" / made.name / "package"
            if not package.is_dir():
                raise UserError(
                    f"{self.start} has no trained run {made.name}; train it there, or leave it out by --only"
                )
            made = going_on(made, str(package), steps)
        return FaceRun(row=row, recipe=made, folder=self.out / "runs" / made.name)

    def runs(self, chosen: Sequence[FaceRow], seeds: int) -> tuple[FaceRun, ...]:
        """What is to be trained: all rows with a seed before the next seed; a sweep has one."""
        return tuple(
            self.run(row, seed)
            for seed in range(seeds)
            for row in chosen
            if row.recipe is not None and seed < seeds_of(row, seeds)
        )


def seeds_of(row: FaceRow, seeds: int) -> int:
    """How often a row is there."""
    return 1 if row.group == "sweep" or row.recipe is None else seeds


@dataclass
class _Remembering:
    """A judge that knows what it has read lately: several rows and biases are judged on the same pictures."""

    judge: Judge
    _known: OrderedDict[bytes, Reading] = field(default_factory=OrderedDict)

    def __call__(self, images: UInt8[np.ndarray, "n s s 3"]) -> Reading:
        key = hashlib.blake2b(np.ascontiguousarray(images).tobytes() + str(images.shape).encode()).digest()
        if key not in self._known:
            self._known[key] = self.judge.read(images)
        self._known.move_to_end(key)
        while len(self._known) > KEPT_READINGS:
            self._known.popitem(last=False)
        return self._known[key]


def train_here(todo: Sequence[FaceRun], bench: Bench, device: torch.device | None = None) -> None:
    """Train in this process what is not trained yet, one after the other; a run goes on from its last checkpoint.

    What it leaves is a run of `aign train` but for MLflow; `aign reproduce faces` enters it there and does not train it
    again.

    Args:
        todo: the runs.
        bench: whose they are.
        device: of the networks; None: the processor.

    Raises:
        UserError: a folder that holds another run, or one that another process trains.
    """
    for number, run in enumerate(todo, 1):
        say(f"run {number} of {len(todo)}: {run.row.label}, seed {run.recipe.seed}")
        run.folder.mkdir(parents=True, exist_ok=True)
        with alone(run.folder):
            _train(run, bench, device or torch.device("cpu"))


def _train(run: FaceRun, bench: Bench, device: torch.device) -> None:
    recipe, store, task = run.recipe, bench.store, task_of(run.recipe)
    sources = task.sources(recipe, store)
    check_same(run.folder, {**dataclasses.asdict(recipe), **sources.hashes})
    if (run.folder / "report.json").exists():
        return
    result = train_recipe(recipe, store, LocalHooks(run.folder, device=device))
    if result.dead:
        say(dead_warning(result.dead))
    model = blank(task.network(recipe))
    model.load_state_dict(task.generator_state(result.ema.state_dict()))
    provenance = Provenance(method=recipe.name, data="test", store_hash=store.hash)
    report = measure(task.method(model.to(device)), bench.view(run.row, recipe.bias), recipe.protocol, provenance)
    write_results(run.folder, recipe, sources, model, report)
