"""Monocap: a sparse pose dictionary fitted to keypoints, no network (a row of the paper's first table).

Source: Zhou et al., "Sparseness Meets Deepness: 3D Human Pose Estimation from Monocular Video", CVPR 2016. There, EM
over uncertain 2D poses (a network's heat maps) alternates with a fit; here, as in the table that quotes it, the 2D
joints are given, so the E step has nothing to do and EM is that fit alone. What is minimised, over all frames t of a
clip, in the virtual camera's crop, where W are the keypoints, w their confidences and B the dictionary:

    sum_t [ DATA sum_j w_tj |W_tj - s_t Pi R_t S_tj - t_t|^2 / 2 + sum_k c_tk ]
        + sum_t [ CODES |c_t - c_(t-1)|^2 / 2 + TURN |R_t - R_(t-1)|^2 / 4 ],   S_t = mean + sum_k c_tk B_k, c >= 0

How it is minimised: an alternating fit, not the convex relaxation. Zhou et al. start block coordinate descent at the
convex relaxation of their CVPR 2015 paper ("3D Shape Estimation from 2D Landmarks: A Convex Relaxation Approach"),
which relaxes one orthogonality constraint a basis shape; here every frame starts at several orientations and memory
poses, is fitted from each, and the best chain along its clip (Viterbi: fit plus movement) is where the fit with
smoothness starts. Other differences: rotations move by Gauss-Newton steps instead of a manifold solver; the dictionary
deviates from a mean pose, which fixes the scale, so the answer is metric and coefficients do not depend on distance;
coefficients are not negative in the fit either, as in the learning.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from aign.evaluation.baselines.pose_dictionary import PoseDictionary, encode, learn_dictionary, thin
from aign.evaluation.lifting import Method
from aign.geometry.rotation import from_6d, from_axis_angle
from aign.tasks.lifting.frames import Frames, neighbours
from aign.tasks.lifting.nets import FACING
from aign.tasks.lifting.observation import NOMINAL_HALF_HEIGHT_M, observe

ATOMS = 64
EXEMPLARS = 256
"""Memory poses, thinned evenly, at which a fit may start."""
EXEMPLAR_SPARSITY = 1e-4
EXEMPLAR_STEPS = 100
YAWS = 12
LEANS_DEG = (-30.0, 0.0, 30.0, 60.0)
"""Orientations that a fit may start at: turned about the vertical, leaning forward by so much."""
STARTS = 6
"""The best yaws by their best lean and exemplar."""
DATA = 20000.0
"""1 / variance of a keypoint in crop units: 0.007 of half the crop, mostly perspective, which the model lacks."""
CODES = 40.0
"""1 / variance of a coefficient's change from frame to frame: 0.16 of its usual size."""
TURN = 2000.0
"""1 / variance of a turn from frame to frame: 1.3 degrees."""
MOVE = 500.0
"""1 / variance of a joint's movement from frame to frame, metres: 0.045; only where the chain is chosen."""
ROUNDS = 15
"""Of one step of rotation and scale and STEPS of the coefficients."""
STEPS = 5
GROUP = 2048
"""Whole clips are fitted together until they have so many frames."""
CHUNK = 256
"""Frames compared with all pictures at a time."""


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """Keypoints in crop units and their confidences."""

    kp2d: Float[Tensor, "b 17 2"]
    conf: Float[Tensor, "b 17"]

    def centred(self, picture: Float[Tensor, "b 17 2"]) -> Float[Tensor, "b 17 2"]:
        """Less its weighted mean, which is the best shift."""
        return picture - self.mean(picture).unsqueeze(1)

    def mean(self, picture: Float[Tensor, "b 17 2"]) -> Float[Tensor, "b 2"]:
        return (self.weight.unsqueeze(-1) * picture).sum(1)

    @property
    def weight(self) -> Float[Tensor, "b 17"]:
        """Confidences of sum 1, or 0 where nothing is seen."""
        return self.conf / self.conf.sum(1, keepdim=True).clamp_min(1e-9)

    def part(self, index: Tensor | slice) -> "_Seen":
        return _Seen(kp2d=self.kp2d[index], conf=self.conf[index])


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """What is estimated of each frame: coefficients, torso to virtual camera, crop units a metre."""

    codes: Float[Tensor, "b k"]
    rot: Float[Tensor, "b 3 3"]
    scale: Float[Tensor, " b"]

    def part(self, index: Tensor) -> "_Fit":
        return _Fit(codes=self.codes[index], rot=self.rot[index], scale=self.scale[index])


@dataclass(frozen=True, kw_only=True)
class _Bank:
    """Exemplars in every starting orientation: picture r e + i is exemplar i in orientation r."""

    codes: Float[Tensor, "e k"]
    rot: Float[Tensor, "r 3 3"]
    x_m: Float[Tensor, "17 m"]
    y_m: Float[Tensor, "17 m"]


def monocap(canonical_m: Float[Tensor, "n 17 3"], atoms: int = ATOMS) -> Method:
    """The fit as a method; `canonical_m` are the memory's poses in the torso's frame.

    Joints are in the camera in metres, the pelvis at the distance at which weak perspective has the fitted scale. Of a
    frame in which nothing is seen the answer is the mean pose, upright, facing the camera, at the camera's centre.

    Raises:
        UserError: fewer poses than atoms.
    """
    book = learn_dictionary(canonical_m, atoms)
    bank = _bank(canonical_m, book)

    def method(frames: Frames) -> Tensor:
        parts = [_solve(frames.part(part), book, bank) for part in _groups(frames.clip)]
        return torch.cat(parts) if parts else frames.kp2d_px.new_zeros(0, 17, 3)

    return method


def _groups(clip: Int64[Tensor, " n"]) -> Iterator[slice]:
    """Slices of whole clips, of at least GROUP frames but the last."""
    ends = [*((clip[1:] != clip[:-1]).nonzero()[:, 0] + 1).tolist(), len(clip)]
    start = 0
    for end in ends:
        if end - start >= GROUP or (end == len(clip) and end > start):
            yield slice(start, end)
            start = end


def _bank(canonical_m: Float[Tensor, "n 17 3"], book: PoseDictionary) -> _Bank:
    exemplars = (thin(canonical_m, EXEMPLARS) - book.mean_m).flatten(1)
    none = exemplars.new_zeros(len(exemplars), len(book.atoms_m))
    codes = encode(exemplars, book.atoms_m.flatten(1), EXEMPLAR_SPARSITY, none, EXEMPLAR_STEPS)
    yaw, lean = torch.zeros(YAWS, 1, 3), torch.zeros(1, len(LEANS_DEG), 3)
    yaw[:, 0, 1] = torch.arange(YAWS) * (2 * math.pi / YAWS)
    lean[0, :, 0] = torch.tensor([math.radians(angle) for angle in LEANS_DEG])
    rot = from_6d(torch.tensor(FACING)) @ from_axis_angle(yaw) @ from_axis_angle(lean)
    rot = rot.flatten(0, 1).to(canonical_m)
    x, y = (book.pose_m(codes) @ rot[:, None, :2].mT).flatten(0, 1).permute(2, 1, 0).contiguous()
    return _Bank(codes=codes, rot=rot, x_m=x, y_m=y)


def _solve(frames: Frames, book: PoseDictionary, bank: _Bank) -> Float[Tensor, "n 17 3"]:
    """Joints in the camera of whole clips."""
    window, rot_cam_to_virtual = observe(frames.kp2d_px.unsqueeze(1), frames.conf.unsqueeze(1), frames.camera)
    seen = _Seen(kp2d=window.kp2d[:, 0], conf=window.conf[:, 0])
    starts = _starts(seen, bank)
    every = torch.arange(len(seen.conf)).repeat_interleave(STARTS)
    fits = _descend(seen.part(every), starts, book, None)
    near = neighbours(frames.clip, 1)
    fit = fits.part(_chain(seen.part(every), fits, book, near))
    fit = _descend(seen, fit, book, near[:, [0, 2]])
    return _joints(seen, fit, book, window.half_extent) @ rot_cam_to_virtual


def _joints(seen: _Seen, fit: _Fit, book: PoseDictionary, half_extent: Float[Tensor, " b"]) -> Float[Tensor, "b 17 3"]:
    """Joints in the virtual camera; the mean pose at its centre where nothing is seen."""
    nothing = (seen.conf <= 0).all(1)
    pose = book.pose_m(fit.codes) @ fit.rot.mT
    shift = seen.mean(seen.kp2d / fit.scale[:, None, None] - pose[..., :2])
    trans = torch.cat((shift, (1 / (fit.scale * half_extent)).unsqueeze(1)), dim=1)
    unseen = book.mean_m @ from_6d(torch.tensor(FACING)).to(pose).mT
    return torch.where(nothing[:, None, None], unseen, pose + trans.unsqueeze(1))


def _starts(seen: _Seen, bank: _Bank) -> _Fit:
    """For each frame the STARTS best yaws, each with its best lean and exemplar; frame by frame, best first.

    With weights w, the residual of the best scale is |x|^2 - <x, y>^2 / |y|^2 after both are centred.
    """
    x, y, square = bank.x_m, bank.y_m, bank.x_m.square() + bank.y_m.square()
    per_yaw = len(LEANS_DEG) * len(bank.codes)
    parts = []
    for first in range(0, len(seen.conf), CHUNK):
        few = seen.part(slice(first, first + CHUNK))
        w, target = few.weight, few.centred(few.kp2d)
        power = (w @ square - (w @ x).square() - (w @ y).square()).clamp_min(1e-6)
        # The target is centred, so centring the pictures does not change the inner product.
        agreement = ((w * target[..., 0]) @ x + (w * target[..., 1]) @ y).clamp_min(0)
        gain, best = (agreement.square() / power).reshape(-1, YAWS, per_yaw).max(-1)
        yaw = gain.topk(STARTS, dim=1).indices
        picture = yaw * per_yaw + best.gather(1, yaw)
        scale = agreement.gather(1, picture) / power.gather(1, picture)
        parts.append((picture.flatten(), scale.flatten()))
    picture, scale = (torch.cat(part) for part in zip(*parts, strict=True))
    exemplars = len(bank.codes)
    return _Fit(
        codes=bank.codes[picture % exemplars],
        rot=bank.rot[picture // exemplars],
        scale=torch.where(scale > 0, scale, torch.full_like(scale, 1 / NOMINAL_HALF_HEIGHT_M)),
    )


def _descend(seen: _Seen, fit: _Fit, book: PoseDictionary, near: Int64[Tensor, "b 2"] | None) -> _Fit:
    """Block coordinate descent; with the frames before and after given, smooth in time."""
    target = seen.centred(seen.kp2d)
    for _ in range(ROUNDS):
        fit = _turn(seen, target, fit, book, near)
        fit = _code(seen, target, fit, book, near)
    return fit


def _turn(
    seen: _Seen, target: Float[Tensor, "b 17 2"], fit: _Fit, book: PoseDictionary, near: Int64[Tensor, "b 2"] | None
) -> _Fit:
    """A Gauss-Newton step of rotation and scale, damped.

    Rotations before and after are taken as they are, though each is in a virtual camera of its own: these turn little.
    """
    body = book.pose_m(fit.codes) @ fit.rot.mT
    x, y, z = body.unbind(-1)
    nil, size = torch.zeros_like(x), fit.scale[:, None, None]
    # d(omega x body) of the picture's x and y, then d(log scale).
    columns = ((nil, -z), (z, nil), (-y, x), (x, y))
    jacobian = torch.stack([size * seen.centred(torch.stack(column, -1)) for column in columns], dim=1)
    residual = target - size * seen.centred(body[..., :2])
    weighted = DATA * jacobian * seen.conf[:, None, :, None]
    normal = weighted.flatten(2) @ jacobian.flatten(2).mT
    slope = (weighted * residual.unsqueeze(1)).sum((2, 3))
    if near is not None:
        normal[:, :3, :3] += 2 * TURN * torch.eye(3)
        slope[:, :3] += TURN * (_towards(fit.rot, fit.rot[near[:, 0]]) + _towards(fit.rot, fit.rot[near[:, 1]]))
    damping = 1e-3 * normal.diagonal(dim1=1, dim2=2).sum(1) + 1e-3
    normal = normal + damping[:, None, None] * torch.eye(4)
    step = torch.linalg.solve(normal, slope)
    turn = step[:, :3] / (step[:, :3].norm(dim=1, keepdim=True) / 0.5).clamp_min(1.0)
    return replace(fit, rot=from_axis_angle(turn) @ fit.rot, scale=fit.scale * step[:, 3].clamp(-0.3, 0.3).exp())


def _towards(rot: Float[Tensor, "b 3 3"], other: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 3"]:
    """Axis times sine of the angle that carries a rotation to another: minus the gradient of |R - R'|^2 / 4."""
    between = other @ rot.mT
    skew = 0.5 * (between - between.mT)
    return torch.stack((skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]), dim=1)


def _code(
    seen: _Seen, target: Float[Tensor, "b 17 2"], fit: _Fit, book: PoseDictionary, near: Int64[Tensor, "b 2"] | None
) -> _Fit:
    """Accelerated proximal gradient steps of the coefficients."""
    atoms = book.atoms_m.flatten(1)
    bound = book.stiffness * DATA * fit.scale.square() * seen.conf.amax(1)
    step = 1 / (bound + (4 * CODES if near is not None else 0.0) + 1e-3).unsqueeze(1)
    size, weight = fit.scale[:, None, None], DATA * seen.conf.unsqueeze(-1)
    rows = fit.rot[:, :2]
    codes = ahead = fit.codes
    momentum = 1.0
    for _ in range(STEPS):
        residual = size * seen.centred(book.pose_m(ahead) @ rows.mT) - target
        gradient = (size * (weight * residual) @ rows).flatten(1) @ atoms.T + 1.0
        if near is not None:
            gradient = gradient + CODES * (2 * ahead - ahead[near[:, 0]] - ahead[near[:, 1]])
        new = (ahead - step * gradient).clamp_min(0)
        following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + (momentum - 1) / following * (new - codes)
        codes, momentum = new, following
    return replace(fit, codes=codes)


def _cost(seen: _Seen, fit: _Fit, book: PoseDictionary) -> Float[Tensor, " b"]:
    """What a frame alone adds to what is minimised."""
    picture = fit.scale[:, None, None] * (book.pose_m(fit.codes) @ fit.rot[:, :2].mT)
    apart = (seen.centred(seen.kp2d - picture)).square().sum(-1)
    return 0.5 * DATA * (seen.conf * apart).sum(1) + fit.codes.sum(1)


def _chain(seen: _Seen, fits: _Fit, book: PoseDictionary, near: Int64[Tensor, "n 3"]) -> Int64[Tensor, " n"]:
    """Index of the fit of each frame that is on the cheapest path through its clip."""
    own = _cost(seen, fits, book).reshape(-1, STARTS)
    body = (book.pose_m(fits.codes) @ fits.rot.mT).reshape(-1, STARTS, 51)
    moved = 0.5 * MOVE * (body[near[:, 0]].unsqueeze(2) - body.unsqueeze(1)).square().sum(-1)
    # The step into a clip's first frame is free, so one path through all frames is the best of every clip.
    moved[near[:, 0] == near[:, 1]] = 0.0
    return torch.arange(len(own)) * STARTS + viterbi(own, moved)


def viterbi(own: Float[Tensor, "n s"], moved: Float[Tensor, "n s s"]) -> Int64[Tensor, " n"]:
    """The states of the cheapest path.

    Args:
        own: cost of each state of each frame.
        moved: cost of the step from a state of the frame before to one of this frame; the first frame's is not read.
    """
    total, back = own[0], []
    for t in range(1, len(own)):
        best, before = (total.unsqueeze(1) + moved[t]).min(0)
        total = best + own[t]
        back.append(before)
    path = [int(total.argmin())]
    for before in reversed(back):
        path.append(int(before[path[-1]]))
    return torch.tensor(path[::-1])
