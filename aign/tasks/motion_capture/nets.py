"""G of motion capture: pictures and keypoint heatmaps to an SMPL-format body in the camera."""

import copy
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aign.framework.errors import UserError
from aign.geometry.rotation import from_6d
from aign.nets.conv import LEAST_SIDE, ImageTrunk
from aign.nets.mlp import ResidualTrunk
from aign.render.keypoints import gaussian_heatmaps
from aign.tasks.motion_capture.factors import BodyFactors, mirrored
from aign.tasks.motion_capture.observation import KEYPOINTS, Observation

HeadKind: TypeAlias = Literal["iterative", "direct"]
NUM_BETAS = 10
ROTATIONS = 24 * 6
NUMBERS = ROTATIONS + NUM_BETAS + 3
ITERATIONS = 3
MIXINGS = 2
LEAST_CONTRAST = 0.02
"""Added to the standard deviation of a picture, whose values are 0..1: noise is not blown up."""
MAX_FRAMES = 64
NOMINAL_HALF_HEIGHT_M = 0.85
"""Half of a person: the depth where that fills the crop is the first guess of the distance."""
CAMERA_INPUTS = 3
"""Where the crop's middle is seen, and how wide the crop: what the crop alone does not tell of perspective."""
SIDES = tuple(LEAST_SIDE * 2**n for n in range(3, 7))


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The generator.

    Attributes:
        side_px: of the crop that it sees: 32, 64, 128 or 256.
        channels: of the first convolution; a multiple of 8.
        width: of the features.
        head: "iterative" corrects the mean pose three times (HMR, Kanazawa et al., CVPR 2018), "direct" once.
        frames: of a window that see each other's features; 1: each frame is on its own, in windows of any length.
        picture: whether it sees the picture; else the keypoints alone.
    """

    side_px: int = 128
    channels: int = 16
    width: int = 512
    head: HeadKind = "iterative"
    frames: int = 1
    picture: bool = True

    def __post_init__(self) -> None:
        if self.side_px not in SIDES:
            raise UserError(f"a crop of {self.side_px} px; allowed are {', '.join(map(str, SIDES))}")
        if self.channels < 8 or self.channels % 8:
            raise UserError(f"{self.channels} channels; allowed are multiples of 8")
        if not 1 <= self.frames <= MAX_FRAMES:
            raise UserError(f"{self.frames} frames that see each other; allowed are 1 to {MAX_FRAMES}")


class IterativeHead(nn.Module):
    """Corrects its own answer, beginning at the mean pose."""

    mean: Tensor

    def __init__(self, mean: Float[Tensor, " n"], width: int) -> None:
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.first = ResidualTrunk(width + NUMBERS, width, 1)
        self.last = _small(width)

    def forward(self, features: Float[Tensor, "n w"]) -> Float[Tensor, "n m"]:
        """Numbers."""
        numbers = self.mean.expand(len(features), -1)
        for _ in range(ITERATIONS):
            numbers = numbers + self.last(self.first(torch.cat((features, numbers), 1)))
        return numbers


class DirectHead(nn.Module):
    """The mean pose and one correction."""

    mean: Tensor

    def __init__(self, mean: Float[Tensor, " n"], width: int) -> None:
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.first = ResidualTrunk(width, width, 1)
        self.last = _small(width)

    def forward(self, features: Float[Tensor, "n w"]) -> Float[Tensor, "n m"]:
        """Numbers."""
        numbers: Tensor = self.mean + self.last(self.first(features))
        return numbers


HEADS: dict[HeadKind, type[IterativeHead] | type[DirectHead]] = {"iterative": IterativeHead, "direct": DirectHead}


def _small(width: int) -> nn.Linear:
    """A last layer that starts small, so that the first answer is the mean."""
    layer = nn.Linear(width, NUMBERS)
    nn.init.normal_(layer.weight, std=0.003)
    nn.init.zeros_(layer.bias)
    return layer


class FrameMixing(nn.Module):
    """Each frame's features, corrected by those of the frames beside it; beyond an end stands the frame itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        last = nn.Linear(width, width)
        nn.init.zeros_(last.weight)
        self.body = nn.Sequential(nn.Linear(3 * width, width), nn.GELU(), last)

    def forward(self, x: Float[Tensor, "b t w"]) -> Float[Tensor, "b t w"]:
        """Features."""
        y = self.norm(x)
        before, after = torch.cat((y[:, :1], y[:, :-1]), 1), torch.cat((y[:, 1:], y[:, -1:]), 1)
        mixed: Tensor = self.body(torch.cat((before, y, after), 2))
        return x + mixed


class Encoder(nn.Module):
    """G: one trunk for all frames, then what they see of each other, then a head.

    Args:
        config: sizes and kinds.
        mean_6d: the mean pose, 6 numbers a joint, the first the orientation in the camera that looks at the person.
    """

    def __init__(self, config: EncoderConfig, mean_6d: Float[Tensor, "24 6"]) -> None:
        super().__init__()
        self.config = config
        extras = 3 * len(KEYPOINTS) + CAMERA_INPUTS
        self.trunk: nn.Module = (
            ImageTrunk(len(KEYPOINTS), extras, config.width, config.side_px, config.channels)
            if config.picture
            else ResidualTrunk(extras, config.width, 2)
        )
        self.mixing = nn.ModuleList([FrameMixing(config.width) for _ in range(MIXINGS if config.frames > 1 else 0)])
        mean = torch.cat((mean_6d.flatten(), mean_6d.new_zeros(NUM_BETAS + 3)))
        self.head = HEADS[config.head](mean, config.width)

    def forward(self, seen: Observation) -> BodyFactors:
        """Factors of each window."""
        b, t = seen.conf.shape[:2]
        assert self.config.frames in (1, t), f"an encoder of {self.config.frames} frames got {t}"
        features = self._features(seen).reshape(b, t, -1)
        for mixing in self.mixing:
            features = mixing(features)
        numbers = self.head(features.flatten(0, 1)).reshape(b, t, NUMBERS)
        rotmats = from_6d(numbers[..., :ROTATIONS].reshape(b, t, 24, 6))
        betas = numbers[..., ROTATIONS : ROTATIONS + NUM_BETAS].mean(1)
        pelvis = _place(numbers[..., -3:], seen.half_extent.unsqueeze(1))
        swap = seen.mirrored[:, None, None]
        rotmats = torch.where(swap[..., None, None], mirrored(rotmats), rotmats)
        pelvis = torch.where(swap, pelvis * pelvis.new_tensor((-1.0, 1.0, 1.0)), pelvis)
        to_cam = seen.rot_crop_to_cam.unsqueeze(1)
        rotmats = torch.cat(((to_cam @ rotmats[:, :, 0]).unsqueeze(2), rotmats[:, :, 1:]), 2)
        return BodyFactors(rotmats=rotmats, betas=betas, pelvis_cam_m=(to_cam @ pelvis.unsqueeze(-1)).squeeze(-1))

    def _features(self, seen: Observation) -> Float[Tensor, "n w"]:
        t = seen.conf.shape[1]
        kp2d, conf = seen.kp2d.flatten(0, 1), seen.conf.flatten(0, 1)
        lens = torch.cat((seen.as_shown(seen.centre_ray), seen.half_extent.log().unsqueeze(1)), 1).repeat_interleave(
            t, 0
        )
        extras = torch.cat((kp2d.flatten(1), conf, lens), 1)
        if not self.config.picture:
            return self.trunk(extras)  # type: ignore[no-any-return]
        maps = gaussian_heatmaps(kp2d, conf, self.config.side_px // 2)
        return self.trunk(_even(seen.image.flatten(0, 1)), maps, extras)  # type: ignore[no-any-return]


def _even(image: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n 3 s s"]:
    """Pictures of the same mean and contrast, however dark they were."""
    centred = image - image.mean((1, 2, 3), keepdim=True)
    # torch.std takes seven times as long on a CPU.
    std = (centred.square().sum((1, 2, 3), keepdim=True) / (image[0].numel() - 1)).sqrt()
    return centred / (std + LEAST_CONTRAST)


def _place(raw: Float[Tensor, "b t 3"], half_extent: Float[Tensor, "b 1"]) -> Float[Tensor, "b t 3"]:
    """The pelvis in the camera that looks at the crop's middle: shift in crop units (2) and log depth (1)."""
    depth = NOMINAL_HALF_HEIGHT_M / half_extent * raw[..., 2].clamp(-2.0, 2.0).exp()
    return torch.cat((raw[..., :2] * (half_extent * depth).unsqueeze(-1), depth.unsqueeze(-1)), -1)


def upright(mean_6d: Float[Tensor, "24 6"]) -> Float[Tensor, "24 6"]:
    """The same pose facing a level camera: bodies are y up, cameras y down."""
    facing = mean_6d.new_tensor((1.0, 0, 0, 0, -1, 0))
    return torch.cat((facing.unsqueeze(0), mean_6d[1:]))


class Pupil(nn.Module):
    """An encoder and its teacher: the average of what it has been, which moves on with every training step.

    Args:
        net: the encoder.
        decay: of the average.
    """

    def __init__(self, net: Encoder, decay: float) -> None:
        super().__init__()
        self.net, self.decay = net, decay
        self.teacher = copy.deepcopy(net).requires_grad_(False)

    def forward(self, seen: Observation) -> BodyFactors:
        """Factors by the encoder."""
        if self.training and torch.is_grad_enabled():
            with torch.no_grad():
                for mine, its in zip(self.teacher.parameters(), self.net.parameters(), strict=True):
                    mine.lerp_(its, 1 - self.decay)
        factors: BodyFactors = self.net(seen)
        return factors

    @torch.no_grad()
    def teach(self, seen: Observation) -> BodyFactors:
        """Factors by the teacher."""
        factors: BodyFactors = self.teacher(seen)
        return factors


def encoder_of(net: nn.Module) -> Encoder:
    """The encoder itself."""
    bare = net.net if isinstance(net, Pupil) else net
    assert isinstance(bare, Encoder), "motion capture's generator"
    return bare
