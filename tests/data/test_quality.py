import json
from dataclasses import asdict, replace
from itertools import pairwise

import cv2
import numpy as np
import pytest

from aign.data.stages.quality import MAIN_BONES, MAIN_JOINTS, Quality, QualityLimits, assess, sharpness
from aign.framework.errors import UserError
from aign.geometry.skeleton import BLAZEPOSE33, COCO17, H36M17, LSP14, SMPL24, Skeleton

SIDE = 128
FRAMES = 6
LIMITS = QualityLimits()
# A person with arms held out, facing the camera (the person's left is on the right), in 128 px pictures.
PLACES = {
    "shoulder": (12, 40),
    "elbow": (26, 48),
    "wrist": (38, 58),
    "hip": (8, 70),
    "knee": (10, 90),
    "ankle": (14, 112),
}


def person(skeleton: Skeleton = COCO17) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keypoints of a person that walks to the right, confidence, and a mask with limbs 10 px thick."""
    points = np.full((FRAMES, len(skeleton), 2), (60.0, 30.0), np.float32)
    for name in MAIN_JOINTS:
        across, down = PLACES[name[2:]]
        points[:, skeleton.index(name)[0]] = (60 + (across if name[0] == "l" else -across), down)
    points[..., 0] += np.arange(FRAMES)[:, None]
    masks = np.zeros((FRAMES, SIDE, SIDE), np.uint8)
    for t in range(FRAMES):
        at = {name: np.rint(points[t, skeleton.index(name)[0]]).astype(int).tolist() for name in MAIN_JOINTS}
        for a, b in MAIN_BONES:
            cv2.line(masks[t], at[a], at[b], 1, 10)
        torso = [at[name] for name in ("l_shoulder", "r_shoulder", "r_hip", "l_hip")]
        cv2.fillConvexPoly(masks[t], np.array(torso), 1)
    return points, np.full(points.shape[:2], 0.9, np.float32), masks > 0


def pictures() -> np.ndarray:
    rng = np.random.default_rng(0)
    fine, coarse = (
        cv2.resize(rng.normal(size=(n, n, 3)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for n in (SIDE // 2, 12)
    )
    return np.stack([np.clip(128 + 15 * fine + 40 * coarse, 0, 255).astype(np.uint8)] * FRAMES)


def judge(skeleton: Skeleton = COCO17, limits: QualityLimits = LIMITS, **changed: np.ndarray) -> Quality:
    points, conf, masks = person(skeleton)
    flow_valid = np.ones(masks.shape, bool)
    flow_valid[-1] = False  # as the store has it
    given = {"kp2d_px": points, "kp2d_conf": conf, "masks": masks, "flow_valid": flow_valid, "rgb": pictures()}
    return assess(*(given | changed).values(), skeleton, limits)


@pytest.mark.parametrize("skeleton", [BLAZEPOSE33, COCO17, H36M17, SMPL24, LSP14], ids=lambda s: s.name)
def test_a_good_clip_passes_whatever_its_skeleton(skeleton):
    quality = judge(skeleton)
    assert quality.passed
    assert quality.reasons == ""
    assert quality.keypoint_conf == pytest.approx(0.9)
    assert quality.mask_agreement == 1
    assert quality.flow_consistency == 1
    assert quality.sharpness > LIMITS.sharpness


def test_a_skeleton_without_main_joints_is_refused():
    hand = Skeleton(name="hand", joints=("wrist", "thumb"), parents=(-1, 0))
    _, _, masks = person()
    with pytest.raises(UserError, match="hand has no joint"):
        assess(np.zeros((6, 2, 2)), np.ones((6, 2)), masks, masks, pictures(), hand, LIMITS)


def test_confidence_is_that_of_the_main_joints():
    _, conf, _ = person()
    face, body = conf.copy(), conf.copy()
    face[:, COCO17.index("nose", "l_eye", "r_ear")] = 0
    assert judge(kp2d_conf=face).keypoint_conf == pytest.approx(0.9)
    body[:3, COCO17.index("l_wrist")] = 0
    assert judge(kp2d_conf=body).keypoint_conf == pytest.approx(0.9 * (1 - 0.5 / 12))
    quality = judge(kp2d_conf=conf / 4)
    assert not quality.passed
    assert quality.reasons == "keypoint_conf 0.225 < 0.5; mask_agreement 0 < 0.9"


def test_uncertain_joints_say_nothing_about_the_mask():
    points, conf, _ = person()
    wrist = COCO17.index("l_wrist")
    points[:, wrist] = (5, 5)
    wrong = judge(kp2d_px=points).mask_agreement
    assert wrong == pytest.approx(20 / 22)  # the wrist, and the middle of the bone to it
    conf[:, wrist] = 0.3
    assert judge(kp2d_px=points, kp2d_conf=conf).mask_agreement == 1


@pytest.mark.parametrize("name", ["joints shuffled", "jumping", "elsewhere", "outside", "mirrored time"])
def test_wrong_keypoints_do_not_agree_with_the_mask(name):
    points, _, _ = person()
    rng = np.random.default_rng(0)
    wrong = {
        "joints shuffled": np.stack([frame[rng.permutation(17)] for frame in points]),
        "jumping": points + rng.normal(scale=8, size=points.shape).astype(np.float32),
        "elsewhere": points + np.float32(20),
        "outside": points - np.float32(1e6),
        "mirrored time": points[::-1] + np.float32([12, 0]),
    }[name]
    quality = judge(kp2d_px=wrong.astype(np.float32))
    assert not quality.passed
    assert quality.reasons.startswith("mask_agreement 0")


@pytest.mark.parametrize("name", ["empty", "full", "shifted", "upper half", "half the clip", "flipped"])
def test_wrong_masks_do_not_pass(name):
    _, _, masks = person()
    some = np.arange(FRAMES)[:, None, None] < 3
    wrong = {
        "empty": np.zeros_like(masks),
        "full": np.ones_like(masks),
        "shifted": np.roll(masks, 14, axis=2),
        "upper half": masks & (np.arange(SIDE)[:, None] < 64),
        "half the clip": masks & some,
        "flipped": masks[:, ::-1],
    }[name]
    quality = judge(masks=wrong)
    assert not quality.passed
    assert "mask_agreement" in quality.reasons
    if name == "half the clip":
        assert quality.mask_agreement == pytest.approx(0.5)
    if name in ("empty", "full"):
        assert quality.mask_agreement == 0


def test_convention_pixels_points_just_outside_the_mask_are_near_enough():
    """The reach is 2 % of the mask's longer side: here 80 px, so 1.6 px; also over the edge of the picture."""
    points, _, _ = person()
    for left in (20, 0):
        masks = np.zeros((FRAMES, SIDE, SIDE), bool)
        masks[:, 20:100, left : left + 40] = True
        for off, agrees in ((-1.0, 1.0), (-3.0, 0.0)):
            points[:] = (left + off, 60)
            assert judge(kp2d_px=points, masks=masks).mask_agreement == agrees


def test_flow_consistency_counts_the_mask_and_not_the_last_frame():
    _, _, masks = person()
    assert judge(flow_valid=masks).flow_consistency == 1
    assert judge(flow_valid=~masks).flow_consistency == 0
    half = np.ones_like(masks)
    half[2:4] = False
    quality = judge(flow_valid=half)
    share = masks[2:4].sum() / masks[:-1].sum()
    assert quality.flow_consistency == pytest.approx(1 - share)
    assert quality.reasons == f"flow_consistency {1 - share:.3g} < 0.65"


@pytest.mark.parametrize("side", [96, 128, 256])
def test_blur_lowers_sharpness_monotonically(side):
    rng = np.random.default_rng(1)
    picture = cv2.resize(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), (side, side), interpolation=cv2.INTER_CUBIC)
    mask = np.zeros((side, side), bool)
    mask[side // 4 : -side // 4, side // 4 : -side // 4] = True
    gaussian = [picture, *(cv2.GaussianBlur(picture, (0, 0), s * side / 256) for s in (0.8, 1.3, 2, 3, 5, 8))]
    motion = [cv2.blur(picture, (k, 1)) for k in (1, 3, 7, 13, 25)]
    for series, left in ((gaussian, 0.1), (motion, 0.6)):  # motion spares what runs along it
        values = [sharpness(blurred, mask) for blurred in series]
        assert all(a > b for a, b in pairwise(values))
        assert values[-1] < left * values[0]


def test_sharpness_does_not_depend_on_exposure_contrast_noise_or_stored_size():
    big = np.clip(
        128
        + sum(
            a * cv2.resize(np.random.default_rng(n).normal(size=(n, n, 3)), (512, 512), interpolation=cv2.INTER_CUBIC)
            for n, a in ((96, 20), (24, 30))
        ),
        0,
        255,
    ).astype(np.uint8)

    def at(side: int) -> float:
        return sharpness(cv2.resize(big, (side, side), interpolation=cv2.INTER_AREA), np.ones((side, side), bool))

    assert at(128) == pytest.approx(at(256), rel=0.35)
    assert at(512) == pytest.approx(at(256), rel=0.25)
    picture, everywhere = cv2.resize(big, (256, 256), interpolation=cv2.INTER_AREA), np.ones((256, 256), bool)
    expected = sharpness(picture, everywhere)
    assert sharpness((picture // 3 + 60).astype(np.uint8), everywhere) == pytest.approx(expected, rel=0.05)
    noise = np.random.default_rng(5).normal(scale=10, size=picture.shape)
    noisy = np.clip(picture + noise, 0, 255).astype(np.uint8)
    assert sharpness(noisy, everywhere) == pytest.approx(expected, rel=0.1)


def test_sharpness_is_the_persons():
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[40:90, 40:90] = True
    sharp = sharpness(picture, mask)
    around = cv2.GaussianBlur(picture, (0, 0), 4)
    around[30:100, 30:100] = picture[30:100, 30:100]
    assert sharpness(around, mask) == sharp
    assert sharpness(cv2.GaussianBlur(picture, (0, 0), 4), mask) < 0.1 * sharp


def test_a_blurred_clip_is_said_to_be_blurred():
    blurred = np.stack([cv2.GaussianBlur(picture, (0, 0), 4) for picture in pictures()])
    quality = judge(rgb=blurred)
    assert not quality.passed
    assert quality.reasons == f"sharpness {quality.sharpness:.3g} < 0.015"


@pytest.mark.parametrize("value", [0, 255])
def test_pictures_of_one_colour(value):
    quality = judge(rgb=np.full((FRAMES, SIDE, SIDE, 3), value, np.uint8))
    assert quality.sharpness == 0
    assert quality.reasons == "sharpness 0 < 0.015"


def test_nan_counts_as_not_seen():
    points, conf, _ = person()
    shoulder = COCO17.index("l_shoulder")
    for value in (np.nan, np.inf):
        points[:3, shoulder] = value
        quality = judge(kp2d_px=points)
        assert quality.keypoint_conf == pytest.approx(0.9 * (1 - 0.5 / 12))
        assert quality.mask_agreement == 1
    points, conf, _ = person()
    conf[:3, shoulder] = np.nan
    assert judge(kp2d_conf=conf).keypoint_conf == pytest.approx(0.9 * (1 - 0.5 / 12))
    nothing = judge(kp2d_px=np.full_like(points, np.nan), kp2d_conf=np.full_like(conf, np.nan))
    assert (nothing.keypoint_conf, nothing.mask_agreement) == (0, 0)
    assert not nothing.passed


def test_one_frame():
    points, conf, masks = person()
    one = {"kp2d_px": points[:1], "kp2d_conf": conf[:1], "masks": masks[:1], "rgb": pictures()[:1]}
    quality = judge(**one, flow_valid=np.zeros((1, SIDE, SIDE), bool))
    assert quality.passed
    assert quality.flow_consistency == 1


def test_nothing_at_all_is_all_zero_and_finite():
    quality = judge(
        kp2d_conf=np.zeros((FRAMES, 17), np.float32),
        masks=np.zeros((FRAMES, SIDE, SIDE), bool),
        rgb=np.zeros((FRAMES, SIDE, SIDE, 3), np.uint8),
    )
    assert [quality.keypoint_conf, quality.mask_agreement, quality.flow_consistency, quality.sharpness] == [0] * 4
    assert len(quality.reasons.split("; ")) == 4
    assert "\n" not in quality.reasons


def test_limits_are_what_is_compared_and_zero_switches_off():
    strict = judge(limits=replace(LIMITS, keypoint_conf=0.95))
    assert strict.reasons == "keypoint_conf 0.9 < 0.95"
    off = QualityLimits(keypoint_conf=0.0, mask_agreement=0.0, flow_consistency=0.0, sharpness=0.0)
    masks = np.zeros((FRAMES, SIDE, SIDE), bool)
    assert judge(limits=off, masks=masks).passed
    json.dumps(asdict(LIMITS))  # they enter the stage's hash


def test_frames_may_come_one_by_one():
    points, conf, masks = person()
    quality = assess(points, conf, masks, np.ones_like(masks), (x for x in pictures()), COCO17, LIMITS)
    assert quality == judge()
    with pytest.raises(ValueError, match="argument"):
        assess(points, conf, masks, np.ones_like(masks), iter(pictures()[:3]), COCO17, LIMITS)
