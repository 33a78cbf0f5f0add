"""Posing an SMPL-format body: shape blend, pose blend, forward kinematics, linear blend skinning.

Loper et al., "SMPL: A Skinned Multi-Person Linear Model" (2015), eqs. 2-10.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from aign.body.assets import BodyAssets
from aign.framework.errors import UserError

SAMPLES_AT_ONCE = 4
"""Bodies blended at once on a CPU: 1.0 MB of blended matrices at SMPL's 6,890 vertices."""


@dataclass(frozen=True, kw_only=True)
class Skinned:
    """A posed body, in the frame of `trans_m`."""

    vertices_m: Float[Tensor, "b v 3"]
    joints_m: Float[Tensor, "b 24 3"]


def levels(parents: tuple[int, ...]) -> list[list[int]]:
    """Joints by depth in the tree: every joint's parent is one level above it."""
    depth = [0] * len(parents)
    for joint, parent in enumerate(parents):
        depth[joint] = 0 if parent < 0 else depth[parent] + 1
    return [[j for j, d in enumerate(depth) if d == level] for level in range(max(depth) + 1)]


def world_rotations(rotmats: Float[Tensor, "b j 3 3"], parents: tuple[int, ...]) -> Float[Tensor, "b j 3 3"]:
    """Local joint rotations (each in its parent's frame) -> rotations in the world.

    Convention: world[j] = world[parent(j)] @ local[j]; the root's local rotation is its world rotation.
    """
    world, _ = forward_kinematics(rotmats, rotmats.new_zeros(*rotmats.shape[:2], 3), parents)
    return world


def forward_kinematics(
    rotmats: Float[Tensor, "b j 3 3"], rest_joints_m: Float[Tensor, "b j 3"], parents: tuple[int, ...]
) -> tuple[Float[Tensor, "b j 3 3"], Float[Tensor, "b j 3"]]:
    """World rotation and position of every joint, one batched step per level of the tree.

    Convention: the root stays at its rest position, so a global rotation turns the body about the pelvis joint.
    """
    tree = _tree(parents, rotmats.device)
    rest = rest_joints_m.index_select(1, tree.order)
    offsets = torch.cat([rest[:, : tree.sizes[0]], rest[:, tree.sizes[0] :] - rest_joints_m[:, tree.above]], 1)
    local = torch.cat([rotmats.index_select(1, tree.order), offsets[..., None]], -1)
    bottom = local.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*local.shape[:2], 1, 4)
    first, *others = torch.cat([local, bottom], 2).split_with_sizes(tree.sizes, 1)
    world = [first]
    for level, up in zip(others, tree.ups, strict=True):
        world.append(world[-1].index_select(1, up) @ level)
    transforms = torch.cat(world, 1).index_select(1, tree.back)
    return transforms[..., :3, :3], transforms[..., :3, 3]


@dataclass(frozen=True, kw_only=True)
class _Tree:
    """Index lists of a joint tree, laid out level by level, on a device.

    Attributes:
        order: joints, level by level.
        back: where each joint stands in `order`.
        sizes: joints of each level.
        above: the parents of all joints in `order` that have one.
        ups: for each level but the first, where the parents stand in the level above.
    """

    order: Int[Tensor, " j"]
    back: Int[Tensor, " j"]
    sizes: list[int]
    above: Int[Tensor, " n"]
    ups: list[Int[Tensor, " _"]]


@cache
@torch.inference_mode(mode=False)  # kept: training may come after inference
def _tree(parents: tuple[int, ...], device: torch.device) -> _Tree:
    tree = levels(parents)
    order = [j for level in tree for j in level]
    return _Tree(
        order=torch.tensor(order, device=device),
        back=torch.tensor([order.index(j) for j in range(len(parents))], device=device),
        sizes=[len(level) for level in tree],
        above=torch.tensor([parents[j] for j in order if parents[j] >= 0], dtype=torch.int64, device=device),
        ups=[torch.tensor([above.index(parents[j]) for j in level], device=device) for above, level in pairwise(tree)],
    )


def rest_joints(body: BodyAssets, betas: Float[Tensor, "b s"]) -> Float[Tensor, "b 24 3"]:
    """Joints of the shaped body in the T-pose, metres."""
    used = betas.shape[-1]
    return body.rest_joints_m + torch.einsum("bs,jcs->bjc", betas, body.joint_shape_dirs[..., :used])


def joints_only(
    body: BodyAssets, rotmats: Float[Tensor, "b 24 3 3"], betas: Float[Tensor, "b s"], trans_m: Float[Tensor, "b 3"]
) -> Float[Tensor, "b 24 3"]:
    """The 24 joints that `skin` would return, without building a vertex. Can be differentiated twice."""
    _, joints = forward_kinematics(rotmats, rest_joints(body, betas), body.parents)
    return joints + trans_m[:, None]


def skin(
    body: BodyAssets, rotmats: Float[Tensor, "b 24 3 3"], betas: Float[Tensor, "b s"], trans_m: Float[Tensor, "b 3"]
) -> Skinned:
    """Pose and shape a body. Dtype and device must be those of the body.

    The vertices can be differentiated once in all three inputs; the joints any number of times.

    Convention: rotations are local; `trans_m` is SMPL's `transl`, added last, so the pelvis joint comes to lie at its
    rest position plus `trans_m` and the global rotation turns the body about the pelvis.

    Args:
        body: The body.
        rotmats: Local rotation of each of the 24 SMPL joints, the first one global.
        betas: Shape coefficients; fewer than the body has leaves the rest at zero.
        trans_m: Translation.

    Raises:
        UserError: on the way back, where second derivatives of the vertices were asked for.
    """
    template, directions = body.vertex_rows
    rest = rest_joints(body, betas)
    world, joints = forward_kinematics(rotmats, rest, body.parents)
    # Shape coefficients and entries of (R - I) side by side: shape and pose blend in one product.
    factors = [functional.pad(betas, (0, body.shape_dirs.shape[-1] - betas.shape[-1]))]
    if body.pose_dirs is not None:
        factors.append((rotmats[:, 1:] - torch.eye(3, dtype=rotmats.dtype, device=rotmats.device)).flatten(1))
    shaped = torch.addmm(template, torch.cat(factors, 1), directions).view(-1, *body.v_template_m.mT.shape)
    shifts = (joints - (world @ rest[..., None])[..., 0]).mT.contiguous()
    turns = world.flatten(2).mT.contiguous()
    vertices: Tensor = _Blend.apply(shaped, turns, shifts, trans_m, body.weight_rows)  # type: ignore[no-untyped-call]
    return Skinned(vertices_m=vertices.mT, joints_m=joints + trans_m[:, None])


class _Blend(torch.autograd.Function):
    """Linear blend skinning, x, y and z in rows of their own: keeps its small inputs and blends again going back.

    One product blends the nine numbers of every joint's rotation for all vertices of a few samples; few, so that what
    it makes stays in the cache of a CPU core.
    """

    @staticmethod
    def forward(
        ctx: Any,
        shaped_m: Float[Tensor, "b 3 v"],
        turns: Float[Tensor, "b 9 24"],
        shifts_m: Float[Tensor, "b 3 24"],
        trans_m: Float[Tensor, "b 3"],
        weight_rows: Float[Tensor, "24 v"],
    ) -> Float[Tensor, "b 3 v"]:
        ctx.save_for_backward(shaped_m, turns, weight_rows)
        posed = torch.addmm(trans_m.reshape(-1, 1), shifts_m.flatten(0, 1), weight_rows).view_as(shaped_m)
        for part, turn in _blended(turns, weight_rows):
            for axis in range(3):
                posed[part].addcmul_(turn[:, :, axis], shaped_m[part, axis, None])
        return posed

    @staticmethod
    def backward(
        ctx: Any, pull: Float[Tensor, "b 3 v"]
    ) -> tuple[Float[Tensor, "b 3 v"], Float[Tensor, "b 9 24"], Float[Tensor, "b 3 24"], Float[Tensor, "b 3"], None]:
        if torch.is_grad_enabled():
            raise UserError(
                "create_graph=True asks for second derivatives of skinned vertices; they have first ones only"
            )
        shaped_m, turns, weight_rows = ctx.saved_tensors
        pull = pull.contiguous()
        to_shaped, to_turns = torch.empty_like(shaped_m), torch.empty_like(turns)
        for part, turn in _blended(turns, weight_rows):
            mine = pull[part]
            torch.mul(turn[:, 0], mine[:, 0, None], out=to_shaped[part])
            for axis in (1, 2):
                to_shaped[part].addcmul_(turn[:, axis], mine[:, axis, None])
            product = torch.mul(mine[:, :, None], shaped_m[part, None], out=turn)
            torch.mm(product.flatten(0, 2), weight_rows.mT, out=to_turns[part].flatten(0, 1))
        to_shifts = (pull.flatten(0, 1) @ weight_rows.mT).view(-1, 3, turns.shape[-1])
        return to_shaped, to_turns, to_shifts, pull.sum(-1), None


def _blended(
    turns: Float[Tensor, "b 9 24"], weight_rows: Float[Tensor, "24 v"]
) -> Iterator[tuple[slice, Float[Tensor, "c 3 3 v"]]]:
    """A few samples at a time, the blended matrices of their vertices, in memory that the next ones take over."""
    batch, vertices = len(turns), weight_rows.shape[1]
    at_once = max(1, min(SAMPLES_AT_ONCE, batch) if turns.device.type == "cpu" else batch)
    space = turns.new_empty(at_once, 3, 3, vertices)
    for start in range(0, batch, at_once):
        part = slice(start, start + at_once)
        blend = space[: batch - start]
        torch.mm(turns[part].flatten(0, 1), weight_rows, out=blend.view(-1, vertices))
        yield part, blend
