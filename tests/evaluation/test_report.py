"""`evaluate`: what is selected, what is averaged, what is refused."""

import dataclasses
import json
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from aign.data.actions import ACTIONS_15
from aign.evaluation.protocol import Protocol, resolve
from aign.evaluation.report import Provenance, Report, evaluate
from aign.evaluation.rows import Rows, selected
from aign.framework.errors import UserError

WHO = Provenance(method="toy", data="random bodies", store_hash="0123abcd")
OPEN = Protocol(id="test/open")


def bodies(n: int, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(n, 17, 3, generator=torch.Generator().manual_seed(seed))
    return noise * torch.tensor([0.2, 0.45, 0.12]) + torch.tensor([0.0, 0, 5])


def off_by(target: torch.Tensor, error_mm: list[float]) -> torch.Tensor:
    """Every joint but the root moved, so that MPJPE over 17 joints is as asked."""
    shift = torch.tensor(error_mm)[:, None] / 1000 * 17 / 16
    pred = target.clone()
    pred[:, 1:, 0] += shift
    return pred


def rows(actions: list[str], **other: object) -> Rows:
    n = len(actions)
    fields: dict[str, object] = {
        "sequence": np.array([f"S9/{a}" for a in actions]),
        "subject": np.array(["S9"] * n),
        "action": np.array(actions),
        "camera": np.array(["54138969"] * n),
        "frame": np.zeros(n, dtype=np.int64),
    }
    return Rows(**{**fields, **other})  # type: ignore[arg-type]


def summed(units: Mapping[str, list[float]]) -> float:
    return sum(mean * weight for mean, weight in units.values())


def run(error_mm: list[float], where: Rows, protocol: Protocol = OPEN) -> Report:
    target = bodies(len(error_mm))
    valid = torch.ones(len(error_mm), 17, dtype=torch.bool)
    return evaluate(off_by(target, error_mm), target, valid, where, protocol, WHO)


def test_both_averages_by_hand() -> None:
    # Walking 10, 20, 30 (trial numbers do not split an action), Sitting 100: by action 120 / 2, by frame 160 / 4.
    where = rows(["Walking 1", "Walking", "Walking 2", "Sitting"])
    report = run([10, 20, 30, 100], where, dataclasses.replace(OPEN, actions=ACTIONS_15))
    scores = report.scores["root"]
    assert scores.per_action == pytest.approx({"Walking": 20, "Sitting": 100}, abs=1e-3)
    assert scores.mean_actions == pytest.approx(60, abs=1e-3)
    assert scores.mean_frames == pytest.approx(40, abs=1e-3)
    assert report.headline == scores.mean_actions
    assert summed(report.units["root"]) == pytest.approx(60, abs=1e-3)
    assert len(report.units["root"]) == 4
    assert (scores.mean_13, scores.mean_15) == (None, None)
    assert (report.num_frames, report.frames_per_action) == (4, {"Sitting": 1, "Walking": 3})


def test_thirteen_and_fifteen_action_means() -> None:
    errors = [10.0] * 15
    errors[ACTIONS_15.index("WalkDog")] = 25
    errors[ACTIONS_15.index("WalkTogether")] = 40
    where = rows(list(ACTIONS_15))
    thirteen, fifteen = (run(errors, where, resolve(f"aign-iccv17-{n}")) for n in (13, 15))
    for report in (thirteen, fifteen):
        assert report.scores["root"].mean_13 == pytest.approx(10, abs=1e-3)
        assert report.scores["root"].mean_15 == pytest.approx(13, abs=1e-3)
    assert thirteen.scores["root"].mean_actions == pytest.approx(10, abs=1e-3)
    assert thirteen.scores["root"].mean_frames == pytest.approx(10, abs=1e-3)
    assert fifteen.scores["root"].mean_actions == pytest.approx(13, abs=1e-3)
    assert set(thirteen.scores) == {"similarity", "limb329", "root", "scale", "rigid"}


def test_stride_counts_frames_from_zero() -> None:
    where = rows(["Walking"] * 11, frame=np.arange(11))
    report = run([float(i) for i in range(11)], where, dataclasses.replace(OPEN, frame_stride=5))
    assert report.num_frames == 3
    assert report.scores["root"].mean_frames == pytest.approx(5, abs=1e-3)


@pytest.mark.parametrize(("fps", "frames"), [(50.0, [0, 5, 10, 15]), (10.0, [0, 1, 2, 3]), (None, [0, 5, 10, 15])])
def test_the_stride_is_of_frames_at_50_hz(fps, frames) -> None:
    """A list of every 5th picture numbers them 0, 1, 2: they are frames 0, 5, 10 of Human3.6M, and all count."""
    numbers = np.arange(16) if fps != 10 else np.arange(4)
    where = rows(["Walking"] * len(numbers), frame=numbers, fps=None if fps is None else np.full(len(numbers), fps))
    keep = selected(where, resolve("hmr-p1"))
    assert numbers[keep].tolist() == frames


def test_lists_of_other_rates_mix_with_videos() -> None:
    fifth = rows(["Walking"] * 3, frame=np.array([1, 5, 4]), fps=np.array([10.0, 50.0, 50.0]))
    assert selected(fifth, resolve("hmr-p1")).tolist() == [True, True, False]
    sparse = rows(["Walking"] * 3, frame=np.array([1, 64, 32]), fps=np.array([50 / 64, 50.0, 50.0]))
    assert selected(sparse, resolve("sun-p2")).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("fps", "protocol", "said"),
    [
        (30.0, "hmr-p1", "got frames at 30 Hz; hmr-p1 counts every 5th frame at 50 Hz"),
        (25.0, "hmr-p1", "got frames at 25 Hz"),  # half of the frames that count are not there
        (10.0, "vp3d-p1", "counts every frame at 50 Hz, so 50 Hz is needed$"),
        (10.0, "sun-p2", "or 50 over a divisor of 64"),
        (100.0, "vp3d-p1", "got frames at 100 Hz"),
    ],
)
def test_rates_that_lack_frames_of_the_protocol_are_refused(fps, protocol, said) -> None:
    where = rows(["Walking"] * 3, frame=np.arange(3), fps=np.full(3, fps))
    with pytest.raises(UserError, match=said):
        selected(where, resolve(protocol))
    ignored = dataclasses.replace(where, subject=np.array(["S1", "S1", "S9"]), fps=np.array([fps, fps, 50.0]))
    assert selected(ignored, resolve(protocol)).tolist() == [False, False, protocol == "vp3d-p1"]


def test_open_data_have_the_rate_that_they_have() -> None:
    where = rows(["dance"] * 3, frame=np.arange(3), fps=np.full(3, 30.0))
    assert selected(where, resolve("open-motion/heldout/j17/root0")).all()


def test_a_trial_that_is_not_known_is_an_error_where_trials_count() -> None:
    where = rows(["Walking"] * 2, camera=np.array(["60457274"] * 2), trial=np.array([1, 0]))
    named = dataclasses.replace(where, sequence=np.array(["S9/Walking 1", "S9/Walking 7"]))
    with pytest.raises(UserError, match=r"1 sequences whose trial is not known, the first is 'S9/Walking 7'"):
        selected(named, resolve("hmr-p2"))
    assert selected(named, resolve("spin-p2")).all()


def test_poses_of_damaged_sequences_are_counted_and_told() -> None:
    names = np.array(["S9/Greeting", "S9/Greeting 1", "S9/Waiting 1", "S9/Greeting"])
    where = rows(["Greeting", "Greeting", "Waiting", "Greeting"], sequence=names)
    assert run([1.0] * 4, where, resolve("vp3d-p1")).damaged == {"S9/Greeting": 2, "S9/Waiting 1": 1}
    clean = run([1.0] * 4, where, resolve("vp3d-p1/no-damaged"))
    assert (clean.num_frames, clean.damaged) == (1, {})


def test_reports_written_before_damaged_sequences_were_told_are_read() -> None:
    fields = json.loads(run([10.0], rows(["Walking"])).to_json())
    del fields["damaged"]
    assert Report.from_json(json.dumps(fields)).damaged == {}


def test_subjects_cameras_trials_select() -> None:
    where = rows(
        ["Walking"] * 4,
        subject=np.array(["S9", "S1", "S9", "S9"]),
        camera=np.array(["60457274", "60457274", "54138969", "60457274"]),
        trial=np.array([1, 1, 1, 2]),
        sequence=np.array(["Walking 1"] * 4),
    )
    report = run([1, 2, 4, 8], where, resolve("hmr-p2"))
    assert report.num_frames == 1
    assert run([1, 2, 4, 8], where, resolve("spin-p2")).num_frames == 2
    with pytest.raises(UserError, match="trial"):
        run([1, 2, 4, 8], dataclasses.replace(where, trial=None), resolve("hmr-p2"))


@pytest.mark.parametrize(("protocol", "left"), [("vp3d-p1", 3), ("hmr-p1", 4)])
def test_exclusions_are_exact(protocol: str, left: int) -> None:
    # The lost one is S11/Directions: not "Directions 1", not S9's; image papers lose one of its cameras only.
    where = rows(
        ["Directions"] * 5,
        subject=np.array(["S11", "S11", "S11", "S9", "S11"]),
        sequence=np.array(["S11/Directions", "Directions", "S11/Directions 1", "S9/Directions", "S11/Directions 1"]),
        camera=np.array(["54138969", "55011271", "54138969", "54138969", "55011271"]),
    )
    assert run([1.0] * 5, where, resolve(protocol)).num_frames == left


def test_joints_outside_the_protocol_do_not_count() -> None:
    target = bodies(3)
    pred = target.clone()
    pred[:, [0, 7, 9]] += 1.0  # pelvis, spine, nose: not in LSP-14, and the hips are the root there
    valid = torch.ones(3, 17, dtype=torch.bool)
    report = evaluate(pred, target, valid, rows(["Walking"] * 3), resolve("hmr-p1"), WHO)
    assert all(s.mean_frames == pytest.approx(0, abs=1e-3) for s in report.scores.values())


def test_masked_joints_and_rootless_poses() -> None:
    target = bodies(4)
    pred = target.clone()
    valid = torch.ones(4, 17, dtype=torch.bool)
    valid[0, 3] = False
    pred[0, 3] = float("nan")
    valid[1, 0] = False  # no root
    valid[2, 3:] = False  # three joints left
    report = evaluate(pred, target, valid, rows(["Walking"] * 4), OPEN, WHO)
    assert (report.num_frames, report.num_skipped) == (2, 2)
    assert report.headline == pytest.approx(0, abs=1e-3)


def test_flip_rate() -> None:
    target = bodies(4)
    pred = target.clone()
    pred[:1, :, 2] *= -1
    report = evaluate(pred, target, torch.ones(4, 17, dtype=torch.bool), rows(["Walking"] * 4), OPEN, WHO)
    assert report.flip_rate == 0.25
    assert report.scores["similarity"].mean_frames > 5


def test_a_report_says_what_it_is_and_survives_json() -> None:
    report = run([10, 20], rows(["Walking", "Sitting"]), resolve("vp3d-p1"))
    assert report.protocol == "h36m/s9s11/all-cams/50hz/j17/root0"
    assert report.protocol_hash == resolve("vp3d-p1").hash
    assert (report.method, report.data, report.store_hash) == ("toy", "random bodies", "0123abcd")
    assert report.columns == ACTIONS_15
    assert Report.from_json(report.to_json()) == report
    assert json.loads(report.to_json())["scores"]["root"]["per_action"]["Sitting"] == pytest.approx(20, abs=1e-3)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"scores": {}}', '{"scores": {"root": {"x": 1}}, "columns": []}'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="not an evaluation report"):
        Report.from_json(text)


def test_open_data_keep_their_own_action_names() -> None:
    report = run([10, 30], rows(["spinkick", "cartwheel"]), resolve("open-motion/heldout/j17/root0"))
    assert report.columns == ("cartwheel", "spinkick")


def test_bad_input_is_named() -> None:
    target = bodies(2)
    valid = torch.ones(2, 17, dtype=torch.bool)
    where = rows(["Walking"] * 2)
    pred = target.clone()
    pred[1, 5, 0] = float("nan")
    with pytest.raises(UserError, match="1 predictions that are NaN"):
        evaluate(pred, target, valid, where, OPEN, WHO)
    with pytest.raises(UserError, match="metres"):
        evaluate(1000 * target, 1000 * target, valid, where, OPEN, WHO)
    with pytest.raises(UserError, match=r"\[n, 17, 3\]"):
        evaluate(target[:, :16], target[:, :16], valid[:, :16], where, OPEN, WHO)
    with pytest.raises(UserError, match="2 poses but rows"):
        evaluate(target, target, valid, rows(["Walking"] * 3), OPEN, WHO)
    with pytest.raises(UserError, match="'dance'"):
        evaluate(target, target, valid, rows(["Walking", "dance"]), resolve("vp3d-p1"), WHO)
    with pytest.raises(UserError, match="subjects S9, S11"):
        evaluate(target, target, valid, rows(["Walking"] * 2, subject=np.array(["S1"] * 2)), resolve("vp3d-p1"), WHO)
    with pytest.raises(UserError, match="without a valid root"):
        evaluate(target, target, ~valid, where, OPEN, WHO)


def test_the_joint_set_of_the_protocol_says_how_many_joints() -> None:
    """Joints about an origin that is no joint: nothing is subtracted, so all of a common shift counts."""
    origin, pelvis = resolve("aign-nips17-mesh24/smpl-origin"), resolve("aign-nips17-mesh24/pelvis")
    target = torch.randn(3, 24, 3, generator=torch.Generator().manual_seed(0)) * 0.3
    pred, valid = target + torch.tensor([0.03, 0.0, 0.04]), torch.ones(3, 24, dtype=torch.bool)
    where = rows(["Walking"] * 3)
    assert evaluate(pred, target, valid, where, origin, WHO).headline == pytest.approx(50, rel=1e-4)
    assert evaluate(pred, target, valid, where, pelvis, WHO).headline == pytest.approx(0, abs=1e-3)
    with pytest.raises(UserError, match=r"\[n, 24, 3\] twice .* counts joints of smpl24"):
        evaluate(pred[:, :17], target[:, :17], valid[:, :17], where, pelvis, WHO)
    with pytest.raises(UserError, match=r"\[n, 17, 3\] twice .* counts joints of h36m17"):
        evaluate(pred, target, valid, where, OPEN, WHO)
    with pytest.raises(UserError, match="mm given"):
        evaluate(1000 * pred, 1000 * target, valid, where, origin, WHO)
