"""A packaged lifter on new keypoints, with every input checked: what a server, a notebook or the CLI calls."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, Shaped
from torch import Tensor

from aign.framework.errors import UserError
from aign.geometry.camera import Pinhole
from aign.inference.package import ModelCard, load_as
from aign.tasks.lifting import lift
from aign.tasks.lifting.frames import Frames
from aign.tasks.lifting.nets import Lifter

MIN_CONFIDENCE = 0.1
"""Detectors give small confidences where nobody stands; from here on a keypoint counts as seen."""
MIN_SEEN = 6
"""Two limbs: with fewer keypoints the answer would be the memory's mean and not this person."""
MIN_SPAN_PX = 8.0
"""Seen keypoints nearer together than this are no person, whatever a detector says."""


@dataclass(frozen=True, kw_only=True)
class LiftingPredictor:
    """A lifter, ready to predict.

    Attributes:
        lifter: the network.
        card: its description.
    """

    lifter: Lifter
    card: ModelCard

    @staticmethod
    def of(folder: Path) -> "LiftingPredictor":
        """Read a package.

        Raises:
            UserError: it is damaged or none.
        """
        lifter, card = load_as(Lifter, folder)
        return LiftingPredictor(lifter=lifter, card=card)

    def predict(
        self,
        kp2d_px: Shaped[np.ndarray, "..."],
        kp2d_conf: Shaped[np.ndarray, "..."],
        intrinsics_px: Shaped[np.ndarray, "..."],
        distortion: Shaped[np.ndarray, "..."] | None = None,
        clip: Shaped[np.ndarray, "..."] | None = None,
    ) -> Float32[np.ndarray, "n 17 3"]:
        """Lift n frames, those of a clip in order; shapes are checked here because they come from outside.

        A lifter of several frames sees those of the same clip alone. To one of single frames (`card.lifter.frames` 1)
        clips mean nothing.

        A frame with fewer than MIN_SEEN keypoints of confidence MIN_CONFIDENCE or more, or whose seen keypoints span
        less than MIN_SPAN_PX in both directions, gets NaN joints: what was not seen never looks like a result.

        Args:
            kp2d_px: H36M-17 keypoints [n, 17, 2]; any finite value where the confidence is 0.
            kp2d_conf: confidences 0..1 [n, 17].
            intrinsics_px: fx, fy, cx, cy [n, 4].
            distortion: k1, k2, k3, p1, p2 in Human3.6M's model [n, 5]; None: the pixels are undistorted.
            clip: integer [n], which clip each frame is of; a clip's frames stand together, without a gap in time. None:
                all frames are one clip.

        Returns:
            Joints in the camera (+x right, +y down, +z forward), metres.

        Raises:
            UserError: a wrong shape or type, a value that is not finite, a focal length that is not positive, a
                confidence outside 0..1 or a clip whose frames do not stand together.
        """
        given = checked_frames(kp2d_px, kp2d_conf, intrinsics_px, distortion, clip)
        return unseen_as_nan(lift(self.lifter, given), given)


def checked_frames(
    kp2d_px: Shaped[np.ndarray, "..."],
    kp2d_conf: Shaped[np.ndarray, "..."],
    intrinsics_px: Shaped[np.ndarray, "..."],
    distortion: Shaped[np.ndarray, "..."] | None,
    clip: Shaped[np.ndarray, "..."] | None,
) -> Frames:
    """The arguments of `LiftingPredictor.predict`, after every check."""
    frames = len(kp2d_px) if np.ndim(kp2d_px) else 0
    kp = checked("kp2d_px", kp2d_px, (frames, 17, 2))
    conf = checked("kp2d_conf", kp2d_conf, (frames, 17))
    intrinsics = checked("intrinsics_px", intrinsics_px, (frames, 4))
    bend = None if distortion is None else torch.from_numpy(checked("distortion", distortion, (frames, 5)))
    if (bad := (conf < 0) | (conf > 1)).any():
        raise UserError(f"kp2d_conf must lie in 0..1; got {conf[bad][0]:g} in frame {_first(bad)}")
    if (bad := intrinsics[:, :2] <= 0).any():
        focal = intrinsics[:, :2][bad][0]
        raise UserError(f"focal lengths must be positive; got {focal:g} in frame {_first(bad)}")
    camera = Pinhole.of(torch.from_numpy(intrinsics), bend)
    number = torch.zeros(frames, dtype=torch.int64) if clip is None else checked_clip(clip, frames)
    return Frames(kp2d_px=torch.from_numpy(kp), conf=torch.from_numpy(conf), camera=camera, clip=number)


def unseen_as_nan(joints_cam_m: Float32[Tensor, "n 17 3"], frames: Frames) -> Float32[np.ndarray, "n 17 3"]:
    """Joints with NaN in frames that do not show enough of a person."""
    joints: np.ndarray = joints_cam_m.numpy()
    joints[~sees_person(frames.kp2d_px.numpy(), frames.conf.numpy())] = np.nan
    return joints


def sees_person(kp2d_px: Float32[np.ndarray, "n j 2"], kp2d_conf: Float32[np.ndarray, "n j"]) -> Bool[np.ndarray, " n"]:
    """Which frames show enough of a person to be told anything of, by the rule of `LiftingPredictor.predict`."""
    seen = kp2d_conf >= MIN_CONFIDENCE
    low = np.where(seen[..., None], kp2d_px, np.inf).min(1)
    high = np.where(seen[..., None], kp2d_px, -np.inf).max(1)
    enough: np.ndarray = (seen.sum(1) >= MIN_SEEN) & ((high - low).max(1) >= MIN_SPAN_PX)
    return enough


def checked(name: str, array: Shaped[np.ndarray, "..."], shape: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
    """A float32 copy."""
    if array.shape != shape or array.dtype.kind != "f":
        wanted = ", ".join(("n", *map(str, shape[1:])))
        raise UserError(f"{name} must be floats [{wanted}] with n = {shape[0]}; got {array.dtype} {list(array.shape)}")
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which is refused below
        copy = array.astype(np.float32)
    if (bad := ~np.isfinite(copy)).any():
        value = array[bad][0]
        raise UserError(f"{name} must be finite (unseen: confidence 0); got {value} in frame {_first(bad)}")
    return copy


def checked_clip(clip: Shaped[np.ndarray, "..."], frames: int) -> Int64[Tensor, " n"]:
    """The clip of each frame, numbered from 0 in the order in which they come.

    Raises:
        UserError: not one integer a frame, or the frames of a clip do not stand together.
    """
    if clip.shape != (frames,) or clip.dtype.kind not in "iu":
        raise UserError(f"clip must be integers [n] with n = {frames}; got {clip.dtype} {list(clip.shape)}")
    starts = np.ones(frames, dtype=bool)
    starts[1:] = clip[1:] != clip[:-1]
    names, counts = np.unique(clip[starts], return_counts=True)
    if (counts > 1).any():
        again = names[counts > 1][0]
        frame = int(np.nonzero(starts & (clip == again))[0][1])
        raise UserError(f"the frames of a clip must stand together; got clip {again} again in frame {frame}")
    return torch.from_numpy(np.cumsum(starts, dtype=np.int64) - 1)


def _first(bad: Bool[np.ndarray, "..."]) -> int:
    return int(np.nonzero(bad)[0][0])
