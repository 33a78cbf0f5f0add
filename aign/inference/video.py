"""Videos of a store, lifted: what `aign demo` and `aign capture` show and save."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8

from aign.data.publish import published
from aign.data.store import Selection, Store
from aign.framework.errors import UserError
from aign.geometry.camera import Pinhole, project, undistort
from aign.geometry.skeleton import H36M17, Skeleton, skeleton
from aign.inference.overlay import write_overlay
from aign.tasks.lifting.feed import to_h36m17


@runtime_checkable
class Predict(Protocol):
    """What lifts frames: `LiftingPredictor.predict`, or the same in another process."""

    def __call__(
        self, kp2d_px: np.ndarray, kp2d_conf: np.ndarray, intrinsics_px: np.ndarray, /, *, clip: np.ndarray
    ) -> np.ndarray:
        """Undistorted H36M-17 pixels [n, 17, 2], confidences [n, 17], intrinsics [n, 4], clips [n] -> [n, 17, 3] m."""
        ...


@dataclass(frozen=True, kw_only=True)
class VideoView:
    """One video of a store.

    Attributes:
        sequence: id of the motion.
        camera: name of the view.
        fps: frames per second.
        number: of each frame in the video, from 0; one that is not there is a gap in time.
        skeleton: joint set of the keypoints.
        kp2d_px: detected keypoints, pixels of the video.
        conf: their confidences.
        pinhole: the camera, without batch axes.
        calibrated: whether it was calibrated or assumed.
        pictures: JPEG bytes of every frame.
        picture_scale: size of the pictures over that of the video, x and y.
    """

    sequence: str
    camera: str
    fps: float
    number: Int64[np.ndarray, " t"]
    skeleton: Skeleton
    kp2d_px: Float32[np.ndarray, "t j 2"]
    conf: Float32[np.ndarray, "t j"]
    pinhole: Pinhole
    calibrated: bool
    pictures: np.ndarray
    picture_scale: Float[np.ndarray, "2"]

    def frames(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """The pictures, RGB."""
        for data in self.pictures:
            yield self.frame_of(data)

    def frame(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """One picture, RGB."""
        return self.frame_of(self.pictures[index])

    @staticmethod
    def frame_of(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
        """Decode one JPEG."""
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert decoded is not None, "the store holds JPEGs that were decoded when they were written"
        return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def read_views(store: Store) -> list[VideoView]:
    """Every video of a store, its clips put together again.

    Raises:
        UserError: the store has no pictures.
    """
    names = {(g.group.sequence, camera) for g in store.row_groups(("frames",)) for camera in g.group.cameras}
    return [_view(store, sequence, camera) for sequence, camera in sorted(names)]


def _view(store: Store, sequence: str, camera: str) -> VideoView:
    only = Selection(sequences=(sequence,), cameras=(camera,))
    keypoints = ("kp2d_px", "kp2d_conf", "intrinsics_px", "distortion", "intrinsics_source", "image_size_px")
    clips = store.read({"keypoints": keypoints}, only)
    pictures = store.read({"frames": ("image_jpeg", "frame_size_px")}, only)
    intrinsics = torch.from_numpy(clips.arrays["intrinsics_px"][0]).double()
    bend = torch.from_numpy(clips.arrays["distortion"][0]).double()
    return VideoView(
        sequence=sequence,
        camera=camera,
        fps=clips.keys[0].fps,
        number=np.concatenate([np.arange(k.frame_start, k.frame_start + k.num_frames) for k in clips.keys]),
        skeleton=skeleton(store.manifest.skeleton),
        kp2d_px=clips.arrays["kp2d_px"],
        conf=clips.arrays["kp2d_conf"],
        pinhole=Pinhole.of(intrinsics, bend),
        calibrated=str(clips.arrays["intrinsics_source"][0]) == "calibration",
        pictures=pictures.arrays["image_jpeg"],
        picture_scale=pictures.arrays["frame_size_px"][0] / clips.arrays["image_size_px"][0],
    )


def lifter_input(
    view: VideoView,
) -> tuple[Float32[np.ndarray, "t 17 2"], Float32[np.ndarray, "t 17"], Float32[np.ndarray, "t 4"]]:
    """A view's keypoints as a registered lifter takes them: H36M-17, undistorted pixels, one camera per frame."""
    kp2d, conf = to_h36m17(torch.from_numpy(view.kp2d_px), torch.from_numpy(view.conf), view.skeleton)
    flat = kp2d.double().reshape(-1, 2)
    straight = undistort(flat, view.pinhole) * view.pinhole.focal_px + view.pinhole.centre_px
    straight = torch.where((conf > 0).reshape(-1, 1), straight, torch.zeros_like(straight)).reshape(kp2d.shape)
    intrinsics = torch.cat((view.pinhole.focal_px, view.pinhole.centre_px)).expand(len(kp2d), 4)
    return straight.float().numpy(), conf.numpy(), intrinsics.float().numpy().copy()


def lift_views(views: Sequence[VideoView], predict: Predict) -> list[Float32[np.ndarray, "t 17 3"]]:
    """Joints in each view's camera, metres, from one call of the model; NaN where too little was seen.

    Every view is a clip of its own, and begins a new one after each gap in time.

    Raises:
        UserError: a view in which not one frame shows enough of a person.
    """
    inputs = [lifter_input(view) for view in views]
    together = (np.concatenate(column) for column in zip(*inputs, strict=True))
    starts = [np.r_[True, np.diff(view.number) != 1] for view in views]
    joints = np.asarray(predict(*together, clip=np.cumsum(np.concatenate(starts)) - 1), dtype=np.float32)
    lifted = np.split(joints, np.cumsum([len(view.kp2d_px) for view in views])[:-1])
    for view, part in zip(views, lifted, strict=True):
        if not np.isfinite(part).all(axis=(1, 2)).any():
            raise UserError(f"{view.sequence} {view.camera}: no frame shows enough of a person to be lifted")
    return lifted


def reprojection(view: VideoView, joints_cam_m: Float[np.ndarray, "t 17 3"]) -> Float[np.ndarray, "t 17 2"]:
    """Lifted joints in the pixels of the video, NaN where they are."""
    points = torch.from_numpy(joints_cam_m).double().reshape(-1, 3)
    return project(points, view.pinhole).reshape(*joints_cam_m.shape[:2], 2).numpy()


def write_view(view: VideoView, joints_cam_m: Float[np.ndarray, "t 17 3"], path: Path, slow: float = 1.0) -> None:
    """The overlay video: detections and the lifted pose's reprojection.

    Args:
        view: the video.
        joints_cam_m: its lifted joints.
        path: of the new mp4.
        slow: frames are shown this many times longer.
    """
    scale = view.picture_scale
    lifted = reprojection(view, joints_cam_m) * scale
    write_overlay(
        path, view.frames(), view.kp2d_px * scale, view.conf, lifted, fps=view.fps / slow, skeleton=view.skeleton
    )


def save_joints(path: Path, view: VideoView, joints_cam_m: Float[np.ndarray, "t 17 3"]) -> None:
    """A plain npz: joints_cam_m [t, 17, 3] metres, joint names, parents, kp2d_px, kp2d_conf, fps, intrinsics_px."""
    lens = torch.cat((view.pinhole.focal_px, view.pinhole.centre_px)).numpy()
    with published(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(
            file,
            joints_cam_m=joints_cam_m,
            joint_names=np.array(H36M17.joints),
            parents=np.array(H36M17.parents),
            kp2d_px=view.kp2d_px,
            kp2d_conf=view.conf,
            fps=np.array(view.fps),
            intrinsics_px=lens,
            intrinsics_source=np.array("calibration" if view.calibrated else "assumed"),
        )
