"""Posing an SMPL-format body: shape blend, pose blend, forward kinematics, linear blend skinning.

Loper et al., "SMPL: A Skinned Multi-Person Linear Model" (2015), eqs. 2-10.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from aign.body.assets import BodyAssets


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
    tree = levels(parents)
    order = [j for level in tree for j in level]
    place = {j: i for i, j in enumerate(order)}
    rotations, positions = [rotmats[:, tree[0]]], [rest_joints_m[:, tree[0]]]
    above = 0
    for depth, joints in enumerate(tree[1:], start=1):
        up = [place[parents[j]] - above for j in joints]  # index inside the level above
        offset = rest_joints_m[:, joints] - rest_joints_m[:, [parents[j] for j in joints]]
        parent_rot = rotations[-1][:, up]
        positions.append(positions[-1][:, up] + (parent_rot @ offset[..., None])[..., 0])
        rotations.append(parent_rot @ rotmats[:, joints])
        above += len(tree[depth - 1])
    back = [place[j] for j in range(len(parents))]
    return torch.cat(rotations, 1)[:, back], torch.cat(positions, 1)[:, back]


def rest_joints(body: BodyAssets, betas: Float[Tensor, "b s"]) -> Float[Tensor, "b 24 3"]:
    """Joints of the shaped body in the T-pose, metres."""
    used = betas.shape[-1]
    return body.rest_joints_m + torch.einsum("bs,jcs->bjc", betas, body.joint_shape_dirs[..., :used])


def joints_only(
    body: BodyAssets, rotmats: Float[Tensor, "b 24 3 3"], betas: Float[Tensor, "b s"], trans_m: Float[Tensor, "b 3"]
) -> Float[Tensor, "b 24 3"]:
    """The 24 joints that `skin` would return, without building a vertex."""
    _, joints = forward_kinematics(rotmats, rest_joints(body, betas), body.parents)
    return joints + trans_m[:, None]


def skin(
    body: BodyAssets, rotmats: Float[Tensor, "b 24 3 3"], betas: Float[Tensor, "b s"], trans_m: Float[Tensor, "b 3"]
) -> Skinned:
    """Pose and shape a body. Differentiable in all three inputs; dtype and device must be those of the body.

    Convention: rotations are local; `trans_m` is SMPL's `transl`, added last, so the pelvis joint comes to lie at its
    rest position plus `trans_m` and the global rotation turns the body about the pelvis.

    Args:
        body: The body.
        rotmats: Local rotation of each of the 24 SMPL joints, the first one global.
        betas: Shape coefficients; fewer than the body has leaves the rest at zero.
        trans_m: Translation.
    """
    template, shape_rows, pose_rows = body.vertex_rows
    batch = len(rotmats)
    rest = rest_joints(body, betas)
    world, joints = forward_kinematics(rotmats, rest, body.parents)
    shaped = template.flatten() + betas @ shape_rows[: betas.shape[-1]]
    if pose_rows is not None:
        identity = torch.eye(3, dtype=rotmats.dtype, device=rotmats.device)
        shaped = shaped + (rotmats[:, 1:] - identity).flatten(1) @ pose_rows
    shift = joints - (world @ rest[..., None])[..., 0]
    # One product blends the 12 numbers of every joint's transform for all vertices; x, y, z stay in rows of their own.
    bones = torch.cat([world, shift[..., None]], -1).flatten(2).mT
    blend = (bones @ body.weights.mT).view(batch, 3, 4, -1)
    vertices = (blend[:, :, :3] * shaped.view(batch, 1, 3, -1)).sum(2) + blend[:, :, 3] + trans_m[..., None]
    return Skinned(vertices_m=vertices.mT, joints_m=joints + trans_m[:, None])
