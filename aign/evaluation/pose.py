"""Pose metrics: one value per pose, in millimetres, from joints in metres.

Convention: metrics do not depend on the axes of the frame, but prediction and target must share it. Whoever calls says
what counts: `valid` marks the joints that are averaged, `root` names the joints whose mean is the origin (they need not
be among those that are averaged; none where the joints already are relative to an origin that is no joint). A pose
without any valid joint has no value: NaN. No gradient: losses live in `aign.losses`.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aign.evaluation.alignment import aligned_distance

Alignment = Literal["root", "similarity", "scale", "rigid", "limb329"]
Metric = Callable[[Tensor, Tensor, Tensor, tuple[int, ...]], Tensor]

MM_PER_M = 1000.0
FLIP_GAIN = 0.5
LIMB_LENGTH_M = 0.329
# right hip - right shoulder and left hip - left shoulder in H36M-17; see `limb329_mpjpe`
LIMBS = ((1, 14), (4, 11))


@torch.no_grad()
def centre(joints_m: Float[Tensor, "*b j 3"], root: tuple[int, ...]) -> Float[Tensor, "*b j 3"]:
    """Joints in float64 relative to the mean of the root joints, for example (0,) or both hips; () leaves them."""
    joints = joints_m.double()
    if not root:
        return joints
    return joints - joints[..., list(root), :].mean(dim=-2, keepdim=True)


@torch.no_grad()
def mpjpe(
    pred_m: Float[Tensor, "*b j 3"],
    target_m: Float[Tensor, "*b j 3"],
    valid: Bool[Tensor, "*b j"],
    root: tuple[int, ...],
) -> Float[Tensor, "*b"]:
    """Mean distance over the valid joints after both roots are put at the origin ("Protocol 1" of the lifters)."""
    return _mean_distance_mm(centre(pred_m, root), centre(target_m, root), valid)


@torch.no_grad()
def n_mpjpe(
    pred_m: Float[Tensor, "*b j 3"],
    target_m: Float[Tensor, "*b j 3"],
    valid: Bool[Tensor, "*b j"],
    root: tuple[int, ...],
) -> Float[Tensor, "*b"]:
    """`mpjpe` after the prediction is multiplied by sum<g, p> / sum<p, p> over the valid joints of the same pose.

    Source: Rhodin et al., CVPR 2018, in VideoPose3D's form. A prediction without extent keeps its size.
    """
    pred, target = centre(pred_m, root), centre(target_m, root)
    p = torch.where(valid[..., None], pred, 0.0)
    g = torch.where(valid[..., None], target, 0.0)
    extent = p.square().sum(dim=(-1, -2))
    scale = torch.where(extent > 0, (p * g).sum(dim=(-1, -2)) / extent, 1.0)
    return _mean_distance_mm(scale[..., None, None] * pred, target, valid)


@torch.no_grad()
def pa_mpjpe(
    pred_m: Float[Tensor, "*b j 3"], target_m: Float[Tensor, "*b j 3"], valid: Bool[Tensor, "*b j"]
) -> Float[Tensor, "*b"]:
    """Mean distance after the best similarity of each pose, reflections excluded ("Protocol 2", P-MPJPE)."""
    return MM_PER_M * _aligned(pred_m, target_m, valid)


@torch.no_grad()
def rigid_mpjpe(
    pred_m: Float[Tensor, "*b j 3"], target_m: Float[Tensor, "*b j 3"], valid: Bool[Tensor, "*b j"]
) -> Float[Tensor, "*b"]:
    """Mean distance after the best rotation and translation of each pose: the size must be right."""
    return MM_PER_M * _aligned(pred_m, target_m, valid, scale=False)


@torch.no_grad()
def is_flipped(
    pred_m: Float[Tensor, "*b j 3"], target_m: Float[Tensor, "*b j 3"], valid: Bool[Tensor, "*b j"]
) -> Bool[Tensor, "*b"]:
    """Whether a mirror would have paid: reflection-allowed PA-MPJPE below half of PA-MPJPE.

    A lifter that sees only 2D joints can confuse front and back; the alignment must not hide it, this counts it.
    """
    return _aligned(pred_m, target_m, valid, reflection=True) < FLIP_GAIN * _aligned(pred_m, target_m, valid)


@torch.no_grad()
def limb329_mpjpe(
    pred_m: Float[Tensor, "*b 17 3"],
    target_m: Float[Tensor, "*b 17 3"],
    valid: Bool[Tensor, "*b 17"],
    root: tuple[int, ...],
) -> Float[Tensor, "*b"]:
    """`mpjpe` after the prediction is scaled until the mean of two limbs is 329 mm; the predicted rotation is kept.

    A candidate reading of the slide's numbers, from dead code in the authors' later repository: scale =
    329 / mean(|J2 - J12|, |J3 - J13|), no Procrustes. That code does not name its joints. Among the joint orders of the
    field only MPII-16 makes both pairs the same limb, right and left: hip to shoulder, joints 1-14 and 4-11 of H36M-17.
    Assumed here. (It is long in Human3.6M, near 480 mm, so either the order or the unit is still not understood: never
    use this number as a headline.) NaN where one of the four joints is not valid or the limbs have no length.
    """
    pred = centre(pred_m, root)
    limbs = torch.stack([(pred[..., a, :] - pred[..., b, :]).norm(dim=-1) for a, b in LIMBS], dim=-1)
    known = torch.stack([valid[..., a] & valid[..., b] for a, b in LIMBS], dim=-1).all(dim=-1)
    length = limbs.mean(dim=-1)
    scale = torch.where(known & (length > 0), LIMB_LENGTH_M / length, torch.nan)
    return _mean_distance_mm(scale[..., None, None] * pred, centre(target_m, root), valid)


METRICS: Mapping[Alignment, tuple[str, Metric]] = {
    "root": ("MPJPE", mpjpe),
    "similarity": ("PA-MPJPE", lambda pred, target, valid, _: pa_mpjpe(pred, target, valid)),
    "scale": ("N-MPJPE", n_mpjpe),
    "rigid": ("Rigid MPJPE", lambda pred, target, valid, _: rigid_mpjpe(pred, target, valid)),
    "limb329": ("Limb-329 MPJPE", limb329_mpjpe),
}
"""What each alignment is called in tables, and its function of (pred_m, target_m, valid, root)."""


def _mean_distance_mm(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    distance = torch.where(valid, (pred - target).norm(dim=-1), 0.0)
    return MM_PER_M * distance.sum(dim=-1) / valid.sum(dim=-1)


def _aligned(
    pred_m: Tensor, target_m: Tensor, valid: Tensor, *, scale: bool = True, reflection: bool = False
) -> Tensor:
    mask = None if bool(valid.all()) else valid
    return aligned_distance(pred_m, target_m, mask, scale=scale, reflection=reflection)
