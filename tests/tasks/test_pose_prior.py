"""The Gaussian of poses: against plain numpy, and what it finds usual."""

import dataclasses

import numpy as np
import pytest
import torch

from aign.framework.errors import UserError
from aign.geometry.rotation import from_axis_angle, to_6d
from aign.geometry.skeleton import SMPL24
from aign.tasks.motion_capture.memory import BodyMemory
from aign.tasks.motion_capture.pose_prior import LEAST_VARIANCE, learn

from .captured import memory_of

ROOT = torch.eye(3).expand(1, 1, 3, 3)


def whole(poses, root=ROOT):
    """Rotations of 24 joints of remembered poses."""
    joints = poses.reshape(-1, 23, 3, 3)
    return torch.cat((root.to(joints).expand(len(joints), 1, 3, 3), joints), 1)


def few(count, seed=0):
    """A memory of poses in float64."""
    turns = 0.4 * torch.randn(count, 23, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    poses = from_axis_angle(turns).flatten(-2)
    return BodyMemory(pose=poses, betas=poses.new_zeros(1, 10), motion=poses.new_zeros(0, 3, 147))


@pytest.fixture(scope="module")
def memory(people_store):
    return memory_of(people_store)


def test_energy_is_a_mahalanobis_distance():
    memory, asked = few(400), whole(few(5, seed=1).pose)
    poses, points = (to_6d(x[:, 1:]).flatten(-2).numpy() for x in (whole(memory.pose), asked))
    covariance = np.cov(poses.T) + LEAST_VARIANCE * np.eye(138)

    def distance(x):
        gap = x - poses.mean(0)
        return (gap @ np.linalg.inv(covariance) * gap).sum(1)

    want = distance(points) / distance(poses).mean()
    np.testing.assert_allclose(learn(memory).energy(asked).numpy(), want, rtol=1e-6)


def test_usual_poses_have_energy_one_and_the_orientation_does_not_matter(memory):
    prior = learn(memory)
    energy = prior.energy(whole(memory.pose))
    assert float(energy.mean()) == pytest.approx(1, rel=1e-3)
    turned = from_axis_angle(torch.tensor([0.3, 2.0, -1.0]))
    torch.testing.assert_close(prior.energy(whole(memory.pose, turned.expand(1, 1, 3, 3))), energy)


def test_energy_is_lowest_at_the_mean(memory):
    prior = learn(memory)
    columns = prior.mean.reshape(23, 2, 3).mT
    mean = whole(torch.cat((columns, torch.zeros(23, 3, 1)), 2).flatten(1).unsqueeze(0))
    assert float(prior.energy(mean)) < 1e-8
    energy = prior.energy(mean + 0.05 * torch.randn(50, 24, 3, 3))
    assert float(energy.min()) > 1e-3


def test_a_broken_pose_is_less_usual_than_what_was_remembered(memory):
    """Knees bent by 1 rad, as knees bend and the other way, in every remembered pose."""
    prior = learn(memory)
    poses = whole(memory.pose)
    knees = list(SMPL24.index("l_knee", "r_knee"))
    bent, broken = poses.clone(), poses.clone()
    for changed, angle in ((bent, 1.0), (broken, -1.0)):
        changed[:, knees] = from_axis_angle(torch.tensor([angle, 0.0, 0.0]))
    usual, bent, broken = (prior.energy(x).mean() for x in (poses, bent, broken))
    assert broken > 1.5 * bent
    assert broken > 1.5 * usual


def test_gradient():
    prior = learn(few(20))
    rotations = whole(few(2, seed=3).pose).reshape(1, 2, 24, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(prior.energy, (rotations,))


def test_two_poses_are_enough_and_one_is_not():
    two = few(2)
    assert torch.isfinite(learn(two).energy(whole(few(3, seed=2).pose))).all()
    with pytest.raises(UserError, match="1 poses; a Gaussian needs at least 2"):
        learn(dataclasses.replace(two, pose=two.pose[:1]))
