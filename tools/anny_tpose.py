"""anny's bodies in SMPL's T-pose: metres, y up, facing +z, the person's left = +x."""

from dataclasses import dataclass

import numpy as np

LEG_SPREAD_RAD = np.deg2rad(1.5)  # SMPL's template stands with the legs this little apart


@dataclass(frozen=True, kw_only=True)
class RestBodies:
    """A batch of anny bodies in one pose: vertices [n, v, 3], bone heads [n, b, 3]."""

    vertices: np.ndarray
    heads: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Rig:
    """anny's bones and skinning: names and parents [b], dense weights [v, b]."""

    names: list[str]
    parents: list[int]
    weights: np.ndarray

    def index(self, name: str) -> int:
        """Index of a bone."""
        return self.names.index(name)

    def subtree(self, name: str) -> list[int]:
        """Indices of a bone and everything below it."""
        inside = {self.index(name)}
        for bone, parent in enumerate(self.parents):  # parents come first
            if parent in inside:
                inside.add(bone)
        return sorted(inside)


def to_y_up(x: np.ndarray) -> np.ndarray:
    """Rotate from z up facing -y (anny) to y up facing +z."""
    return np.stack([x[..., 0], x[..., 2], -x[..., 1]], -1)


def axis_angle(axis: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Rotation matrices [n, 3, 3] about unit axes [n, 3] by angles [n]."""
    zero = np.zeros(len(axis))
    x, y, z = axis.T
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    angle = np.broadcast_to(angle, (len(axis),))[:, None, None]
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)


def swing(direction: np.ndarray, target: np.ndarray, share: float = 1.0) -> np.ndarray:
    """That share of the smallest rotation taking directions [n, 3] to the unit target [3]."""
    unit = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    axis = np.cross(unit, target)
    sine = np.linalg.norm(axis, axis=1)
    return axis_angle(axis / np.maximum(sine, 1e-12)[:, None], share * np.arctan2(sine, unit @ target))


def _arm(rig: Rig, heads: np.ndarray, side: str, rotation: np.ndarray) -> None:
    def head(name: str) -> np.ndarray:
        return heads[:, rig.index(f"{name}.{side}")]

    def rotate(vector: np.ndarray, by: np.ndarray) -> np.ndarray:
        return np.einsum("nij,nj->ni", by, vector)

    sign = 1.0 if side == "L" else -1.0
    out = np.array([sign, 0.0, 0.0])
    upper = head("lowerarm01") - head("upperarm01")
    arm = swing(upper, out)
    forearm = swing(rotate(head("wrist") - head("lowerarm01"), arm), out) @ arm
    hand = swing(rotate(head("finger3-1") - head("wrist"), forearm), out) @ forearm
    across = rotate(head("finger2-1") - head("finger5-1"), hand)  # must point forward (+z): palms face the floor
    twist = np.arctan2(across[:, 1], across[:, 2])
    axis = np.tile([1.0, 0.0, 0.0], (len(heads), 1))
    for bone in rig.subtree(f"wrist.{side}"):
        rotation[:, bone] = axis_angle(axis, twist) @ hand
    rotation[:, rig.index(f"lowerarm02.{side}")] = axis_angle(axis, 0.5 * twist) @ forearm
    rotation[:, rig.index(f"lowerarm01.{side}")] = forearm
    rotation[:, rig.index(f"upperarm01.{side}")] = rotation[:, rig.index(f"upperarm02.{side}")] = arm
    rotation[:, rig.index(f"shoulder01.{side}")] = swing(upper, out, 0.4)
    rotation[:, rig.index(f"clavicle.{side}")] = swing(upper, out, 0.1)


def _leg(rig: Rig, heads: np.ndarray, side: str, rotation: np.ndarray) -> None:
    sign = 1.0 if side == "L" else -1.0
    leg = heads[:, rig.index(f"foot.{side}")] - heads[:, rig.index(f"upperleg01.{side}")]
    spread = np.arctan2(sign * leg[:, 0], -leg[:, 1])
    forward = np.tile([0.0, 0.0, 1.0], (len(heads), 1))
    for bone in ("upperleg01", "upperleg02", "lowerleg01", "lowerleg02"):
        rotation[:, rig.index(f"{bone}.{side}")] = axis_angle(forward, sign * (LEG_SPREAD_RAD - spread))


def t_pose(rig: Rig, rest: RestBodies) -> RestBodies:
    """Linear blend skinning of the rest bodies into the T-pose, feet flat, palms down."""
    n, bones = rest.heads.shape[:2]
    rotation = np.tile(np.eye(3), (n, bones, 1, 1))
    for side in "LR":
        _arm(rig, rest.heads, side, rotation)
        _leg(rig, rest.heads, side, rotation)
    heads = rest.heads.copy()
    for bone, parent in enumerate(rig.parents):
        if parent >= 0:
            offset = rest.heads[:, bone] - rest.heads[:, parent]
            heads[:, bone] = heads[:, parent] + np.einsum("nij,nj->ni", rotation[:, parent], offset)
    shift = heads - np.einsum("nbij,nbj->nbi", rotation, rest.heads)
    vertices = np.empty_like(rest.vertices)
    for i in range(n):  # one body at a time keeps memory small
        blend = np.einsum("vb,bij->vij", rig.weights, rotation[i])
        vertices[i] = np.einsum("vij,vj->vi", blend, rest.vertices[i]) + rig.weights @ shift[i]
    return RestBodies(vertices=vertices, heads=heads)
