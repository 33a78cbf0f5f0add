"""Figures that say how far a clip can be trusted, and named limits for them.

Convention: all arrays are in the stored pictures' pixels; (0, 0) is the centre of the top-left pixel.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from aign.geometry.skeleton import Skeleton

MAIN_JOINTS = tuple(
    f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle") for side in "lr"
)
"""What every supported joint set has and every pose needs."""

MAIN_BONES = tuple(
    (f"{side}_{end}", f"{side}_{other}")
    for end, other in (
        ("shoulder", "elbow"),
        ("elbow", "wrist"),
        ("shoulder", "hip"),
        ("hip", "knee"),
        ("knee", "ankle"),
    )
    for side in "lr"
)
"""Their middles are looked at too: joints taken for one another still lie on the person, bones between them do not."""

CONFIDENT = 0.5
"""A keypoint below this is no evidence against a mask."""
REACH = 0.02
"""How far outside the mask a point may lie, over the longer side of the mask's box."""
FULL = 0.9
"""A mask over more of the picture than this says nothing."""
DETAIL = 0.005
"""Size of fine detail, over the longer side of the picture: 1.3 px of 256. Finer is the sensor's and the codec's."""


@dataclass(frozen=True, kw_only=True)
class QualityLimits:
    """The least of each figure that a clip needs to pass; 0 switches a figure off.

    The defaults lie between Pose2Sim's four clips as they are and the same clips spoilt, 128 and 256 px.

    Attributes:
        keypoint_conf: as they are 0.79 to 0.99; half is what the landmark net itself takes for seen.
        mask_agreement: 1.00; joints shuffled 0.86 to 0.91, keypoints of other frames 0.8, off by 2 % of the person
            0.98, by 5 % 0.8; masks 10 % off 0.4.
        flow_consistency: 0.97 to 1.00 at 60 frames per second, 0.74 to 0.88 at 12, 0.4 to 0.6 at 4; with noise of 30
            grey levels 0.82 to 0.99.
        sharpness: 0.028 to 0.054; motion blur over 3 % of the picture 0.012 to 0.025, over 6 % 0.006 to 0.016, gaussian
            blur of 1 % 0.005 to 0.009, pictures enlarged four times 0.002 to 0.016; with noise of 30 grey levels 0.04
            to 0.06: it does not pass for detail.
    """

    keypoint_conf: float = 0.5
    mask_agreement: float = 0.9
    flow_consistency: float = 0.65
    sharpness: float = 0.015


@dataclass(frozen=True, kw_only=True)
class Quality:
    """A clip's figures, each 0 (worst) to 1 except sharpness.

    Attributes:
        keypoint_conf: mean confidence of the main joints over all frames.
        mask_agreement: share of the main joints and middles of bones seen with confidence that lie on the mask or close
            to it; on an empty mask, or one that fills the picture, none does. 0 where nothing is seen with confidence.
        flow_consistency: share of the mask whose flow to the next frame is valid; 1 where a clip has no next frame.
        sharpness: of the person, see `sharpness`; the median over frames.
        passed: no figure is under its limit.
        reasons: which are, as "sharpness 0.002 < 0.015; ..."; empty if passed.
    """

    keypoint_conf: float
    mask_agreement: float
    flow_consistency: float
    sharpness: float
    passed: bool
    reasons: str


def assess(
    kp2d_px: Float[np.ndarray, "t j 2"],
    kp2d_conf: Float[np.ndarray, "t j"],
    masks: Bool[np.ndarray, "t h w"],
    flow_valid: Bool[np.ndarray, "t h w"],
    rgb: Iterable[UInt8[np.ndarray, "h w 3"]],
    skeleton: Skeleton,
    limits: QualityLimits,
) -> Quality:
    """Judge one clip.

    Args:
        kp2d_px: keypoints; where not finite, their confidence counts as 0.
        kp2d_conf: 0..1.
        masks: the person.
        flow_valid: of the flow to the next frame; the last frame's does not count.
        rgb: the pictures.
        skeleton: of the keypoints.
        limits: what the figures have to reach.

    Raises:
        UserError: the skeleton lacks a main joint.
    """
    main = skeleton.index(*MAIN_JOINTS)
    points_px = kp2d_px[:, main]
    finite = np.isfinite(points_px).all(axis=-1) & np.isfinite(kp2d_conf[:, main])
    conf = np.where(finite, kp2d_conf[:, main], 0)
    figures = {
        "keypoint_conf": float(conf.mean()),
        "mask_agreement": mask_agreement(np.where(finite[..., None], points_px, 0), conf >= CONFIDENT, masks),
        "flow_consistency": flow_consistency(masks, flow_valid),
        "sharpness": float(np.median([sharpness(picture, mask) for picture, mask in zip(rgb, masks, strict=True)])),
    }
    least = asdict(limits)
    low = [f"{name} {value:.3g} < {least[name]:g}" for name, value in figures.items() if value < least[name]]
    return Quality(**figures, passed=not low, reasons="; ".join(low))


def mask_agreement(
    joints_px: Float[np.ndarray, "t 12 2"], seen: Bool[np.ndarray, "t 12"], masks: Bool[np.ndarray, "t h w"]
) -> float:
    """Share of the seen MAIN_JOINTS and middles of MAIN_BONES on the mask, or at most REACH of its size away."""
    ends = np.array([[MAIN_JOINTS.index(joint) for joint in bone] for bone in MAIN_BONES])
    points_px = np.concatenate((joints_px, joints_px[:, ends].mean(axis=2)), axis=1)
    seen = np.concatenate((seen, seen[:, ends].all(axis=2)), axis=1)
    near = 0
    for points, these, mask in zip(points_px, seen, masks, strict=True):
        if these.any() and 0 < mask.mean() <= FULL:
            near += int(_near(points[these], mask).sum())
    return near / max(int(seen.sum()), 1)


def _near(points_px: Float[np.ndarray, "n 2"], mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, " n"]:
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    reach = REACH * max(width, height)
    rim = int(np.ceil(reach)) + 1
    outside = np.pad(~mask[top : top + height, left : left + width], rim, constant_values=True).astype(np.uint8)
    distance = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # What lies farther away is moved to the edge, which is already out of reach.
    spot = np.rint(points_px) - (left - rim, top - rim)
    x, y = np.clip(spot, 0, (distance.shape[1] - 1, distance.shape[0] - 1)).astype(int).T
    return np.asarray(distance[y, x] <= reach)


def flow_consistency(masks: Bool[np.ndarray, "t h w"], flow_valid: Bool[np.ndarray, "t h w"]) -> float:
    """Share of the mask, in all frames but the last, where the flow is valid."""
    if len(masks) == 1:
        return 1.0
    person = int(masks[:-1].sum())
    return int((masks[:-1] & flow_valid[:-1]).sum()) / max(person, 1)


def sharpness(rgb: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]) -> float:
    """How much fine detail there is for the contrast there is, in the mask's box (the whole picture if it is empty).

    Variance of the Laplacian (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000) of the
    luma blurred by sigma = DETAIL of the picture, times sigma^4, over the variance of the luma: exposure and contrast
    cancel, and the size the picture is stored at nearly does. 0 in a picture of one colour.
    """
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8)) if mask.any() else (0, 0, *mask.shape[::-1])
    luma = cv2.cvtColor(rgb[y : y + height, x : x + width], cv2.COLOR_RGB2GRAY).astype(np.float32)
    contrast = float(luma.var())
    if contrast == 0:
        return 0.0
    sigma = DETAIL * max(mask.shape)
    detail = cv2.Laplacian(cv2.GaussianBlur(luma, (0, 0), sigma), cv2.CV_32F)
    return float(detail.var()) * float(sigma**4) / contrast
