"""P of the pose tasks: joints in the camera to keypoints in the crop that the generator saw."""

from jaxtyping import Float
from torch import Tensor

from aign.geometry.camera import normalised


def crop_keypoints(joints_cam_m: Float[Tensor, "b j 3"], half_extent: Float[Tensor, " b"]) -> Float[Tensor, "b j 2"]:
    """Full perspective projection into crop units: rays x/z, y/z divided by the half extent of the crop's rays.

    The camera is the virtual one that looks at the person (geometry.camera.virtual_camera), so the crop's centre is
    the optical axis and no pixel offset is left.
    """
    return normalised(joints_cam_m) / half_extent[:, None, None]
