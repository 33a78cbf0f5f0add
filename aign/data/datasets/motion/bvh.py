"""BVH motion files: any hierarchy is parsed; humanoids with well-known joint names are retargeted to SMPL."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from aign.body.assets import BodyAssets, load_body
from aign.body.motion import Motion
from aign.body.retarget import LIMB_CHILD, SourcePose, retarget
from aign.framework.errors import UserError
from aign.geometry.rotation import from_axis_angle
from aign.geometry.skeleton import SMPL24

_CHANNELS = {f"{axis}{kind}": (kind, "XYZ".index(axis)) for axis in "XYZ" for kind in ("position", "rotation")}


def _both(parts: dict[str, str]) -> dict[str, str]:
    return {f"{side}{part}": f"{side[0]}_{ours}" for side in ("left", "right") for part, ours in parts.items()}


# Joint names without case and punctuation -> ours. The same word means different joints in different files:
# LeftShoulder is the collar bone in CMU's and the shoulder in Biovision's.
_ENDS = {"hips": "pelvis", "head": "head"}
_MAYA = _ENDS | _both(
    {"upleg": "hip", "leg": "knee", "foot": "ankle", "toebase": "foot", "shoulder": "collar", "arm": "shoulder"}
    | {"forearm": "elbow", "hand": "wrist"}
)
_CMU = _MAYA | {"lowerback": "spine1", "spine": "spine2", "spine1": "spine3", "neck1": "neck"}
_MIXAMO = _MAYA | {"spine": "spine1", "spine1": "spine2", "spine2": "spine3", "neck": "neck"}
_BIOVISION = _ENDS | _both(
    {"hip": "hip", "knee": "knee", "ankle": "ankle", "toes": "foot", "collar": "collar", "shoulder": "shoulder"}
    | {"elbow": "elbow", "wrist": "wrist"}
)
_BIOVISION |= {"ab": "spine1", "abdomen": "spine1", "chest": "spine2", "chest2": "spine3", "neck": "neck"}


@dataclass(frozen=True, kw_only=True)
class BvhJoint:
    """A joint.

    Attributes:
        name: As in the file.
        parent: Index of the parent, -1 at the root.
        offset: Rest offset from the parent.
        channels: (kind, axis, column of the frame) of each channel, in order.
    """

    name: str
    parent: int
    offset: Float[np.ndarray, " 3"]
    channels: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, kw_only=True)
class Bvh:
    """A parsed file in its own units and axes: parents come before children, end sites are named `<parent>_end`."""

    joints: tuple[BvhJoint, ...]
    frames: Float[np.ndarray, "t c"]
    frame_time_s: float


def parse_bvh(path: Path | str) -> Bvh:
    """Parse a BVH file.

    Raises:
        UserError: Not BVH, truncated, or with numbers that are not finite.
    """
    path = Path(path)
    try:
        tokens = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error})") from error
    if not tokens or tokens[0].upper() != "HIERARCHY" or "MOTION" not in tokens:
        raise UserError(f"{path}: not a complete BVH file; HIERARCHY and MOTION sections are needed")
    split = tokens.index("MOTION")
    try:
        joints = _hierarchy(tokens[1:split])
        head, numbers = tokens[split + 1 : split + 6], tokens[split + 6 :]
        if [head[0], *head[2:4]] != ["Frames:", "Frame", "Time:"]:
            raise ValueError("MOTION must start with 'Frames: N' and 'Frame Time: seconds'")
        count, step = int(head[1]), float(head[4])
        values = np.array(numbers, dtype=np.float64)
    except (ValueError, IndexError) as error:
        raise UserError(f"{path}: not a well-formed BVH file ({error})") from error
    width = sum(len(j.channels) for j in joints)
    surplus = values.size - count * width
    if count <= 0 or width == 0 or surplus < 0 or surplus % width:
        raise UserError(
            f"{path}: {values.size} motion values, {count} frames x {width} channels = {count * width} are needed"
        )
    if not np.isfinite(values).all():
        raise UserError(
            f"{path}: frame {int(np.argwhere(~np.isfinite(values))[0, 0]) // width} has a number that is not finite"
        )
    if not (np.isfinite(step) and step > 0):
        raise UserError(f"{path}: frame time is {step} s; a positive number is needed")
    # Some exporters write one frame more than they announce: the announced ones are read.
    return Bvh(joints=joints, frames=values[: count * width].reshape(count, width), frame_time_s=step)


def _hierarchy(tokens: list[str]) -> tuple[BvhJoint, ...]:
    joints: list[BvhJoint] = []
    open_joints: list[int] = []
    name, offset, column, at = "", np.zeros(3), 0, 0
    channels: tuple[tuple[str, int, int], ...] = ()
    pending = False
    while at < len(tokens):
        word = tokens[at]
        if word in {"ROOT", "JOINT"} or (word == "End" and tokens[at + 1] == "Site"):
            if pending:
                joints.append(BvhJoint(name=name, parent=_parent(open_joints), offset=offset, channels=channels))
                open_joints.append(len(joints) - 1)
            elif word == "ROOT" and joints:
                raise ValueError("a second ROOT")
            name = tokens[at + 1] if word != "End" else f"{joints[open_joints[-1]].name}_end"
            offset, channels, pending = np.zeros(3), (), True
            at += 2
        elif word == "{":
            at += 1
        elif word == "OFFSET":
            offset = np.array([float(t) for t in tokens[at + 1 : at + 4]])
            at += 4
        elif word == "CHANNELS":
            count = int(tokens[at + 1])
            channels = tuple((*_channel(t), column + i) for i, t in enumerate(tokens[at + 2 : at + 2 + count]))
            column += count
            at += 2 + count
        elif word == "}":
            if pending:
                joints.append(BvhJoint(name=name, parent=_parent(open_joints), offset=offset, channels=channels))
                pending = False
            else:
                open_joints.pop()
            at += 1
        else:
            raise ValueError(f"unexpected {word!r} in HIERARCHY")
    if pending or open_joints or not joints:
        raise ValueError("a joint is not closed with '}'")
    return tuple(joints)


def _parent(open_joints: list[int]) -> int:
    return open_joints[-1] if open_joints else -1


def _channel(word: str) -> tuple[str, int]:
    if word not in _CHANNELS:
        raise ValueError(f"unknown channel {word!r}")
    return _CHANNELS[word]


def bvh_world(bvh: Bvh) -> tuple[Float[np.ndarray, "t j 3 3"], Float[np.ndarray, "t j 3"]]:
    """World rotation and position of every joint, in the file's units and axes.

    Convention: rotation channels multiply left to right (local = R_first @ R_second @ R_third), as in the format's
    definition.
    """
    frames = len(bvh.frames)
    rotations = np.empty((frames, len(bvh.joints), 3, 3))
    positions = np.empty((frames, len(bvh.joints), 3))
    for i, joint in enumerate(bvh.joints):
        local = np.broadcast_to(np.eye(3), (frames, 3, 3))
        offset = np.tile(joint.offset, (frames, 1))
        for kind, axis, column in joint.channels:
            if kind == "position":
                offset[:, axis] = bvh.frames[:, column]
            else:
                turn = np.radians(bvh.frames[:, column])[:, None] * np.eye(3)[axis]
                local = local @ from_axis_angle(torch.from_numpy(turn)).numpy()
        if joint.parent < 0:
            rotations[:, i], positions[:, i] = local, offset
        else:
            above = rotations[:, joint.parent]
            rotations[:, i] = above @ local
            positions[:, i] = positions[:, joint.parent] + np.einsum("tij,tj->ti", above, offset)
    return rotations, positions


def read_bvh(path: Path | str, body: BodyAssets | None = None) -> Motion:
    """Read a humanoid BVH file and retarget it to the 24 SMPL joints.

    The joints are found by name (CMU, Mixamo, Biovision), the axes from the rest skeleton (hips to head is up, right to
    left hip is left), the unit from its leg length. A first frame with nearly all joints at exactly zero is the T-pose
    that converters put there, and is dropped.

    Args:
        path: The file.
        body: The body to retarget to; None is the default body.

    Raises:
        UserError: Not a well-formed BVH file, or one whose joints are not those of a person.
    """
    path = Path(path)
    bvh = parse_bvh(path)
    ours = _counterparts(bvh, path)
    rest = np.zeros((len(bvh.joints), 3))
    for i, joint in enumerate(bvh.joints):
        if joint.parent >= 0:
            rest[i] = rest[joint.parent] + joint.offset
    points = {j: rest[i] for j, i in ours.items()}
    axes = _axes(points, path)
    rotations, positions = bvh_world(bvh)
    if _starts_at_rest(bvh):
        rotations, positions = rotations[1:], positions[1:]
    hips = [ours[SMPL24.joints.index(f"{s}_hip")] for s in "lr"]
    limbs = {j: axes @ (points[child] - points[j]) for j, child in LIMB_CHILD.items()}
    legs = [np.linalg.norm(limbs[j]) for j in LIMB_CHILD if SMPL24.joints[j][2:] in {"hip", "knee"}]
    if min(float(np.linalg.norm(v)) for v in limbs.values()) < 1e-6 * sum(legs):
        raise UserError(f"{path}: a limb has no length in the rest pose")
    rotmats, trans = retarget(
        load_body() if body is None else body,
        SourcePose(
            rot_world={j: axes @ rotations[:, i] @ axes.T for j, i in ours.items()},
            limb_rest=limbs,
            hip_centre=positions[:, hips].mean(1) @ axes.T,
            leg_length=float(sum(legs) / 2),
        ),
    )
    return Motion(
        name=path.stem,
        fps=round(1 / bvh.frame_time_s, 2),
        rotmats=rotmats,
        trans_m=trans,
        source=f"BVH file {path.name}",
        licence="as the file",
    )


def _counterparts(bvh: Bvh, path: Path) -> dict[int, int]:
    """SMPL joint -> index of the file's joint, by name."""
    plain = [re.sub(r"[^a-z0-9]", "", j.name.rsplit(":", 1)[-1].lower()) for j in bvh.joints]
    names = _BIOVISION if "leftknee" in plain else _CMU if "lowerback" in plain else _MIXAMO
    found = {SMPL24.joints.index(names[p]): i for i, p in enumerate(plain) if p in names}
    lacking = [j for j in (0, SMPL24.joints.index("head"), *LIMB_CHILD, *LIMB_CHILD.values()) if j not in found]
    if lacking:
        want = {SMPL24.joints.index(o): n for n, o in names.items()}
        raise UserError(
            f"{path}: no joint named {', '.join(dict.fromkeys(want[j] for j in lacking))} "
            f"(got {', '.join(j.name for j in bvh.joints[:40])}); CMU's, Mixamo's or Biovision's names are needed"
        )
    return found


def _axes(points: dict[int, Float[np.ndarray, " 3"]], path: Path) -> Float[np.ndarray, "3 3"]:
    """Rotation from the file's axes to ours, along whole axes: a rest skeleton is never quite straight."""

    def nearest(vector: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " 3"]:
        axis = int(np.abs(vector).argmax())
        unit: Float[np.ndarray, " 3"] = np.eye(3)[axis] * np.sign(vector[axis])
        return unit

    index = SMPL24.joints.index
    left = nearest(points[index("l_hip")] - points[index("r_hip")])
    up = nearest(points[index("head")] - points[0])
    if abs(left @ up) > 0 or not left.any() or not up.any():
        raise UserError(f"{path}: the rest skeleton does not stand upright; left and up cannot be told")
    return np.stack([left, up, np.cross(left, up)])


def _starts_at_rest(bvh: Bvh) -> bool:
    """Whether frame 0 is a converter's T-pose: nearly all joints at exactly zero there, and no longer in frame 1.

    CMU's conversion turns only hips and shoulders in that frame, by whole degrees, to bring the limbs into place.
    """
    if len(bvh.frames) < 2:
        return False
    turning = [[c for kind, _, c in j.channels if kind == "rotation"] for j in bvh.joints]
    at_zero = [[bool(np.abs(frame[c]).max() < 1e-6) for c in turning if c] for frame in bvh.frames[:2]]
    return bool(np.mean(at_zero[0]) > 0.75 and np.mean(at_zero[1]) < 0.5)
