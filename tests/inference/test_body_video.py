"""Bodies drawn over pictures, and saved."""

import numpy as np
import pytest

from aign.body.assets import load_body
from aign.evaluation.body_view import load_body_view
from aign.geometry.skeleton import SMPL24
from aign.inference.body_predictor import FrameBodies
from aign.inference.body_video import VideoPlace, draw_surface, drawn, file_name, save_bodies, surfaces
from tests.pipelines.samples import leftovers

BODY = load_body()


@pytest.fixture(scope="module")
def view(people_store):
    return load_body_view(people_store, None)


def true_bodies(view, frames: slice) -> FrameBodies:
    truth = view.truth.part(frames)
    pelvis = truth.pelvis_cam_m.numpy()
    return FrameBodies(
        rotmats=truth.rotmats.numpy().copy(), betas=truth.betas.numpy().copy(), pelvis_cam_m=pelvis.copy(),
        joints_cam_m=np.repeat(pelvis[:, None], 24, 1),
    )  # fmt: skip


def test_the_true_body_covers_the_mask(view):
    bodies = true_bodies(view, slice(0, 40))
    faces = BODY.faces.numpy().astype(np.int32)
    overlaps = []
    for i, vertices in enumerate(surfaces(bodies, BODY)):
        grey = np.full((*view.evidence.mask.shape[1:], 3), 1, np.uint8)
        painted = (draw_surface(grey, vertices, faces, view.evidence.intrinsics_px[i].numpy()) != 1).all(-1)
        mask = view.evidence.mask[i].numpy()
        overlaps.append((painted & mask).sum() / max((painted | mask).sum(), 1))
    assert np.median(overlaps) > 0.9
    assert np.min(overlaps) > 0.6


def test_convention_what_faces_the_camera_is_brighter_than_the_rim(view):
    bodies = true_bodies(view, slice(0, 1))
    (vertices,) = surfaces(bodies, BODY)
    lens = view.evidence.intrinsics_px[0].numpy()
    black = np.zeros((*view.evidence.mask.shape[1:], 3), np.uint8)
    out = draw_surface(black, vertices, BODY.faces.numpy().astype(np.int32), lens)
    lit = out[(out > 0).all(-1)].astype(float).mean(-1)
    assert lit.max() > 1.3 * lit.min()
    assert not black.any(), "a copy"


def test_a_frame_without_a_body_is_shown_as_it_is(view):
    bodies = true_bodies(view, slice(0, 2))
    bodies.rotmats[1], bodies.betas[1], bodies.pelvis_cam_m[1] = np.nan, np.nan, np.nan
    frames = list(view.clips[0].columns["image_rgb"][:2, 0].numpy())
    people = ((vertices,) for vertices in surfaces(bodies, BODY))
    first, second = drawn(frames, people, BODY, view.evidence.intrinsics_px[0].numpy())
    assert (first != frames[0]).any()
    assert (second == frames[1]).all()


def test_who_is_nearer_hides_who_is_behind(view):
    (vertices,) = surfaces(true_bodies(view, slice(0, 1)), BODY)
    lens = view.evidence.intrinsics_px[0].numpy()
    grey = np.full((*view.evidence.mask.shape[1:], 3), 1, np.uint8)
    behind = vertices * np.float32(1.5)  # on the same rays
    alone = next(drawn([grey], [(vertices,)], BODY, lens))
    for people, colour in (((vertices, behind), alone), ((behind, vertices), None)):
        both = next(drawn([grey], [people], BODY, lens))
        painted = (alone != 1).any(-1)
        assert (both[painted] == alone[painted]).all() == (colour is not None)
        first = both[painted].astype(float).mean(0)
        assert (first[2] > first[0]) == (colour is not None), "blue is the first person, orange the second"


def test_saved_bodies_are_plain_arrays(view, tmp_path):
    bodies = true_bodies(view, slice(0, 3))
    place = VideoPlace(frame=np.arange(5, 8), fps=25.0, intrinsics_px=np.float32((100, 100, 32, 32)))
    save_bodies(tmp_path / "bodies.npz", bodies, BODY, place, ("CC0", "MIT"))
    with np.load(tmp_path / "bodies.npz", allow_pickle=False) as content:
        for name, value in vars(bodies).items():
            np.testing.assert_array_equal(content[name], value)
        assert content["frame"].tolist() == [5, 6, 7]
        assert (float(content["fps"]), str(content["body"])) == (25.0, "default_body")
        assert tuple(content["joint_names"]) == SMPL24.joints
        assert tuple(content["parents"]) == SMPL24.parents
        assert content["licences"].tolist() == ["CC0", "MIT"]
    assert not leftovers(tmp_path)


def test_file_names_are_safe():
    assert file_name("S1/Walking 1@../x") == "S1_Walking_1_.._x"
