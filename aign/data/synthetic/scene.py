"""What one synthetic clip shows, drawn from a seed: who, in which clothes, doing what, where, seen how.

A `Domain` says what may come up; two of them, far enough apart, are the source and the target of an adaptation.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float

from aign.body.assets import BodyAssets
from aign.body.motion import Motion, mirror, sample_at, skin_translation
from aign.body.skinning import joints_only, rest_joints
from aign.data.synthetic.backgrounds import INDOOR, OUTDOOR
from aign.data.synthetic.wardrobe import Texture
from aign.framework.errors import UserError
from aign.geometry.rotation import to_axis_angle
from aign.render.raster import Lens

Background = Literal["indoor", "outdoor", "mixed"]
Lighting = Literal["natural", "flat", "dim"]
CONTRAST = {"natural": 1.0, "flat": 0.3, "dim": 1.0}
STOPS = {"natural": (-0.4, 0.5), "flat": (-0.1, 0.5), "dim": (-1.6, -0.8)}
"""How much of the light's direction stays, and the range of the exposure in stops."""
FIELD_OF_VIEW = (38.0, 68.0)
FILL = (0.7, 0.98)
"""How much of the picture the whole motion fills, along the side that is tighter."""
CUT_SHARE = 0.1
"""Clips that are framed so tightly that the body leaves the picture at times."""
LEAST_DISTANCE_M = 0.8
"""No vertex comes nearer to the camera than this."""
FRAMING_FRAMES = 16
"""Frames by which the camera is placed."""


@dataclass(frozen=True, kw_only=True)
class Domain:
    """What may come up.

    Attributes:
        lighting: the panorama's own light, the same without much direction, or underexposed.
        texture: clothes without, with, or with and without patterns.
        background: photographs from indoors, outdoors, or both.
        camera_height_m: least and most above the floor.
        body_range: least and most of each shape coefficient.
    """

    lighting: Lighting = "natural"
    texture: Texture = "mixed"
    background: Background = "mixed"
    camera_height_m: tuple[float, float] = (0.5, 2.6)
    body_range: tuple[float, float] = (-2.0, 2.0)

    def __post_init__(self) -> None:
        low, high = self.camera_height_m
        if not 0.05 <= low <= high <= 10:
            raise UserError(f"camera heights from {low} to {high} m; 0.05 to 10, the lower first, are allowed")
        least, most = self.body_range
        if not -5 <= least <= most <= 5:
            raise UserError(f"shape coefficients from {least} to {most}; -5 to 5, the lower first, are allowed")


WIDE = Domain()
SOURCE = Domain(texture="plain", background="indoor", camera_height_m=(1.0, 1.8), body_range=(-2.0, 0.5))
TARGET = Domain(
    lighting="dim", texture="patterned", background="outdoor", camera_height_m=(2.2, 4.0), body_range=(0.5, 2.5)
)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One clip to be rendered.

    Attributes:
        motion: poses in the y-up world at the clip's frame rate; its pelvis positions fit the body's shape.
        betas: shape.
        lens: the camera.
        rot_world_to_cam: from the y-up world.
        trans_world_to_cam_m: so that x_cam = rot x_world + trans.
        panorama: name of the photograph.
        turn_rad: how far the photograph is turned about the vertical.
        stops: exposure.
        contrast: how much of the light's direction stays.
        texture: of the clothes.
        noise: standard deviation of the sensor's noise, 0..255.
        seed: of clothes and noise.
    """

    motion: Motion
    betas: Float[np.ndarray, "10"]
    lens: Lens
    rot_world_to_cam: Float[np.ndarray, "3 3"]
    trans_world_to_cam_m: Float[np.ndarray, "3"]
    panorama: str
    turn_rad: float
    stops: float
    contrast: float
    texture: Texture
    noise: float
    seed: tuple[int, ...]

    @property
    def frames(self) -> int:
        """Frames of the clip."""
        return len(self.motion.rotmats)


def draw_scene(
    domain: Domain, motion: Motion, body: BodyAssets, seed: tuple[int, ...], clip: "ClipSize", lens: Lens | None = None
) -> Scene:
    """Decide on everything about a clip.

    Args:
        domain: what may come up.
        motion: the whole motion; a piece of it is taken.
        body: who is seen.
        seed: of numpy's generator.
        clip: frame rate, most frames and picture size.
        lens: the camera; None: of a random field of view.
    """
    rng = np.random.default_rng([*seed, 0])
    piece = _piece(rng, motion, clip)
    betas = rng.uniform(*domain.body_range, 10)
    piece = _fitted(piece, body, betas)
    if lens is None:
        focal = max(clip.size_px) / 2 / math.tan(math.radians(rng.uniform(*FIELD_OF_VIEW)) / 2)
        width, height = clip.size_px
        lens = Lens(fx=focal, fy=focal, cx=(width - 1) / 2, cy=(height - 1) / 2, width=width, height=height)
    rot, trans = _camera(rng, domain, piece, body, betas, lens)
    places = {"indoor": INDOOR, "outdoor": OUTDOOR, "mixed": INDOOR + OUTDOOR}[domain.background]
    return Scene(
        motion=piece,
        betas=betas,
        lens=lens,
        rot_world_to_cam=rot,
        trans_world_to_cam_m=trans,
        panorama=places[rng.integers(len(places))],
        turn_rad=float(rng.uniform(-math.pi, math.pi)),
        stops=float(rng.uniform(*STOPS[domain.lighting])),
        contrast=CONTRAST[domain.lighting],
        texture=domain.texture,
        noise=float(rng.uniform(0.5, 3.0)) + (2.0 if domain.lighting == "dim" else 0.0),
        seed=seed,
    )


@dataclass(frozen=True, kw_only=True)
class ClipSize:
    """How long and large clips are.

    Attributes:
        fps: frames per second.
        frames: at most so many; shorter motions give shorter clips.
        size_px: width and height.
    """

    fps: float
    frames: int
    size_px: tuple[int, int]


def _piece(rng: np.random.Generator, motion: Motion, clip: ClipSize) -> Motion:
    """A piece of the motion (or of its mirror image), at 0.85 to 1.15 of its speed."""
    step = motion.fps / clip.fps * rng.uniform(0.85, 1.15)
    last = len(motion.rotmats) - 1
    frames = min(clip.frames, int(last / step + 1e-6) + 1)
    start = rng.uniform(0, max(last - (frames - 1) * step, 0.0))
    at = np.minimum(start + step * np.arange(frames), last)
    taken = sample_at(motion, at, clip.fps)
    return mirror(taken) if rng.random() < 0.5 else taken


def _fitted(motion: Motion, body: BodyAssets, betas: Float[np.ndarray, "10"]) -> Motion:
    """The motion with the pelvis as high above the floor as longer or shorter legs put it."""
    shapes = torch.from_numpy(np.stack((np.zeros(10), betas)).astype(np.float32))
    joints = rest_joints(body, shapes)
    legs = joints[:, 0, 1] - joints[:, (7, 8), 1].mean(1)
    scale = float(legs[1] / legs[0])
    return Motion(
        name=motion.name,
        fps=motion.fps,
        rotmats=motion.rotmats,
        trans_m=motion.trans_m * np.float32(scale),
        source=motion.source,
        licence=motion.licence,
    )


def _camera(
    rng: np.random.Generator,
    domain: Domain,
    motion: Motion,
    body: BodyAssets,
    betas: Float[np.ndarray, "10"],
    lens: Lens,
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """A camera somewhere round the motion that sees nearly all of it; rotation and translation from the y-up world."""
    rotmats = torch.from_numpy(motion.rotmats)
    shapes = torch.from_numpy(betas.astype(np.float32)).expand(len(rotmats), -1)
    trans = skin_translation(torch.from_numpy(motion.trans_m), rest_joints(body, shapes)[:, 0])
    some = slice(None, None, max(1, len(rotmats) // FRAMING_FRAMES))
    joints = joints_only(body, rotmats[some], shapes[some], trans[some]).double().numpy()
    # Joints lie inside: head, hands and feet reach about this much further.
    around = joints[:, :, None] + 0.13 * np.concatenate((np.eye(3), -np.eye(3)))
    points = around.reshape(-1, 3)
    low, high = points.min(0), points.max(0)
    target = 0.5 * (low + high)
    azimuth, height, roll = rng.uniform(-math.pi, math.pi), rng.uniform(*domain.camera_height_m), rng.normal(0, 2)
    fill = rng.uniform(*FILL) * (1.45 if rng.random() < CUT_SHARE else 1.0)
    away = np.array([math.sin(azimuth), 0.0, math.cos(azimuth)])
    distance = 2.0
    for _ in range(12):
        position = np.array([target[0], height, target[2]]) + distance * away
        rot = _looking_at(position, target, math.radians(roll))
        cam = (points - position) @ rot.T
        if cam[:, 2].min() < LEAST_DISTANCE_M:
            distance += LEAST_DISTANCE_M - cam[:, 2].min() + 0.01
            continue
        spread_x = np.abs(cam[:, 0] / cam[:, 2]).max() * lens.fx / (lens.width / 2)
        spread_y = np.abs(cam[:, 1] / cam[:, 2]).max() * lens.fy / (lens.height / 2)
        distance *= 1 + 0.8 * (max(spread_x, spread_y) / fill - 1)
    position = np.array([target[0], height, target[2]]) + distance * away
    rot = _looking_at(position, target, math.radians(roll))
    nearest = float(((points - position) @ rot.T)[:, 2].min())
    if nearest < LEAST_DISTANCE_M:
        position = position - rot[2] * (LEAST_DISTANCE_M - nearest)
    return rot, -rot @ position


def _looking_at(position: Float[np.ndarray, "3"], target: Float[np.ndarray, "3"], roll: float) -> np.ndarray:
    """World to camera of a camera at `position`, turned by `roll` about its axis; y up."""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, np.array([0.0, 1.0, 0.0]))
    right /= np.linalg.norm(right)
    level = np.stack((right, np.cross(forward, right), forward))
    cosine, sine = math.cos(roll), math.sin(roll)
    turned: np.ndarray = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]]) @ level
    return turned


@dataclass(frozen=True, kw_only=True)
class CameraPose:
    """The body in the camera frame, with SMPL's meaning: rotation about the pelvis joint, translation added last.

    Attributes:
        rotmats: local rotations, the first one into the camera.
        axis_angle_rad: the same.
        trans_m: vertices_cam = skin(rotmats, betas) + trans_m.
    """

    rotmats: Float[torch.Tensor, "t 24 3 3"]
    axis_angle_rad: Float[np.ndarray, "t 24 3"]
    trans_m: Float[torch.Tensor, "t 3"]


def pose_in_camera(scene: Scene, body: BodyAssets) -> CameraPose:
    """The poses of a scene in its camera, float32."""
    rot = torch.from_numpy(scene.rot_world_to_cam)
    rotmats = torch.from_numpy(scene.motion.rotmats).double()
    rotmats[:, 0] = rot @ rotmats[:, 0]
    pelvis = torch.from_numpy(scene.motion.trans_m).double() @ rot.mT + torch.from_numpy(scene.trans_world_to_cam_m)
    rest = rest_joints(body, torch.from_numpy(scene.betas.astype(np.float32))[None])[0, 0]
    return CameraPose(
        rotmats=rotmats.float(),
        axis_angle_rad=to_axis_angle(rotmats).float().numpy(),
        trans_m=(pelvis - rest.double()).float(),
    )
