"""Photographed faces: found, cut out in the canonical frame of rendered ones, and pasted back.

Convention: pixels (0, 0) at the centre of the top-left pixel; left is the picture's left (`FACE5`).
"""

from dataclasses import dataclass
from math import ceil

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, UInt8

from aign.data.face_frame import Similarity, alignment
from aign.data.stages.face_nets import load_face_nets
from aign.framework.errors import UserError

# Places on FaceMesh's canonical face.
_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
_MOUTH = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
_LEFT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
_RIGHT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
_NOSE = (197, 49, 129, 279, 358, 98, 327, 2, 48, 278, 64, 294, 1, 4)
_TIP, _CORNERS = 1, (61, 291)
_MOST_FINER = 8
FEATHER = 0.12
"""Share of a side over which a pasted picture fades into the one around it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FoundFace:
    """A face in a photograph.

    Attributes:
        points_px: FaceMesh's landmarks.
    """

    points_px: Float64[np.ndarray, "468 2"]

    @property
    def landmarks_px(self) -> Float32[np.ndarray, "5 2"]:
        """FACE5: middles of the eyes, the nose's tip, corners of the mouth."""
        p = self.points_px
        eyes = [p[list(eye)].mean(0) for eye in (_LEFT_EYE, _RIGHT_EYE)]
        return np.stack([*eyes, p[_TIP], *p[list(_CORNERS)]]).astype(np.float32)

    def parts(self, width: int, height: int) -> UInt8[np.ndarray, "h w"]:
        """0 nothing, 1 lips, 2 nose, 3 eyes, as the contours of the landmarks have them."""
        p, out = self.points_px, np.zeros((height, width), np.uint8)
        _fill(out, cv2.convexHull(p[list(_NOSE)].astype(np.float32))[:, 0], 2)
        _fill(out, p[list(_LIPS)], 1)
        inside = np.zeros_like(out)
        # A shut mouth has no inside; contours that cross would cut the lips.
        if _area(p[list(_MOUTH)]) > 0.15 * _area(p[list(_LIPS)]):
            _fill(inside, p[list(_MOUTH)], 1)
        out[(inside == 1) & (out == 1)] = 0
        for eye in (_LEFT_EYE, _RIGHT_EYE):
            _fill(out, p[list(eye)], 3)
        return out

    def moved(self, fit: Similarity) -> "FoundFace":
        """The same face in another picture."""
        return FoundFace(points_px=fit(self.points_px))


def find_face(image: UInt8[np.ndarray, "h w 3"]) -> FoundFace:
    """The surest face of a picture.

    Raises:
        UserError: no face is found, or the nets are not on this machine.
    """
    faces = load_face_nets().faces(image)
    if not faces:
        raise UserError(
            f"no face found in a picture of {image.shape[1]} x {image.shape[0]} px; one that looks at the camera and "
            "fills at least a fifth of the picture is needed"
        )
    return FoundFace(points_px=faces[0])


def aligned(
    image: UInt8[np.ndarray, "h w 3"], landmarks_px: Float[np.ndarray, "5 2"], side_px: int
) -> tuple[UInt8[np.ndarray, "s s 3"], Similarity]:
    """A face cut out in the canonical frame, and the way from the picture to it.

    Each pixel is the mean of what it covers; outside of the picture its mirror image goes on.

    Raises:
        UserError: landmarks that are of no face.
    """
    fit = alignment(landmarks_px, side_px)
    finer = min(max(ceil(1 / fit.scale), 1), _MOST_FINER)
    # Sample s of a row of `finer` lies at (s - (finer - 1) / 2) / finer of the pixels.
    affine = fit.affine * finer
    affine[:, 2] += (finer - 1) / 2
    size = (side_px * finer, side_px * finer)
    cut = cv2.warpAffine(image, affine, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    if finer > 1:
        cut = cv2.resize(cut, (side_px, side_px), interpolation=cv2.INTER_AREA)
    return np.asarray(cut, np.uint8), fit


def pasted_back(
    image: UInt8[np.ndarray, "h w 3"],
    patch: UInt8[np.ndarray, "s s 3"],
    fit: Similarity,
    where: Bool[np.ndarray, "s s"] | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """An aligned picture put back where it came from; its rim fades into what is around it.

    Args:
        image: the whole picture.
        patch: what takes the face's place, in the canonical frame.
        fit: from the picture to the patch, as `aligned` gave it.
        where: paste only there; None: everywhere.
    """
    side = patch.shape[0]
    away = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5
    ramp = np.clip(away / (FEATHER * side), 0, 1).astype(np.float32)
    share = np.minimum.outer(ramp, ramp)
    if where is not None:
        share = share * cv2.GaussianBlur(where.astype(np.float32), (0, 0), max(side / 64, 0.5))
    size, back = (image.shape[1], image.shape[0]), fit.inverse.affine
    over = cv2.warpAffine(patch, back, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(share, back, size, flags=cv2.INTER_LINEAR)[..., None]
    return np.asarray(np.rint(image + alpha * (over.astype(np.float32) - image)), np.uint8)


def _fill(out: UInt8[np.ndarray, "h w"], polygon_px: Float[np.ndarray, "n 2"], label: int) -> None:
    """Draw a polygon; corners count to a 16th of a pixel."""
    cv2.fillPoly(out, [np.rint(polygon_px * 16).astype(np.int32)], label, shift=4)


def _area(polygon_px: Float[np.ndarray, "n 2"]) -> float:
    return float(cv2.contourArea(polygon_px.astype(np.float32)))
