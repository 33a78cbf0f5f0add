"""The motion clips that come with the package: 20 clips of pybullet_data on the 24 SMPL joints (see NOTICE.md)."""

from functools import cache
from pathlib import Path

import numpy as np
import torch

from aign.body.motion import Motion
from aign.geometry.rotation import from_quaternion

DEMO_MOTIONS = Path(__file__).parent / "demo_motions.npz"


@cache
def load_demo_motions() -> tuple[Motion, ...]:
    """All 20 clips, in the order of their names.

    The file (made by tools/build_demo_motions.py) holds the clips one after the other: `name` [n], `fps` [n], `start`
    [n + 1], `quat_wxyz` [t, 24, 4], `trans_m` [t, 3], `notice`.
    """
    with np.load(DEMO_MOTIONS, allow_pickle=False) as file:
        content = {key: file[key] for key in file.files}
    rotmats = from_quaternion(torch.from_numpy(content["quat_wxyz"].astype(np.float64))).numpy().astype(np.float32)
    spans = zip(content["start"][:-1], content["start"][1:], strict=True)
    return tuple(
        Motion(
            name=str(name),
            fps=float(fps),
            rotmats=rotmats[begin:end],
            trans_m=content["trans_m"][begin:end],
            source=f"pybullet_data {name}",
            licence="zlib (pybullet_data)",
        )
        for name, fps, (begin, end) in zip(content["name"], content["fps"], spans, strict=True)
    )
