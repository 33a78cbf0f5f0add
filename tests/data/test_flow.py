import subprocess
import sys
import threading
from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from aign.data.stages.flow import (
    DEFAULT_BY_SIDE,
    DIS_FINE,
    DIS_MEDIUM,
    Dis,
    consistent,
    default_flow,
    flow_pair,
    flow_pairs,
)
from aign.framework.errors import UserError

SIDE = 128


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Detail of several sizes, as real pictures have."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(
            rng.normal(size=(height // k + 2, width // k + 2, 3)), (width, height), interpolation=cv2.INTER_CUBIC
        )
        for k in (3, 8, 20)
    ]
    return np.clip(128 + 40 * sum(layers), 0, 255).astype(np.uint8)


def seen_at(scene: np.ndarray, x: float, y: float, side: int = SIDE) -> np.ndarray:
    """What a camera sees whose top-left pixel is at (x, y) of the scene."""
    return cv2.warpAffine(
        scene, np.array([[1, 0, x], [0, 1, y]], float), (side, side), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    )


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    return texture(220, 220)


@pytest.mark.parametrize("method", [DIS_FINE, DIS_MEDIUM])
@pytest.mark.parametrize(("u", "v"), [(0, 0), (3, -2), (-7, 5), (1.5, 0.5)])
def test_shifted_texture(scene, method, u, v):
    pair = flow_pair(seen_at(scene, 40, 40), seen_at(scene, 40 - u, 40 - v), method)
    inner = (slice(12, -12), slice(12, -12))
    for flow, valid, truth in (
        (pair.forward_px, pair.forward_valid, (u, v)),
        (pair.backward_px, pair.backward_valid, (-u, -v)),
    ):
        assert flow.dtype == np.float32
        assert np.linalg.norm(flow[inner] - truth, axis=-1).mean() < 0.1
        assert valid[inner].mean() > 0.99


def test_convention_flow_is_next_minus_this_x_right_y_down():
    first, second = np.zeros((2, 96, 96, 3), np.uint8)
    patch = texture(30, 30)
    first[30:60, 20:50] = patch
    second[34:64, 26:56] = patch  # 6 px to the right, 4 px down
    pair = flow_pair(first, second, DIS_FINE)
    np.testing.assert_allclose(np.median(pair.forward_px[35:55, 25:45], axis=(0, 1)), (6, 4), atol=0.1)
    np.testing.assert_allclose(np.median(pair.backward_px[39:59, 31:51], axis=(0, 1)), (-6, -4), atol=0.1)


def test_targets_outside_the_picture_are_invalid(scene):
    pair = flow_pair(seen_at(scene, 40, 40), seen_at(scene, 34, 40), DIS_FINE)  # everything moves right by 6
    assert pair.forward_valid[16:-16, 16:-16].mean() > 0.99
    assert not pair.forward_valid[:, -5:].any()
    assert not pair.backward_valid[:, :5].any()


def test_what_a_moving_square_hides_is_invalid(scene):
    """A square moves 8 px right over a static background: it hides a strip in front of it and uncovers one behind."""
    background, patch = seen_at(scene, 40, 40), texture(48, 48, seed=3)
    first, second = background.copy(), background.copy()
    first[40:88, 32:80], second[40:88, 40:88] = patch, patch
    pair = flow_pair(first, second, DIS_FINE)
    for valid, strip in ((pair.forward_valid, slice(80, 88)), (pair.backward_valid, slice(32, 40))):
        hidden = np.zeros((SIDE, SIDE), bool)
        hidden[40:88, strip] = True
        recall = (~valid & hidden).sum() / hidden.sum()
        precision = (~valid & hidden).sum() / (~valid).sum()
        assert recall > 0.8
        assert precision > 0.6
    kept = pair.forward_valid[44:84, 36:76]
    assert kept.mean() > 0.97
    assert np.linalg.norm(pair.forward_px[44:84, 36:76] - (8, 0), axis=-1)[kept].mean() < 0.1


def test_consistency_against_a_loop():
    rng = np.random.default_rng(0)
    forward = cv2.resize(rng.normal(size=(4, 5, 2)).astype(np.float32), (40, 32), interpolation=cv2.INTER_CUBIC)
    backward = -forward + 0.15 * rng.normal(size=forward.shape).astype(np.float32)
    got = consistent(forward, backward)
    expected = np.zeros_like(got)
    for y in range(32):
        for x in range(40):
            u, v = forward[y, x]
            tx, ty = x + u, y + v
            if not (-0.5 <= tx <= 39.5 and -0.5 <= ty <= 31.5):
                continue
            cx, cy = np.clip(tx, 0, 39), np.clip(ty, 0, 31)
            x0, y0 = min(int(cx), 38), min(int(cy), 30)
            a, b = cx - x0, cy - y0
            near = backward[y0 : y0 + 2, x0 : x0 + 2]
            back = (1 - b) * ((1 - a) * near[0, 0] + a * near[0, 1]) + b * ((1 - a) * near[1, 0] + a * near[1, 1])
            gap = ((forward[y, x] + back) ** 2).sum()
            expected[y, x] = gap < 0.01 * ((forward[y, x] ** 2).sum() + (back**2).sum()) + 0.1
    assert 0.2 < expected.mean() < 0.9
    assert (got != expected).mean() < 0.02  # OpenCV looks up at 1/32 px


def test_nan_flow_is_invalid():
    flow = np.zeros((20, 20, 2), np.float32)
    flow[3, 4] = np.nan
    flow[5, 6] = np.inf
    valid = consistent(flow, np.zeros_like(flow))
    assert not valid[3, 4]
    assert not valid[5, 6]
    assert valid.sum() == 398


def plain(value: int) -> np.ndarray:
    return np.full((64, 64, 3), value, np.uint8)


@pytest.mark.parametrize("method", [DIS_FINE, DIS_MEDIUM])
def test_pairs_with_nothing_to_see(method):
    """No texture, black to white, noise: some answer, finite, and nothing moves where nothing can be seen to move."""
    noise = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    same = texture(64, 64)
    for first, second in ((plain(0), plain(255)), (plain(255), plain(0)), tuple(noise), (plain(7), same)):
        pair = flow_pair(first, second, method)
        assert np.isfinite(pair.forward_px).all()
        assert np.isfinite(pair.backward_px).all()
    for first, second in ((plain(100), plain(100)), (plain(0), plain(0)), (plain(255), plain(255)), (same, same)):
        pair = flow_pair(first, second, method)
        assert np.abs(pair.forward_px).max() < 0.05
        assert pair.forward_valid.all()
    assert flow_pair(noise[0], noise[1], method).forward_valid.mean() < 0.7


def test_extreme_values_do_not_wrap():
    """255 beside 0 is the strongest edge; it moves like any other."""
    first, second = np.zeros((2, 64, 64, 3), np.uint8)
    checks = (np.indices((30, 30)) // 6).sum(0) % 2 * 255
    first[15:45, 15:45] = checks[..., None]
    second[15:45, 18:48] = checks[..., None]
    flow = flow_pair(first, second, DIS_FINE).forward_px
    np.testing.assert_allclose(np.median(flow[20:40, 20:40], axis=(0, 1)), (3, 0), atol=0.15)


def test_a_clip_streams_pair_by_pair(scene):
    frames = np.stack([seen_at(scene, 40 - 2 * t, 40 + t, 64) for t in range(4)])
    pairs = list(flow_pairs(iter(frames), DIS_FINE))
    assert len(pairs) == 3
    for t, pair in enumerate(pairs):
        alone = flow_pair(frames[t], frames[t + 1], DIS_FINE)
        np.testing.assert_array_equal(pair.forward_px, alone.forward_px)
        np.testing.assert_array_equal(pair.backward_valid, alone.backward_valid)
        np.testing.assert_allclose(np.median(pair.forward_px, axis=(0, 1)), (2, -1), atol=0.1)
    assert list(flow_pairs(frames[:1], DIS_FINE)) == []


def test_result_depends_on_nothing_but_the_pair(scene):
    """Not on what the engine saw before, the thread, or how many threads OpenCV may use."""
    pair = seen_at(scene, 40, 40), seen_at(scene, 37, 42)
    expected = DIS_FINE(*pair)
    DIS_FINE(seen_at(scene, 10, 10, 64), seen_at(scene, 15, 15, 64))
    got: list[np.ndarray] = [DIS_FINE(*pair)]
    threads = [threading.Thread(target=lambda: got.extend(DIS_FINE(*pair) for _ in range(4))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    before = cv2.getNumThreads()
    try:
        for count in (1, 4):
            cv2.setNumThreads(count)
            got.append(DIS_FINE(*pair))
    finally:
        cv2.setNumThreads(before)
    assert len(got) == 15
    for flow in got:
        np.testing.assert_array_equal(flow, expected)
    assert len({id(flow) for flow in got}) == 15  # nobody writes into what was handed out


def test_default_by_resolution():
    assert default_flow(128) == default_flow(256) == DIS_FINE
    assert default_flow(512) == default_flow(5000) == DIS_MEDIUM
    assert [side for side, _ in DEFAULT_BY_SIDE] == sorted(side for side, _ in DEFAULT_BY_SIDE)


def test_params_say_everything():
    assert DIS_FINE.name == "dis"
    assert DIS_FINE.params == {
        "finest_scale": 0,
        "patch_stride": 4,
        "search_iterations": 12,
        "refinement_iterations": 5,
    }
    assert DIS_FINE.params != DIS_MEDIUM.params


def test_medium_is_the_preset_of_that_name(scene):
    first, second = seen_at(scene, 40, 40), seen_at(scene, 37, 42)
    grey = [cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in (first, second)]
    preset = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    np.testing.assert_array_equal(DIS_MEDIUM(first, second), preset.calc(*grey, None))


@dataclass(frozen=True)
class Constant:
    """Somebody's own method."""

    u: float
    name: str = "constant"
    version: str = "7"

    @property
    def params(self):
        return {"u": self.u}

    def __call__(self, picture, other):
        flow = np.zeros((*picture.shape[:2], 2), np.float32)
        flow[..., 0] = self.u
        return flow


def test_another_method_can_be_plugged_in():
    frames = np.zeros((2, 20, 30, 3), np.uint8)
    pair = flow_pair(*frames, Constant(0.1))
    assert (pair.forward_px[..., 0] == np.float32(0.1)).all()
    assert pair.forward_valid.all()  # 0.1 there and 0.1 on: a gap of 0.2 px is within the floor
    assert not flow_pair(*frames, Constant(2.0)).forward_valid.any()


@pytest.mark.parametrize("shape", [(15, 40), (8, 8), (17, 300), (31, 125), (10, 67)])
def test_too_small_or_too_wide(shape):
    """OpenCV's DIS crashes the process on some of these."""
    picture = texture(*shape)
    with pytest.raises(UserError, match=f"{shape[0]} x {shape[1]} px pictures; allowed: at least 16 px") as error:
        DIS_MEDIUM(picture, picture)
    assert "\n" not in str(error.value)


def test_the_limit_is_where_opencv_starts_to_work():
    shapes = [(16, 16), (17, 39), (300, 16), (32, 159), (64, 319), (16, 79), (72, 180), (270, 480)]
    code = f"""
import numpy as np
from aign.data.stages.flow import DIS_FINE, DIS_MEDIUM, Dis
rough = Dis(finest_scale=2, patch_stride=4, search_iterations=12, refinement_iterations=0)
for shape in {shapes}:
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for method in (DIS_FINE, DIS_MEDIUM, rough):
        assert np.isfinite(method(picture, np.roll(picture, 1, 1))).all()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_a_process_saw_before_does_not_change_its_flow():
    """OpenCV lowers an object's finest scale for good when a small picture comes by."""
    method = Dis(finest_scale=2, patch_stride=6, search_iterations=4, refinement_iterations=0)
    texture = np.random.default_rng(0).integers(0, 255, (100, 100, 3)).astype(np.uint8)
    texture = np.asarray(cv2.GaussianBlur(texture, (0, 0), 2.0), np.uint8)
    large, small = (texture[:96, :96], texture[1:97, 2:98]), (texture[:48, :48], texture[1:49, 2:50])
    before = method(*map(np.ascontiguousarray, large))
    method(*map(np.ascontiguousarray, small))
    np.testing.assert_array_equal(method(*map(np.ascontiguousarray, large)), before)
