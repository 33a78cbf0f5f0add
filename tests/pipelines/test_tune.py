"""`aign tune`: who falls behind is stopped, nothing that ended is lost, and what it found can be trained."""

import json
import os
import signal
import time

import pytest

from aign.framework.errors import UserError
from aign.recipes import draws, recipe
from aign.recipes.search import space_of
from aign.registry.client import client_of
from aign.registry.tracking import open_tracking
from aign.training.hooks import logged_lines
from pipelines import cli, tune_search
from pipelines import train as train_verb
from pipelines.tune_folder import find_trial
from pipelines.tune_report import OUTPUTS
from tests.pipelines.samples import TINY, leftovers, start

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
    # As where the kill came after a trial had ended and before MLflow was told.
    tracking = open_tracking(tmp_path / "mlflow")
    run_id = next(r.info.run_id for r in mlflow_runs(tracking) if r.info.run_name.endswith(f"/{ended[0]:03d}"))
    client_of(tracking.uri).update_run(run_id, status="RUNNING")

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
