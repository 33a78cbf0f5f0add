"""Captured motions for tests of what shows and exports them."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32

from aign.body.assets import load_body
from aign.body.motion import resample, skin_translation
from aign.body.skinning import rest_joints, skin
from aign.data.motions import load_demo_motions
from aign.inference.captured import CapturedMotion


def captured(name: str, fps: float, frames: int, tall: float = 0.0) -> CapturedMotion:
    """The first frames of an embedded motion; one in the middle was not seen."""
    clip = resample(next(m for m in load_demo_motions() if m.name == name), fps)
    motion = replace(clip, rotmats=clip.rotmats[:frames], trans_m=clip.trans_m[:frames])
    known = np.arange(frames) != frames // 2
    step = np.arange(frames)[:, None] // 4 % 2 == np.array([0, 1])
    betas = np.zeros(10, np.float32)
    betas[0] = tall
    return CapturedMotion(motion=motion, betas=betas, body=load_body(), known=known, contact=step)


def vertices_m(person: CapturedMotion) -> Float32[np.ndarray, "t v 3"]:
    """Of every frame, in the world, without pose blend shapes."""
    body = replace(person.body, pose_dirs=None)
    betas = torch.from_numpy(person.betas)[None].expand(len(person.known), -1)
    rest = rest_joints(body, betas)[:, 0]
    place = skin_translation(torch.from_numpy(person.motion.trans_m), rest)
    return np.asarray(skin(body, torch.from_numpy(person.motion.rotmats), betas, place).vertices_m)
