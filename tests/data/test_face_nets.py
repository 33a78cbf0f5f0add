"""The face nets: anchors, and landmarks of rendered faces whose true ones are known."""

from dataclasses import replace

import numpy as np
import pytest

from aign.data import assets
from aign.data.stages import face_nets
from aign.data.stages.faces import aligned, find_face
from aign.data.synthetic.faces.people import draw_person, draw_sitting
from aign.data.synthetic.faces.render import render_face
from aign.framework.errors import UserError


def test_anchors():
    anchors = face_nets._anchors()
    assert anchors.shape == (896, 2)
    np.testing.assert_allclose(anchors[[0, 1, 2, 511, 512, 517, 895]] * 128, [
        *[(4, 4), (4, 4), (12, 4), (124, 124)], *[(8, 8), (8, 8), (120, 120)]
    ])  # fmt: skip


def test_convention_a_point_of_the_crop_is_that_pixel_of_the_picture():
    """The net's crop coordinates are continuous; what comes back has (0, 0) at the centre of the top-left pixel."""
    nets = object.__new__(face_nets.FaceNets)

    def brightest(crop):
        mass = crop[..., 0].astype(np.float64)
        y, x = np.mgrid[:192, :192] + 0.5
        point = (x * mass).sum() / mass.sum(), (y * mass).sum() / mass.sum(), 0.0
        return [np.full((1, 1, 1, 1), 5.0, np.float32), np.tile(np.float32(point), 468).reshape(1, 1, 1, -1)]

    nets._landmark = brightest
    image = np.zeros((80, 90, 3), np.uint8)
    image[33, 41] = 255
    angle = np.radians(20)
    axes = 40 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = nets._mesh(image, np.array([45.0, 30.0]), axes)
    np.testing.assert_allclose(points, np.tile([41.0, 33.0], (468, 1)), atol=0.02)
    nets._landmark = lambda crop: [np.full((1, 1), -5.0, np.float32), np.zeros((1, 1404), np.float32)]
    assert nets._mesh(image, np.array([45.0, 30.0]), axes) is None


def pictures(count):
    for i in range(count):
        sitting = replace(draw_sitting(9, i, 0), light_degrees=(10.0, 20.0), ambient=0.6)
        yield render_face(draw_person(9, i), sitting, 256)


@pytest.fixture(scope="module")
def nets():
    try:
        assets.pull(["face"])
    except UserError as error:
        pytest.skip(f"no face nets: {error}")


@pytest.mark.network
def test_convention_landmarks_are_where_they_were_rendered(nets):
    errors, overlaps = [], []
    for face in pictures(6):
        found = find_face(face.rgb)
        errors.append(np.linalg.norm(found.landmarks_px - face.landmarks_px, axis=1))
        lips, true = found.parts(256, 256) == 1, face.parts == 1
        overlaps.append((lips & true).sum() / (lips | true).sum())
    # A tenth of the distance between the eyes is 6 px.
    assert np.mean(errors) < 6
    assert np.mean(overlaps) > 0.4


@pytest.mark.network
def test_a_picture_that_is_found_again_is_aligned_as_it_was_rendered(nets):
    face = next(iter(pictures(1)))
    wide = np.pad(face.rgb, ((90, 40), (30, 120), (0, 0)), mode="edge")
    patch, fit = aligned(wide, find_face(wide).landmarks_px, 128)
    true = fit(face.landmarks_px + np.array([30.0, 90.0]))
    assert np.linalg.norm(true[:2] - face.landmarks_px[:2] / 2, axis=1).max() < 4
    assert patch.shape == (128, 128, 3)


@pytest.mark.network
def test_no_face_is_a_clear_error(nets):
    with pytest.raises(UserError, match="no face found in a picture of 120 x 90 px"):
        find_face(np.full((90, 120, 3), 128, np.uint8))
