"""A detector's errors: what is applied is what is measured, and the store gets it."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from aign.data.datasets.h36m import h36m_npz
from aign.data.datasets.job import Stored
from aign.data.datasets.motion import motion_clips
from aign.data.sources import SourceOptions, plan
from aign.data.stages.detector_errors import (
    CONF_LEVELS,
    LIMBS,
    DetectorErrors,
    apply_errors,
    body_axes,
    from_json,
    half_extent_px,
    measured_errors,
    spells,
    to_json,
)
from aign.data.stages.detector_measure import LAG_SECONDS, MIN_FRAMES, compare, measure_errors
from aign.framework.errors import UserError
from aign.geometry.skeleton import H36M17
from tests.data.test_h36m_npz import store_of
from tests.pipelines.samples import h36m_npz as sample

HEAD_TOP, NOSE, L_HIP, R_HIP, L_WRIST, R_WRIST, PELVIS = H36M17.index(
    "head_top", "nose", "l_hip", "r_hip", "l_wrist", "r_wrist", "pelvis"
)
CENTRAL = [j for j, other in enumerate(H36M17.mirrored) if j == other]

STORED = Stored(url="", records={})


def person(frames, seed=0, size_px=150.0):
    """Somebody upright who turns and swings arms and legs, facing the camera in frame 0."""
    body = {
        "pelvis": (0, 0), "l_hip": (0.15, 0.02), "r_hip": (-0.15, 0.02), "l_knee": (0.2, 0.5), "r_knee": (-0.2, 0.5),
        "l_ankle": (0.25, 1.0), "r_ankle": (-0.25, 1.0), "spine": (0, -0.25), "thorax": (0, -0.5), "nose": (0, -0.75),
        "head_top": (0, -0.95), "l_shoulder": (0.2, -0.5), "r_shoulder": (-0.2, -0.5), "l_elbow": (0.4, -0.3),
        "r_elbow": (-0.4, -0.3), "l_wrist": (0.45, 0.0), "r_wrist": (-0.45, 0.0),
    }  # fmt: skip
    points = np.array([body[name] for name in H36M17.joints])
    rng = np.random.default_rng(seed)
    turn = np.cos(np.arange(frames) * 0.02)[:, None]
    moved = np.stack((points[:, 0] * turn, np.broadcast_to(points[:, 1], (frames, 17))), -1)
    moved = moved + 0.02 * rng.standard_normal((1, 17, 2))
    return (size_px * moved + [500, 480] + np.arange(frames)[:, None, None] * 0.1).astype(np.float32)


def sided(values):
    """Numbers of some joints, the same left and right."""
    per_joint = np.array(values(np.arange(17)), np.float64)
    return 0.5 * (per_joint + per_joint[list(H36M17.mirrored)])


def statistics(**changed):
    """Errors that differ from joint to joint."""
    bias = np.zeros((17, 2))
    bias[L_HIP], bias[R_HIP], bias[NOSE] = (-0.2, 0.03), (0.2, 0.03), (0.0, 0.15)
    spread = sided(lambda j: 0.02 + 0.001 * j)
    scale = spread[:, None, None] ** 2 * np.diag([1.0, 0.6])
    correlation = 0.4 * np.ones((17, 17)) + 0.6 * np.eye(17)
    conf = np.tile(np.linspace(0.05, 1.0, len(CONF_LEVELS)), (17, 4, 1)) ** np.array([0.3, 0.5, 1, 3])[:, None]
    return replace(
        DetectorErrors(
            fps=50.0, bias=bias, scale=scale, tail=sided(lambda j: 3.0 + 0.3 * j), limit=np.full(17, 12.0),
            correlation=correlation, rho=sided(lambda j: 0.8 + 0.008 * j), dropout=np.zeros(17), dropout_seconds=0.1,
            lost=0.0, lost_seconds=0.2, swap=np.zeros(3), swap_seconds=0.1, conf=conf,
        ),
        **changed,
    )  # fmt: skip


def observed(errors, frames=1000, clips=6, fps=50.0):
    """People in several clips, and what the simulated detector saw."""
    truth = [person(frames, seed) for seed in range(clips)]
    seen = [apply_errors(t, np.ones(t.shape[:2], np.float32), (7, i), errors, fps) for i, t in enumerate(truth)]
    clip = np.repeat(np.arange(clips), frames)
    kp2d, conf = (np.concatenate(column) for column in zip(*seen, strict=True))
    return kp2d, conf, np.concatenate(truth), np.ones((len(clip), 17), bool), clip


def remeasured(errors, fps=50.0, **how):
    return measure_errors(*observed(errors, fps=fps, **how), fps)


@pytest.fixture(scope="module")
def recovered():
    return remeasured(statistics())


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("bias", 0.012), ("scale", 2.5e-4), ("rho", 0.02), ("correlation", 0.08)],
)
def test_what_was_applied_is_measured(recovered, name, tolerance):
    np.testing.assert_allclose(getattr(recovered, name), getattr(statistics(), name), atol=tolerance)


def test_confidences_are_measured(recovered):
    """Least and most, of which a sample shows less, aside."""
    inner = slice(1, -1)
    np.testing.assert_allclose(recovered.conf[..., inner], statistics().conf[..., inner], atol=0.2)
    np.testing.assert_allclose(recovered.conf.mean(0)[..., inner], statistics().conf.mean(0)[..., inner], atol=0.05)


def test_scales_and_tails_are_measured(recovered):
    want = statistics()
    spread = np.sqrt(np.trace(recovered.scale, axis1=1, axis2=2) / np.trace(want.scale, axis1=1, axis2=2))
    np.testing.assert_allclose(spread, 1, atol=0.1)
    np.testing.assert_allclose(recovered.tail / want.tail, 1, atol=0.45)
    assert recovered.tail[CENTRAL[0]] < remeasured(statistics(tail=np.full(17, 100.0))).tail[CENTRAL[0]] / 3
    assert recovered.lost == 0
    assert not recovered.dropout.any()
    assert not recovered.swap.any()


def test_the_student_t_has_its_published_quantiles():
    """P(|e|^2 / scale > x) = (1 + x / tail)^(-tail / 2) in the plane."""
    errors = statistics(bias=np.zeros((17, 2)), rho=np.zeros(17), tail=np.full(17, 4.0), limit=np.full(17, 1e6))
    kp2d, _, truth, valid, _ = observed(errors, frames=4000, clips=1)
    error = (kp2d - truth) / half_extent_px(truth, valid)[:, None, None]
    square = (error**2 / np.stack([np.diag(s) for s in errors.scale])).sum(-1)
    for level in (0.5, 0.9, 0.99):
        want = 4 * ((1 - level) ** -0.5 - 1)
        assert np.quantile(square, level) == pytest.approx(want, rel=0.06)


def test_no_error_is_longer_than_the_limit():
    errors = statistics(bias=np.zeros((17, 2)), tail=np.full(17, 1.0), limit=np.full(17, 2.0))
    kp2d, _, truth, valid, _ = observed(errors, clips=1)
    error = (kp2d - truth) / half_extent_px(truth, valid)[:, None, None]
    length = np.sqrt((error**2 / np.stack([np.diag(s) for s in errors.scale])).sum(-1))
    assert 1.9 < length.max() < 2.01


@pytest.mark.parametrize("fps", [50.0, 12.5])
def test_the_frame_rate_changes_the_steps_not_the_process(fps):
    """Measured at 50 per second: the same spread at every rate, from the first frame, and the same decay in seconds."""
    errors = statistics(bias=np.zeros((17, 2)), tail=np.full(17, 100.0), rho=np.full(17, 0.97))
    truth = person(int(8 * fps))
    sight = np.ones(truth.shape[:2], np.float32)
    runs = np.stack([apply_errors(truth, sight, seed, errors, fps)[0] - truth for seed in range(50)])
    error = runs / half_extent_px(truth, sight > 0)[None, :, None, None]
    spread = error.std(axis=(0, 2, 3))
    np.testing.assert_allclose(spread[[0, len(spread) // 2, -1]] / spread.mean(), 1, atol=0.1)
    lag = round(0.4 * fps)
    got = (error[:, lag:] * error[:, :-lag]).mean() / (error**2).mean()
    assert got == pytest.approx(0.97 ** (0.4 * 50), abs=0.06)


def test_bias_turns_with_the_person():
    errors = statistics(scale=np.zeros((17, 2, 2)))
    truth = person(2)
    mirrored = truth[:, list(H36M17.mirrored)]  # the same picture of somebody seen from behind
    sight = np.ones((2, 17), np.float32)
    front = apply_errors(truth, sight, 0, errors, 50.0)[0] - truth
    back = apply_errors(mirrored, sight, 0, errors, 50.0)[0] - mirrored
    assert front[0, L_HIP, 0] < -1
    np.testing.assert_allclose(back[0, R_HIP], front[0, L_HIP], atol=1e-3)


def test_convention_axes_of_somebody_who_faces_the_camera():
    """Convention: across (+, 0), along (0, -), in half extents; the head top does not count for the size."""
    truth = person(1)
    seen = np.ones((1, 17), bool)
    across, along = body_axes(truth, seen)[0].T
    assert across[0] > 0.2
    assert along[1] < -0.4
    assert abs(across[1]) + abs(along[0]) < 0.1
    rest = np.delete(truth[0], HEAD_TOP, 0)
    assert half_extent_px(truth, seen)[0] == pytest.approx(np.ptp(rest, axis=0).max() / 2)
    seen[0, L_HIP] = False
    assert not body_axes(truth, seen).any()
    assert half_extent_px(truth, np.zeros((1, 17), bool))[0] == 0


def test_errors_scale_with_the_person():
    near, far = person(20, size_px=300.0), person(20, size_px=150.0)
    sight = np.ones((20, 17), np.float32)
    large, small = (apply_errors(p, sight, 3, statistics(), 50.0)[0] - p for p in (near, far))
    ratio = half_extent_px(near, sight > 0) / half_extent_px(far, sight > 0)
    np.testing.assert_allclose(large, small * ratio[:, None, None], rtol=0.02, atol=0.05)


def test_dropouts_and_lost_people_have_no_confidence_and_last():
    dropout = np.zeros(17)
    dropout[[L_WRIST, R_WRIST]], dropout[HEAD_TOP] = 0.2, 1.0
    errors = statistics(dropout=dropout, dropout_seconds=0.2, lost=0.1, lost_seconds=0.4)
    kp2d, conf, *_ = rest = observed(errors)
    assert not conf[:, HEAD_TOP].any()
    assert not kp2d[conf == 0].any()
    got = measure_errors(*rest, 50.0)
    assert got.dropout[HEAD_TOP] == 1
    np.testing.assert_allclose(got.dropout[[L_WRIST, R_WRIST, NOSE]], [0.2, 0.2, 0], atol=0.04)
    assert got.dropout_seconds == pytest.approx(0.2, rel=0.3)
    assert got.lost == pytest.approx(0.1, abs=0.03)
    assert got.lost_seconds == pytest.approx(0.4, rel=0.3)


def test_what_is_not_in_the_picture_is_not_detected():
    truth, sight = person(30), np.ones((30, 17), np.float32)
    truth[:10, L_WRIST], sight[:10, L_WRIST] = 0, 0
    sight[20:], truth[20:] = 0, 0
    kp2d, conf = apply_errors(truth, sight, 0, statistics(), 50.0)
    assert not conf[sight == 0].any()
    assert not kp2d[sight == 0].any()
    assert (conf[sight > 0] > 0).all()


def test_swaps_exchange_sides_and_last():
    swap = np.array([0.0, 0.1, 0.0])
    kp2d, conf, truth, valid, clip = observed(
        statistics(swap=swap, swap_seconds=0.2, scale=1e-4 * np.ones((17, 1, 1)) * np.eye(2))
    )
    got = measure_errors(kp2d, conf, truth, valid, clip, 50.0)
    np.testing.assert_allclose(got.swap, swap, atol=0.03)
    assert got.swap_seconds == pytest.approx(0.2, rel=0.4)
    seen = compare(kp2d, conf, truth, valid)
    arms = seen.swapped[:, 1]
    across = kp2d[arms, L_WRIST] - truth[arms, R_WRIST]
    assert np.hypot(*across.T).max() < 40
    assert np.isfinite(seen.residual).all()
    assert np.abs(seen.residual[arms]).max() < 0.3  # undone before the rest is measured


def test_a_swapped_body_is_no_swapped_limb():
    truth = person(60)
    sight = np.ones((60, 17), np.float32)
    seen = compare(truth[:, list(H36M17.mirrored)].copy(), sight, truth, sight > 0)
    assert seen.swapped[:, list(LIMBS).index("body")].mean() > 0.9
    assert not seen.swapped[:, :2].any()


def test_spells_have_their_share_and_length():
    on = spells(np.random.default_rng(0), 60_000, np.array([0.1, 0.0, 1.0]), 8.0)
    assert on[:, 0].mean() == pytest.approx(0.1, abs=0.015)
    assert on[:, 0].sum() / (np.diff(on[:, 0].astype(int)) == 1).sum() == pytest.approx(8, rel=0.12)
    assert not on[:, 1].any()
    assert on[:, 2].all()


def test_large_errors_come_with_low_confidence(recovered):
    low = recovered.conf.mean((0, 2))
    assert (np.diff(low) < -0.05).all()


def test_the_seed_decides():
    truth, sight = person(40), np.ones((40, 17), np.float32)
    one, again, other = (apply_errors(truth, sight, seed, statistics(), 50.0) for seed in (5, 5, 6))
    for a, b, c in zip(one, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert (a != c).mean() > 0.9


def test_mirrored_people_give_mirrored_statistics():
    """Left and right get the same numbers, across with the other sign."""
    kp2d, conf, truth, valid, clip = observed(statistics(), frames=300, clips=2)
    kp2d[:, L_WRIST] += 3 * np.random.default_rng(0).standard_normal((600, 2)).astype(np.float32)  # the left alone
    got = measure_errors(kp2d, conf, truth, valid, clip, 50.0)
    other = list(H36M17.mirrored)
    np.testing.assert_allclose(got.bias[other] * [-1, 1], got.bias, atol=1e-6)
    np.testing.assert_allclose(got.scale[other] * [[1, -1], [-1, 1]], got.scale, atol=1e-9)
    for name in ("tail", "limit", "rho", "conf", "dropout"):
        np.testing.assert_allclose(getattr(got, name)[other], getattr(got, name), atol=1e-9)


def test_json_round_trip():
    errors = measured_errors()
    again = from_json(to_json(errors, {"of": "a test"}), "here")
    for name, value in asdict(errors).items():
        np.testing.assert_allclose(asdict(again)[name], value, atol=1e-5)
    assert json.loads(to_json(errors, {"of": "a test"}))["provenance"] == {"of": "a test"}


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"errors": {}}', '{"errors": 3}', to_json(statistics(), {}).replace("0.02,", "NaN,", 1)[:-5]],
)
def test_json_that_is_none(text):
    with pytest.raises(UserError, match=r"^some\.json: no statistics of a detector's errors [^\n]*$"):
        from_json(text, "some.json")


def test_json_that_is_not_finite():
    text = to_json(statistics(lost=float("nan")), {})
    with pytest.raises(UserError, match="lost hold numbers that are not finite"):
        from_json(text, "some.json")


def test_the_packaged_statistics_are_a_detectors():
    errors = measured_errors()
    assert 0.01 < np.sqrt(np.trace(errors.scale[PELVIS]) / 2) < 0.06
    assert errors.dropout[HEAD_TOP] == 1  # BlazePose has none
    assert errors.bias[L_HIP, 0] < -0.1 < 0.1 < errors.bias[R_HIP, 0]  # and its hips are narrow
    assert ((errors.rho[np.arange(17) != HEAD_TOP] > 0.7) & (errors.rho[np.arange(17) != HEAD_TOP] < 1)).all()
    assert (np.diff(errors.conf, axis=-1) >= 0).all()
    assert np.linalg.eigvalsh(errors.correlation).min() > -1e-6


BAD = {
    "nan": (lambda k, c: (np.where(np.arange(2) == 0, np.float32("nan"), k), c), 50.0, "not finite"),
    "joints": (lambda k, c: (k[:, :16], c[:, :16]), 50.0, r"\(40, 16, 2\), .* \(frames, 17, 2\), \(frames, 17\) are"),
    "no frames": (lambda k, c: (k[:0], c[:0]), 50.0, "0 frames; at least 1"),
    "no frame rate": (lambda k, c: (k, c), 0.0, "0.0 frames per second; more than 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_keypoints_are_told_in_one_line(name):
    spoil, fps, message = BAD[name]
    kp2d, conf = spoil(person(40), np.ones((40, 17), np.float32))
    with pytest.raises(UserError, match=message) as caught:
        apply_errors(kp2d, conf, 0, statistics(), fps)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=message):
        measure_errors(kp2d, conf, np.nan_to_num(kp2d), conf > 0, np.zeros(len(kp2d), np.int64), fps)


def test_truth_that_tells_nothing():
    kp2d, sight, clip = person(60), np.ones((60, 17), np.float32), np.zeros(60, np.int64)
    with pytest.raises(UserError, match=f"0 frames in which a joint was seen and is known; {MIN_FRAMES} are needed"):
        measure_errors(kp2d, sight, kp2d, sight < 0, clip, 50.0)
    lag = round(LAG_SECONDS * 50)
    with pytest.raises(UserError, match=f"no clip has more than {lag} frames"):
        measure_errors(kp2d + 1, sight, kp2d, sight > 0, np.arange(60), 50.0)
    with pytest.raises(UserError, match="not finite"):
        measure_errors(kp2d, sight, kp2d * np.float32("nan"), sight > 0, clip, 50.0)
    got = measure_errors(kp2d, sight, np.where(np.arange(17)[:, None] == NOSE, np.float32("nan"), kp2d),
                         np.broadcast_to(np.arange(17) != NOSE, (60, 17)), clip, 50.0)  # fmt: skip
    assert got.dropout[NOSE] == 1
    assert got.lost == 0


def stored(path, url, keypoints="detector"):
    store = store_of(plan(str(path), options=SourceOptions(keypoints=keypoints)), str(url))
    return store, store.read({"keypoints": ("kp2d_px", "kp2d_conf"), "labels": ("joints_cam_m",)})


def test_a_store_of_projections_with_a_detectors_errors(tmp_path):
    """From file to store: labels stay the same parts, keypoints move as measured, each camera's for itself."""
    path = sample(tmp_path / "in", {"S1": ("Walking", "Eating")}, frames=200)
    plain, exact = stored(path, tmp_path / "exact", "gt")
    simulated, seen = stored(path, tmp_path / "seen")
    names = [{p.table: p.path for p in store.manifest.parts} for store in (plain, simulated)]
    assert names[0]["labels"] == names[1]["labels"]
    assert names[0]["keypoints"] != names[1]["keypoints"]
    np.testing.assert_array_equal(seen.arrays["joints_cam_m"], exact.arrays["joints_cam_m"])
    conf = seen.arrays["kp2d_conf"]
    assert not conf[:, HEAD_TOP].any()
    both = (conf > 0) & (exact.arrays["kp2d_conf"] > 0)
    assert both.mean() > 0.8
    apart = np.hypot(*np.moveaxis(seen.arrays["kp2d_px"] - exact.arrays["kp2d_px"], -1, 0))
    size = half_extent_px(exact.arrays["kp2d_px"], exact.arrays["kp2d_conf"] > 0)
    assert 0.015 < np.median((apart / size[:, None])[both]) < 0.07
    error = (seen.arrays["kp2d_px"] - exact.arrays["kp2d_px"])[:, L_WRIST, 0].reshape(8, 200)
    assert np.abs(np.corrcoef(error)[~np.eye(8, dtype=bool)]).max() < 0.9
    _, same = stored(path, tmp_path / "seen")
    _, other = stored(path, tmp_path / "elsewhere")
    for name in ("kp2d_px", "kp2d_conf"):
        np.testing.assert_array_equal(same.arrays[name], seen.arrays[name])
        np.testing.assert_array_equal(other.arrays[name], seen.arrays[name])


def test_errors_go_on_where_a_clip_is_cut(tmp_path):
    """The errors are drawn before a sequence is cut into clips: frame 128 follows frame 127."""
    path = sample(tmp_path, {"S1": ("Walking",)}, frames=200)
    (exact,), (seen,) = (h36m_npz.plan(path, keypoints) for keypoints in ("gt", "detector"))
    pixels = [
        np.concatenate([c["kp2d_px"] for c in job.clips(("keypoints",), STORED).tables["keypoints"]])[:200]
        for job in (exact, seen)
    ]
    error = np.abs(pixels[1] - pixels[0])[:, PELVIS]
    assert np.abs(np.diff(pixels[1][:, PELVIS] - pixels[0][:, PELVIS], axis=0))[127].max() < 0.8 * error.max()


@pytest.mark.parametrize("make", [h36m_npz.plan, motion_clips.plan])
def test_only_keypoints_name_the_detector(make, tmp_path):
    path = sample(tmp_path, {"S1": ("Walking",)}) if make is h36m_npz.plan else Path(motion_clips.EMBEDDED)
    exact, seen = (make(path, keypoints)[0] for keypoints in ("gt", "detector"))
    assert exact.provenance("labels") == seen.provenance("labels")
    assert exact.provenance("memory_pose") == seen.provenance("memory_pose")
    (last,) = {s.name for s in seen.provenance("keypoints").stages} - {
        s.name for s in exact.provenance("keypoints").stages
    }
    assert last == "detector-errors"


def test_where_it_means_nothing_it_is_refused(tmp_path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(UserError, match=r"--keypoints is for h36m-videopose3d, motion, synthetic; .* is read as video"):
        plan(str(tmp_path), options=SourceOptions(keypoints="detector"))
    path = sample(tmp_path / "h36m", {"S1": ("Walking",)})
    (path.parent / "data_2d_h36m_detector.npz").touch()
    with pytest.raises(UserError, match=r"data_2d_h36m_detector\.npz; give that file another name"):
        plan(str(path), options=SourceOptions(keypoints="detector"))
