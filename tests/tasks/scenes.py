"""People in front of cameras, exactly known: float64, Human3.6M's lens, everybody in view."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aign.data.datasets.rig import H36M_INTRINSICS
from aign.geometry.camera import Pinhole, project
from aign.geometry.rotation import from_axis_angle
from aign.geometry.skeleton import H36M17
from aign.geometry.torso import canonical
from aign.tasks.lifting.factors import PoseFactors
from aign.tasks.lifting.frames import Frames, neighbours
from aign.tasks.lifting.observation import Observation, labelled, observe

DOUBLE = torch.float64
MIRROR = (-1.0, 1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Scene:
    joints_cam_m: Tensor
    kp2d_px: Tensor
    conf: Tensor
    camera: Pinhole
    clip: Tensor

    @property
    def window(self) -> tuple[Tensor, Tensor]:
        """Keypoints and confidences, each frame alone."""
        return self.windows(1)

    def windows(self, count: int) -> tuple[Tensor, Tensor]:
        """Keypoints and confidences of `count` frames round each frame."""
        index = neighbours(self.clip, count // 2)
        return self.kp2d_px[index], self.conf[index]

    @property
    def frames(self) -> Frames:
        """What a method is given."""
        return Frames(kp2d_px=self.kp2d_px, conf=self.conf, camera=self.camera, clip=self.clip)

    def part(self, rows: slice) -> "Scene":
        return Scene(
            joints_cam_m=self.joints_cam_m[rows],
            kp2d_px=self.kp2d_px[rows],
            conf=self.conf[rows],
            camera=self.camera.part(rows),
            clip=self.clip[rows],
        )

    def observed(self, valid: Tensor | None = None, count: int = 1) -> Observation:
        """With labels."""
        seen, rot = observe(*self.windows(count), self.camera)
        everything = torch.ones(self.conf.shape, dtype=torch.bool)
        return labelled(seen, rot, self.joints_cam_m, everything if valid is None else valid)


REST = torch.tensor(
    [
        *((0, 0, 0), (-0.13, 0, 0), (-0.14, -0.44, 0.02), (-0.13, -0.88, 0), (0.13, 0, 0), (0.14, -0.44, 0.02)),
        *((0.13, -0.88, 0), (0, 0.24, 0), (0, 0.5, 0), (0, 0.6, 0.09), (0, 0.72, 0.03), (0.16, 0.46, 0)),
        *((0.3, 0.22, 0), (0.35, 0, 0.1), (-0.16, 0.46, 0), (-0.3, 0.22, 0), (-0.35, 0, 0.1)),
    ],
    dtype=DOUBLE,
)
"""A person upright in the torso's frame, metres."""


def people(count: int, seed: int = 0) -> Tensor:
    """Distorted copies of REST, [n, 17, 3]."""
    generator = torch.Generator().manual_seed(seed)
    return REST + 0.05 * torch.randn(count, 17, 3, generator=generator, dtype=DOUBLE)


def scene(count: int = 6, seed: int = 0, distortion: bool = True) -> Scene:
    """People turned and moved at random 3 to 6 m before the camera, also off its axis."""
    generator = torch.Generator().manual_seed(seed + 100)
    turn = torch.randn(count, 3, generator=generator, dtype=DOUBLE)
    # Whole people stay in the image: the pelvis moves by up to 15 degrees from the axis.
    depth = 3.5 + 2.5 * torch.rand(count, 1, generator=generator, dtype=DOUBLE)
    side = (torch.rand(count, 2, generator=generator, dtype=DOUBLE) - 0.5) * 0.35 * depth
    joints = people(count, seed) @ from_axis_angle(turn).mT + torch.cat((side, depth), 1).unsqueeze(1)
    which = [H36M_INTRINSICS[i % 4] for i in range(count)]
    camera = Pinhole.of(
        torch.tensor([c.intrinsics_px for c in which], dtype=DOUBLE),
        torch.tensor([c.distortion for c in which], dtype=DOUBLE) * (1.0 if distortion else 0.0),
    )
    conf = 0.2 + 0.8 * torch.rand(count, 17, generator=generator, dtype=DOUBLE)
    clip = torch.zeros(count, dtype=torch.int64)
    return Scene(joints_cam_m=joints, kp2d_px=project(joints, camera), conf=conf, camera=camera, clip=clip)


def film(lengths: Sequence[int], seed: int = 0, distortion: bool = True) -> Scene:
    """Clips of people who move a little from frame to frame, each before one of Human3.6M's cameras."""
    first = scene(len(lengths), seed, distortion)
    generator = torch.Generator().manual_seed(seed + 200)
    clip = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    steps = torch.arange(len(clip)) - torch.cumsum(torch.tensor([0, *lengths]), 0)[clip]
    speed = 0.01 * torch.randn(len(lengths), 17, 3, generator=generator, dtype=DOUBLE)
    joints = first.joints_cam_m[clip] + speed[clip] * steps[:, None, None]
    camera = first.camera.part(clip)
    conf = 0.2 + 0.8 * torch.rand(len(clip), 17, generator=generator, dtype=DOUBLE)
    return Scene(joints_cam_m=joints, kp2d_px=project(joints, camera), conf=conf, camera=camera, clip=clip)


def mirrored(there: Scene) -> Scene:
    """The scene really seen in a mirror: x of world and image negated, left and right swapped; needs no distortion."""
    order = list(H36M17.mirrored)
    joints = there.joints_cam_m[:, order] * joints_sign()
    return replace(there, joints_cam_m=joints, kp2d_px=project(joints, there.camera), conf=there.conf[:, order])


def joints_sign() -> Tensor:
    return torch.tensor(MIRROR, dtype=DOUBLE)


def same(a: Observation, b: Observation, tolerance: float = 0.0, but: tuple[str, ...] = ()) -> None:
    """Equal in every field but some."""
    for name, value in vars(a).items():
        if name not in but:
            torch.testing.assert_close(
                value, vars(b)[name], atol=tolerance, rtol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
            )


class Oracle(torch.nn.Module):
    """A lifter that knows the answer of every frame, in order."""

    def __init__(self, joints_cam_m: Tensor, rot_cam_to_virtual: Tensor, frames: int = 1) -> None:
        super().__init__()
        self.frames = frames
        self.virtual_m, self.done = joints_cam_m @ rot_cam_to_virtual.mT, 0

    def forward(self, seen: Observation) -> PoseFactors:
        now = self.virtual_m[self.done : self.done + len(seen.conf)]
        self.done += len(now)
        pose, rot = canonical(now, H36M17)
        return PoseFactors(canonical_m=pose, rot=rot, trans_m=now[:, 0])
