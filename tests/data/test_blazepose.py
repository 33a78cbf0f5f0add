import pickle

import numpy as np
import pytest

from aign.data import assets
from aign.data.stages import blazepose_nets, litert
from aign.data.stages.blazepose import BlazePose, PoseTrack, get_detector
from aign.data.stages.decode import read_frames
from aign.framework.errors import UserError


def test_anchors():
    anchors = blazepose_nets._anchors()
    assert anchors.shape == (2254, 2)
    assert np.allclose(anchors[:2], 0.5 / 28)  # two a cell
    assert np.allclose(anchors[2], (1.5 / 28, 0.5 / 28))  # x first, row by row
    assert np.allclose(anchors[2 * 28 * 28], 0.5 / 14)
    assert np.allclose(anchors[-1], 6.5 / 7)


def test_each_person_is_the_weighted_mean_of_its_cluster():
    anchors = np.full((5, 2), 0.5)
    boxes = np.zeros((5, 12), np.float32)
    boxes[:, 2:4] = 0.4
    boxes[1, 0] = 0.02
    boxes[2, :2] = 0.45  # elsewhere: another person
    boxes[3, 0] = 0.01  # near, but unlikely
    boxes[4, 1] = -0.45  # elsewhere too, and the least sure
    logits = np.array([2.0, 1.0, 1.5, -1.0, 0.5], np.float32)
    people = litert.suppressed(boxes, logits, anchors)
    score = 1 / (1 + np.exp(-logits))
    assert people[0][0] == pytest.approx(0.5 + 0.02 * score[1] / (score[0] + score[1]), abs=1e-6)
    assert people[0][1] == pytest.approx(0.5)
    assert [p[:2].round(3).tolist() for p in people[1:]] == [[0.95, 0.95], [0.5, 0.05]]
    assert litert.suppressed(boxes, np.full(5, -1.0, np.float32), anchors) == []


def test_convention_region():
    """Centre to rim points up in the crop; the side is 2.5 radii."""
    centre = np.array([100.0, 200.0])
    for rim, top_left in (((100.0, 160.0), (50.0, 150.0)), ((140.0, 200.0), (150.0, 150.0))):
        region = blazepose_nets.Region.around(centre, np.array(rim))
        assert region.side_px == pytest.approx(100.0)
        corners = region.to_image(np.array([[0.0, 0.0], [0.5, 0.5], [0.5, 0.1]]))
        assert np.allclose(corners, [top_left, centre, rim])
    # Lying with the head to the right: up in the crop is right in the image.
    assert np.allclose(region.rotate(np.array([[0.0, -1.0, 7.0]])), [[1.0, 0.0, 7.0]])
    assert blazepose_nets.Region.around(centre, centre) is None
    assert blazepose_nets.Region.around(centre, np.array([np.nan, 0.0])) is None


def test_refine_follows_a_sure_heatmap_nearby_only():
    heat = np.full((64, 64, 39), -20.0, np.float32)
    points = np.full((39, 2), 30.0 / 64)
    heat[31, 32, 0] = 8.0  # near
    heat[50, 50, 1] = 8.0  # too far
    heat[31, 32, 2] = -0.1  # unsure
    points[3] = (-0.5, 2.0)  # outside the crop
    refined = blazepose_nets._refine(points, heat)
    assert np.allclose(refined[0], (32 / 64, 31 / 64), atol=1e-4)
    assert (refined[1:] == points[1:]).all()


def test_missing_or_wrong_net(tmp_path):
    frame = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(UserError, match="aign assets pull"):
        BlazePose(tmp_path / "none.tflite", tmp_path / "none.tflite").track([frame])
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"no net at all" * 100)
    with pytest.raises(UserError, match="not a net that LiteRT can run"):
        BlazePose(bad, bad).track([frame])


@pytest.fixture(scope="module")
def tracker() -> BlazePose:
    assets.pull(["pose", "pose2sim"])
    return get_detector()


@pytest.fixture(scope="module")
def frames(tracker) -> list[np.ndarray]:
    return list(read_frames(assets.path("pose2sim_cam02"), 0, 10))


@pytest.fixture(scope="module")
def track(tracker, frames) -> PoseTrack:
    return tracker.track(iter(frames))


@pytest.mark.network
def test_real_person(track):
    assert track.found
    assert (track.flag > 0.9).all()
    assert ((track.kp2d_conf >= 0) & (track.kp2d_conf <= 1)).all()
    assert track.kp2d_conf[:, [11, 12, 23, 24]].min() > 0.9
    nose, left_shoulder, right_shoulder, ankle = (track.kp2d_px[:, j] for j in (0, 11, 12, 27))
    # He faces the camera of cam02: his left is on our right; measured by eye on the overlay.
    assert (left_shoulder[:, 0] > right_shoulder[:, 0] + 80).all()
    assert np.abs(nose - (595, 490)).max() < 90
    assert ((ankle[:, 1] > 950) & (ankle[:, 1] < 1150)).all()
    # Hip-centred metres with +y down.
    assert np.abs(track.kp3d_world_m[:, 23:25].mean(1)).max() < 0.05
    assert (track.kp3d_world_m[:, 0, 1] < -0.4).all()
    assert (track.kp3d_world_m[:, 27, 1] > 0.5).all()


@pytest.mark.network
def test_convention_pixels_of_the_whole_frame(tracker, frames, track):
    """Padding moves the landmarks by the padding; turning the picture turns them."""
    padded = [np.pad(f, ((0, 100), (240, 0), (0, 0))) for f in frames[:3]]
    moved = tracker.track(padded)
    body = slice(11, 29)
    assert np.abs(moved.kp2d_px - track.kp2d_px[:3] - (240, 0))[:, body].mean() < 8
    turned = tracker.track([np.ascontiguousarray(np.rot90(f)) for f in frames[:3]])
    x, y = turned.kp2d_px[..., 0], turned.kp2d_px[..., 1]
    back = np.stack((frames[0].shape[1] - 1 - y, x), axis=-1)
    assert np.abs(back - track.kp2d_px[:3])[:, body].mean() < 12
    world = turned.kp3d_world_m
    upright = np.stack((-world[..., 1], world[..., 0], world[..., 2]), axis=-1)
    assert np.abs(upright - track.kp3d_world_m[:3])[:, body].mean() < 0.05


@pytest.mark.network
def test_nobody(tracker, frames, track):
    """Frames without a person are marked, and the person is found again afterwards."""
    black = np.zeros_like(frames[0])
    lost = tracker.track([frames[0], black, black, frames[1]])
    assert lost.found
    for i in (1, 2):
        assert lost.flag[i] < 0.5
        assert (lost.kp2d_conf[i] == 0).all()
        assert (lost.kp2d_px[i] == 0).all()
        assert (lost.kp3d_world_m[i] == 0).all()
    assert np.abs(lost.kp2d_px[3] - track.kp2d_px[1])[11:29].mean() < 12
    never = tracker.track([black] * 2)
    assert not never.found
    assert never.kp2d_px.shape == (2, 33, 2)
    empty = tracker.track([])
    assert not empty.found
    assert empty.kp2d_px.shape == (0, 33, 2)


@pytest.mark.network
def test_pickles_without_its_nets_and_loads_them_once(tracker, frames, track):
    content = pickle.dumps(tracker)
    assert len(content) < 1000
    before = blazepose_nets.load_nets.cache_info().currsize
    again = pickle.loads(content).track(frames[:2])
    assert blazepose_nets.load_nets.cache_info().currsize == before
    assert (again.kp2d_px == track.kp2d_px[:2]).all()
