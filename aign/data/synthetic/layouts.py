"""Synthetic clips as files in SURREAL's and Human3.6M's own layouts (protocols 3.5 f and a).

The loaders of those data sets are thereby tested on pictures that show what their labels say.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import cdflib.cdfwrite
import numpy as np
import scipy.io
import torch
from jaxtyping import Float, Float32

from aign.body.assets import load_body
from aign.body.motion import Motion
from aign.data.actions import ACTIONS_15
from aign.data.datasets.bodies.surreal_camera import (
    CENTRE_PX,
    FOCAL_PX,
    MIRRORED_ROT,
    PROPER_ROT,
    RIGHT_ANGLE_X,
    SIZE_PX,
    in_file,
)
from aign.data.datasets.bodies.surreal_flow import USUAL
from aign.data.datasets.bodies.surreal_info import OURS
from aign.data.datasets.rig import H36M_INTRINSICS, placed_rig
from aign.data.stages.decode import write_mp4
from aign.data.synthetic.factory import RenderedClip, render_clip
from aign.data.synthetic.scene import ClipSize, Domain, Scene, draw_scene
from aign.framework.errors import UserError
from aign.geometry.camera import CalibratedCamera
from aign.geometry.rotation import to_axis_angle
from aign.geometry.skeleton import H36M17, H36M32
from aign.render.raster import Lens

SURREAL_FRAMES = 100
"""Most frames of a clip there."""
SURREAL_NOTHING_M = 1e10
H36M_FPS = 50.0
H36M_PIECE = 16
"""Frames rendered at a time: a megapixel's labels are 26 MB a frame."""
SUBJECTS = tuple(f"S{number}" for number in range(1, 12))
UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""From the motions' world (y up) to one with z up."""


@dataclass(frozen=True, kw_only=True)
class SurrealScene:
    """A scene as SURREAL's renderer can have it: a level camera that looks along -x.

    Attributes:
        scene: with pictures of 320 x 240.
        turn_rad: zrot, the person's turn about the vertical.
        camera_m: camLoc, in the renderer's world (up is -y).
    """

    scene: Scene
    turn_rad: float
    camera_m: Float[np.ndarray, "3"]


def surreal_scene(domain: Domain, motion: Motion, seed: tuple[int, ...], frames: int) -> SurrealScene:
    """Draw a scene and give it a camera as SURREAL's.

    Raises:
        UserError: not 1 to 100 frames.
    """
    if not 1 <= frames <= SURREAL_FRAMES:
        raise UserError(f"a SURREAL clip of {frames} frames was asked for; 1 to {SURREAL_FRAMES} are allowed")
    lens = Lens(
        fx=FOCAL_PX, fy=FOCAL_PX, cx=CENTRE_PX[0], cy=CENTRE_PX[1], width=SIZE_PX[0], height=SIZE_PX[1]
    )  # fmt: skip
    size = ClipSize(fps=30.0, frames=frames, size_px=SIZE_PX)
    scene = draw_scene(domain, motion, load_body(), seed, size, lens)
    rng = np.random.default_rng([*seed, 3])
    turn = float(rng.uniform(0, 2 * np.pi))
    to_renderer = RIGHT_ANGLE_X @ _about_z(turn) @ UP
    path = scene.motion.trans_m.astype(np.float64) @ to_renderer.T
    middle = 0.5 * (path.min(0) + path.max(0))
    reach = float(np.ptp(path, axis=0).max()) / 2
    camera = middle + np.array([rng.uniform(6, 9) + 3.2 * reach, rng.uniform(-0.3, 0.1), 0.0])
    placed = replace(
        scene, rot_world_to_cam=PROPER_ROT @ to_renderer, trans_world_to_cam_m=-PROPER_ROT @ camera
    )  # fmt: skip
    return SurrealScene(scene=placed, turn_rad=turn, camera_m=camera)


def write_surreal(folder: Path, name: str, shot: SurrealScene) -> RenderedClip:
    """Write NAME.mp4, NAME_info.mat, NAME_segm.mat, NAME_depth.mat and NAME_gtflow.mat.

    Convention: SURREAL's camera matrix has determinant -1, so its pictures are mirror images; joints, poses and parts
    keep their sides. gtflow has `surreal_flow.USUAL`'s meaning. `_info.mat`'s source is "aign", its body ours.

    Args:
        folder: .../train/run0/SEQ; made where missing.
        name: SEQ_cNNNN.
        shot: what to render.

    Returns:
        The clip as it is before mirroring.
    """
    clip = render_clip(shot.scene)
    folder.mkdir(parents=True, exist_ok=True)
    write_mp4(folder / f"{name}.mp4", np.ascontiguousarray(clip.rgb[:, :, ::-1]), 30)
    depth = np.where(clip.mask, clip.depth_m, np.float32(SURREAL_NOTHING_M))
    # The motion since the frame before, in the mirrored picture, with the file's signs.
    since = clip.flow_back_px * np.array([USUAL.sign_x, -USUAL.sign_y], np.float32)
    pictures = {"segm": clip.parts, "depth": depth, "gtflow": since}
    scipy.io.savemat(folder / f"{name}_info.mat", _surreal_info(name, shot, clip))
    for ending, values in pictures.items():
        content = {f"{ending}_{t + 1}": np.ascontiguousarray(v[:, ::-1]) for t, v in enumerate(values)}
        scipy.io.savemat(folder / f"{name}_{ending}.mat", content, do_compression=True)
    return clip


def _surreal_info(name: str, shot: SurrealScene, clip: RenderedClip) -> dict[str, np.ndarray]:
    scene, frames = shot.scene, shot.scene.frames
    rotmats = scene.motion.rotmats.astype(np.float64).copy()
    rotmats[:, 0] = UP @ rotmats[:, 0]
    pose = to_axis_angle(torch.from_numpy(rotmats)).numpy().reshape(frames, 72)
    joints = clip.joints_cam_m.astype(np.float64) @ PROPER_ROT + shot.camera_m
    seen = (joints - shot.camera_m) @ MIRRORED_ROT.T
    pixels = in_file(clip.joints_px.astype(np.float64))
    assert np.abs(seen[..., 0] / seen[..., 2] * FOCAL_PX + SIZE_PX[0] / 2 - pixels[..., 0]).max() < 0.01
    info = {
        "sequence": np.array([name.rpartition("_c")[0]]),
        "clipNo": np.array([[float(name.rpartition("_c")[2])]]),
        "source": np.array([OURS]),
        "bg": np.array([[f"{scene.panorama}.exr"] * frames], dtype=object),
        "cloth": np.array([["painted"] * frames], dtype=object),
        "gender": np.zeros((frames, 1), np.uint8),
        "light": np.zeros((9, frames), np.float32),
        "stride": np.array([[50]], np.uint8),
        "camDist": np.array([[np.linalg.norm(shot.camera_m)]], np.float32),
        "camLoc": shot.camera_m.astype(np.float32)[:, None],
        "joints2D": np.rint(pixels).transpose(2, 1, 0).astype(np.float32),
        "joints3D": joints.transpose(2, 1, 0).astype(np.float32),
        "pose": pose.T.astype(np.float32),
        "shape": np.tile(scene.betas, (frames, 1)).T.astype(np.float32),
        "zrot": np.full((frames, 1), shot.turn_rad, np.float32),
    }
    if frames == 1:  # MATLAB drops a last axis of length 1
        info |= {key: info[key][..., 0] for key in ("joints2D", "joints3D")}
    return info


def _about_z(angle_rad: float) -> Float[np.ndarray, "3 3"]:
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])


def write_h36m(
    root: Path, takes: Mapping[str, Motion], domain: Domain, seed: int, frames: int
) -> dict[str, tuple[Float32[np.ndarray, "t 32 3"], tuple[RenderedClip, ...]]]:
    """Write metadata.xml and, for subject S1, each take in four cameras: D2, D3 and D3_mono positions and videos.

    The cameras have Human3.6M's focal lengths and centres, no distortion, and places of their own.

    Args:
        root: of the data set.
        takes: motions by file stem ("Walking 1").
        domain: of clothes, shape, light and background.
        seed: of everything random.
        frames: most frames of a take.

    Returns:
        By stem: the 32 joints in the world, metres, and the first rendered piece of each camera.
    """
    rig = placed_rig((seed,), (0.0, 0.0), 1.2)
    root.mkdir(parents=True, exist_ok=True)
    (root / "metadata.xml").write_text(_metadata(rig))
    written = {}
    for number, (stem, motion) in enumerate(takes.items()):
        size = ClipSize(fps=H36M_FPS, frames=frames, size_px=rig[0].image_size_px)
        base = draw_scene(domain, motion, load_body(), (seed, number), size)
        path = base.motion.trans_m
        middle = 0.5 * (path.min(0) + path.max(0)) * np.array([1, 0, 1], np.float32)
        centred = replace(base, motion=replace(base.motion, trans_m=path - middle), turn_rad=0.0)
        written[stem] = _write_take(root / "S1", stem, centred, rig)
    return written


def _write_take(
    folder: Path, stem: str, scene: Scene, rig: tuple[CalibratedCamera, ...]
) -> tuple[Float32[np.ndarray, "t 32 3"], tuple[RenderedClip, ...]]:
    firsts, world = [], np.zeros((scene.frames, 32, 3), np.float32)
    for camera in rig:
        shot, pose = _seen_by(scene, camera), camera.world_to_cam
        pieces = [
            render_clip(_part(shot, start, min(start + H36M_PIECE, scene.frames)))
            for start in range(0, scene.frames, H36M_PIECE)
        ]
        firsts.append(pieces[0])
        joints_cam = np.concatenate([_joints_32(piece) for piece in pieces])
        world = ((joints_cam - pose.trans_m.numpy()) @ pose.rot.numpy()).astype(np.float32)
        lens = shot.lens
        px = joints_cam[..., :2] / joints_cam[..., 2:] * [lens.fx, lens.fy] + [lens.cx, lens.cy]
        poses = folder / "MyPoseFeatures"
        _write_cdf(poses / "D2_Positions" / f"{stem}.{camera.name}.cdf", px.reshape(-1, 64))
        _write_cdf(poses / "D3_Positions_mono" / f"{stem}.{camera.name}.cdf", 1000 * joints_cam.reshape(-1, 96))
        videos = folder / "Videos"
        videos.mkdir(parents=True, exist_ok=True)
        pictures = (picture for piece in pieces for picture in piece.rgb)
        write_mp4(videos / f"{stem}.{camera.name}.mp4", pictures, H36M_FPS)
    _write_cdf(folder / "MyPoseFeatures" / "D3_Positions" / f"{stem}.cdf", 1000 * world.reshape(-1, 96))
    return world, tuple(firsts)


def _seen_by(scene: Scene, camera: CalibratedCamera) -> Scene:
    (fx, fy), (cx, cy) = camera.pinhole.focal_px.tolist(), camera.pinhole.centre_px.tolist()
    width, height = camera.image_size_px
    return replace(
        scene,
        lens=Lens(fx=fx, fy=fy, cx=cx, cy=cy, width=width, height=height),
        rot_world_to_cam=camera.world_to_cam.rot.numpy() @ UP,
        trans_world_to_cam_m=camera.world_to_cam.trans_m.numpy(),
    )


def _part(scene: Scene, start: int, stop: int) -> Scene:
    motion = scene.motion
    part = replace(motion, rotmats=motion.rotmats[start:stop], trans_m=motion.trans_m[start:stop])
    return replace(scene, motion=part)


def _joints_32(clip: RenderedClip) -> Float[np.ndarray, "t 32 3"]:
    """Human3.6M's 32 joints, from the body's 17 and SMPL's; ends of hands and feet are vertices of the surface."""
    body = load_body()
    assert body.h36m17_regressor is not None, "the default body has one"
    vertices = clip.vertices_cam_m.astype(np.float64)
    joints17 = np.einsum("jv,tvc->tjc", body.h36m17_regressor.double().numpy(), vertices)
    rest = body.v_template_m.numpy()
    joints = np.zeros((len(vertices), 32, 3))
    for index, name in enumerate(H36M32.joints):
        plain = name.removesuffix("_copy")
        plain = "thorax" if plain in ("l_thorax", "r_thorax") else plain
        if plain in H36M17.joints:
            joints[:, index] = joints17[:, H36M17.joints.index(plain)]
            continue
        side = (rest[:, 0] > 0) if plain[0] == "l" else (rest[:, 0] < 0)
        hand, foot = side & (np.abs(rest[:, 0]) > 0.7), side & (rest[:, 1] < -0.85)
        score = {
            "wrist_end": np.where(hand, np.abs(rest[:, 0]), -9),
            "thumb_end": np.where(hand, -rest[:, 1], -9),
            "toe_end": np.where(foot, rest[:, 2], -9),
            "toe_base": np.where(foot, -np.abs(rest[:, 2] - 0.09), -9),
        }[plain[2:]]
        joints[:, index] = vertices[:, int(score.argmax())]
    return joints


def _write_cdf(path: Path, pose: Float[np.ndarray, "t n"]) -> None:
    """One record of the zVariable Pose, 32-bit floats."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    file = cdflib.cdfwrite.CDF(str(path))
    spec = {
        **{"Variable": "Pose", "Data_Type": 44, "Num_Elements": 1, "Rec_Vary": True, "Var_Type": "zVariable"},
        **{"Dim_Sizes": list(pose.shape), "Dim_Vary": [True, True], "Compress": 0},
    }
    file.write_var(spec, var_data=pose[None].astype(np.float32))
    file.close()


def _metadata(rig: tuple[CalibratedCamera, ...]) -> str:
    """metadata.xml: file stems by action, the cameras' names, and w0 with S1's cameras for everybody."""
    w0 = np.zeros(300)
    for number, (camera, lens) in enumerate(zip(rig, H36M_INTRINSICS, strict=True)):
        rot, trans = camera.world_to_cam.rot.numpy(), camera.world_to_cam.trans_m.numpy()
        # R = Rx(a) Ry(b) Rz(c)
        angles = np.arctan2(-rot[1, 2], rot[2, 2]), np.arcsin(rot[0, 2]), np.arctan2(-rot[0, 1], rot[0, 0])
        for subject in range(len(SUBJECTS)):
            w0[6 * (number * len(SUBJECTS) + subject) :][:6] = [*angles, *(-rot.T @ trans * 1000)]
        w0[6 * len(SUBJECTS) * len(rig) + 9 * number :][:4] = lens.intrinsics_px
    rows = [["action", "subaction", *SUBJECTS]]
    for number, action in enumerate(("_ALL", *ACTIONS_15), 1):
        rows += [[str(number), str(trial), *[_stem(action, trial)] * len(SUBJECTS)] for trial in (1, 2)]
    rows.append(["", "", *[""] * len(SUBJECTS)])
    mapping = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    names = "".join(f"<td>{name}</td>" for name in ("_ALL", *ACTIONS_15))
    ids = "".join(f"<item>{camera.name}</item>" for camera in rig)
    return (
        f"<metadata><mapping>{mapping}</mapping><actionnames>{names}</actionnames>"
        f"<dbcameras><index2id>{ids}</index2id></dbcameras><w0>[{' '.join(map(repr, w0.tolist()))}]</w0></metadata>"
    )


def _stem(action: str, trial: int) -> str:
    return action if action == "_ALL" and trial == 1 else f"{action} {trial}"
