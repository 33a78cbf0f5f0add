"""A person in a store, filmed by four calibrated cameras: exactly known, as detections and pictures."""

import dataclasses
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from aign.data.datasets.job import CLIP_FRAMES, Recording, calibration, cut, picture_columns, whole_picture
from aign.data.datasets.rig import placed_rig, see
from aign.data.store import Manifest, Provenance, Stage, Store, commit, write_part
from aign.geometry.camera import CalibratedCamera
from aign.geometry.skeleton import Skeleton, skeleton
from aign.inference.video import VideoView, read_views
from tests.tasks.scenes import people

RECORDING = Recording(sequence="clip/person", subject="clip", action="person", source="clip.mp4", fps=25.0)
WIDTH, HEIGHT = 1000, 1002
PICTURE = (100, 96)


@dataclass(frozen=True)
class Recorded:
    store: Store
    views: list[VideoView]
    cameras: tuple[CalibratedCamera, ...]
    joints_world_m: np.ndarray


def world(frames: int, joints: int = 17) -> np.ndarray:
    """H36M-17 people, upright in a z-up world, walking 1 cm a frame; other joint sets are clouds in their place."""
    x, y, z = people(frames, seed=3)[:, np.arange(joints) % 17].unbind(-1)
    upright = torch.stack((x, -z, y + 0.95), -1)
    cloud = 0.05 * torch.randn(1, joints, 3, generator=torch.Generator().manual_seed(0)).double()
    walk = torch.zeros(frames, 1, 3).double()
    walk[:, 0, 0] = 0.01 * torch.arange(frames)
    return (upright + walk + (cloud if joints != 17 else 0)).numpy()


def picture(frame: int, view: int) -> bytes:
    """A grey level says which frame, a red block in the corner which camera."""
    image = np.full((PICTURE[1], PICTURE[0], 3), frame % 200 + 20, np.uint8)
    image[:16, :16] = (0, 0, 60 * (view + 1))  # BGR
    ok, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert ok
    return bytes(data)


def record(url: str, frames: int = CLIP_FRAMES + 9, kind: str = "h36m17", views: int = 4) -> Recorded:
    """Write it into a store with one part, and read its views."""
    joints: Skeleton = skeleton(kind)
    moving = world(frames, len(joints))
    rig = placed_rig((4,), (0.5, 0.0), 1.0)[:views]
    keypoints, pictures = [], []
    for number, camera in enumerate(rig):
        sight = see(camera, moving)
        seen = {"kp2d_px": sight.kp2d_px, "kp2d_conf": sight.inside.astype(np.float32)}
        keypoints += cut(RECORDING, camera.name, seen, calibration(camera))
        size = camera.image_size_px
        sizes = picture_columns(size, whole_picture(size), PICTURE, calibration(camera)["intrinsics_px"])
        per_frame = {
            "image_jpeg": [picture(f, number) for f in range(frames)],
            "time_s": np.arange(frames, dtype=np.float32) / RECORDING.fps,
        }
        pictures += cut(RECORDING, camera.name, per_frame, sizes)
    provenance = Provenance(
        source_hashes=("x",),
        stages=(Stage(name="film", version="1", params={}),),
        skeleton=kind,
        num_joints=len(joints),
        licence="CC0-1.0",
        producer="test",
    )
    records = write_part(url, 0, {"keypoints": keypoints, "frames": pictures}, provenance)
    commit(url, Manifest(skeleton=kind, num_joints=len(joints)).updated(records))
    store = Store.open(url)
    read = read_views(store)
    cameras = {camera.name: camera for camera in rig}
    return Recorded(store, read, tuple(cameras[v.camera] for v in read), moving)


def edited(view: VideoView, **changes) -> VideoView:
    return dataclasses.replace(view, **changes)
