"""The terms of motion capture: what supervises, what compares renders with evidence, and what both papers' codes did.

Every term gives one value per sample. Distances in the picture are in halves of the crop's side, so that a person far
away counts as much as one near; distances in space are metres.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from aign.framework.aign import Term
from aign.geometry.skeleton import SMPL24
from aign.losses.motion import motion as motion_distance
from aign.losses.points import mean_distance, robust_distance
from aign.losses.silhouette import two_sided
from aign.losses.silhouette_variants import as_released, product_form
from aign.losses.temporal import foot_contact, smoothness
from aign.tasks.motion_capture.factors import BodyFactors, joints
from aign.tasks.motion_capture.nets import Pupil
from aign.tasks.motion_capture.observation import KEYPOINTS, Observation
from aign.tasks.motion_capture.render import BodyRender

Seen: TypeAlias = Observation
Z: TypeAlias = BodyFactors
R: TypeAlias = BodyRender
KEYPOINT_SCALE = 0.25
"""Of the robust distance, halves of the crop's side: a keypoint this far off pulls half as hard as it may."""
MASK_PIXELS = 512
FEET = tuple(SMPL24.index("l_foot", "r_foot"))
STANDS = 0.01
"""A foot that moves less than this between two frames, halves of the crop's side, stands."""


def rotations(seen: Seen, z: Z, _: R) -> Float[Tensor, " b"]:
    """Mean squared difference of the rotations' entries from the label."""
    gap = (z.rotmats - seen.labels.rotmats).square().flatten(1).mean(1)
    return gap * seen.labels.weight


def shape(seen: Seen, z: Z, _: R) -> Float[Tensor, " b"]:
    """Mean squared difference of the shape from the label."""
    return (z.betas - seen.labels.betas).square().mean(1) * seen.labels.weight


def pose(seen: Seen, z: Z, render: R) -> Float[Tensor, " b"]:
    """Mean distance of the joints from the label's, the pelvis at the origin, metres."""
    labels = seen.labels
    true = BodyFactors(rotmats=labels.rotmats, betas=labels.betas, pelvis_cam_m=labels.pelvis_cam_m)
    with torch.no_grad():
        goal = joints(true, render.body) - labels.pelvis_cam_m.unsqueeze(2)
    gap = render.joints_cam_m - z.pelvis_cam_m.unsqueeze(2) - goal
    flat = gap.flatten(1, 2)
    weight = labels.weight.unsqueeze(1).expand(-1, flat.shape[1])
    return mean_distance(flat, torch.zeros_like(flat), weight)


def place(seen: Seen, z: Z, _: R) -> Float[Tensor, " b"]:
    """Distance of the pelvis from the label, as a share of its depth."""
    labels = seen.labels
    depth = labels.pelvis_cam_m[..., 2:].clamp_min(0.1)
    flat = z.pelvis_cam_m / depth
    weight = labels.weight.unsqueeze(1).expand(flat.shape[:2])
    return mean_distance(flat, labels.pelvis_cam_m / depth, weight)


def keypoints(seen: Seen, _: Z, render: R) -> Float[Tensor, " b"]:
    """Robust, confidence-weighted distance of the rendered keypoints from those that were found."""
    half = seen.half_side_px[:, None, None, None]
    got, goal = render.joints_px[:, :, list(KEYPOINTS)] / half, seen.target_px / half
    return robust_distance(got.flatten(1, 2), goal.flatten(1, 2), seen.target_conf.flatten(1), KEYPOINT_SCALE)


def segmentation(seen: Seen, _: Z, render: R) -> Float[Tensor, " b"]:
    """Two-sided distance between visible vertices and mask (papers.md 2.5, eq. 5)."""
    surface, evidence = render.surface, render.evidence
    distance = two_sided(
        surface.vertices_px.flatten(0, 1),
        surface.visible.flatten(0, 1).to(surface.vertices_px.dtype),
        evidence.mask.flatten(0, 1),
        evidence.distance_px.flatten(0, 1),
        MASK_PIXELS,
    )
    return _of_evidence(distance, seen, render)


def motion(seen: Seen, _: Z, render: R, *, everywhere: bool = False) -> Float[Tensor, " b"]:
    """How much visible vertices move otherwise than the picture does (papers.md 2.5); `everywhere`: hidden ones too."""
    surface, evidence = render.surface, render.evidence
    shown = torch.ones_like(surface.visible) if everywhere else surface.visible
    distance = motion_distance(
        surface.vertices_px[:, :-1].flatten(0, 1),
        surface.vertices_px[:, 1:].flatten(0, 1),
        shown[:, :-1].flatten(0, 1),
        evidence.flow_px.flatten(0, 1),
        evidence.flow_ok.flatten(0, 1),
    )
    return _of_evidence(distance, seen, render)


def smooth(_: Seen, __: Z, render: R) -> Float[Tensor, " b"]:
    """Mean second difference of the joints over time, metres."""
    return smoothness(render.joints_cam_m)


def contact(seen: Seen, _: Z, render: R) -> Float[Tensor, " b"]:
    """Feet whose keypoints stand in the picture stand in space; the camera stands too."""
    feet = [KEYPOINTS.index(joint) for joint in FEET]
    found, conf = seen.target_px[:, :, feet], seen.target_conf[:, :, feet]
    way = (found[:, 1:] - found[:, :-1]).norm(dim=-1) / seen.half_side_px[:, None, None]
    stands = torch.minimum(conf[:, 1:], conf[:, :-1]) * (way < STANDS)
    return foot_contact(render.joints_cam_m[:, :, list(FEET)], stands)


def teacher(seen: Seen, z: Z, render: R, *, pupil: Pupil) -> Float[Tensor, " b"]:
    """Distance of the joints from what the averaged network sees in the same picture, metres, pelvis at the origin."""
    taught = pupil.teach(seen)
    with torch.no_grad():
        goal = joints(taught, render.body) - taught.pelvis_cam_m.unsqueeze(2)
    gap = (render.joints_cam_m - z.pelvis_cam_m.unsqueeze(2) - goal).flatten(1, 2)
    return mean_distance(gap, torch.zeros_like(gap), torch.ones_like(gap[..., 0]))


def keypoints_released(seen: Seen, _: Z, render: R) -> Float[Tensor, " b"]:
    """As the released code has it: squared pixels, of the window's last frame alone (papers.md 2.10, 1)."""
    gap = render.joints_px[:, -1, list(KEYPOINTS)] - seen.target_px[:, -1]
    there = (seen.target_conf[:, -1] > 0).unsqueeze(-1)
    pixels = gap * (64.0 / seen.half_side_px)[:, None, None]  # of its crops of 128 pixels
    return torch.where(there, pixels, torch.zeros_like(pixels)).square().flatten(1).mean(1)


def _silhouette(seen: Seen, _: Z, render: R, *, form: Callable[[Tensor, Tensor], Tensor]) -> Float[Tensor, " b"]:
    distance = form(render.surface.vertices_px.flatten(0, 1), render.evidence.mask.flatten(0, 1))
    mean = distance.reshape(render.evidence.mask.shape[:2]).mean(1)
    return torch.cat((mean.new_zeros(len(seen.conf) - len(mean)), mean))


def _of_evidence(distance_px: Float[Tensor, " n"], seen: Seen, render: R) -> Float[Tensor, " b"]:
    """Pixels of the frames (or pairs) with evidence to halves of the crop's side; 0 for samples without evidence."""
    u = len(render.evidence.mask)
    mean = distance_px.reshape(u, -1).mean(1) / seen.half_side_px[len(seen.conf) - u :]
    return torch.cat((mean.new_zeros(len(seen.conf) - u), mean))


TERMS: Mapping[str, Term[Observation, BodyFactors, BodyRender]] = {
    **{"rotations": rotations, "shape": shape, "pose": pose, "place": place},
    **{"keypoints": keypoints, "segmentation": segmentation, "motion": motion, "smooth": smooth, "contact": contact},
    "keypoints_released": keypoints_released,
    "segmentation_product": partial(_silhouette, form=product_form),
    "segmentation_released": partial(_silhouette, form=as_released),
    "motion_everywhere": partial(motion, everywhere=True),
}
SUPERVISED = ("rotations", "shape", "pose", "place")
"""The terms that read labels."""
OF_SURFACE = ("segmentation", "motion", "segmentation_product", "segmentation_released", "motion_everywhere")
"""The terms that need evidence."""
