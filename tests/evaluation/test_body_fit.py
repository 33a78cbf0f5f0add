"""Bodies fitted to single clips: how near they come, by what they are pulled, and what is refused."""

import math
import warnings
from dataclasses import replace

import pytest
import torch

from aign.evaluation.baselines import body_fit
from aign.evaluation.baselines.body_fit import (
    DIRECT,
    EACH_FRAME,
    EVERYTHING,
    PLACE,
    STAGED,
    Stage,
    direct,
    fit_bodies,
    staged,
)
from aign.evaluation.baselines.body_start import facing, mean_pose, placed, turned
from aign.evaluation.body_view import load_body_view
from aign.framework.errors import UserError
from aign.geometry.skeleton import SMPL24
from aign.tasks.motion_capture.adaptation import Windows, evidence_of
from aign.tasks.motion_capture.factors import BodyFactors, joints
from aign.tasks.motion_capture.feed import EVIDENCE_COLUMNS, keypoints_in_frame
from aign.tasks.motion_capture.observation import KEYPOINTS, concatenate, project_px
from aign.tasks.motion_capture.pose_prior import learn
from tests.tasks.captured import BODY, FLOW, MASK, blind, changed, cut, garbage, memory_of, without

from .test_alignment import numpy_distance

FRAMES = 4
CHOSEN = (0, 5, 10)
OF_KEYPOINTS = Stage(free=EVERYTHING, weights={"keypoints": 1.0}, steps=10, lr=0.03)


@pytest.fixture(scope="module")
def view(people_store):
    """Everything, and the truth."""
    return load_body_view(people_store, None, more=EVIDENCE_COLUMNS)


@pytest.fixture(scope="module")
def clips(view):
    """Three people, four frames each."""
    return [cut(view.clips[i], FRAMES) for i in CHOSEN]


@pytest.fixture(scope="module")
def true_joints(view):
    """Of the same frames, in the camera."""
    true = view.truth
    z = BodyFactors(rotmats=true.rotmats[:, None], betas=true.betas, pelvis_cam_m=true.pelvis_cam_m[:, None])
    first = [sum(clip.key.num_frames for clip in view.clips[:i]) for i in CHOSEN]
    return [joints(z, BODY)[i : i + FRAMES, 0] for i in first]


@pytest.fixture(scope="module")
def memory(people_store):
    return memory_of(people_store)


@pytest.fixture(scope="module")
def mean_6d(memory):
    return mean_pose(memory)


@pytest.fixture(scope="module")
def prior(memory):
    return learn(memory)


@pytest.fixture(scope="module")
def by_direct(memory, clips):
    return [direct(memory, BODY)(clip, SMPL24) for clip in clips]


@pytest.fixture(scope="module")
def by_staged(memory, clips):
    return [staged(memory, BODY)(clip, SMPL24) for clip in clips]


@pytest.fixture
def quick(monkeypatch):
    """Both methods with few steps."""
    monkeypatch.setattr(body_fit, "DIRECT", tuple(replace(stage, steps=3) for stage in DIRECT))
    monkeypatch.setattr(body_fit, "EACH_FRAME", tuple(replace(stage, steps=3) for stage in EACH_FRAME))
    monkeypatch.setattr(body_fit, "STAGED", tuple(replace(stage, steps=3) for stage in STAGED))


def seen_in(clip):
    """The whole clip as one window, keypoints alone."""
    zero = torch.zeros(1, dtype=torch.int64)
    evidence = evidence_of(without(clip, *MASK, *FLOW), SMPL24, {"keypoints": 1.0})
    return evidence.observe(Windows(starts=zero, length=clip.key.num_frames, seed=zero), 8, BODY)


def reprojection_px(clip, z):
    """Mean distance of the keypoints of a clip from those of bodies [n, 1, ...]."""
    goal, conf = keypoints_in_frame(clip.columns, SMPL24)
    got = project_px(joints(z, BODY), clip.columns["frame_intrinsics_px"])[:, :, list(KEYPOINTS)]
    return float((got - goal).norm(dim=-1)[conf > 0].mean())


def pa_mpjpe_mm(real, z):
    got = joints(z, BODY)[:, 0].double().numpy()
    pairs = zip(got, real.double().numpy(), strict=True)
    return 1000 * sum(float(numpy_distance(mine, true, True, False)) for mine, true in pairs) / len(got)


def frame_by_frame(z):
    """Of one window, as methods give bodies."""
    return BodyFactors(
        rotmats=z.rotmats[0].unsqueeze(1),
        betas=z.betas.expand(len(z.rotmats[0]), -1),
        pelvis_cam_m=z.pelvis_cam_m[0].unsqueeze(1),
    )


def close(a, b, atol=0.0):
    for name, value in vars(a).items():
        torch.testing.assert_close(value, vars(b)[name], atol=atol, rtol=0, msg=lambda m, name=name: f"{name}: {m}")


def test_direct_descent_brings_the_keypoints_nearer(clips, by_direct, mean_6d):
    """Although silhouettes and motion pull too: a baseline that does not lower its own loss would be none."""
    for clip, weak in zip(clips, by_direct, strict=True):
        start = reprojection_px(clip, frame_by_frame(facing(seen_in(clip), mean_6d)))
        assert reprojection_px(clip, weak) < 0.8 * start


def test_the_strong_fit_comes_much_nearer_to_the_keypoints_than_the_mean_pose(clips, by_staged, mean_6d):
    for clip, strong in zip(clips, by_staged, strict=True):
        start = reprojection_px(clip, frame_by_frame(facing(seen_in(clip), mean_6d)))
        assert reprojection_px(clip, strong) < 0.5 * start


def test_sides_and_a_prior_make_better_bodies(true_joints, by_direct, by_staged):
    weak, strong = (
        [pa_mpjpe_mm(real, z) for real, z in zip(true_joints, found, strict=True)] for found in (by_direct, by_staged)
    )
    assert sum(strong) < 0.8 * sum(weak)
    assert sum(mine < its for mine, its in zip(strong, weak, strict=True)) >= 2


def test_bodies_are_one_per_frame_with_one_shape(by_direct, by_staged):
    for z in (*by_direct, *by_staged):
        assert z.rotmats.shape == (FRAMES, 1, 24, 3, 3)
        assert (z.betas == z.betas[0]).all()
        assert z.betas.abs().max() > 0
        torch.testing.assert_close(z.rotmats @ z.rotmats.mT, torch.eye(3).expand(z.rotmats.shape), atol=1e-5, rtol=0)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("method", [direct, staged])
def test_no_label_is_read(method, memory, clips):
    mine, its = (method(memory, BODY)(clip, SMPL24) for clip in (clips[0], garbage(clips[0])))
    close(mine, its)


@pytest.mark.parametrize("term", ["keypoints", "torso"])
def test_nothing_pulls_at_a_frame_without_keypoints(term, clips, mean_6d, prior):
    seen = seen_in(blind(clips[0], 1))
    start = turned(seen, mean_6d, 0.0, BODY)
    torch.testing.assert_close(start.pelvis_cam_m[:, 1], facing(seen, mean_6d).pelvis_cam_m[:, 1])
    z, loss = fit_bodies(seen, start, (replace(OF_KEYPOINTS, weights={term: 1.0}),), BODY, prior)
    assert loss.isfinite().all()
    for mine, its in ((z.rotmats, start.rotmats), (z.pelvis_cam_m, start.pelvis_cam_m)):
        assert mine.isfinite().all()
        torch.testing.assert_close(mine[:, 1], its[:, 1], atol=1e-5, rtol=0)
        assert (mine[:, 0] - its[:, 0]).abs().max() > 0.01


@pytest.mark.filterwarnings("ignore:.*left out")
@pytest.mark.parametrize("frame", [0, 1])
def test_the_strong_fit_bridges_a_frame_without_keypoints(frame, memory, clips):
    found = staged(memory, BODY)(without(blind(clips[0], frame), *MASK, *FLOW), SMPL24)
    assert all(value.isfinite().all() for value in vars(found).values())
    place = found.pelvis_cam_m[:, 0]
    beside = (place[0] + place[2]) / 2 if frame else place[1]
    assert (place[frame] - beside).norm() < 0.1


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("method", [direct, staged])
@pytest.mark.parametrize(("gone", "notes"), [(MASK, ["masks"]), (FLOW, ["flow"]), ((*MASK, *FLOW), ["masks", "flow"])])
def test_what_a_clip_does_not_have_is_noted_and_the_rest_is_fitted(method, gone, notes, memory, clips):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        z = method(memory, BODY)(without(blind(clips[0], 2), *gone), SMPL24)
    said = [str(w.message) for w in caught if w.category is UserWarning]
    assert len(said) == len(notes)
    assert all(f"has no {what}: " in line for what, line in zip(notes, said, strict=True))
    assert all(value.isfinite().all() for value in vars(z).values())


@pytest.mark.usefixtures("quick")
def test_one_frame_is_a_clip_too(memory, clips):
    with pytest.warns(UserWarning, match="no flow"):
        z = direct(memory, BODY)(cut(clips[0], 1), SMPL24)
    assert z.rotmats.shape[0] == 1
    assert z.rotmats.isfinite().all()


@pytest.mark.parametrize("method", [direct, staged])
def test_bad_keypoints_are_refused(method, memory, clips):
    px = clips[0].columns["kp2d_px"].clone()
    px[1, 0, 4] = torch.nan
    with pytest.raises(UserError, match="1 keypoints that are not finite"):
        method(memory, BODY)(changed(clips[0], kp2d_px=px), SMPL24)
    with pytest.raises(UserError, match="no keypoint with confidence"):
        method(memory, BODY)(blind(clips[0], *range(FRAMES)), SMPL24)


def test_windows_of_a_batch_are_fitted_as_if_alone(clips, mean_6d, prior):
    first, second = (seen_in(clip) for clip in clips[:2])
    stage = (OF_KEYPOINTS,)
    both = concatenate(first, second)
    got, loss = fit_bodies(both, facing(both, mean_6d), stage, BODY, prior)
    for i, seen in enumerate((first, second)):
        alone, its = fit_bodies(seen, facing(seen, mean_6d), stage, BODY, prior)
        close(BodyFactors(**{name: value[i : i + 1] for name, value in vars(got).items()}), alone, atol=1e-4)
        torch.testing.assert_close(loss[i : i + 1], its, atol=1e-5, rtol=1e-4)


def test_a_stage_moves_only_what_it_frees(clips, mean_6d, prior):
    seen = seen_in(clips[0])
    start = facing(seen, mean_6d)
    place, _ = fit_bodies(seen, start, (replace(OF_KEYPOINTS, free=PLACE),), BODY, prior)
    assert torch.equal(place.betas, start.betas)
    torch.testing.assert_close(place.rotmats[:, :, 1:], start.rotmats[:, :, 1:], atol=1e-6, rtol=0)
    assert (place.pelvis_cam_m - start.pelvis_cam_m).abs().max() > 0.01
    assert (place.rotmats[:, :, 0] - start.rotmats[:, :, 0]).abs().max() > 0.01


def test_bodies_are_placed_where_their_keypoints_were_seen(clips, mean_6d):
    seen = seen_in(clips[0])
    z = facing(seen, mean_6d)
    there = z.pelvis_cam_m + torch.tensor([0.3, -0.2, 1.5]) * torch.linspace(0.5, 1, FRAMES)[:, None]
    true = replace(z, pelvis_cam_m=there)
    target = project_px(joints(true, BODY), seen.intrinsics_px)[:, :, list(KEYPOINTS)]
    found = placed(replace(seen, target_px=target), z, BODY)
    torch.testing.assert_close(found, there, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("neck_px", "yaw_rad", "up", "ahead"),
    [
        ((30.0, 10.0), 0.0, (0, -1, 0), (0, 0, -1)),
        ((30.0, 10.0), math.pi / 2, (0, -1, 0), (1, 0, 0)),
        ((30.0, 10.0), math.pi, (0, -1, 0), (0, 0, 1)),
        ((50.0, 30.0), 0.0, (1, 0, 0), (0, 0, -1)),
        ((10.0, 30.0), 0.0, (-1, 0, 0), (0, 0, -1)),
        ((50.0, 30.0), math.pi / 2, (1, 0, 0), (0, 1, 0)),
    ],
)
def test_convention_a_start_leans_as_the_torso_in_the_picture_and_yaw_0_faces_the_camera(
    neck_px, yaw_rad, up, ahead, clips, mean_6d
):
    """Convention: y down, upright is (0, -1) in the picture; a positive turn about z goes to the right."""
    seen = seen_in(clips[0])
    target = seen.target_px.clone()
    pelvis, neck = (KEYPOINTS.index(joint) for joint in SMPL24.index("pelvis", "neck"))
    target[:, :, pelvis], target[:, :, neck] = torch.tensor([30.0, 30.0]), torch.tensor(neck_px)
    # The crop's middle is on the axis, so that the crop's camera is the real one.
    half = seen.half_side_px.unsqueeze(1)
    centre = seen.intrinsics_px[:, 2:]
    seen = replace(seen, target_px=target, crop_xyxy_px=torch.cat((centre - half, centre + half), 1))
    root = turned(seen, mean_6d, yaw_rad, BODY).rotmats[:, :, 0]
    for axis, want in ((1, up), (2, ahead)):
        wanted = torch.tensor(want, dtype=root.dtype).expand(1, FRAMES, 3)
        torch.testing.assert_close(root[..., axis], wanted, atol=1e-5, rtol=0)
