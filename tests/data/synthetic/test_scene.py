"""What is drawn: domains are kept to, cameras see the body, poses arrive in the camera."""

import numpy as np
import pytest
import torch

from aign.body.assets import load_body
from aign.body.skinning import joints_only, skin
from aign.data.motions import load_demo_motions
from aign.data.synthetic.backgrounds import INDOOR, OUTDOOR
from aign.data.synthetic.scene import SOURCE, TARGET, WIDE, ClipSize, Domain, draw_scene, pose_in_camera
from aign.data.synthetic.wardrobe import doll_coordinates, dress
from aign.framework.errors import UserError

SIZE = ClipSize(fps=30.0, frames=40, size_px=(256, 256))
BODY = load_body()


def scenes(domain, count=24, size=SIZE):
    motions = load_demo_motions()
    return [draw_scene(domain, motions[k % len(motions)], BODY, (3, k), size) for k in range(count)]


@pytest.mark.parametrize(("domain", "places"), [(SOURCE, INDOOR), (TARGET, OUTDOOR), (WIDE, INDOOR + OUTDOOR)])
def test_scenes_keep_to_their_domain(domain, places):
    for scene in scenes(domain):
        height = -(scene.rot_world_to_cam.T @ scene.trans_world_to_cam_m)[1]
        low, high = domain.camera_height_m
        assert low - 0.5 <= height <= high + 0.5
        assert domain.body_range[0] <= scene.betas.min() <= scene.betas.max() <= domain.body_range[1]
        assert scene.panorama in places
        assert 1 <= scene.frames <= SIZE.frames
        np.testing.assert_allclose(scene.rot_world_to_cam @ scene.rot_world_to_cam.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(scene.rot_world_to_cam) == pytest.approx(1)


def test_source_and_target_share_no_place_height_or_shape():
    assert SOURCE.camera_height_m[1] < TARGET.camera_height_m[0]
    assert SOURCE.body_range[1] <= TARGET.body_range[0]
    assert (SOURCE.lighting, SOURCE.texture, SOURCE.background) != (TARGET.lighting, TARGET.texture, TARGET.background)


def test_most_frames_show_the_whole_body_and_cameras_vary():
    whole, azimuths, shares = [], [], []
    for scene in scenes(WIDE, 40):
        pose = pose_in_camera(scene, BODY)
        betas = torch.from_numpy(scene.betas).float().expand(scene.frames, -1)
        points = skin(BODY, pose.rotmats, betas, pose.trans_m).vertices_m.numpy()
        assert points[..., 2].min() > 0.3
        px = points[..., :2] / points[..., 2:] * scene.lens.fx + [scene.lens.cx, scene.lens.cy]
        whole += ((px > -0.5) & (px < 255.5)).all((1, 2)).tolist()
        azimuths.append(np.arctan2(*scene.rot_world_to_cam[2, [0, 2]]))
        shares.append(np.ptp(px[..., 1], axis=1).mean() / 256)
    assert np.mean(whole) > 0.85
    assert np.histogram(azimuths, 4, (-np.pi, np.pi))[0].min() >= 3
    assert np.mean(shares) > 0.35


def test_convention_the_pose_in_the_camera_is_smpls():
    """Convention: vertices_cam = skin(pose, betas) + trans, equal to the world's body moved into the camera."""
    scene = scenes(WIDE, 3)[2]
    pose = pose_in_camera(scene, BODY)
    betas = torch.from_numpy(scene.betas).float().expand(scene.frames, -1)
    in_camera = joints_only(BODY, pose.rotmats, betas, pose.trans_m).numpy()
    rotmats = torch.from_numpy(scene.motion.rotmats)
    world = joints_only(BODY, rotmats, betas, torch.zeros(scene.frames, 3)).numpy()
    world = world - world[:, :1] + scene.motion.trans_m[:, None]
    expected = world @ scene.rot_world_to_cam.T + scene.trans_world_to_cam_m
    np.testing.assert_allclose(in_camera, expected, atol=2e-5)


def test_longer_legs_stand_on_the_floor():
    motion = next(m for m in load_demo_motions() if m.name == "walk")
    for low in (-2.0, 2.0):
        scene = draw_scene(Domain(body_range=(low, low)), motion, BODY, (1,), SIZE)
        betas = torch.from_numpy(scene.betas).float().expand(scene.frames, -1)
        rotmats, still = torch.from_numpy(scene.motion.rotmats), torch.zeros(scene.frames, 3)
        body = skin(BODY, rotmats, betas, still)
        heights = body.vertices_m[..., 1] - body.joints_m[:, :1, 1] + torch.from_numpy(scene.motion.trans_m)[:, 1:2]
        assert abs(float(heights.min(1).values.median())) < 0.06


@pytest.mark.parametrize("bad", [{"camera_height_m": (2.0, 1.0)}, {"body_range": (-9.0, 0.0)}])
def test_impossible_domains_are_refused(bad):
    with pytest.raises(UserError, match="allowed"):
        Domain(**bad)


def test_clothes_are_seeded_and_lie_where_they_should():
    normals = np.zeros((len(BODY.v_template_m), 3), np.float32)
    normals[:, 2] = 1
    doll = doll_coordinates(BODY.v_template_m.numpy(), normals)
    paint = dress(np.random.default_rng(5), "plain")
    assert paint.shape[1] > doll[:, 1].max() > doll[:, 1].min() > 0
    assert paint.shape[2] > doll[:, 0].max() > doll[:, 0].min() > 0
    assert (dress(np.random.default_rng(5), "plain") == paint).all()
    assert (dress(np.random.default_rng(6), "plain") != paint).any()
    assert 0 < paint.min() <= paint.max() <= 0.8

    def colour(x, y):
        column, row = int((x + 0.92) / 0.006), int((0.80 - y) / 0.006)
        return paint[0, row - 2 : row + 3, column - 2 : column + 3].mean((0, 1))

    forehead, belly, shin_left, shin_right = colour(0, 0.69), colour(0, 0.2), colour(0.12, -0.5), colour(-0.12, -0.5)
    assert np.abs(forehead - belly).max() > 0.03
    np.testing.assert_allclose(shin_left, shin_right, atol=0.12)


@pytest.mark.parametrize(("texture", "some"), [("plain", False), ("patterned", True)])
def test_texture_knob(texture, some):
    """Spread of colours on the belly, over many people: patterns have two, plain cloth one and its folds."""
    spreads = []
    for seed in range(12):
        belly = dress(np.random.default_rng(seed), texture)[0, 85:112, 125:180]
        spreads.append((belly.std((0, 1)) / belly.mean((0, 1))).max())
    assert (np.median(spreads) > 0.2) == some
