"""Bodies, rows and small helpers of the motion-capture tests."""

import math

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from aign.evaluation.mocap import BodyEstimate, BodyTruth
from aign.evaluation.report import Provenance
from aign.evaluation.rows import Rows

WHO = Provenance(method="toy", data="random bodies", store_hash="0123abcd" * 8)
CLIP = 5


def rotations(n: int, rng: np.random.Generator, size: float = 0.25) -> torch.Tensor:
    """Poses near the T-pose, upright in a camera whose y points down."""
    rotvec = rng.normal(scale=size, size=(n, 24, 3))
    upright = Rotation.from_rotvec(rng.normal(scale=0.4, size=(n, 3))) * Rotation.from_rotvec([math.pi, 0, 0])
    rotvec[:, 0] = upright.as_rotvec()
    return matrices(rotvec)


def matrices(rotvec: np.ndarray) -> torch.Tensor:
    turned = Rotation.from_rotvec(rotvec.reshape(-1, 3)).as_matrix()
    return torch.from_numpy(turned).float().reshape(*rotvec.shape[:-1], 3, 3)


def truth(n: int = 2 * CLIP, seed: int = 0) -> BodyTruth:
    rng = np.random.default_rng(seed)
    return BodyTruth(
        rotmats=rotations(n, rng),
        betas=torch.from_numpy(rng.normal(size=(n, 10))).float(),
        pelvis_cam_m=torch.from_numpy(rng.normal([0, 0, 4], 0.1, size=(n, 3))).float(),
    )


def estimate(n: int = 2 * CLIP, seed: int = 1) -> BodyEstimate:
    return said(truth(n, seed))


def said(bodies: BodyTruth, **other: torch.Tensor) -> BodyEstimate:
    """The truth as an estimate, with something else in it."""
    return BodyEstimate(**{**vars(bodies), **other})


def rows(n: int = 2 * CLIP, clip: int = CLIP) -> Rows:
    clips = np.arange(n) // clip
    return Rows(
        sequence=np.array([f"walk {c}" for c in clips]),
        subject=np.array(["A"] * n),
        action=np.array(["Walk" if c % 2 == 0 else "Run" for c in clips]),
        camera=np.array(["left"] * n),
        frame=np.arange(n) % clip,
        fps=np.full(n, 30.0),
    )
