"""evaluate, register, models and capture, on packages of tiny trainings."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from aign.data import assets
from aign.data.sources import SourceOptions, plan
from aign.data.stages.decode import read_frames, write_mp4
from aign.data.store import Store
from aign.evaluation.report import Report
from aign.framework.errors import UserError
from aign.registry import models
from aign.registry.tracking import open_tracking
from pipelines import cli
from pipelines.preprocess import preprocess
from pipelines.register import register
from pipelines.run_folder import Run
from pipelines.train import run_recipe
from tests.pipelines.samples import leftovers, tiny


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("verbs")


@pytest.fixture(scope="module")
def runs(home, demo_store) -> dict[str, Run]:
    """The same recipe trained twice as long: the longer is the better one; all in this process."""
    tracking = open_tracking(home / "mlflow")
    recipes = {"short": tiny(steps=20, validate_every=10), "long": tiny(steps=300, validate_every=300)}
    made = {n: run_recipe(r, demo_store.url, home / "runs" / n, tracking, 0) for n, r in recipes.items()}
    assert made["long"].report.headline < made["short"].report.headline
    return made


def test_a_run_folder_holds_what_it_promises(runs, demo_store):
    run = runs["short"]
    names = {"config.json", "metrics.jsonl", "report.json", "table.md", "table.html", "curves.png", "run.json"}
    assert names <= {p.name for p in run.folder.iterdir()}
    assert {p.name for p in run.package.iterdir()} == {"model.safetensors", "model.json"}
    assert json.loads((run.folder / "config.json").read_text())["store"] == demo_store.hash
    assert Run.open(run.folder).report == run.report
    assert not leftovers(run.folder)


@pytest.mark.parametrize("text", ["", "{}", "[]", "nonsense"])
def test_a_damaged_run_is_said_to_be_none(runs, tmp_path, text):
    shutil.copytree(runs["short"].folder, tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text(text)
    with pytest.raises(UserError, match="is not a finished run"):
        Run.open(tmp_path / "run")


def test_evaluate_measures_runs_packages_and_baselines_alike(runs, demo_store, tmp_path, capsys):
    names = [str(runs["short"].folder), str(runs["long"].package), "baseline:mean-pose", "baseline:nearest-pose"]
    assert cli.main(["evaluate", *names, "--store", demo_store.url, "--out", str(tmp_path / "out")]) == 0
    assert "mean-pose" in capsys.readouterr().out
    files = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert files == ["00-lifting-demo.json", "01-lifting-demo.json", "02-mean-pose.json", "03-nearest-pose.json",
                     "index.html", "table.csv", "table.html", "table.md"]  # fmt: skip
    reports = [Report.from_json((tmp_path / "out" / name).read_text()) for name in files[:4]]
    assert reports[0].headline == pytest.approx(runs["short"].report.headline)
    assert reports[1].headline == pytest.approx(runs["long"].report.headline)
    assert len({r.num_frames for r in reports}) == 1, "all on the same frames"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("baseline:mean-pose",), "need to be told --test"),
        (("baseline:mean-pose", "--test.subjects", "nobody", "--memory.subjects", "demo"), "nobody"),
        (("RUN", "--protocol", "my-own"), "open-motion/heldout/j17/root0"),
        (("models:/lifting@champion",), "lifting"),
    ],
)
def test_evaluate_says_what_is_wrong(runs, demo_store, tmp_path, capsys, flags, said):
    flags = [str(runs["short"].folder) if flag == "RUN" else flag for flag in flags]
    code = cli.main(["evaluate", *flags, "--store", demo_store.url, "--mlflow", str(tmp_path / "mlflow")])
    err = capsys.readouterr().err
    assert code == 2
    assert err.count("\n") == 1
    assert said in err


def test_register_promotes_the_better_and_never_twice(runs, home, capsys):
    place = ("--mlflow", str(home / "mlflow"), "--name", "pair")
    long, short = (str(runs[name].folder) for name in ("long", "short"))
    for run, said in (
        (short, "pair version 1 is now the champion"),
        (long, "pair version 2 is now the champion"),
        (short, "pair version 1 is registered: "),
        (long, "pair version 2 is registered: version 2 is the champion already"),
    ):
        assert cli.main(["register", run, *place]) == 0
        assert said in capsys.readouterr().out
    rows = [row for row in models.list_models(open_tracking(home / "mlflow")) if row.name == "pair"]
    assert sorted((row.version, "champion" in row.aliases) for row in rows) == [(1, False), (2, True)]
    assert cli.main(["models", "list", *place[:2]]) == 0
    assert "pair" in capsys.readouterr().out
    assert cli.main(["models", "promote", "pair", "1", *place[:2]]) == 0
    assert "is not the champion" in capsys.readouterr().out
    assert cli.main(["models", "promote", "pair", "1", "--force", *place[:2]]) == 0
    assert cli.main(["models", "rollback", "pair", *place[:2]]) == 0
    assert "version 2 is the champion again" in capsys.readouterr().out
    assert cli.main(["models", "pull", "models:/pair@champion", "--out", str(home / "pulled"), *place[:2]]) == 0
    pulled = capsys.readouterr().out.strip()
    assert (runs["long"].package / "model.safetensors").read_bytes() == (
        home / "pulled" / pulled.rsplit("/", 1)[1] / "model.safetensors"
    ).read_bytes()
    assert cli.main(["models", "pull", "models:/pair@best", *place[:2]]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.ray
def test_a_champion_of_another_store_is_measured_on_this_one_first(runs, ray_cluster, home, demo_store, tmp_path):
    tracking = open_tracking(home / "mlflow")
    assert register(runs["long"], "moved", tracking).promoted
    url = str(tmp_path / "fewer")
    shutil.copytree(demo_store.url, url)
    manifest = demo_store.manifest
    unused = next(p.part for p in manifest.parts if p.row_groups[0].sequence == "demo/punch")
    (tmp_path / "fewer" / "manifest.json").write_text(
        replace(manifest, parts=tuple(p for p in manifest.parts if p.part != unused)).to_json()
    )
    assert Store.open(url).hash != demo_store.hash
    candidate = run_recipe(tiny(steps=20, validate_every=20), url, tmp_path / "runs" / "elsewhere", tracking, 0)
    done = register(candidate, "moved", tracking)
    assert not done.promoted, "worse than the champion on this store too"
    assert f"not lower than the champion's {runs['long'].report.headline:.2f}" in done.reason, "same test clips"
    (champion,) = [r for r in models.list_models(tracking) if r.name == "moved" and "champion" in r.aliases]
    assert champion.version == 1


@pytest.mark.network
@pytest.mark.ray
def test_capture_of_a_real_video(ray_cluster, runs, tmp_path, capsys):
    assets.pull(["pose", "pose2sim"])
    video, out = tmp_path / "somebody.mp4", tmp_path / "out"
    write_mp4(video, read_frames(assets.path("pose2sim_cam01"), 0, 10), 50)
    assert cli.main(["capture", str(video), "--model", str(runs["long"].package), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out / "index.html")
    (joints,) = out.glob("*.npz")
    with np.load(joints, allow_pickle=False) as content:
        assert content["joints_cam_m"].shape == (10, 17, 3)
        assert np.isfinite(content["joints_cam_m"]).any()
    (overlay,) = out.glob("*.mp4")
    assert len(list(read_frames(overlay))) == 10
    page = (out / "index.html").read_text()
    assert overlay.name in page
    assert "assumed field of view" in page
    assert not leftovers(out)
    assert preprocess(plan(str(video), options=SourceOptions(framing="whole")), str(out / "store")).kept == 1


@pytest.mark.network
@pytest.mark.ray
def test_capture_of_a_video_without_a_person(ray_cluster, runs, tmp_path, capsys):
    assets.pull(["pose"])
    write_mp4(tmp_path / "empty-room.mp4", np.full((6, 120, 160, 3), 90, np.uint8), 25)
    arguments = ["--model", str(runs["long"].package), "--out", str(tmp_path / "out")]
    assert cli.main(["capture", str(tmp_path / "empty-room.mp4"), *arguments]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "empty-room.mp4: no person found in 6 frames" in last
    assert not (tmp_path / "out" / "index.html").exists()
