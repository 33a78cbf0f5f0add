"""2D-to-3D pose lifting as an AIGN (Tung et al., ICCV 2017, section on 3D human pose).

G predicts coefficients of a pose basis and a camera, P projects, critics compare canonical poses and cameras with a
memory of real ones. Forward2Dto3D and the 3D interpreter are the same problem with other weights.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aign.framework.aign import Aign, Critic
from aign.framework.errors import UserError
from aign.framework.game import Game, LeastSquares, NonSaturating
from aign.framework.memory import Memory
from aign.geometry.skeleton import H36M17
from aign.losses.points import bone_lengths, bone_symmetry, mean_distance
from aign.nets.mlp import MlpCritic
from aign.render.keypoints import crop_keypoints
from aign.tasks.lifting.factors import PoseFactors, PoseMemory, pca
from aign.tasks.lifting.frames import Frames, neighbours
from aign.tasks.lifting.nets import (
    HEADS,
    ClipTrunk,
    FrameTrunk,
    HeadKind,
    InputKind,
    Lifter,
    Lifting,
    PictureTrunk,
)
from aign.tasks.lifting.observation import Augmentation, Observation, observe
from aign.tasks.lifting.views import (
    joint_angles,
    kinematic_chain,
    picture,
    view_camera,
    view_chain,
    view_joints,
    view_picture,
    view_pose,
)

GameName: TypeAlias = Literal["least-squares", "non-saturating"]
MIN_STD_M = 0.01
"""Spread of a bone's length, at least: a memory of one body has none."""
View: TypeAlias = Callable[[PoseFactors, Observation], Tensor]
CRITICS = ("pose", "camera", "chain", "joints", "picture")
GAMES: dict[GameName, Game] = {"least-squares": LeastSquares(), "non-saturating": NonSaturating()}


@dataclass(frozen=True, kw_only=True)
class LifterConfig:
    """The generator.

    Attributes:
        input: "coordinates", or "heatmaps" as in the paper's figure.
        frames: frames it sees, a power of 3; more than one: a temporal network on coordinates.
        head: "basis" (the paper's) or "direct".
        components: size of the pose basis.
        width: of the features.
        blocks: number of residual layers of a single frame's coordinates.
    """

    input: InputKind = "coordinates"
    frames: int = 1
    head: HeadKind = "basis"
    components: int = 40
    width: int = 512
    blocks: int = 2


@dataclass(frozen=True, kw_only=True)
class LiftingConfig:
    """The lifting task.

    Attributes:
        lifter: the generator.
        critic_width: of every critic.
        game: what generator and critics play.
        augmentation: random changes of the input.
        weights: of the terms supervised, reprojection, symmetry, bones and the critics pose, camera, chain, joints,
            picture.
    """

    lifter: LifterConfig = LifterConfig()
    critic_width: int = 256
    game: GameName = "least-squares"
    augmentation: Augmentation = Augmentation()
    weights: dict[str, float] = field(
        default_factory=lambda: {
            **{"supervised": 4.0, "reprojection": 2.0, "symmetry": 0.1, "bones": 0.0},
            **{"pose": 0.1, "camera": 0.02, "chain": 0.0, "joints": 0.0, "picture": 0.0},
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


def bones(
    _: Observation, z: PoseFactors, __: Tensor, *, mean_m: Float[Tensor, " n"], std_m: Float[Tensor, " n"]
) -> Float[Tensor, " b"]:
    """Bones are as long as the memory's: mean squared deviation in the memory's standard deviations, at least 1 cm."""
    gap = bone_lengths(z.canonical_m, H36M17.bones) - mean_m.to(z.canonical_m)
    return (gap / std_m.to(gap).clamp_min(MIN_STD_M)).square().mean(-1)


def render(z: PoseFactors, seen: Observation) -> Float[Tensor, "b 17 2"]:
    """P: perspective projection into the observed crop."""
    return crop_keypoints(z.joints_m, seen.half_extent)


def build_lifter(config: LifterConfig, poses_m: Float[Tensor, "n 17 3"]) -> Lifter:
    """A new generator whose basis comes from these canonical poses."""
    head = HEADS[config.head](pca(poses_m, config.components), config.width)
    return Lifter(_trunk(config), head, config.frames)


def _trunk(config: LifterConfig) -> nn.Module:
    if config.input == "heatmaps":
        if config.frames != 1:
            raise UserError(f"a lifter of heatmaps sees 1 frame; got {config.frames}")
        return PictureTrunk(config.width)
    if config.frames != 1:
        return ClipTrunk(config.width, config.frames)
    return FrameTrunk(config.width, config.blocks)


def build(
    config: LiftingConfig, memory: PoseMemory, rank: int = 0, world: int = 1, seed: int = 0
) -> Aign[Observation, PoseFactors, Tensor]:
    """The lifting problem; networks start from `seed`, so every rank starts alike."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        lifter = build_lifter(config.lifter, memory.canonical_m)
        judged: dict[str, tuple[View, Callable[[], Tensor]]] = {
            "pose": (view_pose, lambda: memory.canonical_m.flatten(1)),
            "camera": (view_camera, lambda: memory.camera_6d),
            "chain": (view_chain, lambda: kinematic_chain(memory.canonical_m)),
            "joints": (view_joints, lambda: joint_angles(memory.canonical_m)),
            "picture": (partial(view_picture, shown=memory.shown), lambda: picture(memory.seen2d, memory.shown)),
        }
        critics = {}
        for offset, (name, (view, remembered)) in enumerate(judged.items(), 1):
            values = remembered() if config.weights.get(name) else torch.zeros(1, 1)  # off: it is never asked
            critics[name] = Critic(
                view=view,
                net=MlpCritic(values[0].numel(), config.critic_width),
                memory=Memory(values, torch.Generator().manual_seed(seed + offset), rank, world),
                game=GAMES[config.game],
            )
    prior = bone_lengths(memory.canonical_m, H36M17.bones)
    return Aign(
        encode=lifter,
        render=render,
        terms={
            "supervised": supervised,
            "reprojection": reprojection,
            "symmetry": symmetry,
            "bones": partial(bones, mean_m=prior.mean(0), std_m=prior.std(0)),
        },
        critics=critics,
        weights=config.weights,
    )


@torch.inference_mode()
def lift(lifter: Lifting, frames: Frames, chunk: int = 8192) -> Float[Tensor, "n 17 3"]:
    """Joints in the camera, metres; a lifter of several frames sees those round each frame, within its clip."""
    windows = neighbours(frames.clip, lifter.frames // 2)
    joints = []
    for start in range(0, len(frames), chunk):
        part = slice(start, start + chunk)
        window = windows[part]
        seen, rot_cam_to_virtual = observe(frames.kp2d_px[window], frames.conf[window], frames.camera.part(part))
        z: PoseFactors = lifter(seen)
        joints.append(z.joints_m @ rot_cam_to_virtual)
    return torch.cat(joints) if joints else frames.kp2d_px.new_zeros(0, 17, 3)
