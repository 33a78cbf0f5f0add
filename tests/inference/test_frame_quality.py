"""Figures without a truth: small for the true body, large for one that is wrong in the way that each is about."""

from dataclasses import replace

import numpy as np
import pytest

from aign.body.assets import load_body
from aign.body.skinning import rest_joints
from aign.geometry.rotation import from_axis_angle
from aign.geometry.skeleton import SMPL24, skeleton
from aign.inference.body_predictor import BodyPredictor, FrameBodies, clip_arrays
from aign.inference.frame_quality import LIMBS, FrameQuality, explained, flip_risk
from aign.inference.person_motion import posed_joints
from aign.tasks.motion_capture.clips import read_clips
from aign.tasks.motion_capture.feed import BODY_COLUMNS, EVIDENCE_COLUMNS, PICTURE_COLUMNS

BODY = load_body()


@pytest.fixture(scope="module")
def clip(people_store):
    columns = {**PICTURE_COLUMNS, **BODY_COLUMNS, **{k: v for k, v in EVIDENCE_COLUMNS.items() if k != "flow_back"}}
    return next(iter(read_clips(people_store, columns)))


@pytest.fixture(scope="module")
def source(people_store):
    return skeleton(people_store.manifest.skeleton)


@pytest.fixture(scope="module")
def truth(clip):
    columns = clip.columns
    betas = columns["betas"][:, 0]
    pelvis = (columns["body_trans_cam_m"][:, 0] + rest_joints(BODY, betas)[:, 0]).numpy()
    rotmats = from_axis_angle(columns["body_pose_rad"][:, 0]).numpy()
    joints = posed_joints(BODY, rotmats, betas.numpy(), pelvis)
    return FrameBodies(rotmats=rotmats, betas=betas.numpy(), pelvis_cam_m=pelvis, joints_cam_m=joints)


def test_the_true_body_explains_its_frames_and_one_aside_does_not(clip, source, truth):
    right = explained(clip, source, truth, BODY)
    assert np.nanmedian(right.reprojection_px) < 1.0
    assert np.nanmedian(right.mask_iou) > 0.85
    assert np.nanmedian(right.flow_error_px) < 0.7
    aside = np.float32((0.4, 0, 0))
    wrong = replace(truth, pelvis_cam_m=truth.pelvis_cam_m + aside, joints_cam_m=truth.joints_cam_m + aside)
    moved = explained(clip, source, wrong, BODY)
    assert np.nanmedian(moved.reprojection_px) > 5 * np.nanmedian(right.reprojection_px)
    assert np.nanmedian(moved.mask_iou) < np.nanmedian(right.mask_iou) - 0.2
    assert np.isnan(right.flow_error_px[-1]), "nothing follows the last frame"
    assert np.isnan(right.flip_risk).all()


def test_the_error_is_in_pixels_of_the_video(clip, source, truth):
    """The same clip, said to be cut from a picture twice as large."""
    twice = dict(clip.columns)
    twice["crop_xyxy_px"] = clip.columns["crop_xyxy_px"] * 2
    twice["kp2d_px"] = clip.columns["kp2d_px"] * 2
    aside = np.float32((0.4, 0, 0))
    wrong = replace(truth, pelvis_cam_m=truth.pelvis_cam_m + aside, joints_cam_m=truth.joints_cam_m + aside)
    once = explained(clip, source, wrong, BODY)
    double = explained(replace(clip, columns=twice), source, wrong, BODY)
    assert np.nanmean(double.reprojection_px) == pytest.approx(2 * np.nanmean(once.reprojection_px), rel=0.1)
    assert np.nanmean(double.flow_error_px) == pytest.approx(2 * np.nanmean(once.flow_error_px), rel=1e-4)


def test_what_nobody_saw_has_no_figure():
    nothing = FrameQuality.unknown(3)
    assert np.isnan(nothing.reprojection_px).all()
    nothing.joint_error_px[1, :2] = (1, 3)
    assert nothing.reprojection_px[1] == 2
    assert len({id(value) for value in vars(nothing).values()}) == 4


class Answering(BodyPredictor):
    """A model that answers anything with the same bodies, and keeps what it was asked."""

    def __init__(self, answer):
        self.__dict__.update(answer=answer, asked=[])

    def predict(self, image_rgb, kp2d_px, kp2d_conf, intrinsics_px):
        self.asked.append((image_rgb, kp2d_px, kp2d_conf, intrinsics_px))
        return self.answer


def mirrored(bodies, joints_cam_m):
    """The mirror image: x changes sign and sides are exchanged."""
    return replace(bodies, joints_cam_m=joints_cam_m[:, list(SMPL24.mirrored)] * np.float32((-1, 1, 1)))


def test_a_model_that_sees_a_mirror_image_alike_has_no_risk_and_one_that_flips_a_limb_has(clip, source, truth):
    same = mirrored(truth, truth.joints_cam_m)
    assert (flip_risk(Answering(same), clip, source, truth) == 0).all()
    upper, lower = LIMBS[0]
    towards, away = truth.joints_cam_m.copy(), truth.joints_cam_m.copy()
    towards[:, lower, 2] = towards[:, upper, 2] - 0.3
    away[:, lower, 2] = away[:, upper, 2] + 0.3
    here = replace(truth, joints_cam_m=away)
    assert (flip_risk(Answering(mirrored(truth, away)), clip, source, here) == 0).all()
    risk = flip_risk(Answering(mirrored(truth, towards)), clip, source, here)
    assert (risk >= 1 / len(LIMBS) - 1e-6).all()


def test_the_model_is_asked_of_the_mirror_image(clip, source, truth):
    model = Answering(truth)
    flip_risk(model, clip, source, truth)
    ((image, kp, conf, lens),) = model.asked
    want = clip_arrays(clip, source)
    last = image.shape[2] - 1
    np.testing.assert_array_equal(image[:, :, ::-1], want["image_rgb"])
    np.testing.assert_allclose(last - kp[:, list(SMPL24.mirrored), 0], want["kp2d_px"][..., 0], atol=1e-3)
    np.testing.assert_array_equal(conf[:, list(SMPL24.mirrored)], want["kp2d_conf"])
    np.testing.assert_allclose(last - lens[:, 2], want["intrinsics_px"][:, 2], atol=1e-4)
