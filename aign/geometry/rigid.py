"""Procrustes: the similarity that carries one point set onto another.

Convention: target ~ scale * rot @ source + trans with column vectors; scale >= 0 and det(rot) = +1 always. A mirrored
body is a wrong body, so a reflection is never part of an alignment; `procrustes_with_reflection` exists only to tell
how often one would have paid (the flip rate). Work is done in float64 and returned in the source's dtype: float32 SVDs
disagree by up to 5e-4 mm on bodies.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_RELATIVE_ZERO = 1e-12  # of the largest singular value, below which a direction carries no information


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """x -> scale * rot @ x + trans, batched.

    Args:
        scale: [*b].
        rot: [*b, 3, 3].
        trans: [*b, 3], in the target's unit.
    """

    scale: Float[Tensor, "*b"]
    rot: Float[Tensor, "*b 3 3"]
    trans: Float[Tensor, "*b 3"]

    def apply(self, points: Float[Tensor, "*b n 3"]) -> Float[Tensor, "*b n 3"]:
        """Carry points of the source frame into the target frame."""
        rotated = points @ self.rot.transpose(-1, -2)
        return self.scale[..., None, None] * rotated + self.trans[..., None, :]


def procrustes(
    source: Float[Tensor, "*b n 3"],
    target: Float[Tensor, "*b n 3"],
    *,
    scale: bool,
    valid: Bool[Tensor, "*b n"] | None = None,
) -> Similarity:
    """Least-squares similarity (`scale=True`) or rigid motion (`scale=False`) from source to target.

    Source: Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991.

    Where the answer is not unique it is still one of the minimisers and finite: collinear points leave a free turn
    about their line, no valid point or a source without extent gives rot = I and scale = 1, a target without extent
    gives scale = 0. Gradients are exact wherever rot is unique, repeated singular values included, and zero along the
    turns the points say nothing about, so they are finite everywhere (see `nearest_rotation`).

    Args:
        source: points to move.
        target: points to meet, same unit.
        scale: whether the size may change.
        valid: points that count; the others may hold anything, NaN included. All by default.
    """
    return _align(source, target, scale=scale, valid=valid, reflection=False)


def procrustes_with_reflection(
    source: Float[Tensor, "*b n 3"],
    target: Float[Tensor, "*b n 3"],
    *,
    scale: bool,
    valid: Bool[Tensor, "*b n"] | None = None,
) -> Similarity:
    """Like `procrustes`, but det(rot) = -1 is allowed where it fits better; only to measure flips, never a metric."""
    return _align(source, target, scale=scale, valid=valid, reflection=True)


def nearest_rotation(matrix: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3 3"]:
    """The rotation R (det +1) that maximises tr(R^T matrix); the identity for a zero matrix.

    The gradient is that of the polar factor, R V [X_ij / (s_i + s_j)] V^T with X antisymmetric and s the signed
    singular values: unlike autograd through an SVD it has no 1 / (s_i - s_j). It is zero where s_i + s_j vanishes,
    which is where R is not unique (collinear points; a mirror image whose two smallest extents are equal).
    """
    rot: Tensor = _NearestRotation.apply(matrix)  # type: ignore[no-untyped-call]
    return rot


class _NearestRotation(torch.autograd.Function):
    """SVD forward, polar derivative backward."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        u, s, vt = torch.linalg.svd(matrix)
        handed = torch.ones_like(s)
        handed[..., 2] = _sign(torch.linalg.det(u @ vt))
        rot = torch.where((s[..., :1] == 0)[..., None], torch.eye(3).to(matrix), (u * handed[..., None, :]) @ vt)
        ctx.save_for_backward(rot, s * handed, vt)
        return rot

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_rot: Tensor) -> Tensor:
        rot, s, vt = ctx.saved_tensors
        pairs = s[..., :, None] + s[..., None, :]
        known = pairs > _RELATIVE_ZERO * s[..., :1, None]
        z = torch.where(known, vt @ rot.mT @ grad_rot @ vt.mT / torch.where(known, pairs, 1.0), 0.0)
        grad: Tensor = rot @ vt.mT @ (z - z.mT) @ vt
        return grad


def _sign(x: Tensor) -> Tensor:
    """-1 where negative, else +1: torch.sign(0) = 0 would flatten the body."""
    return torch.where(x < 0, -1.0, 1.0).to(x)


def _align(source: Tensor, target: Tensor, *, scale: bool, valid: Tensor | None, reflection: bool) -> Similarity:
    x, x_mean = _centred(source.double(), valid)
    y, y_mean = _centred(target.double(), valid)
    cross = y.mT @ x
    hand = _sign(torch.linalg.det(cross)) if reflection else torch.ones_like(cross[..., 0, 0])
    rot = hand[..., None, None] * nearest_rotation(hand[..., None, None] * cross)
    size = torch.ones_like(hand)
    if scale:
        spread = x.square().sum(dim=(-1, -2))
        size = torch.where(spread > 0, (rot * cross).sum(dim=(-1, -2)) / torch.where(spread > 0, spread, 1.0), 1.0)
    trans = y_mean - size[..., None] * (rot @ x_mean[..., None])[..., 0]
    return Similarity(scale=size.to(source), rot=rot.to(source), trans=trans.to(source))


def _centred(points: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Points less the mean of the valid ones, the others zero; and that mean."""
    if valid is None:
        mean = points.mean(dim=-2)
        return points - mean[..., None, :], mean
    kept = torch.where(valid[..., None], points, 0.0)
    mean = kept.sum(dim=-2) / valid.sum(dim=-1).clamp_min(1)[..., None]
    return torch.where(valid[..., None], points - mean[..., None, :], 0.0), mean
