"""train, evaluate, register, models, adapt and export on packages of motion capture."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from aign.body.assets import load_body
from aign.data import assets
from aign.data.stages.decode import read_frames, write_mp4
from aign.evaluation.body_view import encoder_method, estimate, load_body_view
from aign.evaluation.mocap_report import MocapReport
from aign.framework.errors import UserError
from aign.inference.body_predictor import BodyPredictor
from aign.inference.package import load_card, load_package
from aign.recipes.mocap import Shares
from aign.registry import models
from aign.registry.tracking import open_tracking
from aign.tasks.motion_capture.nets import EncoderConfig
from pipelines import cli
from pipelines.ray_train import Job, train
from pipelines.register import example_of, register
from pipelines.run_files import logged
from pipelines.run_folder import Run
from pipelines.run_place import Place
from pipelines.tracked_hooks import TrackedHooks
from pipelines.train import run_recipe
from pipelines.workers import Workers
from tests.pipelines.samples import leftovers, tiny, tiny_mocap

FLAGS = ("--task.encoder.side-px", "32", "--task.encoder.channels", "8", "--task.encoder.width", "64")
SMALL = ("--labelled-batch", "2", "--unlabelled-batch", "2", "--frames", "3", "--loader-streams", "2")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("bodies")


@pytest.fixture(scope="module")
def run(home, people_store) -> Run:
    return run_recipe(tiny_mocap(), people_store.url, home / "runs" / "pre", open_tracking(home / "mlflow"), 0)


def test_a_run_holds_what_it_promises(run, people_store):
    names = {"config.json", "metrics.jsonl", "report.json", "table.md", "table.html", "curves.png", "run.json"}
    assert names <= {p.name for p in run.folder.iterdir()}
    assert not leftovers(run.folder)
    card = load_card(run.package)
    assert (card.task, card.body, card.recipe) == ("motion_capture", "default_body", "mocap-pretrain")
    assert card.network == EncoderConfig(side_px=32, channels=8, width=64)
    assert card.store_hash == people_store.hash
    assert card.licences == (*people_store.manifest.licences, load_body().licence)
    roles = [set(card.sequences[name]) for name in ("train", "validation", "test")]
    assert all(roles)
    assert len(set.union(*roles)) == sum(map(len, roles)) == 60, "nobody's clip is in two parts"
    assert isinstance(run.report, MocapReport)
    assert card.metrics == run.report.numbers
    assert run.report.num_frames == 8 * len(roles[2])
    assert Run.open(run.folder).report == run.report


def test_what_is_packaged_is_what_was_measured(run, people_store):
    encoder, card = load_package(run.package)
    view = load_body_view(people_store, card.role("test"))
    bodies = estimate(encoder_method(encoder, torch.device("cpu")), view)
    gap = (bodies.pelvis_cam_m - view.truth.pelvis_cam_m).norm(dim=1)
    assert run.report.numbers["mpjpe_absolute_mm"] > 500 * float(gap.mean()), "of the same order"


def test_evaluate_measures_a_run_a_package_and_a_registered_model_alike(run, home, people_store, tmp_path, capsys):
    place = ("--mlflow", str(home / "mlflow"))
    assert cli.main(["register", str(run.folder), *place]) == 0
    assert "motion_capture version 1 is now the champion: mpjpe_pelvis_mm" in capsys.readouterr().out
    names = [str(run.folder), str(run.package), "models:/motion_capture@champion"]
    assert cli.main(["evaluate", *names, "--store", people_store.url, "--out", str(tmp_path), *place]) == 0
    assert "published: Human3.6M" in (tmp_path / "table.md").read_text()
    reports = [MocapReport.from_json(p.read_text()) for p in sorted(tmp_path.glob("*.json"))]
    assert len(reports) == 3
    assert {r.headline for r in reports} == {run.report.headline}
    (row,) = [r for r in models.list_models(open_tracking(home / "mlflow")) if r.name == "motion_capture"]
    assert (row.score.metric, row.score.value) == ("mpjpe_pelvis_mm", run.report.headline)


def test_the_registered_model_answers_as_the_package_does(run, home, monkeypatch):
    tracking = open_tracking(home / "mlflow")
    register(run, "answers", tracking)
    import mlflow  # after the package has set its environment

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
    mlflow.set_registry_uri(tracking.uri)
    example = example_of(run)
    got = mlflow.pyfunc.load_model("models:/answers@champion").predict(dict(example))
    want = vars(BodyPredictor.of(run.package).predict(**example))
    assert got.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-5)
        assert np.isfinite(value).all()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("evaluate", "RUN", "baseline:mean-pose"), "is of motion_capture, baseline:mean-pose of lifting"),
        (("evaluate", "RUN", "--protocol", "hmr-p1"), "hmr-p1"),
        (("evaluate", "baseline:median"), "baseline:body-fit-direct"),
        (("export", "RUN", "--out", "x.onnx"), "holds a model of motion_capture (recipe mocap-pretrain); needed is"),
        (("adapt", "LIFTER", "STORE"), "holds a model of lifting (recipe r); needed is one of motion_capture"),
        (("adapt", "RUN", "nowhere"), "neither a store nor a video"),
        (("train", "mocap-pretrain", "--start", "LIFTER"), "needed is one of motion_capture"),
        (("train", "mocap-pretrain", "--start", "RUN"), "--task.encoder.side-px 32"),
        (("train", "mocap-pretrain", "--replay", "STORE"), "is the store itself"),
        (("train", "mocap-joint", "--unlabelled-batch", "0"), "segmentation"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(run, people_store, lifter, tmp_path, capsys, monkeypatch, argv, said):
    monkeypatch.chdir(tmp_path)
    places = {"RUN": str(run.folder), "STORE": people_store.url, "LIFTER": str(lifter)}
    flags = ("--store", people_store.url) if argv[0] in ("evaluate", "train") else ()
    assert (
        cli.main([*(places.get(word, word) for word in argv), *flags, *(("--workers", "0") * (argv[0] == "train"))])
        == 2
    )
    err = capsys.readouterr().err.splitlines()
    assert said in err[-1]
    assert len([line for line in err if line.startswith("aign")]) == 1


@pytest.fixture(scope="module")
def lifter(tmp_path_factory):
    from aign.inference.package import ModelCard, save_package
    from aign.tasks.lifting import LifterConfig, build_lifter

    config, folder = LifterConfig(components=3, width=16, blocks=1), tmp_path_factory.mktemp("lifter")
    card = ModelCard(network=config, recipe="r", store_hash="s", sequences={}, licences=(), protocol="p", metrics={})
    save_package(folder, build_lifter(config, 0.3 * torch.randn(50, 17, 3)), card)
    return folder


def test_a_model_of_another_task_is_not_compared_with_the_champion(run, home, demo_store):
    tracking = open_tracking(home / "mlflow")
    register(run, "mixed", tracking)
    other = run_recipe(tiny(steps=2, validate_every=2), demo_store.url, home / "runs" / "lifter", tracking, 0)
    with pytest.raises(UserError, match="mixed holds models of motion_capture, the run's is of lifting"):
        register(other, "mixed", tracking)


def test_selfsup_goes_on_from_the_champion_and_inherits_its_licences(run, home, people_store, tmp_path, capsys):
    changed = tmp_path / "start"
    changed.mkdir()
    for file in run.package.iterdir():
        (changed / file.name).write_bytes(file.read_bytes())
    card = json.loads((changed / "model.json").read_text())
    (changed / "model.json").write_text(json.dumps({**card, "licences": ["of the start"]}))
    places = ("--store", people_store.url, "--runs", str(tmp_path / "runs"), "--mlflow", str(home / "mlflow"))
    shares = ("--shares.validation", "0.1", "--shares.test", "0.15")
    short = ("--fit.steps", "2", "--fit.lr", "1e-9", "--fit.log-every", "1", "--workers", "0")
    argv = ["train", "mocap-selfsup", *places, *FLAGS, *SMALL, *short, "--start", str(changed)]
    assert cli.main([*argv, "--shares.test", "0.6"]) == 2
    assert "was trained on" in capsys.readouterr().err.splitlines()[-1]
    assert cli.main([*argv, *shares]) == 0
    said = capsys.readouterr()
    assert "next: aign register" in said.out
    assert "--name motion_capture" in said.out
    done = Run.open(tmp_path / "runs" / "mocap-selfsup")
    assert load_card(done.package).licences == (*people_store.manifest.licences, "of the start", load_body().licence)
    before, after = (load_package(p)[0].state_dict() for p in (run.package, done.package))
    assert before.keys() == after.keys(), "the teacher is not packaged"
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-6, rtol=0)


class Interrupted(TrackedHooks):
    """Stops like Ctrl-C when the first checkpoint is safe."""

    def save(self, step, state, metrics):
        super().save(step, state, metrics)
        raise KeyboardInterrupt


@pytest.fixture(scope="module")
def whole(people_store, tmp_path_factory):
    """A run with all on that a recipe may have, the teacher too, in this process and unbroken; and its folder."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    return train(everything(people_store, folder)), folder


def everything(store, folder, workers=0) -> Job:
    return Job(
        recipe=tiny_mocap("mocap-selfsup"),
        store_url=store.url,
        place=Place(folder=folder),
        workers=Workers.fixed(workers),
    )


def test_a_resumed_run_equals_an_unbroken_one(whole, people_store, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("pipelines.ray_train.TrackedHooks", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(everything(people_store, tmp_path))
    resumed = train(everything(people_store, tmp_path)).generator
    assert all(torch.equal(resumed[name], value) for name, value in whole[0].generator.items())


@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_equal_one_process(ray_cluster, whole, people_store, tmp_path):
    alone, folder = whole
    two = train(everything(people_store, tmp_path, 2))
    assert alone.generator.keys() == two.generator.keys()
    # Not the weights: of a bias in front of a GroupNorm of one channel Adam makes steps out of rounding alone.
    for theirs, ours in zip(logged(folder), logged(tmp_path), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert two.metrics == pytest.approx(alone.metrics, rel=1e-4)
    assert two.dead == alone.dead


def test_a_term_that_does_nothing_is_told_once(people_store, home, tmp_path, capsys):
    recipe = tiny_mocap(steps=2)
    weights = {**recipe.task.weights, "keypoints": 1e-19}
    recipe = dataclasses.replace(recipe, task=dataclasses.replace(recipe.task, weights=weights))
    run_recipe(recipe, people_store.url, tmp_path / "dead", open_tracking(home / "mlflow"), 0)
    assert capsys.readouterr().err.count("warning: keypoints had no effect in this run") == 1


def test_a_store_without_bodies_is_trained_on_and_not_registered(people_store, home, tmp_path):
    """As a video is: judged by the picture alone, which no model may be chosen by."""
    url = tmp_path / "video"
    url.mkdir()
    manifest = json.loads(people_store.manifest.to_json())
    manifest["parts"] = [part for part in manifest["parts"] if part["table"] not in ("body", "labels")]
    (url / "manifest.json").write_text(json.dumps(manifest))
    for part in {part["path"].split("/")[0] for part in manifest["parts"]}:
        (url / part).symlink_to(f"{people_store.url}/{part}")
    tracking = open_tracking(home / "mlflow")
    recipe = dataclasses.replace(tiny_mocap("mocap-selfsup", steps=2), replay=people_store.url)
    done = run_recipe(recipe, str(url), tmp_path / "run", tracking, 0)
    assert done.report.headline_name == "reprojection_px"
    assert "mpjpe_pelvis_mm" not in done.report.numbers
    assert json.loads((done.folder / "config.json").read_text())["replay_store"] == people_store.hash
    with pytest.raises(UserError, match="measured without the truth in 3D"):
        register(done, "video", tracking)


def test_adapt_writes_bodies_package_and_history(run, people_store, tmp_path, capsys):
    sequence = load_card(run.package).sequences["test"][0]
    few = ("--only.sequences", sequence, "--steps", "2", "--check-every", "1", "--batch", "2")
    assert cli.main(["adapt", str(run.folder), people_store.url, "--out", str(tmp_path / "out"), *few]) == 0
    said = capsys.readouterr().out
    assert "as it was" in said or "kept" in said
    assert "mocap-pretrain-adapted" in (tmp_path / "out" / "table.md").read_text()
    (folder,) = [p for p in (tmp_path / "out").iterdir() if p.is_dir()]
    with np.load(folder / "bodies.npz", allow_pickle=False) as content:
        bodies = dict(content)
    n = len(bodies["frame"])
    assert {name: bodies[name].shape for name in ("rotmats", "betas", "pelvis_cam_m", "joints_cam_m")} == {
        "rotmats": (n, 24, 3, 3), "betas": (n, 10), "pelvis_cam_m": (n, 3), "joints_cam_m": (n, 24, 3),
    }  # fmt: skip
    card = load_card(folder / "package")
    assert (card.recipe, card.sequences) == ("mocap-pretrain-adapted", {"train": (sequence,)})
    assert set(card.licences) == {*people_store.manifest.licences, load_body().licence, "zlib (pybullet_data)"}
    assert json.loads((folder / "history.json").read_text())["history"][0]["ratio"] == 1.0
    view = load_body_view(people_store, card.role("train"))
    again = estimate(encoder_method(load_package(folder / "package")[0], torch.device("cpu")), view)
    np.testing.assert_allclose(bodies["pelvis_cam_m"], again.pelvis_cam_m.numpy(), rtol=1e-5)
    assert not leftovers(tmp_path / "out")


def test_without_a_model_a_fifth_of_the_store_is_tested(people_store):
    from aign.recipes.mocap import parts
    from aign.recipes.tasks import TASKS

    task = TASKS["motion_capture"]
    assert task.selection("test", people_store, None) == parts(people_store, Shares()).test
    assert set(task.baselines) == {"body-fit-direct", "body-fit-staged"}


@pytest.fixture(scope="module")
def somebody(tmp_path_factory):
    """16 frames of a person in a real video."""
    assets.pull(["pose", "pose2sim"])
    video = tmp_path_factory.mktemp("video") / "somebody.mp4"
    write_mp4(video, read_frames(assets.path("pose2sim_cam01"), 0, 16), 50)
    return video


@pytest.mark.network
@pytest.mark.ray
def test_adapt_to_a_real_video(ray_cluster, run, somebody, tmp_path, capsys):
    """Without true bodies the table tells of the pictures alone."""
    few = ("--steps", "2", "--check-every", "1", "--batch", "2")
    assert cli.main(["adapt", str(run.folder), str(somebody), "--out", str(tmp_path / "out"), *few]) == 0
    table = (tmp_path / "out" / "table.md").read_text()
    assert "reproj. px" in table
    assert "IoU" in table
    assert "MPJPE" not in table
    assert list((tmp_path / "out").glob("*/bodies.npz"))
