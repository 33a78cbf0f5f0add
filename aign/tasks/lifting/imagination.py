"""The memory's imagination: remembered motion, rendered by P, is 2D with exact 3D that no camera ever saw.

Tung et al. (ICCV 2017) call what P renders of the factors the network's imagination. Here the memory itself is
rendered, and the generator must find the remembered factors again. It is supervision without a single label of what is
observed: the memory stays unpaired.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from aign.data.counter import uniform
from aign.geometry.camera import Pinhole, normalised
from aign.geometry.skeleton import H36M17
from aign.geometry.torso import canonical
from aign.tasks.lifting.observation import NOMINAL_HALF_HEIGHT_M, Observation, labelled, observe

ARMS = (H36M17.index("l_shoulder", "l_elbow", "l_wrist"), H36M17.index("r_shoulder", "r_elbow", "r_wrist"))


@dataclass(frozen=True, kw_only=True)
class Imagination:
    """Remembered motion and the cameras that may watch it.

    Attributes:
        joints_world_m: H36M-17 joints.
        windows: index of the frames round each frame, within its clip (`frames.neighbours`).
        rig_rot: rot_world_to_cam of the cameras round each frame.
        mix: probability that the arms are those of another remembered moment: memories are recombined.
    """

    joints_world_m: Float[Tensor, "n 17 3"]
    rig_rot: Float[Tensor, "n c 3 3"]
    windows: Int64[Tensor, "n t"]
    mix: float = 0.0

    def to(self, device: torch.device) -> "Imagination":
        """The same on a device."""
        return Imagination(
            joints_world_m=self.joints_world_m.to(device),
            rig_rot=self.rig_rot.to(device),
            windows=self.windows.to(device),
            mix=self.mix,
        )

    def like(self, seen: Observation, seed: Int64[Tensor, " b"]) -> Observation:
        """Labelled observations of remembered frames, one for each seen, drawn by its seed and about as far away."""
        return self.observe(seed, NOMINAL_HALF_HEIGHT_M / seen.half_extent)

    def observe(self, seed: Int64[Tensor, " b"], depth_m: Float[Tensor, " b"]) -> Observation:
        """Labelled observations of remembered frames, each drawn by its seed, its pelvis at a depth."""
        pick = uniform(seed, 4, purpose=4)
        frame = (pick[:, 0] * len(self.windows)).long()
        camera = (pick[:, 1] * self.rig_rot.shape[1]).long()
        window = self.windows[frame]
        joints = self.joints_world_m[window]
        if self.mix > 0:
            other = self.joints_world_m[self.windows[(pick[:, 2] * len(self.windows)).long()]]
            mixed = (pick[:, 3] < self.mix)[:, None, None, None]
            joints = torch.where(mixed, _with_arms(joints, other), joints)
        middle = joints[:, window.shape[1] // 2, :1]
        turned = (joints - middle.unsqueeze(1)) @ self.rig_rot[frame, camera].unsqueeze(1).mT
        seen_m = turned + torch.nn.functional.pad(depth_m[:, None, None, None], (2, 0))
        rays = normalised(seen_m)
        lens = Pinhole.of(rays.new_tensor([1.0, 1.0, 0.0, 0.0]).expand(len(rays), 4))
        seen, rot = observe(rays, torch.ones_like(rays[..., 0]), lens)
        valid: Bool[Tensor, "b 17"] = torch.ones_like(seen.joints_weight, dtype=torch.bool)
        return labelled(seen, rot, seen_m[:, window.shape[1] // 2], valid)


def _with_arms(joints_m: Float[Tensor, "b t 17 3"], other_m: Float[Tensor, "b t 17 3"]) -> Float[Tensor, "b t 17 3"]:
    """The poses with others' arms, as these hang from their own shoulders and torso."""
    _, rot = canonical(joints_m, H36M17)
    theirs, _ = canonical(other_m, H36M17)
    arms = []
    for shoulder, *arm in ARMS:
        hung = theirs[..., arm, :] - theirs[..., shoulder : shoulder + 1, :]
        arms.append(joints_m[..., shoulder : shoulder + 1, :] + hung @ rot.mT)
    mixed = joints_m.clone()
    mixed[..., [j for _, *arm in ARMS for j in arm], :] = torch.cat(arms, dim=-2)
    return mixed
