"""Motion capture as an AIGN (Tung et al., "Self-supervised Learning of Motion Capture", NIPS 2017).

G turns a picture and keypoints into an SMPL-format body in the camera; P renders its joints, its silhouette and the
motion of its visible surface, which are held to keypoints, mask and optical flow; critics compare poses, shapes and
motions with a memory of real ones (Tung et al., ICCV 2017). Pretraining is the same problem with supervised terms.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aign.body.assets import BodyAssets
from aign.framework.aign import Aign, Critic
from aign.framework.game import LeastSquares
from aign.framework.memory import Memory
from aign.nets.mlp import MlpCritic
from aign.nets.pose_critic import MotionCritic, PoseCritic
from aign.tasks.motion_capture.factors import BodyFactors
from aign.tasks.motion_capture.memory import BodyMemory
from aign.tasks.motion_capture.nets import Encoder, EncoderConfig, Pupil
from aign.tasks.motion_capture.observation import Observation
from aign.tasks.motion_capture.render import BodyRender
from aign.tasks.motion_capture.terms import TERMS, teacher
from aign.tasks.motion_capture.views import PER_FRAME, view_motion, view_pose, view_shape

CRITICS = ("pose_critic", "shape_critic", "motion_critic")
NAMES = (*TERMS, "teacher", *CRITICS)
"""Everything that has a weight."""


def weights(**on: float) -> dict[str, float]:
    """A weight for every name: those given, and 0."""
    return {**dict.fromkeys(NAMES, 0.0), **on}


@dataclass(frozen=True, kw_only=True)
class MotionCaptureConfig:
    """The task.

    Attributes:
        encoder: the generator.
        critic_width: of every critic.
        teacher_decay: of the average that the term `teacher` follows.
        weights: of the terms and critics in `NAMES`.
    """

    encoder: EncoderConfig = EncoderConfig()
    critic_width: int = 256
    teacher_decay: float = 0.99
    weights: dict[str, float] = field(default_factory=lambda: weights(rotations=10.0, shape=0.1, pose=10.0, place=2.0))


def build(
    config: MotionCaptureConfig,
    encoder: Encoder,
    body: BodyAssets,
    memory: BodyMemory,
    rank: int = 0,
    world: int = 1,
    seed: int = 0,
) -> Aign[Observation, BodyFactors, BodyRender]:
    """The problem of an encoder; critics start from `seed`, so every rank starts alike.

    Args:
        config: weights and sizes.
        encoder: fresh, or trained before.
        body: that is rendered.
        memory: of poses, shapes and motions; what no critic that is on asks for may be anything.
        rank: of this process.
        world: number of processes.
        seed: of the critics and what they remember.
    """
    net: nn.Module = encoder
    terms = dict(TERMS)
    pupil = Pupil(encoder, config.teacher_decay)
    if config.weights["teacher"]:
        net = pupil
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        critics = {
            name: Critic(
                view=view,
                net=make(config.critic_width),
                memory=Memory(values, torch.Generator().manual_seed(seed + offset), rank, world),
                game=LeastSquares(),
            )
            for offset, (name, (view, make, values)) in enumerate(_judged(config, memory).items(), 1)
        }
    return Aign(
        encode=net,
        render=partial(_render, body=body),
        terms={**terms, "teacher": partial(teacher, pupil=pupil)},
        critics=critics,
        weights=config.weights,
    )


_View = Callable[[BodyFactors, Observation], Tensor]


def _judged(
    config: MotionCaptureConfig, memory: BodyMemory
) -> Mapping[str, tuple[_View, Callable[[int], nn.Module], Float[Tensor, "n ..."]]]:
    """By critic: what it sees, its network, and what it remembers."""
    remembered = {"pose_critic": memory.pose, "shape_critic": memory.betas, "motion_critic": memory.motion}
    # One that is off is never asked, and its memory may be empty.
    values = {name: kept if config.weights[name] else torch.zeros(1, 1) for name, kept in remembered.items()}
    return {
        "pose_critic": (view_pose, PoseCritic, values["pose_critic"]),
        "shape_critic": (view_shape, lambda width: MlpCritic(10, width), values["shape_critic"]),
        "motion_critic": (view_motion, lambda width: MotionCritic(PER_FRAME, width), values["motion_critic"]),
    }


def _render(z: BodyFactors, seen: Observation, body: BodyAssets) -> BodyRender:
    """P."""
    return BodyRender(z=z, seen=seen, body=body)
