"""A real person before four calibrated cameras, each view with the triangulation of the other three as its truth.

The recording is Pose2Sim's, as a store with pictures, masks and flow; the triangulation is that of detections.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from detections import in_space, moved, picture_shift
from torch import Tensor

from aign.body.assets import load_body
from aign.data.datasets.video import video_files
from aign.data.datasets.video.pose2sim import fit_to_frames, stacked
from aign.data.sources import SourceOptions, plan
from aign.data.stages.video_index import index_video
from aign.data.store import Selection, Store
from aign.evaluation.bodies import joints_cam_m
from aign.evaluation.body_view import BodyView, load_body_view
from aign.evaluation.mocap import BodyEstimate, Joints, MocapReport, measure_joints
from aign.evaluation.protocol import resolve
from aign.evaluation.report import Provenance
from aign.geometry.camera import CalibratedCamera
from aign.geometry.skeleton import H36M17, SMPL24
from aign.geometry.triangulation import triangulate
from aign.tasks.motion_capture.clips import CapturedClip
from aign.tasks.motion_capture.feed import EVIDENCE_COLUMNS
from infra.storage import absolute
from pipelines.adapt import STAGES
from pipelines.preprocess import preprocess

PROTOCOLS = ("open-video/pseudo-truth/j14/mid-hip", "open-video/pseudo-truth/j17/root0")
SURE_MM, KNOWN = 20.0, 0.9
"""A triangulation is trusted if its keypoints are nearer to it and so large a share of the joints is known."""
SIDE_PX = 128


@dataclass(frozen=True, kw_only=True)
class Trust:
    """Of the triangulation that judges a camera.

    Attributes:
        px: median distance of the three cameras' keypoints from the triangulated points.
        mm: the same at the person's depth.
        known: share of the counted joints that are triangulated.
        shift_mm: mean way of the joints when the fourth camera is added.
    """

    px: float
    mm: float
    known: float
    shift_mm: float

    @property
    def enough(self) -> bool:
        """Whether it is trusted."""
        return self.mm <= SURE_MM and self.known >= KNOWN


@dataclass(frozen=True, kw_only=True)
class Film:
    """The real recording."""

    view: BodyView
    truth: Joints
    trust: Mapping[str, Trust]

    def judge(self, bodies: BodyEstimate) -> Mapping[str, MocapReport]:
        """Estimated bodies by protocol."""
        joints = joints_cam_m(load_body(), bodies.plain())
        told = Joints(joints_cam_m=joints, valid=torch.ones(joints.shape[:2], dtype=torch.bool), joint_set=SMPL24.name)
        who = Provenance(method="", data="Pose2Sim", store_hash="")
        return {name: measure_joints(told, self.truth, self.view.rows, resolve(name), who) for name in PROTOCOLS}


def filmed(store: Store) -> Film:
    """The four views, each with the triangulation of the other three."""
    # Others, who stand in the background, have sequences of their own.
    main = tuple(name for name in store.sequences(("keypoints",)) if "/" not in name)
    view = load_body_view(store, Selection(sequences=main), more=EVIDENCE_COLUMNS)
    cameras = [_camera(clip.key.camera) for clip in view.clips]
    kp2d, conf = (torch.stack([c.columns[name][:, 0] for c in view.clips]) for name in ("kp2d_px", "kp2d_conf"))
    kp2d = kp2d - picture_shift(kp2d, conf, cameras)
    every, truths, trust = range(len(cameras)), [], {}
    from_all, _ = in_space(kp2d, conf, cameras, every)
    for index, (clip, camera) in enumerate(zip(view.clips, cameras, strict=True)):
        others = [i for i in every if i != index]
        joints, known = in_space(kp2d, conf, cameras, others)
        truths.append((moved(joints, camera), known))
        px, mm = _residual(kp2d[others], conf[others], [cameras[i] for i in others])
        counted = known[:, [j for j in resolve(PROTOCOLS[0]).joints if known[:, j].any()]]
        way = (from_all - joints).norm(dim=-1)[known]
        trust[clip_name(clip)] = Trust(
            px=px, mm=mm, known=float(counted.float().mean()), shift_mm=1000 * float(way.mean())
        )
    truth = Joints(
        joints_cam_m=torch.cat([joints for joints, _ in truths]),
        valid=torch.cat([known for _, known in truths]),
        joint_set=H36M17.name,
    )
    return Film(view=view, truth=truth, trust=trust)


def _camera(name: str) -> CalibratedCamera:
    job = next(job for job in video_files.plan(Path(video_files.EMBEDDED)) if job.camera == name)
    index = index_video(job.path)
    assert job.calibrated is not None, "the embedded cameras are calibrated"
    return fit_to_frames(job.calibrated, index.width_px, index.height_px)


def _residual(kp2d_px: Tensor, conf: Tensor, cameras: Sequence[CalibratedCamera]) -> tuple[float, float]:
    """Median distance of keypoints from their triangulation, in the picture and at the person's depth in mm."""
    points, distance, _ = triangulate(kp2d_px, conf, *stacked(tuple(cameras)))
    depth = torch.stack([moved(points, camera)[..., 2] for camera in cameras])
    focal = torch.stack([camera.pinhole.focal_px.mean() for camera in cameras])[:, None, None]
    return float(distance.nanmedian()), 1000 * float((distance * depth / focal).nanmedian())


def clip_name(clip: CapturedClip) -> str:
    """As a report names it."""
    return f"{clip.key.sequence}@{clip.key.camera}"


def video_store(url: str) -> Store:
    """The four cameras as square clips of the person; made where they are not."""
    if not (Path(url) / "manifest.json").exists():
        options = SourceOptions(framing="person", stages=(*STAGES, "quality"), side_px=SIDE_PX)
        preprocess(plan(video_files.EMBEDDED, "video", options), absolute(url), None)
    return Store.open(absolute(url))


def trust_table(trust: Mapping[str, Trust]) -> str:
    """A row a camera."""
    heads = ("median residual, px", "mm", "joints triangulated", "moved by the fourth camera, mm", "trusted")
    rows = [f"  | | {' | '.join(heads)} |", "  |:--|" + "--:|" * len(heads)]
    for clip, one in trust.items():
        cells = f"{one.px:.1f} | {one.mm:.1f} | {one.known:.0%} | {one.shift_mm:.1f} | {'yes' if one.enough else 'no'}"
        rows.append(f"  | {clip} | {cells} |")
    return "\n".join([*rows, ""])
