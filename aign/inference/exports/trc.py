"""motion.trc: joints as markers, the tab-separated format of OpenSim, laid out as Pose2Sim writes it."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from aign.body.motion import skin_translation
from aign.body.skinning import rest_joints, skin
from aign.geometry.skeleton import H36M17, SMPL24
from aign.inference.captured import CapturedMotion
from aign.inference.exports.rig import world_m

FILE = "motion.trc"
CHUNK_FRAMES = 64
_FIELDS = "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames"
_OWN_NAMES = {"neck": "NeckJoint", "head": "HeadJoint"}
"""Pose2Sim's Neck lies lower (between the shoulders), its Head higher (the top of the head)."""
_MIDDLES = {"Hip": ("l_hip", "r_hip"), "Neck": ("l_shoulder", "r_shoulder")}
"""Markers of Pose2Sim's skeletons that are midpoints; SMPL's pelvis lies centimetres above the hips."""
_LANDMARKS = {"nose": "Nose", "head_top": "Head"}
"""Joints of Human3.6M that SMPL lacks, under Pose2Sim's names."""


def marker_names(captured: CapturedMotion) -> tuple[str, ...]:
    """The 24 joints, two midpoints, and the nose and the top of the head where the body says where they are."""
    ours = (_OWN_NAMES.get(joint) or _camel(joint) for joint in SMPL24.joints)
    return (*ours, *_MIDDLES, *(_LANDMARKS.values() if captured.body.h36m17_regressor is not None else ()))


def write_trc(path: Path, captured: CapturedMotion) -> None:
    """Write the markers in metres, y up. Frames that were not seen hold their filled positions."""
    names, fps = marker_names(captured), captured.motion.fps
    _, joints = world_m(captured)
    middles = [joints[:, SMPL24.index(*ends)].mean(1, keepdims=True) for ends in _MIDDLES.values()]
    markers = np.concatenate((joints, *middles, _landmarks_m(captured)), 1).reshape(len(joints), -1)
    count, rate = len(markers), f"{fps:.10g}"
    axes = "\t".join(f"X{i}\tY{i}\tZ{i}" for i in range(1, len(names) + 1))
    lines = [
        f"PathFileType\t4\t(X/Y/Z)\t{FILE}",
        _FIELDS,
        f"{rate}\t{rate}\t{count}\t{len(names)}\tm\t{rate}\t0\t{count}",
        "Frame#\tTime\t" + "".join(f"{name}\t\t\t" for name in names),
        f"\t\t{axes}\t",
    ]
    for frame, row in enumerate(markers):
        numbers = "\t".join(f"{value:.6f}" for value in row)
        lines.append(f"{frame}\t{frame / fps:.6f}\t{numbers}")
    path.write_text("\n".join(lines) + "\n", encoding="ascii", newline="\n")


def _camel(joint: str) -> str:
    """l_big_toe -> LBigToe."""
    return "".join(part.capitalize() for part in joint.split("_"))


def _landmarks_m(captured: CapturedMotion) -> Float[np.ndarray, "t n 3"]:
    """Joints that are read off the posed skin; none where the body does not say how."""
    body, frames = captured.body, len(captured.known)
    if body.h36m17_regressor is None:
        return np.zeros((frames, 0, 3))
    regressor = body.h36m17_regressor[H36M17.index(*_LANDMARKS)]
    betas = torch.from_numpy(captured.betas)[None]
    trans = skin_translation(torch.from_numpy(captured.motion.trans_m), rest_joints(body, betas)[0, 0])
    found = []
    for start in range(0, frames, CHUNK_FRAMES):
        rotmats = torch.from_numpy(captured.motion.rotmats[start : start + CHUNK_FRAMES])
        skinned = skin(body, rotmats, betas.expand(len(rotmats), -1), trans[start : start + CHUNK_FRAMES])
        found.append(regressor @ skinned.vertices_m)
    return torch.cat(found).double().numpy()
