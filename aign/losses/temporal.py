"""How bodies move over the frames of a clip, in metres."""

from jaxtyping import Float
from torch import Tensor

from aign.losses.points import SMOOTH, weighted_mean


def smoothness(joints_m: Float[Tensor, "b t j 3"]) -> Float[Tensor, " b"]:
    """Mean length of the joints' second differences over time, metres per frame^2.

    Two frames or one have none and give 0: their first differences are motion, not a lack of smoothness.
    """
    bend = joints_m[:, 2:] - 2 * joints_m[:, 1:-1] + joints_m[:, :-2]
    length = (bend.square().sum(-1) + SMOOTH**2).sqrt() - SMOOTH
    return length.flatten(1).sum(-1) / max(length.shape[1] * length.shape[2], 1)


def foot_contact(feet_m: Float[Tensor, "b t f 3"], contact: Float[Tensor, "b t-1 f"]) -> Float[Tensor, " b"]:
    """Mean way that feet slide while they touch the ground, metres per frame.

    Args:
        feet_m: where they are, in a frame that stands still.
        contact: how surely each foot touches the ground from frame i to i + 1, 0 to 1.
    """
    slide = feet_m[:, 1:] - feet_m[:, :-1]
    length = (slide.square().sum(-1) + SMOOTH**2).sqrt() - SMOOTH
    return weighted_mean(length.flatten(1), contact.flatten(1))
