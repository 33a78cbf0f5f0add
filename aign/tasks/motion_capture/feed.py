"""From store columns to batches of observations."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from aign.body.assets import BodyAssets
from aign.body.skinning import rest_joints
from aign.data.counter import normal, uniform
from aign.data.decoding import flow_from_64ths
from aign.data.loader import ClipLoader
from aign.geometry.rotation import from_axis_angle
from aign.geometry.skeleton import SMPL24, Skeleton, convert, convert_confidence
from aign.losses.motion import consistent
from aign.losses.silhouette import distance_maps
from aign.tasks.motion_capture.observation import (
    KEYPOINTS,
    MIRRORED,
    Evidence,
    Labels,
    Observation,
    concatenate,
    shown,
)

PICTURE_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "frames": ("image_jpeg", "crop_xyxy_px", "frame_size_px", "frame_intrinsics_px"),
    "keypoints": ("kp2d_px", "kp2d_conf"),
}
"""What every observation is made of."""
BODY_COLUMNS: Mapping[str, tuple[str, ...]] = {"body": ("body_pose_rad", "betas", "body_trans_cam_m")}
EVIDENCE_COLUMNS: Mapping[str, tuple[str, ...]] = {
    **{"masks": ("mask_png",), "flow": ("flow_zst",), "flow_back": ("flow_back_zst",)}
}
EVIDENCE_TENSORS = {"mask", "flow_64th_px", "flow_back_64th_px"}
MARGIN = 1.25
"""The crop's side over the longer side of the box round the keypoints."""
MIN_SIDE_PX = 16.0


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of what the encoder sees; what renders are held to stays as it was.

    Attributes:
        flip: probability that the crop is mirrored.
        roll_deg: the crop is turned by up to this angle, either way.
        zoom: the crop is up to this much larger or smaller (natural logarithm).
        shift: its middle moves by up to this share of half its side.
        light: standard deviation of the gain of each colour channel and of the brightness.
        drop: probability that a keypoint is hidden.
        noise: standard deviation of noise on the keypoints, crop units.
        patch: probability that a square of the picture is grey: something stands in the way.
    """

    flip: float = 0.5
    roll_deg: float = 30.0
    zoom: float = 0.15
    shift: float = 0.15
    light: float = 0.3
    drop: float = 0.05
    noise: float = 0.01
    patch: float = 0.3


STILL = Augmentation(flip=0.0, roll_deg=0.0, zoom=0.0, shift=0.0, light=0.0, drop=0.0, noise=0.0, patch=0.0)
"""No change: what a model is tested and used on."""


def observe(
    batch: Mapping[str, Tensor], source: Skeleton, side_px: int, body: BodyAssets, how: Augmentation = STILL
) -> Observation:
    """Windows of a store as observations.

    Args:
        batch: PICTURE_COLUMNS, and BODY_COLUMNS or EVIDENCE_COLUMNS where there are such, as the loader decodes them.
        source: joint set of the store.
        side_px: of the encoder's picture.
        body: whose pelvis the labels' translation is told of.
        how: random changes, by `sample_seed`.
    """
    kp_px, conf = keypoints_in_frame(batch, source)
    seed = batch["sample_seed"]
    crop = _jittered(person_square(kp_px, conf), seed, how)
    half = 0.5 * (crop[:, 2] - crop[:, 0])
    middle = 0.5 * (crop[:, :2] + crop[:, 2:])
    draw = uniform(seed, 2, purpose=15).to(crop.dtype)
    roll, mirrored = (2 * draw[:, 0] - 1) * math.radians(how.roll_deg), draw[:, 1] < how.flip
    inside = shown((kp_px - middle[:, None, None]) / half[:, None, None, None], roll, mirrored)
    swap = mirrored[:, None, None]
    inside = torch.where(swap.unsqueeze(-1), inside[:, :, list(MIRRORED)], inside)
    given, given_conf = _disturbed(inside, torch.where(swap, conf[:, :, list(MIRRORED)], conf), seed, how)
    image = _lit(_cropped(batch["image_rgb"], crop, roll, mirrored, side_px), seed, how)
    return Observation(
        image=image,
        kp2d=given,
        conf=given_conf,
        target_px=kp_px,
        target_conf=conf,
        intrinsics_px=batch["frame_intrinsics_px"],
        crop_xyxy_px=crop,
        roll_rad=roll,
        mirrored=mirrored,
        labels=_labels(batch, body, len(kp_px), kp_px.shape[1]),
        evidence=_evidence(batch) if batch.keys() >= EVIDENCE_TENSORS else None,
    )


def keypoints_in_frame(
    batch: Mapping[str, Tensor], source: Skeleton
) -> tuple[Float[Tensor, "b t k 2"], Float[Tensor, "b t k"]]:
    """`KEYPOINTS` in the stored picture's pixels; the store has them in those of the video it was cut from."""
    kp2d, _ = convert(batch["kp2d_px"], source, SMPL24)
    conf = convert_confidence(batch["kp2d_conf"], source, SMPL24)
    kp2d, conf = kp2d[:, :, list(KEYPOINTS)], conf[:, :, list(KEYPOINTS)]
    crop = batch["crop_xyxy_px"]
    scale = batch["frame_size_px"].to(crop.dtype) / (crop[:, 2:] - crop[:, :2])
    inside = (kp2d - crop[:, None, None, :2]) * scale[:, None, None] - 0.5
    return torch.where((conf > 0).unsqueeze(-1), inside, torch.zeros_like(inside)), conf


def person_square(kp_px: Float[Tensor, "b t k 2"], conf: Float[Tensor, "b t k"]) -> Float[Tensor, "b 4"]:
    """One square round the keypoints of all frames, edges; round the picture's corner where there are none."""
    there, far = (conf > 0).unsqueeze(-1), torch.finfo(kp_px.dtype).max
    low = kp_px.masked_fill(~there, far).flatten(1, 2).amin(1)
    high = kp_px.masked_fill(~there, -far).flatten(1, 2).amax(1)
    nobody = ~there.flatten(1).any(1, keepdim=True)
    low, high = low.masked_fill(nobody, 0), high.masked_fill(nobody, 0)
    half = (0.5 * MARGIN * (high - low).amax(1, keepdim=True)).clamp_min(MIN_SIDE_PX / 2)
    middle = 0.5 * (low + high)
    return torch.cat((middle - half, middle + half), 1)


def _jittered(square: Float[Tensor, "b 4"], seed: Int64[Tensor, " b"], how: Augmentation) -> Float[Tensor, "b 4"]:
    draw = 2 * uniform(seed, 3, purpose=10).to(square.dtype) - 1
    half = 0.5 * (square[:, 2:] - square[:, :2])
    middle = square[:, :2] + half + how.shift * half * draw[:, :2]
    half = half * (how.zoom * draw[:, 2:]).exp()
    return torch.cat((middle - half, middle + half), 1)


def _disturbed(
    kp2d: Float[Tensor, "b t k 2"], conf: Float[Tensor, "b t k"], seed: Int64[Tensor, " b"], how: Augmentation
) -> tuple[Float[Tensor, "b t k 2"], Float[Tensor, "b t k"]]:
    """Keypoints as the encoder gets them: those far outside of the crop are not there."""
    b, t, k = conf.shape
    keep = uniform(seed, t * k, purpose=11).reshape(b, t, k) >= how.drop
    given = kp2d + how.noise * normal(seed, 2 * t * k, purpose=12).reshape(b, t, k, 2).to(kp2d.dtype)
    conf = torch.where(keep & (given.abs().amax(-1) < 2), conf, torch.zeros_like(conf))
    return torch.where((conf > 0).unsqueeze(-1), given, torch.zeros_like(given)), conf


def _cropped(
    rgb: UInt8[Tensor, "b t h w 3"],
    crop: Float[Tensor, "b 4"],
    roll_rad: Float[Tensor, " b"],
    mirrored: Bool[Tensor, " b"],
    side_px: int,
) -> Float[Tensor, "b t 3 {side_px} {side_px}"]:
    """The square, turned, mirrored and resized; what lies outside of the picture is grey."""
    t, h, w = rgb.shape[1:4]
    picture = rgb.permute(0, 1, 4, 2, 3).flatten(1, 2).to(crop.dtype) / 255 - 0.5
    step = (torch.arange(side_px, device=crop.device, dtype=crop.dtype) + 0.5) * (2 / side_px) - 1
    across, down = step.expand(len(crop), side_px, -1), step.unsqueeze(1).expand(len(crop), -1, side_px)
    across = torch.where(mirrored[:, None, None], -across, across)
    # The way back from the crop to the picture: turning the other way.
    unturned = shown(torch.stack((across, down), -1), -roll_rad, torch.zeros_like(mirrored))
    half, middle = 0.5 * (crop[:, 2:] - crop[:, :2]), 0.5 * (crop[:, 2:] + crop[:, :2])
    at = middle[:, None, None] + half[:, None, None] * unturned
    # Convention: grid_sample's -1 and 1 (align_corners False) are the outer edges of pixels.
    grid = (at + 0.5) * (2 / at.new_tensor((w, h))) - 1
    seen = functional.grid_sample(picture, grid, mode="bilinear", align_corners=False)
    return (seen + 0.5).reshape(len(rgb), t, 3, side_px, side_px)


def _lit(image: Float[Tensor, "b t 3 s s"], seed: Int64[Tensor, " b"], how: Augmentation) -> Float[Tensor, "b t 3 s s"]:
    """Other light, and now and then a grey square in the way."""
    side = image.shape[-1]
    if how.light:
        draw = normal(seed, 4, purpose=13).to(image.dtype) * how.light
        gain, bright = draw[:, :3].exp()[:, None, :, None, None], draw[:, 3:][..., None, None, None]
        image = (gain * image + bright).clamp(0, 1)
    if how.patch:
        draw = uniform(seed, 4, purpose=14).to(image.dtype)
        edge = torch.arange(side, device=image.device) / side
        size = 0.1 + 0.3 * draw[:, 2:3]
        across, down = ((edge - draw[:, i : i + 1]).abs() < size / 2 for i in (0, 1))
        hidden = (down.unsqueeze(2) & across.unsqueeze(1)) & (draw[:, 3, None, None] < how.patch)
        image = image.masked_fill(hidden[:, None, None], 0.5)
    return image


def _labels(batch: Mapping[str, Tensor], body: BodyAssets, b: int, t: int) -> Labels:
    if "body_pose_rad" not in batch:
        some = batch["frame_intrinsics_px"]
        eye = torch.eye(3, dtype=some.dtype, device=some.device)
        return Labels(
            rotmats=eye.expand(b, t, 24, 3, 3),
            betas=some.new_zeros(b, 10),
            pelvis_cam_m=some.new_zeros(b, t, 3),
            weight=some.new_zeros(b),
        )
    betas = batch["betas"].mean(1)
    rest = rest_joints(body, betas)[:, :1]
    return Labels(
        rotmats=from_axis_angle(batch["body_pose_rad"]),
        betas=betas,
        pelvis_cam_m=batch["body_trans_cam_m"] + rest,
        weight=torch.ones_like(betas[:, 0]),
    )


def _evidence(batch: Mapping[str, Tensor]) -> Evidence:
    mask = batch["mask"]
    distance = distance_maps(mask.flatten(0, 1).cpu().numpy())
    forth, forth_valid = flow_from_64ths(batch["flow_64th_px"][:, :-1])
    back, back_valid = flow_from_64ths(batch["flow_back_64th_px"][:, 1:])
    # Views: u and v stay planes in memory, as what reads them between the pixels wants them.
    forth, back = (flow.permute(0, 1, 3, 4, 2) for flow in (forth, back))
    pairs = mask.shape[0], mask.shape[1] - 1
    ok = consistent(forth.flatten(0, 1), forth_valid.flatten(0, 1), back.flatten(0, 1), back_valid.flatten(0, 1))
    return Evidence(
        mask=mask,
        distance_px=torch.from_numpy(distance).to(mask.device).reshape(mask.shape),
        flow_px=forth,
        flow_ok=ok.reshape(*pairs, *mask.shape[2:]),
    )


class MotionCaptureFeed:
    """Endless batches: labelled windows first, then unlabelled ones with their evidence, whose labels are never read.

    Args:
        labelled: loader of PICTURE_COLUMNS and BODY_COLUMNS with its store's joint set, or None.
        unlabelled: loader of PICTURE_COLUMNS and EVIDENCE_COLUMNS with its store's joint set, or None.
        side_px: of the encoder's picture.
        body: of the labels.
        augmentation: random changes.
        device: where batches go.
    """

    def __init__(
        self,
        labelled: tuple[ClipLoader, Skeleton] | None,
        unlabelled: tuple[ClipLoader, Skeleton] | None,
        side_px: int,
        body: BodyAssets,
        augmentation: Augmentation,
        device: torch.device,
    ) -> None:
        both = {"labelled": labelled, "unlabelled": unlabelled}
        self._loaders = {name: loader for name, loader in both.items() if loader is not None}
        assert self._loaders, "a feed needs a loader"
        self._iterators: dict[str, Iterator[dict[str, Tensor]]] = {n: iter(v[0]) for n, v in self._loaders.items()}
        self._side_px, self._body, self._augmentation, self._device = side_px, body, augmentation, device

    def next(self) -> Observation:
        """The next batch."""
        seen = []
        for name, iterator in self._iterators.items():
            batch = {key: value.to(self._device, non_blocking=True) for key, value in next(iterator).items()}
            seen.append(observe(batch, self._loaders[name][1], self._side_px, self._body, self._augmentation))
        return seen[0] if len(seen) == 1 else concatenate(*seen)

    def state_dict(self) -> dict[str, Any]:
        """Position of every loader."""
        return {name: loader.state_dict() for name, (loader, _) in self._loaders.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to the positions."""
        for name, (loader, _) in self._loaders.items():
            loader.load_state_dict(state[name])

    def close(self) -> None:
        """Stop the loaders' threads."""
        for loader, _ in self._loaders.values():
            loader.close()
