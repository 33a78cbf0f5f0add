"""A packaged motion-capture model on new pictures, with every input checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float32, Shaped, UInt8

from aign.body.assets import BodyAssets, load_body
from aign.data.schema import ClipKey
from aign.framework.errors import UserError
from aign.geometry.skeleton import SMPL24, Skeleton
from aign.inference.package import ModelCard, load_as
from aign.inference.predictor import checked, sees_person
from aign.tasks.motion_capture.clips import CapturedClip, capture, observed
from aign.tasks.motion_capture.factors import joints
from aign.tasks.motion_capture.feed import keypoints_in_frame, person_square
from aign.tasks.motion_capture.nets import Encoder
from aign.tasks.motion_capture.observation import KEYPOINTS

CPU = torch.device("cpu")
JOINTS = len(SMPL24)
MAX_SHRINK = 2.0
"""The crop samples the picture between four pixels; a person larger than this in crops is shrunk by area before."""


@dataclass(frozen=True, kw_only=True)
class FrameBodies:
    """Bodies of n frames in the camera (+x right, +y down, +z forward); NaN where too little of a person was seen.

    Attributes:
        rotmats: local rotations of SMPL's joints; the first is the body's orientation in the camera.
        betas: shape coefficients of the card's body model.
        pelvis_cam_m: the pelvis joint.
        joints_cam_m: SMPL's joints.
    """

    rotmats: Float32[np.ndarray, "n 24 3 3"]
    betas: Float32[np.ndarray, "n 10"]
    pelvis_cam_m: Float32[np.ndarray, "n 3"]
    joints_cam_m: Float32[np.ndarray, "n 24 3"]

    @property
    def known(self) -> Shaped[np.ndarray, " n"]:
        """Which frames have a body."""
        return np.asarray(np.isfinite(self.pelvis_cam_m).all(1))


@dataclass(frozen=True, kw_only=True)
class BodyPredictor:
    """A motion-capture model, ready to predict.

    Attributes:
        encoder: the network.
        card: its description.
        body: the body model whose pose and shape it tells.
    """

    encoder: Encoder
    card: ModelCard
    body: BodyAssets

    @staticmethod
    def of(folder: Path, device: torch.device = CPU) -> "BodyPredictor":
        """Read a package.

        Args:
            folder: the package.
            device: where the network computes; answers are on the CPU.

        Raises:
            UserError: it is damaged or none, of another task, or of another body model than the one that is here.
        """
        encoder, card = load_as(Encoder, folder)
        body = load_body()
        if card.body != body.name:
            raise UserError(f"{folder} is a model of the body {card.body!r}; the one that is here is {body.name!r}")
        return BodyPredictor(encoder=encoder.to(device), card=card, body=body)

    def predict(
        self,
        image_rgb: Shaped[np.ndarray, "..."],
        kp2d_px: Shaped[np.ndarray, "..."],
        kp2d_conf: Shaped[np.ndarray, "..."],
        intrinsics_px: Shaped[np.ndarray, "..."],
    ) -> FrameBodies:
        """The body in each of n frames of one clip, in order, without a gap in time.

        A model of several frames sees those of the clip around each one. A frame with fewer than MIN_SEEN keypoints of
        confidence MIN_CONFIDENCE or more, or whose seen keypoints span less than MIN_SPAN_PX in both directions
        (`aign.inference.predictor`), gets NaN: what was not seen never looks like a result.

        Args:
            image_rgb: pictures uint8 [n, h, w, 3], undistorted, of any size: the person is cut out of them.
            kp2d_px: SMPL's joints [n, 24, 2] in these pictures' pixels; any finite value where the confidence is 0.
                Those that detectors find are used (`aign.tasks.motion_capture.observation.KEYPOINTS`).
            kp2d_conf: confidences 0..1 [n, 24]; 0: not seen.
            intrinsics_px: fx, fy, cx, cy [n, 4] of these pictures.

        Raises:
            UserError: a wrong shape or type, a value that is not finite, a focal length that is not positive, or a
                confidence outside 0..1.
        """
        frames = len(image_rgb) if np.ndim(image_rgb) else 0
        if image_rgb.ndim != 4 or image_rgb.shape[3] != 3 or 0 in image_rgb.shape[1:] or image_rgb.dtype != np.uint8:
            raise UserError(f"image_rgb must be uint8 [n, h, w, 3]; got {image_rgb.dtype} {list(image_rgb.shape)}")
        kp = checked("kp2d_px", kp2d_px, (frames, JOINTS, 2))
        conf = checked("kp2d_conf", kp2d_conf, (frames, JOINTS))
        lens = checked("intrinsics_px", intrinsics_px, (frames, 4))
        if ((conf < 0) | (conf > 1)).any():
            raise UserError(f"kp2d_conf must lie in 0..1; got {conf.min():g} to {conf.max():g}")
        if (lens[:, :2] <= 0).any():
            raise UserError(f"focal lengths must be positive; got {lens[:, :2].min():g}")
        if not frames:
            return _nobody(0)
        return self._bodies(image_rgb, kp, conf, lens)

    def _bodies(
        self,
        image_rgb: UInt8[np.ndarray, "n h w 3"],
        kp2d_px: Float32[np.ndarray, "n 24 2"],
        kp2d_conf: Float32[np.ndarray, "n 24"],
        intrinsics_px: Float32[np.ndarray, "n 4"],
    ) -> FrameBodies:
        seen = sees_person(kp2d_px, kp2d_conf)
        if not seen.any():
            return _nobody(len(seen))
        factor = shrink_factor(kp2d_px, kp2d_conf, self.encoder.config.side_px)
        smaller = np.stack([shrunk(image, factor) for image in image_rgb]) if factor < 1 else image_rgb
        by = np.array(smaller.shape[2:0:-1]) / np.array(image_rgb.shape[2:0:-1])
        clip = _clip(smaller, resized_px(kp2d_px, by), kp2d_conf, resized_lens(intrinsics_px, by))
        config, device = self.encoder.config, next(self.encoder.parameters()).device
        z = capture(self.encoder, observed(clip, config.frames, SMPL24, config.side_px, self.body), device)
        found = {
            "rotmats": z.rotmats[:, 0], "betas": z.betas, "pelvis_cam_m": z.pelvis_cam_m[:, 0],
            "joints_cam_m": joints(z, self.body)[:, 0],
        }  # fmt: skip
        bodies = FrameBodies(**{name: value.numpy().copy() for name, value in found.items()})
        for value in vars(bodies).values():
            value[~seen] = np.nan
        return bodies


def _nobody(frames: int) -> FrameBodies:
    shapes = {"rotmats": (24, 3, 3), "betas": (10,), "pelvis_cam_m": (3,), "joints_cam_m": (24, 3)}
    return FrameBodies(**{name: np.full((frames, *shape), np.nan, np.float32) for name, shape in shapes.items()})


def shrink_factor(
    kp2d_px: Float32[np.ndarray, "n 24 2"], kp2d_conf: Float32[np.ndarray, "n 24"], side_px: int
) -> float:
    """How much smaller pictures may be before the person is smaller in them than the encoder can use; at most 1."""
    seen = sees_person(kp2d_px, kp2d_conf)
    if not seen.any():
        return 1.0
    used = list(KEYPOINTS)
    square = person_square(
        torch.from_numpy(kp2d_px[seen][:, None, used]), torch.from_numpy(kp2d_conf[seen][:, None, used])
    )
    return min(1.0, MAX_SHRINK * side_px / float((square[:, 2] - square[:, 0]).median()))


def shrunk(image_rgb: UInt8[np.ndarray, "h w 3"], factor: float) -> UInt8[np.ndarray, "a b 3"]:
    """A picture made smaller by area, so that nothing flickers."""
    if factor == 1:
        return image_rgb
    h, w = image_rgb.shape[:2]
    size = max(1, round(w * factor)), max(1, round(h * factor))
    return np.asarray(cv2.resize(image_rgb, size, interpolation=cv2.INTER_AREA))


def resized_px(points_px: Float32[np.ndarray, "... 2"], by: Shaped[np.ndarray, "2"]) -> Float32[np.ndarray, "... 2"]:
    """Points of a picture that was resized by x and y.

    Convention: pixel 0 is the middle of the first one, so what stays is the edge, -0.5.
    """
    return np.asarray((points_px + 0.5) * by - 0.5, dtype=np.float32)


def resized_lens(intrinsics_px: Float32[np.ndarray, "n 4"], by: Shaped[np.ndarray, "2"]) -> Float32[np.ndarray, "n 4"]:
    """fx, fy, cx, cy of a picture that was resized by x and y."""
    focal = np.asarray(intrinsics_px[:, :2] * by, dtype=np.float32)
    return np.concatenate((focal, resized_px(intrinsics_px[:, 2:], by)), 1)


def _clip(image_rgb: np.ndarray, kp2d_px: np.ndarray, kp2d_conf: np.ndarray, intrinsics_px: np.ndarray) -> CapturedClip:
    """Arrays as a clip of a store whose pictures are whole."""
    n, h, w = image_rgb.shape[:3]
    columns = {
        "image_rgb": torch.from_numpy(np.ascontiguousarray(image_rgb)).unsqueeze(1),
        "kp2d_px": torch.from_numpy(kp2d_px).unsqueeze(1),
        "kp2d_conf": torch.from_numpy(kp2d_conf).unsqueeze(1),
        "frame_intrinsics_px": torch.from_numpy(intrinsics_px),
        "crop_xyxy_px": torch.tensor((-0.5, -0.5, w - 0.5, h - 0.5)).expand(n, 4),
        "frame_size_px": torch.tensor((w, h)).expand(n, 2),
        "sample_seed": torch.zeros(n, dtype=torch.int64),
    }
    names = dict.fromkeys(("sequence", "subject", "action", "camera", "source"), "")
    return CapturedClip(key=ClipKey(**names, frame_start=0, num_frames=n, fps=1.0), columns=columns)


def clip_arrays(clip: CapturedClip, source: Skeleton) -> Mapping[str, np.ndarray]:
    """A clip of a store as the arguments of `BodyPredictor.predict`.

    Args:
        clip: with the columns of `PICTURE_COLUMNS`.
        source: joint set of its keypoints.
    """
    return {"image_rgb": clip.columns["image_rgb"][:, 0].numpy(), **keypoint_arrays(clip, source)}


def keypoint_arrays(clip: CapturedClip, source: Skeleton) -> Mapping[str, np.ndarray]:
    """Those of `clip_arrays` that need no pictures."""
    kp, conf = keypoints_in_frame(clip.columns, source)
    frames = len(kp)
    kp2d_px = np.zeros((frames, JOINTS, 2), np.float32)
    kp2d_conf = np.zeros((frames, JOINTS), np.float32)
    kp2d_px[:, list(KEYPOINTS)], kp2d_conf[:, list(KEYPOINTS)] = kp[:, 0].numpy(), conf[:, 0].numpy()
    lens = clip.columns["frame_intrinsics_px"].numpy()
    return {"kp2d_px": kp2d_px, "kp2d_conf": kp2d_conf, "intrinsics_px": lens}
