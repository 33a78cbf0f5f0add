"""The rasteriser and the visibility test against rays: every face tried for every ray in float64, and embree."""

import numpy as np
import pytest
import torch

from aign.body.assets import load_body
from aign.body.skinning import skin
from aign.data.motions import load_demo_motions
from aign.framework.errors import UserError
from aign.render.raster import NEAR_M, Lens, project_vertices, rasterise, surface_flow, surface_points
from aign.render.visibility import visible_vertices

LENS = Lens(fx=110.0, fy=108.0, cx=46.3, cy=49.1, width=96, height=100)


def _body(frame: int, motion: str = "dance_b") -> np.ndarray:
    clip = next(m for m in load_demo_motions() if m.name == motion)
    part = slice(frame, frame + 1)
    rotmats, trans = torch.tensor(clip.rotmats[part]), torch.tensor(clip.trans_m[part])
    vertices = skin(load_body(), rotmats, torch.full((1, 10), 0.5), trans).vertices_m[0]
    return (vertices * torch.tensor([1.0, -1.0, -1.0]) + torch.tensor([0.35, 0.9, 2.6])).contiguous().numpy()


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return load_body().faces.numpy().astype(np.int32)


def _rays(pixels: np.ndarray, lens: Lens) -> np.ndarray:
    """Directions with z = 1 through pixels [n, 2], float64."""
    return np.column_stack(
        ((pixels[:, 0] - lens.cx) / lens.fx, (pixels[:, 1] - lens.cy) / lens.fy, np.ones(len(pixels)))
    )


def _cast(rays: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First face (-1: none) and depth along z = 1 rays from the origin, by trying every face, in float64."""
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    sides = [np.cross(p, q) for p, q in ((b, c), (c, a), (a, b))]
    volume = np.einsum("fi,fi->f", a, np.cross(b, c))
    first, depth = np.full(len(rays), -1), np.full(len(rays), np.inf)
    for start in range(0, len(rays), 512):
        part = slice(start, start + 512)
        signs = [rays[part] @ side.T for side in sides]
        hit = np.all([s <= 0 for s in signs], axis=0) | np.all([s >= 0 for s in signs], axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(hit, volume / np.sum(signs, axis=0), np.inf)
        t[t <= 0] = np.inf
        first[part], depth[part] = t.argmin(1), t.min(1)
    return np.where(np.isfinite(depth), first, -1), depth


def _grid(lens: Lens) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(lens.width), np.arange(lens.height)), -1).reshape(-1, 2)


@pytest.mark.parametrize("frame", [0, 60])
def test_every_pixel_is_what_its_ray_hits(faces, frame):
    vertices, moved = _body(frame), _body(frame + 1)
    projected = project_vertices(vertices, LENS)
    raster = rasterise(projected, faces, LENS)
    pixels = _grid(LENS)
    first, depth = _cast(_rays(pixels, LENS), vertices, faces)
    hit = first >= 0
    assert 500 < hit.sum() < len(first), "the body fills a part of the picture"
    assert (raster.face_id.ravel() == first).all()
    assert raster.faces_near == 0

    bary, z = surface_points(raster, projected, faces)
    assert np.abs(z.ravel()[hit] - depth[hit]).max() < 1e-5
    assert (z.ravel()[~hit] == 0).all()
    assert np.abs(1 / raster.inverse_m.ravel()[hit] - depth[hit]).max() < 1e-5

    # The flow: find the hit point's place on its face in space, carry it over to the moved face, project.
    corners = vertices[faces[first[hit]]].astype(np.float64)
    points = _rays(pixels[hit], LENS) * depth[hit, None]
    weights = np.linalg.solve(corners.transpose(0, 2, 1), points[..., None])[..., 0]
    assert np.abs(bary.reshape(-1, 3)[hit] - weights).max() < 1e-5
    there = np.einsum("ni,nij->nj", weights, moved[faces[first[hit]]].astype(np.float64))
    target = there[:, :2] / there[:, 2:] * [LENS.fx, LENS.fy] + [LENS.cx, LENS.cy]
    flow = surface_flow(raster, projected, faces, moved, LENS).reshape(-1, 2)
    assert np.abs(flow[hit] - (target - pixels[hit])).max() < 1e-3
    assert np.abs(flow[hit]).max() > 0.1
    assert (flow[~hit] == 0).all()


@pytest.mark.parametrize("frame", [0, 60])
def test_visible_vertices_against_every_face(faces, frame):
    vertices = _body(frame)
    seen = visible_vertices(project_vertices(vertices, LENS), faces, LENS)
    some = np.arange(0, len(vertices), 9)
    exact = vertices[some].astype(np.float64)
    # The part of each face that ends before the vertex: strictly nearer, and not one of the vertex's own faces.
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    volume = np.einsum("fi,fi->f", a, np.cross(b, c))
    signs = [exact @ np.cross(p, q).T for p, q in ((b, c), (c, a), (a, b))]
    inside = np.all([s <= 0 for s in signs], axis=0) | np.all([s >= 0 for s in signs], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = volume / np.sum(signs, axis=0)
    own = (faces[None] == some[:, None, None]).any(-1)
    hidden = (inside & (share > 0) & (share < 1 - 1e-7) & ~own).any(1)
    front = np.zeros(len(vertices), bool)
    front[faces[volume < 0]] = True
    wanted = front[some] & ~hidden
    assert 0.3 < wanted.mean() < 0.7
    assert (seen[some] != wanted).mean() < 1e-3


def test_visible_vertices_against_embree(faces):
    import trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    vertices = _body(60)
    caster = RayMeshIntersector(trimesh.Trimesh(vertices, faces, process=False))
    seen = visible_vertices(project_vertices(vertices, LENS), faces, LENS)
    rays = vertices.astype(np.float64)
    first = caster.intersects_first(np.zeros_like(rays), rays)
    hit = faces[first]
    a, b, c = (rays[hit[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    share = np.einsum("vi,vi->v", normal, a) / np.einsum("vi,vi->v", normal, rays)
    # -1: the ray slipped past the rim, on which the vertex lies.
    hidden = (first >= 0) & (share < 1 - 1e-5) & (hit != np.arange(len(rays))[:, None]).all(1)
    corners = rays[faces]
    facing = np.einsum(
        "fi,fi->f", np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), corners[:, 0]
    )
    front = np.zeros(len(rays), bool)
    front[faces[facing < 0]] = True
    assert (seen == (front & ~hidden)).mean() >= 0.999


def _tetrahedron(z: float) -> tuple[np.ndarray, np.ndarray]:
    """One face across the view at depth z, its apex behind it."""
    vertices = np.array([[-0.1, -0.1, z], [0.1, -0.1, z], [-0.1, 0.1, z], [0.0, 0.0, z + 0.1]], np.float32)
    return vertices, np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]], np.int32)


def test_convention_pixel_centres_are_whole_numbers_and_y_points_down():
    lens = Lens(fx=10.0, fy=10.0, cx=3.0, cy=2.0, width=7, height=5)
    vertices, faces = _tetrahedron(1.0)
    raster = rasterise(project_vertices(vertices, lens), faces, lens)
    # The face spans pixels (2, 1) to (4, 1) and (2, 3): its corners lie exactly on pixel centres.
    drawn = np.argwhere(raster.face_id == 0).tolist()
    assert drawn == [[1, 2], [1, 3], [1, 4], [2, 2], [2, 3], [3, 2]]
    moved = vertices + np.array([0.1, 0.05, 0.0], np.float32)
    flow = surface_flow(raster, project_vertices(vertices, lens), faces, moved, lens)
    np.testing.assert_allclose(flow[1, 2], [1.0, 0.5], atol=1e-5)


def test_faces_too_near_are_left_out_and_counted():
    lens = Lens(fx=10.0, fy=10.0, cx=3.0, cy=2.0, width=7, height=5)
    vertices, faces = _tetrahedron(1.0)
    vertices[0, 2] = NEAR_M / 2
    raster = rasterise(project_vertices(vertices, lens), faces, lens)
    assert raster.faces_near == 3
    assert not (raster.face_id == 0).any()
    behind = rasterise(project_vertices(vertices - np.array([0, 0, 5], np.float32), lens), faces, lens)
    assert behind.faces_near == 4
    assert (behind.face_id == -1).all()
    assert not visible_vertices(project_vertices(vertices - np.array([0, 0, 5], np.float32), lens), faces, lens).any()


def test_flow_of_a_point_that_moves_behind_the_camera_is_nan():
    lens = Lens(fx=10.0, fy=10.0, cx=3.0, cy=2.0, width=7, height=5)
    vertices, faces = _tetrahedron(1.0)
    projected = project_vertices(vertices, lens)
    flow = surface_flow(rasterise(projected, faces, lens), projected, faces, vertices - np.float32(2), lens)
    assert np.isnan(flow[1, 2]).all()


def test_finer_samples_agree_at_pixel_centres(faces):
    vertices = _body(10)
    coarse = rasterise(project_vertices(vertices, LENS), faces, LENS)
    fine = rasterise(project_vertices(vertices, LENS.finer(2)), faces, LENS.finer(2))
    assert (fine.face_id[::2, ::2] == coarse.face_id).all()


def test_bad_input_is_refused(faces):
    vertices = _body(0)
    lens = Lens(fx=1.0, fy=1.0, cx=0.0, cy=0.0, width=0, height=4)
    with pytest.raises(UserError, match="0 x 4 px"):
        rasterise(project_vertices(vertices, lens), faces, lens)
    with pytest.raises(UserError, match="there are 100"):
        rasterise(project_vertices(vertices[:100], LENS), faces, LENS)
