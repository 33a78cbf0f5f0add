"""P of the pose tasks: joints in the camera to keypoints in the crop that the generator saw; heatmaps of keypoints."""

import torch
from jaxtyping import Float
from torch import Tensor

from aign.geometry.camera import normalised


def crop_keypoints(joints_cam_m: Float[Tensor, "b j 3"], half_extent: Float[Tensor, " b"]) -> Float[Tensor, "b j 2"]:
    """Full perspective projection into crop units: rays x/z, y/z divided by the half extent of the crop's rays.

    The camera is the virtual one that looks at the person (geometry.camera.virtual_camera), so the crop's centre is
    the optical axis and no pixel offset is left.
    """
    return normalised(joints_cam_m) / half_extent[:, None, None]


def gaussian_heatmaps(
    kp2d: Float[Tensor, "b j 2"], conf: Float[Tensor, "b j"], side: int, sigma_px: float = 1.0
) -> Float[Tensor, "b j s s"]:
    """A Gaussian per keypoint, as high as its confidence, on a square whose edges are at -1 and 1.

    Convention: row = y, column = x; the pixel i is the interval -1 + 2 (i .. i + 1) / side, so a keypoint at 0 lies
    between the two middle pixels. Differentiable in the keypoints; outside the square the tail is what is left.

    Source: the generators of papers.md 1.2 see Gaussian heatmaps of the joints.
    """
    centre = torch.arange(side, device=kp2d.device, dtype=kp2d.dtype)
    offset = (kp2d + 1) * (side / 2) - 0.5
    falls = (-0.5 * ((centre - offset.unsqueeze(-1)) / sigma_px).square()).exp()  # [b, j, (x, y), side]
    return conf[..., None, None] * falls[:, :, 1].unsqueeze(-1) * falls[:, :, 0].unsqueeze(-2)
