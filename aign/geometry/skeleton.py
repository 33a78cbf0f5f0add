"""Joint sets as data, and the one way to go from one to another.

A joint is named by what it is (an anatomical landmark), so two sets share a joint exactly when they share its name.
`convert` takes shared names as they are, fills what simple midpoints give, and says which joints are valid: a joint
that the source does not have is never invented.
"""

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aign.framework.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """A joint set.

    Attributes:
        name: its id, e.g. "h36m17".
        joints: landmark names, in the set's order.
        parents: index of each joint's parent, -1 at the root; a parent may come later in the order.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]

    def __len__(self) -> int:
        """Number of joints."""
        return len(self.joints)

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(child, parent) for every joint but the root."""
        return tuple((j, p) for j, p in enumerate(self.parents) if p >= 0)

    @property
    def mirrored(self) -> tuple[int, ...]:
        """Joint order after swapping left and right."""
        swap = {"l_": "r_", "r_": "l_"}
        return tuple(self.joints.index(swap.get(n[:2], n[:2]) + n[2:]) for n in self.joints)

    def index(self, *names: str) -> list[int]:
        """Positions of the named joints."""
        missing = [n for n in names if n not in self.joints]
        if missing:
            raise UserError(f"{self.name} has no joint {missing}; it has {list(self.joints)}")
        return [self.joints.index(n) for n in names]


def _sides(names: str) -> tuple[str, ...]:
    return tuple(names.split())


H36M17 = Skeleton(
    name="h36m17",
    joints=_sides(
        "pelvis r_hip r_knee r_ankle l_hip l_knee l_ankle spine thorax nose head_top "
        "l_shoulder l_elbow l_wrist r_shoulder r_elbow r_wrist"
    ),
    parents=(-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15),
)

H36M32 = Skeleton(
    name="h36m32",
    joints=_sides(
        "pelvis r_hip r_knee r_ankle r_toe_base r_toe_end l_hip l_knee l_ankle l_toe_base l_toe_end "
        "pelvis_copy spine thorax nose head_top "
        "l_thorax_copy l_shoulder l_elbow l_wrist l_wrist_copy l_thumb_end l_wrist_end l_wrist_end_copy "
        "r_thorax_copy r_shoulder r_elbow r_wrist r_wrist_copy r_thumb_end r_wrist_end r_wrist_end_copy"
    ),
    parents=(
        *(-1, 0, 1, 2, 3, 4, 0, 6, 7, 8, 9, 0, 11, 12, 13, 14),
        *(12, 16, 17, 18, 19, 20, 19, 22, 12, 24, 25, 26, 27, 28, 27, 30),
    ),
)

LSP14 = Skeleton(
    name="lsp14",
    joints=_sides(
        "r_ankle r_knee r_hip l_hip l_knee l_ankle r_wrist r_elbow r_shoulder l_shoulder l_elbow l_wrist "
        "thorax head_top"
    ),
    parents=(1, 2, 12, 12, 3, 4, 7, 8, 12, 12, 9, 10, -1, 12),
)

COCO17 = Skeleton(
    name="coco17",
    joints=_sides(
        "nose l_eye r_eye l_ear r_ear l_shoulder r_shoulder l_elbow r_elbow l_wrist r_wrist "
        "l_hip r_hip l_knee r_knee l_ankle r_ankle"
    ),
    parents=(-1, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14),
)

MPII16 = Skeleton(
    name="mpii16",
    joints=_sides(
        "r_ankle r_knee r_hip l_hip l_knee l_ankle pelvis spine thorax head_top "
        "r_wrist r_elbow r_shoulder l_shoulder l_elbow l_wrist"
    ),
    parents=(1, 2, 6, 6, 3, 4, -1, 6, 7, 8, 11, 12, 8, 8, 13, 14),
)

BLAZEPOSE33 = Skeleton(
    name="blazepose33",
    joints=_sides(
        "nose l_eye_inner l_eye l_eye_outer r_eye_inner r_eye r_eye_outer l_ear r_ear l_mouth r_mouth "
        "l_shoulder r_shoulder l_elbow r_elbow l_wrist r_wrist l_pinky r_pinky l_index r_index l_thumb r_thumb "
        "l_hip r_hip l_knee r_knee l_ankle r_ankle l_heel r_heel l_toe r_toe"
    ),
    parents=(
        *(-1, 0, 1, 2, 0, 4, 5, 3, 6, 0, 0, 0, 0, 11, 12, 13, 14, 15, 16, 15, 16, 15, 16),
        *(11, 12, 23, 24, 25, 26, 27, 28, 27, 28),
    ),
)

SMPL24 = Skeleton(
    name="smpl24",
    joints=_sides(
        "pelvis l_hip r_hip spine1 l_knee r_knee spine2 l_ankle r_ankle spine3 l_foot r_foot neck "
        "l_collar r_collar head l_shoulder r_shoulder l_elbow r_elbow l_wrist r_wrist l_hand r_hand"
    ),
    parents=(-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21),
)

CMU31 = Skeleton(
    name="cmu31",
    joints=_sides(
        "pelvis l_hip_joint l_hip l_knee l_ankle l_toe_base r_hip_joint r_hip r_knee r_ankle r_toe_base "
        "lower_back spine spine_upper neck_lower neck_upper head "
        "l_collar l_shoulder l_elbow l_wrist l_hand l_finger_base l_hand_end "
        "r_collar r_shoulder r_elbow r_wrist r_hand r_finger_base r_hand_end"
    ),
    parents=(
        *(-1, 0, 1, 2, 3, 4, 0, 6, 7, 8, 9, 0, 11, 12, 13, 14, 15),
        *(13, 17, 18, 19, 20, 21, 20, 13, 24, 25, 26, 27, 28, 27),
    ),
)

OPENPOSE25 = Skeleton(
    name="openpose25",  # BODY_25; its neck and middle of the hips are midpoints, as our thorax and pelvis
    joints=_sides(
        "nose thorax r_shoulder r_elbow r_wrist l_shoulder l_elbow l_wrist pelvis r_hip r_knee r_ankle "
        "l_hip l_knee l_ankle r_eye l_eye r_ear l_ear l_toe l_small_toe l_heel r_toe r_small_toe r_heel"
    ),
    parents=(1, 8, 1, 2, 3, 1, 5, 6, -1, 8, 9, 10, 8, 12, 13, 0, 0, 15, 16, 14, 19, 14, 11, 22, 11),
)

FACE5 = Skeleton(
    name="face5",  # CelebA's landmarks: its "left" is the picture's, which is the person's right
    joints=_sides("r_eye l_eye nose r_mouth l_mouth"),
    parents=(2, 2, -1, 2, 2),
)

SKELETONS = {s.name: s for s in (H36M17, H36M32, LSP14, COCO17, MPII16, BLAZEPOSE33, SMPL24, CMU31, OPENPOSE25, FACE5)}

DERIVED: dict[str, tuple[tuple[str, ...], ...]] = {
    "pelvis": (("l_hip", "r_hip"),),
    "thorax": (("neck",), ("neck_lower",), ("l_shoulder", "r_shoulder")),
    "neck": (("thorax",),),
    "spine": (("spine2",), ("pelvis", "thorax")),
    "l_foot": (("l_toe_base",), ("l_toe",)),
    "r_foot": (("r_toe_base",), ("r_toe",)),
    "l_toe_base": (("l_foot",),),
    "r_toe_base": (("r_foot",),),
}
"""Where a joint is not named in the source: the sets whose mean stands for it, in order of preference. These are the
usual conventions of the field (mid-hip, mid-shoulder, and the renamings between rigs), each some centimetres off; a
learned regression would be better and is not pretended here."""


def skeleton(name: str) -> Skeleton:
    """The skeleton of that name."""
    if name not in SKELETONS:
        raise UserError(f"unknown skeleton {name!r}; known: {', '.join(SKELETONS)}")
    return SKELETONS[name]


def _recipe(joint: str, source: Skeleton, seen: frozenset[str] = frozenset()) -> dict[int, float] | None:
    if joint in source.joints:
        return {source.joints.index(joint): 1.0}
    for means in DERIVED.get(joint, ()):
        parts = [None if m in seen else _recipe(m, source, seen | {joint}) for m in means]
        if all(p is not None for p in parts):
            weights: dict[int, float] = {}
            for part in parts:
                for j, w in (part or {}).items():
                    weights[j] = weights.get(j, 0.0) + w / len(parts)
            return weights
    return None


@cache
def conversion(source: Skeleton, target: Skeleton) -> tuple[Tensor, Tensor]:
    """Weights [t, s] float32 that make the target's joints from the source's, and which targets exist [t] bool."""
    weights, valid = torch.zeros(len(target), len(source)), torch.zeros(len(target), dtype=torch.bool)
    for t, joint in enumerate(target.joints):
        for s, w in (_recipe(joint, source) or {}).items():
            weights[t, s], valid[t] = w, True
    return weights, valid


def convert(
    joints: Float[Tensor, "*b s d"], source: Skeleton, target: Skeleton
) -> tuple[Float[Tensor, "*b t d"], Bool[Tensor, " t"]]:
    """Joints of one set from those of another.

    Args:
        joints: positions, any dimension d (2D pixels, 3D metres).
        source: the set they are in.
        target: the set wanted.

    Returns:
        Positions, 0 where the source has nothing to make the joint from, and which joints are valid.
    """
    weights, valid = conversion(source, target)
    return weights.to(joints) @ joints, valid.to(joints.device)


def convert_confidence(conf: Float[Tensor, "*b s"], source: Skeleton, target: Skeleton) -> Float[Tensor, "*b t"]:
    """Confidence of converted joints: the least of those each is made from, 0 where it cannot be made."""
    weights, valid = conversion(source, target)
    used = (weights > 0).to(conf.device)
    least = conf.unsqueeze(-2).masked_fill(~used, torch.inf).amin(-1)
    return torch.where(valid.to(conf.device), least, torch.zeros_like(least))
