"""`aign evaluate` on a store in Human3.6M's layout: what is counted, and what the tables show, counted by hand.

S9 and S11 do all 15 actions twice: 11 frames the first time (indices 0 to 10), 6 the second. Four cameras see all.
"""

import csv
import io

import pytest
import torch

from aign.data.actions import ACTIONS_15
from aign.data.store import Selection
from aign.evaluation.lifting import load_view, measure
from aign.evaluation.protocol import resolve
from aign.evaluation.report import Provenance, Report
from aign.inference.package import ModelCard, save_package
from aign.recipes.lifting import load_memory
from aign.tasks.lifting import LifterConfig, build_lifter
from pipelines import cli
from tests.evaluation.human36m import human36m_store

# Names of the first and the second trial where they are not "A 1" and "A".
UNUSUAL = {
    "S9": {"Discussion": ("Discussion 1", "Discussion 2"), "SittingDown": ("SittingDown", "SittingDown 1")},
    "S11": {
        "Discussion": ("Discussion 1", "Discussion 2"),
        "Greeting": ("Greeting 2", "Greeting"),
        "Phoning": ("Phoning 3", "Phoning 2"),
        "SittingDown": ("SittingDown", "SittingDown 1"),
        "Smoking": ("Smoking 2", "Smoking"),
    },
}
FIRST, SECOND = 11, 6
SLIDE = ("Dir", "Disc", "Eat", "Greet", "Phone", "Photo", "Pose", "Purch", "Sit", "SitD", "Smoke", "Wait", "Walk")
METHODS = ("baseline:mean-pose", "baseline:nearest-pose")


def lengths(subject: str) -> dict[str, int]:
    names = {action: UNUSUAL[subject].get(action, (f"{action} 1", action)) for action in ACTIONS_15}
    return {name: frames for pair in names.values() for name, frames in zip(pair, (FIRST, SECOND), strict=True)}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    subjects = {"S1": {"Walking 1": 40}, "S9": lengths("S9"), "S11": lengths("S11")}
    return human36m_store(tmp_path_factory.mktemp("human36m"), subjects)


@pytest.fixture(scope="module")
def package(store, tmp_path_factory):
    """An untrained lifter."""
    torch.manual_seed(0)
    memory = load_memory(store, Selection(subjects=("S1",))).canonical_m
    config = LifterConfig(components=5, width=16)
    test = store.sequences(("keypoints", "labels"), Selection(subjects=("S9", "S11")))
    card = ModelCard(
        network=config,
        recipe="untrained",
        store_hash=store.hash,
        sequences={"memory": ("S1/Walking 1",), "test": tuple(sorted(test))},
        licences=("none",),
        protocol="none",
        metrics={},
    )
    save_package(tmp_path_factory.mktemp("package") / "it", build_lifter(config, memory), card)
    return tmp_path_factory.getbasetemp().glob("package*/it").__next__()


def evaluate(store, package, out, protocol, *flags):
    assert cli.main(
        ["evaluate", str(package), *METHODS, "--store", store.url, "--protocol", protocol, "--out", str(out), *flags]
    ) == 0  # fmt: skip
    names = ("00-untrained", "01-mean-pose", "02-nearest-pose")
    return [Report.from_json((out / f"{name}.json").read_text()) for name in names]


def test_the_slides_table(store, package, tmp_path, capsys):
    """Every 5th frame: 3 of the first trial and 2 of the second, so 5 by 4 cameras by 2 subjects an action."""
    reports = evaluate(store, package, tmp_path, "aign-iccv17-13")
    for report in reports:
        assert report.frames_per_action == dict.fromkeys(ACTIONS_15, 40) | {"Directions": 20 + 12}
        assert report.num_frames == 14 * 40 + 32
        assert (report.num_views, report.of_views) == (236, 236)
        assert report.damaged == {"S9/Greeting": 2 * 4, "S9/SittingDown 1": 2 * 4, "S9/Waiting 1": 3 * 4}
        pa = report.scores["similarity"]
        of_13 = [v for a, v in pa.per_action.items() if a not in ("WalkDog", "WalkTogether")]
        assert pa.mean_13 == pytest.approx(sum(of_13) / 13)
        assert pa.mean_15 == pytest.approx(sum(pa.per_action.values()) / 15)
        frames = sum(
            pa.per_action[a] * n for a, n in report.frames_per_action.items() if a not in ("WalkDog", "WalkTogether")
        )
        assert pa.mean_frames == pytest.approx(frames / (12 * 40 + 32))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    assert tuple(rows[0])[3:] == (*SLIDE, "WalkD", "WalkT", "Avg 13", "Avg 15", "Avg/frm")
    assert [row["error"].split(" (")[0] for row in rows[:: 3 + 4]] == ["PA-MPJPE", "Limb-329 MPJPE", "MPJPE"]
    ours, theirs = rows[0], rows[3 + 3]
    assert float(ours["Avg 15"]) == pytest.approx(reports[0].scores["similarity"].mean_15, abs=1e-3)
    assert (theirs["method"], theirs["Dir"], theirs["Avg 15"]) == ("AIGN", "53.700", "79.000")
    assert "ground-truth 2D input" in theirs["source"]
    text = (tmp_path / "table.md").read_text()
    assert "S9/Greeting (8 poses), S9/SittingDown 1 (8 poses), S9/Waiting 1 (12 poses)" in text
    assert "Limb-329 MPJPE (" in capsys.readouterr().out


def test_fifteen_actions_of_the_slide(store, package, tmp_path):
    thirteen, fifteen = (evaluate(store, package, tmp_path / n, f"aign-iccv17-{n}")[0] for n in ("13", "15"))
    assert fifteen.headline == thirteen.scores["similarity"].mean_15 == fifteen.scores["similarity"].mean_actions
    assert fifteen.num_frames == thirteen.num_frames


def test_every_frame_of_videopose3d_without_the_lost_sequence(store, package, tmp_path):
    """17 frames by 4 cameras by 2 subjects an action; S11's second Directions is not counted."""
    for report in evaluate(store, package, tmp_path, "vp3d-p1"):
        assert report.frames_per_action == dict.fromkeys(ACTIONS_15, 136) | {"Directions": 68 + 44}
    head = csv.reader(io.StringIO((tmp_path / "table.csv").read_text())).__next__()
    assert tuple(head[3:]) == (*SLIDE, "WalkD", "WalkT", "Avg 13", "Avg 15", "Avg/frm")


def test_without_the_damaged_sequences_none_is_counted_or_named(store, package, tmp_path):
    for report in evaluate(store, package, tmp_path, "vp3d-p1/no-damaged"):
        left_out = {"Greeting": 24, "SittingDown": 24, "Waiting": 44, "Directions": 24}
        assert report.frames_per_action == {a: 136 - left_out.get(a, 0) for a in ACTIONS_15}
        assert report.damaged == {}
    assert "shifted" not in (tmp_path / "table.md").read_text()


def test_first_trials_by_the_frontal_camera(store, package, tmp_path):
    """The trial is not the number in the name: S11's first Phoning is "Phoning 3", S9's first SittingDown has none."""
    for report in evaluate(store, package, tmp_path, "hmr-p2"):
        assert report.frames_per_action == dict.fromkeys(ACTIONS_15, 3 * 2)
        assert (report.num_views, report.of_views) == (30, 30)
        assert list(report.damaged) == ["S9/Waiting 1"]


@pytest.mark.parametrize(("protocol", "directions", "others"), [("hmr-p1", 38, 40), ("spin-p2", 10, 10)])
def test_papers_of_pictures_lose_one_camera_only(store, protocol, directions, others):
    view = load_view(store, Selection(subjects=("S9", "S11")))
    report = measure(lambda _: view.joints_cam_m, view, protocol, Provenance(method="m", data="d", store_hash="s"))
    assert report.frames_per_action == dict.fromkeys(ACTIONS_15, others) | {"Directions": directions}
    assert report.headline == pytest.approx(0, abs=1e-3)


def test_which_of_the_slides_tables_can_be_said(store, package, tmp_path):
    evaluate(store, package, tmp_path / "detected", "aign-iccv17-13", "--keypoints", "detected")
    assert "detected 2D input" in (tmp_path / "detected/table.md").read_text()
    evaluate(store, package, tmp_path / "none", "aign-iccv17-13", "--keypoints", "none")
    assert "published" not in (tmp_path / "none/table.csv").read_text()


def test_a_part_of_what_a_protocol_counts_is_said_to_be_one(store, package, tmp_path):
    evaluate(store, package, tmp_path, "vp3d-p1", "--test.subjects", "S9", "--test.cameras", "60457274")
    text = (tmp_path / "table.md").read_text()
    assert text.count("; only 30 of the 236 views that h36m/s9s11/all-cams/50hz/j17/root0 counts.") == 3


def test_trials_are_asked_of_the_names_alone(store):
    """hmr-p2 and the like count nothing whose trial nobody knows."""
    assert resolve("hmr-p2").trials == (1,)
    view = load_view(store, Selection(subjects=("S9",), actions=("Discussion",)))
    assert set(zip(view.rows.sequence.tolist(), view.rows.trial.tolist(), strict=True)) == {
        ("S9/Discussion 1", 1),
        ("S9/Discussion 2", 2),
    }
