"""Real detections with a truth beside them: BlazePose on a real 4-camera recording, and on rendered people.

Filmed: the Pose2Sim clips (one person, 4 cameras, 100 frames each at 60 per second). The truth of each view is the
triangulation of the other three, so no view is compared with itself; first, a constant shift of each picture is
estimated and taken off, because the calibration leaves 10 px of it. This truth has the detector's own skeleton.
Rendered: the synthetic factory's people, with the joints of the body's H36M-17 regressor as exact truth.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from aign.body.assets import load_body
from aign.data.datasets.synthetic import SyntheticOptions, plan
from aign.data.datasets.video import video_files
from aign.data.datasets.video.pose2sim import fit_to_frames, stacked
from aign.data.publish import published
from aign.data.stages.blazepose import get_detector
from aign.data.stages.decode import read_frames
from aign.data.stages.video_index import index_video
from aign.data.synthetic.factory import render_clip
from aign.geometry.camera import CalibratedCamera, Pinhole, project
from aign.geometry.skeleton import BLAZEPOSE33, H36M17, convert, convert_confidence
from aign.geometry.triangulation import triangulate

FPS = 60.0
"""Of the real clips; people are rendered at the same rate."""
SIDE_PX = 512
CLIP_FRAMES = 64
SHIFT_ROUNDS = 6


@dataclass(frozen=True, kw_only=True)
class Detected:
    """One clip of one camera, H36M-17 joints.

    Attributes:
        name: the camera of a real clip, the motion of a rendered one.
        camera: without batch axes.
        kp2d_px: what the detector found.
        conf: its confidences; 0 where nobody was found.
        joints_cam_m: the truth.
        valid: which of it is known and in the picture.
        rough_m: joints triangulated from all views, this one too; of a rendered clip, the truth.
    """

    name: str
    camera: Pinhole
    kp2d_px: Float32[np.ndarray, "t 17 2"]
    conf: Float32[np.ndarray, "t 17"]
    joints_cam_m: Float32[np.ndarray, "t 17 3"]
    valid: Bool[np.ndarray, "t 17"]
    rough_m: Float32[np.ndarray, "t 17 3"]

    @property
    def truth_px(self) -> Float32[np.ndarray, "t 17 2"]:
        """The truth in the picture."""
        points = torch.from_numpy(self.joints_cam_m)
        return project(points.reshape(-1, 3), self.camera).reshape(*points.shape[:2], 2).numpy()


def tracked(name: str, frames: Callable[[], Iterable[np.ndarray]], cache: Path | None) -> tuple[Tensor, Tensor]:
    """BlazePose's landmarks of a clip and their confidences, from the cache if it has them."""
    kept = None if cache is None else cache / f"{name}.npz"
    if kept is not None and kept.is_file():
        with np.load(kept, allow_pickle=False) as content:
            return torch.from_numpy(content["kp2d_px"]), torch.from_numpy(content["kp2d_conf"])
    found = get_detector().track(frames())
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with published(kept) as unfinished, unfinished.open("wb") as file:
            np.savez(file, kp2d_px=found.kp2d_px, kp2d_conf=found.kp2d_conf)
    return torch.from_numpy(found.kp2d_px), torch.from_numpy(found.kp2d_conf)


def h36m17(kp2d_px: Tensor, conf: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """BlazePose's landmarks as H36M-17."""
    return convert(kp2d_px, BLAZEPOSE33, H36M17)[0].numpy(), convert_confidence(conf, BLAZEPOSE33, H36M17).numpy()


def filmed(cache: Path | None = None) -> list[Detected]:
    """The Pose2Sim clips, each view against the other three."""
    cameras, found = [], []
    for job in video_files.plan(Path(video_files.EMBEDDED)):
        index = index_video(job.path)
        assert job.calibrated is not None
        cameras.append(fit_to_frames(job.calibrated, index.width_px, index.height_px))
        found.append(tracked(f"filmed/{job.camera}", partial(read_frames, job.path), cache))
    kp2d, conf = (torch.stack(column) for column in zip(*found, strict=True))
    kp2d = kp2d - picture_shift(kp2d, conf, cameras)
    every = range(len(cameras))
    rough, _ = in_space(kp2d, conf, cameras, every)
    views = []
    for view, camera in enumerate(cameras):
        joints, known = in_space(kp2d, conf, cameras, [i for i in every if i != view])
        points17, conf17 = h36m17(kp2d[view], conf[view])
        views.append(
            Detected(
                name=camera.name, camera=camera.pinhole, kp2d_px=points17, conf=conf17,
                joints_cam_m=moved(joints, camera).numpy(), valid=known.numpy(), rough_m=moved(rough, camera).numpy(),
            )
        )  # fmt: skip
    return views


def picture_shift(kp2d_px: Tensor, conf: Tensor, cameras: Sequence[CalibratedCamera]) -> Tensor:
    """By how much each picture is shifted against the others [c, 1, 1, 2]: the median of what triangulation leaves."""
    shift = torch.zeros(len(cameras), 1, 1, 2)
    for _ in range(SHIFT_ROUNDS):
        points, _, valid = triangulate(kp2d_px - shift, conf, *stacked(tuple(cameras)))
        left = []
        for seen, camera in zip(kp2d_px, cameras, strict=True):
            flat = project(moved(points, camera).reshape(-1, 3), camera.pinhole).reshape(seen.shape)
            left.append((seen - flat)[valid].median(0).values)
        shift = torch.stack(left)[:, None, None]
    print("shift of the pictures, px:", shift.flatten(1).round().tolist())
    return shift


def in_space(
    kp2d_px: Tensor, conf: Tensor, cameras: Sequence[CalibratedCamera], views: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """H36M-17 joints in the world, metres, triangulated from some of the views; and which are known."""
    chosen = list(views)
    points, _, valid = triangulate(kp2d_px[chosen], conf[chosen], *stacked(tuple(cameras[i] for i in chosen)))
    joints, _ = convert(points, BLAZEPOSE33, H36M17)
    return joints, convert_confidence(valid.float(), BLAZEPOSE33, H36M17) > 0


def moved(points_world_m: Tensor, camera: CalibratedCamera) -> Tensor:
    """Points in a camera."""
    return camera.world_to_cam.apply(points_world_m.reshape(-1, 3)).reshape(points_world_m.shape)


def rendered(frames: int, seed: int, cache: Path | None = None) -> list[Detected]:
    """Rendered people; the same numbers give the same pictures."""
    regressor, clips = load_body().h36m17_regressor, []
    assert regressor is not None
    options = SyntheticOptions(frames=frames, side_px=SIDE_PX, fps=FPS, clip_frames=CLIP_FRAMES, seed=seed)
    for job in plan(options):
        for scene, recording in job.scenes():
            clip = render_clip(scene)
            joints = regressor @ torch.from_numpy(clip.vertices_cam_m)
            camera = Pinhole.of(torch.from_numpy(np.asarray(scene.lens.intrinsics_px)).float())
            truth = project(joints.reshape(-1, 3), camera).reshape(*joints.shape[:2], 2)
            found = tracked(f"rendered/{recording.sequence}-{scene.frames}", partial(iter, clip.rgb), cache)
            kp2d, conf = h36m17(*found)
            clips.append(
                Detected(
                    name=recording.action, camera=camera, kp2d_px=kp2d, conf=conf, joints_cam_m=joints.numpy(),
                    valid=((truth >= 0) & (truth < SIDE_PX)).all(-1).numpy(), rough_m=joints.numpy(),
                )
            )  # fmt: skip
    return clips
