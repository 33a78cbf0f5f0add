"""Memories of bodies, unpaired with any picture: poses, shapes and short motions that somebody really had."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from aign.body.motion import Motion, resample
from aign.framework.errors import UserError
from aign.tasks.motion_capture.factors import mirrored
from aign.tasks.motion_capture.views import motion, pose


@dataclass(frozen=True, kw_only=True)
class BodyClips:
    """Frames of motions, clip after clip, in the order of time.

    Attributes:
        rotmats: SMPL's local rotations; the first is the orientation in any world or standing camera of the clip.
        pelvis_m: the pelvis joint there, metres (or SMPL's `transl`: only its changes are remembered).
        clip: which clip a frame is of; two clips that meet have different numbers.
        betas: shapes of any people, as many as there are.
    """

    rotmats: Float[Tensor, "n 24 3 3"]
    pelvis_m: Float[Tensor, "n 3"]
    clip: Int[Tensor, " n"]
    betas: Float[Tensor, "m 10"]


@dataclass(frozen=True, kw_only=True)
class BodyMemory:
    """Real factors as the critics' views show them; each body and its mirror image.

    Attributes:
        pose: as `views.pose`.
        betas: shapes.
        motion: as `views.motion`, t frames; none where every clip is shorter.
    """

    pose: Float[Tensor, "n 23 9"]
    betas: Float[Tensor, "m 10"]
    motion: Float[Tensor, "k t 147"]


def clips_of(motions: Sequence[Motion], fps: float, betas: Float[Tensor, "m 10"]) -> BodyClips:
    """Motions at one frame rate, which must be that of the windows they will be compared with.

    Raises:
        UserError: no motion, or a frame rate that is not positive.
    """
    if not motions:
        raise UserError("got 0 motions to remember; at least 1 is needed")
    same = [resample(m, fps) for m in motions]
    lengths = torch.tensor([len(m.trans_m) for m in same])
    return BodyClips(
        rotmats=torch.cat([torch.from_numpy(m.rotmats) for m in same]),
        pelvis_m=torch.cat([torch.from_numpy(m.trans_m) for m in same]),
        clip=torch.arange(len(same)).repeat_interleave(lengths),
        betas=betas,
    )


def remember(clips: BodyClips, frames: int) -> BodyMemory:
    """The memory of clips; motions are windows of `frames` consecutive frames, each half over the one before.

    Raises:
        UserError: no frame or no shape.
    """
    assert frames > 0, "a window has frames"
    if not len(clips.clip) or not len(clips.betas):
        raise UserError(f"a memory needs a pose and a shape; got {len(clips.clip)} poses, {len(clips.betas)} shapes")
    rotmats = torch.cat((clips.rotmats, mirrored(clips.rotmats)))
    pelvis = torch.cat((clips.pelvis_m, clips.pelvis_m * clips.pelvis_m.new_tensor((-1.0, 1.0, 1.0))))
    starts = _starts(clips.clip, frames)
    starts = torch.cat((starts, starts + len(clips.clip)))
    windows = starts.unsqueeze(1) + torch.arange(frames, device=starts.device)
    return BodyMemory(pose=pose(rotmats), betas=clips.betas, motion=motion(rotmats[windows], pelvis[windows]))


def _starts(clip: Int[Tensor, " n"], frames: int) -> Int[Tensor, " k"]:
    """First frames of the windows within the clips, from each clip's first frame on in steps of half a window."""
    place = torch.arange(len(clip), device=clip.device)
    fresh = torch.ones_like(clip, dtype=torch.bool)
    fresh[1:] = clip[1:] != clip[:-1]
    begin = torch.where(fresh, place, 0).cummax(0).values
    last = place + frames - 1
    whole = (last < len(clip)) & (begin[last.clamp_max(len(clip) - 1)] == begin)
    return place[whole & ((place - begin) % ((frames + 1) // 2) == 0)]
