"""A bound that sees the truth: the best that any lifter with this pose basis could do."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aign.evaluation.lifting import View, measure
from aign.evaluation.report import Provenance, Report
from aign.framework.errors import UserError
from aign.geometry.skeleton import H36M17
from aign.geometry.torso import canonical
from aign.tasks.lifting.factors import PoseBasis

TORSO = H36M17.index("pelvis", "thorax", "l_hip", "r_hip")
"""Joints that the torso's frame is made of."""


def nearest_in_basis(
    joints_cam_m: Float[Tensor, "n 17 3"], valid: Bool[Tensor, "n 17"], basis: PoseBasis
) -> Float[Tensor, "n 17 3"]:
    """The pose in the span of the basis that is nearest to each true one.

    Least squares over the valid joints in the torso's frame: orientation and pelvis are taken from the truth, so what
    is left is what the basis cannot express. It is not the least PA-MPJPE that the basis allows, but close above it.

    Convention: answers are in the frame of the truth.

    Args:
        joints_cam_m: true joints, metres.
        valid: joints that are known; a pose whose torso is not has no torso frame, and its answer means nothing.
        basis: mean and components in the torso's frame.
    """
    pose, rot = canonical(joints_cam_m.double(), H36M17)
    weight = valid.double().repeat_interleave(3, dim=1)
    directions = basis.components_m.double().flatten(1)
    offset = torch.where(weight > 0, (pose - basis.mean_m.double()).flatten(1), 0.0)
    if bool(valid.all()):
        coefficients = offset @ torch.linalg.pinv(directions)
    else:
        # Normal equations of each pose's own joints; the pseudo-inverse leaves alone what its joints do not say.
        normal = torch.einsum("kp,np,lp->nkl", directions, weight, directions)
        right = torch.einsum("kp,np->nk", directions, offset)
        coefficients = (torch.linalg.pinv(normal, hermitian=True) @ right.unsqueeze(-1)).squeeze(-1)
    nearest = basis.mean_m.double() + (coefficients @ directions).reshape(-1, 17, 3)
    pelvis = joints_cam_m.double()[:, :1]
    joints: Tensor = (nearest @ rot.mT + pelvis).to(joints_cam_m.dtype)
    return joints


def measure_oracle(basis: PoseBasis, view: View, protocol: str, provenance: Provenance) -> Report:
    """The bound under a protocol; poses whose torso is not known are skipped, and counted as skipped.

    Raises:
        UserError: no pose has a known torso, or what `evaluate` raises.
    """
    known = view.valid[:, list(TORSO)].all(dim=1)
    if not bool(known.any()):
        raise UserError(f"got {len(known)} poses without pelvis, thorax and both hips; the bound needs them")
    standing = torch.where(known[:, None, None], view.joints_cam_m, basis.mean_m.to(view.joints_cam_m))
    judged = replace(view, valid=view.valid & known.unsqueeze(1))
    answer = nearest_in_basis(standing, judged.valid | ~known.unsqueeze(1), basis)
    return measure(lambda _: answer, judged, protocol, provenance)
