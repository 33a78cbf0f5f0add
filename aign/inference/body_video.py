"""Bodies over the video that they were captured in, and as a plain file."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64, UInt8

from aign.body.assets import BodyAssets
from aign.body.skinning import rest_joints, skin
from aign.data.publish import published
from aign.data.stages.decode import fitted_size
from aign.geometry.skeleton import SMPL24
from aign.inference.body_predictor import FrameBodies, resized_lens
from aign.render.raster import Lens, project_vertices, rasterise, surface_points

CHUNK = 64
"""Frames whose surfaces are held at a time."""
LONGEST_PX = 1280
COLOURS_RGB = np.array(((120, 190, 255), (255, 170, 90), (150, 220, 130), (220, 140, 230), (240, 220, 110)), np.float32)
"""Of the first person, the second, and so on."""
OPAQUE = 0.8
AMBIENT = 0.35
"""Light of a surface that is seen from the side; one that faces the camera has 1."""


def file_name(text: str) -> str:
    """A sequence's or camera's name as one of a file."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text)


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


def save_bodies(path: Path, bodies: FrameBodies, body: BodyAssets, place: VideoPlace, licences: Sequence[str]) -> None:
    """A plain npz of t frames; NaN where too little of a person was seen.

    rotmats [t, 24, 3, 3] local rotations of SMPL's joints, the first the orientation in the camera; betas [t, 10];
    pelvis_cam_m [t, 3] and joints_cam_m [t, 24, 3] metres in the camera (+x right, +y down, +z forward); joint_names,
    parents; frame [t] number in the video; fps; intrinsics_px fx, fy, cx, cy of the pictures; body, its
    model's name; licences, of all that they were made with.
    """
    with published(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(
            file,
            **vars(bodies),
            joint_names=np.array(SMPL24.joints),
            parents=np.array(SMPL24.parents),
            **vars(place),
            body=np.array(body.name),
            licences=np.array(licences, dtype=np.str_),
        )


def surfaces(bodies: FrameBodies, body: BodyAssets) -> Iterator[Float32[np.ndarray, "v 3"]]:
    """Vertices in the camera of every frame, metres; NaN where there is no body."""
    for start in range(0, len(bodies.betas), CHUNK):
        part = slice(start, start + CHUNK)
        rotmats, betas, pelvis = (
            torch.from_numpy(array[part]) for array in (bodies.rotmats, bodies.betas, bodies.pelvis_cam_m)
        )
        yield from skin(body, rotmats, betas, pelvis - rest_joints(body, betas)[:, 0]).vertices_m.numpy()


def drawn(
    frames: Iterable[UInt8[np.ndarray, "h w 3"]],
    people_cam_m: Iterable[Sequence[Float32[np.ndarray, "v 3"]]],
    body: BodyAssets,
    intrinsics_px: Float32[np.ndarray, "4"],
) -> Iterator[UInt8[np.ndarray, "a b 3"]]:
    """Pictures, the longer side at most LONGEST_PX, with the surfaces of all people in them; who is nearer hides.

    Args:
        frames: pictures of one size.
        people_cam_m: for each picture the vertices of each person, always in the same order; not finite: not there.
        body: their model.
        intrinsics_px: fx, fy, cx, cy of the pictures.
    """
    faces = body.faces.numpy().astype(np.int32)
    for frame, people in zip(frames, people_cam_m, strict=True):
        size = fitted_size(frame.shape[1], frame.shape[0], LONGEST_PX)
        small = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
        lens = resized_lens(intrinsics_px[None], np.array(size) / np.array(frame.shape[1::-1]))[0]
        there = [(k, vertices) for k, vertices in enumerate(people) if np.isfinite(vertices).all()]
        if not there:
            yield small
            continue
        colours = np.concatenate([np.tile(COLOURS_RGB[k % len(COLOURS_RGB)], (len(v), 1)) for k, v in there])
        joined = np.concatenate([faces + n * len(body.v_template_m) for n in range(len(there))])
        yield draw_surface(small, np.concatenate([v for _, v in there]), joined, lens, colours)


def draw_surface(
    picture: UInt8[np.ndarray, "h w 3"],
    vertices_cam_m: Float32[np.ndarray, "v 3"],
    faces: Int32[np.ndarray, "f 3"],
    intrinsics_px: Float32[np.ndarray, "4"],
    colours_rgb: Float32[np.ndarray, "v 3"] | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """A copy of the picture with a shaded surface; one that is not finite is not drawn.

    Args:
        picture: RGB.
        vertices_cam_m: in the camera.
        faces: of closed meshes, counter-clockwise from outside.
        intrinsics_px: fx, fy, cx, cy.
        colours_rgb: of the vertices, 0 to 255; None: those of the first person.
    """
    if not np.isfinite(vertices_cam_m).all():
        return picture.copy()
    fx, fy, cx, cy = intrinsics_px.tolist()
    lens = Lens(fx=fx, fy=fy, cx=cx, cy=cy, width=picture.shape[1], height=picture.shape[0])
    projected = project_vertices(vertices_cam_m, lens)
    raster = rasterise(projected, faces, lens)
    bary, _ = surface_points(raster, projected, faces)
    shown = raster.face_id >= 0
    corners = faces[raster.face_id[shown]]
    normal = (bary[shown][..., None] * _normals(vertices_cam_m, faces)[corners]).sum(1)
    # Convention: the camera looks along +z, so what faces it has a normal of negative z.
    facing = np.clip(-normal[:, 2] / np.linalg.norm(normal, axis=1).clip(1e-9), 0, 1)
    light = AMBIENT + (1 - AMBIENT) * facing[:, None]
    colour = COLOURS_RGB[0] if colours_rgb is None else colours_rgb[corners[:, 0]]
    out = picture.copy()
    out[shown] = np.rint(OPAQUE * light * colour + (1 - OPAQUE) * picture[shown]).astype(np.uint8)
    return out


def _normals(vertices_m: Float32[np.ndarray, "v 3"], faces: np.ndarray) -> np.ndarray:
    """Normals of the vertices, those of the faces round them weighted by area; faces turn left seen from outside."""
    a, b, c = (vertices_m[faces[:, i]] for i in range(3))
    of_faces = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices_m)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], of_faces)
    return normals
