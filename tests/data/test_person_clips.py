"""Who is the main person, what is too short for a clip, and pictures in the clips' own order."""

from dataclasses import replace

import numpy as np
import pytest

from aign.data.datasets.video.person_clips import (
    PersonClip,
    cropped,
    cut_by_travel,
    doubtful,
    hard_masks,
    main_first,
    of_track,
)
from aign.data.stages.crops import rescale_points
from aign.data.stages.people import PersonTrack

SCALE = np.array([0.5, 0.5])
SHAPE = np.random.default_rng(0).uniform(-1, 1, (33, 2))


def clip(person, first, frames, size_px=100.0, centre=(300.0, 300.0), speed_px=0.0):
    middle = np.array(centre) + np.arange(frames)[:, None] * np.array([speed_px, 0.0])
    points = middle[:, None] + SHAPE * size_px / 2
    return PersonClip(
        person=person,
        first_frame=first,
        kp2d_px=points.astype(np.float32),
        kp2d_conf=np.ones((frames, 33), np.float32),
        net_masks=None,
    )


def spans(groups):
    return [[(c.person, c.frames.start, c.frames.stop) for c in group] for group in groups]


def test_the_main_person_is_seen_longest_and_largest():
    groups = main_first([clip(0, 0, 40, size_px=50), clip(1, 5, 30, size_px=200), clip(2, 0, 20, size_px=60)])
    assert spans(groups) == [[(1, 5, 35)], [(0, 0, 40)], [(2, 0, 20)]]


def test_somebody_who_comes_back_under_another_id_is_still_the_main_person():
    groups = main_first([clip(7, 60, 40), clip(3, 0, 50), clip(4, 20, 60, size_px=30)])
    assert spans(groups) == [[(3, 0, 50), (7, 60, 100)], [(4, 20, 80)]]


def test_who_travels_is_cut_into_clips_and_the_rest_is_told():
    clips, left_out = cut_by_travel(clip(5, 100, 120, speed_px=6.0), SCALE)
    assert {len(c.frames) for c in clips} == {16}, "too fast for the usual square, so as short as clips may be"
    assert left_out == ["person 5, frames 100 to 107: 8 frames; 16 needed"]
    assert sorted(f for c in clips for f in c.frames) == list(range(108, 220))
    still, none = cut_by_travel(clip(5, 100, 120), SCALE)
    assert ([c.frames for c in still], none) == ([range(100, 220)], [])
    short, told = cut_by_travel(clip(5, 8, 9), SCALE)
    assert (short, told) == ([], ["person 5, frames 8 to 16: 9 frames; 16 needed"])


def test_frames_in_which_nobody_was_found_do_not_begin_or_end_a_clip():
    lost = clip(0, 0, 40)
    lost.kp2d_conf[:3] = 0
    lost.kp2d_conf[20] = 0
    lost.kp2d_conf[38:] = 0
    ((part,), _) = cut_by_travel(lost, SCALE)
    assert part.frames == range(3, 38)


def test_convention_a_track_in_working_pixels_becomes_a_clip_in_those_of_the_video():
    points = clip(0, 0, 20).kp2d_px
    work = rescale_points(points, SCALE).astype(np.float32)
    conf = np.ones((20, 33), np.float32)
    conf[4] = 0
    work[4] = 0
    track = PersonTrack(
        person=2, first_frame=7, kp2d_px=work, conf=conf, flag=conf[:, 0],
        masks=np.zeros((20, 256, 256), np.uint8), mask_to_frame=np.tile(np.eye(2, 3), (20, 1, 1)),
    )  # fmt: skip
    made = of_track(track, SCALE)
    assert (made.person, made.frames) == (2, range(7, 27))
    assert made.belief == 1.0, "of the frames that show the person"
    seen = conf[:, 0] > 0
    np.testing.assert_allclose(made.kp2d_px[seen], points[seen], atol=1e-3)
    assert (made.kp2d_px[4] == 0).all(), "where nobody was found nothing is claimed"


def test_who_is_hardly_a_person_is_left_out_beside_others_who_are():
    sure, ghost = replace(clip(0, 0, 20), belief=0.97), replace(clip(3, 30, 47), belief=0.86)
    assert doubtful([sure, ghost]) == {
        1: "person 3, frames 30 to 76: hardly a person, flag 0.86 where others have 0.9 and more"
    }
    assert doubtful([ghost, ghost]) == {}, "nobody is surer: these may be people in a poor picture"
    assert doubtful([sure, clip(1, 0, 20)]) == {}, "somebody else's detections are believed"
    assert doubtful([]) == {}


@pytest.mark.parametrize("side", [32, 48])
def test_pictures_go_to_their_own_clip_as_soon_as_it_is_whole(side):
    first, second = clip(0, 10, 20), clip(1, 14, 18, centre=(500.0, 260.0))
    frames = [np.full((300, 400, 3), number, np.uint8) for number in range(10, 40)]
    made = list(cropped(frames, 10, [first, second], SCALE, side))
    assert [index for index, _ in made] == [0, 1]
    for (_, rgb), its in zip(made, (first, second), strict=True):
        assert rgb.shape == (len(its.frames), side, side, 3)
        assert rgb[:, side // 2, side // 2, 0].tolist() == list(its.frames)


def test_without_the_net_the_mask_is_empty():
    assert not hard_masks(clip(0, 0, 20), SCALE, 32).any()
