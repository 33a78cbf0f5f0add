"""Videos of a store with a body in every frame: what `aign capture` shows and saves of a motion-capture model."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8

from aign.body.assets import BodyAssets
from aign.body.skinning import rest_joints, skin
from aign.data.publish import published
from aign.data.stages.decode import fitted_size, write_mp4
from aign.geometry.skeleton import SMPL24, convert, convert_confidence
from aign.inference.body_predictor import (
    BodyPredictor,
    FrameBodies,
    resized_lens,
    resized_px,
    shrink_factor,
    shrunk,
)
from aign.inference.video import VideoView
from aign.render.raster import Lens, project_vertices, rasterise, surface_points

CHUNK = 64
"""Frames whose surfaces are held at a time."""
LONGEST_PX = 1280
SKIN_RGB = np.array((120, 190, 255), np.float32)
OPAQUE = 0.8
AMBIENT = 0.35
"""Light of a surface that is seen from the side; one that faces the camera has 1."""


def file_name(text: str) -> str:
    """A sequence's or camera's name as one of a file."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text)


def view_lens(view: VideoView) -> Float32[np.ndarray, "4"]:
    """fx, fy, cx, cy of the stored pictures of a view."""
    lens = torch.cat((view.pinhole.focal_px, view.pinhole.centre_px)).numpy().astype(np.float32)
    return np.asarray(resized_lens(lens[None], view.picture_scale)[0])


def capture_view(view: VideoView, predictor: BodyPredictor) -> FrameBodies:
    """The body in each frame of a view; a gap in time begins a new clip."""
    kp2d, _ = convert(torch.from_numpy(view.kp2d_px), view.skeleton, SMPL24)
    conf = convert_confidence(torch.from_numpy(view.conf), view.skeleton, SMPL24).numpy()
    kp_px = np.where(conf[..., None] > 0, resized_px(kp2d.numpy(), view.picture_scale), 0).astype(np.float32)
    factor = shrink_factor(kp_px, conf, predictor.encoder.config.side_px)
    images = np.stack([shrunk(frame, factor) for frame in view.frames()])  # whole ones of a long video fill memory
    by = np.array(images.shape[2:0:-1]) / np.array(view.frame(0).shape[1::-1])
    lens = np.tile(resized_lens(view_lens(view)[None], by), (len(images), 1))
    arrays = (images, resized_px(kp_px, by), conf, lens)
    starts = np.flatnonzero(np.diff(view.number) != 1) + 1
    clips = zip(*(np.split(array, starts) for array in arrays), strict=True)
    found = [vars(predictor.predict(*clip)) for clip in clips]
    return FrameBodies(**{name: np.concatenate([clip[name] for clip in found]) for name in found[0]})


@dataclass(frozen=True, kw_only=True)
class VideoPlace:
    """Where frames stand in their video.

    Attributes:
        frame: number of each in the video, from 0.
        fps: frames per second.
        intrinsics_px: fx, fy, cx, cy of the pictures.
    """

    frame: Int64[np.ndarray, " t"]
    fps: float
    intrinsics_px: Float32[np.ndarray, "4"]


def save_bodies(path: Path, bodies: FrameBodies, body: BodyAssets, place: VideoPlace) -> None:
    """A plain npz of t frames; NaN where too little of a person was seen.

    rotmats [t, 24, 3, 3] local rotations of SMPL's joints, the first the orientation in the camera; betas [t, 10];
    pelvis_cam_m [t, 3] and joints_cam_m [t, 24, 3] metres in the camera (+x right, +y down, +z forward); joint_names,
    parents; frame [t] number in the video; fps; intrinsics_px fx, fy, cx, cy of the pictures; body, its model's name.
    """
    with published(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(
            file,
            **vars(bodies),
            joint_names=np.array(SMPL24.joints),
            parents=np.array(SMPL24.parents),
            **vars(place),
            body=np.array(body.name),
        )


def surfaces(bodies: FrameBodies, body: BodyAssets) -> Iterator[Float32[np.ndarray, "v 3"]]:
    """Vertices in the camera of every frame, metres; NaN where there is no body."""
    for start in range(0, len(bodies.betas), CHUNK):
        part = slice(start, start + CHUNK)
        rotmats, betas, pelvis = (
            torch.from_numpy(array[part]) for array in (bodies.rotmats, bodies.betas, bodies.pelvis_cam_m)
        )
        yield from skin(body, rotmats, betas, pelvis - rest_joints(body, betas)[:, 0]).vertices_m.numpy()


def h36m17(bodies: FrameBodies, body: BodyAssets) -> Float32[np.ndarray, "t 17 3"]:
    """Human3.6M's joints of the surfaces, in the camera, metres, for what shows or compares those."""
    assert body.h36m17_regressor is not None, "the default body has one"
    regressor = body.h36m17_regressor.numpy()
    return np.stack([regressor @ vertices for vertices in surfaces(bodies, body)])


def write_body_view(view: VideoView, bodies: FrameBodies, body: BodyAssets, path: Path) -> None:
    """The overlay video: the shaded surface over the picture, which is shown as it is where there is no body."""
    write_mp4(path, drawn(view.frames(), surfaces(bodies, body), body, view_lens(view)), view.fps)


def drawn(
    frames: Iterable[UInt8[np.ndarray, "h w 3"]],
    vertices_cam_m: Iterable[Float32[np.ndarray, "v 3"]],
    body: BodyAssets,
    intrinsics_px: Float32[np.ndarray, "4"],
) -> Iterator[UInt8[np.ndarray, "a b 3"]]:
    """Pictures, the longer side at most LONGEST_PX, with the surface drawn into them."""
    faces = body.faces.numpy().astype(np.int32)
    for frame, vertices in zip(frames, vertices_cam_m, strict=True):
        size = fitted_size(frame.shape[1], frame.shape[0], LONGEST_PX)
        small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        lens = resized_lens(intrinsics_px[None], np.array(size) / np.array(frame.shape[1::-1]))[0]
        yield draw_surface(np.asarray(small), vertices, faces, lens)


def draw_surface(
    picture: UInt8[np.ndarray, "h w 3"],
    vertices_cam_m: Float32[np.ndarray, "v 3"],
    faces: np.ndarray,
    intrinsics_px: Float32[np.ndarray, "4"],
) -> UInt8[np.ndarray, "h w 3"]:
    """A copy of the picture with a shaded surface; one that is not finite is not drawn."""
    if not np.isfinite(vertices_cam_m).all():
        return picture.copy()
    fx, fy, cx, cy = intrinsics_px.tolist()
    lens = Lens(fx=fx, fy=fy, cx=cx, cy=cy, width=picture.shape[1], height=picture.shape[0])
    projected = project_vertices(vertices_cam_m, lens)
    raster = rasterise(projected, faces, lens)
    bary, _ = surface_points(raster, projected, faces)
    shown = raster.face_id >= 0
    corners = _normals(vertices_cam_m, faces)[faces[raster.face_id[shown]]]
    normal = (bary[shown][..., None] * corners).sum(1)
    # Convention: the camera looks along +z, so what faces it has a normal of negative z.
    facing = np.clip(-normal[:, 2] / np.linalg.norm(normal, axis=1).clip(1e-9), 0, 1)
    light = AMBIENT + (1 - AMBIENT) * facing[:, None]
    out = picture.copy()
    out[shown] = np.rint(OPAQUE * light * SKIN_RGB + (1 - OPAQUE) * picture[shown]).astype(np.uint8)
    return out


def _normals(vertices_m: Float32[np.ndarray, "v 3"], faces: np.ndarray) -> np.ndarray:
    """Normals of the vertices, those of the faces round them weighted by area; faces turn left seen from outside."""
    a, b, c = (vertices_m[faces[:, i]] for i in range(3))
    of_faces = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices_m)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], of_faces)
    return normals
