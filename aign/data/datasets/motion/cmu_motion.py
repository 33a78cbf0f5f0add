"""Motions of CMU's database in its own files: subjects/01/01.asf, 01_01.amc and so on (mocap.cs.cmu.edu)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from aign.body.assets import BodyAssets, load_body
from aign.body.motion import Motion
from aign.body.retarget import LIMB_CHILD, SourcePose, retarget
from aign.data.datasets.motion.asf_amc import ROOT, asf_world, parse_amc, parse_asf
from aign.framework.errors import UserError
from aign.geometry.skeleton import SMPL24

FPS = 120.0
"""An .amc does not say its rate; CMU's were captured at 120 frames per second, but for some at 60."""
LEG_M = (0.4, 1.4)
"""Hip to ankle of a person, from a child to the tallest."""

# Bone -> the joint it starts at, as in the conversion of these files to BVH (`bvh.py` beside this): the lower neck
# has no counterpart, and the hand turns with the wrist bone.
_SIDE = {"femur": "hip", "tibia": "knee", "foot": "ankle", "toes": "foot"}
_SIDE |= {"clavicle": "collar", "humerus": "shoulder", "radius": "elbow", "wrist": "wrist"}
_JOINTS = {ROOT: "pelvis", "lowerback": "spine1", "upperback": "spine2", "thorax": "spine3"}
_JOINTS |= {"upperneck": "neck", "head": "head"}
_JOINTS |= {f"{side}{bone}": f"{side}_{joint}" for side in "lr" for bone, joint in _SIDE.items()}


def skeleton_file(path: Path) -> Path:
    """The .asf of an .amc: NN.asf for NN_MM.amc, or the only one in its folder.

    Raises:
        UserError: there is none, or it cannot be told which.
    """
    named = path.with_name(f"{path.stem.split('_')[0]}.asf")
    if named.is_file():
        return named
    there = sorted(p for p in path.parent.glob("*") if p.suffix.lower() == ".asf")
    if len(there) != 1:
        names = ", ".join(p.name for p in there) or "no .asf"
        raise UserError(f"{path}: no {named.name} beside it, which its motion is of; the folder has {names}")
    return there[0]


def read_amc(path: Path | str, body: BodyAssets | None = None) -> Motion:
    """Read a motion of CMU's skeleton and retarget it to the 24 SMPL joints.

    The rate is taken to be 120 frames per second, which the file does not say.

    Args:
        path: the .amc; its skeleton lies beside it (`skeleton_file`).
        body: the body to retarget to; None is the default body.

    Raises:
        UserError: a file is missing or not well-formed, or the skeleton is not CMU's or of no person's size.
    """
    path = Path(path)
    source = skeleton_file(path)
    asf = parse_asf(source)
    motion = parse_amc(path, asf)
    rest = asf_world(asf, {ROOT: np.zeros((1, len(asf.bones[0].dofs)))})[1][0]
    bones = {SMPL24.joints.index(_JOINTS[b.name]): i for i, b in enumerate(asf.bones) if b.name in _JOINTS}
    lacking = [j for j in (0, SMPL24.joints.index("head"), *LIMB_CHILD, *LIMB_CHILD.values()) if j not in bones]
    if lacking:
        names = {joint: bone for bone, joint in _JOINTS.items()}
        want = ", ".join(dict.fromkeys(names[SMPL24.joints[j]] for j in lacking))
        raise UserError(
            f"{source}: no bone named {want} (got {', '.join(b.name for b in asf.bones)}); CMU's are needed"
        )
    # A joint is where its bone starts: at the end of the bone above.
    start = {j: max(asf.bones[i].parent, 0) for j, i in bones.items()}
    limbs = {j: rest[start[child]] - rest[start[j]] for j, child in LIMB_CHILD.items()}
    leg_m = float(sum(np.linalg.norm(limbs[j]) for j in limbs if SMPL24.joints[j][2:] in {"hip", "knee"}) / 2)
    if min(float(np.linalg.norm(limb)) for limb in limbs.values()) < 1e-6:
        raise UserError(f"{source}: a limb has no length")
    _check_rest(rest, start, leg_m, source)
    rotations, ends = asf_world(asf, motion)
    hips = [start[SMPL24.joints.index(f"{side}_hip")] for side in "lr"]
    rotmats, trans_m = retarget(
        load_body() if body is None else body,
        SourcePose(
            rot_world={j: rotations[:, i] for j, i in bones.items()},
            limb_rest=limbs,
            hip_centre=ends[:, hips].mean(1),
            leg_length=leg_m,
        ),
    )
    return Motion(
        name=path.stem,
        fps=FPS,
        rotmats=rotmats,
        trans_m=trans_m,
        source=f"ASF/AMC files {source.name}, {path.name} ({FPS:g} frames per second assumed)",
        licence="as the file",
    )


def _check_rest(rest_m: Float[np.ndarray, "b 3"], start: Mapping[int, int], leg_m: float, path: Path) -> None:
    """A person of human size who stands upright and faces +z: our axes, which are CMU's."""
    if not LEG_M[0] <= leg_m <= LEG_M[1]:
        raise UserError(f"{path}: legs of {leg_m:.4g} m; {LEG_M[0]:g} to {LEG_M[1]:g} are allowed: is its unit wrong?")
    index = SMPL24.joints.index
    across = rest_m[start[index("l_hip")]] - rest_m[start[index("r_hip")]]
    up = rest_m[start[index("head")]] - rest_m[start[0]]
    if int(np.abs(across).argmax()) != 0 or across[0] <= 0 or int(np.abs(up).argmax()) != 1 or up[1] <= 0:
        raise UserError(f"{path}: the rest skeleton does not stand upright on y with its left at +x, as CMU's do")
