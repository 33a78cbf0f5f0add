"""What a motion-capture method says and what is true, as bodies or as joints, and what is refused of them."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aign.body.assets import BodyAssets
from aign.body.skinning import joints_only, rest_joints, skin
from aign.framework.errors import UserError
from aign.geometry.skeleton import Skeleton, convert, convert_confidence, skeleton

_MAX_DISTANCE_M = 500.0  # nobody is filmed from there; half a metre is 500 in millimetres
_MAX_REACH_M = 10.0  # no joint is so far from the middle of its body; in millimetres all are
_ROTATION_TOLERANCE = 1e-2  # float32 products of a long chain stay far below
# The released code fixes the model's own root at half a turn about x; what it calls R comes after that.
_HALF_TURN = (1.0, -1.0, -1.0)


@dataclass(frozen=True, kw_only=True)
class Bodies:
    """Bodies of n frames.

    Attributes:
        rotmats: local rotations of SMPL's joints; the first is the global orientation in the camera.
        betas: shape coefficients.
        pelvis_cam_m: the pelvis joint in the camera.
    """

    rotmats: Float[Tensor, "n 24 3 3"]
    betas: Float[Tensor, "n 10"]
    pelvis_cam_m: Float[Tensor, "n 3"]

    def part(self, index: slice) -> "Bodies":
        """Some of the frames."""
        return Bodies(rotmats=self.rotmats[index], betas=self.betas[index], pelvis_cam_m=self.pelvis_cam_m[index])

    def plain(self) -> "Bodies":
        """Detached, on the CPU, in float32."""
        fields = (self.rotmats, self.betas, self.pelvis_cam_m)
        rotmats, betas, pelvis = (x.detach().to("cpu", torch.float32) for x in fields)
        return Bodies(rotmats=rotmats, betas=betas, pelvis_cam_m=pelvis)


@dataclass(frozen=True, kw_only=True)
class BodyTruth(Bodies):
    """The bodies that were filmed."""


@dataclass(frozen=True, kw_only=True)
class BodyEstimate(Bodies):
    """What a method says of them."""


@dataclass(frozen=True, kw_only=True)
class Joints:
    """Joints of n frames in the camera.

    Attributes:
        joints_cam_m: positions.
        valid: which are known; the others may hold anything.
        joint_set: name of their skeleton.
    """

    joints_cam_m: Float[Tensor, "n j 3"]
    valid: Bool[Tensor, "n j"]
    joint_set: str

    def converted(self, target: Skeleton) -> tuple[Float[Tensor, "n t 3"], Bool[Tensor, "n t"]]:
        """Joints of another set, 0 where not known, and which are."""
        source = skeleton(self.joint_set)
        known = torch.where(self.valid[..., None], self.joints_cam_m.double(), 0.0)
        return convert(known, source, target)[0], convert_confidence(self.valid.float(), source, target) > 0


def joints_cam_m(body: BodyAssets, bodies: Bodies) -> Float[Tensor, "n 24 3"]:
    """The 24 joints in the camera."""
    pelvis = rest_joints(body, bodies.betas)[:, 0]
    return joints_only(body, bodies.rotmats, bodies.betas, bodies.pelvis_cam_m - pelvis)


def surfaces_m(body: BodyAssets, bodies: Bodies) -> tuple[Float[Tensor, "n v 3"], Float[Tensor, "n v 3"]]:
    """Vertices before the global rotation and translation (the body's own frame), and in the camera."""
    upright = bodies.rotmats.clone()
    upright[:, 0] = torch.eye(3)
    own = skin(body, upright, bodies.betas, torch.zeros_like(bodies.pelvis_cam_m)).vertices_m
    pelvis = rest_joints(body, bodies.betas)[:, :1]
    return own, (own - pelvis) @ bodies.rotmats[:, 0].mT + bodies.pelvis_cam_m[:, None]


def about_model_origin_m(body: BodyAssets, bodies: Bodies) -> Float[Tensor, "n 24 3"]:
    """The 24 joints with their global rotation and without translation, relative to the origin of SMPL's model frame.

    Source: `centered_d3_joint_loss` of the code released with Tung et al., NIPS 2017: R J, where J are the joints of a
    model whose own root is fixed at half a turn about x (about the pelvis, as SMPL turns) and R turns about the origin.
    So the global orientation is G = R diag(1, -1, -1), and the pelvis lies at R J_0, J_0 being its rest position.
    SMPL's origin is some 22 cm from the pelvis; that of the default body is at the pelvis, where both rules agree.

    Convention: the result is in the axes of the camera.
    """
    at_rest = rest_joints(body, bodies.betas)[:, 0] * bodies.betas.new_tensor(_HALF_TURN)
    joints = joints_cam_m(body, bodies) - bodies.pelvis_cam_m[:, None]
    return joints + at_rest[:, None] @ bodies.rotmats[:, 0].mT


def check_bodies(bodies: Bodies, count: int) -> None:
    """Refuse what cannot be bodies of that many frames.

    Raises:
        UserError: another count, NaN, matrices that are no rotations, or millimetres for metres.
    """
    who = "truth" if isinstance(bodies, BodyTruth) else "estimate"
    fields = {"rotmats": bodies.rotmats, "betas": bodies.betas, "pelvis_cam_m": bodies.pelvis_cam_m}
    if {len(x) for x in fields.values()} != {count}:
        raise UserError(f"got the {who} of {[len(x) for x in fields.values()]} frames; allowed is one per row: {count}")
    for name, value in fields.items():
        bad = int((~value.isfinite()).flatten(1).any(dim=1).sum())
        if bad:
            raise UserError(f"got {bad} frames of the {who} with NaN or infinity in {name}; allowed are finite numbers")
    rotmats = bodies.rotmats.detach().double()
    skew = (rotmats @ rotmats.mT - torch.eye(3, dtype=torch.float64, device=rotmats.device)).abs().amax(dim=(-1, -2))
    bad = int(((skew > _ROTATION_TOLERANCE) | (rotmats.det() < 0)).sum())
    if bad:
        raise UserError(
            f"got {bad} matrices in the {who}'s rotmats that are no rotations; allowed is R R^T = I, det +1"
        )
    distance = float(bodies.pelvis_cam_m.detach().norm(dim=-1).median()) if count else 0.0
    if distance > _MAX_DISTANCE_M:
        raise UserError(f"got the {who} {distance:.0f} from the camera; allowed are metres (mm given?)")


def check_joints(joints: Joints, who: str, count: int) -> None:
    """Refuse what cannot be joints of that many frames.

    Raises:
        UserError: another count or joint set, NaN in a valid joint, or millimetres for metres.
    """
    wanted = (count, len(skeleton(joints.joint_set)))
    if joints.valid.shape != wanted:
        raise UserError(
            f"got {who} of shape {tuple(joints.valid.shape)}; allowed are {wanted[0]} rows of {wanted[1]} joints of "
            f"{joints.joint_set}"
        )
    bad = int((~joints.joints_cam_m.isfinite().all(dim=-1) & joints.valid).sum())
    if bad:
        raise UserError(f"got {bad} {who} that are NaN or infinite in valid joints; allowed are finite numbers")
    weight = joints.valid[..., None].double()
    known = torch.where(joints.valid[..., None], joints.joints_cam_m.detach().double(), 0.0)
    middle = known.sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True)
    reach = (known - middle).norm(dim=-1)[joints.valid]
    if len(reach) and float(reach.median()) > _MAX_REACH_M:
        raise UserError(f"got {who} that reach {float(reach.median()):.0f}; allowed are metres (mm given?)")
