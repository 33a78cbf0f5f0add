import numpy as np
import pytest
import torch

from aign.framework.errors import UserError
from aign.geometry.camera import Pinhole
from aign.inference.package import ModelCard, save_package
from aign.inference.predictor import MIN_CONFIDENCE, MIN_SEEN, LiftingPredictor, sees_person
from aign.tasks.lifting import LifterConfig, build_lifter, lift
from aign.tasks.lifting.frames import Frames

N = 5


def packaged(folder, frames):
    torch.manual_seed(0)
    config = LifterConfig(components=5, width=32, blocks=1, frames=frames)
    card = ModelCard(
        network=config, recipe="r", store_hash="s", sequences={}, licences=("MIT",), protocol="p", metrics={}
    )
    save_package(folder, build_lifter(config, 0.3 * torch.randn(50, 17, 3)), card)
    return LiftingPredictor.of(folder)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return packaged(tmp_path_factory.mktemp("predictor") / "package", 1)


@pytest.fixture(scope="module")
def temporal(tmp_path_factory):
    return packaged(tmp_path_factory.mktemp("temporal") / "package", 3)


@pytest.fixture(params=["predictor", "temporal"])
def either(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def inputs():
    rng = np.random.default_rng(0)
    return {
        "kp2d_px": (500 + 100 * rng.standard_normal((N, 17, 2))).astype(np.float32),
        "kp2d_conf": rng.uniform(0.5, 1, (N, 17)).astype(np.float32),
        "intrinsics_px": np.tile(np.float32((1145, 1144, 512, 515)), (N, 1)),
        "distortion": np.tile(np.float32((-0.2, 0.25, -0.01, -0.001, -0.002)), (N, 1)),
    }


def test_is_lift(either, inputs):
    kp, conf, intrinsics, bend = (
        torch.from_numpy(inputs[k]) for k in ("kp2d_px", "kp2d_conf", "intrinsics_px", "distortion")
    )
    clip = torch.zeros(N, dtype=torch.int64)
    frames = Frames(kp2d_px=kp, conf=conf, camera=Pinhole.of(intrinsics, bend), clip=clip)
    expected = lift(either.lifter, frames).numpy()
    joints = either.predict(**inputs)
    assert (joints.dtype, joints.shape) == (np.float32, (N, 17, 3))
    assert np.isfinite(joints).all()
    np.testing.assert_array_equal(joints, expected)
    assert not np.allclose(joints, either.predict(**{**inputs, "distortion": None})), "the distortion counts"


def test_convention_joints_are_in_the_camera_in_front_of_it_on_the_keypoints_rays(predictor, inputs):
    """Convention: +x right, +y down, +z forward: a person seen right and low has positive x and y."""
    moved = {**inputs, "kp2d_px": inputs["kp2d_px"] + np.float32((400, 300)), "distortion": None}
    root = predictor.predict(**moved)[:, 0]
    assert (root[:, 2] > 0).all()
    assert (root[:, 0] > 0).all()
    assert (root[:, 1] > 0).all()


def test_frames_are_independent(predictor, inputs):
    alone = predictor.predict(**{k: v[2:3] for k, v in inputs.items()})
    np.testing.assert_allclose(predictor.predict(**inputs)[2:3], alone, rtol=1e-5, atol=1e-6)


def test_a_temporal_lifter_takes_the_frames_as_one_clip_in_order(temporal, inputs):
    """Each frame is lifted from itself and one before and after it; the ends stand in for what lies beyond."""
    joints = temporal.predict(**inputs)
    for i in range(N):
        around = np.clip([i - 1, i, i + 1], 0, N - 1)
        window = temporal.predict(**{k: v[around] for k, v in inputs.items()})
        np.testing.assert_allclose(joints[i], window[1], rtol=1e-5, atol=1e-6)
    alone = temporal.predict(**{k: v[2:3] for k, v in inputs.items()})
    assert not np.allclose(joints[2], alone[0], atol=1e-4), "or the neighbours would not have mattered"
    backwards = temporal.predict(**{k: v[::-1] for k, v in inputs.items()})[::-1]
    assert not np.allclose(joints, backwards, atol=1e-4), "and their order"


@pytest.mark.parametrize("kind", [np.int64, np.uint8])
def test_a_temporal_lifter_does_not_look_from_one_clip_into_another(temporal, inputs, kind):
    joints = temporal.predict(**inputs, clip=np.array([7, 7, 3, 3, 3]).astype(kind))
    parts = [temporal.predict(**{k: v[part] for k, v in inputs.items()}) for part in (slice(0, 2), slice(2, 5))]
    np.testing.assert_allclose(joints, np.concatenate(parts), rtol=1e-5, atol=1e-6)
    whole = temporal.predict(**inputs)
    assert not np.allclose(joints, whole, atol=1e-4), "or the clips would not have mattered"
    np.testing.assert_array_equal(whole, temporal.predict(**inputs, clip=np.full(N, 4)))


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (np.zeros(N), r"clip must be integers \[n\] with n = 5; got float64 \[5\]"),
        (np.zeros(N, bool), "got bool"),
        (np.zeros(N - 1, int), r"got int64 \[4\]"),
        (np.zeros((N, 1), int), r"got int64 \[5, 1\]"),
        (np.array([2, 2, 1, 2, 2]), "frames of a clip must stand together; got clip 2 again in frame 3"),
    ],
)
def test_clips_that_are_none_are_refused(either, inputs, clip, message):
    with pytest.raises(UserError, match=message) as refused:
        either.predict(**inputs, clip=clip)
    assert "\n" not in str(refused.value)


def test_an_unseen_frame_of_a_clip_is_nan_and_does_not_reach_its_neighbours_positions(temporal, inputs):
    inputs["kp2d_conf"][2] = 0
    one = temporal.predict(**inputs)
    inputs["kp2d_px"][2] = -1e5
    np.testing.assert_array_equal(temporal.predict(**inputs), one)
    assert np.isnan(one[2]).all()
    assert np.isfinite(one[[0, 1, 3, 4]]).all()


def test_float64_and_empty_input(either, inputs):
    double = {k: v.astype(np.float64) for k, v in inputs.items()}
    np.testing.assert_array_equal(either.predict(**double), either.predict(**inputs))
    assert either.predict(**{k: v[:0] for k, v in inputs.items()}).shape == (0, 17, 3)
    assert either.predict(**{k: v[:0] for k, v in inputs.items()}, clip=np.zeros(0, int)).shape == (0, 17, 3)


def test_arguments_are_not_changed(predictor, inputs):
    inputs["kp2d_conf"][1] = 0
    before = {k: v.copy() for k, v in inputs.items()}
    predictor.predict(**inputs)
    for name, value in before.items():
        np.testing.assert_array_equal(inputs[name], value)


@pytest.mark.parametrize(
    ("seen", "confidence", "valid"),
    [
        (0, 0.0, False),
        (17, 0.01, False),  # a detector on an empty picture
        (17, MIN_CONFIDENCE, True),
        (MIN_SEEN - 1, 1.0, False),
        (MIN_SEEN, 1.0, True),
        (17, 1.0, True),
    ],
)
def test_too_little_seen_gives_nan_in_that_frame_alone(predictor, inputs, seen, confidence, valid):
    inputs["kp2d_conf"][1] = 0
    inputs["kp2d_conf"][1, :seen] = confidence
    joints = predictor.predict(**inputs)
    assert np.isfinite(joints[1]).all() == np.isfinite(joints[1]).any() == valid
    assert np.isfinite(joints[[0, 2, 3, 4]]).all()


def test_a_point_is_no_person(predictor, inputs):
    inputs["kp2d_px"][0] = 0  # what a missing detection often looks like
    inputs["kp2d_px"][1] = 300 + inputs["kp2d_px"][1] / 1000
    inputs["kp2d_px"][2, :, 0] = 300  # from the side, upright: tall enough
    joints = predictor.predict(**inputs)
    assert [bool(np.isfinite(j).all()) for j in joints] == [False, False, True, True, True]


def test_unseen_positions_do_not_count(inputs):
    kp, conf = inputs["kp2d_px"], inputs["kp2d_conf"]
    kp[:, :8] = 300
    conf[:, 8:] = 0  # far away, but unseen
    assert not sees_person(kp, conf).any()


def broken(name, value, where=...):
    def change(inputs):
        inputs[name] = inputs[name].copy()
        inputs[name][where] = value

    return change


def replaced(name, function):
    def change(inputs):
        inputs[name] = function(inputs[name])

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (broken("kp2d_px", np.nan, (3, 4, 0)), r"kp2d_px must be finite \(unseen: confidence 0\); got nan in frame 3"),
        (broken("kp2d_px", np.inf, (0, 0, 1)), "kp2d_px must be finite"),
        (broken("kp2d_conf", np.nan, (1, 1)), "kp2d_conf must be finite"),
        (broken("kp2d_conf", 1.5, (2, 1)), r"kp2d_conf must lie in 0\.\.1; got 1\.5 in frame 2"),
        (broken("kp2d_conf", -0.1, (2, 1)), r"kp2d_conf must lie in 0\.\.1; got -0\.1 in frame 2"),
        (broken("intrinsics_px", 0, (4, 0)), "focal lengths must be positive; got 0 in frame 4"),
        (broken("intrinsics_px", -1000, (1, 1)), "focal lengths must be positive; got -1000 in frame 1"),
        (broken("intrinsics_px", np.nan, (1, 2)), "intrinsics_px must be finite"),
        (broken("distortion", np.inf, (1, 2)), "distortion must be finite"),
        (replaced("kp2d_px", lambda a: a[:, :16]), r"floats \[n, 17, 2\] with n = 5; got float32 \[5, 16, 2\]"),
        (replaced("kp2d_px", lambda a: a[0]), r"kp2d_px must be floats"),
        (replaced("kp2d_px", lambda a: np.array(3, np.float32)), "kp2d_px must be floats"),
        (replaced("kp2d_px", lambda a: np.concatenate((a, a[..., :1]), -1)), r"got float32 \[5, 17, 3\]"),
        (replaced("kp2d_conf", lambda a: a[:4]), r"floats \[n, 17\] with n = 5; got float32 \[4, 17\]"),
        (replaced("kp2d_conf", lambda a: a[..., None]), "kp2d_conf must be floats"),
        (replaced("intrinsics_px", lambda a: a[0]), r"intrinsics_px must be floats \[n, 4\]"),
        (replaced("distortion", lambda a: a[:, :4]), r"distortion must be floats \[n, 5\]"),
        (replaced("kp2d_px", lambda a: a.astype(np.int64)), "got int64"),
        (replaced("kp2d_px", lambda a: a.astype(str)), "kp2d_px must be floats"),
        (replaced("kp2d_px", lambda a: np.where(a > 500, 1e300, a.astype(float))), r"finite.*got 1e\+300"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line(predictor, inputs, change, message):
    change(inputs)
    with pytest.raises(UserError, match=message) as refusal:
        predictor.predict(**inputs)
    assert "\n" not in str(refusal.value)


def test_huge_but_finite_input_stays_finite_or_nan_without_a_warning(predictor, inputs):
    inputs["kp2d_px"][0] = 1e30
    inputs["kp2d_px"][1, 0] = -1e30
    joints = predictor.predict(**inputs)
    assert np.isfinite(joints[2:]).all()


def test_no_package(tmp_path):
    with pytest.raises(UserError, match="is not a packaged model"):
        LiftingPredictor.of(tmp_path)
