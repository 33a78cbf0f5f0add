"""Somebody else's detections in the tracker's form."""

import numpy as np

from aign.data.stages.detected import Detections
from aign.data.stages.given_people import GivenPeople, region_of
from aign.data.stages.linking import DetectedPerson
from aign.geometry.skeleton import COCO17

FRAMES = [np.zeros((40, 60, 3), np.uint8)] * 10


def standing() -> np.ndarray:
    """COCO joints of somebody upright, hips at (100, 200), shoulders 50 px above, ankles 90 px below."""
    points = np.zeros((17, 2), np.float32)
    points[:] = (100, 140)
    points[COCO17.index("l_hip", "r_hip")] = [(108, 200), (92, 200)]
    points[COCO17.index("l_shoulder", "r_shoulder")] = [(112, 150), (88, 150)]
    points[COCO17.index("l_ankle", "r_ankle")] = [(105, 290), (95, 290)]
    return points


def test_convention_the_region_is_upright_about_the_hips():
    region = region_of(standing(), np.ones(17), COCO17)
    np.testing.assert_allclose(region.centre_px, (100.5, 200.5))
    down = region.axes_px[:, 1]
    assert abs(down[0]) < 1e-9
    assert down[1] > 2 * 1.1 * 90, "the circle reaches beyond the feet, and y points down"


def test_lying_with_the_head_to_the_right_turns_the_region():
    x, y = (standing() - (100, 200)).T
    region = region_of(np.column_stack((100 - y, 200 + x)), np.ones(17), COCO17)
    assert region.axes_px[0, 1] < -100, "down in the crop is left in the picture"


def test_without_hips_there_is_no_region():
    conf = np.ones(17)
    conf[COCO17.index("l_hip")] = 0
    assert region_of(standing(), conf, COCO17) is None
    assert region_of(np.full((17, 2), 7.0), np.ones(17), COCO17) is None


def test_people_are_handed_out_by_blocks_in_working_pixels():
    person = DetectedPerson(first_frame=4, kp2d_px=np.tile(standing(), (12, 1, 1)), conf=np.ones((12, 17), np.float32))
    people = GivenPeople(Detections(skeleton=COCO17, people=(person,)), np.array([0.5, 0.5]), nets=None)
    assert people.track(FRAMES[:4], 0) == []
    (track,) = people.track(FRAMES, 0)
    assert (track.person, track.first_frame, track.num_frames) == (0, 4, 6)
    np.testing.assert_allclose(track.kp2d_px[0], (standing() + 0.5) * 0.5 - 0.5)
    (rest,) = people.track(FRAMES, 10)
    assert (rest.first_frame, rest.num_frames) == (10, 6)
    assert not track.masks.any(), "no net, no mask"
