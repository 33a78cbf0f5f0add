"""One training, as one process or as a rank of several gloo processes."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from aign.data.store import Store
from aign.recipes.lifting import LiftingRecipe, prepare
from aign.tasks.lifting.observation import Observation
from aign.training import LocalHooks, fit
from aign.training.state import Feed
from tests.training.runs import small, weighted

STEPS = 20
RUNS = (("float32", torch.float32, 1), ("float64", torch.float64, 1), ("accumulated", torch.float64, 2))
EVERYTHING = {"bones": 0.01, "chain": 0.1, "joints": 0.1, "picture": 0.1}


@dataclass
class RankHooks(LocalHooks):
    """A gloo process; every rank keeps its own checkpoint, so that they can be compared."""

    def wrap(self, net: nn.Module) -> nn.Module:
        return DistributedDataParallel(net) if self.world > 1 else net


class Exact:
    """A feed whose batches are in float64, and a record of what was in them."""

    def __init__(self, feed: Feed, dtype: torch.dtype) -> None:
        self.feed, self.dtype = feed, dtype
        self.targets: list[Tensor] = []

    def next(self) -> Observation:
        batch = self.feed.next()
        self.targets.append(batch.target2d.clone())
        return Observation(**{name: value.to(self.dtype) for name, value in vars(batch).items()})

    def state_dict(self) -> dict[str, Any]:
        return self.feed.state_dict()

    def load_state_dict(self, state: Any) -> None:
        self.feed.load_state_dict(state)


def recipe(accumulate: int = 1) -> LiftingRecipe:
    """Three frames, every term and critic, and 16 imagined samples beside the 32 unlabelled, in so many batches."""
    fit = {"steps": STEPS, "validate_every": STEPS, "log_every": 5, "accumulate": accumulate}
    made = weighted(small(**fit), **EVERYTHING)
    task = dataclasses.replace(made.task, lifter=dataclasses.replace(made.task.lifter, frames=3))
    sizes = {"labelled_batch": 16, "unlabelled_batch": 32, "imagined_batch": 16}
    shares = {name: size // accumulate for name, size in sizes.items()}
    return dataclasses.replace(made, task=task, imagined_mix=0.5, **shares)


def train(url: str, hooks: LocalHooks, dtype: torch.dtype, accumulate: int = 1) -> None:
    """Into hooks.run_dir: checkpoint.pt, metrics.jsonl and the batches, targets.pt."""
    chosen = recipe(accumulate)
    training = prepare(chosen, Store.open(url), hooks)
    critics = {
        name: dataclasses.replace(
            c, net=c.net.to(dtype), memory=dataclasses.replace(c.memory, values=c.memory.values.to(dtype))
        )
        for name, c in training.aign.critics.items()
    }
    aign = dataclasses.replace(training.aign, encode=training.aign.encode.to(dtype), critics=critics)
    feed = Exact(training.feed, dtype)
    fit(aign, feed, chosen.fit, hooks, lambda _: {}, {})
    training.feed.close()
    torch.save(torch.stack(feed.targets), hooks.run_dir / "targets.pt")


def rank(number: int, world: int, url: str, folder: str) -> None:
    """Entry of a spawned process: train in float32, in float64, and with steps of two batches of half the size."""
    torch.set_num_threads(1)
    torch.manual_seed(number)  # nothing may depend on the process's own random state
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", init_method=meeting, rank=number, world_size=world)
    for name, dtype, accumulate in RUNS:
        train(url, RankHooks(Path(folder) / name / f"rank{number}", number, world), dtype, accumulate)
    distributed.destroy_process_group()
