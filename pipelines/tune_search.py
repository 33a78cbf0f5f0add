"""A search by Ray Tune: it hands out trials and processors, and stops who falls behind. What is known is in the folder.

Tune's own state is not kept. Its snapshots leave the scheduler out (ray 2.60, TuneController.__getstate__), so a search
restored from them would compare nobody with those that were there before; and they lag behind the trials. Here a
command that goes on tells a new scheduler what every ended trial reported, and begins the others where they were.
"""

import dataclasses
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import ray
from ray import tune
from ray.tune.execution.class_cache import ENV_VARS_TO_PROPAGATE
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.search import Searcher

from aign.recipes.draws import Known, Method, draw
from aign.recipes.search import Space, values_of
from aign.registry.client import client_of, told
from aign.registry.tracking import PARENT_TAG, Status, finish, running_under, start_run
from infra.cluster import cluster
from pipelines.tune_trial import REDUCTION, Searched, run_trial

Scheduler: TypeAlias = Literal["asha", "median", "fifo"]
MAX_FAILURES = 2
"""How often a trial whose worker died goes on from its checkpoint."""
_SCRATCH = ".ray"
"""Tune's own files; they are of one command."""
_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the trial's folder has it all
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is the usual exception
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that failed at once has reported nothing
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # which prints boxes whatever verbosity is asked for
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",  # else workers start one after the other; `Draws` hands out few
}
_SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")
"""Tune would hand them to its workers in their runtime_env, which Ray writes to its log; each node has its own."""
_ENDS: Mapping[str, Status] = MappingProxyType({"failed": "FAILED", "open": "FAILED"})
"""In MLflow, of trials that neither made all their steps nor were stopped."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a search goes.

    Attributes:
        searched: what its trials share.
        space: where it looks.
        method: how trials are drawn.
        scheduler: who is stopped early.
        trials: how many.
        seed: of the draws.
        say: takes a line of progress.
    """

    searched: Searched
    space: Space
    method: Method
    scheduler: Scheduler
    trials: int
    seed: int
    say: Callable[[str], None]


def places(gpus: float) -> int:
    """How many trials the connected cluster has room for now; it may grow."""
    there = ray.cluster_resources()
    room = there.get("CPU", 1.0)
    return max(1, int(min(room, there.get("GPU", 0.0) / gpus) if gpus else room))


class Draws(Searcher):  # type: ignore[misc]
    """Hands out the trials that have not ended, by their numbers; trial 0 is the recipe as it is."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan, self._running = plan, dict[str, tuple[int, str]]()
        place = plan.searched.place
        self.todo = [number for number in range(plan.trials) if not place.ended(number)]
        self._waiting = list(self.todo)

    def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
        """Nothing to set: it knows what it looks for."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """The next trial, as it was drawn before or drawn now; not yet, where one is already waiting for a place."""
        if not self._waiting:
            return Searcher.FINISHED
        if len(self._running) > places(self._plan.searched.gpus):
            return None
        number = self._waiting.pop(0)
        place = self._plan.searched.place
        values = place.values(number)
        if values is None:
            values = self._drawn(number)
            place.open(number, values)
        self._running[trial_id] = (number, "")
        run_id = self._run(number, values)
        self._running[trial_id] = (number, run_id)
        return {"number": number, "values": values, "run_id": run_id}

    def _drawn(self, number: int) -> dict[str, float]:
        plan, place = self._plan, self._plan.searched.place
        if number == 0:
            return values_of(place.recipe, plan.space)
        known = [Known(values=place.values(n) or {}, loss=place.loss(n)) for n in place.numbers() if n != number]
        return draw(plan.method, plan.space, plan.seed, number, known)

    def _run(self, number: int, values: dict[str, float]) -> str:
        """The trial's MLflow run, under the search's."""
        searched = self._plan.searched
        config = dataclasses.asdict(searched.recipe(values))
        run_id = start_run(searched.tracking, f"{searched.name}/{number:03d}", config, searched.facts)
        with told(f"log a run to {searched.tracking.uri}"):
            client_of(searched.tracking.uri).set_tag(run_id, PARENT_TAG, searched.parent)
        return run_id

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Close a trial that was stopped or made all its steps; one whose worker died stays open."""
        number, run_id = self._running[trial_id]
        plan, place = self._plan, self._plan.searched.place
        if not place.ended(number) and not error:
            place.end(number, "complete" if place.trial(number).step >= place.steps else "stopped")
        trial = place.trial(number)
        finish(plan.searched.tracking, run_id, _ENDS.get(trial.state, "FINISHED"))
        metric = place.goal.metric.name
        value = trial.metrics.get(metric, math.nan)
        state = {"open": "its worker died", "failed": f"failed: {trial.why}"}.get(trial.state, trial.state)
        plan.say(
            f"trial {number} of {plan.trials}: {state}, {metric} {value:.4g} at step {trial.step} of {place.steps}"
        )
        del self._running[trial_id]  # at last: if MLflow does not answer, Tune asks again

    def close_all(self) -> None:
        """Those that run are cut off, also one whose run was just being made; not one that had just ended."""
        searched = self._plan.searched
        for number, known in self._running.values():
            trial = searched.place.trial(number)
            run_id = known or self._run(number, dict(trial.values))
            finish(searched.tracking, run_id, "KILLED" if trial.state == "open" else _ENDS.get(trial.state, "FINISHED"))

    def settle(self) -> None:
        """Say in MLflow how trials ended whose command was killed before it could."""
        searched = self._plan.searched
        for name, run_id in running_under(searched.tracking, searched.parent).items():
            number = int(name.rpartition("/")[2])
            if searched.place.ended(number):
                finish(searched.tracking, run_id, _ENDS.get(searched.place.trial(number).state, "FINISHED"))

    def save(self, checkpoint_path: str) -> None:
        """What is known is in the trials' folders; Tune wants a file."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Never asked: a search goes on from its folder."""


@dataclass(frozen=True, eq=False)
class _Past:
    """A trial of an earlier command, as schedulers know one."""

    trial_id: str


def scheduler_of(plan: Plan) -> TrialScheduler:
    """The scheduler, told of every trial that has ended before."""
    searched = plan.searched
    place = searched.place
    goal = place.goal.metric
    judged: dict[str, Any] = {"time_attr": "step", "metric": goal.name, "mode": "max" if goal.higher else "min"}
    made: TrialScheduler = FIFOScheduler()
    if plan.scheduler == "asha":
        # One step more than there are: a trial that makes them all returns by itself.
        made = ASHAScheduler(**judged, max_t=place.steps + 1, grace_period=searched.every, reduction_factor=REDUCTION)
    elif plan.scheduler == "median":
        # A slice without end: Tune would else pause trials to give way to new ones, and start their processes again.
        made = MedianStoppingRule(**judged, grace_period=searched.every, min_time_slice=math.inf)
    for number in place.numbers():
        rows = place.validations(number)
        if place.ended(number) and rows:
            past = _Past(trial_id=f"past-{number}")
            made.on_trial_add(None, past)
            for row in rows:
                made.on_trial_result(None, past, row)
            made.on_trial_complete(None, past, rows[-1])
    return made


def search(plan: Plan, address: str | None) -> str:
    """Run the trials that have not ended; nothing, or why some workers died.

    Raises:
        KeyboardInterrupt: trials that ran are cut off; the same search goes on with them.
    """
    searched = plan.searched
    draws = Draws(plan)
    draws.settle()
    if not draws.todo:
        return ""
    os.environ.update(_ENVIRONMENT)
    ENV_VARS_TO_PROPAGATE.difference_update(_SECRETS)
    scratch = searched.place.out / _SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)

    def trial(config: dict[str, Any]) -> None:
        run_trial(searched, config["number"], config["values"], config["run_id"])

    with cluster(address):
        tuner = tune.Tuner(
            tune.with_resources(trial, {"CPU": 1, **({"GPU": searched.gpus} if searched.gpus else {})}),
            tune_config=tune.TuneConfig(
                search_alg=draws, scheduler=scheduler_of(plan), num_samples=len(draws.todo), reuse_actors=True
            ),
            run_config=tune.RunConfig(
                name=_SCRATCH,
                storage_path=str(searched.place.out),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            ),
        )
        try:
            results = tuner.fit()
        except BaseException:
            draws.close_all()
            raise
    shutil.rmtree(scratch, ignore_errors=True)
    return str(results.errors[0]).strip().splitlines()[-1] if results.errors else ""
