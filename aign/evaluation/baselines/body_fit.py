"""Direct optimisation: bodies fitted to one clip by gradient descent through a network's own terms, without it.

`direct` is the row "Optimization" of the paper: pose, shape and place at once, from the mean pose in front of the
camera, without a prior (Tung et al., NIPS 2017). `staged` is a strong one after SMPLify (Bogo et al., ECCV 2016): the
camera first, from several sides, then the pose under a prior of poses and shapes, then silhouettes and motion. It
chooses each frame's side by what fits it and by its neighbours, or a person who spins would be lost. Both read
keypoints, masks and flow, never a label, and are told the same focal length as the network.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial, reduce

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aign.body.assets import BodyAssets, load_body
from aign.evaluation.baselines.body_start import (
    NEAREST_M,
    apart,
    cheapest,
    facing,
    mean_pose,
    nearest_known,
    turned,
)
from aign.evaluation.body_view import BodyMethod
from aign.framework.aign import Aign, Term
from aign.geometry.rotation import from_6d, to_6d
from aign.geometry.skeleton import SMPL24, Skeleton
from aign.tasks.motion_capture.adaptation import Windows, evidence_of
from aign.tasks.motion_capture.clips import CapturedClip
from aign.tasks.motion_capture.factors import BodyFactors, joints
from aign.tasks.motion_capture.memory import BodyMemory
from aign.tasks.motion_capture.observation import KEYPOINTS, Observation, concatenate
from aign.tasks.motion_capture.pose_prior import PosePrior, learn
from aign.tasks.motion_capture.render import BodyRender
from aign.tasks.motion_capture.terms import TERMS, keypoints

TORSO = tuple(SMPL24.index("pelvis", "l_hip", "r_hip", "neck", "l_shoulder", "r_shoulder"))
YAWS = 6
"""Directions that a person may face at first."""
BETA1 = 0.9
SIDE_PX = 8
"""Of the crop that nobody looks at."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of a fit.

    Attributes:
        free: what is moved, names of `FreeBodies`' parameters.
        weights: of TERMS, "torso" (the keypoints of the torso alone), "prior" (of poses) and "size" (mean square beta).
        steps: of Adam.
        lr: at the start; it falls to a tenth.
    """

    free: tuple[str, ...]
    weights: Mapping[str, float]
    steps: int
    lr: float


PLACE = ("root_6d", "ray", "log_depth")
EVERYTHING = (*PLACE, "pose_6d", "betas")
DIRECT = (Stage(free=EVERYTHING, weights={"keypoints": 20.0, "segmentation": 10.0, "motion": 2.0}, steps=100, lr=0.03),)
"""The slides' row: everything at once through the terms that see, weighted as the recipe `mocap-selfsup` weighs them.

Equal weights would be no honest row: the silhouette then outweighs the keypoints. On four rendered clips of 16 frames,
whose keypoints start 32.2 px off, 100 steps with equal weights end at 12.1 px and 372 mm, with these at 4.3 and 247.
"""
_POSE = {"keypoints": 10.0, "prior": 0.03, "size": 0.02}
EACH_FRAME = (
    Stage(free=PLACE, weights={"torso": 10.0}, steps=30, lr=0.05),
    Stage(free=EVERYTHING, weights=_POSE, steps=60, lr=0.03),
)
"""The strong fit first takes every frame alone, from each of `YAWS` sides: 30 steps for the camera, 60 for the pose."""
STAGED = (
    Stage(free=EVERYTHING, weights={**_POSE, "smooth": 2.0}, steps=120, lr=0.03),
    Stage(free=EVERYTHING, weights={**_POSE, "smooth": 2.0, "segmentation": 2.0, "motion": 2.0}, steps=40, lr=0.01),
)
"""Then all frames together: 120 steps by the keypoints, 40 with surfaces."""
JUMP = 2.0
"""Weight of a metre by which the joints of two frames' fits differ, beside the fits' own losses."""


class FreeBodies(nn.Module):
    """An encoder that looks at nothing: its parameters are the factors.

    Args:
        start: where they begin.
    """

    def __init__(self, start: BodyFactors) -> None:
        super().__init__()
        rows, depth = to_6d(start.rotmats), start.pelvis_cam_m[..., 2:].clamp_min(NEAREST_M)
        self.root_6d, self.pose_6d = nn.Parameter(rows[:, :, :1].clone()), nn.Parameter(rows[:, :, 1:].clone())
        self.betas = nn.Parameter(start.betas.clone())
        self.ray = nn.Parameter(start.pelvis_cam_m[..., :2] / depth)
        self.log_depth = nn.Parameter(depth.log())

    def forward(self, _: Observation) -> BodyFactors:
        """The factors."""
        depth = self.log_depth.exp()
        return BodyFactors(
            rotmats=from_6d(torch.cat((self.root_6d, self.pose_6d), 2)),
            betas=self.betas,
            pelvis_cam_m=torch.cat((self.ray * depth, depth), -1),
        )


def fit_bodies(
    seen: Observation, start: BodyFactors, stages: tuple[Stage, ...], body: BodyAssets, prior: PosePrior
) -> tuple[BodyFactors, Float[Tensor, " b"]]:
    """Move bodies until their renders look like what was seen; each sample of the batch is a problem of its own.

    Args:
        seen: windows, with evidence for all or for none.
        start: bodies to begin with.
        stages: one after the other.
        body: the model.
        prior: of poses, for stages that weigh it.

    Returns:
        The bodies, and the last stage's weighted loss of each.
    """
    free = FreeBodies(start)
    terms: Mapping[str, Term[Observation, BodyFactors, BodyRender]] = {
        **TERMS,
        "torso": _torso,
        "prior": lambda _, z, __: prior.energy(z.rotmats).mean(1),
        "size": lambda _, z, __: z.betas.square().mean(1),
    }
    loss = torch.zeros(len(start.betas))
    for stage in stages:
        problem = Aign(
            encode=free,
            render=partial(_render, body=body),
            terms={name: terms[name] for name in stage.weights},
            critics={},
            weights=stage.weights,
        )
        loss = _descend(problem, seen, stage)
    with torch.no_grad():
        return free(seen).detach(), loss


def _descend(problem: Aign[Observation, BodyFactors, BodyRender], seen: Observation, stage: Stage) -> Tensor:
    moved = [dict(problem.encode.named_parameters())[name] for name in stage.free]
    optimizer = torch.optim.Adam(moved, lr=stage.lr, betas=(BETA1, 0.999))
    total = torch.zeros(len(seen.conf))
    for step in range(stage.steps):
        for group in optimizer.param_groups:
            group["lr"] = stage.lr * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / stage.steps)))
        losses = problem.generator_losses(seen, problem.encode(seen))
        total = torch.stack([stage.weights[name] * value for name, value in losses.items()]).sum(0)
        for parameter, gradient in zip(moved, torch.autograd.grad(total.sum(), moved), strict=True):
            # A gradient that is not finite would spoil Adam's memory for good.
            parameter.grad = gradient.nan_to_num(0.0, 0.0, 0.0)
        optimizer.step()
    return total.detach()


def _render(z: BodyFactors, seen: Observation, body: BodyAssets) -> BodyRender:
    return BodyRender(z=z, seen=seen, body=body)


def _torso(seen: Observation, z: BodyFactors, render: BodyRender) -> Float[Tensor, " b"]:
    on = torch.tensor([joint in TORSO for joint in KEYPOINTS], device=seen.conf.device)
    return keypoints(replace(seen, target_conf=seen.target_conf * on), z, render)


def _tracked(seen: Observation, mean_6d: Tensor, prior: PosePrior, body: BodyAssets) -> BodyFactors:
    """Each frame of one window fitted alone from all sides, and of those fits the way that jumps least."""
    each = apart(seen)
    starts = [turned(each, mean_6d, 2 * math.pi * i / YAWS, body) for i in range(YAWS)]
    joined = BodyFactors(**{name: torch.cat([vars(z)[name] for z in starts]) for name in vars(starts[0])})
    fitted, loss = fit_bodies(reduce(concatenate, [each] * YAWS), joined, EACH_FRAME, body, prior)
    frames = len(each.conf)
    with torch.no_grad():
        points = joints(fitted, body)[:, 0].reshape(YAWS, frames, 24, 3).transpose(0, 1)
    points = points - points[:, :, :1]
    jump = (points[:-1].unsqueeze(2) - points[1:].unsqueeze(1)).norm(dim=-1).mean(-1)
    side = cheapest(loss.reshape(YAWS, frames).mT, JUMP * jump)
    frame = nearest_known((each.target_conf > 0).flatten(1).any(1))
    chosen = side[frame] * frames + frame
    return BodyFactors(
        rotmats=fitted.rotmats[chosen].transpose(0, 1),
        betas=fitted.betas[chosen].mean(0, keepdim=True),
        pelvis_cam_m=fitted.pelvis_cam_m[chosen].transpose(0, 1),
    )


def direct(memory: BodyMemory, body: BodyAssets | None = None) -> BodyMethod:
    """The weak baseline; of the memory it takes the mean pose.

    Args:
        memory: of poses.
        body: the model; None: the default body.

    Returns:
        The method; it raises UserError for a clip without usable keypoints and warns where masks or flow are missing.
    """
    return _method(DIRECT, memory, body or load_body(), sides=False)


def staged(memory: BodyMemory, body: BodyAssets | None = None) -> BodyMethod:
    """The strong baseline; of the memory it takes the mean pose and a Gaussian of poses.

    Args:
        memory: of poses.
        body: the model; None: the default body.

    Returns:
        The method; it raises UserError for a clip without usable keypoints and warns where masks or flow are missing.
    """
    return _method(STAGED, memory, body or load_body(), sides=True)


def _method(stages: tuple[Stage, ...], memory: BodyMemory, body: BodyAssets, sides: bool) -> BodyMethod:
    mean_6d, prior = mean_pose(memory), learn(memory)

    def method(clip: CapturedClip, source: Skeleton) -> BodyFactors:
        wanted = {name: weight for stage in stages for name, weight in stage.weights.items()}
        evidence = evidence_of(clip, source, wanted)
        for note in evidence.notes:
            warnings.warn(note, stacklevel=2)
        frames = evidence.frames
        zero = torch.zeros(1, dtype=torch.int64)
        seen = evidence.observe(Windows(starts=zero, length=frames, seed=zero), SIDE_PX, body)
        left = tuple(
            replace(stage, weights={n: w for n, w in stage.weights.items() if n in evidence.weights})
            for stage in stages
        )
        begin = _tracked(seen, mean_6d, prior, body) if sides else facing(seen, mean_6d)
        z, _ = fit_bodies(seen, begin, left, body, prior)
        return BodyFactors(
            rotmats=z.rotmats[0].unsqueeze(1),
            betas=z.betas.expand(frames, -1),
            pelvis_cam_m=z.pelvis_cam_m[0].unsqueeze(1),
        )

    return method
