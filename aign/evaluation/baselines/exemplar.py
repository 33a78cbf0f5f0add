"""Baselines that learn nothing: the mean pose, and the memory's nearest pose seen from round about."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from aign.evaluation.lifting import Method
from aign.geometry.rotation import from_6d, from_axis_angle
from aign.tasks.lifting.frames import Frames
from aign.tasks.lifting.nets import FACING
from aign.tasks.lifting.observation import observe

CHUNK = 1024


def mean_pose(canonical_m: Float[Tensor, "n 17 3"]) -> Method:
    """The memory's mean canonical pose, upright and facing the camera, whatever is seen."""
    mean = canonical_m.mean(0) @ from_6d(torch.tensor(FACING)).mT

    def method(frames: Frames) -> Tensor:
        _, rot = observe(frames.kp2d_px.unsqueeze(1), frames.conf.unsqueeze(1), frames.camera)
        return mean @ rot

    return method


def nearest_pose(canonical_m: Float[Tensor, "n 17 3"], poses: int = 256, yaws: int = 24) -> Method:
    """The memory pose whose picture is nearest: 3D as 2D and a look-up (Chen and Ramanan, CVPR 2017).

    Poses are thinned evenly and turned about the vertical; pictures are compared as scaled orthographic projections,
    centred and of unit size, confidence-weighted.
    """
    keep = torch.linspace(0, len(canonical_m) - 1, min(poses, len(canonical_m))).round().long()
    turn = torch.zeros(yaws, 3)
    turn[:, 1] = torch.arange(yaws) * (2 * math.pi / yaws)
    turned = canonical_m[keep].unsqueeze(1) @ from_axis_angle(turn).mT.unsqueeze(0)
    bank = (turned @ from_6d(torch.tensor(FACING)).mT).flatten(0, 1)

    def method(frames: Frames) -> Tensor:
        seen, rot = observe(frames.kp2d_px.unsqueeze(1), frames.conf.unsqueeze(1), frames.camera)
        best = [
            _nearest(bank[..., :2], seen.kp2d[i : i + CHUNK, 0], seen.conf[i : i + CHUNK, 0])
            for i in range(0, len(rot), CHUNK)
        ]
        return bank[torch.cat(best)] @ rot

    return method


def _nearest(bank: Float[Tensor, "m 17 2"], seen: Float[Tensor, "b 17 2"], conf: Float[Tensor, "b 17"]) -> Tensor:
    """Index of the bank picture that explains each seen one best under the best shift and scale.

    With weights w, the residual of the best scale is |x|^2 - <x, y>^2 / |y|^2 after both are centred.
    """
    w = conf / conf.sum(1, keepdim=True).clamp_min(1e-9)
    x = seen - torch.einsum("bj,bjd->bd", w, seen).unsqueeze(1)
    mean = torch.einsum("bj,mjd->bmd", w, bank)
    power = torch.einsum("bj,mj->bm", w, bank.square().sum(-1)) - mean.square().sum(-1)
    # x is centred, so centring the bank does not change the inner product.
    agreement = torch.einsum("bjd,mjd->bm", w.unsqueeze(-1) * x, bank).clamp_min(0)
    return (agreement.square() / power.clamp_min(1e-9)).argmax(1)
