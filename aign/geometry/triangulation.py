"""Points in space from what several calibrated cameras see of them."""

from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aign.framework.errors import UserError
from aign.geometry.camera import NEAR_M, Pinhole, Rigid, project, undistort

MIN_PARALLAX_RAD = 0.01
"""Rays that meet at less than this angle fix no depth."""

_REFINEMENTS = 20


def triangulate(
    kp2d_px: Float[Tensor, "c *n 2"],
    conf: Float[Tensor, "c *n"],
    cameras: Pinhole,
    world_to_cam: Rigid,
    inlier_px: float = 40.0,
) -> tuple[Float[Tensor, "*n 3"], Float[Tensor, "c *n"], Bool[Tensor, "*n"]]:
    """Confidence-weighted, outlier-tolerant triangulation of every point on its own.

    A linear solution (DLT) is made from each pair of views and from all views; the one that most confidence agrees
    with starts a Gauss-Newton refinement of the pixel distances under Geman-McClure weights, so that a wrong view is
    outvoted instead of averaged. Cost grows with the square of the number of views.

    Convention: pixels and world_to_cam as in `aign.geometry.camera`; the result is in the cameras' world, metres.
    Source: Hartley and Zisserman, Multiple View Geometry, 12.2 (linear triangulation); Geman and McClure, 1987.

    Args:
        kp2d_px: the points in c views, not necessarily finite.
        conf: how far to trust each, any scale >= 0; 0, NaN or a non-finite point: not seen.
        cameras: intrinsics, batch [c].
        world_to_cam: poses, batch [c].
        inlier_px: the distance at which a view loses most of its say; about three times the detector's error.

    Returns:
        points_world_m: 0 where not valid.
        reprojection_px: distance in the image of each view, NaN where that view does not see the point or the
            point is not valid.
        valid: at least two views agree within `inlier_px`, see the point in front of them, and their rays meet at
            `MIN_PARALLAX_RAD` or more.

    Raises:
        UserError: fewer than two cameras.
    """
    num_cameras = kp2d_px.shape[0]
    if num_cameras < 2:
        raise UserError(f"triangulation got {num_cameras} camera(s); allowed: two or more")
    with torch.no_grad():
        pixels = kp2d_px.double().flatten(1, -2) if kp2d_px.ndim > 2 else kp2d_px.double().unsqueeze(1)
        weight = conf.double().reshape(num_cameras, -1)
        seen = pixels.isfinite().all(-1) & (weight > 0) & weight.isfinite()
        pixels = pixels.masked_fill(~seen.unsqueeze(-1), 0.0)
        weight = torch.where(seen, weight, torch.zeros_like(weight))
        lens, pose = _double(cameras, world_to_cam)
        rays = undistort(pixels, lens)
        points = _best_start(rays, weight, lens, pose, inlier_px)
        for _ in range(_REFINEMENTS):
            points = points - _newton_step(points, rays, weight, lens, pose, inlier_px)
        moved = pose.apply(points.expand(num_cameras, *points.shape))
        distance = (project(moved, lens) - pixels).norm(dim=-1)
        agrees = seen & (distance <= inlier_px) & (moved[..., 2] > NEAR_M)
        valid = (agrees.sum(0) >= 2) & (_parallax(points, agrees, pose) >= MIN_PARALLAX_RAD)
        points = points.masked_fill(~valid.unsqueeze(-1), 0.0)
        distance = distance.masked_fill(~(seen & valid), torch.nan)
    shape = kp2d_px.shape[1:-1]
    dtype = kp2d_px.dtype
    return points.reshape(*shape, 3).to(dtype), distance.reshape(conf.shape).to(dtype), valid.reshape(shape)


def _double(cameras: Pinhole, world_to_cam: Rigid) -> tuple[Pinhole, Rigid]:
    lens = Pinhole(
        focal_px=cameras.focal_px.double(),
        centre_px=cameras.centre_px.double(),
        distortion=cameras.distortion.double(),
    )
    return lens, Rigid(rot=world_to_cam.rot.double(), trans_m=world_to_cam.trans_m.double())


def _linear(rays: Float[Tensor, "c n 2"], weight: Float[Tensor, "c n"], pose: Rigid) -> Float[Tensor, "n 3"]:
    """Solve (x r3 - r1) X = t1 - x t3 and its y twin in least squares."""
    rot, trans = pose.rot[:, None], pose.trans_m[:, None]
    left = rays.unsqueeze(-1) * rot[..., 2:3, :] - rot[..., :2, :]  # [c, n, 2, 3]
    right = trans[..., :2] - rays * trans[..., 2:]
    return _solve(
        torch.einsum("cn,cnki,cnkj->nij", weight, left, left), torch.einsum("cn,cnki,cnk->ni", weight, left, right)
    )


def _solve(matrix: Float[Tensor, "n 3 3"], vector: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Solve with a ridge far below the data: points that no two views see must give numbers, not an exception."""
    size = matrix.diagonal(dim1=-2, dim2=-1).sum(-1)
    ridge = (1e-12 * size + 1e-300)[:, None, None] * torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    solution: Tensor = torch.linalg.solve_ex(matrix + ridge, vector)[0]
    return solution.nan_to_num(0.0, 0.0, 0.0)


def _best_start(
    rays: Float[Tensor, "c n 2"], weight: Float[Tensor, "c n"], lens: Pinhole, pose: Rigid, inlier_px: float
) -> Float[Tensor, "n 3"]:
    num_cameras = rays.shape[0]
    best = _linear(rays, weight, pose)
    least = _cost(best, rays, weight, lens, pose, inlier_px)
    for pair in combinations(range(num_cameras), 2):
        rows = list(pair)
        guess = _linear(rays[rows], weight[rows], Rigid(rot=pose.rot[rows], trans_m=pose.trans_m[rows]))
        cost = _cost(guess, rays, weight, lens, pose, inlier_px)
        better = cost < least
        best = torch.where(better.unsqueeze(-1), guess, best)
        least = torch.where(better, cost, least)
    return best


def _residual_px(
    points: Float[Tensor, "n 3"], rays: Float[Tensor, "c n 2"], lens: Pinhole, pose: Rigid
) -> tuple[Float[Tensor, "c n 2"], Float[Tensor, "c n 3"]]:
    """Distance from the undistorted rays, in pixels of a lens without distortion, and the points in each camera."""
    moved = pose.apply(points.expand(rays.shape[0], *points.shape))
    flat = moved[..., :2] / moved[..., 2:].clamp_min(NEAR_M)
    return (flat - rays) * lens.focal_px.unsqueeze(1), moved


def _cost(
    points: Float[Tensor, "n 3"],
    rays: Float[Tensor, "c n 2"],
    weight: Float[Tensor, "c n"],
    lens: Pinhole,
    pose: Rigid,
    inlier_px: float,
) -> Float[Tensor, " n"]:
    """Geman-McClure: each view adds at most its confidence, also when the point lies behind it."""
    residual, _ = _residual_px(points, rays, lens, pose)
    square = residual.square().sum(-1) / inlier_px**2
    return (weight * square / (1 + square)).sum(0)


def _newton_step(
    points: Float[Tensor, "n 3"],
    rays: Float[Tensor, "c n 2"],
    weight: Float[Tensor, "c n"],
    lens: Pinhole,
    pose: Rigid,
    inlier_px: float,
) -> Float[Tensor, "n 3"]:
    """One Gauss-Newton step; the weight of a view is the slope of its Geman-McClure cost."""
    residual, moved = _residual_px(points, rays, lens, pose)
    trust = weight / (1 + residual.square().sum(-1) / inlier_px**2).square()
    depth = moved[..., 2:].clamp_min(NEAR_M)
    slope = torch.zeros(*residual.shape, 3, dtype=points.dtype, device=points.device)
    slope[..., 0, 0] = slope[..., 1, 1] = 1.0
    slope[..., 2] = -moved[..., :2] / depth
    jacobian = lens.focal_px[:, None, :, None] * (slope @ pose.rot[:, None]) / depth.unsqueeze(-1)
    return _solve(
        torch.einsum("cn,cnki,cnkj->nij", trust, jacobian, jacobian),
        torch.einsum("cn,cnki,cnk->ni", trust, jacobian, residual),
    )


def _parallax(points: Float[Tensor, "n 3"], agrees: Bool[Tensor, "c n"], pose: Rigid) -> Float[Tensor, " n"]:
    """The widest angle at which two agreeing views see each point."""
    centres = pose.inverse().trans_m
    towards = torch.nn.functional.normalize(points - centres.unsqueeze(1), dim=-1)
    sine = torch.linalg.cross(towards.unsqueeze(0), towards.unsqueeze(1)).norm(dim=-1)
    cosine = torch.einsum("cni,dni->cdn", towards, towards)
    angle = torch.atan2(sine, cosine)
    return angle.masked_fill(~(agrees.unsqueeze(0) & agrees.unsqueeze(1)), 0.0).amax((0, 1))
