"""Clips of rendered people, cut, spoilt and robbed of columns, for tests of what is fitted to one clip."""

from dataclasses import replace

import torch
from torch import Tensor

from aign.body.assets import load_body
from aign.data.store import Store
from aign.evaluation.body_view import load_body_view
from aign.recipes.mocap import load_bodies
from aign.tasks.motion_capture.clips import CapturedClip
from aign.tasks.motion_capture.feed import BODY_COLUMNS, EVIDENCE_COLUMNS
from aign.tasks.motion_capture.memory import BodyMemory, remember

BODY = load_body()
MASK = ("mask",)
FLOW = ("flow_64th_px", "flow_back_64th_px")


def clips_of(store: Store) -> tuple[CapturedClip, ...]:
    """Everything of a store: pictures, keypoints, evidence, true bodies."""
    return load_body_view(store, None, more=EVIDENCE_COLUMNS).clips


def memory_of(store: Store) -> BodyMemory:
    return remember(load_bodies(store, None), 3)


def cut(clip: CapturedClip, frames: int) -> CapturedClip:
    """Its first frames."""
    columns = {name: value[:frames] for name, value in clip.columns.items()}
    return replace(clip, key=replace(clip.key, num_frames=frames), columns=columns)


def without(clip: CapturedClip, *names: str) -> CapturedClip:
    return replace(clip, columns={name: value for name, value in clip.columns.items() if name not in names})


def changed(clip: CapturedClip, **columns: Tensor) -> CapturedClip:
    return replace(clip, columns={**clip.columns, **columns})


def blind(clip: CapturedClip, *frames: int) -> CapturedClip:
    """Some frames without keypoints; where they would be is not a number."""
    conf, px = clip.columns["kp2d_conf"].clone(), clip.columns["kp2d_px"].clone()
    conf[list(frames)], px[list(frames)] = 0, torch.nan
    return changed(clip, kp2d_conf=conf, kp2d_px=px)


def garbage(clip: CapturedClip) -> CapturedClip:
    """The labels replaced by what cannot be used."""
    labels = {name: torch.full_like(clip.columns[name], torch.nan) for name in BODY_COLUMNS["body"]}
    return changed(clip, **labels)
