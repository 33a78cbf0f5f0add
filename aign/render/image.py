"""P of pictures: a smaller picture by area averages, and a picture with a part left out.

Area averages are how the inputs are made too, so P(truth) is the input exactly; the author code makes inputs with a
bicubic filter and renders with averages (papers.md 1.4).
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

FACTOR = 4
"""Of super-resolution."""


def area_downsample(picture: Float[Tensor, "b c h w"], factor: int = FACTOR) -> Float[Tensor, "b c i j"]:
    """Means of blocks of factor x factor pixels; OpenCV's INTER_AREA at a whole factor.

    Convention: pixel (i, j) of the result covers pixels factor * i ... factor * (i + 1) - 1 of the picture.
    """
    return functional.avg_pool2d(picture, factor)


def area_resize(picture: Float[Tensor, "b c s s"], side_px: int) -> Float[Tensor, "b c t t"]:
    """A square picture shrunk to any smaller side; each pixel is the mean over the area it covers, as INTER_AREA.

    Convention: edges meet edges: pixel i of t covers s / t pixels from i * s / t on.
    """
    source = picture.shape[-1]
    assert side_px <= source, "area averages shrink"
    if source % side_px == 0:
        return area_downsample(picture, source // side_px) if source > side_px else picture
    edges = torch.arange(side_px + 1, dtype=torch.float64) * (source / side_px)
    pixel = torch.arange(source, dtype=torch.float64)
    low = torch.maximum(edges[:-1, None], pixel)
    high = torch.minimum(edges[1:, None], pixel + 1)
    share = ((high - low).clamp_min(0) * (side_px / source)).to(picture)
    return share @ picture @ share.T


def back_projected(
    picture: Float[Tensor, "b c h w"], low: Float[Tensor, "b c i j"], factor: int = FACTOR
) -> Float[Tensor, "b c h w"]:
    """The nearest picture (least squares) whose `area_downsample` is exactly `low`; differentiable.

    Block means are rows of equal weights that share no pixel, so the projection adds each block's own error to all of
    its pixels.
    """
    error = low - area_downsample(picture, factor)
    return picture + functional.interpolate(error, scale_factor=float(factor), mode="nearest")


def masked(picture: Float[Tensor, "b c h w"], keep: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b c h w"]:
    """What is left of a picture: 0 where `keep` is 0."""
    return picture * keep


def composited(
    kept: Float[Tensor, "b c h w"], imagined: Float[Tensor, "b c h w"], keep: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, "b c h w"]:
    """The kept part as it was, the rest imagined: its `masked` is exactly that of `kept`."""
    return kept * keep + imagined * (1 - keep)
