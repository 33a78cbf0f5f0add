"""What the files share: names of joints, the shaped rest pose, positions in every frame, Euler angles, and checks."""

import numpy as np
import roma
import torch
from jaxtyping import Float

from aign.body.skinning import forward_kinematics, rest_joints
from aign.framework.errors import UserError
from aign.geometry.skeleton import SMPL24
from aign.inference.captured import CapturedMotion

_TRUNK = {
    "pelvis": "Hips",
    "spine1": "Spine",
    "spine2": "Spine1",
    "spine3": "Spine2",
    "neck": "Neck",
    "head": "Head",
}
_LIMBS = {
    "hip": "UpLeg",
    "knee": "Leg",
    "ankle": "Foot",
    "foot": "ToeBase",
    "collar": "Shoulder",
    "shoulder": "Arm",
    "elbow": "ForeArm",
    "wrist": "Hand",
    "hand": "HandMiddle1",
}
_NAMES = _TRUNK | {
    f"{s[0].lower()}_{ours}": f"{s}{theirs}" for s in ("Left", "Right") for ours, theirs in _LIMBS.items()
}
BONE_NAMES = tuple(_NAMES[joint] for joint in SMPL24.joints)
"""Names of the 24 joints in BVH and GLB: Mixamo's, which retargeting tools know. A bone is named by its upper end."""
MAX_FPS = 1000.0


def check(captured: CapturedMotion) -> None:
    """See that every format can hold it.

    Raises:
        UserError: a frame rate or shape that is not finite, more shape coefficients than the body has, or a matrix
            that is no rotation.
    """
    motion, directions = captured.motion, captured.body.shape_dirs.shape[-1]
    if not 0 < motion.fps <= MAX_FPS:
        raise UserError(f"the motion has {motion.fps} frames per second; more than 0, at most {MAX_FPS:g} are needed")
    if len(captured.betas) > directions:
        raise UserError(f"{len(captured.betas)} shape coefficients; the body {captured.body.name} has {directions}")
    if not np.isfinite(captured.betas).all():
        raise UserError(f"shape coefficient {int(np.argmin(np.isfinite(captured.betas)))} is not a finite number")
    turned = motion.rotmats.astype(np.float64)
    off = np.abs(turned @ turned.swapaxes(-1, -2) - np.eye(3)).max((-1, -2))
    wrong = (off > 1e-3) | (np.linalg.det(turned) < 0)
    if wrong.any():
        frame, joint = np.argwhere(wrong)[0]
        raise UserError(f"frame {frame}: the matrix of {SMPL24.joints[joint]} is no rotation (off by {off.max():.2g})")


def rest_joints_m(captured: CapturedMotion) -> Float[np.ndarray, "24 3"]:
    """Joints of the shaped body in the T-pose, in the body's own frame."""
    return rest_joints(captured.body, torch.from_numpy(captured.betas)[None])[0].double().numpy()


def world_m(captured: CapturedMotion) -> tuple[Float[np.ndarray, "t 24 3 3"], Float[np.ndarray, "t 24 3"]]:
    """Rotations and positions of the joints in the world, y up, the floor at y = 0, in float64."""
    rotmats = torch.from_numpy(captured.motion.rotmats).double()
    rest = torch.from_numpy(rest_joints_m(captured))
    rotations, joints = forward_kinematics(rotmats, rest.expand(len(rotmats), -1, -1), captured.body.parents)
    return rotations.numpy(), (joints - rest[0]).numpy() + captured.motion.trans_m[:, None]


def euler_deg(rotmats: Float[np.ndarray, "*b 3 3"], order: str) -> Float[np.ndarray, "*b 3"]:
    """Intrinsic Euler angles, in the order of the letters: R = R_first(a) R_second(b) R_third(c), b within +-90.

    Where b is exactly +-90 only a sum of the others is determined; the third is 0 there.
    """
    matrices = torch.from_numpy(np.asarray(rotmats, np.float64))
    angles: Float[np.ndarray, "*b 3"] = roma.rotmat_to_euler(order, matrices, degrees=True).numpy()
    return angles


def continuous(angles_deg: Float[np.ndarray, "t j 3"]) -> Float[np.ndarray, "t j 3"]:
    """The same rotations by Euler angles that jump as little as possible, beyond +-180 where they must.

    (a + 180, 180 - b, c + 180) is the rotation (a, b, c), and so is any angle plus 360: of these the nearest to the
    frame before is taken, so that programs that interpolate between frames do not spin.
    """
    twins = angles_deg * [1, -1, 1] + 180
    out = angles_deg.copy()
    for frame in range(1, len(out)):
        ways = np.stack((angles_deg[frame], twins[frame]))
        ways += 360 * np.round((out[frame - 1] - ways) / 360)
        nearer = np.abs(ways - out[frame - 1]).sum(-1).argmin(0)
        out[frame] = np.take_along_axis(ways, nearer[None, :, None], 0)[0]
    return out


def shaped_m(captured: CapturedMotion) -> Float[np.ndarray, "v 3"]:
    """Vertices of the shaped body in the T-pose, in the body's own frame."""
    used = captured.body.shape_dirs[..., : len(captured.betas)]
    return (captured.body.v_template_m + used @ torch.from_numpy(captured.betas)).double().numpy()


def one_line(text: str) -> str:
    """A name or a licence on one line, without characters that steer a terminal or end a row of a table."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
