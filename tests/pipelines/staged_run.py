"""A training that waits at chosen moments for what a test does to it: a node's notice or death, its command's."""

import os
import sys
import time
from pathlib import Path

import ray
import ray.train as rt
import torch

from aign.registry.tracking import open_tracking
from pipelines import ray_hooks, ray_train
from pipelines.ray_hooks import RayHooks
from pipelines.run_place import place_of
from pipelines.train import run_at
from pipelines.workers import Workers
from tests.pipelines.samples import tiny

STEPS, EVERY = 40, 20
NODE_LEAVES, NODE_DIES, COMMAND_DIES = 1, 2, 3
"""What the first starts of the workers wait for; the next ones are free."""


def starts(folder: Path) -> list[list[str]]:
    """Start, rank, ranks, node and first step of every worker so far."""
    path = folder / "starts"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


class Staged(RayHooks):
    """Writes down every start; waits where the stage says so."""

    def __init__(self, place, job, notes: Path) -> None:
        super().__init__(place, job.run_log, worst=ray_train.worst_of(ray_train.best_of(job)))
        self.notes, self.first = notes, 0
        self.stage = 1 + len([row for row in starts(notes) if int(row[1]) == self.rank])

    def restore(self):
        state = super().restore()
        self.first = state["step"] if state else 0
        node = ray.get_runtime_context().get_node_id()
        with (self.notes / "starts").open("a") as file:
            file.write(f"{self.stage} {self.rank} {self.world} {node} {self.first}\n")
        return state

    def log(self, step, metrics):
        super().log(step, metrics)
        waits = {NODE_LEAVES: self.first + 2, NODE_DIES: self.first + 1, COMMAND_DIES: EVERY + 1}
        if step == waits.get(self.stage):
            time.sleep(10_000)

    def leaving(self):
        """In its stage, asked until there is notice; both ranks get the same answers."""
        found = super().leaving()
        while self.stage == NODE_LEAVES and not found:
            time.sleep(0.2)
            found = super().leaving()
        return found


def staged_worker(config):
    torch.set_num_threads(1)
    ray_hooks.ASK_SECONDS = 0.0
    job = config["job"]
    notes = Path(os.environ["AIGN_TEST_NOTES"])
    assert rt.get_context().get_world_size() in (1, 2)
    with ray_train.at_worker(job.place) as place:
        return ray_train.ended(ray_train.run(job, Staged(place, job, notes)))


def main(store_url: str, runs: str, mlflow: str, address: str, workers: str) -> None:
    """The command."""
    ray_train._worker = staged_worker
    recipe = tiny(steps=STEPS, validate_every=EVERY)
    with place_of(runs, "run") as place:
        run_at(recipe, store_url, place, open_tracking(Path(mlflow)), Workers.parse(workers), address)


if __name__ == "__main__":
    main(*sys.argv[1:])
