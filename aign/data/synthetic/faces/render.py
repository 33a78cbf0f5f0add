"""One picture of one person, and everything that is true of it.

Convention: camera frame +x right, +y down, +z forward, metres; the head's left is the picture's right.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from aign.data.face_frame import alignment, part_boxes
from aign.data.synthetic.faces.hair import cap, curtain
from aign.data.synthetic.faces.head import CAP, CURTAIN, EYES, SKIN, Head, load_head
from aign.data.synthetic.faces.paint import CHANNELS, DOLL, LIP, MOUTH, NORMAL, NOSY, Drawn, Look, paint, settle
from aign.data.synthetic.faces.people import Person, Sitting
from aign.data.synthetic.shading import vertex_normals
from aign.render.raster import Lens, Projected, project_vertices, rasterise

DISTANCE_M = 0.9
SAMPLES = 2
"""Samples of a pixel along each axis."""
_FOCAL = 1000.0
_GAMMA = 2.2


@dataclass(frozen=True, kw_only=True)
class RenderedFace:
    """A picture with its labels.

    Attributes:
        rgb: the picture.
        parts: 0 nothing, 1 lips, 2 nose, 3 eyes.
        boxes_px: edges x0, y0, x1, y1 of lips, nose and eyes.
        boxes_valid: whether any of it is seen.
        landmarks_px: FACE5.
        lip_area: share of the picture that is lips.
    """

    rgb: UInt8[np.ndarray, "s s 3"]
    parts: UInt8[np.ndarray, "s s"]
    boxes_px: Float32[np.ndarray, "3 4"]
    boxes_valid: Bool[np.ndarray, "3"]
    landmarks_px: Float32[np.ndarray, "5 2"]
    lip_area: float


def render_face(person: Person, sitting: Sitting, side_px: int) -> RenderedFace:
    """Render one picture, aligned: eyes and mouth lie where `aign.data.face_frame` has them."""
    head = load_head()
    shaped = head.shaped({**person.shape, **sitting.expression})
    mesh = _dressed(head, shaped, person)
    camera_m, normals = _posed(mesh, shaped, head, sitting)
    lens = Lens(fx=_FOCAL, fy=_FOCAL, cx=0.0, cy=0.0, width=SAMPLES * side_px, height=SAMPLES * side_px)
    projected = project_vertices(camera_m, lens)
    marks = _landmarks(head, projected)
    fit = alignment(marks, side_px)
    # Sample s of a pixel's row of SAMPLES lies at (s - 0.5) / 2 of the pixels.
    samples = Projected(points_px=fit(projected.points_px) * SAMPLES + (SAMPLES - 1) / 2, inverse_m=projected.inverse_m)
    raster = rasterise(samples, mesh.faces, lens)
    carried = mesh.carried.copy()
    carried[:, NORMAL : NORMAL + 3] = normals
    drawn = Drawn(
        face_id=raster.face_id,
        faces=mesh.faces,
        material=mesh.material,
        points=samples.points_px,
        inverse=samples.inverse_m,
        carried=carried,
    )
    rgb = _background(sitting, SAMPLES * side_px)
    part = np.zeros(rgb.shape[:2], np.uint8)
    paint(drawn, _look(person, sitting), rgb, part)
    out, parts = np.empty((side_px, side_px, 3), np.uint8), np.empty((side_px, side_px), np.uint8)
    lip_area = settle(rgb, part, out, parts)
    boxes, valid = part_boxes(parts)
    return RenderedFace(
        rgb=out,
        parts=parts,
        boxes_px=boxes,
        boxes_valid=valid,
        landmarks_px=fit(marks).astype(np.float32),
        lip_area=float(lip_area),
    )


@dataclass(frozen=True, kw_only=True)
class _Mesh:
    """Head, hair and clothes of one person: vertices, triangles, materials, and what vertices carry."""

    vertices_m: Float32[np.ndarray, "v 3"]
    faces: np.ndarray
    material: np.ndarray
    carried: Float32[np.ndarray, "v c"]


def _dressed(head: Head, shaped: Float32[np.ndarray, "v 3"], person: Person) -> _Mesh:
    skin = head.faces[head.material == SKIN]
    normals = vertex_normals(shaped, skin)
    carried = np.zeros((len(shaped), CHANNELS), np.float32)
    carried[:, DOLL : DOLL + 3] = head.template_m * 10
    carried[:, LIP], carried[:, MOUTH], carried[:, NOSY] = head.lips, head.mouth, head.nose
    vertices, faces, material, carry = [shaped], [head.faces], [head.material], [carried]
    if person.hair.thickness > 0:
        layer, triangles, members = cap(shaped, normals, person.hair)
        faces.append(triangles + len(shaped))
        vertices.append(layer)
        carry.append(carried[members])
        material.append(np.full(len(triangles), CAP, np.int32))
    if person.hair.length > 0:
        sheet, triangles, doll = curtain(shaped, head, person.hair)
        faces.append(triangles + sum(map(len, vertices)))
        vertices.append(sheet)
        hanging = np.zeros((len(sheet), CHANNELS), np.float32)
        hanging[:, DOLL : DOLL + 3] = doll
        carry.append(hanging)
        material.append(np.full(len(triangles), CURTAIN, np.int32))
    return _Mesh(
        vertices_m=np.concatenate(vertices),
        faces=np.concatenate(faces).astype(np.int32),
        material=np.concatenate(material),
        carried=np.concatenate(carry),
    )


def _posed(
    mesh: _Mesh, shaped: Float32[np.ndarray, "v 3"], head: Head, sitting: Sitting
) -> tuple[Float32[np.ndarray, "n 3"], Float32[np.ndarray, "n 3"]]:
    """Vertices and normals in the camera frame; the head turns about its middle."""
    eyes = shaped[np.unique(head.faces[head.material == EYES])].mean(0)
    middle = eyes - np.array([0, 0, 0.09], np.float32)
    yaw, pitch, roll = np.radians([sitting.yaw, sitting.pitch, sitting.roll])
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    # The body's y up and z towards the camera become y down and z away from it.
    rot = np.diag([1.0, -1.0, -1.0]) @ about_z @ about_x @ about_y
    camera = (mesh.vertices_m - middle) @ rot.T + [0, 0, DISTANCE_M]
    single = mesh.faces[mesh.material != CURTAIN]
    normals = vertex_normals(mesh.vertices_m, single)
    sheet = mesh.faces[mesh.material == CURTAIN]
    if len(sheet):
        normals += vertex_normals(mesh.vertices_m, sheet[: len(sheet) // 2])
    return camera.astype(np.float32), (normals @ rot.T).astype(np.float32)


def _landmarks(head: Head, projected: Projected) -> Float64[np.ndarray, "5 2"]:
    """FACE5 before alignment: the middles of both eyes, the nose's tip, the corners of the mouth."""
    points, template = projected.points_px, head.template_m
    eyes = np.unique(head.faces[head.material == EYES])
    front = eyes[template[eyes, 2] > np.quantile(template[eyes, 2], 0.7)]
    left, right = front[template[front, 0] < 0], front[template[front, 0] > 0]
    lips = np.flatnonzero(head.lips >= 0.5)
    nose = np.flatnonzero(head.nose >= 0.5)
    tip = nose[template[nose, 2].argmax()]
    corners = lips[template[lips, 0].argmin()], lips[template[lips, 0].argmax()]
    return np.stack(
        [points[left].mean(0), points[right].mean(0), points[tip], points[corners[0]], points[corners[1]]]
    ).astype(np.float64)


def _linear(rgb: tuple[float, float, float]) -> Float32[np.ndarray, "3"]:
    return np.asarray(np.array(rgb) ** _GAMMA, np.float32)


def _look(person: Person, sitting: Sitting) -> Look:
    right, up = np.radians(sitting.light_degrees)
    light = np.array([np.sin(right) * np.cos(up), -np.sin(up), -np.cos(right) * np.cos(up)], np.float32)
    warm = np.array([1 + 0.08 * sitting.warmth, 1.0, 1 - 0.1 * sitting.warmth], np.float32)
    colours = {name: _linear(rgb) for name, rgb in person.colours.items()}
    aged = float(np.clip((person.age - 28) / 42, 0, 1))
    brows = 0.062 if person.male else 0.038
    traits = (person.beard, person.make_up, aged, *sitting.gaze, brows, person.curl)
    return Look(
        **colours,
        light=light,
        key=np.asarray(warm * (1.25 - sitting.ambient), np.float32),
        ambient=np.asarray((2 - warm) * sitting.ambient, np.float32),
        traits=np.array(traits, np.float32),
    )


def _background(sitting: Sitting, side: int) -> Float32[np.ndarray, "s s 3"]:
    """From one corner to the other."""
    one, other = map(_linear, sitting.background)
    along = np.add.outer(np.arange(side), np.arange(side))[..., None] / (2 * side - 2)
    return np.asarray(one + along * (other - one), np.float32)
