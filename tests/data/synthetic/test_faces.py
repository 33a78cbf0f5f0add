"""Rendered faces: the head, the people, one picture and what is true of it."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from aign.data.face_frame import canonical_px, part_boxes
from aign.data.synthetic.faces.head import EYES, SKIN, load_head
from aign.data.synthetic.faces.people import draw_person, draw_sitting
from aign.data.synthetic.faces.render import render_face

SIDE = 64


@pytest.fixture(scope="module")
def straight():
    """Somebody who looks into the camera and does nothing."""
    return replace(draw_sitting(0, 0, 0), yaw=0.0, pitch=0.0, roll=0.0, smiling=False, expression={})


@pytest.fixture(scope="module")
def faces():
    return [render_face(draw_person(5, i), draw_sitting(5, i, 0), SIDE) for i in range(12)]


def woman(**shape):
    person = next(p for i in range(50) if not (p := draw_person(1, i)).male)
    person = replace(person, hair=replace(person.hair, fringe=0.0), beard=0.0)
    plain = {name: weight for name, weight in person.shape.items() if not name.startswith(("lips", "nose", "mouth"))}
    return replace(person, shape=plain | shape)


def test_the_head_is_sound():
    head = load_head()
    assert head.faces.min() >= 0
    assert head.faces.max() < len(head.template_m)
    assert np.isfinite(head.offsets_m).all()
    assert len(set(head.names)) == len(head.names)
    for mask in (head.lips, head.nose, head.ears, head.mouth):
        on = head.template_m[mask >= 0.5]
        assert len(on) > 100
        assert on[:, 0].min() == pytest.approx(-on[:, 0].max(), abs=0.002), "both sides of the face"


def test_convention_the_head_is_in_metres_y_up_and_looks_along_z():
    head = load_head()
    eyes = head.template_m[np.unique(head.faces[head.material == EYES])]
    lips, nose = head.template_m[head.lips >= 0.5], head.template_m[head.nose >= 0.5]
    assert eyes[:, 1].min() > nose[:, 1].mean() > lips[:, 1].max()
    assert nose[:, 2].max() > eyes[:, 2].max() > 0.1
    skull = head.template_m[np.unique(head.faces[head.material == SKIN])]
    assert 0.12 < np.ptp(skull[skull[:, 1] > 0.69, 0]) < 0.2


def test_a_target_adds_its_offsets_and_an_unknown_one_is_a_bug():
    head = load_head()
    one = head.shaped({"smile": 0.5}) - head.template_m
    np.testing.assert_allclose(head.shaped({"smile": 1.0}) - head.template_m, 2 * one, atol=1e-6)
    with pytest.raises(ValueError, match="not in tuple"):
        head.shaped({"grin": 1.0})


def test_the_same_numbers_are_the_same_bytes_and_others_are_not(faces):
    again = render_face(draw_person(5, 3), draw_sitting(5, 3, 0), SIDE)
    assert (again.rgb == faces[3].rgb).all()
    assert (again.parts == faces[3].parts).all()
    assert (again.landmarks_px == faces[3].landmarks_px).all()
    assert draw_person(5, 3) == draw_person(5, 3) != draw_person(6, 3)
    assert len({face.rgb.tobytes() for face in faces}) == len(faces)


def test_eyes_and_mouth_lie_where_the_canonical_frame_has_them(faces):
    marks = np.stack([face.landmarks_px for face in faces])
    away = np.linalg.norm(marks - canonical_px(SIDE), axis=-1)
    assert away[:, :2].max() < 0.05 * SIDE, "eyes"
    assert away[:, 3:].max() < 0.08 * SIDE, "mouth"
    assert (marks[:, 0, 0] < marks[:, 1, 0]).all(), "the picture's left eye comes first"


def test_masks_agree_with_boxes_and_landmarks(faces):
    for face in faces:
        boxes, valid = part_boxes(face.parts)
        assert (boxes == face.boxes_px).all()
        assert (valid == face.boxes_valid).all()
        assert face.lip_area == pytest.approx((face.parts == 1).mean(), abs=0.006)
        for part, (box, there) in enumerate(zip(face.boxes_px, face.boxes_valid, strict=True), 1):
            if there:
                y, x = np.nonzero(face.parts == part)
                assert (x.min() - 0.5, y.min() - 0.5, x.max() + 0.5, y.max() + 0.5) == tuple(box)
        (left, top, right, bottom), corners = face.boxes_px[0], face.landmarks_px[3:]
        assert (corners >= np.array([left, top]) - 2).all()
        assert (corners <= np.array([right, bottom]) + 2).all()
        assert face.boxes_px[0, 1] > face.boxes_px[2, 3] - 1, "the mouth is below the eyes"


def test_parts_are_painted_where_they_are(straight):
    """Lips of another colour change lips, and only what lies beside them."""
    person = woman()
    green = replace(person, colours=person.colours | {"lips": (0.0, 0.9, 0.0)})
    before, after = (render_face(p, straight, SIDE) for p in (person, green))
    moved = np.abs(before.rgb.astype(int) - after.rgb).max(-1) > 12
    lips = before.parts == 1
    assert (before.parts == after.parts).all()
    assert moved[lips].mean() > 0.9
    y, x = np.nonzero(moved)
    box = before.boxes_px[0]
    assert box[0] - 2 < x.min()
    assert x.max() < box[2] + 2
    assert box[1] - 2 < y.min()
    assert y.max() < box[3] + 2


def test_fuller_lips_and_a_larger_nose_cover_more_pixels(straight):
    lips = [render_face(woman(lips_thin=1.0), straight, SIDE).lip_area]
    lips += [render_face(woman(lips=w), straight, SIDE).lip_area for w in (0.0, 0.5, 1.0)]
    assert all(b > 1.04 * a for a, b in itertools.pairwise(lips)), lips
    noses = [(render_face(woman(nose=w), straight, 128).parts == 2).sum() for w in (0.0, 0.4, 0.8)]
    assert noses[0] < noses[1] < noses[2]


def test_what_is_true_of_a_person_is_seen(straight):
    """Sex, age and smiling change the picture, and light comes from where it is said to come from."""
    person = woman()
    old = replace(person, age=80.0, grey=1.0, colours=person.colours | {"hair": (0.8, 0.8, 0.8)})
    plain, aged = (render_face(p, straight, SIDE).rgb.astype(int) for p in (person, old))
    assert np.abs(plain - aged).mean() > 2
    smiling = render_face(person, replace(straight, smiling=True, expression={"smile": 1.0}), SIDE)
    still = render_face(person, straight, SIDE)
    assert smiling.boxes_px[0, 2] - smiling.boxes_px[0, 0] > still.boxes_px[0, 2] - still.boxes_px[0, 0]
    lit = [render_face(person, replace(straight, light_degrees=(d, 10.0)), SIDE).rgb for d in (-60.0, 60.0)]
    halves = [(rgb[20:50, 18:32].mean(), rgb[20:50, 32:46].mean()) for rgb in lit]
    assert halves[0][0] > halves[0][1]
    assert halves[1][0] < halves[1][1]


def test_a_head_that_turns_to_the_pictures_right_shows_its_nose_there(straight):
    tips = [render_face(woman(), replace(straight, yaw=yaw), SIDE).landmarks_px[2, 0] for yaw in (-20.0, 0.0, 20.0)]
    assert tips[0] < tips[1] - 1 < tips[1] + 1 < tips[2]


def test_traits_are_drawn_independently():
    people = [draw_person(2, i) for i in range(400)]
    columns = np.array([[p.male, p.age, p.lips, p.nose, *p.origin[:2]] for p in people], float)
    sittings = [draw_sitting(2, i, 0) for i in range(400)]
    columns = np.column_stack((columns, [[s.smiling, s.yaw, s.light_degrees[0]] for s in sittings]))
    correlation = np.corrcoef(columns.T)
    correlation[4:6, 4:6] = 0  # shares that sum to one
    np.fill_diagonal(correlation, 0)
    assert np.abs(correlation).max() < 0.2
    assert 0.42 < columns[:, 0].mean() < 0.58
    grey = np.array([p.grey for p in people])
    assert grey[columns[:, 1] > 65].mean() > 0.6
    assert grey[columns[:, 1] < 35].mean() < 0.1
    assert not any(p.beard for p in people if not p.male)
