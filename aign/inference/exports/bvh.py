"""motion.bvh: the 24 joints as a BVH hierarchy, in centimetres.

BVH has no place for units, axes or comments (readers stop at them), so README.txt beside the file says them.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from aign.inference.captured import CapturedMotion
from aign.inference.exports.rig import BONE_NAMES, continuous, euler_deg, rest_joints_m, shaped_m

ORDER = "ZXY"
"""Rotation channels of every joint: R = Rz Rx Ry, as most files have them."""
_CM = 100.0


def write_bvh(path: Path, captured: CapturedMotion) -> None:
    """Write hierarchy and motion.

    Convention: the rest pose is the T-pose facing +z, y up. The root's offset is zero, so its position channels are
    where the pelvis joint is, whether a reader adds them to the offset or puts them in its place.
    """
    rest = rest_joints_m(captured)
    ends = _end_offsets_m(captured, rest)
    order = _depth_first(captured.body.parents, 0)
    angles = continuous(euler_deg(captured.motion.rotmats, ORDER))[:, order].reshape(len(captured.known), -1)
    rows = np.concatenate((captured.motion.trans_m * _CM, angles), 1)
    lines = ["HIERARCHY", *_joint(0, captured.body.parents, rest, ends)]
    lines += ["MOTION", f"Frames: {len(rows)}", f"Frame Time: {1 / captured.motion.fps:.9f}"]
    lines += [_numbers(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="ascii", newline="\n")


def _depth_first(parents: Sequence[int], joint: int) -> list[int]:
    """The order in which the hierarchy names the joints, and in which each frame lists their channels."""
    below = [child for child, parent in enumerate(parents) if parent == joint]
    return [joint, *(j for child in below for j in _depth_first(parents, child))]


def _joint(
    joint: int, parents: Sequence[int], rest_m: Float[np.ndarray, "24 3"], ends_m: dict[int, Float[np.ndarray, " 3"]]
) -> list[str]:
    root = parents[joint] < 0
    offset = np.zeros(3) if root else rest_m[joint] - rest_m[parents[joint]]
    rotations = " ".join(f"{axis}rotation" for axis in ORDER)
    inside = [
        f"OFFSET {_numbers(offset * _CM)}",
        f"CHANNELS 6 Xposition Yposition Zposition {rotations}" if root else f"CHANNELS 3 {rotations}",
    ]
    if joint in ends_m:
        inside += ["End Site", "{", f"\tOFFSET {_numbers(ends_m[joint] * _CM)}", "}"]
    for child, parent in enumerate(parents):
        if parent == joint:
            inside += _joint(child, parents, rest_m, ends_m)
    return [f"{'ROOT' if root else 'JOINT'} {BONE_NAMES[joint]}", "{", *(f"\t{line}" for line in inside), "}"]


def _end_offsets_m(captured: CapturedMotion, rest_m: Float[np.ndarray, "24 3"]) -> dict[int, Float[np.ndarray, " 3"]]:
    """For each joint without a child, how far the skin that follows it reaches on along its bone."""
    parents, skin, owner = captured.body.parents, shaped_m(captured), captured.body.weights.argmax(1).numpy()
    ends = {}
    for joint in sorted(set(range(len(parents))) - set(parents)):
        bone = rest_m[joint] - rest_m[parents[joint]]
        length = float(np.linalg.norm(bone))
        along = (skin[owner == joint] - rest_m[joint]) @ bone / length
        # A joint whose skin lies behind it, or that has none, still gets a bone that can be seen.
        ends[joint] = bone / length * max(float(along.max(initial=0.0)), 0.2 * length)
    return ends


def _numbers(values: Float[np.ndarray, " n"]) -> str:
    return " ".join(f"{value:.5f}" for value in values)
