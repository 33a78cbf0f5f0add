"""What of `aign tune` needs no cluster: what is drawn, who is stopped, what a trial keeps, and what is refused."""

import json
from dataclasses import replace

import pytest
import torch
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from aign.data.store import Store
from aign.evaluation.trials import Goal, Metric
from aign.framework.errors import UserError
from aign.recipes import faces_task, recipe
from aign.recipes.search import Range, with_values
from aign.recipes.tasks import task_of
from aign.registry.client import client_of
from aign.registry.tracking import RunFacts, open_tracking, start_run
from aign.training.hooks import logged_lines
from pipelines import cli, tune_search
from pipelines.run_folder import alone
from pipelines.tune_folder import SearchFolder, find_trial
from pipelines.tune_search import Draws, Plan, scheduler_of
from pipelines.tune_trial import Searched, every, run_trial
from tests.distributed import faces_ranks
from tests.pipelines.samples import tiny
from tests.tasks.toy_faces import toy_judge, toy_store

LR = "fit.lr"
STEPS, EVERY = 90, 10
OBJECTIVE = "val/mpjpe_mm"


def plan(out, scheduler="asha", trials=6, seed=0, tracking=None, steps=STEPS):
    place = SearchFolder(out=out, recipe=tiny(), steps=steps, goal=Goal(metric=Metric(name=OBJECTIVE)))
    facts = RunFacts(recipe="tiny", store_hash="x", licences=())
    made = Searched(
        place=place, store_url="", tracking=tracking, name="search", parent="p", facts=facts, gpus=0.0
    )  # fmt: skip
    space = {LR: Range(low=1e-5, high=1e-1), "task.weights.pose": Range(low=0.01, high=1.0)}
    return Plan(
        searched=made, space=space, method="random", scheduler=scheduler, trials=trials, seed=seed, say=lambda _: None
    )  # fmt: skip


def ended(place, number, errors):
    """A trial that reported these errors, as a folder."""
    place.open(number, {LR: 1e-3, "task.weights.pose": 0.1})
    folder = place.folder(number)
    rows = [{"step": EVERY * i, OBJECTIVE: error} for i, error in enumerate(errors, 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "progress.json").write_text(json.dumps({"step": rows[-1]["step"], "metrics": {OBJECTIVE: errors[-1]}}))
    place.end(number, "complete")


class Here:
    trial_id = "here"


@pytest.mark.parametrize("scheduler", ["asha", "median"])
def test_a_new_command_compares_with_the_trials_of_the_one_before(tmp_path, scheduler):
    for past, said in (((), TrialScheduler.CONTINUE), ((1, 2, 3), TrialScheduler.STOP)):
        made = plan(tmp_path / str(len(past)), scheduler)
        for number in past:
            ended(made.searched.place, number, [100.0, 90.0, 80.0])
        told, here = scheduler_of(made), Here()
        told.on_trial_add(None, here)
        assert told.on_trial_result(None, here, {"step": EVERY, OBJECTIVE: 120.0}) == said
        if scheduler == "asha":
            other = Here()
            other.trial_id = "other"
            told.on_trial_add(None, other)
            assert told.on_trial_result(None, other, {"step": EVERY, OBJECTIVE: 50.0}) == TrialScheduler.CONTINUE
    assert isinstance(scheduler_of(plan(tmp_path / "fifo", "fifo")), FIFOScheduler)


def test_the_cuts_of_asha_are_validations(tmp_path):
    for steps in (1, 5, 9, 90, 1000, 1500, 20000):
        between = every(steps)
        rungs = [milestone for milestone, _ in scheduler_of(plan(tmp_path, steps=steps))._brackets[0]._rungs]
        assert all(rung % between == 0 or rung > steps for rung in rungs)
        assert min(rungs) == between
        assert between <= max(1, steps / 9 + 1)


def test_two_searches_with_one_seed_draw_the_same_trials_and_a_drawn_one_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(tune_search, "places", lambda _: 3)
    drawn = {}
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        made = plan(tmp_path / name, seed=seed, tracking=open_tracking(tmp_path / f"mlflow-{name}"))
        handed = Draws(made)
        drawn[name] = [handed.suggest(str(number))["values"] for number in range(4)]
        assert handed.suggest("4") is None, "three train and one waits: Optuna knows the more, the later it draws"
    assert drawn["one"] == drawn["two"]
    assert drawn["one"][0] == drawn["other"][0] == {LR: 1e-3, "task.weights.pose": 0.1}, "the recipe itself"
    assert drawn["one"][1] != drawn["other"][1]
    again = Draws(plan(tmp_path / "one", seed=9, tracking=open_tracking(tmp_path / "mlflow-one")))
    assert [again.suggest(str(number))["values"] for number in range(4)] == drawn["one"]


def test_a_search_that_is_cut_off_says_how_each_trial_stands(tmp_path, monkeypatch):
    monkeypatch.setattr(tune_search, "places", lambda _: 3)
    tracking = open_tracking(tmp_path / "mlflow")
    made = plan(tmp_path / "out", tracking=tracking)
    handed, place = Draws(made), made.searched.place
    for number in range(3):
        handed.suggest(str(number))
    place.end(0, "complete")
    place.end(1, "failed", "lost")
    with monkeypatch.context() as patch:
        patch.setattr(Draws, "_run", raises(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):  # drawn, and its run is about to be made
            handed.suggest("3")
    handed.close_all()
    runs = client_of(tracking.uri).search_runs(["1"])
    assert {run.info.run_name.rpartition("/")[2]: run.info.status for run in runs} == {
        "000": "FINISHED", "001": "FAILED", "002": "KILLED", "003": "KILLED",
    }  # fmt: skip


def raises(error):
    def thrown(*_):
        raise error

    return thrown


def test_a_trial_is_the_recipe_with_its_numbers_and_the_searchs_steps(tmp_path):
    made = plan(tmp_path).searched
    values = {LR: 0.25, "task.weights.pose": 0.5}
    trial = made.recipe(values)
    assert (trial.fit.lr, trial.task.weights["pose"]) == (0.25, 0.5)
    assert (trial.fit.steps, trial.fit.validate_every) == (STEPS, EVERY)
    made.place.open(2, values)
    found = find_trial(str(made.place.folder(2)), "lifting-demo")
    assert found.recipe == with_values(tiny(), values), "written down with all its steps"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--space", "task.weights.poze"), "near ones: task.weights.pose"),
        (("--space", "name=1:2"), "no number 'name'"),
        (("--fix", "*"), "nothing to search"),
        (("--trials", "0"), "got --trials 0"),
        (("--steps", "0"), "got --steps 0"),
        (("--scheduler", "pbt"), "asha"),
        (("--task.weights.pse", "1"), "--task.weights.pose"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_starts(demo_store, tmp_path, monkeypatch, capsys, flags, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tune_search.tune, "Tuner", lambda *_, **__: pytest.fail("started"))
    assert cli.main(["tune", "lifting-demo", "--store", demo_store.url, *flags]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_two_searches_in_one_folder_at_once_are_one_line(demo_store, tmp_path, capsys):
    with alone(tmp_path):
        assert cli.main(["tune", "lifting-demo", "--store", demo_store.url, "--out", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "another process" in err
    assert err.count("\n") == 1


def test_faces_are_judged_by_their_bias_against_faithfulness(tmp_path, monkeypatch):
    monkeypatch.setattr(faces_task, "judge_of", lambda _: toy_judge())
    store, made = toy_store(str(tmp_path / "store")), faces_ranks.recipes()["superresolution"]
    task = task_of(made)
    goal = task.goal(made, store)
    assert goal.metric == Metric(name="val/target_points", higher=True)
    assert goal.traded[0] == Metric(name="val/faithful_psnr_db", higher=True)
    unbiased = task.goal(replace(made, bias=""), store)
    assert unbiased.metric == Metric(name="val/kid"), "never faithfulness alone: that needs no critic"
    with pytest.raises(UserError, match=r"got bias age>50, which the judge of .* cannot tell.*Male") as error:
        task.goal(replace(made, bias="age>50"), store)
    assert "\n" not in str(error.value)
    tracking, said = open_tracking(tmp_path / "mlflow"), []
    place = SearchFolder(out=tmp_path / "out", recipe=made, steps=2, goal=goal)
    facts = RunFacts(recipe=made.name, store_hash=store.hash, licences=())
    searched = Searched(
        place=place, store_url=store.url, tracking=tracking, name="search", parent="p", facts=facts, gpus=0.0
    )  # fmt: skip
    monkeypatch.setattr("pipelines.tune_trial.tune.report", said.append)
    place.open(0, {"task.weights.critic": 0.2})
    run_trial(searched, 0, {"task.weights.critic": 0.2}, start_run(tracking, "t", {}, facts))
    done = place.trial(0)
    assert (done.state, done.step, len(said)) == ("complete", 2, 2)
    assert {goal.metric.name, goal.traded[0].name} <= done.metrics.keys(), "this judge knows nothing that could drift"
    assert place.loss(0) == -done.metrics[goal.metric.name] == -said[-1][goal.metric.name]
    assert done.cosines, "render, paired, cycle and critic pull"
    assert scheduler_mode(searched) == "max"


def scheduler_mode(searched):
    some = plan(searched.place.out)
    return scheduler_of(replace(some, searched=searched))._mode


def test_a_store_whose_bodies_nobody_knows_gives_nothing_to_choose_by(demo_store):
    mocap = recipe("mocap-pretrain")
    with pytest.raises(UserError, match="nothing to choose by") as error:
        task_of(mocap).goal(mocap, Store.open(demo_store.url))
    assert "\n" not in str(error.value)
    lifting = recipe("lifting-demo")
    assert task_of(lifting).goal(lifting, demo_store).metric == Metric(name=OBJECTIVE)


def test_a_trial_reports_after_its_checkpoint_and_again_what_was_reported_before(demo_store, tmp_path, monkeypatch):
    """Killed at a report: what was said is checkpointed; going on, it is said again and nothing is trained twice."""
    made = plan(tmp_path / "out", tracking=open_tracking(tmp_path / "mlflow"))
    searched = replace(made.searched, store_url=demo_store.url)
    run_id = start_run(searched.tracking, "t", {}, searched.facts)
    values = {LR: 1e-3}
    searched.place.open(0, values)
    said = []

    class KilledError(Exception):
        pass

    def report(row):
        said.append(row["step"])
        if said == [10, 20, 30]:
            raise KilledError

    monkeypatch.setattr("pipelines.tune_trial.tune.report", report)
    with pytest.raises(KilledError):
        run_trial(searched, 0, values, run_id)
    assert torch.load(searched.place.folder(0) / "checkpoint.pt", weights_only=True)["step"] == 30
    run_trial(searched, 0, values, run_id)
    assert said == [10, 20, 30, 10, 20, 30, 40, 50, 60, 70, 80, 90]
    steps = [row["step"] for row in map(json.loads, logged_lines(searched.place.folder(0))) if "loss/pose" in row]
    assert steps == list(range(1, STEPS + 1))
    assert searched.place.ended(0)
