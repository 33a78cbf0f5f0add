"""A lifter, or any way to get 3D from 2D, measured on the labelled clips of a store."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from aign.data.datasets.h36m.h36m_takes import trial_of
from aign.data.schema import ClipKey
from aign.data.store import Selection, Store
from aign.data.store.reader import Clips
from aign.evaluation.protocol import resolve
from aign.evaluation.report import Provenance, Report, evaluate
from aign.evaluation.rows import Rows
from aign.geometry.camera import Pinhole, project
from aign.geometry.skeleton import skeleton
from aign.tasks.lifting import lift
from aign.tasks.lifting.feed import KEYPOINT_COLUMNS, LABEL_COLUMNS, labels_h36m17, to_h36m17
from aign.tasks.lifting.frames import Frames
from aign.tasks.lifting.nets import Lifting

METRIC_NAMES = {
    "root": "mpjpe_mm",
    "similarity": "pa_mpjpe_mm",
    "scale": "n_mpjpe_mm",
    "rigid": "rigid_mpjpe_mm",
    "limb329": "limb329_mpjpe_mm",
}


@dataclass(frozen=True, kw_only=True)
class View:
    """Frames as a method sees them, and for the judge alone the labels; H36M-17 joints."""

    frames: Frames
    joints_cam_m: Float[Tensor, "n 17 3"]
    valid: Bool[Tensor, "n 17"]
    rows: Rows


Method = Callable[[Frames], Tensor]
"""Any way to get joints in the camera, metres, [n, 17, 3], of n frames."""


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
    camera = Pinhole.of(arrays["intrinsics_px"][clip], arrays["distortion"][clip])
    runs = torch.from_numpy(_runs(clips.keys)[clip])
    frames = Frames(kp2d_px=kp2d_px, conf=conf, camera=camera, clip=runs)
    return View(frames=frames, joints_cam_m=joints, valid=valid, rows=_rows(clips))


def _rows(clips: Clips) -> Rows:
    """Where each frame comes from."""
    keys, clip = clips.keys, clips.clip_index
    names = {f: np.array([getattr(k, f) for k in keys])[clip] for f in ("sequence", "subject", "action", "camera")}
    return Rows(
        **names,
        frame=np.concatenate([np.arange(k.frame_start, k.frame_start + k.num_frames) for k in keys]),
        fps=np.array([k.fps for k in keys], dtype=np.float64)[clip],
        trial=np.array([trial_of(k.sequence) for k in keys])[clip],
    )


def _runs(keys: Sequence[ClipKey]) -> Int64[np.ndarray, " c"]:
    """Number of the run of each clip: a clip that goes on where the one before it ended is of the same run."""
    ends = [(k.sequence, k.camera, k.frame_start + k.num_frames) for k in keys]
    starts = [(k.sequence, k.camera, k.frame_start) for k in keys]
    new = [i == 0 or starts[i] != ends[i - 1] for i in range(len(keys))]
    return np.cumsum(np.array(new, dtype=np.int64))


def lifter_method(lifter: nn.Module, device: torch.device) -> Method:
    """A network as a method; its answers come back to the CPU."""
    assert isinstance(lifter, Lifting), "a lifter says how many frames it sees"

    def method(frames: Frames) -> Tensor:
        was_training = lifter.training
        lifter.eval()
        joints = lift(lifter, frames.to(device)).cpu()
        lifter.train(was_training)
        return joints

    return method


def measure(method: Method, view: View, protocol: str, provenance: Provenance) -> Report:
    """Run a method on frames and judge it.

    Raises:
        UserError: unknown protocol, or it counts none of the frames.
    """
    joints = method(view.frames)
    return evaluate(joints, view.joints_cam_m, view.valid, view.rows, resolve(protocol), provenance)


def reprojection_px(joints_cam_m: Float[Tensor, "n 17 3"], frames: Frames) -> float:
    """Mean distance of the projected joints from the keypoints that are seen, in pixels.

    It is of the picture and not of the pose: a body that is flat in the picture has none. Nothing may be chosen by it.
    """
    seen = frames.conf > 0
    return float((project(joints_cam_m, frames.camera) - frames.kp2d_px).norm(dim=-1)[seen].mean())


def metrics(report: Report) -> dict[str, float]:
    """A report's means as named numbers: frame or action mean as its protocol says, and the flip rate."""
    means = {
        METRIC_NAMES[name]: s.mean_actions if report.aggregation == "actions" else s.mean_frames
        for name, s in report.scores.items()
    }
    return {**{name: mean for name, mean in means.items() if mean is not None}, "flip_rate": report.flip_rate}
