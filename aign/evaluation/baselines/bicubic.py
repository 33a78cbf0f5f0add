"""What needs no training: bicubic enlargement, and inpainting from the mask's edge."""

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

INPAINT_RADIUS_PX = 3


def bicubic(low: UInt8[np.ndarray, "n a b 3"], side_px: int) -> UInt8[np.ndarray, "n s s 3"]:
    """Pictures enlarged by OpenCV's bicubic filter (a = -0.75), edges on edges."""
    if not len(low):
        return np.zeros((0, side_px, side_px, 3), np.uint8)
    return np.stack([cv2.resize(one, (side_px, side_px), interpolation=cv2.INTER_CUBIC) for one in low])


def diffused(images: UInt8[np.ndarray, "n s s 3"], hole: Bool[np.ndarray, "n s s"]) -> UInt8[np.ndarray, "n s s 3"]:
    """Pictures whose hole is filled from its edge inwards (Telea, 2004); outside of it nothing changes."""
    filled = [
        cv2.inpaint(image, where.astype(np.uint8), INPAINT_RADIUS_PX, cv2.INPAINT_TELEA)
        for image, where in zip(images, hole, strict=True)
    ]
    return np.where(hole[..., None], np.stack(filled), images) if filled else images.copy()
