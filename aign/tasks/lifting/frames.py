"""What every method of lifting is given: detected or projected keypoints, their cameras, and which clip they are of."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from aign.geometry.camera import Pinhole


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Frames to be lifted, H36M-17 joints.

    Attributes:
        kp2d_px: keypoints; any finite value where the confidence is 0.
        conf: confidences, 0..1.
        camera: of each frame.
        clip: number of the clip that each frame is of; the frames of a clip follow one another without a gap in time.
    """

    kp2d_px: Float[Tensor, "n 17 2"]
    conf: Float[Tensor, "n 17"]
    camera: Pinhole
    clip: Int64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.clip)

    def part(self, index: Tensor | slice) -> "Frames":
        """Some of the frames."""
        return Frames(
            kp2d_px=self.kp2d_px[index], conf=self.conf[index], camera=self.camera.part(index), clip=self.clip[index]
        )

    def to(self, device: torch.device) -> "Frames":
        """The same on a device."""
        return Frames(
            kp2d_px=self.kp2d_px.to(device),
            conf=self.conf.to(device),
            camera=self.camera.to(device),
            clip=self.clip.to(device),
        )


def neighbours(clip: Int64[Tensor, " n"], reach: int) -> Int64[Tensor, "n w"]:
    """Index of the w = 2 reach + 1 frames round each frame; beyond an end of its clip, the clip's last frame.

    Args:
        clip: as in `Frames`.
        reach: frames before and after.
    """
    here = torch.arange(len(clip), device=clip.device)
    new = torch.ones_like(clip, dtype=torch.bool)
    new[1:] = clip[1:] != clip[:-1]
    first = torch.where(new, here, torch.zeros_like(here)).cummax(0).values
    last_of_run = torch.ones_like(new)
    last_of_run[:-1] = new[1:]
    # The last frame of the run is the nearest end at or after each frame.
    last = torch.where(last_of_run, here, torch.full_like(here, len(clip))).flip(0).cummin(0).values.flip(0)
    offsets = torch.arange(-reach, reach + 1, device=clip.device)
    return (here.unsqueeze(1) + offsets).clamp(first.unsqueeze(1), last.unsqueeze(1))
