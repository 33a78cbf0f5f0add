"""Visible vertices should move as the picture does (papers.md 2.5, L_motion), in pixels.

Convention: flow(x) = position in the next picture minus position x in this one, on the pixels of this one; x right,
y down; pixel (0, 0) is the centre of the top-left pixel.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import grid_sample

CONSISTENCY_SLOPE = 0.01
CONSISTENCY_FLOOR_PX2 = 0.1
"""Of the test in `consistent`; the paper has 0.5 for pictures 480 px high, benchmarks/results/flow.md says why less."""
NOISE_PX = 0.5
"""Errors below this, about what flow itself is wrong by (benchmarks/results/flow.md), count quadratically."""


def consistent(
    flow_px: Float[Tensor, "n h w 2"],
    flow_valid: Bool[Tensor, "n h w"],
    back_px: Float[Tensor, "n h w 2"],
    back_valid: Bool[Tensor, "n h w"],
) -> Bool[Tensor, "n h w"]:
    """Where the flow is valid and going there and back ends at the start.

    |f(x) + b(x + f(x))|^2 < slope (|f(x)|^2 + |b(x + f(x))|^2) + floor (Sundaram, Brox, Keutzer, "Dense Point
    Trajectories by GPU-accelerated Large Displacement Optical Flow", ECCV 2010, eq. 5); false where one of the four
    pixels round the target is not valid or lies outside of the picture.
    """
    n, height, width = flow_valid.shape
    y, x = torch.meshgrid(
        torch.arange(height, device=flow_px.device), torch.arange(width, device=flow_px.device), indexing="ij"
    )
    target = torch.stack((x, y), -1).to(flow_px) + flow_px
    back, known = flow_at(target.flatten(1, 2), back_px, back_valid)
    back = back.reshape(flow_px.shape)
    gap = (flow_px + back).square().sum(-1)
    length = flow_px.square().sum(-1) + back.square().sum(-1)
    # A comparison with a flow that is not finite is false.
    close = gap < CONSISTENCY_SLOPE * length + CONSISTENCY_FLOOR_PX2
    return close & flow_valid & (known.view(n, height, width) > 0)


def flow_at(
    points_px: Float[Tensor, "n v 2"], flow_px: Float[Tensor, "n h w 2"], ok: Bool[Tensor, "n h w"]
) -> tuple[Float[Tensor, "n v 2"], Float[Tensor, "n v"]]:
    """Flow at points between pixels, bilinear; differentiable in the points.

    Returns:
        Flow, and weight 1 where all four pixels round the point are inside of the picture and ok; else both are 0.
        What the flow holds at pixels that are not ok does not matter.
    """
    height, width = ok.shape[1:]
    # x and y apart: on a last axis of two every operation takes several times as long.
    x, y = points_px.unbind(-1)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    x, y = (z.nan_to_num(0.0, 0.0, 0.0) for z in (x, y))
    # The four pixels round a point by their first one, which has another one to the right and below.
    column, row = (z.detach().floor().clamp(0, n - 2).to(torch.int64) for z, n in ((x, width), (y, height)))
    all_ok = ok[:, :-1, :-1] & ok[:, :-1, 1:] & ok[:, 1:, :-1] & ok[:, 1:, 1:]
    known = inside & all_ok.flatten(1).gather(1, row * (width - 1) + column)
    grid = torch.stack(((x + 0.5) * (2 / width) - 1, (y + 0.5) * (2 / height) - 1), -1)
    # Where the flow is not known it may be NaN, and 0 times NaN is NaN.
    sure = torch.where(ok.unsqueeze(1), flow_px.movedim(-1, 1), 0.0).to(points_px)
    read = grid_sample(sure, grid[:, None], padding_mode="border", align_corners=False)[:, :, 0]
    weight = known.to(points_px.dtype)
    return (read * weight[:, None]).mT, weight


def motion(
    points_px: Float[Tensor, "n v 2"],
    moved_px: Float[Tensor, "n v 2"],
    visible: Bool[Tensor, "n v"],
    flow_px: Float[Tensor, "n h w 2"],
    ok: Bool[Tensor, "n h w"],
) -> Float[Tensor, " n"]:
    """How much the visible vertices' own motion differs from the picture's: robust sum over the visible count, pixels.

    sqrt(|moved - points - flow(points)|^2 + e^2) - e with e = NOISE_PX: a few pixels with the flow of what lies behind
    the person pull no harder than all others. A visible vertex where the flow is not known counts as right, so that
    the less is known of a pair of pictures the less it says. Neither visibility nor what is known is differentiated.

    Args:
        points_px: projected vertices in the first picture.
        moved_px: the same ones in the second.
        visible: in the first.
        flow_px: from the first to the second.
        ok: where it can be trusted, e.g. of `consistent`.
    """
    flow, known = flow_at(points_px, flow_px, ok)
    counted = visible & (known > 0)
    u, v = (moved_px - points_px - flow).unbind(-1)
    u, v = (torch.where(counted, gap, 0.0) for gap in (u, v))
    distance = (u.square() + v.square() + NOISE_PX**2).sqrt() - NOISE_PX
    return distance.sum(-1) / visible.sum(-1).clamp_min(1)
