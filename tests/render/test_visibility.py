"""Visibility of a batch: Embree's rays, the plain-torch form, and what a network may feed it."""

import numpy as np
import pytest
import torch
import trimesh
from trimesh.ray.ray_pyembree import RayMeshIntersector

from aign.body.assets import load_body
from aign.body.skinning import skin
from aign.data.motions import load_demo_motions
from aign.framework.errors import UserError
from aign.render import occlusion
from aign.render.occlusion import visible_by_tensors
from aign.render.raster import NEAR_M, Lens, project_vertices
from aign.render.visibility import visible, visible_vertices

SIZE = (128, 120)
POSES = [("roll", 30), ("roll", 60), ("crawl", 20), ("getup_facedown", 40), ("getup_faceup", 90), ("dance_b", 60)]
FORMS = pytest.mark.parametrize("form", [visible, visible_by_tensors])


@pytest.fixture(scope="module")
def faces() -> torch.Tensor:
    return load_body().faces


@pytest.fixture(scope="module")
def bodies() -> torch.Tensor:
    """Lying, rolled up, crouching and dancing; each turned another way about the vertical, 2.4 m ahead."""
    clips = {m.name: m for m in load_demo_motions()}
    rotmats = torch.tensor(np.stack([clips[name].rotmats[t] for name, t in POSES])).float()
    vertices = skin(load_body(), rotmats, torch.full((len(POSES), 10), 0.5), torch.zeros(len(POSES), 3)).vertices_m
    angle = torch.arange(len(POSES)) * 1.3
    turn = torch.zeros(len(POSES), 3, 3)
    turn[:, 0, 0], turn[:, 0, 2], turn[:, 2, 0], turn[:, 2, 2] = angle.cos(), angle.sin(), angle.sin(), -angle.cos()
    turn[:, 1, 1] = -1.0
    turned = vertices @ turn.mT
    return turned - turned.mean(1, keepdim=True) + torch.tensor([0.05, 0.1, 2.4])


def intrinsics(samples: int, focal: float = 130.0) -> torch.Tensor:
    return torch.tensor([focal, 1.02 * focal, 62.7, 59.1]).repeat(samples, 1)


def by_embree(vertices: np.ndarray, faces: np.ndarray, lens: Lens) -> np.ndarray:
    """A ray to each vertex; what it hits first hides the vertex if it is nearer and not one of the vertex's faces."""
    rays = vertices.astype(np.float64)
    caster = RayMeshIntersector(trimesh.Trimesh(vertices, faces, process=False))
    first = caster.intersects_first(np.zeros_like(rays), rays)
    hit = faces[first]
    a, b, c = (rays[hit[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    share = np.einsum("vi,vi->v", normal, a) / np.einsum("vi,vi->v", normal, rays)
    # -1: the ray slipped past the rim, on which the vertex lies.
    hidden = (first >= 0) & (share < 1 - 1e-5) & (hit != np.arange(len(rays))[:, None]).all(1)
    a, b, c = (rays[faces[:, i]] for i in range(3))
    front = np.zeros(len(rays), bool)
    front[faces[np.einsum("fi,fi->f", np.cross(b - a, c - a), a) < 0]] = True
    points = rays[:, :2] / rays[:, 2:] * [lens.fx, lens.fy] + [lens.cx, lens.cy]
    inside = ((points >= -0.5) & (points <= [lens.width - 0.5, lens.height - 0.5])).all(1)
    return front & ~hidden & inside


@pytest.mark.parametrize("focal", [130.0, 330.0])  # whole in the picture; cut by its border
def test_visible_equals_embree(bodies, faces, focal):
    lens_row = intrinsics(len(bodies), focal)
    seen = visible(bodies, faces, lens_row, SIZE).numpy()
    fx, fy, cx, cy = lens_row[0].tolist()
    lens = Lens(fx=fx, fy=fy, cx=cx, cy=cy, width=SIZE[0], height=SIZE[1])
    for pose, vertices, got in zip(POSES, bodies.numpy(), seen, strict=True):
        wanted = by_embree(vertices, faces.numpy(), lens)
        assert 0.03 < wanted.mean() < 0.6, pose
        assert (got == wanted).mean() >= 0.999, pose
        assert (got == wanted)[wanted].mean() >= 0.998, pose


def test_one_at_a_time_equals_the_batch_and_the_factory(bodies, faces):
    lens_row = intrinsics(len(bodies))
    lens_row[:, 0] += torch.arange(len(bodies))
    seen = visible(bodies, faces, lens_row, SIZE)
    for i, row in enumerate(lens_row.tolist()):
        alone = visible(bodies[i : i + 1], faces, lens_row[i : i + 1], SIZE)
        assert (alone[0] == seen[i]).all()
        lens = Lens(fx=row[0], fy=row[1], cx=row[2], cy=row[3], width=SIZE[0], height=SIZE[1])
        projected = project_vertices(bodies[i].numpy(), lens)
        assert (visible_vertices(projected, faces.numpy().astype(np.int32), lens) == seen[i].numpy()).all()


def test_threads_share_the_batch(bodies, faces, monkeypatch):
    lens_row = intrinsics(len(bodies))
    seen = visible(bodies, faces, lens_row, SIZE)
    for threads in (4, 16):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert (visible(bodies, faces, lens_row, SIZE) == seen).all()


@pytest.mark.parametrize("focal", [130.0, 330.0])
def test_tensors_say_the_same(bodies, faces, focal, monkeypatch):
    lens_row = intrinsics(len(bodies), focal)
    wanted = visible(bodies, faces, lens_row, SIZE)
    assert (visible_by_tensors(bodies, faces, lens_row, SIZE) == wanted).float().mean() >= 0.999
    monkeypatch.setattr(occlusion, "PAIRS_AT_ONCE", 9973)  # many slices
    assert (visible_by_tensors(bodies[:2], faces, lens_row[:2], SIZE) == wanted[:2]).float().mean() >= 0.999


@FORMS
def test_float64_int32_and_gradients_do_not_matter(bodies, faces, form):
    lens_row = intrinsics(2)
    wanted = form(bodies[:2], faces, lens_row, SIZE)
    got = form(bodies[:2].double().requires_grad_(), faces.int(), lens_row.double(), SIZE)
    assert (got == wanted).all()
    assert not got.requires_grad


def _tetrahedron(z: float) -> tuple[torch.Tensor, torch.Tensor]:
    """One face across the view at depth z, its apex behind it."""
    vertices = torch.tensor([[-0.125, -0.125, z], [0.125, -0.125, z], [-0.125, 0.125, z], [-0.02, -0.02, z + 0.1]])
    return vertices, torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])


@FORMS
def test_convention_faces_run_counter_clockwise_from_outside_and_the_border_is_half_a_pixel_out(form):
    near, faces = _tetrahedron(1.0)
    far, _ = _tetrahedron(2.0)
    lens_row = torch.tensor([[8.0, 8.0, 1.0, 1.0]])
    both = torch.cat([near, far + torch.tensor([0.125, 0.0, 0.0])])[None]
    seen = form(both, torch.cat([faces, faces + 4]), lens_row, (4, 4))
    # Far corners at x = 1.0, 2.0, 1.0 px and y = 0.5, 0.5, 1.5 px; the near face spans (0, 0), (2, 0), (0, 2).
    assert seen.tolist() == [[True, True, True, False, False, True, True, False]]
    assert form(near[None], faces.flip(1), lens_row, (4, 4))[0, 3], "inside out, its back is its front"
    cut = form(near[None], faces, torch.tensor([[8.0, 8.0, 0.5, 1.0]]), (2, 4))
    assert cut.tolist() == [[True, True, True, False]]
    cut = form(near[None], faces, torch.tensor([[8.0, 8.0, 0.49, 1.0]]), (2, 4))
    assert cut.tolist() == [[False, True, False, False]]


@FORMS
def test_nonsense_is_not_visible_and_does_not_crash(bodies, faces, form):
    wild = bodies[:1].repeat(11, 1, 1)
    wild[1, :, 2] = -1.0
    wild[2] = float("nan")
    wild[3] = float("inf")
    wild[4, ::2, 0] = float("-inf")
    wild[5, ::3, 2] = NEAR_M
    wild[6, ::5, 1] = float("nan")
    wild[7] = torch.randn(wild[7].shape, generator=torch.Generator().manual_seed(0))
    wild[8] *= 1e30
    wild[9, :, 2] -= 2.4  # the camera is inside the body
    lens_row = intrinsics(11)
    lens_row[10] = float("nan")
    seen = form(wild, faces, lens_row, SIZE)
    assert (seen[0] == form(bodies[:1], faces, lens_row[:1], SIZE)[0]).all(), "the others do no harm"
    assert not seen[[1, 2, 3, 10]].any()
    assert not seen[4, ::2].any()
    assert not seen[5, ::3].any()
    assert not seen[6, ::5].any()
    assert seen[6].any()
    assert not form(wild[:0], faces, lens_row[:0], SIZE).any()


def test_forms_agree_on_nonsense(bodies, faces):
    wild = bodies.clone()
    wild[0, :, 2] -= 2.2
    wild[1] = wild[1].round(decimals=1)
    wild[2] += 0.02 * torch.randn(wild[2].shape, generator=torch.Generator().manual_seed(1))
    lens_row = intrinsics(len(wild))
    got, wanted = visible_by_tensors(wild, faces, lens_row, SIZE), visible(wild, faces, lens_row, SIZE)
    assert (got == wanted).float().mean() >= 0.995
    assert wanted[2].any()


def test_bad_input_is_refused(bodies, faces):
    with pytest.raises(UserError, match="0 x 4 px"):
        visible(bodies[:1], faces, intrinsics(1), (0, 4))
    with pytest.raises(UserError, match="there are 100"):
        visible(bodies[:1, :100], faces, intrinsics(1), SIZE)
    with pytest.raises(UserError, match="vertices -1 to"):
        visible(bodies[:1], faces - 1, intrinsics(1), SIZE)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_equals_cpu(bodies, faces):
    lens_row = intrinsics(len(bodies))
    got = visible(bodies.cuda(), faces.cuda(), lens_row.cuda(), SIZE)
    assert got.is_cuda
    assert (got.cpu() == visible(bodies, faces, lens_row, SIZE)).float().mean() >= 0.999
