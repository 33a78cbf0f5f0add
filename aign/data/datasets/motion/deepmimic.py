"""DeepMimic's motion files, as shipped in pybullet_data (humanoid3d_*.txt).

Peng et al., "DeepMimic" (2018). A frame is 44 numbers: duration; root position (3) and rotation (wxyz); chest, neck
(wxyz); right hip (wxyz), right knee (angle), right ankle (wxyz); right shoulder (wxyz), right elbow (angle); the same
for the left side.
"""

import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from aign.body.assets import BodyAssets, load_body
from aign.body.motion import Motion, sample_at
from aign.body.retarget import LIMB_CHILD, SourcePose, retarget
from aign.framework.errors import UserError
from aign.geometry.rotation import from_axis_angle, from_quaternion, to_axis_angle
from aign.geometry.skeleton import SMPL24

WIDTH = 44
LEG_LENGTH_M = 0.421546 + 0.409870  # thigh and shin of DeepMimic's humanoid
# DeepMimic: x forward, y up, z to the right. Ours: x to the left, y up, z forward.
_TO_OURS = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
# Joint, first column, parent, in file order; four columns are a quaternion, one an angle about z.
_CHAIN: tuple[tuple[str, int, int, str], ...] = (
    ("pelvis", 4, 4, ""),
    ("spine2", 8, 4, "pelvis"),
    ("neck", 12, 4, "spine2"),
    ("r_hip", 16, 4, "pelvis"),
    ("r_knee", 20, 1, "r_hip"),
    ("r_ankle", 21, 4, "r_knee"),
    ("r_shoulder", 25, 4, "spine2"),
    ("r_elbow", 29, 1, "r_shoulder"),
    ("l_hip", 30, 4, "pelvis"),
    ("l_knee", 34, 1, "l_hip"),
    ("l_ankle", 35, 4, "l_knee"),
    ("l_shoulder", 39, 4, "spine2"),
    ("l_elbow", 43, 1, "l_shoulder"),
)


def read_deepmimic(path: Path | str, body: BodyAssets | None = None) -> Motion:
    """Read one clip and retarget it to the 24 SMPL joints.

    Args:
        path: A humanoid3d_*.txt file.
        body: The body to retarget to; None is the default body.

    Raises:
        UserError: Not such a file, truncated, of another width, or with numbers that are not finite.
    """
    path = Path(path)
    frames = _frames(path)
    durations = frames[:, 0]
    step = float(np.median(durations))
    if step <= 0 or durations[:-1].min(initial=step) < 0:
        raise UserError(f"{path}: frames last {durations.min()} to {durations.max()} s; positive durations are needed")
    norms = np.stack([np.linalg.norm(frames[:, c : c + 4], axis=1) for _, c, n, _ in _CHAIN if n == 4])
    if np.abs(norms - 1).max() > 0.5:  # the published clips, edited by hand, reach 0.58: normalised like everywhere
        raise UserError(
            f"{path}: a rotation quaternion has length {norms.flat[np.abs(norms - 1).argmax()]:.3g}, about 1 is needed"
        )
    down = np.array([0.0, -1.0, 0.0])  # its rest pose stands with the arms hanging: every limb points down
    rotmats, trans = retarget(
        load_body() if body is None else body,
        SourcePose(
            rot_world=_world(frames),
            limb_rest=dict.fromkeys(LIMB_CHILD, down),
            hip_centre=frames[:, 1:4] @ _TO_OURS.T,
            leg_length=LEG_LENGTH_M,
        ),
    )
    motion = Motion(
        name=path.stem.removeprefix("humanoid3d_"),
        fps=round(1 / step, 2),
        rotmats=rotmats,
        trans_m=trans,
        source=f"DeepMimic clip {path.name}",
        licence="zlib (pybullet_data)",
    )
    return _evenly(motion, durations[:-1], step)


def _evenly(motion: Motion, durations: Float[np.ndarray, " t"], step: float) -> Motion:
    """Close the gaps where a frame lasts longer than the others; humanoid3d_roll has one.

    The last frame's own duration is left out: it means nothing.
    """
    if np.all(np.abs(durations - step) < 0.01 * step):
        return motion
    times = np.concatenate([[0.0], np.cumsum(durations)])
    even = np.arange(int(np.floor(times[-1] / step + 1e-3)) + 1) * step
    return sample_at(motion, np.interp(even, times, np.arange(len(times), dtype=np.float64)), motion.fps)


def _frames(path: Path) -> Float[np.ndarray, "t 44"]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{path}: not a complete DeepMimic file ({error})") from error
    rows = content.get("Frames") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows:
        raise UserError(f"{path}: no 'Frames' list in it; a DeepMimic motion has one")
    widths = {len(row) if isinstance(row, list) else 0 for row in rows}
    if widths != {WIDTH}:
        raise UserError(f"{path}: frames have {sorted(widths)} numbers; the humanoid's have {WIDTH}")
    try:
        frames = np.array(rows, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: a frame holds something other than numbers ({error})") from error
    if not np.isfinite(frames).all():
        frame = int(np.argwhere(~np.isfinite(frames))[0, 0])
        raise UserError(f"{path}: frame {frame} has a number that is not finite")
    return frames


def _world(frames: Float[np.ndarray, "t 44"]) -> dict[int, Float[np.ndarray, "t 3 3"]]:
    """World rotations in our axes, by SMPL joint. DeepMimic's one trunk joint is shared between spine1 and spine2."""
    world: dict[str, Float[np.ndarray, "t 3 3"]] = {}
    for name, column, count, parent in _CHAIN:
        values = torch.from_numpy(frames[:, column : column + count])
        if count == 4:
            local = from_quaternion(values).numpy()
        else:
            local = from_axis_angle(torch.nn.functional.pad(values, (2, 0))).numpy()
        world[name] = world[parent] @ local if parent else local
        if name == "spine2":
            half = from_axis_angle(0.5 * to_axis_angle(torch.from_numpy(local))).numpy()
            world["spine1"] = world["pelvis"] @ half
    turned = {name: _TO_OURS @ rot @ _TO_OURS.T for name, rot in world.items()}
    return {SMPL24.joints.index(name): rot for name, rot in turned.items()}
