"""Mean joint distance after Procrustes, for many poses at once and without an SVD.

Evaluation needs only the distance that is left, for hundreds of thousands of poses, so the rotation is found in closed
form from the 3x3 cross-covariance A = sum_j g_j p_j^T, element by element over the whole batch. Write A = R H with H
symmetric and eigenvalues s1 >= s2 >= |s3| (s3 < 0 for a mirror image), and let l = tr H, e = s1 s2 + s2 s3 + s3 s1:

    l^2 = |A|^2 + 2 e,  e^2 = |cof A|^2 + 2 l det A        =>  l is the largest root of
    l^4 - 2 |A|^2 l^2 - 8 det(A) l + |A|^4 - 4 |cof A|^2   (Horn 1987's quartic), found by Laguerre from above;
    R = ((l^2 - e) A + l cof A - A A^T A) / (l e - det A)   (Cayley-Hamilton of H, multiplied by R from the left);

the best scale is l / sum |p_j|^2. The divisor is (s1 + s2)(s2 + s3)(s3 + s1): it vanishes exactly where R is not
unique. Poses near that, or whose root has not settled, go to `geometry.rigid.procrustes` instead. The two agree to
1e-6 mm.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aign.geometry.rigid import procrustes, procrustes_with_reflection

_CHUNK = 4096  # poses; the float64 working set of 17 joints then stays near the caches
_STEPS = 4
_SETTLED = 1e-6  # relative last step of a cubically converging iteration: what is left is below rounding
_WELL_POSED = 1e-3  # divisor / l^3 above which rounding stays below 1e-6 mm on bodies


@torch.no_grad()
def aligned_distance(
    source: Float[Tensor, "*b n 3"],
    target: Float[Tensor, "*b n 3"],
    valid: Bool[Tensor, "*b n"] | None = None,
    *,
    scale: bool = True,
    reflection: bool = False,
) -> Float[Tensor, "*b"]:
    """Mean distance over the valid points after the least-squares alignment of source to target; no gradient.

    Args:
        source: points to move, any float type; worked on in float64.
        target: points to meet.
        valid: points that count; the others may hold anything, NaN included.
        scale: whether the alignment may change the size.
        reflection: whether it may mirror (only for the flip rate).

    Returns:
        float64, in the unit of the input; NaN where no point is valid or a valid one is not finite.
    """
    n = source.shape[-2]
    x, y = source.reshape(-1, n, 3), target.reshape(-1, n, 3)
    kept = None if valid is None else valid.reshape(-1, n)
    out = torch.empty(len(x), dtype=torch.float64, device=x.device)
    trusted = torch.empty(len(x), dtype=torch.bool, device=x.device)
    buffers = _Buffers.like(x[:_CHUNK])
    for at in range(0, len(x), _CHUNK):
        part = slice(at, at + _CHUNK)
        poses = x[part], y[part], None if kept is None else kept[part]
        out[part], trusted[part] = _chunk(buffers, poses, scale=scale, reflection=reflection)
    rest = (~trusted).nonzero()[:, 0]
    if len(rest):
        mask = torch.ones_like(x[rest, :, 0], dtype=torch.bool) if kept is None else kept[rest]
        out[rest] = _by_svd(x[rest], y[rest], mask, scale=scale, reflection=reflection)
    return out.reshape(source.shape[:-2])


@dataclass(frozen=True, kw_only=True)
class _Buffers:
    """Reused from chunk to chunk: megabytes that come and go cost a page fault every 4 kB, half the run time."""

    source: Tensor
    target: Tensor
    gap: Tensor

    @classmethod
    def like(cls, points: Tensor) -> "_Buffers":
        wide = [torch.empty(points.numel(), dtype=torch.float64, device=points.device) for _ in range(3)]
        return cls(source=wide[0], target=wide[1], gap=wide[2])


def _chunk(
    buffers: _Buffers, poses: tuple[Tensor, Tensor, Tensor | None], *, scale: bool, reflection: bool
) -> tuple[Tensor, Tensor]:
    source, target, valid = poses
    mask = None if valid is None else valid.t()[:, None].double()
    p = _centred(source, mask, buffers.gap, buffers.source)
    g = _centred(target, mask, buffers.gap, buffers.target)
    cross = torch.zeros(3, 3, len(source), dtype=p.dtype, device=p.device)
    for g_j, p_j in zip(g[:, :, None].unbind(), p[:, None].unbind(), strict=True):
        cross.addcmul_(g_j, p_j)
    hand = 1 - 2 * (_determinant(cross) < 0).double() if reflection else None
    rot, trace, well_posed = _polar(cross if hand is None else cross * hand)
    if hand is not None:
        rot *= hand
    gap = buffers.gap[: p.numel()].view(p.shape)
    if scale:
        rot *= trace / torch.mul(p, p, out=gap).sum((0, 1))
    return _distance(rot, p, g, mask, gap), well_posed


def _centred(points: Tensor, mask: Tensor | None, stage: Tensor, out: Tensor) -> Tensor:
    """[b, n, 3] -> [n, 3, b] float64 in `out`, about the mean of the valid points, zero where not valid."""
    b, n, _ = points.shape
    near = stage[: points.numel()].view(b, 3 * n).copy_(points.reshape(b, 3 * n))  # a straight read, then turn in cache
    rows = out[: points.numel()].view(3 * n, b).copy_(near.t()).view(n, 3, b)
    if mask is None:
        return rows.sub_(rows.mean(0))
    rows.masked_fill_(mask == 0, 0.0)  # not a product: NaN * 0 is NaN
    return rows.sub_(rows.sum(0) / mask.sum(0)).mul_(mask)


def _polar(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rotation [3, 3, b] and trace [b] of the symmetric factor of a polar decomposition, and where to trust them."""
    gram = _product(a.transpose(0, 1), a)
    cof = _cofactors(a)
    det = (a[0] * cof[0]).sum(0)
    size = gram[0, 0] + gram[1, 1] + gram[2, 2]
    trace, settled = _largest_root(size, cof.square().sum((0, 1)), det)
    square = trace * trace
    pairs = (square - size).mul_(0.5)
    divisor = trace * pairs - det
    rot = (square - pairs) * a
    rot.addcmul_(trace, cof).sub_(_product(a, gram)).div_(divisor)
    return rot, trace, settled & (divisor > square.mul_(trace).mul_(_WELL_POSED))


def _largest_root(size: Tensor, area: Tensor, det: Tensor) -> tuple[Tensor, Tensor]:
    """Largest l with (l^2 - size)^2 - 8 det l - 4 area = 0, and where it is settled.

    l^2 = size + 2 e with e <= sqrt(area + 2 det l) turns a bound of l into an upper bound: an upper one where det > 0
    (from e^2 <= 3 area), a lower one where det < 0 (s1 <= l). All four roots are real (the eigenvalues of Horn's
    matrix), so Laguerre's steps for degree 4 fall to the largest from above without passing it; a good pose needs two.
    """
    above = (3 * area).sqrt_().mul_(2).add_(size).sqrt_()
    below = (size - 2 * area / size).clamp_min_(0).sqrt_()
    root = torch.addcmul(area, det, torch.where(det > 0, above, below), value=2)
    root = root.clamp_min_(0).sqrt_().mul_(2).add_(size).sqrt_()
    area4, det8 = 4 * area, 8 * det
    for step_number in range(_STEPS):
        square = root * root
        excess = square - size
        value = (excess * excess).sub_(area4).addcmul_(det8, root, value=-1)
        slope = (root * excess).mul_(4).sub_(det8)
        curve = square.mul_(2).add_(excess).mul_(48)  # 12 f''
        bend = (slope * slope).mul_(9).addcmul_(value, curve, value=-1).clamp_min_(0).sqrt_()
        step = value.div_(slope.add_(bend)).mul_(4)
        root.sub_(step)
        if step_number > 0:
            settled = step.abs_() <= _SETTLED * root
            if bool(settled.all()):
                break
    return root, settled


def _distance(rot: Tensor, p: Tensor, g: Tensor, mask: Tensor | None, gap: Tensor) -> Tensor:
    torch.mul(rot[:, 0], p[:, 0:1], out=gap)
    gap -= g
    gap.addcmul_(rot[:, 1], p[:, 1:2]).addcmul_(rot[:, 2], p[:, 2:3])
    square = gap[:, 0].square_().addcmul_(gap[:, 1], gap[:, 1]).addcmul_(gap[:, 2], gap[:, 2])
    if mask is None:
        return square.sqrt_().mean(0)
    return torch.div(square.sqrt_().sum(0), mask[:, 0].sum(0))


def _by_svd(source: Tensor, target: Tensor, valid: Tensor, *, scale: bool, reflection: bool) -> Tensor:
    align = procrustes_with_reflection if reflection else procrustes
    x, y = (torch.where(valid[..., None], points.double(), 0.0) for points in (source, target))
    finite = (x.isfinite() & y.isfinite()).all(dim=-1).all(dim=-1)  # an SVD would raise for all on one NaN
    x, y = (torch.where(finite[:, None, None], points, 0.0) for points in (x, y))
    gap = torch.linalg.vector_norm(align(x, y, scale=scale, valid=valid).apply(x) - y, dim=-1)
    mean = torch.where(valid, gap, 0.0).sum(-1) / valid.sum(-1)
    return torch.where(finite, mean, torch.nan)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product of [3, 3, b] stacks."""
    out = a[:, 0, None] * b[None, 0]
    return out.addcmul_(a[:, 1, None], b[None, 1]).addcmul_(a[:, 2, None], b[None, 2])


def _cofactors(a: Tensor) -> Tensor:
    """Rows a1 x a2, a2 x a0, a0 x a1."""
    wide = torch.cat((a, a[:, :2]), dim=1)  # columns modulo 3
    first, second = wide[:, 1:4], wide[:, 2:5]
    out = torch.empty_like(a)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        torch.mul(first[j], second[k], out=out[i]).addcmul_(second[j], first[k], value=-1)
    return out


def _determinant(a: Tensor) -> Tensor:
    return torch.sum(a[0] * torch.linalg.cross(a[1], a[2], dim=0), dim=0)
