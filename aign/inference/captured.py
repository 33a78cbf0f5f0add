"""One person's motion as it was captured: what files are exported from and pages show."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from aign.body.assets import BodyAssets
from aign.body.motion import Motion


@dataclass(frozen=True, kw_only=True)
class CapturedMotion:
    """A body in every frame from the first to the last in which it was seen.

    Attributes:
        motion: of the body, in a world with y up and the floor at y = 0; finite in every frame.
        betas: shape coefficients of the body model, one shape for the clip.
        body: the model.
        known: frames in which the person was seen; the others are filled between their neighbours.
        contact: whether the left and the right foot stand on the floor.
    """

    motion: Motion
    betas: Float32[np.ndarray, " s"]
    body: BodyAssets
    known: Bool[np.ndarray, " t"]
    contact: Bool[np.ndarray, "t 2"]

    def __post_init__(self) -> None:
        frames = len(self.motion.rotmats)
        assert len(self.known) == len(self.contact) == frames, "every frame is known or not, and stands or not"
        assert np.isfinite(self.motion.rotmats).all(), "gaps are filled"
        assert np.isfinite(self.motion.trans_m).all(), "gaps are filled"
