"""Two published forms of the segmentation term, for comparison with `aign.losses.silhouette.two_sided`.

Both compare two pictures, that of the mask (I) and that of the model (M), made of each pixel's distance to the nearest
of ALL projected vertices: nothing is drawn and nothing is hidden, so a pixel inside of the body but half a pixel or
more from every vertex counts as background. Source: papers.md 2.5 and 2.10.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aign.losses.silhouette import distance_maps, nearest_distances

RELEASED_SIDE = 64
RELEASED_ALPHA = 0.5


def product_form(points_px: Float[Tensor, "n v 2"], mask: Bool[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """The paper's S^M (x) C^I + S^I (x) C^M, mean over the mask's pixels; in pixels.

    With D the distance to the nearest vertex: C^M = max(.5, D), S^M = min(.5, D) + .5 where D < .5, else .5 alone.
    C^I is the distance to the mask and S^I the mask. As published its least value is not 0: C^M and S^M never fall
    below a half; and S^M GROWS with D up to D = .5, so that S^M (x) C^I draws a vertex outside of the mask to the
    centre of the pixel it is in and not to the mask.
    """
    distance, to_mask = _maps(points_px, mask)
    occupied = distance.clamp_max(0.5) + 0.5 * (distance < 0.5)
    return (occupied * to_mask + mask * distance.clamp_min(0.5)).flatten(1).mean(-1)


def as_released(points_px: Float[Tensor, "n v 2"], mask: Bool[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """What the published program computes, of one frame: mean((a S^M C^I + (1 - a) S^I C^M)^2), a = 0.5, on 64 x 64.

    C^M = D where D > .51, else 0; S^M = D + .5 where D < .5, else 0: the same wrong slope as in the paper's form, now
    with a jump to 0 at its end. A pixel of the small mask is set where any under it is (its resizing did that). Differs
    from the program in one thing: that took C^I from a random quarter of the mask, here all of it counts.

    The program's weight for this term is 1e-19, that is, it is off. Not in pixels but their square, at 64 px.
    """
    height, width = mask.shape[1:]
    small = torch.nn.functional.adaptive_max_pool2d(mask.float(), RELEASED_SIDE) > 0
    scale = points_px.new_tensor((RELEASED_SIDE / width, RELEASED_SIDE / height))
    distance, to_mask = _maps((points_px + 0.5) * scale - 0.5, small)
    occupied = torch.where(distance < 0.5, distance + 0.5, torch.zeros_like(distance))
    empty = torch.where(distance > 0.51, distance, torch.zeros_like(distance))
    mixed = RELEASED_ALPHA * occupied * to_mask + (1 - RELEASED_ALPHA) * small * empty
    return mixed.square().flatten(1).mean(-1)


def _maps(
    points_px: Float[Tensor, "n v 2"], mask: Bool[Tensor, "n h w"]
) -> tuple[Float[Tensor, "n h w"], Float[Tensor, "n h w"]]:
    """Distance of every pixel to the nearest vertex (differentiable) and to the mask."""
    n, height, width = mask.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels_px = torch.stack((x, y), -1).to(points_px).flatten(0, 1).expand(n, -1, 2)
    everyone = torch.ones(points_px.shape[:2], dtype=torch.bool, device=points_px.device)
    distance = nearest_distances(pixels_px, points_px, everyone).view(n, height, width)
    return distance, torch.from_numpy(distance_maps(mask.cpu().numpy())).to(points_px)
