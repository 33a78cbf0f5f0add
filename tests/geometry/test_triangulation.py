import math

import pytest
import torch

from aign.framework.errors import UserError
from aign.geometry.camera import Pinhole, Rigid, project
from aign.geometry.rotation import look_at
from aign.geometry.triangulation import triangulate


def rig(num_cameras: int, dtype=torch.float64, distorted: bool = True) -> tuple[Pinhole, Rigid]:
    """Cameras on a circle of 4 m, 1.5 m up in a y-up world, looking at the middle."""
    rots, shifts = [], []
    for i in range(num_cameras):
        angle = 2 * math.pi * i / num_cameras + 0.3
        centre = torch.tensor([4 * math.cos(angle), 1.5, 4 * math.sin(angle)], dtype=dtype)
        # look_at turns the given direction onto +z; first make y point down.
        flip = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=dtype))
        rot = look_at(flip @ -centre) @ flip
        rots.append(rot)
        shifts.append(-rot @ centre)
    bend = torch.tensor([-0.2, 0.24, -0.002, 0.0014, -0.0009], dtype=dtype) * distorted
    lens = Pinhole.of(
        torch.tensor([1145.0, 1144.0, 512.0, 515.0], dtype=dtype).expand(num_cameras, 4), bend.expand(num_cameras, 5)
    )
    return lens, Rigid(rot=torch.stack(rots), trans_m=torch.stack(shifts))


def seen(points: torch.Tensor, lens: Pinhole, pose: Rigid) -> torch.Tensor:
    flat = points.reshape(-1, 3)
    pixels = project(pose.apply(flat.expand(len(pose.rot), *flat.shape)), lens)
    return pixels.reshape(len(pose.rot), *points.shape[:-1], 2)


@pytest.fixture
def points() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(5, 7, 3, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("num_cameras", [2, 3, 4, 6])
def test_exact(points, num_cameras):
    lens, pose = rig(num_cameras)
    pixels = seen(points, lens, pose)
    found, distance, valid = triangulate(pixels, torch.ones(pixels.shape[:-1]).double(), lens, pose)
    assert valid.all()
    assert (found - points).abs().max() < 1e-6
    assert distance.max() < 1e-3
    assert distance.shape == (num_cameras, 5, 7)


def test_convention_world_to_camera():
    """x_cam = R x_world + t with +z forward: two axis-parallel cameras, numbers worked by hand."""
    lens = Pinhole.of(torch.tensor([[1000.0, 1000.0, 500.0, 500.0]] * 2))
    # The second camera stands 1 m to the right (+x): its translation is -1.
    pose = Rigid(rot=torch.eye(3).expand(2, 3, 3), trans_m=torch.tensor([[0.0, 0, 0], [-1.0, 0, 0]]))
    # 4 m ahead, 0.4 m down: 1000 * 0.4 / 4 = 100 px below the centre; 250 px apart in x.
    pixels = torch.tensor([[[500.0, 600.0]], [[250.0, 600.0]]])
    found, _, valid = triangulate(pixels, torch.ones(2, 1), lens, pose)
    assert valid.all()
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.4, 4.0]]), atol=1e-5, rtol=0)


def test_one_wrong_view_of_four_is_outvoted(points):
    lens, pose = rig(4)
    pixels = seen(points, lens, pose)
    torch.manual_seed(1)
    pixels += torch.randn_like(pixels) * 2
    clean, *_ = triangulate(pixels, torch.ones(4, 5, 7).double(), lens, pose)
    wrong = pixels.clone()
    for i in range(5):
        wrong[i % 4, i] += 300.0
    conf = torch.ones(4, 5, 7).double()
    found, distance, valid = triangulate(wrong, conf, lens, pose)
    plain, *_ = triangulate(wrong, conf, lens, pose, inlier_px=1e6)
    assert valid.all()
    assert (found - points).norm(dim=-1).max() < 0.03  # 2 px are 7 mm a view at 4 m; three views are left
    assert (found - clean).norm(dim=-1).max() < 0.02
    assert (plain - points).norm(dim=-1).mean() > 0.1  # without robustness it would be off
    assert (distance[0, 0] > 200).all()  # and the bad view is named by its distance


def test_confidence_weighs(points):
    lens, pose = rig(3)
    pixels = seen(points, lens, pose)
    pixels[0, ..., 1] += 20.0
    conf = torch.ones(3, 5, 7).double()
    equal, *_ = triangulate(pixels, conf, lens, pose, inlier_px=1e6)
    conf[0] = 0.01
    trusting, *_ = triangulate(pixels, conf, lens, pose, inlier_px=1e6)
    assert ((trusting - points).norm(dim=-1) < 0.2 * (equal - points).norm(dim=-1)).all()


@pytest.mark.parametrize("hole", ["nan", "inf", "zero", "nan_conf", "negative"])
def test_unseen_views_do_not_count(points, hole):
    lens, pose = rig(4)
    pixels = seen(points, lens, pose)
    conf = torch.ones(4, 5, 7).double()
    if hole in ("nan", "inf"):
        pixels[1] = float(hole)
    else:
        pixels[1] = 12345.0
        conf[1] = {"zero": 0.0, "nan_conf": math.nan, "negative": -1.0}[hole]
    found, distance, valid = triangulate(pixels, conf, lens, pose)
    assert valid.all()
    assert (found - points).abs().max() < 1e-6
    assert distance[1].isnan().all()
    assert distance[[0, 2, 3]].isfinite().all()


def test_fewer_than_two_views_is_not_valid(points):
    lens, pose = rig(4)
    pixels = seen(points, lens, pose)
    conf = torch.zeros(4, 5, 7).double()
    conf[2] = 1.0
    found, distance, valid = triangulate(pixels, conf, lens, pose)
    assert not valid.any()
    assert (found == 0).all()
    assert distance.isnan().all()
    _, _, valid = triangulate(torch.full_like(pixels, math.nan), conf, lens, pose)
    assert not valid.any()


def test_views_that_disagree_are_not_valid():
    lens, pose = rig(2)
    pixels = torch.tensor([[[500.0, 200.0]], [[500.0, 800.0]]]).double()  # no point is seen there by both
    _, _, valid = triangulate(pixels, torch.ones(2, 1).double(), lens, pose, inlier_px=20.0)
    assert not valid.any()


def test_parallel_rays_are_not_valid(points):
    lens, pose = rig(2)
    same = Rigid(rot=pose.rot[:1].expand(2, 3, 3), trans_m=pose.trans_m[:1].expand(2, 3))
    pixels = seen(points, lens, same)
    found, _, valid = triangulate(pixels, torch.ones(2, 5, 7).double(), lens, same)
    assert not valid.any()
    assert found.isfinite().all()


def test_points_behind_the_cameras_are_not_valid():
    lens = Pinhole.of(torch.tensor([[1000.0, 1000.0, 500.0, 500.0]] * 2))
    pose = Rigid(rot=torch.eye(3).expand(2, 3, 3), trans_m=torch.tensor([[0.0, 0, 0], [-1.0, 0, 0]]))
    crossed = torch.tensor([[[500.0, 500.0]], [[750.0, 500.0]]])  # the rays meet at z = -4
    _, _, valid = triangulate(crossed, torch.ones(2, 1), lens, pose)
    assert not valid.any()


def test_each_point_is_its_own(points):
    """A point gives the same answer alone as in a batch, and in float32."""
    lens, pose = rig(4)
    pixels = seen(points, lens, pose) + torch.randn(4, 5, 7, 2).double()
    conf = torch.rand(4, 5, 7).double()
    batch, *_ = triangulate(pixels, conf, lens, pose)
    alone, distance, valid = triangulate(pixels[:, 2, 3], conf[:, 2, 3], lens, pose)
    assert alone.shape == (3,)
    assert distance.shape == (4,)
    assert valid.shape == ()
    torch.testing.assert_close(alone, batch[2, 3], atol=1e-9, rtol=0)
    single, *_ = triangulate(pixels.float(), conf.float(), lens, pose)
    assert single.dtype == torch.float32
    assert (single - batch).abs().max() < 1e-4


def test_refinement_is_a_minimum(points):
    """No small move of the result lowers the sum of squared pixel distances."""
    lens, pose = rig(3, distorted=False)
    torch.manual_seed(3)
    pixels = seen(points, lens, pose) + torch.randn(3, 5, 7, 2).double() * 3
    found, *_ = triangulate(pixels, torch.ones(3, 5, 7).double(), lens, pose, inlier_px=1e6)

    def cost(x: torch.Tensor) -> torch.Tensor:
        return (seen(x, lens, pose) - pixels).square().sum((0, -1))

    for axis in range(3):
        for step in (-1e-3, 1e-3):
            assert (cost(found + step * torch.eye(3).double()[axis]) > cost(found)).all()


def test_one_camera_is_refused():
    lens, pose = rig(1)
    with pytest.raises(UserError, match="got 1 camera"):
        triangulate(torch.zeros(1, 4, 2).double(), torch.ones(1, 4).double(), lens, pose)
