"""`aign tune`: who falls behind is stopped, nothing that ended is lost, and what it found can be trained."""

import json
import os
import signal
import time
from dataclasses import replace

import pytest
import torch
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from aign.data.store import Store
from aign.evaluation.trials import Goal, Metric
from aign.framework.errors import UserError
from aign.recipes import draws, faces_task, recipe
from aign.recipes.search import Range, space_of, with_values
from aign.recipes.tasks import task_of
from aign.registry.client import client_of
from aign.registry.tracking import RunFacts, open_tracking, start_run
from aign.training.hooks import logged_lines
from pipelines import cli, tune_search
from pipelines import train as train_verb
from pipelines.run_folder import alone
from pipelines.tune_folder import Place, find_trial
from pipelines.tune_report import OUTPUTS
from pipelines.tune_search import Draws, Plan, scheduler_of
from pipelines.tune_trial import Searched, every, run_trial
from tests.distributed import faces_ranks
from tests.pipelines.samples import TINY, leftovers, start, tiny
from tests.tasks.toy_faces import toy_judge, toy_store

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]
LR = "fit.lr"
STEPS, EVERY = 90, 10
OBJECTIVE = "val/mpjpe_mm"
FLAGS = (*TINY, "--fit.ema", "0", "--fit.log-every", "5", "--steps", str(STEPS))
"""Without an average, ten steps are enough to tell a network that learns from one that does not."""
RATES = {1: 1e-9, 2: 1e-9, 3: 2e-9, 4: 1e30, 5: 3e-9}
"""Trial 0 is the recipe and learns; 4 is lost at once; the others do not move."""


def mlflow_runs(tracking):
    client = client_of(tracking.uri)
    (experiment,) = (e for e in client.search_experiments() if e.name == "aign")
    return client.search_runs([experiment.experiment_id])


def trial_files(out, number):
    folder = out / "trials" / f"{number:03d}"
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()}


@pytest.fixture(scope="module")
def searched(ray_cluster, demo_store, tmp_path_factory):
    """A whole search with ASHA in which one trial learns."""
    root = tmp_path_factory.mktemp("tune")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune_search, "draw", lambda method, space, seed, number, known: {LR: RATES[number]})
        argv = ["tune", "lifting-demo", "--store", demo_store.url, "--out", str(root / "out"), "--trials", "6", *FLAGS,
                "--space", "fit.lr=1e-10:1e-2", "--fix", "task.weights.*", "--fix", "fit.critic_lr",
                "--mlflow", str(root / "mlflow")]  # fmt: skip
        assert cli.main(argv) == 0
    return root, argv


def test_asha_stops_who_does_not_learn_and_the_best_is_the_lowest(searched):
    out = searched[0] / "out"
    rows = [json.loads((out / "trials" / f"{n:03d}" / "end.json").read_text()) for n in range(6)]
    assert rows[0]["state"] == "complete"
    assert rows[4]["state"] == "failed"
    assert "not finite" in rows[4]["why"]
    stopped = [n for n in (1, 2, 3, 5) if rows[n]["state"] == "stopped"]
    assert len(stopped) >= 2, "the first that report have nobody to fall behind of"
    for number in stopped:
        progress = json.loads((out / "trials" / f"{number:03d}" / "progress.json").read_text())
        assert progress["step"] < STEPS
        logged = [json.loads(line)["step"] for line in logged_lines(out / "trials" / f"{number:03d}")]
        assert max(logged) == progress["step"], "not one step after it was stopped"
    best = json.loads((out / "best.json").read_text())
    assert best["number"] == 0
    ends = {n: json.loads((out / "trials" / f"{n:03d}" / "progress.json").read_text()) for n in (0, *stopped)}
    assert best["metrics"][OBJECTIVE] == min(end["metrics"][OBJECTIVE] for end in ends.values())


def test_the_result_explains_itself(searched):
    out = searched[0] / "out"
    whole = [p for p in out.glob("trials/*/end.json") if json.loads(p.read_text())["state"] == "complete"]
    compared = {"pareto.png"} if len(whole) > 1 else set()
    assert {name for name in OUTPUTS if (out / name).exists()} == set(OUTPUTS) - {"pareto.png"} | compared
    page = (out / "index.html").read_text()
    for name in ("figure.png", "conflicts.png", "--from-trial", *compared):
        assert name in page
    table = (out / "table.md").read_text()
    assert table.count("\n| ") >= 7
    assert "best: trial 0" in table
    assert "steps: " in table
    assert not leftovers(out)
    assert not list(out.glob("trials/*/checkpoint.pt")), "of no more use"


def test_every_trial_is_an_mlflow_run_under_the_searchs(searched):
    runs = mlflow_runs(open_tracking(searched[0] / "mlflow"))
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    nested = {run.info.run_name.rpartition("/")[2]: run for run in runs if run is not parent}
    assert sorted(nested) == [f"{n:03d}" for n in range(6)]
    assert {run.data.tags["mlflow.parentRunId"] for run in nested.values()} == {parent.info.run_id}
    assert float(nested["003"].data.params[LR]) == RATES[3]
    assert nested["000"].data.metrics[OBJECTIVE] > 0
    assert not any(name.startswith("cosine") for name in nested["000"].data.metrics)
    states = {name: run.info.status for name, run in nested.items()}
    assert states == {**dict.fromkeys(nested, "FINISHED"), "004": "FAILED"}
    assert parent.info.status == "FINISHED"


def test_the_same_command_again_trains_nothing(searched, monkeypatch):
    monkeypatch.setattr(tune_search.tune, "Tuner", lambda *_, **__: pytest.fail("searched again"))
    before = [trial_files(searched[0] / "out", n) for n in range(6)]
    assert cli.main(searched[1]) == 0
    assert [trial_files(searched[0] / "out", n) for n in range(6)] == before


def test_another_search_in_the_same_folder_is_refused(searched, capsys):
    assert cli.main([*searched[1], "--space", "fit.lr=1e-9:1e-2"]) == 2
    err = capsys.readouterr().err
    assert "another configuration: space.fit.lr" in err
    assert err.count("\n") == 1


def test_the_best_is_trained_with_all_steps(searched, demo_store, tmp_path, monkeypatch):
    out = searched[0] / "out"
    monkeypatch.chdir(searched[0])
    want = train_verb.parse(["lifting-demo", "--store", "s", *TINY, "--fit.ema", "0", "--fit.log-every", "5"])
    for place in (str(out), str(out / "trials" / "000"), str(out / "000")):
        parsed = train_verb.parse(["lifting-demo", "--store", "s", "--from-trial", place])
        assert parsed.recipe == want.recipe, "with all its steps"
        assert parsed.args.name == "lifting-demo-trial000"
    (searched[0] / "tune").mkdir(exist_ok=True)
    if not (searched[0] / "tune" / "lifting-demo").exists():
        (searched[0] / "tune" / "lifting-demo").symlink_to(out)
    again = train_verb.parse(["lifting-demo", "--store", "s", "--from-trial=3", "--fit.steps", "7", "--name", "x"])
    assert (again.recipe.fit.lr, again.recipe.fit.steps, again.args.name) == (RATES[3], 7, "x")
    flags = ("--workers", "0", "--fit.steps", str(STEPS), "--runs", str(tmp_path / "runs"))
    where = ("--store", demo_store.url, "--mlflow", str(tmp_path / "ml"))
    assert cli.main(["train", "lifting-demo", "--from-trial", str(out), *flags, *where]) == 0
    folder = tmp_path / "runs" / "lifting-demo-trial000"
    last = [row for row in map(json.loads, logged_lines(folder)) if OBJECTIVE in row][-1]
    assert last["step"] == STEPS
    best = json.loads((out / "best.json").read_text())["metrics"][OBJECTIVE]
    assert last[OBJECTIVE] == pytest.approx(best, rel=1e-6), "with a trial's steps, a trial's number"
    assert (folder / "run.json").exists()


def test_a_trial_that_is_none_is_one_line(searched, tmp_path):
    for place, name, said in (
        (str(tmp_path), "lifting-demo", "is no trial"),
        ("77", "lifting-demo", "is no trial"),
        (str(searched[0] / "out"), "lifting-h36m", "of recipe lifting-demo, not of lifting-h36m"),
    ):
        with pytest.raises(UserError, match=said) as error:
            find_trial(place, name)
        assert "\n" not in str(error.value)
    drawn = json.loads((searched[0] / "out" / "trials" / "000" / "trial.json").read_text())
    drawn["recipe"]["fit"]["lr"] = "fast"
    (tmp_path / "trial.json").write_text(json.dumps(drawn))
    with pytest.raises(UserError, match=r"another version of lifting-demo: fit.lr") as error:
        find_trial(str(tmp_path), "lifting-demo")
    assert "\n" not in str(error.value)


def wait_for(there, process, patience=240.0):
    until = time.monotonic() + patience
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.02)


def test_a_search_that_is_interrupted_then_killed_goes_on_and_keeps_what_ended(
    ray_cluster, demo_store, tmp_path, capsys
):
    out, steps = tmp_path / "out", 450
    argv = ["tune", "lifting-demo", "--store", demo_store.url, "--out", str(out), "--mlflow", str(tmp_path / "mlflow"),
            "--trials", "3", "--scheduler", "fifo", *FLAGS[:-1], str(steps)]  # fmt: skip

    def states():
        return {r.info.run_name: r.info.status for r in mlflow_runs(open_tracking(tmp_path / "mlflow"))}

    def reached():
        return {p.parent.name: json.loads(p.read_text())["step"] for p in out.glob("trials/*/progress.json")}

    process = start(*argv, cwd=tmp_path)
    wait_for(lambda: list(out.glob("trials/*/end.json")) and list(out.glob("trials/*/checkpoint.pt")), process)
    os.killpg(process.pid, signal.SIGINT)
    err = process.communicate()[1]
    assert process.returncode == 130
    assert err.splitlines()[-1] == ("aign tune: interrupted; what was finished is kept, the same command goes on"), (
        "one line, no traceback"
    )
    ended = [int(p.parent.name) for p in out.glob("trials/*/end.json")]
    assert 0 < len(ended) < 3
    assert sorted(states().values()).count("FINISHED") == len(ended)
    assert set(states().values()) == {"FINISHED", "KILLED"}, "the search's own among the killed"
    before, far = {n: trial_files(out, n) for n in ended}, reached()

    process = start(*argv, cwd=tmp_path)
    wait_for(lambda: any(step > far.get(name, 0) for name, step in reached().items()), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()

    assert cli.main(argv) == 0
    told = capsys.readouterr().err
    assert {n: trial_files(out, n) for n in ended} == before, "what ended is not touched"
    assert f"trial {ended[0]} of 3" not in told
    for number in range(3):
        folder = out / "trials" / f"{number:03d}"
        validations = [row["step"] for row in map(json.loads, logged_lines(folder)) if OBJECTIVE in row]
        assert validations == list(range(50, 451, 50)), "each once, whatever was killed"
        assert json.loads((folder / "end.json").read_text())["state"] == "complete"
    assert len(states()) == 4, "the same runs, and one parent"
    assert set(states().values()) == {"FINISHED"}


def test_optuna_draws_and_the_median_stops_through_ray(ray_cluster, demo_store, tmp_path, monkeypatch, capsys):
    pytest.importorskip("optuna")
    monkeypatch.setattr(draws, "STARTUP", 3)
    out = tmp_path / "out"
    argv = ["tune", "lifting-demo", "--store", demo_store.url, "--out", str(out), "--mlflow", str(tmp_path / "mlflow"),
            "--trials", "8", "--scheduler", "median", "--search", "optuna", *FLAGS[:-1], "36"]  # fmt: skip
    assert cli.main(argv) == 0
    said = capsys.readouterr().err
    assert all(f"trial {number} of 8" in said for number in range(8))
    place = out / "trials"
    rows = [json.loads((place / f"{n:03d}" / "end.json").read_text())["state"] for n in range(8)]
    assert rows[0] == "complete"
    assert set(rows) <= {"complete", "stopped"}
    space = space_of(recipe("lifting-demo"))
    for number in range(1, 8):
        values = json.loads((place / f"{number:03d}" / "trial.json").read_text())["values"]
        at_random = draws.draw("random", space, 0, number, ())
        assert (values == at_random) == (number < 3), "from the third on where Optuna expects good ones"
        assert all(space[name].low <= value <= space[name].high for name, value in values.items())


# What needs no cluster.


def plan(out, scheduler="asha", trials=6, seed=0, tracking=None, steps=STEPS):
    place = Place(out=out, recipe=tiny(), steps=steps, goal=Goal(metric=Metric(name=OBJECTIVE)))
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


def test_two_searches_with_one_seed_draw_the_same_trials_and_a_drawn_one_stays(tmp_path):
    drawn = {}
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        made = plan(tmp_path / name, seed=seed, tracking=open_tracking(tmp_path / f"mlflow-{name}"))
        handed = Draws(made)
        drawn[name] = [handed.suggest(str(number))["values"] for number in range(4)]
    assert drawn["one"] == drawn["two"]
    assert drawn["one"][0] == drawn["other"][0] == {LR: 1e-3, "task.weights.pose": 0.1}, "the recipe itself"
    assert drawn["one"][1] != drawn["other"][1]
    again = Draws(plan(tmp_path / "one", seed=9, tracking=open_tracking(tmp_path / "mlflow-one")))
    assert [again.suggest(str(number))["values"] for number in range(4)] == drawn["one"]


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
    place = Place(out=tmp_path / "out", recipe=made, steps=2, goal=goal)
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
