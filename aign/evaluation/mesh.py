"""Metrics of bodies with a surface and of their motion: one value per frame, from metres.

Convention: metrics do not depend on the axes of the frame, but prediction and target must share it. Every function says
what it forgives. A frame for which the value is not defined has NaN (the ends of a run have no acceleration, a walking
foot does not slide). Work is done in float64 and without gradient: losses live in `aign.losses`.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from aign.evaluation.alignment import aligned_distance
from aign.evaluation.pose import MM_PER_M

STATIC_FOOT_M = 0.01
"""A foot that truly moves less than this from one frame to the next stands."""


@torch.no_grad()
def pve_mm(
    pred_m: Float[Tensor, "n v 3"],
    target_m: Float[Tensor, "n v 3"],
    pred_pelvis_m: Float[Tensor, "n 3"],
    target_pelvis_m: Float[Tensor, "n 3"],
) -> Float[Tensor, " n"]:
    """Mean vertex distance after both pelvis joints are put at the origin (PVE, MPVPE); orientation and size count.

    Papers differ: some do not align the pelvis first, which adds the error in depth. Here it always is aligned.
    """
    pred = pred_m.double() - pred_pelvis_m.double()[:, None]
    target = target_m.double() - target_pelvis_m.double()[:, None]
    return _mean_distance_mm(pred, target)


@torch.no_grad()
def pa_pve_mm(pred_m: Float[Tensor, "n v 3"], target_m: Float[Tensor, "n v 3"]) -> Float[Tensor, " n"]:
    """Mean vertex distance after the best similarity of each frame, reflections excluded: shape and pose alone."""
    return MM_PER_M * aligned_distance(pred_m, target_m)


@torch.no_grad()
def surface_canonical_mm(
    pred_body_m: Float[Tensor, "n v 3"], target_body_m: Float[Tensor, "n v 3"]
) -> Float[Tensor, " n"]:
    """Mean vertex distance in the body frame: a wrong global rotation or translation costs nothing.

    Source: `centered_mesh_loss` of the code released with Tung et al., NIPS 2017. Nothing is aligned after the fact:
    the global rotation that is left out is the one that each side states, so turning the spine instead still costs.

    Args:
        pred_body_m: posed vertices before the global rotation and the translation.
        target_body_m: likewise.
    """
    return _mean_distance_mm(pred_body_m.double(), target_body_m.double())


@torch.no_grad()
def acceleration_mm_per_frame2(
    pred_m: Float[Tensor, "n j 3"],
    target_m: Float[Tensor, "n j 3"],
    valid: Bool[Tensor, "n j"],
    run: Int[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """Mean over joints of |second difference of the prediction - that of the target|, mm per frame squared.

    Depends on the frame rate; `acceleration_m_per_s2` does not. Papers give joints relative to the pelvis.

    Args:
        pred_m: joints, in the order of time within a run.
        target_m: likewise.
        valid: joints that are known; one counts where it is in all three frames.
        run: number of the unbroken run of frames of each row; rows of a run stand together.

    Returns:
        [n]; NaN where the frame before or after is not of the same run, or no joint is known in all three.
    """
    gap = pred_m.double() - target_m.double()
    second = (gap[2:] - 2 * gap[1:-1] + gap[:-2]).norm(dim=-1)
    counted = valid[2:] & valid[1:-1] & valid[:-2] & (run[2:] == run[:-2])[:, None]
    error = torch.full((len(gap),), torch.nan, dtype=torch.float64, device=gap.device)
    # 0 / 0 is the NaN that is wanted where nothing counts, as below.
    error[1:-1] = MM_PER_M * torch.where(counted, second, 0.0).sum(dim=-1) / counted.sum(dim=-1)
    return error


@torch.no_grad()
def acceleration_m_per_s2(
    pred_m: Float[Tensor, "n j 3"],
    target_m: Float[Tensor, "n j 3"],
    valid: Bool[Tensor, "n j"],
    run: Int[Tensor, " n"],
    fps: Float[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """`acceleration_mm_per_frame2` in metres per second squared, whatever the rate of the frames."""
    return acceleration_mm_per_frame2(pred_m, target_m, valid, run) / MM_PER_M * fps.double().square()


@torch.no_grad()
def foot_slide_mm(
    pred_m: Float[Tensor, "n k 3"],
    target_m: Float[Tensor, "n k 3"],
    valid: Bool[Tensor, "n k"],
    run: Int[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """How far the predicted feet move to the next frame where the true ones stand (< 1 cm), mm per frame.

    Nothing is aligned, so a wobbling depth is foot slide too. The points must be in a frame that stands still: the
    world, or a camera that does.

    Args:
        pred_m: k points of the feet, joints or vertices, in the order of time within a run.
        target_m: likewise.
        valid: points that are known.
        run: number of the unbroken run of frames of each row; rows of a run stand together.

    Returns:
        [n], the mean over the points that stand; NaN where none does or the next frame is not of the same run.
    """
    moved = pred_m.double().diff(dim=0).norm(dim=-1)
    stands = target_m.double().diff(dim=0).norm(dim=-1) < STATIC_FOOT_M
    stands &= valid[1:] & valid[:-1] & (run[1:] == run[:-1])[:, None]
    slide = torch.full((len(pred_m),), torch.nan, dtype=torch.float64, device=pred_m.device)
    slide[:-1] = MM_PER_M * torch.where(stands, moved, 0.0).sum(dim=-1) / stands.sum(dim=-1)
    return slide


def _mean_distance_mm(pred: Tensor, target: Tensor) -> Tensor:
    distance: Tensor = (pred - target).norm(dim=-1)
    return MM_PER_M * distance.mean(dim=-1)
