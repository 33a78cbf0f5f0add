"""2D-to-3D pose lifting as an AIGN (Tung et al., ICCV 2017, section on 3D human pose).

G predicts coefficients of a pose basis and a camera, P projects, critics compare canonical poses and cameras with a
memory of real ones. Forward2Dto3D and the 3D interpreter are the same problem with other weights.
"""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from aign.framework.aign import Aign, Critic
from aign.framework.game import Game, LeastSquares, NonSaturating
from aign.framework.memory import Memory
from aign.geometry.camera import Pinhole
from aign.geometry.skeleton import H36M17
from aign.losses.points import bone_symmetry, mean_distance
from aign.nets.mlp import MlpCritic
from aign.render.keypoints import crop_keypoints
from aign.tasks.lifting.factors import PoseFactors, PoseMemory, pca, view_camera, view_pose
from aign.tasks.lifting.nets import LIFTERS, Lifter, LifterKind
from aign.tasks.lifting.observation import Augmentation, Observation, observe

GameName: TypeAlias = Literal["least-squares", "non-saturating"]
GAMES: dict[GameName, Game] = {"least-squares": LeastSquares(), "non-saturating": NonSaturating()}


@dataclass(frozen=True, kw_only=True)
class LifterConfig:
    """The generator.

    Attributes:
        kind: "basis" (the paper's) or "direct".
        components: size of the pose basis.
        width: of the residual layers.
        blocks: number of residual layers.
    """

    kind: LifterKind = "basis"
    components: int = 40
    width: int = 512
    blocks: int = 2


@dataclass(frozen=True, kw_only=True)
class LiftingConfig:
    """The lifting task.

    Attributes:
        lifter: the generator.
        critic_width: of both critics.
        game: what generator and critics play.
        augmentation: random changes of the input.
        weights: of the terms supervised, reprojection, symmetry and the critics pose, camera.
    """

    lifter: LifterConfig = LifterConfig()
    critic_width: int = 256
    game: GameName = "least-squares"
    augmentation: Augmentation = Augmentation()
    weights: dict[str, float] = field(
        default_factory=lambda: {
            "supervised": 4.0, "reprojection": 2.0, "symmetry": 0.1, "pose": 0.1, "camera": 0.02
        }
    )  # fmt: skip


def supervised(seen: Observation, z: PoseFactors, _: Tensor) -> Float[Tensor, " b"]:
    """Mean joint distance to the label, metres; 0 where there is none."""
    return mean_distance(z.centred_m, seen.joints_m, seen.joints_weight)


def reprojection(seen: Observation, _: PoseFactors, render: Tensor) -> Float[Tensor, " b"]:
    """Confidence-weighted mean distance of the rendered keypoints, crop units."""
    return mean_distance(render, seen.target2d, seen.target2d_weight)


def symmetry(_: Observation, z: PoseFactors, __: Tensor) -> Float[Tensor, " b"]:
    """Left and right limbs are equally long."""
    return bone_symmetry(z.canonical_m, H36M17)


def render(z: PoseFactors, seen: Observation) -> Float[Tensor, "b 17 2"]:
    """P: perspective projection into the observed crop."""
    return crop_keypoints(z.joints_m, seen.half_extent)


def build_lifter(config: LifterConfig, poses_m: Float[Tensor, "n 17 3"]) -> Lifter:
    """A new generator whose basis comes from these canonical poses."""
    basis = pca(poses_m, config.components)
    return LIFTERS[config.kind](basis, config.width, config.blocks)


def build(
    config: LiftingConfig, memory: PoseMemory, rank: int = 0, world: int = 1, seed: int = 0
) -> Aign[Observation, PoseFactors, Tensor]:
    """The lifting problem; networks start from `seed`, so every rank starts alike."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        lifter = build_lifter(config.lifter, memory.canonical_m)
        critics = {
            name: Critic(
                view=view,
                net=MlpCritic(values[0].numel(), config.critic_width),
                memory=Memory(values, torch.Generator().manual_seed(seed + offset), rank, world),
                game=GAMES[config.game],
            )
            for offset, (name, view, values) in enumerate(
                (("pose", view_pose, memory.canonical_m.flatten(1)), ("camera", view_camera, memory.camera_6d)), 1
            )
        }
    return Aign(
        encode=lifter,
        render=render,
        terms={"supervised": supervised, "reprojection": reprojection, "symmetry": symmetry},
        critics=critics,
        weights=config.weights,
    )


@torch.inference_mode()
def lift(
    lifter: torch.nn.Module,
    kp2d_px: Float[Tensor, "n 17 2"],
    conf: Float[Tensor, "n 17"],
    camera: Pinhole,
    chunk: int = 8192,
) -> Float[Tensor, "n 17 3"]:
    """Joints in the camera, metres, from H36M-17 keypoints in pixels."""
    joints = []
    for start in range(0, len(kp2d_px), chunk):
        part = slice(start, start + chunk)
        piece = Pinhole(
            focal_px=camera.focal_px[part], centre_px=camera.centre_px[part], distortion=camera.distortion[part]
        )
        seen, rot_cam_to_virtual = observe(kp2d_px[part], conf[part], piece)
        z: PoseFactors = lifter(seen)
        joints.append(z.joints_m @ rot_cam_to_virtual)
    return torch.cat(joints) if joints else kp2d_px.new_zeros(0, 17, 3)
