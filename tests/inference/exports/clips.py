"""Captured motions to export, and where their joints are by the body's own skinning."""

from dataclasses import replace

import numpy as np
import torch

from aign.body.assets import load_body
from aign.body.motion import Motion, skin_translation
from aign.body.skinning import rest_joints, skin
from aign.data.motions import load_demo_motions
from aign.inference.captured import CapturedMotion

BETAS = np.array([1.5, -2.0, 0.5, 1.0, -1.0, 0.3, 0.0, 0.0, 1.0, -0.5], np.float32)
HOSTILE = "../../etc\tpasswd\n\x1b[2J\"'</script>\u202e{}%s"


def captured(clip="cartwheel", *, step=4, body=None, name=None) -> CapturedMotion:
    """An embedded clip, every so many frames of it, by a person who is not the mean; some frames not seen."""
    whole = next(m for m in load_demo_motions() if m.name == clip)
    taken = {"rotmats": whole.rotmats[::step], "trans_m": whole.trans_m[::step]}
    return of(replace(whole, name=name or clip, fps=whole.fps / step, **taken), body)


def of(motion: Motion, body=None) -> CapturedMotion:
    frames = np.arange(len(motion.rotmats))
    return CapturedMotion(
        motion=motion,
        betas=BETAS,
        body=body or load_body(),
        known=frames % 5 != 3,
        contact=np.stack((frames % 2 == 0, frames % 3 == 0), 1),
    )


def posed(rotmats: np.ndarray, trans_m=(0.3, 1.0, -2.0), fps=30.0) -> CapturedMotion:
    """A clip of given rotations."""
    trans = np.tile(np.array(trans_m, np.float32), (len(rotmats), 1))
    return of(
        Motion(
            name="posed", fps=fps, rotmats=rotmats.astype(np.float32), trans_m=trans, source="here", licence="CC0-1.0"
        )
    )


def skinned(clip: CapturedMotion):
    """Vertices [t, v, 3] and joints [t, 24, 3] in the world, metres."""
    betas = torch.from_numpy(clip.betas)[None].repeat(len(clip.known), 1)
    trans = skin_translation(torch.from_numpy(clip.motion.trans_m), rest_joints(clip.body, betas)[:, 0])
    out = skin(clip.body, torch.from_numpy(clip.motion.rotmats), betas, trans)
    return out.vertices_m.numpy(), out.joints_m.numpy()


def standing(joints, index) -> None:
    """In a rest pose by names: head above feet in +y, toes before ankles in +z, the left hand at +x."""
    assert joints[index["head"], 1] > joints[index["pelvis"], 1] + 0.4 > joints[index["l_ankle"], 1] + 0.8
    for side in "lr":
        assert joints[index[f"{side}_foot"], 2] > joints[index[f"{side}_ankle"], 2] + 0.05
    assert joints[index["l_wrist"], 0] > 0.5
    assert joints[index["r_wrist"], 0] < -0.5
