"""A temporal network for short clips of keypoints: three frames become one until one is left."""

from jaxtyping import Float
from torch import Tensor, nn

from aign.framework.errors import UserError

FRAMES = (3, 9, 27, 81, 243)


class _Third(nn.Module):
    """Three neighbouring frames to one: a strided convolution as one matrix product, added to the middle frame."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.body = nn.Sequential(nn.Linear(3 * width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x: Float[Tensor, "b t w"]) -> Float[Tensor, "b s w"]:
        b, t, w = x.shape
        y: Tensor = self.body(self.norm(x).reshape(b, t // 3, 3 * w))
        return x[:, 1::3] + y


class TemporalTrunk(nn.Module):
    """Features of the middle one of t frames (Pavllo et al., CVPR 2019, strided form; LayerNorm in place of BatchNorm).

    Args:
        inputs: numbers per frame.
        width: of the features.
        frames: t, one of FRAMES.

    Raises:
        UserError: another number of frames.
    """

    def __init__(self, inputs: int, width: int, frames: int) -> None:
        super().__init__()
        if frames not in FRAMES:
            raise UserError(f"a temporal network sees 3, 9, 27, 81 or 243 frames; got {frames}")
        self.first = nn.Linear(inputs, width)
        self.body = nn.Sequential(*(_Third(width) for _ in range(FRAMES.index(frames) + 1)), nn.LayerNorm(width))

    def forward(self, x: Float[Tensor, "b t i"]) -> Float[Tensor, "b w"]:
        """Features of the middle frame."""
        y: Tensor = self.body(self.first(x))
        return y.squeeze(1)
