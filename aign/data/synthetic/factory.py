"""Renders scenes: pictures and every label, as arrays.

Skinning runs once for a clip, everything else frame by frame on one core. The frame before the first and the frame
after the last do not exist, so their flow is marked invalid, as the store has it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int32, UInt8

from aign.body.assets import load_body
from aign.body.skinning import skin
from aign.data.synthetic.backgrounds import Panorama, harmonics, load_panorama, tone_table, view
from aign.data.synthetic.ground import NOISE_ROOM_PX, add_noise, ground_shadow, noise_tile
from aign.data.synthetic.scene import Scene, pose_in_camera
from aign.data.synthetic.shading import Frame, Model, Outputs, fill, lit_vertices, smooth_rims, vertex_normals
from aign.data.synthetic.wardrobe import doll_coordinates, dress
from aign.render.raster import Lens, front_faces, lens_row, project_vertices, rasterise
from aign.render.visibility import visible_vertices

OCCLUSION_DIRECTIONS = 96
OCCLUSION_LEAST = 0.35
SHADOW_STRENGTH = 0.55


@dataclass(frozen=True, kw_only=True)
class RenderedClip:
    """A clip, seen by its camera.

    Attributes:
        rgb: pictures.
        mask: the person.
        parts: 0 background, 1..24 the part (SMPL joint + 1) that the surface moves with most.
        depth_m: along the optical axis, 0 where there is no person.
        flow_px: motion until the next frame; 0 on the background. The last frame's is not valid.
        flow_back_px: motion since the frame before, backwards. The first frame's is not valid.
        visible: vertices that the camera sees.
        joints_cam_m: SMPL's 24 joints.
        joints_px: their pixels.
        pose_rad: SMPL's axis-angle, global orientation in the camera.
        betas: shape.
        trans_m: SMPL's translation in the camera.
        vertices_cam_m: the surface.
    """

    rgb: UInt8[np.ndarray, "t h w 3"]
    mask: Bool[np.ndarray, "t h w"]
    parts: UInt8[np.ndarray, "t h w"]
    depth_m: Float32[np.ndarray, "t h w"]
    flow_px: Float32[np.ndarray, "t h w 2"]
    flow_back_px: Float32[np.ndarray, "t h w 2"]
    visible: Bool[np.ndarray, "t v"]
    joints_cam_m: Float32[np.ndarray, "t 24 3"]
    joints_px: Float32[np.ndarray, "t 24 2"]
    pose_rad: Float32[np.ndarray, "t 24 3"]
    betas: Float32[np.ndarray, "10"]
    trans_m: Float32[np.ndarray, "t 3"]
    vertices_cam_m: Float32[np.ndarray, "t v 3"]


@dataclass(frozen=True, kw_only=True)
class Surface:
    """What does not depend on the scene: triangles, parts, doll coordinates and how open each vertex lies."""

    faces: Int32[np.ndarray, "f 3"]
    face_part: UInt8[np.ndarray, " f"]
    doll: Float32[np.ndarray, "v 3"]
    occlusion: Float32[np.ndarray, " v"]


@lru_cache(maxsize=1)
def default_surface() -> Surface:
    """That of the default body."""
    body = load_body()
    faces = body.faces.numpy().astype(np.int32)
    template = body.v_template_m.numpy()
    normals = vertex_normals(template, faces)
    part = body.weights[body.faces].sum(1).argmax(1).numpy() + 1
    return Surface(
        faces=faces,
        face_part=part.astype(np.uint8),
        doll=doll_coordinates(template, normals),
        occlusion=_openness(template, normals, faces),
    )


def _openness(
    template_m: Float32[np.ndarray, "v 3"], normals: Float32[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"]
) -> Float32[np.ndarray, " v"]:
    """Cosine-weighted share of the sky that each vertex of the T-pose sees, lifted to OCCLUSION_LEAST..1."""
    rng = np.random.default_rng(11)
    directions = rng.standard_normal((OCCLUSION_DIRECTIONS, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    open_, all_ = np.zeros(len(template_m)), np.zeros(len(template_m))
    # A camera far away along each direction sees what the sky there lights.
    lens = Lens(fx=4000.0, fy=4000.0, cx=128.0, cy=128.0, width=257, height=257)
    for direction in directions:
        across = np.cross(direction, np.eye(3)[np.abs(direction).argmin()])
        across /= np.linalg.norm(across)
        rot = np.stack((across, np.cross(-direction, across), -direction))
        seen = visible_vertices(
            project_vertices((template_m @ rot.T + [0, 0, 60.0]).astype(np.float32), lens), faces, lens
        )
        facing = np.maximum(normals @ direction, 0)
        open_ += facing * seen
        all_ += facing
    share = open_ / np.maximum(all_, 1e-9)
    share = np.minimum(share / np.quantile(share, 0.9), 1.0)
    return (OCCLUSION_LEAST + (1 - OCCLUSION_LEAST) * share).astype(np.float32)


def render_clip(scene: Scene) -> RenderedClip:
    """Render a scene on the default body."""
    body, surface = load_body(), default_surface()
    pose = pose_in_camera(scene, body)
    betas = torch.from_numpy(scene.betas.astype(np.float32))
    with _one_thread():
        skinned = skin(body, pose.rotmats, betas.expand(scene.frames, -1), pose.trans_m)
    vertices = np.ascontiguousarray(skinned.vertices_m.numpy())
    rng = np.random.default_rng([*scene.seed, 1])
    panorama = load_panorama(scene.panorama)
    exposure = panorama.exposure * 2.0**scene.stops
    rot = scene.rot_world_to_cam @ _about_up(scene.turn_rad)
    model = Model(
        faces=surface.faces,
        doll=surface.doll,
        occlusion=surface.occlusion,
        paint=dress(rng, scene.texture),
        light=_light_in_camera(panorama, rot, exposure, scene.contrast),
        tone=tone_table(),
    )
    background = view(panorama, rot, scene.lens, exposure)
    noise = noise_tile((scene.lens.width, scene.lens.height), scene.noise)
    joints = skinned.joints_m.numpy()
    lens = scene.lens
    joints_px = joints[..., :2] / joints[..., 2:] * [lens.fx, lens.fy] + [lens.cx, lens.cy]
    clip = _empty(scene, vertices, joints, joints_px.astype(np.float32))
    clip.pose_rad[:], clip.trans_m[:] = pose.axis_angle_rad, pose.trans_m.numpy()
    _render_frames(scene, model, background, noise, clip)
    return clip


@contextmanager
def _one_thread() -> Iterator[None]:
    """Several threads cut matrix products elsewhere and so round otherwise; a seed shall give the same bytes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _render_frames(
    scene: Scene,
    model: Model,
    background: UInt8[np.ndarray, "h w 3"],
    noise: np.ndarray,
    clip: RenderedClip,
) -> None:
    lens, row = scene.lens, lens_row(scene.lens)
    up = scene.rot_world_to_cam[:, 1]
    # Height of a point above the floor (y = 0): up . x_cam + the camera's height.
    floor = np.array([*up, -up @ scene.trans_world_to_cam_m])
    shifts = np.random.default_rng([*scene.seed, 2]).integers(0, NOISE_ROOM_PX, (scene.frames, 2))
    surface, last = default_surface(), scene.frames - 1
    vertices = clip.vertices_cam_m
    for t in range(scene.frames):
        projected = project_vertices(vertices[t], lens)
        assert projected.inverse_m.all(), "scenes keep their distance"
        front = front_faces(projected, surface.faces)
        faces = surface.faces[front]
        raster = rasterise(projected, faces, lens)
        frame = Frame(
            vertices=vertices[t],
            before=vertices[max(t - 1, 0)],
            after=vertices[min(t + 1, last)],
            points=projected.points_px,
            inverse=projected.inverse_m,
            fronts=faces,
            front_part=surface.face_part[front],
            face_id=raster.face_id,
            nearest=raster.inverse_m,
        )
        out = Outputs(
            rgb=clip.rgb[t],
            mask=clip.mask[t],
            parts=clip.parts[t],
            depth=clip.depth_m[t],
            flow=clip.flow_px[t],
            flow_back=clip.flow_back_px[t],
        )
        out.rgb[:] = background
        ground_shadow(vertices[t], floor, row, SHADOW_STRENGTH, out.rgb)
        lit = lit_vertices(model, vertices[t])
        behind = out.rgb.copy()
        fill(model, frame, row, lit, out)
        smooth_rims(model, frame, lit, behind, out.rgb)
        add_noise(out.rgb, noise, shifts[t, 0], shifts[t, 1])
        clip.visible[t] = visible_vertices(projected, faces, lens)


def _about_up(turn_rad: float) -> np.ndarray:
    """Rotation about y by an angle."""
    cosine, sine = np.cos(turn_rad), np.sin(turn_rad)
    turn: np.ndarray = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    return turn


def _light_in_camera(
    panorama: Panorama, rot: np.ndarray, exposure: float, contrast: float
) -> Float32[np.ndarray, "9 3"]:
    """The panorama's light as harmonics of normals in the camera frame, exposed."""
    rng = np.random.default_rng(3)
    normals = rng.standard_normal((64, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    scaled = panorama.light * np.array([1.0, *[contrast] * 8])[:, None] * exposure
    # Harmonics of one degree turn into each other: 64 directions determine the 9 numbers exactly.
    wanted = harmonics(normals @ rot) @ scaled
    return np.asarray(np.linalg.lstsq(harmonics(normals), wanted, rcond=None)[0], np.float32)


def _empty(
    scene: Scene,
    vertices: Float32[np.ndarray, "t v 3"],
    joints: Float32[np.ndarray, "t 24 3"],
    joints_px: Float32[np.ndarray, "t 24 2"],
) -> RenderedClip:
    shape = (scene.frames, scene.lens.height, scene.lens.width)
    return RenderedClip(
        rgb=np.empty((*shape, 3), np.uint8),
        mask=np.zeros(shape, bool),
        parts=np.zeros(shape, np.uint8),
        depth_m=np.zeros(shape, np.float32),
        flow_px=np.zeros((*shape, 2), np.float32),
        flow_back_px=np.zeros((*shape, 2), np.float32),
        visible=np.empty(vertices.shape[:2], bool),
        joints_cam_m=joints,
        joints_px=joints_px,
        pose_rad=np.empty(joints.shape, np.float32),
        betas=scene.betas.astype(np.float32),
        trans_m=np.empty((scene.frames, 3), np.float32),
        vertices_cam_m=vertices,
    )
