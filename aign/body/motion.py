"""A motion on the 24 SMPL joints, its mirror image, and other frame rates."""

from dataclasses import dataclass, replace

import numpy as np
import roma
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from aign.framework.errors import UserError
from aign.geometry.skeleton import SMPL24


@dataclass(frozen=True, kw_only=True)
class Motion:
    """A clip of consecutive poses.

    Attributes:
        name: Unique name of the clip.
        fps: Frames per second.
        rotmats: Local rotation of each SMPL joint in its parent's frame; the first one is the pelvis in the world.
        trans_m: Position of the PELVIS JOINT in the world, metres, y up, the floor at y = 0. SMPL's `transl` for a body
            with rest pelvis p0 is `trans_m - p0` (`skin_translation` gives it).
        source: Where the clip came from.
        licence: Its terms.
    """

    name: str
    fps: float
    rotmats: Float32[np.ndarray, "t 24 3 3"]
    trans_m: Float32[np.ndarray, "t 3"]
    source: str
    licence: str

    def __post_init__(self) -> None:
        assert len(self.rotmats) == len(self.trans_m) > 0, "a motion has as many rotations as positions, at least one"
        assert self.fps > 0, "a motion runs forward"


def skin_translation(trans_m: Float[Tensor, "t 3"], rest_pelvis_m: Float[Tensor, "*t 3"]) -> Float[Tensor, "t 3"]:
    """SMPL's `transl` that puts the pelvis joint of a body with this rest pelvis at `trans_m`."""
    return trans_m - rest_pelvis_m


def mirror(motion: Motion) -> Motion:
    """The motion seen in a mirror: left and right swap, x changes sign.

    Convention: mirrored rotation = M R M with M = diag(-1, 1, 1), taken from the joint of the other side.
    """
    sign = np.array([-1.0, 1.0, 1.0], np.float32)
    return replace(
        motion,
        name=f"{motion.name}-mirrored",
        rotmats=motion.rotmats[:, list(SMPL24.mirrored)] * np.outer(sign, sign),
        trans_m=motion.trans_m * sign,
    )


def resample(motion: Motion, fps: float) -> Motion:
    """The same motion at another frame rate: rotations along great circles, positions along lines.

    The first frame stays; the last one is the last that lies within the clip.

    Raises:
        UserError: fps is not a positive number.
    """
    if not (np.isfinite(fps) and fps > 0):
        raise UserError(f"frames per second must be a positive number, got {fps}")
    last = len(motion.rotmats) - 1
    steps = int(np.floor(last * fps / motion.fps + 1e-6)) + 1
    return sample_at(motion, np.minimum(np.arange(steps) * (motion.fps / fps), last), fps)


def sample_at(motion: Motion, frames: Float[np.ndarray, " n"], fps: float) -> Motion:
    """The poses at these (fractional) frame numbers, as a clip of that frame rate."""
    last = len(motion.rotmats) - 1
    assert frames.size > 0, "a clip has frames"
    assert 0 <= frames.min() <= frames.max() <= last, "frames must lie within the clip"
    before = np.minimum(frames.astype(np.int64), max(last - 1, 0))
    after = np.minimum(before + 1, last)
    share = torch.from_numpy(frames - before)
    # rotmat_slerp wants one step per matrix; from R0 along log(R0^T R1) is the same curve and takes a batch of steps.
    start = torch.from_numpy(motion.rotmats[before].astype(np.float64))
    turn = roma.rotmat_to_rotvec(start.mT @ torch.from_numpy(motion.rotmats[after].astype(np.float64)))
    rotmats = start @ roma.rotvec_to_rotmat(share[:, None, None] * turn)
    line = share.numpy()[:, None]
    trans = (1 - line) * motion.trans_m[before] + line * motion.trans_m[after]
    return replace(motion, fps=float(fps), rotmats=rotmats.numpy().astype(np.float32), trans_m=trans.astype(np.float32))
