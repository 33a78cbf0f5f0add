"""How well captured bodies explain each frame of their video, without any truth: keypoints, mask, flow, flip risk.

A small number does not mean a right pose (`aign.evaluation.image_evidence`); a large one means a wrong one.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32

from aign.body.assets import BodyAssets
from aign.data.decoding import flow_from_64ths
from aign.evaluation.image_evidence import flow_error_px, mask_iou
from aign.geometry.camera import Pinhole, project
from aign.geometry.skeleton import SMPL24, Skeleton
from aign.inference.body_predictor import BodyPredictor, FrameBodies, clip_arrays, keypoint_arrays
from aign.inference.body_video import surfaces
from aign.tasks.motion_capture.clips import CapturedClip

LIMBS = tuple(
    (SMPL24.joints.index(f"{side}_{upper}"), SMPL24.joints.index(f"{side}_{lower}"))
    for side in "lr"
    for upper, lower in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
)
LEANS_M = 0.05
"""A limb whose ends differ less than this in depth leans neither way."""


@dataclass(frozen=True, kw_only=True)
class FrameQuality:
    """Figures of each frame; NaN where nothing was seen to compare with.

    Attributes:
        joint_error_px: distance of each SMPL joint that detectors know from its keypoint, pixels of the video.
        mask_iou: overlap of the drawn body with the person's mask, 0 to 1.
        flow_error_px: how far the visible surface moves otherwise than the picture, pixels of the video.
        flip_risk: share of the limbs that lean towards the camera in the picture and away from it in its mirror image,
            or the other way round.
    """

    joint_error_px: Float32[np.ndarray, "t 24"]
    mask_iou: Float32[np.ndarray, " t"]
    flow_error_px: Float32[np.ndarray, " t"]
    flip_risk: Float32[np.ndarray, " t"]

    @property
    def reprojection_px(self) -> Float32[np.ndarray, " t"]:
        """Mean over the joints."""
        seen = np.isfinite(self.joint_error_px)
        total = np.where(seen, self.joint_error_px, 0).sum(1)
        return np.where(seen.any(1), total / seen.sum(1).clip(1), np.nan).astype(np.float32)

    @staticmethod
    def unknown(frames: int) -> "FrameQuality":
        """Of frames that nothing is known of."""
        nothing = np.full(frames, np.nan, np.float32)
        joints = np.full((frames, len(SMPL24)), np.nan, np.float32)
        return FrameQuality(
            joint_error_px=joints, mask_iou=nothing, flow_error_px=nothing.copy(), flip_risk=nothing.copy()
        )


def explained(clip: CapturedClip, source: Skeleton, bodies: FrameBodies, body: BodyAssets) -> FrameQuality:
    """How well the bodies of a clip explain it; what is said of the flip is not known here.

    Args:
        clip: of a store, with keypoints, masks and flow; pictures are not needed.
        source: joint set of the store.
        bodies: of its frames, finite.
        body: their model.
    """
    columns = clip.columns
    arrays = keypoint_arrays(clip, source)
    lens = torch.from_numpy(arrays["intrinsics_px"])
    to_video = (
        (columns["crop_xyxy_px"][:, 2] - columns["crop_xyxy_px"][:, 0]) / columns["frame_size_px"][:, 0]
    ).numpy()
    at = project(torch.from_numpy(bodies.joints_cam_m).double(), Pinhole.of(lens.double())).numpy()
    error_px = np.linalg.norm(at - arrays["kp2d_px"], axis=-1) * to_video[:, None]
    vertices = torch.from_numpy(np.stack(list(surfaces(bodies, body))))
    planes, ok = flow_from_64ths(columns["flow_64th_px"][:-1, 0])
    moved = flow_error_px(vertices[:-1], vertices[1:], body.faces, lens[:-1], planes.permute(0, 2, 3, 1), ok)
    return FrameQuality(
        joint_error_px=np.where(arrays["kp2d_conf"] > 0, error_px, np.nan).astype(np.float32),
        mask_iou=mask_iou(vertices, body.faces, lens, columns["mask"][:, 0]).numpy().astype(np.float32),
        flow_error_px=np.append(moved.numpy() * to_video[:-1], np.nan).astype(np.float32),
        flip_risk=np.full(len(error_px), np.nan, np.float32),
    )


def flip_risk(
    predictor: BodyPredictor, clip: CapturedClip, source: Skeleton, bodies: FrameBodies
) -> Float32[np.ndarray, " t"]:
    """See `FrameQuality`: the model is asked again, of the clip's mirror image.

    Args:
        predictor: the model.
        clip: with pictures and keypoints.
        source: joint set of the store.
        bodies: that it saw in the clip itself.
    """
    arrays = clip_arrays(clip, source)
    width = arrays["image_rgb"].shape[2]
    order = list(SMPL24.mirrored)
    kp_px = arrays["kp2d_px"][:, order] * np.array([-1, 1], np.float32) + np.array([width - 1, 0], np.float32)
    lens = arrays["intrinsics_px"].copy()
    lens[:, 2] = width - 1 - lens[:, 2]
    mirrored = predictor.predict(
        np.ascontiguousarray(arrays["image_rgb"][:, :, ::-1]), kp_px, arrays["kp2d_conf"][:, order], lens
    )
    here, there = _lean_m(bodies.joints_cam_m), _lean_m(mirrored.joints_cam_m[:, order])
    leans = (np.abs(here) > LEANS_M) & (np.abs(there) > LEANS_M)
    risk = (leans & (np.sign(here) != np.sign(there))).mean(1)
    return np.where(bodies.known & mirrored.known, risk, np.nan).astype(np.float32)


def _lean_m(joints_cam_m: Float32[np.ndarray, "t 24 3"]) -> Float32[np.ndarray, "t l"]:
    """Depth of the lower end of each limb behind its upper one."""
    upper, lower = zip(*LIMBS, strict=True)
    return np.asarray(joints_cam_m[:, lower, 2] - joints_cam_m[:, upper, 2])
