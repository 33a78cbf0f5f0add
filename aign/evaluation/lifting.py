"""A lifter, or any way to get 3D from 2D, measured on the labelled clips of a store."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from aign.data.store import Selection, Store
from aign.evaluation.protocol import resolve
from aign.evaluation.report import Provenance, Report, Rows, evaluate
from aign.geometry.camera import Pinhole
from aign.geometry.skeleton import skeleton
from aign.tasks.lifting import lift
from aign.tasks.lifting.feed import KEYPOINT_COLUMNS, LABEL_COLUMNS, labels_h36m17, to_h36m17

METRIC_NAMES = {
    "root": "mpjpe_mm",
    "similarity": "pa_mpjpe_mm",
    "scale": "n_mpjpe_mm",
    "rigid": "rigid_mpjpe_mm",
    "limb329": "limb329_mpjpe_mm",
}


@dataclass(frozen=True, kw_only=True)
class View:
    """Labelled frames as a method sees them, H36M-17 joints: keypoints, and for the judge alone the labels."""

    kp2d_px: Float[Tensor, "n 17 2"]
    conf: Float[Tensor, "n 17"]
    camera: Pinhole
    joints_cam_m: Float[Tensor, "n 17 3"]
    valid: Bool[Tensor, "n 17"]
    rows: Rows


Method = Callable[[Float[Tensor, "n 17 2"], Float[Tensor, "n 17"], Pinhole], Tensor]
"""Keypoints in pixels, confidences and cameras of n frames to joints in the camera, metres."""


def load_view(store: Store, selection: Selection | None, *, labels: bool = True) -> View:
    """All selected frames of a store.

    Args:
        store: with keypoints, and labels unless told otherwise.
        selection: which clips.
        labels: without them joints are 0 and not valid.
    """
    columns = {"keypoints": KEYPOINT_COLUMNS, **({"labels": LABEL_COLUMNS} if labels else {})}
    clips = store.read(columns, selection)
    source, clip = skeleton(store.manifest.skeleton), clips.clip_index
    arrays = {name: torch.from_numpy(clips.arrays[name]) for names in columns.values() for name in names}
    kp2d_px, conf = to_h36m17(arrays["kp2d_px"], arrays["kp2d_conf"], source)
    joints, valid = kp2d_px.new_zeros(len(kp2d_px), 17, 3), torch.zeros(conf.shape, dtype=torch.bool)
    if labels:
        joints, valid = labels_h36m17(arrays["joints_cam_m"], arrays["joints_valid"] > 0, source)
    first = np.concatenate([np.arange(k.frame_start, k.frame_start + k.num_frames) for k in clips.keys])
    names = {
        f: np.array([getattr(k, f) for k in clips.keys])[clip] for f in ("sequence", "subject", "action", "camera")
    }
    camera = Pinhole.of(arrays["intrinsics_px"][clip], arrays["distortion"][clip])
    return View(
        kp2d_px=kp2d_px, conf=conf, camera=camera, joints_cam_m=joints, valid=valid, rows=Rows(**names, frame=first)
    )


def lifter_method(lifter: nn.Module, device: torch.device) -> Method:
    """A network as a method; its answers come back to the CPU."""

    def method(kp2d_px: Tensor, conf: Tensor, camera: Pinhole) -> Tensor:
        there = Pinhole(
            focal_px=camera.focal_px.to(device),
            centre_px=camera.centre_px.to(device),
            distortion=camera.distortion.to(device),
        )
        was_training = lifter.training
        lifter.eval()
        joints = lift(lifter, kp2d_px.to(device), conf.to(device), there).cpu()
        lifter.train(was_training)
        return joints

    return method


def measure(method: Method, view: View, protocol: str, provenance: Provenance) -> Report:
    """Run a method on frames and judge it.

    Raises:
        UserError: unknown protocol, or it counts none of the frames.
    """
    joints = method(view.kp2d_px, view.conf, view.camera)
    return evaluate(joints, view.joints_cam_m, view.valid, view.rows, resolve(protocol), provenance)


def metrics(report: Report) -> dict[str, float]:
    """A report's means as named numbers: frame or action mean as its protocol says, and the flip rate."""
    means = {
        METRIC_NAMES[name]: s.mean_actions if report.aggregation == "actions" else s.mean_frames
        for name, s in report.scores.items()
    }
    return {**{name: mean for name, mean in means.items() if mean is not None}, "flip_rate": report.flip_rate}
