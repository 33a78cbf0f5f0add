"""Rendered clips: every label is what the geometry says, and pictures show what labels say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aign.body.assets import load_body
from aign.body.skinning import skin
from aign.data.motions import load_demo_motions
from aign.data.synthetic.factory import RenderedClip, default_surface, render_clip
from aign.data.synthetic.scene import WIDE, ClipSize, Scene, draw_scene
from aign.geometry.rotation import from_axis_angle
from aign.render.raster import project_vertices, rasterise, surface_flow, surface_points

SIZE = ClipSize(fps=30.0, frames=6, size_px=(160, 120))


@pytest.fixture(scope="module")
def scene() -> Scene:
    motion = next(m for m in load_demo_motions() if m.name == "kick")
    return draw_scene(WIDE, motion, load_body(), (4,), SIZE)


@pytest.fixture(scope="module")
def clip(scene, panoramas) -> RenderedClip:
    return render_clip(scene)


def test_labels_are_the_rasterisers(scene, clip):
    surface = default_surface()
    for t in (0, 3, 5):
        projected = project_vertices(clip.vertices_cam_m[t], scene.lens)
        raster = rasterise(projected, surface.faces, scene.lens)
        hit = raster.face_id >= 0
        assert 300 < hit.sum() < hit.size
        assert (clip.mask[t] == hit).all()
        assert (clip.parts[t] == np.where(hit, surface.face_part[raster.face_id], 0)).all()
        _, depth = surface_points(raster, projected, surface.faces)
        np.testing.assert_allclose(clip.depth_m[t], depth, atol=1e-5)
        for flow, other in ((clip.flow_px[t], min(t + 1, 5)), (clip.flow_back_px[t], max(t - 1, 0))):
            wanted = surface_flow(raster, projected, surface.faces, clip.vertices_cam_m[other], scene.lens)
            np.testing.assert_allclose(flow, wanted, atol=1e-3)
    assert np.abs(clip.flow_px[:-1]).max() > 0.5
    assert np.abs(clip.flow_px[-1]).max() < 1e-3
    assert np.abs(clip.flow_back_px[0]).max() < 1e-3


def test_the_body_row_gives_back_the_vertices(scene, clip):
    rotmats = from_axis_angle(torch.from_numpy(clip.pose_rad))
    betas = torch.from_numpy(clip.betas).expand(scene.frames, -1)
    body = skin(load_body(), rotmats, betas, torch.from_numpy(clip.trans_m))
    np.testing.assert_allclose(body.vertices_m.numpy(), clip.vertices_cam_m, atol=1e-4)
    np.testing.assert_allclose(body.joints_m.numpy(), clip.joints_cam_m, atol=1e-4)
    lens = scene.lens
    px = clip.joints_cam_m[..., :2] / clip.joints_cam_m[..., 2:] * [lens.fx, lens.fy] + [lens.cx, lens.cy]
    np.testing.assert_allclose(clip.joints_px, px, atol=1e-3)


def test_parts_lie_where_their_joints_are(clip):
    """The middle of a forearm's visible pixels is near the forearm: left stays left."""
    for part, ends in ((19, (18, 20)), (20, (19, 21)), (5, (4, 7)), (6, (5, 8))):
        pixels = np.argwhere(clip.parts[2] == part)[:, ::-1]
        if len(pixels) > 15:
            middle = clip.joints_px[2, list(ends)].mean(0)
            length = np.linalg.norm(np.ptp(clip.joints_px[2, list(ends)], axis=0))
            assert np.linalg.norm(pixels.mean(0) - middle) < max(0.6 * length, 4)
    assert len(np.unique(clip.parts)) > 15


def test_visible_vertices_are_on_the_mask(scene, clip):
    for t in range(scene.frames):
        projected = project_vertices(clip.vertices_cam_m[t], scene.lens)
        seen = np.rint(projected.points_px[clip.visible[t]]).astype(int)
        inside = (seen >= 0).all(1) & (seen < [scene.lens.width, scene.lens.height]).all(1)
        near = clip.mask[t] | np.roll(clip.mask[t], 1, 0) | np.roll(clip.mask[t], -1, 0)
        near |= np.roll(near, 1, 1) | np.roll(near, -1, 1)
        assert near[seen[inside][:, 1], seen[inside][:, 0]].mean() > 0.99
        assert 0.2 < clip.visible[t].mean() < 0.6


def test_same_seed_same_bytes_whatever_the_threads(scene, clip):
    torch.set_num_threads(2)
    again = render_clip(scene)
    assert (again.rgb == clip.rgb).all()
    assert again.flow_px.tobytes() == clip.flow_px.tobytes()
    assert again.depth_m.tobytes() == clip.depth_m.tobytes()
    other = render_clip(replace(scene, seed=(5,)))
    assert (other.rgb != clip.rgb).any()
    assert (other.mask == clip.mask).all()


def test_pictures_show_what_the_masks_say(scene, clip):
    """Without noise the background away from the body never changes, and rims lie between body and background."""
    quiet = render_clip(replace(scene, noise=0.0))
    near = np.zeros_like(clip.mask[0])
    near[2:-2, 2:-2] = True
    body = clip.mask.any(0)
    for axis in (0, 1):
        for shift in range(-12, 13):
            body |= np.roll(body, shift, axis)
    still = ~body & near
    if still.any():
        assert np.ptp(quiet.rgb[:, still].astype(int), axis=0).max() <= 12  # the shadow's rim
    assert (quiet.rgb[2][clip.mask[2]].std(0) > 3).any()


def test_rims_are_mixed_from_body_and_background(scene, panoramas):
    """Rims look like those of a picture rendered twice as fine and shrunk: no jagged edges."""
    quiet = replace(scene, noise=0.0, motion=replace(scene.motion, rotmats=scene.motion.rotmats[:1],
                                                      trans_m=scene.motion.trans_m[:1]))  # fmt: skip
    coarse = render_clip(quiet)
    fine = render_clip(replace(quiet, lens=scene.lens.finer(2)))
    # Pixel (x, y) of the coarse picture is sample (2x, 2y): weigh the samples round it 1 2 1.
    padded = np.pad(fine.rgb[0].astype(float), ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    shrunk = ((rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 16)[::2, ::2]
    mask = coarse.mask[0]
    rim = mask ^ (np.roll(mask, 1, 0) & np.roll(mask, -1, 0) & np.roll(mask, 1, 1) & np.roll(mask, -1, 1) & mask)
    error = np.abs(coarse.rgb[0] - shrunk).mean(-1)[rim].mean()
    harder = np.abs(fine.rgb[0, ::2, ::2] - shrunk).mean(-1)[rim].mean()  # smoothed over half as far
    assert error < 0.8 * harder


def test_a_clip_of_one_frame(scene, panoramas):
    motion = replace(scene.motion, rotmats=scene.motion.rotmats[:1], trans_m=scene.motion.trans_m[:1])
    clip = render_clip(replace(scene, motion=motion))
    assert clip.rgb.shape == (1, 120, 160, 3)
