"""Distances between points, per sample, with an explicit weight per point."""

import torch
from jaxtyping import Float
from torch import Tensor

from aign.geometry.skeleton import Skeleton

SMOOTH = 1e-6
"""Added under the root, so that coincident points have gradient 0 and not NaN; moves a value by at most 1e-6."""


def weighted_mean(values: Float[Tensor, "b n"], weight: Float[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """Mean over n with weights; a sample whose weights are all 0 gives 0 with a gradient (of 0)."""
    return (values * weight).sum(-1) / weight.sum(-1).clamp_min(torch.finfo(values.dtype).tiny)


def mean_distance(
    pred: Float[Tensor, "b n d"], target: Float[Tensor, "b n d"], weight: Float[Tensor, "b n"]
) -> Float[Tensor, " b"]:
    """Weighted mean Euclidean distance (papers.md 1.2, Loss_2D: not squared); targets of weight 0 may be anything.

    In the units of its input: crop units or pixels for keypoints, metres for joints.
    """
    gap = torch.where((weight > 0).unsqueeze(-1), pred - target, torch.zeros_like(pred))
    distance = (gap.square().sum(-1) + SMOOTH**2).sqrt() - SMOOTH
    return weighted_mean(distance, weight)


def robust_distance(
    pred: Float[Tensor, "n k d"], target: Float[Tensor, "n k d"], weight: Float[Tensor, "n k"], scale: float
) -> Float[Tensor, " n"]:
    """Weighted mean of a distance of bounded influence: scale u^2 / (1 + u^2), u = distance / scale.

    In the units of its input and below `scale`, half of it at distance = scale: a wrong keypoint far away neither
    dominates nor pulls. Smooth at 0. Source: Geman and McClure, 1987. Targets of weight 0 may be anything.
    """
    gap = torch.where((weight > 0).unsqueeze(-1), pred - target, torch.zeros_like(pred))
    square = (gap / scale).square().sum(-1)
    # 1 - 1 / (1 + u^2) is u^2 / (1 + u^2) without inf / inf for a prediction that has run away.
    return weighted_mean(scale * torch.where(square < 1, square / (1 + square), 1 - 1 / (1 + square)), weight)


def bone_lengths(joints: Float[Tensor, "b j 3"], bones: tuple[tuple[int, int], ...]) -> Float[Tensor, "b n"]:
    """Length of each (child, parent) bone, in the units of its input."""
    child, parent = (list(end) for end in zip(*bones, strict=True))
    return ((joints[:, child] - joints[:, parent]).square().sum(-1) + SMOOTH**2).sqrt()


def bone_symmetry(joints: Float[Tensor, "b j 3"], skeleton: Skeleton) -> Float[Tensor, " b"]:
    """How unlike left and right limbs are: mean of ((left - right) / (left + right))^2 over paired bones; no units."""
    mirrored = skeleton.mirrored
    left = tuple((c, p) for c, p in skeleton.bones if skeleton.joints[c].startswith("l_"))
    right = tuple((mirrored[c], mirrored[p]) for c, p in left)
    a, b = bone_lengths(joints, left), bone_lengths(joints, right)
    return ((a - b) / (a + b)).square().mean(-1)
