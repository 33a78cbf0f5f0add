"""Rotations: 6D, axis-angle, quaternion, matrix.

Convention: active right-handed rotations, y = R x with column vectors; axis-angle in radians; quaternions are stored
w, x, y, z (Human3.6M's order), unlike roma and scipy, which put w last. Conversions that have singular points come
from roma, whose gradients are finite at angle 0 and at pi (tested here, at both).
"""

import roma
import torch
from jaxtyping import Float
from torch import Tensor

_EPS = 1e-12


def from_axis_angle(axis_angle_rad: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Rodrigues' formula; smooth at the zero vector."""
    rot: Tensor = roma.rotvec_to_rotmat(axis_angle_rad)
    return rot


def to_axis_angle(rot: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
    """Logarithm, angle in [0, pi]; at pi one of the two axes is taken and the gradient is finite."""
    axis_angle: Tensor = roma.rotmat_to_rotvec(rot)
    return axis_angle


def from_quaternion(wxyz: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 3"]:
    """Matrix of a quaternion of any non-zero length, w first; q and -q give the same matrix."""
    unit = wxyz / wxyz.norm(dim=-1, keepdim=True).clamp_min(_EPS)
    rot: Tensor = roma.unitquat_to_rotmat(unit.roll(-1, dims=-1))
    return rot


def to_quaternion(rot: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 4"]:
    """Unit quaternion, w first, sign chosen so that w >= 0."""
    wxyz: Tensor = roma.rotmat_to_unitquat(rot).roll(1, dims=-1)
    return torch.where(wxyz[..., :1] < 0, -wxyz, wxyz)


def _unit(v: Float[Tensor, "*b 3"], fallback: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
    """The direction of v, or the fallback (gradient 0) where v has none."""
    square = v.square().sum(-1, keepdim=True)
    usable = square > _EPS**2
    return torch.where(usable, v / torch.where(usable, square, torch.ones_like(square)).sqrt(), fallback)


def _across(a: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
    """Some unit vector perpendicular to the unit vector a: the coordinate axis least aligned with it, projected."""
    axis = torch.nn.functional.one_hot(a.abs().argmin(-1), 3).to(a.dtype)
    return _unit(axis - (axis * a).sum(-1, keepdim=True) * a, axis)


def frame(first: Float[Tensor, "*b 3"], second: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Gram-Schmidt: the rotation whose columns are first, second made perpendicular, and their cross product.

    Zero or parallel input gives a valid rotation all the same (a fixed choice, gradient 0 through what is missing).
    """
    a = _unit(first, torch.zeros_like(first) + first.new_tensor((1.0, 0.0, 0.0)))
    b = _unit(second - (a * second).sum(-1, keepdim=True) * a, _across(a))
    return torch.stack((a, b, torch.linalg.cross(a, b)), dim=-1)


def from_6d(columns: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 3 3"]:
    """The continuous 6D representation of Zhou et al. (CVPR 2019).

    Convention: the six numbers are the first two COLUMNS of the matrix, one after the other.
    """
    return frame(columns[..., :3], columns[..., 3:])


def to_6d(rot: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 6"]:
    """The first two columns of the matrix, one after the other."""
    return rot[..., :2].mT.flatten(-2)


def look_at(direction: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """The smallest rotation R with R direction = (0, 0, |direction|).

    Undefined for directions opposite to +z; callers look forward.
    """
    d = _unit(direction, torch.zeros_like(direction) + direction.new_tensor((0.0, 0.0, 1.0)))
    x, y, z = d.unbind(-1)
    k = 1 / (1 + z)
    rows = (1 - x * x * k, -x * y * k, -x, -x * y * k, 1 - y * y * k, -y, x, y, z)
    return torch.stack(rows, dim=-1).reshape(*direction.shape[:-1], 3, 3)


def geodesic_rad(a: Float[Tensor, "*b 3 3"], b: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b"]:
    """Angle between two rotations, in radians."""
    angle: Tensor = roma.rotmat_geodesic_distance(a, b)
    return angle
