"""`aign reproduce mocap` on tiny trainings: chain of runs, table, resuming, champion, refusals."""

import csv
import json
import re
from dataclasses import replace
from itertools import pairwise

import pytest

from aign.data.datasets.synthetic import SyntheticOptions
from aign.evaluation.baselines import body_fit
from aign.evaluation.mocap_report import MocapReport
from aign.inference.package import load_card
from aign.recipes.mocap_tables import FITS, OURS, SUPERVISED, Domains, rows
from pipelines import cli, reproduce_mocap
from pipelines.capture import Arguments as CaptureArguments
from pipelines.capture import chosen_model
from pipelines.reproduce_mocap_report import OUTPUTS
from pipelines.run_folder import FINISHED
from tests.conftest import build_people_store

FIT = "body-fit-direct"
LADDER = ("supervised", "keypoints", "segmentation", "motion", OURS)


@pytest.fixture(scope="module")
def target(people_store, tmp_path_factory):
    """Another domain; `people_store` has pulled what rendering needs."""
    options = SyntheticOptions(frames=240, clip_frames=8, side_px=64, seed=6, domain="target")
    return build_people_store(str(tmp_path_factory.mktemp("target") / "store"), options)


def command(people_store, target, out, *flags):
    where = ("--source", people_store.url, "--target", target.url, "--out", str(out))
    where += () if "--mlflow" in flags else ("--mlflow", str(out / "mlflow"))
    return cli.main(["reproduce", "mocap", *where, "--steps", "2", "--side-px", "32", *flags])


ASKED = ("--only", FIT, SUPERVISED, OURS, "--seeds", "2")


@pytest.fixture(scope="module")
def whole(people_store, target, tmp_path_factory):
    out = tmp_path_factory.mktemp("reproduce") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(body_fit, "DIRECT", tuple(replace(stage, steps=2) for stage in body_fit.DIRECT))
        assert command(people_store, target, out, *ASKED) == 0
    return out


def report(out, name):
    return MocapReport.from_json((out / "runs" / name / "report.json").read_text())


def test_every_row_goes_on_from_its_seeds_supervised_network_on_the_other_store(whole, people_store, target):
    names = [f"{key}-seed{seed}" for key in (OURS, SUPERVISED) for seed in (0, 1)]
    assert sorted(path.parent.name for path in (whole / "runs").glob(f"*/{FINISHED}")) == sorted(names)
    for seed in (0, 1):
        base, ours = (json.loads((whole / f"runs/{key}-seed{seed}/config.json").read_text()) for key in LADDER[::4])
        assert (base["store"], base["start"], base["seed"]) == (people_store.hash, "", seed)
        assert (ours["store"], ours["replay_store"], ours["seed"]) == (target.hash, people_store.hash, seed)
        assert ours["start"] == str(whole / f"runs/{SUPERVISED}-seed{seed}/package")


def test_all_rows_are_measured_on_the_same_clips_that_nobody_trained_on(whole, target):
    found = [report(whole, n) for n in (f"{OURS}-seed0", "body-fit-direct", f"{SUPERVISED}-seed1-on-target")]
    assert len({(r.protocol_hash, r.store_hash, r.num_frames, tuple(r.per_clip)) for r in found}) == 1
    card = load_card(whole / f"runs/{OURS}-seed0/package")
    tested = {name.split("@")[0] for name in found[0].per_clip}
    assert tested == set(card.sequences["test"])
    assert not tested & set(card.sequences["train"])
    assert found[0].store_hash == target.hash


def test_the_table_is_that_of_the_reports(whole):
    rows = {(row["source"].split(";")[0], row["method"]): row for row in csv.DictReader((whole / "table.csv").open())}
    values = [report(whole, f"{SUPERVISED}-seed{seed}-on-target").numbers["mpjpe_pelvis_mm"] for seed in (0, 1)]
    got = rows["measured here: methods", "supervised"]
    assert float(got["mpjpe_pelvis_mm"]) == pytest.approx(sum(values) / 2)
    assert float(got["mpjpe_pelvis_mm_sd"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert rows["measured here: methods", FITS["body-fit-direct"]]["seeds"] == "1"
    published = {method: row["mpjpe_origin_mm"] for (_, method), row in rows.items() if method.endswith("*")}
    assert published["Supervised+self-supervised *"] == "98.4"


def test_the_outputs_say_what_was_measured(whole):
    assert {path.name for path in whole.iterdir()} >= set(OUTPUTS)
    text = (whole / "table.md").read_text()
    ours, base, fit = (
        [report(whole, name.format(seed)).headline for seed in seeds]
        for name, seeds in ((OURS + "-seed{}", (0, 1)), (SUPERVISED + "-seed{}-on-target", (0, 1)), (FIT, (0,)))
    )
    mean = sum(base) / 2
    assert f"supervised against direct optimisation: {fit[0] / mean:.2f} times better (the slides: 4.48)" in text
    assert f"self-supervision: {100 * (1 - sum(ours) / 2 / mean):.1f} % below supervised (the slides: 21.7 %)" in text
    page = (whole / "index.html").read_text()
    assert 'src="bodies.png"' in page
    assert 'src="figure.png"' in page


def test_the_same_command_trains_and_measures_nothing_again(whole, people_store, target, monkeypatch, capsys):
    before = (whole / "table.md").read_text()
    monkeypatch.setattr("pipelines.train.train", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr("pipelines.reproduce_mocap_runs._measured", lambda *_: pytest.fail("measured again"))
    assert command(people_store, target, whole, *ASKED) == 0
    assert (whole / "table.md").read_text() == before
    assert len(re.findall(r"run \d of 4: .*finished before", capsys.readouterr().err)) == 4


def test_ours_becomes_the_champion(whole, people_store, target, capsys):
    flags = ("--only", OURS, "--seeds", "1", "--champion")
    assert command(people_store, target, whole, *flags) == 0
    said = capsys.readouterr()
    assert "run 1 of 2: supervised, seed 0 (finished before)" in said.err
    assert "motion_capture version 1 is the champion" in said.out
    video = CaptureArguments(video="nobody.mp4", mlflow=whole / "mlflow")
    assert chosen_model(video) == "models:/motion_capture@champion", "what aign capture takes"


def test_finished_runs_are_not_looked_for_in_another_mlflow_store(whole, people_store, target, tmp_path, capsys):
    assert command(people_store, target, whole, "--only", OURS, "--mlflow", str(tmp_path / "mlflow")) == 2
    assert "was it begun with another MLflow store?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--only", "selfsupervised"), "got --only selfsupervised; allowed: body-fit-direct, body-fit-staged, superv"),
        (("--seeds", "0"), "got --seeds 0; allowed: 1 or more"),
        (("--frames", "0"), "got --frames 0"),
        (("--side-px", "64"), "was begun otherwise: side_px 32 -> 64"),
        (("--champion", "--only", SUPERVISED), "--champion registers selfsup"),
    ],
)
def test_refused(whole, people_store, target, flags, said, capsys):
    assert command(people_store, target, whole, *flags) == 2
    assert said in capsys.readouterr().err


def test_an_unknown_table(capsys):
    assert cli.main(["reproduce", "table3"]) == 2
    assert "table1 | table2 | mocap" in capsys.readouterr().err


def test_stores_that_are_not_given_are_rendered_in_two_domains(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(reproduce_mocap, "preprocess", lambda jobs, url: asked.append((jobs[0].options, url)))
    monkeypatch.setattr(reproduce_mocap, "tell", lambda *_: None)
    domains = reproduce_mocap.domains_of(reproduce_mocap.Arguments(frames=2000), tmp_path)
    (source, url), (target, _) = asked
    assert url == domains.source_url == str(tmp_path / "stores/source")
    assert (source.domain, source.frames, target.domain, target.frames) == ("source", 2000, "target", 800)
    assert source.seed != target.seed
    assert not set(domains.source_actions) & set(domains.target_actions)
    assert source.keypoints == target.keypoints == "detector"


def test_each_step_of_the_ladder_turns_on_one_kind_of_evidence():
    found = {row.key: row.recipe for row in rows(Domains(source_url="s", target_url="t"), 64) if row.group == "ladder"}
    assert tuple(found) == LADDER
    on = [{name for name, weight in found[key].task.weights.items() if weight} for key in LADDER]
    added = [after - before for before, after in pairwise(on)]
    critics = {"pose_critic", "shape_critic", "motion_critic"}
    assert added == [{"keypoints", "teacher"}, {"segmentation"}, {"motion"}, critics]
    assert all(before <= after for before, after in pairwise(on))
    trained = [found[key] for key in LADDER[1:]]
    assert all(replace(r, name=OURS, task=trained[-1].task) == trained[-1] for r in trained), "nothing else differs"


def test_the_released_terms_have_neither_mask_nor_motion():
    (released,) = [row for row in rows(Domains(source_url="s", target_url="t"), 64) if row.key == "released"]
    weights = released.recipe.task.weights
    assert weights["segmentation_released"] == 1e-19
    assert not any(weights[name] for name in ("keypoints", "segmentation", "motion", "pose_critic", "teacher"))
