"""Methods measured on the clips of a store."""

import numpy as np
import pytest
import torch

from aign.data.datasets.h36m import h36m_mmpose
from aign.data.store import Selection, Store
from aign.evaluation.baselines.exemplar import mean_pose, nearest_pose
from aign.evaluation.lifting import lifter_method, load_view, measure, metrics
from aign.evaluation.report import Provenance
from aign.framework.errors import UserError
from aign.geometry.camera import project
from aign.recipes.lifting import VALIDATION_PROTOCOL, lifting_demo, load_memory
from aign.tasks.lifting import LifterConfig, build_lifter, lift
from tests.data.h36m_fixtures import motion_m, write_mmpose
from tests.evaluation.human36m import committed
from tests.tasks.scenes import people

SOURCE = Provenance(method="m", data="d", store_hash="s")


@pytest.fixture(scope="module")
def view(demo_store):
    return load_view(demo_store, lifting_demo().roles.test)


def test_a_view_is_the_selected_frames_with_their_keys(demo_store, view):
    role = lifting_demo().roles.test
    clips = demo_store.read({"keypoints": ("kp2d_px",), "labels": ("joints_cam_m",)}, role)
    assert len(view.frames) == len(view.rows.sequence) == sum(k.num_frames for k in clips.keys)
    assert set(view.rows.sequence.tolist()) == set(role.sequences)
    assert set(view.rows.camera.tolist()) == {"54138969", "55011271", "58860488", "60457274"}
    assert set(view.rows.action.tolist()) == {"dance_b", "jump", "spinkick", "turn_right", "walk"}
    np.testing.assert_array_equal(view.joints_cam_m.numpy(), clips.arrays["joints_cam_m"])
    for sequence in role.sequences:
        frames = view.rows.frame[(view.rows.sequence == sequence) & (view.rows.camera == "54138969")]
        np.testing.assert_array_equal(frames, np.arange(len(frames)), "clips are numbered through")


def test_convention_labels_project_onto_the_keypoints_of_their_camera(view):
    """Convention: keypoints, labels and camera of a row belong together, in the pixels of the stored image."""
    px = project(view.joints_cam_m, view.frames.camera)
    seen = view.frames.conf > 0
    assert seen.double().mean() > 0.9
    assert (px - view.frames.kp2d_px)[seen].abs().max() < 0.01


def test_without_labels_nothing_is_valid_and_the_labels_are_not_needed(demo_store):
    role = lifting_demo().roles.test
    parts = tuple(p for p in demo_store.manifest.parts if p.table == "keypoints")
    poor = Store(demo_store.url, type(demo_store.manifest)(skeleton="h36m17", num_joints=17, parts=parts))
    view = load_view(poor, role, labels=False)
    assert not view.valid.any()
    assert (view.joints_cam_m == 0).all()
    assert torch.equal(view.frames.kp2d_px, load_view(demo_store, role).frames.kp2d_px)
    with pytest.raises(UserError, match="no table 'labels'"):
        load_view(poor, role)


def test_nobody_selected_is_an_error(demo_store):
    with pytest.raises(UserError, match="selects no clip"):
        load_view(demo_store, Selection(subjects=("S9",)))


def test_the_truth_has_no_error_and_a_bent_truth_the_error_it_was_given(view):
    truth = measure(lambda *_: view.joints_cam_m, view, VALIDATION_PROTOCOL, SOURCE)
    assert metrics(truth)["mpjpe_mm"] == pytest.approx(0.0, abs=1e-3)
    assert metrics(truth)["flip_rate"] == 0
    moved = view.joints_cam_m.clone()
    moved[:, 3] += torch.tensor([0.03, 0.0, 0.04])  # one ankle by 50 mm; the root's place does not matter
    report = measure(lambda *_: moved + 7, view, VALIDATION_PROTOCOL, SOURCE)
    assert metrics(report)["mpjpe_mm"] == pytest.approx(50 / 17, rel=1e-3)


def test_metrics_are_named_and_average_as_the_protocol_says(view):
    report = measure(lambda *_: view.joints_cam_m * 1.1, view, VALIDATION_PROTOCOL, SOURCE)
    named = metrics(report)
    assert set(named) == {"mpjpe_mm", "pa_mpjpe_mm", "n_mpjpe_mm", "rigid_mpjpe_mm", "flip_rate"}
    assert named["n_mpjpe_mm"] < 1e-2 < named["rigid_mpjpe_mm"]
    scores = report.scores["root"]
    assert scores.mean_actions != scores.mean_frames
    want = scores.mean_actions if report.aggregation == "actions" else scores.mean_frames
    assert named["mpjpe_mm"] == want


def test_unknown_protocol_is_refused(view):
    with pytest.raises(UserError):
        measure(lambda *_: view.joints_cam_m, view, "p1", SOURCE)


def test_a_lifter_as_a_method_is_lift_and_leaves_the_network_as_it_was(view):
    lifter = build_lifter(LifterConfig(components=5, width=16, blocks=1), people(30).float())
    method = lifter_method(lifter, torch.device("cpu"))
    lifter.train()
    got = method(view.frames)
    assert lifter.training
    torch.testing.assert_close(got, lift(lifter, view.frames))
    assert not got.requires_grad
    lifter.eval()
    method(view.frames.part(slice(0, 4)))
    assert not lifter.training


def test_a_run_of_frames_ends_where_the_next_clip_does_not_follow(demo_store, view):
    """Clips that were cut from one motion are one run; another camera or motion is another."""
    run, rows = view.frames.clip, view.rows
    goes_on = (
        (rows.sequence[1:] == rows.sequence[:-1])
        & (rows.camera[1:] == rows.camera[:-1])
        & (rows.frame[1:] == rows.frame[:-1] + 1)
    )
    np.testing.assert_array_equal((run[1:] == run[:-1]).numpy(), goes_on)
    assert len(run.unique()) == 4 * len(lifting_demo().roles.test.sequences)
    assert run.bincount().max() > 128, "longer than one clip"


def test_rows_of_open_data_have_the_rate_of_the_data_and_no_trial(demo_store, view):
    assert set(view.rows.fps.tolist()) == set(demo_store.manifest.fps) & {30.0, 60.0, 120.0}
    assert not view.rows.trial.any()


def test_a_list_of_every_fifth_picture_is_counted_whole_where_every_fifth_frame_counts(tmp_path):
    """mmpose at 10 Hz numbers its frames 0, 1, 2: at 50 Hz they are 0, 5, 10. No protocol of all frames takes them."""
    sequences = {("S9", "Waiting 1"): (motion_m(31), range(0, 31, 5)), ("S9", "Waiting"): (motion_m(6), range(0, 6, 5))}
    write_mmpose(tmp_path, sequences, "fps10/h36m_test.npz")
    view = load_view(committed(h36m_mmpose.plan(tmp_path), str(tmp_path / "store")), None)
    assert set(view.rows.fps.tolist()) == {10.0}
    report = measure(lambda _: view.joints_cam_m, view, "hmr-p1", SOURCE)
    assert report.num_frames == 4 * (7 + 2)
    assert measure(lambda _: view.joints_cam_m, view, "hmr-p2", SOURCE).num_frames == 7
    with pytest.raises(UserError, match="got frames at 10 Hz; h36m/s9s11"):
        measure(lambda _: view.joints_cam_m, view, "vp3d-p1", SOURCE)


def test_baselines_run_on_the_store_and_looking_beats_not_looking(demo_store, view):
    memory = load_memory(demo_store, lifting_demo().roles.memory).canonical_m
    errors = {
        name: metrics(measure(method, view, VALIDATION_PROTOCOL, SOURCE))
        for name, method in (("mean", mean_pose(memory)), ("nearest", nearest_pose(memory)))
    }
    for named in errors.values():
        assert 50 < named["pa_mpjpe_mm"] < named["mpjpe_mm"] < 700
    assert errors["nearest"]["mpjpe_mm"] < errors["mean"]["mpjpe_mm"]
    assert errors["nearest"]["pa_mpjpe_mm"] < errors["mean"]["pa_mpjpe_mm"]
