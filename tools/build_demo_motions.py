"""Build aign/data/motions/demo_motions.npz from the human clips of pybullet_data.

pip download --no-deps --only-binary :all: -d /tmp/pybullet pybullet==3.2.7
python tools/build_demo_motions.py /tmp/pybullet/pybullet-3.2.7-*.whl
"""

import io
import os
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch

from aign.body.motion import Motion
from aign.data.datasets.motion.deepmimic import read_deepmimic
from aign.data.motions import DEMO_MOTIONS
from aign.geometry.rotation import to_quaternion

PREFIX = "pybullet_data/data/motions/"
NOTICE = "pybullet_data 3.2.7 (zlib licence), retargeted to the 24 SMPL joints; see NOTICE.md"


def read_clips(wheel: Path) -> list[Motion]:
    """The wheel's human clips, by name."""
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        members = [n for n in archive.namelist() if n.startswith((PREFIX + "humanoid3d_", PREFIX + "walker/"))]
        clips = [read_deepmimic(archive.extract(n, folder)) for n in members if n.endswith(".txt")]
    return sorted(clips, key=lambda clip: clip.name)


def save(clips: list[Motion], path: Path) -> None:
    """One npz whose bytes depend on the clips only."""
    quaternions = [to_quaternion(torch.from_numpy(c.rotmats.astype(np.float64))).numpy() for c in clips]
    arrays = {
        "name": np.array([c.name for c in clips]),
        "fps": np.array([c.fps for c in clips], np.float32),
        "start": np.cumsum([0, *(len(c.trans_m) for c in clips)]).astype(np.int64),
        "quat_wxyz": np.concatenate(quaternions).astype(np.float32),
        "trans_m": np.concatenate([c.trans_m for c in clips]),
        "notice": np.array(NOTICE),
    }
    scratch = path.with_suffix(".tmp")
    with zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for key, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            entry = zipfile.ZipInfo(key + ".npy", (1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, buffer.getvalue(), zipfile.ZIP_DEFLATED, 9)
    os.replace(scratch, path)


def main() -> None:
    """Convert the wheel named on the command line."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python tools/build_demo_motions.py PYBULLET_WHEEL")
    clips = read_clips(Path(sys.argv[1]))
    save(clips, DEMO_MOTIONS)
    frames = sum(len(c.trans_m) for c in clips)
    print(f"{DEMO_MOTIONS}: {len(clips)} clips, {frames} frames, {DEMO_MOTIONS.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
