"""The synthetic human factory as a source of stores: real motions on the default body in front of real photographs."""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32

from aign.body.assets import DEFAULT_BODY, load_body
from aign.data import assets
from aign.data.datasets.job import (
    DETECTOR,
    PRODUCER,
    PROJECTED,
    Made,
    Recording,
    Stored,
    calibration,
    cut,
    detector_stage,
    picture_columns,
    stage,
    whole_picture,
)
from aign.data.datasets.motion import motion_clips
from aign.data.datasets.motion.motion_clips import EMBEDDED, MotionClip
from aign.data.pixels import encode_bits, encode_depth, encode_flow, encode_jpeg, encode_mask, encode_parts
from aign.data.stages.detector_errors import apply_errors, measured_errors
from aign.data.store import Provenance
from aign.data.store.writer import Clip
from aign.data.synthetic.backgrounds import GROUP, check_pulled
from aign.data.synthetic.factory import RenderedClip, render_clip
from aign.data.synthetic.scene import SOURCE, TARGET, WIDE, Background, ClipSize, Domain, Lighting, Scene, draw_scene
from aign.data.synthetic.wardrobe import Texture
from aign.framework.errors import UserError
from aign.geometry.camera import CalibratedCamera, Pinhole, Rigid
from aign.geometry.skeleton import H36M17, SMPL24, convert, convert_confidence

TABLES = (
    *("frames", "keypoints", "labels", "masks", "parts", "depth"),
    *("flow", "flow_back", "body", "visibility"),
)
JOB_FRAMES = 512
MOTIONS_A_JOB = 24
DOMAINS = {"wide": WIDE, "source": SOURCE, "target": TARGET}
SIDES_PX = (32, 1024)
Y_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""From the store's world (z up) to the motions' (y up)."""


@dataclass(frozen=True, kw_only=True)
class SyntheticOptions:
    """What to make.

    Args:
        frames: how many pictures in all.
        side_px: width and height of the pictures.
        clip_frames: most frames of a clip; a motion that is shorter makes a shorter clip.
        fps: frames per second.
        seed: of everything random.
        domain: what may come up: "wide" (all of it), or "source" and "target", which differ in every knob.
        keypoints: "gt" for exact projections, "detector" for projections with the measured errors of a detector.
        motions: the motions: "demo-motions", or a file or folder of BVH, AMASS, CMU or DeepMimic motions.
        lighting: in place of the domain's: "natural", "flat" or "dim".
        texture: in place of the domain's: clothes "plain", "patterned" or "mixed".
        background: in place of the domain's: "indoor", "outdoor" or "mixed".
        camera_height_m: in place of the domain's: least and most.
        body_range: in place of the domain's: least and most of each shape coefficient.
    """

    frames: int = 20_000
    side_px: int = 256
    clip_frames: int = 64
    fps: float = 30.0
    seed: int = 0
    domain: Literal["wide", "source", "target"] = "wide"
    keypoints: str = "gt"
    motions: str = EMBEDDED
    lighting: Lighting | None = None
    texture: Texture | None = None
    background: Background | None = None
    camera_height_m: tuple[float, float] | None = None
    body_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise UserError(f"{self.frames} synthetic frames were asked for; at least 1 is needed")
        if not SIDES_PX[0] <= self.side_px <= SIDES_PX[1]:
            raise UserError(f"synthetic pictures of {self.side_px} px; {SIDES_PX[0]} to {SIDES_PX[1]} px are allowed")
        if not 2 <= self.clip_frames <= 128:
            raise UserError(f"synthetic clips of {self.clip_frames} frames; 2 to 128 are allowed")
        if not 1 <= self.fps <= 1000:
            raise UserError(f"synthetic clips of {self.fps} frames per second; 1 to 1000 are allowed")
        if self.keypoints not in PROJECTED:
            raise UserError(f"synthetic keypoints {self.keypoints!r}; {' and '.join(PROJECTED)} are allowed")
        if self.seed < 0:
            raise UserError(f"seed {self.seed}; 0 or more is allowed")

    @property
    def scene_domain(self) -> Domain:
        """The domain with its replaced knobs."""
        knobs = ("lighting", "texture", "background", "camera_height_m", "body_range")
        own = {name: value for name, value in asdict(self).items() if name in knobs and value is not None}
        return replace(DOMAINS[self.domain], **own)


@dataclass(frozen=True, kw_only=True)
class SyntheticClips:
    """One job: some hundred frames of clips.

    Attributes:
        options: what to make.
        number: of the job; its clips depend on it and the seed, on nothing else.
        frames: how many pictures.
        motions: drawn for this job.
    """

    options: SyntheticOptions
    number: int
    frames: int
    motions: tuple[MotionClip, ...]

    @property
    def source(self) -> str:
        """Seed and number."""
        return f"synthetic:{self.options.domain}/seed-{self.options.seed}/{self.number:05d}"

    @property
    def table_groups(self) -> tuple[tuple[str, ...], ...]:
        """All tables hold the same clips."""
        return (TABLES,)

    def provenance(self, table: str) -> Provenance:
        """Hash of the motions, the panoramas and everything that decides a scene; the frames' own are their noise."""
        panoramas = sorted(a.sha256 for a in assets.ASSETS if a.group == GROUP)
        # Lists, as they come back from a file.
        knobs = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.options.scene_domain).items()}
        scene = stage(
            "draw-scenes",
            "1",
            **knobs,
            seed=self.options.seed,
            number=self.number,
            frames=self.frames,
            clip_frames=self.options.clip_frames,
            fps=self.options.fps,
            side_px=self.options.side_px,
        )
        own = {
            "frames": stage("shade", "1", jpeg="1"),
            "keypoints": stage("project", "1"),
            "labels": stage("pose", "1"),
            "body": stage("pose", "1"),
            "visibility": stage("visible-vertices", "1"),
        }.get(table, stage("rasterise", "1"))
        licences = sorted({m.licence for m in self.motions})
        detected = table == "keypoints" and self.options.keypoints == DETECTOR
        return Provenance(
            source_hashes=(
                _body_sha256(),
                *(m.sha256 for m in self.motions),
                *(panoramas if table == "frames" else ()),
            ),
            stages=(scene, own, *((detector_stage(),) if detected else ())),
            skeleton=SMPL24.name,
            num_joints=len(SMPL24),
            licence=f"CC0-1.0 (body, photographs); motions: {', '.join(licences)}",
            producer=PRODUCER,
        )

    def clips(self, wanted: Collection[str], stored: Stored) -> Made:
        """Render.

        Raises:
            UserError: a motion cannot be read, or the panoramas are not on this machine.
        """
        tables: dict[str, list[Clip]] = {table: [] for table in wanted}
        for scene, recording in self.scenes():
            rendered = render_clip(scene)
            for table in wanted:
                columns = _columns(table, scene, rendered)
                if table == "keypoints" and self.options.keypoints == DETECTOR:
                    columns[0].update(_detected(columns[0]["kp2d_px"], columns[0]["kp2d_conf"], scene))
                tables[table] += cut(recording, "synthetic", *columns)
        return Made(tables=tables)

    def scenes(self) -> Iterator[tuple[Scene, Recording]]:
        """The scenes of this job, in order."""
        options, body, left, clip = self.options, load_body(), self.frames, 0
        while left > 0:
            motion = self.motions[clip % len(self.motions)].motion()
            size = ClipSize(
                fps=options.fps, frames=min(options.clip_frames, left), size_px=(options.side_px, options.side_px)
            )
            seed = (options.seed, self.number, clip)
            scene = draw_scene(options.scene_domain, motion, body, seed, size)
            recording = Recording(
                sequence=f"{options.domain}-{options.seed}/{self.number:05d}-{clip:03d}",
                subject=f"{options.domain}-{options.seed}-{self.number:05d}-{clip:03d}",
                action=motion.name.strip("0123456789_"),
                source=self.source,
                fps=options.fps,
            )
            yield scene, recording
            left, clip = left - scene.frames, clip + 1


def plan(options: SyntheticOptions) -> list[SyntheticClips]:
    """Jobs that make exactly `options.frames` frames.

    Raises:
        UserError: no motions there, or the panoramas are not on this machine.
    """
    check_pulled()
    place = EMBEDDED if options.motions == EMBEDDED else options.motions
    motions = motion_clips.plan(Path(place))
    jobs = []
    for number, start in enumerate(range(0, options.frames, JOB_FRAMES)):
        rng = np.random.default_rng([options.seed, number])
        # Every motion once before one comes again.
        drawn = [motions[i] for i in rng.permutation(len(motions))[:MOTIONS_A_JOB]]
        frames = min(JOB_FRAMES, options.frames - start)
        jobs.append(SyntheticClips(options=options, number=number, frames=frames, motions=tuple(drawn)))
    return jobs


@cache
def looks_like(path: Path) -> bool:
    """Never: motions are read as motions unless somebody asks for people who move so."""
    return False


def found(path: Path) -> str:
    """One line: the motions that people are moved by."""
    return f"synthetic people, moved by {motion_clips.found(path)}"


def missing(path: Path) -> list[str]:
    """What the motions lack."""
    return motion_clips.missing(path)


def _body_sha256() -> str:
    return hashlib.sha256(DEFAULT_BODY.read_bytes()).hexdigest()


def _camera(scene: Scene) -> CalibratedCamera:
    """The scene's camera in the store's z-up world."""
    return CalibratedCamera(
        name="synthetic",
        pinhole=Pinhole.of(torch.tensor([scene.lens.fx, scene.lens.fy, scene.lens.cx, scene.lens.cy]).double()),
        world_to_cam=Rigid(
            rot=torch.from_numpy(scene.rot_world_to_cam @ Y_UP), trans_m=torch.from_numpy(scene.trans_world_to_cam_m)
        ),
        image_size_px=(scene.lens.width, scene.lens.height),
    )


_DETECTED_AS = {"neck": "thorax", "l_foot": "l_ankle", "r_foot": "r_ankle", "l_hand": "l_wrist", "r_hand": "r_wrist"}
"""SMPL's joints that a detector's statistics do not name: whose errors they get."""


def _detected(
    kp2d_px: Float32[np.ndarray, "t 24 2"], conf: Float32[np.ndarray, "t 24"], scene: Scene
) -> dict[str, np.ndarray]:
    """Projections as a detector would have found them; it does not find the spine, collars and head joints."""
    exact, _ = convert(torch.from_numpy(kp2d_px), SMPL24, H36M17)
    there = convert_confidence(torch.from_numpy(conf), SMPL24, H36M17)
    found, found_conf = apply_errors(
        exact.numpy(), there.numpy(), [*scene.seed, 4], measured_errors(), scene.motion.fps
    )  # fmt: skip
    kp2d, kp_conf = np.zeros_like(kp2d_px), np.zeros_like(conf)
    for joint, name in enumerate(SMPL24.joints):
        stands = _DETECTED_AS.get(name, name)
        if stands in H36M17.joints:
            like = H36M17.index(stands)[0]
            kp_conf[:, joint] = np.where(conf[:, joint] > 0, found_conf[:, like], 0)
            moved = kp2d_px[:, joint] + found[:, like] - exact.numpy()[:, like]
            kp2d[:, joint] = np.where(kp_conf[:, joint, None] > 0, moved, 0)
    return {"kp2d_px": kp2d, "kp2d_conf": kp_conf}


def _columns(table: str, scene: Scene, clip: RenderedClip) -> tuple[dict[str, Any], dict[str, Any]]:
    """Per frame and per clip columns of a table."""
    frames, size = scene.frames, (scene.lens.width, scene.lens.height)
    camera = _camera(scene)
    if table == "frames":
        times_s = (np.arange(frames) / scene.motion.fps).astype(np.float32)
        pictures = [encode_jpeg(picture) for picture in clip.rgb]
        return (
            {"image_jpeg": pictures, "time_s": times_s},
            picture_columns(size, whole_picture(size), size, scene.lens.intrinsics_px),
        )
    if table == "keypoints":
        inside = np.all((clip.joints_px >= 0) & (clip.joints_px < np.array(size)), axis=-1)
        kp2d = np.where(inside[..., None], clip.joints_px, np.float32(0))
        return {"kp2d_px": kp2d, "kp2d_conf": inside.astype(np.float32)}, calibration(camera)
    if table == "labels":
        valid = np.ones(clip.joints_px.shape[:2], bool)
        pose = camera.world_to_cam
        return (
            {"joints_cam_m": clip.joints_cam_m, "joints_valid": valid},
            {
                "rot_world_to_cam": pose.rot.float().numpy().reshape(9),
                "trans_world_to_cam_m": pose.trans_m.float().numpy(),
            },
        )
    if table == "body":
        betas = np.tile(clip.betas, (frames, 1))
        columns = {"body_pose_rad": clip.pose_rad, "betas": betas, "body_trans_cam_m": clip.trans_m}
        return columns, {"body_model": "aign-default"}
    return {_COLUMN[table]: _encoded(table, clip)}, {}


_COLUMN = {
    "masks": "mask_png",
    "parts": "parts_png",
    "depth": "depth_zst",
    "flow": "flow_zst",
    "flow_back": "flow_back_zst",
    "visibility": "visible_bits",
}


def _encoded(table: str, clip: RenderedClip) -> list[bytes]:
    if table in ("flow", "flow_back"):
        flow = clip.flow_px if table == "flow" else clip.flow_back_px
        known = np.ones(clip.mask.shape, bool)
        known[-1 if table == "flow" else 0] = False
        return [encode_flow(f, k) for f, k in zip(flow, known, strict=True)]
    encoders = {
        "masks": lambda: [encode_mask(m) for m in clip.mask],
        "parts": lambda: [encode_parts(p) for p in clip.parts],
        "depth": lambda: [encode_depth(d) for d in clip.depth_m],
        "visibility": lambda: [encode_bits(v) for v in clip.visible],
    }
    return encoders[table]()
