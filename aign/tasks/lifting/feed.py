"""From store columns to batches of observations."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aign.data.loader import ClipLoader
from aign.geometry.camera import Pinhole
from aign.geometry.skeleton import H36M17, Skeleton, convert, convert_confidence
from aign.tasks.lifting.imagination import Imagination
from aign.tasks.lifting.observation import Augmentation, Observation, augment, concatenate, labelled, observe

KEYPOINT_COLUMNS = ("kp2d_px", "kp2d_conf", "intrinsics_px", "distortion")
LABEL_COLUMNS = ("joints_cam_m", "joints_valid")
IMAGINED = 0x1D8E4E27C47D124F
"""Makes another seed of a sample's for what is imagined beside it."""


def to_h36m17(
    kp2d_px: Float[Tensor, "*b j 2"], conf: Float[Tensor, "*b j"], source: Skeleton
) -> tuple[Float[Tensor, "*b 17 2"], Float[Tensor, "*b 17"]]:
    """Keypoints of any joint set as the lifter's; what cannot be made has confidence 0."""
    kp2d, _ = convert(kp2d_px, source, H36M17)
    return kp2d, convert_confidence(conf, source, H36M17)


def labels_h36m17(
    joints_cam_m: Float[Tensor, "b j 3"], valid: Bool[Tensor, "b j"], source: Skeleton
) -> tuple[Float[Tensor, "b 17 3"], Bool[Tensor, "b 17"]]:
    """Labels of any joint set as the lifter's, with what is valid of them."""
    joints, _ = convert(joints_cam_m, source, H36M17)
    return joints, convert_confidence(valid.to(joints.dtype), source, H36M17) > 0


class LiftingFeed:
    """Endless augmented batches: labelled samples, unlabelled ones, whose labels are never read, and imagined ones.

    Args:
        labelled: loader of windows of KEYPOINT_COLUMNS and LABEL_COLUMNS, or None.
        unlabelled: loader of windows of KEYPOINT_COLUMNS alone, or None.
        source: joint set of the store.
        augmentation: random changes.
        device: where batches go.
        imagination: of the memory, and how many of the unlabelled samples (if there are any, else of the labelled) one
            imagined sample is made beside; None: nothing is imagined.
    """

    def __init__(
        self,
        labelled: ClipLoader | None,
        unlabelled: ClipLoader | None,
        source: Skeleton,
        augmentation: Augmentation,
        device: torch.device,
        imagination: tuple[Imagination, int] | None = None,
    ) -> None:
        self._loaders = {
            name: loader for name, loader in (("labelled", labelled), ("unlabelled", unlabelled)) if loader is not None
        }
        assert self._loaders, "a feed needs a loader"
        self._iterators: dict[str, Iterator[dict[str, Tensor]]] = {n: iter(v) for n, v in self._loaders.items()}
        self._source, self._augmentation, self._device = source, augmentation, device
        self._imagination = imagination and (imagination[0].to(device), imagination[1])

    def next(self) -> Observation:
        """The next batch."""
        batches = [
            {name: value.to(self._device, non_blocking=True) for name, value in next(iterator).items()}
            for iterator in self._iterators.values()
        ]
        seen = [self._observe(batch) for batch in batches]
        seeds = [batch["sample_seed"] for batch in batches]
        if self._imagination is not None:
            imagination, every = self._imagination
            # Every n-th sample of each rank: two ranks together imagine what one would.
            beside = Observation(**{name: value[::every] for name, value in vars(seen[-1]).items()})
            seen.append(imagination.like(beside, seeds[-1][::every]))
            seeds.append(seeds[-1][::every] ^ IMAGINED)
        return augment(concatenate(seen), torch.cat(seeds), self._augmentation)

    def _observe(self, batch: Mapping[str, Tensor]) -> Observation:
        kp2d_px, conf = to_h36m17(batch["kp2d_px"], batch["kp2d_conf"], self._source)
        frames = kp2d_px.shape[1]
        seen, rot = observe(kp2d_px, conf, Pinhole.of(batch["intrinsics_px"], batch["distortion"]))
        if "joints_cam_m" in batch:
            middle = {name: batch[name][:, frames // 2] for name in LABEL_COLUMNS}
            joints, valid = labels_h36m17(middle["joints_cam_m"], middle["joints_valid"] > 0, self._source)
            seen = labelled(seen, rot, joints, valid)
        return seen

    def state_dict(self) -> dict[str, Any]:
        """Position of every loader."""
        return {name: loader.state_dict() for name, loader in self._loaders.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to the positions."""
        for name, loader in self._loaders.items():
            loader.load_state_dict(state[name])

    def close(self) -> None:
        """Stop the loaders' threads."""
        for loader in self._loaders.values():
            loader.close()
