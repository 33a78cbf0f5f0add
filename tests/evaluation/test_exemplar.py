"""The look-up finds what was planted, and agrees with a plain search."""

import math

import numpy as np
import pytest
import torch

from aign.evaluation.baselines import exemplar
from aign.evaluation.baselines.exemplar import mean_pose, nearest_pose
from aign.geometry.camera import Pinhole, project
from aign.geometry.rotation import from_axis_angle
from aign.geometry.skeleton import H36M17
from aign.tasks.lifting.frames import Frames
from aign.tasks.lifting.observation import observe
from tests.tasks.scenes import people, scene

FACING = torch.tensor([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])


def given(px, conf, lens):
    """Frames of one clip."""
    return Frames(kp2d_px=px, conf=conf, camera=lens, clip=torch.zeros(len(px), dtype=torch.int64))


def poses(count=30):
    """Very unlike one another."""
    return (people(count) + 0.15 * torch.randn(count, 17, 3, generator=torch.Generator().manual_seed(5))).float()


def planted(bank, which, yaw_deg, place=(0.3, 0.1, 30.0)):
    """Persons of the bank, turned about the vertical, far from a long lens: nearly orthographic."""
    yaw = torch.tensor([[0.0, math.radians(a), 0.0] for a in yaw_deg])
    centred = bank[which] @ from_axis_angle(yaw).mT @ FACING.mT
    centred = centred - centred[:, :1]
    lens = Pinhole.of(torch.tensor([[8000.0, 8000, 500, 500]]).expand(len(which), 4).contiguous())
    return centred, project(centred + torch.tensor(place), lens), lens


def test_the_planted_pose_is_found_with_its_yaw():
    bank = poses()
    bank = bank - bank[:, :1]
    which, yaw = [3, 17, 29, 0], [0.0, 90.0, 180.0, 345.0]
    truth, px, lens = planted(bank, which, yaw)
    found = nearest_pose(bank)(given(px, torch.ones(4, 17), lens))
    # The lens looks at the person from half a degree aside, and perspective is not quite orthographic.
    assert (found - truth).norm(dim=-1).max() < 0.05
    assert (found[0] - truth[1]).norm(dim=-1).max() > 0.2


def test_hidden_joints_do_not_vote():
    bank = poses()
    truth, px, lens = planted(bank, [11], [15.0])
    conf = torch.ones(1, 17)
    conf[0, [3, 6, 13]] = 0
    px[0, [3, 6, 13]] = 1e4
    found = nearest_pose(bank)(given(px, conf, lens))
    assert (found - truth).norm(dim=-1).max() < 0.05


def test_the_search_equals_a_plain_one():
    there = scene(6)
    bank = people(40).flatten(0, 1).reshape(40, 17, 3)
    seen, _ = observe(*there.window, there.camera)
    got = exemplar._nearest(bank[..., :2], seen.kp2d[:, 0], seen.conf[:, 0])
    for i in range(6):
        residuals = []
        w = (seen.conf[i, 0] / seen.conf[i, 0].sum()).numpy()
        x = seen.kp2d[i, 0].numpy()
        for picture in bank[..., :2].numpy():
            # Least squares of x = scale * picture + shift, scale not negative.
            root = np.sqrt(np.repeat(w, 2))
            design = np.stack((picture.flatten(), np.tile([1.0, 0], 17), np.tile([0, 1.0], 17)), 1)
            solution = np.linalg.lstsq(root[:, None] * design, root * x.flatten(), rcond=None)[0]
            if solution[0] < 0:
                solution = np.array([0.0, *(w @ x)])
            residuals.append(float((w @ ((design @ solution).reshape(17, 2) - x) ** 2).sum()))
        assert residuals[got[i]] == pytest.approx(min(residuals), abs=1e-9)


def test_chunks_change_nothing(monkeypatch):
    there, bank = scene(7), people(20)
    method = nearest_pose(bank.float())
    lens = Pinhole(**{n: v.float() for n, v in vars(there.camera).items()})
    frames = given(there.kp2d_px.float(), there.conf.float(), lens)
    whole = method(frames)
    monkeypatch.setattr(exemplar, "CHUNK", 3)
    assert torch.equal(method(frames), whole)


def test_a_small_memory_is_used_whole_and_a_large_one_thinned():
    bank = poses(30)
    _, px, lens = planted(bank, [7], [0.0])
    frames = given(px, torch.ones(1, 17), lens)
    every = nearest_pose(bank, poses=30)(frames)
    few = nearest_pose(bank, poses=2)(frames)
    assert torch.equal(nearest_pose(bank, poses=1000)(frames), every)
    assert not torch.equal(few, every)


def test_convention_the_mean_pose_stands_upright_facing_the_camera_whatever_is_seen():
    """Convention: camera frame +x right, +y down, +z forward; the person's left is on the right of the picture."""
    there, bank = scene(5), people(100)
    lens = Pinhole(**{n: v.float() for n, v in vars(there.camera).items()})
    joints = mean_pose(bank.float())(given(there.kp2d_px.float(), there.conf.float(), lens))
    _, rot = observe(*there.window, there.camera)
    virtual = joints.double() @ rot.mT
    torch.testing.assert_close(virtual, (bank.mean(0) @ FACING.double()).expand(5, 17, 3), atol=1e-5, rtol=0)
    left, right, head, nose, thorax = H36M17.index("l_hip", "r_hip", "head_top", "nose", "thorax")
    assert (virtual[:, left, 0] > virtual[:, right, 0]).all()
    assert (virtual[:, head, 1] < virtual[:, 0, 1]).all()
    assert (virtual[:, nose, 2] < virtual[:, thorax, 2]).all()


@pytest.mark.parametrize("make", [mean_pose, nearest_pose])
def test_nothing_seen_still_gives_a_finite_pose(make):
    bank = people(20).float()
    lens = Pinhole.of(torch.tensor([[1000.0, 1000, 500, 500]]))
    got = make(bank)(given(torch.zeros(1, 17, 2), torch.zeros(1, 17), lens))
    assert got.shape == (1, 17, 3)
    assert got.isfinite().all()
