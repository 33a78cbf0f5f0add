"""From the bodies that a model saw in single frames to the motion of one person: whole, of one shape, on the floor.

Convention: the camera looks along +z with +y down. The world of the motion has +y up, as `aign.inference.upright` or a
calibration tells it, and the camera looks towards -z in it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32

from aign.body.assets import BodyAssets
from aign.body.motion import Motion, sample_at, skin_translation
from aign.body.skinning import joints_only, rest_joints
from aign.body.soles import SOLES, floor_height_m, sole_heights_m
from aign.inference.body_predictor import FrameBodies
from aign.inference.body_video import surfaces
from aign.inference.captured import CapturedMotion
from aign.inference.smoothing import Filter, smoothed, smoothed_rotations

MAX_FOOT_SPEED_M_S = 0.35
MAX_FOOT_HEIGHT_M = 0.08
"""A foot that is lower than this, and slower across the picture, stands. Speed in depth is not asked: one camera does
not see it."""


@dataclass(frozen=True, kw_only=True)
class SeenBodies:
    """The bodies of one person in the frames of a video, in the camera.

    Attributes:
        bodies: of every frame of the video; one that is not known is NaN, or filled between its neighbours.
        known: frames in which the person was seen.
        fps: of the video.
    """

    bodies: FrameBodies
    known: Bool[np.ndarray, " t"]
    fps: float


def placed(parts: Sequence[tuple[int, FrameBodies]], frames: int, fps: float) -> SeenBodies:
    """Bodies of consecutive frames, each part with the number of its first one, in a video of so many frames."""
    first = parts[0][1]
    whole = {name: np.full((frames, *value.shape[1:]), np.nan, np.float32) for name, value in vars(first).items()}
    for start, part in parts:
        for name, value in vars(part).items():
            whole[name][start : start + len(value)] = value
    bodies = FrameBodies(**whole)
    return SeenBodies(bodies=bodies, known=bodies.known, fps=fps)


def tidied(seen: SeenBodies, body: BodyAssets, how: Filter) -> SeenBodies:
    """Gaps filled along the shortest turn, ends held, one shape for all frames (the median), and a filter in time."""
    there = np.flatnonzero(seen.known)
    assert len(there), "somebody was seen"
    motion = Motion(
        name="seen",
        fps=seen.fps,
        rotmats=seen.bodies.rotmats[there],
        trans_m=seen.bodies.pelvis_cam_m[there],
        source="",
        licence="",
    )
    frames = np.arange(len(seen.known))
    filled = sample_at(motion, np.interp(frames, there, np.arange(len(there))), seen.fps)
    betas = np.tile(np.median(seen.bodies.betas[there], axis=0), (len(frames), 1))
    rotmats = smoothed_rotations(filled.rotmats, seen.fps, how)
    pelvis = smoothed(filled.trans_m, seen.fps, how)
    joints = posed_joints(body, rotmats, betas, pelvis)
    bodies = FrameBodies(rotmats=rotmats, betas=betas, pelvis_cam_m=pelvis, joints_cam_m=joints)
    return SeenBodies(bodies=bodies, known=seen.known, fps=seen.fps)


def posed_joints(
    body: BodyAssets,
    rotmats: Float32[np.ndarray, "t 24 3 3"],
    betas: Float32[np.ndarray, "t s"],
    pelvis_m: Float32[np.ndarray, "t 3"],
) -> Float32[np.ndarray, "t 24 3"]:
    """SMPL's joints, metres, in the frame of the pelvis' place."""
    shape = torch.from_numpy(betas)
    moved = skin_translation(torch.from_numpy(pelvis_m), rest_joints(body, shape)[:, 0])
    return np.asarray(joints_only(body, torch.from_numpy(rotmats), shape, moved).numpy())


@dataclass(frozen=True, kw_only=True)
class World:
    """How the world of a video lies in the camera; the same for all people in it.

    Attributes:
        up_cam: where up is, a unit vector.
        origin_cam_m: what comes to x = z = 0.
    """

    up_cam: Float[np.ndarray, "3"]
    origin_cam_m: Float32[np.ndarray, "3"]

    @property
    def cam_to_world(self) -> Float32[np.ndarray, "3 3"]:
        """Rotation: up to +y, and where the camera looks, made level, to -z."""
        forward = np.array((0.0, 0.0, 1.0)) - self.up_cam[2] * self.up_cam
        back = -forward / np.linalg.norm(forward)
        return np.stack((np.cross(self.up_cam, back), self.up_cam, back)).astype(np.float32)


def grounded(
    seen: SeenBodies, body: BodyAssets, world: World, *, name: str, source: str, licence: str
) -> CapturedMotion:
    """The motion in the world, the floor at y = 0, below the lower foot in most frames.

    Args:
        seen: of `tidied`.
        body: its model.
        world: of the video.
        name: of the motion.
        source: the video.
        licence: terms of the model and the video.
    """
    rotmats = seen.bodies.rotmats.copy()
    turn = world.cam_to_world
    rotmats[:, 0] = turn @ rotmats[:, 0]
    pelvis, joints = seen.bodies.pelvis_cam_m @ turn.T, seen.bodies.joints_cam_m @ turn.T
    heights = sole_heights_m(body, joints)
    floor = floor_height_m(heights[seen.known])
    origin = turn @ world.origin_cam_m
    origin[1] = floor
    placed_m = pelvis - origin
    motion = Motion(name=name, fps=seen.fps, rotmats=rotmats, trans_m=placed_m, source=source, licence=licence)
    return CapturedMotion(
        motion=motion,
        betas=seen.bodies.betas[0],
        body=body,
        known=seen.known,
        contact=standing(joints, heights - floor, seen.fps) & seen.known[:, None],
    )


def standing(
    joints_m: Float[np.ndarray, "t 24 3"], heights_m: Float[np.ndarray, "t 2 2"], fps: float
) -> Bool[np.ndarray, "t 2"]:
    """Whether the left and the right foot stand: ankle or foot low, and slow across the picture.

    Args:
        joints_m: SMPL's joints in the world.
        heights_m: of `sole_heights_m`, above the floor.
        fps: frames per second.
    """
    across = joints_m[:, list(map(list, SOLES)), :2]
    moved = np.gradient(across, axis=0) if len(across) > 1 else np.zeros_like(across)
    slow = np.linalg.norm(moved, axis=-1) * fps < MAX_FOOT_SPEED_M_S
    return np.asarray(((heights_m < MAX_FOOT_HEIGHT_M) & slow).any(2))


def world_surfaces(captured: CapturedMotion) -> Iterator[Float32[np.ndarray, "v 3"]]:
    """Vertices of every frame in the world, metres."""
    motion, frames = captured.motion, len(captured.known)
    betas = np.tile(captured.betas, (frames, 1))
    joints = posed_joints(captured.body, motion.rotmats, betas, motion.trans_m)
    bodies = FrameBodies(rotmats=motion.rotmats, betas=betas, pelvis_cam_m=motion.trans_m, joints_cam_m=joints)
    yield from surfaces(bodies, captured.body)
