"""Distances of pictures, one value per sample."""

from jaxtyping import Float
from torch import Tensor


def mean_square(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Mean squared difference over pixels and channels."""
    return (a - b).square().flatten(1).mean(1)


def masked_mean_square(
    a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"], weight: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, " b"]:
    """Mean squared difference over the pixels that count, and the channels; 0 with a gradient where none counts."""
    squared = ((a - b).square() * weight).flatten(1).sum(1)
    return squared / (a.shape[1] * weight.flatten(1).sum(1)).clamp_min(1)
