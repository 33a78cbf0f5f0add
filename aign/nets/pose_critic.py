"""Critics of bodies: of each joint's rotation and of all together, and of a short motion. No normalisation."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

BODY_JOINTS = 23
"""SMPL's joints without the pelvis, whose rotation is the global orientation."""
_SLOPE = 0.2


class _PerJoint(nn.Module):
    """A linear score of each joint's own features, with weights of its own."""

    def __init__(self, joints: int, features: int) -> None:
        super().__init__()
        bound = features**-0.5  # as nn.Linear's
        self.weight = nn.Parameter(torch.empty(joints, features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(joints).uniform_(-bound, bound))

    def forward(self, x: Float[Tensor, "b j f"]) -> Float[Tensor, "b j"]:
        return (x * self.weight).sum(-1) + self.bias


class PoseCritic(nn.Module):
    """HMR's factorised critic of poses (Kanazawa et al., CVPR 2018): a score per joint and one of all joints.

    Each rotation goes through the same two layers (1x1 convolutions there), then through a linear score of its joint;
    the features of all joints go through three layers. The games take the 24 scores as 24 critics.

    Args:
        width: of the layers that see all joints (1024 in HMR).
        features: per joint.
    """

    def __init__(self, width: int, features: int = 32) -> None:
        super().__init__()
        self.shared = nn.Sequential(
            nn.Linear(9, features), nn.LeakyReLU(_SLOPE), nn.Linear(features, features), nn.LeakyReLU(_SLOPE)
        )
        self.each = _PerJoint(BODY_JOINTS, features)
        self.all = nn.Sequential(
            nn.Linear(BODY_JOINTS * features, width),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(width, width),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(width, 1),
        )

    def forward(self, rotmats: Float[Tensor, "b 23 9"]) -> Float[Tensor, "b 24"]:
        """Scores: one per joint in SMPL's order, then the whole pose's."""
        features = self.shared(rotmats)
        return torch.cat((self.each(features), self.all(features.flatten(1))), dim=1)


class MotionCritic(nn.Module):
    """A critic of short motions: two convolutions over time, a score per frame, and one of their mean features.

    A frame's score sees two frames on each side of it.

    Args:
        inputs: numbers per frame.
        width: of the features.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(inputs, width, 3, padding=1)
        self.second = nn.Conv1d(width, width, 3, padding=1)
        self.each = nn.Linear(width, 1)
        self.all = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(_SLOPE), nn.Linear(width, 1))

    def forward(self, motion: Float[Tensor, "b t i"]) -> Float[Tensor, "b s"]:
        """Scores, t + 1: one per frame, then the whole motion's."""
        features = F.leaky_relu(self.first(motion.mT), _SLOPE)
        features = F.leaky_relu(self.second(features), _SLOPE).mT
        return torch.cat((self.each(features).squeeze(-1), self.all(features.mean(1))), dim=1)
