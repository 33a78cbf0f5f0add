import pytest
import torch

from aign.framework.game import LeastSquares, NonSaturating
from aign.geometry.rotation import from_axis_angle
from aign.nets.pose_critic import MotionCritic, PoseCritic


def rotations(b, spread=1.0):
    return from_axis_angle(spread * torch.randn(b, 23, 3)).flatten(-2)


def test_a_joints_score_sees_that_joint_alone_and_the_last_one_all():
    torch.manual_seed(0)
    critic, pose = PoseCritic(16).double(), rotations(1).double().requires_grad_()
    scores = critic(pose)
    assert scores.shape == (1, 24)
    for k in range(24):
        (slope,) = torch.autograd.grad(scores[0, k], pose, retain_graph=True)
        felt = slope[0].abs().sum(1).nonzero().flatten().tolist()
        assert felt == ([k] if k < 23 else list(range(23)))


def test_the_same_features_of_every_joint_and_scores_of_its_own():
    torch.manual_seed(0)
    critic = PoseCritic(16).requires_grad_(False)
    same = rotations(1)[:, :1].expand(1, 23, 9)
    features = critic.shared(same)
    assert torch.equal(features[0, 0], features[0, 22])
    assert len(set(critic(same)[0, :23].tolist())) == 23
    plain = [float(features[0, j] @ critic.each.weight[j] + critic.each.bias[j]) for j in range(23)]
    torch.testing.assert_close(critic(same)[0, :23], torch.tensor(plain))


def test_a_motions_score_sees_two_frames_on_each_side_and_the_last_one_all():
    torch.manual_seed(0)
    critic, motion = MotionCritic(5, 16).double(), torch.randn(1, 8, 5).double().requires_grad_()
    scores = critic(motion)
    assert scores.shape == (1, 9)
    for k in range(9):
        (slope,) = torch.autograd.grad(scores[0, k], motion, retain_graph=True)
        felt = slope[0].abs().sum(1).nonzero().flatten().tolist()
        assert felt == (list(range(max(k - 2, 0), min(k + 3, 8))) if k < 8 else list(range(8)))


@pytest.mark.parametrize("frames", [1, 2, 9])
def test_any_number_of_frames(frames):
    assert MotionCritic(147, 8)(torch.randn(3, frames, 147)).shape == (3, frames + 1)


@pytest.mark.parametrize("critic", [PoseCritic(16), MotionCritic(9, 16)])
def test_samples_do_not_see_one_another(critic):
    x = torch.randn(4, 23, 9)
    torch.testing.assert_close(critic(x)[1:2], critic(x[1:2]))


@pytest.mark.parametrize("game", [LeastSquares(), NonSaturating()])
def test_a_bent_joint_is_found_by_its_own_critic(game):
    """Real poses bend every joint a little, the made ones joint 4 too far: after some steps its score says so."""
    torch.manual_seed(0)
    critic = PoseCritic(32)
    optimizer = torch.optim.Adam(critic.parameters(), 3e-3)

    def made(b):
        return torch.cat((rotations(b, 0.3)[:, :4], rotations(b, 2.0)[:, 4:5], rotations(b, 0.3)[:, 5:]), 1)

    for _ in range(150):
        optimizer.zero_grad()
        game.critic(critic, rotations(64, 0.3), made(64)).backward()
        optimizer.step()
    gap = (critic(rotations(500, 0.3)) - critic(made(500))).mean(0)
    print(gap)
    others = torch.cat((gap[:4], gap[5:23]))
    assert gap[4] > 5 * others.abs().max()
    assert gap[23] > 5 * others.abs().max()


def test_motions_that_jump_are_found():
    torch.manual_seed(0)
    critic = MotionCritic(6, 32)
    optimizer = torch.optim.Adam(critic.parameters(), 3e-3)

    def smooth(b):
        return torch.randn(b, 1, 6) + 0.1 * torch.randn(b, 8, 6).cumsum(1)

    def shaky(b):
        return torch.randn(b, 1, 6) + 0.5 * torch.randn(b, 8, 6)

    for _ in range(150):
        optimizer.zero_grad()
        LeastSquares().critic(critic, smooth(64), shaky(64)).backward()
        optimizer.step()
    assert (critic(smooth(500)).mean() - critic(shaky(500)).mean()) > 0.3
