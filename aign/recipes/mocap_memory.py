"""What motion capture remembers of real people where no store of bodies is at hand: the embedded motions."""

import torch

from aign.data.motions import load_demo_motions
from aign.tasks.motion_capture.memory import BodyClips, clips_of

SHAPES = 256
MEMORY_FPS = 30.0
"""Where only poses are asked for, any rate will do."""


def embedded_bodies(fps: float = MEMORY_FPS) -> BodyClips:
    """The 20 embedded motions at a frame rate, with shapes of any people: coefficients are standard normal by making.

    Args:
        fps: of the windows that motions will be compared with.
    """
    shapes = torch.randn(SHAPES, 10, generator=torch.Generator().manual_seed(0))
    return clips_of(load_demo_motions(), fps, shapes)
