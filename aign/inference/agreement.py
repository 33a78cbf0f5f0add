"""A calibrated recording's own reference: its detections in all cameras, triangulated."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32

from aign.evaluation.protocol import resolve
from aign.evaluation.report import Provenance, Report, evaluate
from aign.evaluation.rows import Rows
from aign.geometry.camera import CalibratedCamera, Pinhole, Rigid
from aign.geometry.skeleton import H36M17, convert, convert_confidence
from aign.geometry.triangulation import triangulate
from aign.inference.video import VideoView

PROTOCOL = "open-video/pseudo-truth/j17/root0"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Pseudo-truth: H36M-17 joints triangulated from every view of the same detector.

    Attributes:
        joints_world_m: joints; 0 where not valid.
        valid: which could be triangulated.
        reprojection_px: median distance of detections from the triangulated points, over all views.
    """

    joints_world_m: Float32[np.ndarray, "t 17 3"]
    valid: Bool[np.ndarray, "t 17"]
    reprojection_px: float

    def seen_by(self, camera: CalibratedCamera) -> Float32[np.ndarray, "t 17 3"]:
        """The joints in a camera, NaN where not valid."""
        rigid = camera.world_to_cam
        moved = torch.from_numpy(self.joints_world_m) @ rigid.rot.float().mT + rigid.trans_m.float()
        joints = moved.numpy()
        joints[~self.valid] = np.nan
        return joints


def reference(views: Sequence[VideoView], cameras: Sequence[CalibratedCamera]) -> Reference:
    """Triangulate synchronised views; a view that is longer than the shortest is cut."""
    frames = min(len(view.kp2d_px) for view in views)
    kp2d = torch.stack([torch.from_numpy(view.kp2d_px[:frames]) for view in views])
    conf = torch.stack([torch.from_numpy(view.conf[:frames]) for view in views])
    lenses = [view.pinhole for view in views]
    pinhole = Pinhole(
        focal_px=torch.stack([lens.focal_px.float() for lens in lenses]),
        centre_px=torch.stack([lens.centre_px.float() for lens in lenses]),
        distortion=torch.stack([lens.distortion.float() for lens in lenses]),
    )
    rigid = Rigid(
        rot=torch.stack([camera.world_to_cam.rot.float() for camera in cameras]),
        trans_m=torch.stack([camera.world_to_cam.trans_m.float() for camera in cameras]),
    )
    points, error_px, valid = triangulate(kp2d, conf, pinhole, rigid)
    joints, _ = convert(points, views[0].skeleton, H36M17)
    known = convert_confidence(valid.to(points.dtype), views[0].skeleton, H36M17) > 0
    return Reference(
        joints_world_m=(joints * known.unsqueeze(-1)).numpy(),
        valid=known.numpy(),
        reprojection_px=float(error_px.nanmedian()),
    )


def agree(
    views: Sequence[VideoView],
    cameras: Sequence[CalibratedCamera],
    lifted: Sequence[Float32[np.ndarray, "t 17 3"]],
    truth: Reference,
    provenance: Provenance,
) -> Report:
    """Measure lifted views against the reference; the cameras are the report's columns."""
    frames = len(truth.valid)
    known = np.concatenate([truth.valid & np.isfinite(joints[:frames]).all((1, 2))[:, None] for joints in lifted])
    pred = np.nan_to_num(np.concatenate([joints[:frames] for joints in lifted]))
    target = np.nan_to_num(np.concatenate([truth.seen_by(camera) for camera in cameras]))
    names = np.repeat(np.array([view.camera for view in views]), frames)
    rows = Rows(
        sequence=np.full(len(names), views[0].sequence),
        subject=np.full(len(names), views[0].sequence),
        action=names,
        camera=names,
        frame=np.tile(np.arange(frames), len(views)),
    )
    return evaluate(
        torch.from_numpy(pred), torch.from_numpy(target), torch.from_numpy(known), rows, resolve(PROTOCOL), provenance
    )
