"""Triangulated pseudo-truth of a scene that is known exactly."""

import numpy as np
import pytest
import torch

from aign.evaluation.lifting import metrics
from aign.evaluation.report import Provenance
from aign.geometry.skeleton import BLAZEPOSE33, H36M17, convert
from aign.inference.agreement import agree, reference
from tests.inference.recordings import edited, record

FRAMES = 12


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return record(str(tmp_path_factory.mktemp("agreement") / "store"), FRAMES)


def in_cameras(recorded):
    world = torch.from_numpy(recorded.joints_world_m)
    return [c.world_to_cam.apply(world).float().numpy() for c in recorded.cameras]


def test_four_views_give_the_joints_back(recorded):
    truth = reference(recorded.views, recorded.cameras)
    assert truth.valid.mean() > 0.99
    error = np.linalg.norm(truth.joints_world_m - recorded.joints_world_m, axis=-1)[truth.valid]
    assert error.max() < 1e-3
    assert truth.reprojection_px < 0.01


def test_convention_seen_by_moves_the_joints_into_the_camera(recorded):
    """Convention: x_cam = R x_world + t, camera +x right, +y down, +z forward, metres; NaN where not valid."""
    truth = reference(recorded.views, recorded.cameras)
    for camera, want in zip(recorded.cameras, in_cameras(recorded), strict=True):
        got = truth.seen_by(camera)
        np.testing.assert_allclose(got[truth.valid], want[truth.valid], atol=2e-3)
        assert np.isnan(got[~truth.valid]).all()
        head, ankle = H36M17.index("head_top", "l_ankle")
        assert (got[:, head, 1] < got[:, ankle, 1]).all()
        assert np.nanmin(got[..., 2]) > 2


def test_a_joint_that_one_camera_sees_is_not_valid(recorded):
    hidden = []
    for index, view in enumerate(recorded.views):
        conf = view.conf.copy()
        if index:
            conf[:, 16] = 0
        conf[3] = 0
        hidden.append(edited(view, conf=conf))
    truth = reference(hidden, recorded.cameras)
    assert not truth.valid[:, 16].any()
    assert not truth.valid[3].any()
    assert (truth.joints_world_m[~truth.valid] == 0).all()
    assert truth.valid[:3, :16].mean() > 0.98
    assert np.isnan(truth.seen_by(recorded.cameras[0])[:, 16]).all()


def test_one_wrong_view_is_outvoted(recorded):
    wrong = recorded.views[2].kp2d_px.copy()
    wrong[:, 5] += 200
    views = [edited(v, kp2d_px=wrong) if i == 2 else v for i, v in enumerate(recorded.views)]
    truth = reference(views, recorded.cameras)
    assert np.linalg.norm(truth.joints_world_m[:, 5] - recorded.joints_world_m[:, 5], axis=-1).max() < 0.02


def test_views_are_cut_to_the_shortest(recorded):
    view = recorded.views[0]
    short = edited(view, kp2d_px=view.kp2d_px[:7], conf=view.conf[:7], number=view.number[:7])
    assert len(reference([short, *recorded.views[1:]], recorded.cameras).valid) == 7


def test_other_joint_sets_are_converted(tmp_path):
    recorded = record(str(tmp_path / "store"), 4, "blazepose33")
    truth = reference(recorded.views, recorded.cameras)
    want, there = convert(torch.from_numpy(recorded.joints_world_m), BLAZEPOSE33, H36M17)
    np.testing.assert_array_equal(truth.valid.any(0), there.numpy())
    np.testing.assert_allclose(truth.joints_world_m[truth.valid], want.numpy()[truth.valid], atol=2e-3)


PROVENANCE = Provenance(method="m", data="d", store_hash="s")


def test_a_true_lift_agrees_and_a_wrong_one_by_as_much_as_it_is_wrong(recorded):
    truth = reference(recorded.views, recorded.cameras)
    lifted = in_cameras(recorded)
    named = metrics(agree(recorded.views, recorded.cameras, lifted, truth, PROVENANCE))
    assert named["mpjpe_mm"] < 2
    assert named["flip_rate"] == 0
    wrong = [joints.copy() for joints in lifted]
    for joints in wrong:
        joints[:, 10] += np.float32((0.0, 0.17, 0.0))  # one of 17 joints by 170 mm
    report = agree(recorded.views, recorded.cameras, wrong, truth, PROVENANCE)
    assert metrics(report)["mpjpe_mm"] == pytest.approx(10, abs=2)
    assert "pseudo" in report.protocol


def test_cameras_are_the_columns_and_are_not_mixed_up(recorded):
    truth = reference(recorded.views, recorded.cameras)
    lifted = in_cameras(recorded)
    lifted[2] = lifted[2] * np.float32(1.3)
    report = agree(recorded.views, recorded.cameras, lifted, truth, PROVENANCE)
    by_camera = report.scores["root"].per_action
    assert set(by_camera) == {v.camera for v in recorded.views}
    assert max(by_camera, key=by_camera.get) == recorded.views[2].camera
    assert sorted(by_camera.values())[-2] < 2
    assert max(by_camera.values()) > 50


def test_frames_without_a_lift_do_not_count_and_longer_lifts_are_cut(recorded):
    truth = reference(recorded.views, recorded.cameras)
    lifted = [np.concatenate((joints, joints[:3] + 9)) for joints in in_cameras(recorded)]
    lifted[1][4] = np.nan
    report = agree(recorded.views, recorded.cameras, lifted, truth, PROVENANCE)
    assert metrics(report)["mpjpe_mm"] < 2
    wrong = [joints.copy() for joints in lifted]
    wrong[1][4] = 5.0
    assert metrics(agree(recorded.views, recorded.cameras, wrong, truth, PROVENANCE))["mpjpe_mm"] > 2
