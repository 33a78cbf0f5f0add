"""`aign reproduce faces` on tiny trainings: rows, table, pictures, resuming, champion, refusals."""

import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from aign.data.datasets.faces.rendered_faces import FIRST_STAR as STAR
from aign.evaluation import faces_judge_files
from aign.evaluation.faces_judge_fit import JudgeConfig
from aign.evaluation.faces_report import FaceReport
from aign.framework.errors import UserError
from aign.inference.face_mark import texts_of
from aign.inference.package import load_package
from aign.recipes import faces_tables, faces_view, training
from aign.recipes.faces import parts
from aign.recipes.faces_tables import goals, most_pictured, rows
from aign.tasks.faces.labels import read_labels
from pipelines import cli, reproduce_faces
from pipelines.package_place import package_folder
from pipelines.reproduce_checks import check_out, choose
from pipelines.reproduce_faces_here import chosen_rows, config_of, rendered_here, reproduce_here
from pipelines.reproduce_faces_measure import best_seed, mean_report, measure_all
from pipelines.reproduce_faces_pictures import shown_pictures
from pipelines.reproduce_faces_runs import Bench, train_here
from pipelines.run_folder import FINISHED
from tests.tasks.toy_faces import toy_store

ASKED = ("--only", "bicubic", "female", "--seeds", "2")
BIASES = ("sex=female", "sex=male", "age>50", "age<30", f"identity={STAR}")


@pytest.fixture(scope="module", autouse=True)
def quick_judge(tmp_path_factory):
    """The store's own judge, trained for two steps and kept where nobody else looks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(faces_judge_files, "JudgeConfig", lambda: JudgeConfig(steps=2))
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """58 rendered people at 32 px, the last of them more often."""
    return rendered_here(str(tmp_path_factory.mktemp("faces") / "store"), 500, 32, processes=1)


def command(store, out, *flags):
    where = () if "--mlflow" in flags else ("--mlflow", str(out / "mlflow"))
    return cli.main(
        [
            "reproduce",
            "faces",
            "--store",
            store.url,
            "--out",
            str(out),
            "--side-px",
            "32",
            "--steps",
            "2",
            *where,
            *flags,
        ]
    )


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("reproduce") / "out"
    assert command(store, out, *ASKED) == 0
    return out


def bench_of(store, out):
    return Bench(store=store, out=out, side_px=32, steps=2, sweep_steps=2)


def measured_in(out, key, bias_slug):
    (path,) = (out / "measured" / key).glob(f"{bias_slug}-*.json")
    return FaceReport.from_json(path.read_text())


def test_every_row_is_a_run_of_its_bias_and_seed(whole, store):
    found = sorted(path.parent.name for path in (whole / "runs").glob(f"*/{FINISHED}"))
    assert found == ["female-seed0", "female-seed1"]
    config = json.loads((whole / "runs/female-seed1/config.json").read_text())
    assert (config["bias"], config["seed"], config["store"]) == ("sex=female", 1, store.hash)
    assert (config["fit"]["steps"], config["task"]["generator"]["low_px"]) == (2, 8)


def test_in_bfloat16_it_is_another_table(whole, store):
    """Whose rows are not mixed with those of float32, whichever came first."""
    plain, lean = bench_of(store, whole), replace(bench_of(store, whole), bfloat16=True)
    (female,) = (row for row in rows(32, None) if row.key == "female")
    assert [b.run(female, 0).recipe.fit.bfloat16 for b in (plain, lean)] == [False, True]
    for begun, then in ((plain, lean), (lean, plain)):
        folder = whole / f"begun-{begun.bfloat16}"
        folder.mkdir()
        check_out(folder, config_of(begun))
        check_out(folder, config_of(begun))
        with pytest.raises(UserError, match="was begun otherwise: bfloat16"):
            check_out(folder, config_of(then))


def test_all_are_measured_on_the_same_test_pictures(whole, store):
    reports = [measured_in(whole, name, "sex-female") for name in ("bicubic-seed0", "female-seed0", "female-seed1")]
    count = len(read_labels(store, parts(store).test).identity)
    assert {(r.protocol_hash, r.store_hash, r.bias, r.num_pictures) for r in reports} == {
        (reports[0].protocol_hash, store.hash, "sex=female", count)
    }
    assert reports[0].numbers["target_points"] == 0
    assert reports[0].numbers["identity_change"] == 0, "bicubic is what was there before"
    assert reports[1].numbers["identity_change"] != reports[2].numbers["identity_change"]
    assert {"identity_change Male=+1", "identity_change age>50"} <= reports[1].numbers.keys()
    bicubic = {path.name.rsplit("-", 1)[0] for path in (whole / "measured/bicubic-seed0").iterdir()}
    assert bicubic == {"sex-female", "sex-male", "age-50", "age-30", f"identity-{STAR}"}


def test_the_table_is_that_of_the_reports(whole):
    found = list(csv.DictReader((whole / "faces.csv").open()))
    (ours,) = (row for row in found if row["method"] == "ours, sex=female")
    assert ours["source"].startswith("measured here: superresolution, judged by sex=female")
    values = [measured_in(whole, f"female-seed{seed}", "sex-female").numbers["faithful_psnr_db"] for seed in (0, 1)]
    assert float(ours["faithful_psnr_db"]) == pytest.approx(sum(values) / 2)
    assert (ours["seeds"], float(ours["faithful_psnr_db_sd"])) == ("2", pytest.approx(abs(np.diff(values)[0]) / 2**0.5))
    assert sum(row["method"] == "bicubic" for row in found) == len(BIASES)


def test_what_is_written_says_what_was_asked_for_and_what_changed(whole):
    text = (whole / "faces.md").read_text()
    assert "| sex=female | points over bicubic | 60 | " in text
    assert "**Audit: what each bias changes**" in text
    assert "| attribute | sex=female |" in text
    assert "attribute net trained on the labels of CC0-1.0" in text, "the judge is named"
    assert "FID and KID are on features of the judge" in text
    assert "| group (pictures) | Male |" in text
    page = (whole / "index.html").read_text()
    assert page.index("faces-superresolution.png") < page.index("What is asked for")
    heads = {row["attribute"] for row in csv.DictReader((whole / "faces-audit.csv").open())}
    assert {"Male", "age", "lips", "Smiling"} <= heads


def check_picture(path, columns):
    """Large, marked where ours is, third from the left, and nowhere else."""
    assert texts_of(path.read_bytes())["Comment"].startswith("Synthetic: ")
    picture = cv2.imread(str(path))
    assert picture.shape[1] == columns * 200, "input, before, ours, truth"
    marks = picture[-66:-56, 400:600]  # above the note, at the bottom of ours
    assert (marks == 0).all(2).mean() > 0.08, "the mark is on ours"
    assert (picture[-66:-56, 600:] == 0).all(2).mean() < 0.05, "and not on the truth"


def test_the_rows_of_pictures_are_large_and_marked(whole):
    check_picture(whole / "faces-superresolution.png", columns=4)
    assert not (whole / "faces-inpainting.png").exists()


def test_who_is_shown_is_not_chosen(store):
    labels = read_labels(store, parts(store).test)
    keys = shown_pictures(labels).keys
    who = [labels.identity[i] for i in range(len(labels.identity)) if (labels.sequence[i], labels.number[i]) in keys]
    assert sorted(who) == sorted(set(labels.identity.tolist()))[:8]
    anybody = replace(labels, identity=np.full_like(labels.identity, -1))
    some = sorted(number for _, number in shown_pictures(anybody, evenly=True).keys)
    assert some == sorted(labels.number.tolist())[:: len(labels.number) // 8][:8]
    usable = frozenset(key for key in zip(labels.sequence.tolist(), labels.number.tolist(), strict=True) if key[1] % 2)
    assert shown_pictures(labels, usable).keys <= usable


def test_the_same_command_makes_nothing_again_and_registers_what_translate_takes(whole, store, monkeypatch, capsys):
    before = (whole / "faces.md").read_text()
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.train.train", lambda *_: pytest.fail("trained again"))
        patch.setattr("pipelines.reproduce_faces_measure.measure", lambda *_: pytest.fail("measured again"))
        assert command(store, whole, *ASKED, "--champion") == 0
    said = capsys.readouterr()
    assert (whole / "faces.md").read_text() == before
    assert said.err.count("finished before") == 2
    assert "superresolution-female version 1" in said.out
    package = package_folder("models:/superresolution-female@champion", whole / "mlflow")
    assert json.loads((package / "model.json").read_text())["network"]["bias"] == "sex=female"


def test_the_champion_is_chosen_on_the_validation_part(tmp_path, store):
    bench, row = bench_of(store, tmp_path), rows(32, STAR)[5]
    assert row.key == "female"
    for seed, points in ((0, 3.0), (1, 8.0), (2, 5.0)):
        folder = bench.run(row, seed).folder
        folder.mkdir(parents=True)
        lines = [{"step": 1, "val/target_points": 90.0 - points}, {"step": 2, "val/target_points": points}]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert best_seed(bench, row, 3) == 1
    assert best_seed(bench, row, 1) == 0


def test_without_ray_and_mlflow_killed_and_entered_later(store, tmp_path, monkeypatch):
    monkeypatch.setattr(faces_tables, "SWEPT", (1.0,))
    monkeypatch.setattr(faces_tables, "SWEPT_EXACT", ())
    bench, real, begun = bench_of(store, tmp_path), training.fit, []

    def fit(*args):
        begun.append(args)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(training, "fit", fit)
    sweep = chosen_rows(store, 32, ("sweep",), ())
    both = replace(sweep, rows=(*sweep.rows, *chosen_rows(store, 32, (), ("diffused", "lips")).rows))
    with pytest.raises(KeyboardInterrupt):
        train_here(bench.runs(both.rows, 1), bench)
    with pytest.raises(UserError, match="lips-seed0 is not trained"):
        measure_all(both.rows, bench, 1)
    done = reproduce_here(bench, both, 1, torch.device("cpu"))
    assert len(begun) == 3, "the first run was done"
    assert [(m.row.key, m.bias) for m in done.measured[1:]] == [
        ("diffused", "lips>q90"),
        ("diffused", "nose>q90"),
        ("lips", "lips>q90"),
    ]
    assert "| lips>q90 | lip area in the mask, % more | 15 | " in (tmp_path / "faces.md").read_text()
    check_picture(tmp_path / "faces-inpainting.png", columns=4)
    assert (tmp_path / "faces-sweep.png").exists()
    assert not (tmp_path / "faces-superresolution.png").exists(), "a sweep is a plot"
    (log,) = (tmp_path / "runs").glob("sweep-*/metrics.jsonl")
    before = log.read_text()
    assert command(store, tmp_path, "--only", "bicubic", "--sweep", "--sweep-steps", "2", "--seeds", "3") == 0
    assert log.read_text() == before, "it was entered in MLflow, not trained again, and has one seed"
    assert [path.parent for path in (tmp_path / "runs").glob(f"*/{FINISHED}")] == [log.parent]
    assert "critic by renderer" in (tmp_path / "faces.csv").read_text()
    assert "critic by renderer" not in (tmp_path / "faces.md").read_text()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ("--only", "woman"),
            "got --only woman; allowed: bicubic, paired, renderer, cycle, plain, female, male, older",
        ),
        (("--seeds", "0"), "got --seeds 0; allowed: 1 or more"),
        (("--sweep-steps", "0"), "got --sweep-steps 0"),
        (("--side-px", "48"), "got --side-px 48; allowed: 32, 64, 128"),
        (("--steps", "3"), "was begun otherwise: steps 2 -> 3"),
        (("--champion", "--only", "paired", "bicubic"), "--champion registers rows of a bias"),
    ],
)
def test_refused(whole, store, flags, said, capsys):
    assert command(store, whole, *flags) == 2
    assert said in capsys.readouterr().err


def test_a_store_without_ages_parts_or_anybody_often_says_what_is_left_out(tmp_path):
    toys = toy_store(str(tmp_path / "store"), count=240)
    assert most_pictured(toys) is None
    chosen = chosen_rows(toys, 32, ("superresolution", "inpainting"), ())
    assert "identity" not in {row.key for row in chosen.rows}
    assert any(line.startswith("identity: nobody has enough pictures") for line in chosen.left_out)
    assert any(line.startswith("nose: bias nose>q90: the store has no attribute nose") for line in chosen.left_out)
    by_key = {row.key: row for row in chosen.rows}
    assert by_key["diffused"].judged_by == ("lips>q90",)
    with pytest.raises(UserError, match="got --only nose: bias nose>q90"):
        chosen_rows(toys, 32, (), ("nose",))


def test_rendered_where_no_store_is_given(tmp_path, monkeypatch, store):
    asked = []
    monkeypatch.setattr(reproduce_faces, "preprocess", lambda jobs, url: asked.append((jobs, url)))
    monkeypatch.setattr(reproduce_faces, "tell", lambda *_: None)
    monkeypatch.setattr(reproduce_faces.Store, "open", lambda url: store)
    reproduce_faces.store_of(reproduce_faces.Arguments(frames=6400, side_px=32), tmp_path)
    ((jobs, url),) = asked
    assert url == str(tmp_path / "store")
    assert {(job.options.frames, job.options.side_px) for job in jobs} == {(6400, 32)}
    assert most_pictured(store) == STAR


def test_few_pictures_go_on_from_another_table_and_all_unseen_ones_are_measured(whole, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(faces_view, "OWN_JUDGE", 1)
    toys = toy_store(str(tmp_path / "store"), count=100)
    out = tmp_path / "out"
    bench = Bench(store=toys, out=out, side_px=32, steps=1, start=whole)
    chosen = chosen_rows(toys, 32, (), ("bicubic", "female"))
    reproduce_here(bench, chosen, 1, torch.device("cpu"))
    config = json.loads((out / "runs/female-seed0/config.json").read_text())
    assert config["start"] == str(whole / "runs/female-seed0/package")
    assert (config["fit"]["steps"], config["batch"], config["memory_share"]) == (1, 8, 0.9)
    old, new = (load_package(folder / "runs/female-seed0/package")[0].state_dict() for folder in (whole, out))
    assert max(float((new[name] - old[name]).abs().max()) for name in old) < 1.01e-3, "one step of Adam"
    unseen = sum(len(read_labels(toys, part).identity) for part in (parts(toys).validation, parts(toys).test))
    assert measured_in(out, "female-seed0", "sex-female").num_pictures == unseen
    assert "measured on the validation and test parts" in (out / "faces.md").read_text()
    with pytest.raises(UserError, match="no trained run male-seed0; train it there"):
        bench.run(next(row for row in rows(32, None) if row.key == "male"), 0)
    assert command(toys, out, "--start", str(whole), "--only", "female", "--champion", "--seeds", "2") == 2
    assert "--champion chooses a seed by the validation part" in capsys.readouterr().err


def test_each_control_leaves_one_thing_out():
    found = {row.key: row for row in rows(64, STAR) if row.group == "superresolution"}
    weights = {key: {n for n, w in row.recipe.task.weights.items() if w} for key, row in found.items() if row.recipe}
    assert weights["paired"] == {"paired"}
    assert weights["renderer"] == {"render"}
    assert weights["cycle"] == {"cycle", "critic"}
    assert weights["plain"] == weights["female"] == {"render", "critic"}
    controls = {found[key].recipe.bias for key in ("paired", "renderer", "cycle")}
    assert controls == {"sex=female"}, "they remember and see what ours does"
    assert found["bicubic"].judged_by == found["plain"].judged_by == BIASES
    assert {key for key, row in found.items() if row.is_biased} == {"female", "male", "older", "younger", "identity"}
    assert {row.key for row in rows(64, STAR) if row.group == "inpainting" and row.is_biased} == {"lips", "nose"}
    assert len({row.key for row in rows(64, None)}) == len(rows(64, None))
    assert len(choose(rows(64, STAR), ("sweep",), ())) == len(faces_tables.SWEPT) + len(faces_tables.SWEPT_EXACT)


def test_goals_are_met_or_missed(whole):
    report = measured_in(whole, "female-seed0", "sex-female")
    good = replace(report, numbers={**report.numbers, "faithful_psnr_db": 40.0, "target_points": 60.0})
    assert [(goal.wanted, goal.met) for goal in goals("sex=female", good)] == [(40.0, True), (60.0, True)]
    bad = replace(report, numbers={**report.numbers, "faithful_psnr_db": 39.9, "target_points": 59.9})
    assert [goal.met for goal in goals("age>50", bad)] == [False, False]
    assert [goal.what for goal in goals("identity=3", good)] == ["faithful dB"]
    lips = replace(report, protocol="faces/inpainting", numbers={**report.numbers, "lips_area_change": 0.2})
    (goal,) = goals("lips>q90", lips)
    assert (goal.got, goal.met) == (pytest.approx(20.0), True)
    assert not goals("lips>q90", replace(lips, numbers={}))[0].met, "what was not measured is not reached"


def test_means_are_of_what_all_seeds_have(whole):
    first = measured_in(whole, "female-seed0", "sex-female")
    other = replace(first, numbers={k: v + 2 for k, v in first.numbers.items() if k != "fid"})
    mean = mean_report([first, other])
    assert "fid" not in mean.numbers
    assert mean.numbers["psnr_db"] == pytest.approx(first.numbers["psnr_db"] + 1)
    assert mean.audit["Male"] == pytest.approx(first.audit["Male"])
