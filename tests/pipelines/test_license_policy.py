"""--license-policy permissive: refused in one line before anything begins, each culprit by name."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from aign.body.assets import load_body
from aign.data import assets
from aign.data.store import Provenance, Store
from aign.evaluation.mocap_report import MocapReport
from aign.recipes import recipe
from aign.recipes.tasks import task_of
from pipelines import adapt, cli
from tests.inference.test_body_predictor import package as body_package

OWNED = "AMASS licence (research only)"
PERMISSIVE = ("--license-policy", "permissive")


def owned(store: Store, folder: Path, without: str = "") -> str:
    """The same data under another licence, without a table."""
    folder.mkdir()
    manifest = json.loads(store.manifest.to_json())
    manifest["parts"] = [part for part in manifest["parts"] if part["table"] != without]
    for part in manifest["parts"]:
        part["provenance"]["licence"] = OWNED
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for table in {part["path"].split("/")[0] for part in manifest["parts"]}:
        (folder / table).symlink_to(f"{store.url}/{table}")
    assert Store.open(str(folder)).manifest.licences == (OWNED,)
    return str(folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("licences")


@pytest.fixture(scope="module")
def poses(demo_store, home):
    return owned(demo_store, home / "poses")


@pytest.fixture(scope="module")
def bodies(people_store, home):
    return owned(people_store, home / "bodies", "flow")


@pytest.fixture(scope="module")
def start(home):
    """A package that was trained on something of somebody's."""
    folder = body_package(home / "start")
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**card, "licences": ["CelebA: non-commercial research only"]}))
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(capsys, *argv: str) -> str:
    """The one line of a command that was refused before it made anything but its empty folders."""
    assert cli.main(list(argv)) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"aign {argv[0]}: --license-policy permissive refuses" in said
    assert not [path for path in Path.cwd().rglob("*") if path.is_file() and path.parts[-2] != "mlflow"]
    return said


def test_train_names_store_and_starting_model(place, people_store, bodies, start, capsys):
    argv = ("train", "mocap-selfsup", *PERMISSIVE, "--workers", "0", "--shares.test", "0.15")
    said = refusal(capsys, *argv, "--store", people_store.url, "--replay", bodies, "--start", str(start))
    assert f"refuses replay store {bodies} ({OWNED}); starting model {start} (CelebA: non-comm" in said
    assert people_store.url not in said
    assert "default_body" not in said


def test_train_and_tune_of_lifting(place, poses, capsys):
    for verb in ("train", "tune"):
        assert f"refuses store {poses} ({OWNED}); allowed" in refusal(
            capsys, verb, "lifting-demo", *PERMISSIVE, "--store", poses
        )


def test_adapt_names_model_memory_and_clips(place, bodies, start, people_store, capsys):
    said = refusal(capsys, "adapt", str(start), bodies, *PERMISSIVE, "--memory", bodies)
    assert f"model {start} (CelebA" in said
    assert f"memory store {bodies} ({OWNED})" in said
    assert f"; store {bodies} ({OWNED})" in said


@dataclass(frozen=True)
class Video:
    """Somebody's."""

    table_groups = (("frames", "keypoints"),)

    def provenance(self, table: str) -> Provenance:
        return Provenance(
            source_hashes=(), stages=(), skeleton="blazepose33", num_joints=33, producer="test",
            licence="licence of the video's owner",
        )  # fmt: skip


def test_adapt_refuses_a_video_before_it_is_read(place, tmp_path_factory, monkeypatch, capsys):
    video = tmp_path_factory.mktemp("video") / "me.mp4"
    video.write_bytes(b"")
    package = body_package(tmp_path_factory.mktemp("model") / "package")
    monkeypatch.setattr(assets, "pull", lambda names: {})
    monkeypatch.setattr(adapt, "plan", lambda *_: [Video()])
    said = refusal(capsys, "adapt", str(package), str(video), *PERMISSIVE)
    assert f"refuses video {video} (licence of the video's owner); allowed" in said


@pytest.mark.parametrize(
    ("table", "flag", "store", "named"),
    [
        ("table1", "--store", "poses", "store"),
        ("mocap", "--source", "bodies", "--source store"),
        ("mocap", "--target", "bodies", "--target store"),
        ("faces", "--store", "poses", "store"),
    ],
)
def test_reproduce(place, table, flag, store, named, request, capsys):
    url = request.getfixturevalue(store)
    said = refusal(capsys, "reproduce", table, *PERMISSIVE, flag, url)
    assert f"refuses {named} {url} ({OWNED}); allowed" in said


def test_reproduce_refuses_motion_before_it_is_preprocessed(place, tmp_path_factory, capsys):
    motion = tmp_path_factory.mktemp("motion")
    (motion / "a.bvh").write_text(
        "HIERARCHY\nROOT Hips\n{\nOFFSET 0 0 0\nCHANNELS 3 Zrotation Xrotation Yrotation\n"
        "End Site\n{\nOFFSET 0 1 0\n}\n}\nMOTION\nFrames: 1\nFrame Time: .1\n0 0 0\n"
    )
    said = refusal(capsys, "reproduce", "table1", *PERMISSIVE, "--motion", str(motion))
    assert f"refuses {motion} (licence of the motion's owner)" in said


def test_register_refuses_before_anything_is_written(place, tmp_path_factory, people_store, start, capsys):
    run = tmp_path_factory.mktemp("run")
    shutil.copytree(start, run / "package")
    (run / "run.json").write_text(json.dumps({"run_id": "x", "store_url": people_store.url}))
    report = MocapReport(
        method="r", data="d", store_hash="s", protocol="p", protocol_hash="h", headline_name="mpjpe_pelvis_mm",
        numbers={"mpjpe_pelvis_mm": 1.0}, frames={"mpjpe_pelvis_mm": 1}, num_frames=1, num_skipped=0, per_action={},
        per_clip={}, frames_per_clip={},
    )  # fmt: skip
    (run / "report.json").write_text(report.to_json())
    said = refusal(capsys, "register", str(run), *PERMISSIVE)
    assert f"the model of {run} (CelebA: non-commercial" in said


def test_a_card_inherits_the_union(people_store, start):
    made = recipe("mocap-pretrain")
    found = task_of(made).sources(made, people_store)
    assert set(found.licences) == {*people_store.manifest.licences, load_body().licence}
    assert set(found.origins) == {f"store {people_store.url}", "body default_body"}
