"""Reprojection, mask and flow against plain loops and against renders of the same body."""

import numpy as np
import pytest
import torch

from aign.body.assets import load_body
from aign.evaluation.bodies import surfaces_m
from aign.evaluation.image_evidence import _sampled, flow_error_px, mask_iou, reprojection_px
from aign.render.raster import Lens, project_vertices, rasterise, surface_flow
from aign.render.visibility import visible_vertices

from .mocap_fixtures import truth

SIZE = 48
LENS = Lens(fx=70.0, fy=70.0, cx=23.5, cy=23.5, width=SIZE, height=SIZE)
FACES = load_body().faces


def camera(n: int) -> torch.Tensor:
    return torch.from_numpy(LENS.intrinsics_px).repeat(n, 1)


def meshes(n: int) -> torch.Tensor:
    return surfaces_m(load_body(), truth(n))[1]


def drawn(vertices: torch.Tensor) -> torch.Tensor:
    seen = [rasterise(project_vertices(v, LENS), FACES.int().numpy(), LENS).face_id >= 0 for v in vertices.numpy()]
    return torch.from_numpy(np.stack(seen))


def test_reprojection_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    joints, target = rng.normal(size=(4, 24, 3)) * 0.4 + [0, 0, 4], rng.uniform(0, SIZE, size=(4, 24, 2))
    valid = rng.random((4, 24)) < 0.7
    valid[3] = False
    expected = []
    for i in range(4):
        errors = []
        for (x, y, z), (u, v), known in zip(joints[i], target[i], valid[i], strict=True):
            if known:
                errors.append(np.hypot(LENS.fx * x / z + LENS.cx - u, LENS.fy * y / z + LENS.cy - v))
        expected.append(np.mean(errors) if errors else np.nan)
    target[~valid] = np.nan
    args = (torch.from_numpy(x) for x in (target, valid))
    np.testing.assert_allclose(reprojection_px(torch.from_numpy(joints), camera(4), *args), expected, rtol=1e-6)


def test_a_joint_behind_the_camera_is_a_large_error_and_not_a_missing_one() -> None:
    joints = torch.tensor([[[0.1, 0.1, -1.0]]])
    error = reprojection_px(joints, camera(1), torch.zeros(1, 1, 2), torch.ones(1, 1, dtype=torch.bool))
    assert 1000 < error.item() < 1e6


def test_mask_iou_of_a_drawn_body_is_one_and_falls_with_what_differs() -> None:
    vertices = meshes(3)
    mask = drawn(vertices)
    assert mask_iou(vertices, FACES, camera(3), mask).tolist() == [1.0] * 3
    other = mask.roll(3, dims=2)
    expected = [
        sum(a and b for a, b in zip(p, q, strict=True)) / sum(a or b for a, b in zip(p, q, strict=True))
        for p, q in zip(mask.flatten(1).tolist(), other.flatten(1).tolist(), strict=True)
    ]
    assert 0 < min(expected) <= max(expected) < 1
    assert mask_iou(vertices, FACES, camera(3), other).tolist() == pytest.approx(expected)


def test_a_body_outside_of_the_picture_overlaps_nothing_and_an_empty_mask_has_no_value() -> None:
    vertices, mask = meshes(2), torch.zeros(2, SIZE, SIZE, dtype=torch.bool)
    mask[0, :5] = True
    iou = mask_iou(vertices + torch.tensor([50.0, 0, 0]), FACES, camera(2), mask)
    assert iou[0].item() == 0
    assert iou[1].isnan()


def test_flow_of_the_body_itself_is_met_to_a_fraction_of_a_pixel() -> None:
    before = meshes(2)
    after = before + torch.tensor([0.06, -0.03, 0.1])
    faces = FACES.int().numpy()
    flows, ok = [], drawn(before)
    for here, there in zip(before.numpy(), after.numpy(), strict=True):
        at = project_vertices(here, LENS)
        flows.append(surface_flow(rasterise(at, faces, LENS), at, faces, there, LENS))
    flow = torch.from_numpy(np.stack(flows))
    assert flow_error_px(before, after, FACES, camera(2), flow, ok).max() < 0.05
    assert flow_error_px(before, after, FACES, camera(2), flow + torch.tensor([3.0, 4]), ok).tolist() == pytest.approx(
        [5.0, 5.0], abs=0.05
    )
    still = flow_error_px(before, before, FACES, camera(2), flow, ok)
    moved = torch.stack([f[m].norm(dim=-1).mean() for f, m in zip(flow, ok, strict=True)]).double()
    torch.testing.assert_close(still, moved, rtol=0.15, atol=0)  # vertices are not spread evenly


def test_flow_is_not_read_where_it_is_not_known() -> None:
    vertices = meshes(1)
    flow, ok = torch.full((1, SIZE, SIZE, 2), torch.nan), torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
    assert flow_error_px(vertices, vertices, FACES, camera(1), flow, ok).isnan().all()
    ok[:, 20:28, 20:28] = True
    flow[ok] = torch.tensor([1.0, 0])
    assert flow_error_px(vertices, vertices, FACES, camera(1), flow, ok).tolist() == pytest.approx([1.0])


def test_flow_counts_visible_vertices_only() -> None:
    vertices, ok = meshes(1), torch.ones(1, SIZE, SIZE, dtype=torch.bool)
    at = project_vertices(vertices[0].numpy(), LENS)
    seen = torch.from_numpy(visible_vertices(at, FACES.int().numpy(), LENS))
    assert 0.2 < seen.double().mean() < 0.6
    behind = torch.where(seen[:, None], vertices, vertices + torch.tensor([0.3, 0, 0]))
    still = torch.zeros(1, SIZE, SIZE, 2)
    assert flow_error_px(vertices, behind, FACES, camera(1), still, ok).item() == 0
    before = torch.where(seen[:, None], vertices + torch.tensor([0.3, 0, 0]), vertices)
    assert flow_error_px(vertices, before, FACES, camera(1), still, ok).item() > 3


def test_convention_bilinear_sampling_reads_pixel_centres() -> None:
    flow = np.zeros((2, 3, 2))
    flow[..., 0] = np.arange(3)
    flow[..., 1] = 10 * np.arange(2)[:, None]
    ok = np.ones((2, 3), dtype=bool)
    at = np.array([[0.0, 0.0], [1.25, 0.5], [2.4, 1.4], [-0.5, -0.5]])
    value, known = _sampled(flow, ok, at)
    np.testing.assert_allclose(value, [[0, 0], [1.25, 5], [2, 10], [0, 0]])
    assert known.all()
    ok[1, 2] = False
    assert _sampled(flow, ok, at)[1].tolist() == [True, False, False, True]
