"""`aign reproduce` on tiny trainings: tables, resuming, Ctrl-C, and what it refuses."""

import csv
import json
import re
from dataclasses import replace

import pytest

from aign.data.datasets.job import run
from aign.data.store import Manifest, Selection, Store, commit
from aign.evaluation.published import keypoints_of
from aign.framework.errors import UserError
from aign.recipes.lifting_tables import Row
from aign.registry.client import client_of
from aign.registry.tracking import open_tracking
from pipelines import cli, reproduce_lifting, reproduce_runs
from pipelines.preprocess import Preprocessed
from pipelines.reproduce_checks import choose
from pipelines.reproduce_lifting import Arguments
from pipelines.reproduce_report import OUTPUTS
from pipelines.reproduce_roles import role_text
from pipelines.reproduce_runs import Clock
from pipelines.run_folder import FINISHED
from tests.pipelines.samples import h36m_npz, tiny


def tiny_rows(_):
    """The shape of the real rows: some without training, two methods, a sweep that passes through one of them."""
    base, forward = tiny(steps=4, validate_every=4), tiny("lifting-demo-forward", steps=4, validate_every=4)
    light = replace(base, task=replace(base.task, weights={**base.task.weights, "pose": 0.0}))
    return (
        Row(key="mean-pose", label="mean pose", group="methods"),
        Row(key="oracle-basis", label="bound: nearest pose of the basis", group="methods"),
        Row(key="forward", label="Forward2Dto3D", group="methods", recipe=forward),
        Row(key="aign", label="AIGN", group="methods", recipe=base),
        Row(key="weight-0", label="AIGN, critics x 0", group="weight", recipe=light, x=0.0),
        Row(key="aign", label="AIGN, critics x 1", group="weight", recipe=base, x=1.0),
    )


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(reproduce_lifting, "rows", tiny_rows)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def command(store, out, *flags):
    return cli.main(["reproduce", "table1", "--store", store.url, "--out", str(out), "--seeds", "2", *flags])


def finished(out):
    return sorted(path.parent.name for path in (out / "runs").glob(f"*/{FINISHED}"))


@pytest.fixture(scope="module")
def whole(demo_store, tmp_path_factory):
    """Two groups with two seeds, once; and what was said."""
    out = tmp_path_factory.mktemp("reproduce") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reproduce_lifting, "rows", tiny_rows)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert command(demo_store, out, "--groups", "methods", "weight") == 0
    return out


def test_every_row_is_trained_once_a_seed(whole):
    names = ("aign", "forward", "weight-0")
    assert finished(whole) == [f"{name}-seed{seed}" for name in names for seed in (0, 1)]
    config = json.loads((whole / "runs/aign-seed1/config.json").read_text())
    assert (config["name"], config["seed"]) == ("aign-seed1", 1)


def test_the_table_is_that_of_the_reports(whole):
    rows = {(row["group"], row["key"]): row for row in csv.DictReader((whole / "table.csv").open())}
    values = [
        json.loads((whole / f"runs/aign-seed{seed}/report.json").read_text())["scores"]["similarity"]["mean_frames"]
        for seed in (0, 1)
    ]
    got = rows["methods", "aign"]
    assert float(got["pa_mpjpe_mm"]) == pytest.approx(sum(values) / 2)
    assert float(got["pa_mpjpe_mm_sd"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    forward = float(rows["methods", "forward"]["pa_mpjpe_mm"])
    assert float(got["pa_mpjpe_mm_ratio_to_forward"]) == pytest.approx(float(got["pa_mpjpe_mm"]) / forward)
    assert rows["weight of the critics", "aign"]["pa_mpjpe_mm"] == got["pa_mpjpe_mm"], "one run in two groups"
    assert float(rows["methods", "oracle-basis"]["pa_mpjpe_mm"]) < 5


def test_the_outputs_say_what_was_measured(whole):
    text = (whole / "table.md").read_text()
    for words in (
        "# Table 1: 3D reconstruction error from ground-truth 2D",
        "regime: semi",
        "unlabelled: nothing (Forward2Dto3D)",
        "no sequence is in two of a row's roles: checked",
        "5 sequences, 1660 frames",
        "the motions are few, 20 of one subject (demo)",
        "published: Human3.6M S9, S11",
        "a bound that sees the truth",
    ):
        assert words in text, words
    page = (whole / "index.html").read_text()
    assert 'src="figure.png"' in page
    assert "<h1>Table 1" in page
    assert (whole / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_mlflow_holds_the_table_and_every_run_under_it(whole):
    store_hash = json.loads((whole / "reproduce.json").read_text())["store"]
    tracking = open_tracking(whole / "mlflow", experiment=f"reproduce table1 {store_hash[:8]}")
    client = client_of(tracking.uri)
    experiment = client.get_experiment_by_name(tracking.experiment)
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    parent = runs.pop("table1 full")
    assert sorted(runs) == finished(whole)
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert {item.path for item in client.list_artifacts(parent.info.run_id)} >= set(OUTPUTS)
    assert parent.info.status == "FINISHED"


def test_the_same_command_trains_nothing_again_and_says_the_same(whole, demo_store, monkeypatch, capsys):
    before = (whole / "table.md").read_text(), (whole / "table.csv").read_text()
    monkeypatch.setattr("pipelines.train.train", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(reproduce_runs, "measure", lambda *_: pytest.fail("measured again"))
    assert command(demo_store, whole, "--groups", "methods", "weight") == 0
    assert ((whole / "table.md").read_text(), (whole / "table.csv").read_text()) == before
    told = capsys.readouterr()
    assert len(re.findall(r"run \d of 6: .*finished before", told.err)) == 6
    assert "PA /F2D" in told.out


def test_a_single_row_of_any_group(whole, demo_store, capsys):
    assert command(demo_store, whole, "--only", "aign") == 0
    assert "run 2 of 2: AIGN, seed 1 (finished before)" in capsys.readouterr().err
    assert len(list(csv.DictReader((whole / "table.csv").open()))) == 1


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(whole, demo_store, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{whole}/mlflow/mlflow.db")  # a new one takes long to make
    real, made = reproduce_runs.run_recipe, []

    def interrupted(*args):
        if len(made) == 1:
            raise KeyboardInterrupt
        made.append(real(*args))
        return made[-1]

    monkeypatch.setattr(reproduce_runs, "run_recipe", interrupted)
    assert command(demo_store, tmp_path / "out", "--only", "forward", "aign", "--seeds", "1") == 130
    assert "interrupted; what was finished is kept, the same command goes on" in capsys.readouterr().err
    assert finished(tmp_path / "out") == ["forward-seed0"]
    assert not (tmp_path / "out/table.md").exists()
    monkeypatch.setattr(reproduce_runs, "run_recipe", real)
    assert command(demo_store, tmp_path / "out", "--only", "forward", "aign", "--seeds", "1") == 0
    assert re.search(r"run 1 of 2: Forward2Dto3D, seed 0 \(finished before\)", capsys.readouterr().err)
    assert finished(tmp_path / "out") == ["aign-seed0", "forward-seed0"]


def test_roles_that_overlap_are_refused_before_anything_is_trained(demo_store, tmp_path, monkeypatch, capsys):
    def overlapping(_):
        rows = tiny_rows(None)
        recipe = rows[3].recipe
        shared = replace(recipe.roles, memory=recipe.roles.unlabelled)
        return (rows[2], replace(rows[3], recipe=replace(recipe, roles=shared)))

    monkeypatch.setattr(reproduce_lifting, "rows", overlapping)
    assert command(demo_store, tmp_path / "out") == 2
    assert "memory and unlabelled share 5 sequences" in capsys.readouterr().err
    assert not (tmp_path / "out/runs").exists()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--only", "aing"), "got --only aing; allowed: mean-pose, oracle-basis, forward, aign, weight-0"),
        (("--groups", "labels"), "got --groups labels, which have no row here; allowed: methods, weight"),
        (("--seeds", "0"), "got --seeds 0; allowed: 1 or more"),
        (("--steps", "0"), "got --steps 0; allowed: 1 or more"),
        (("--workers", "-1"), "got --workers -1; allowed: 0 (this process) or more"),
        (("--motion", "x"), "allowed is one of them"),
    ],
)
def test_bad_input_is_told_in_one_line(flags, told, demo_store, tmp_path, capsys):
    assert command(demo_store, tmp_path / "out", *flags) == 2
    line = capsys.readouterr().err
    assert told in line
    assert line.count("\n") == 1


def test_another_table_or_number_of_steps_needs_another_folder(whole, demo_store, capsys):
    assert command(demo_store, whole, "--steps", "7") == 2
    assert "was begun otherwise: steps None -> 7; name another --out" in capsys.readouterr().err


def test_a_store_of_exact_keypoints_is_not_table_2(demo_store, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reproduce_lifting, "keypoints_of", lambda *_: "ground-truth")
    assert cli.main(["reproduce", "table2", "--store", demo_store.url, "--out", str(tmp_path)]) == 2
    assert "table2 is of detected 2D" in capsys.readouterr().err


def test_a_run_of_two_groups_is_chosen_once():
    rows = tiny_rows(None)
    assert choose(rows, ["methods"], ["aign"]) == (rows[3],)
    assert [row.key for row in choose(rows, ["weight"], [])] == ["weight-0", "aign"]


def test_the_time_left_is_that_of_what_is_left():
    clock = Clock(left=300)
    assert clock.text == ""
    clock.count(100, 50.0)
    assert clock.text == ", about 2 min left"
    clock.count(150, 75.0)
    assert clock.text == ", about 25 s left"


def test_roles_in_words(demo_store):
    nobody = role_text(demo_store, "labelled", None)
    one = role_text(demo_store, "test", Selection(sequences=("demo/walk",)))
    assert nobody == "nothing"
    assert re.fullmatch(r"demo; walk only: 1 sequence, \d+ frames", one)


def test_motion_becomes_a_store_of_the_tables_2d(tmp_path, monkeypatch, capsys):
    """Here without Ray, which preprocessing is tested with elsewhere."""

    def in_this_process(jobs, url):
        records = [record for number, job in enumerate(jobs) for record in run(job, url, number)]
        commit(url, Manifest(skeleton="h36m17", num_joints=17).updated(records))
        return Preprocessed(manifest=Store.open(url).manifest, made=len(jobs), kept=0, quarantined=())

    monkeypatch.setattr(reproduce_lifting, "preprocess", in_this_process)
    h36m_npz(tmp_path / "vp3d", {"S1": ("Walking",), "S8": ("Walking",)})
    for table, kind in (("table1", "ground-truth"), ("table2", "detected")):
        out = tmp_path / table
        store = reproduce_lifting.open_store(Arguments(table=table, motion=tmp_path / "vp3d"), out)
        assert store.url == str(out / "store")
        assert keypoints_of(store.manifest, Selection()) == kind
    assert "few" not in capsys.readouterr().err


def test_with_nothing_given_the_embedded_clips_are_said_to_be_few(tmp_path, monkeypatch, capsys):
    asked = []

    def unmade(jobs, url):
        asked.extend(jobs)
        raise UserError("enough")

    monkeypatch.setattr(reproduce_lifting, "preprocess", unmade)
    assert cli.main(["reproduce", "table1", "--out", str(tmp_path)]) == 2
    assert "taking the embedded clips, which are few" in capsys.readouterr().err
    assert len(asked) == 20
