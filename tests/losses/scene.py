"""A body before a camera with what a picture of it would show, and descent on its pose along one term alone."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from aign.body.assets import load_body
from aign.body.skinning import skin
from aign.data.motions import load_demo_motions
from aign.geometry.rotation import from_6d, from_axis_angle, to_6d
from aign.geometry.skeleton import SMPL24
from aign.render.raster import Lens, project_vertices, rasterise, surface_flow
from aign.render.visibility import visible_vertices

LENS = Lens(fx=170.0, fy=170.0, cx=63.5, cy=63.5, width=128, height=128)
BODY = load_body()
FACES = BODY.faces.numpy().astype(np.int32)


@dataclass(frozen=True, kw_only=True)
class Pose:
    """One frame: rotations in 6D and the pelvis, in the camera."""

    six: torch.Tensor  # [24, 6]
    trans_m: torch.Tensor  # [3]

    def moved(self, by_m=(0.0, 0.0, 0.0), joint=None, turn_rad=0.0) -> "Pose":
        """With the body shifted and one joint turned about its z axis."""
        six = self.six.clone()
        if joint is not None:
            k = SMPL24.joints.index(joint)
            six[k] = to_6d(from_6d(six[k]) @ from_axis_angle(torch.tensor([0.0, 0.0, turn_rad])))
        return Pose(six=six, trans_m=self.trans_m + torch.tensor(by_m))

    def skinned(self):
        return skin(BODY, from_6d(self.six)[None], torch.zeros(1, 10), self.trans_m[None])

    def vertices_cam_m(self) -> torch.Tensor:
        """[v, 3]."""
        return self.skinned().vertices_m[0]


def pixels(points_cam_m: torch.Tensor) -> torch.Tensor:
    """Project [v, 3] -> [1, v, 2]."""
    focal, centre = points_cam_m.new_tensor((LENS.fx, LENS.fy)), points_cam_m.new_tensor((LENS.cx, LENS.cy))
    return (focal * points_cam_m[:, :2] / points_cam_m[:, 2:] + centre)[None]


def dancer(frame: int) -> Pose:
    """A frame of a demo motion, upright in the camera at 3 m."""
    clip = next(m for m in load_demo_motions() if m.name == "dance_b")
    rotmats = torch.tensor(clip.rotmats[frame], dtype=torch.float32)
    upright = torch.diag(torch.tensor([1.0, -1.0, -1.0]))  # y up, z back -> y down, z forward
    rotmats[0] = upright @ rotmats[0]
    return Pose(six=to_6d(rotmats), trans_m=torch.tensor([0.0, 0.2, 3.0]))


def projected(pose: Pose):
    return project_vertices(pose.vertices_cam_m().detach().contiguous().numpy(), LENS)


def mask_of(pose: Pose) -> torch.Tensor:
    """[1, h, w]."""
    return torch.from_numpy(rasterise(projected(pose), FACES, LENS).face_id >= 0)[None]


def visible_of(pose: Pose) -> torch.Tensor:
    """[1, v]."""
    return torch.from_numpy(visible_vertices(projected(pose), FACES, LENS))[None]


def flow_of(pose: Pose, then: Pose) -> torch.Tensor:
    """[1, h, w, 2]."""
    seen = projected(pose)
    moved = then.vertices_cam_m().contiguous().numpy()
    return torch.from_numpy(surface_flow(rasterise(seen, FACES, LENS), seen, FACES, moved, LENS))[None]


def descend(
    start: Pose, loss: Callable[[Pose], torch.Tensor], joint: str | None = None, steps: int = 60, rate: float = 0.01
) -> Pose:
    """Adam on the translation and all rotations, or only one joint's."""
    free = torch.ones(24, 1) if joint is None else torch.eye(24)[:, [SMPL24.joints.index(joint)]]
    six, trans_m = start.six.clone().requires_grad_(), start.trans_m.clone().requires_grad_()
    six.register_hook(lambda grad: grad * free)
    optimizer = torch.optim.Adam([six, trans_m], lr=rate)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / steps)
        optimizer.zero_grad()
        loss(Pose(six=six, trans_m=trans_m)).sum().backward()
        optimizer.step()
    return Pose(six=six.detach(), trans_m=trans_m.detach())
