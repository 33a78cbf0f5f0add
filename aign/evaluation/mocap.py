"""A motion-capture method measured on frames: bodies against bodies, joints against joints, both against the pictures.

The method has run before; here are only its answers. Estimate and truth are in the camera of their frame, metres, and
bodies are of one body model: shape coefficients of another mean something else.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aign.body.assets import BodyAssets, load_body
from aign.evaluation.bodies import (
    Bodies,
    BodyEstimate,
    BodyTruth,
    Joints,
    about_model_origin_m,
    check_bodies,
    check_joints,
    joints_cam_m,
    surfaces_m,
)
from aign.evaluation.image_evidence import ImageEvidence, flow_error_px, mask_iou, reprojection_px
from aign.evaluation.lifting import METRIC_NAMES
from aign.evaluation.mesh import (
    acceleration_m_per_s2,
    acceleration_mm_per_frame2,
    foot_slide_mm,
    pa_pve_mm,
    pve_mm,
    surface_canonical_mm,
)
from aign.evaluation.mocap_report import MocapReport, runs, summarise
from aign.evaluation.pose import METRICS, Alignment, centre, is_flipped, mpjpe
from aign.evaluation.protocol import Protocol
from aign.evaluation.report import MIN_JOINTS, Provenance
from aign.evaluation.rows import HUMAN36M_HZ, Rows
from aign.framework.errors import UserError
from aign.geometry.skeleton import SMPL24, skeleton

__all__ = [
    "BodyEstimate",
    "BodyTruth",
    "ImageEvidence",
    "Joints",
    "MocapReport",
    "image_values",
    "measure_bodies",
    "measure_joints",
]

CHUNK = 64
"""Frames at a time; a mesh of each in float64 is then 10 MB."""


@torch.no_grad()
def measure_bodies(
    estimate: BodyEstimate,
    truth: BodyTruth,
    rows: Rows,
    protocol: Protocol,
    provenance: Provenance,
    *,
    evidence: ImageEvidence | None = None,
    body: BodyAssets | None = None,
) -> MocapReport:
    """Everything that can be said of estimated bodies where the true ones are known.

    Args:
        estimate: what the method says.
        truth: one body per frame of the estimate.
        rows: where each frame comes from; frames of a clip in their order.
        protocol: of SMPL's 24 joints, for example "aign-nips17-mesh24/pelvis": which frames and joints count, and which
            number is the headline. MPJPE about the model's origin and about the pelvis are both measured.
        provenance: what stands beside the numbers.
        evidence: of the same frames, for reprojection, mask and flow.
        body: model of both; the default body if None.

    Raises:
        UserError: a protocol of other joints, lengths that differ, NaN, millimetres for metres, matrices that are no
            rotations, or no frame that counts.
    """
    if protocol.joint_set != SMPL24.name:
        raise UserError(
            f"got protocol {protocol.id} of {protocol.joint_set} joints; bodies allow those of {SMPL24.name}"
        )
    body = load_body() if body is None else body
    check_bodies(estimate, len(rows.frame))
    check_bodies(truth, len(rows.frame))
    mine, real = estimate.plain(), truth.plain()
    here, there = joints_cam_m(body, mine), joints_cam_m(body, real)
    known = torch.ones(here.shape[:2], dtype=torch.bool)
    counted = known & _listed(protocol)
    values = {
        "mpjpe_origin_mm": mpjpe(about_model_origin_m(body, mine), about_model_origin_m(body, real), counted, ()),
        "mpjpe_pelvis_mm": mpjpe(here, there, counted, (0,)),
        "mpjpe_absolute_mm": mpjpe(here, there, counted, ()),
        "pa_mpjpe_mm": METRICS["similarity"][1](here, there, counted, ()),
        "flip_rate": is_flipped(here, there, counted).double(),
        **_surface_values(body, mine, real),
        **_motion_values(centre(here, (0,)), centre(there, (0,)), known, rows),
        **_slide_values(here, there, known, rows, SMPL24.joints),
    }
    if evidence is not None:
        values |= image_values(estimate, rows, evidence, body=body)
    return summarise(values, value_name(protocol.headline, protocol), rows, protocol, provenance)


@torch.no_grad()
def measure_joints(
    estimate: Joints,
    truth: Joints,
    rows: Rows,
    protocol: Protocol,
    provenance: Provenance,
    *,
    beside: Mapping[str, Float[Tensor, " n"]] | None = None,
) -> MocapReport:
    """What can be said where only joints are known: Human3.6M, or a pseudo-truth that several cameras gave.

    Both are brought to the protocol's joints, and those that both have are compared: SMPL has neither nose nor top of
    the head, so of Human3.6M's 17 joints 15 are left. What has one name in two joint sets may still lie centimetres
    apart (SMPL's pelvis is not the middle of the hips).

    Args:
        estimate: what the method says, mostly SMPL's joints.
        truth: of the same frames.
        rows: where each frame comes from; frames of a clip in their order.
        protocol: which joints, root, alignments and frames; a frame without its root or with fewer than four joints
            that count is skipped.
        provenance: what stands beside the numbers.
        beside: more values per frame, for example `image_values`.

    Raises:
        UserError: lengths that differ, a joint set that is not known, NaN in a valid joint, millimetres for metres, or
            no frame that counts.
    """
    check_joints(estimate, "estimates", len(rows.frame))
    check_joints(truth, "truths", len(rows.frame))
    target, root = skeleton(protocol.joint_set), protocol.root
    (here, mine), (there, real) = estimate.converted(target), truth.converted(target)
    known = mine & real
    counted = known & _listed(protocol)
    usable = known[:, list(root)].all(dim=1) & (counted.sum(dim=1) >= MIN_JOINTS)
    values = {
        **{value_name(a, protocol): METRICS[a][1](here, there, counted, root) for a in protocol.alignments},
        "flip_rate": is_flipped(here, there, counted).double(),
        # A root that is not known says nothing of the other joints.
        **_motion_values(centre(here, root), centre(there, root), counted & usable[:, None], rows),
        **_slide_values(here, there, known, rows, target.joints),
    }
    kept = {name: torch.where(usable, value, torch.nan) for name, value in values.items()}
    return summarise({**kept, **(beside or {})}, value_name(protocol.headline, protocol), rows, protocol, provenance)


@torch.no_grad()
def image_values(
    estimate: BodyEstimate, rows: Rows, evidence: ImageEvidence, *, body: BodyAssets | None = None
) -> dict[str, Float[Tensor, " n"]]:
    """Reprojection, mask and flow of each frame, NaN where there is nothing to compare with; no 3D truth is needed.

    Raises:
        UserError: what is no body, or lengths that differ.
    """
    body = load_body() if body is None else body
    check_bodies(estimate, len(rows.frame))
    if len(evidence.intrinsics_px) != len(rows.frame):
        raise UserError(
            f"got evidence of {len(evidence.intrinsics_px)} frames; allowed is one per row: {len(rows.frame)}"
        )
    plain, faces, lens = estimate.plain(), body.faces, evidence.intrinsics_px
    values = {
        "reprojection_px": reprojection_px(
            joints_cam_m(body, plain), lens, evidence.keypoints_px, evidence.keypoints_valid
        )
    }
    masks, flow, flow_ok = evidence.mask, evidence.flow_px, evidence.flow_ok
    flows = flow is not None and flow_ok is not None
    parts: dict[str, list[Tensor]] = {"mask_iou": [], "flow_error_px": []}
    if masks is None and not flows:
        return values
    follows = _followed(rows)
    for at in _chunks(len(follows)):
        # One frame more than the chunk has, because flow is to the next one; at the very end there is none.
        _, vertices = surfaces_m(body, plain.part(slice(at.start, at.stop + 1)))
        frames = len(follows[at])
        if masks is not None:
            parts["mask_iou"].append(mask_iou(vertices[:frames], faces, lens[at], masks[at]))
        if flow is not None and flow_ok is not None:
            value = torch.full((frames,), torch.nan, dtype=torch.float64)
            on = follows[at].nonzero()[:, 0]
            value[on] = flow_error_px(
                vertices[on], vertices[on + 1], faces, lens[at][on], flow[at][on], flow_ok[at][on]
            )
            parts["flow_error_px"].append(value)
    return values | {name: torch.cat(part) for name, part in parts.items() if part}


def _surface_values(body: BodyAssets, mine: Bodies, real: Bodies) -> dict[str, Tensor]:
    parts = []
    for at in _chunks(len(mine.betas)):
        (own, vertices), (true_own, true_vertices) = (surfaces_m(body, bodies.part(at)) for bodies in (mine, real))
        pelvis, true_pelvis = mine.pelvis_cam_m[at], real.pelvis_cam_m[at]
        parts.append(
            {
                "pve_mm": pve_mm(vertices, true_vertices, pelvis, true_pelvis),
                "pa_pve_mm": pa_pve_mm(vertices, true_vertices),
                "surface_canonical_mm": surface_canonical_mm(own, true_own),
            }
        )
    return {name: torch.cat([part[name] for part in parts]) for name in (parts[0] if parts else ())}


def _motion_values(here: Tensor, there: Tensor, known: Bool[Tensor, "n j"], rows: Rows) -> dict[str, Tensor]:
    run = torch.from_numpy(runs(rows))
    fps = np.full(len(run), HUMAN36M_HZ, dtype=np.float64) if rows.fps is None else rows.fps
    return {
        "acceleration_mm_per_frame2": acceleration_mm_per_frame2(here, there, known, run),
        "acceleration_m_per_s2": acceleration_m_per_s2(here, there, known, run, torch.from_numpy(fps)),
    }


def _slide_values(
    here: Tensor, there: Tensor, known: Bool[Tensor, "n j"], rows: Rows, names: Sequence[str]
) -> dict[str, Tensor]:
    """Of the feet, or of the ankles under another name where a joint set ends there."""
    part = next((p for p in ("foot", "ankle") if f"l_{p}" in names and f"r_{p}" in names), None)
    if part is None:
        return {}
    k = [names.index(f"l_{part}"), names.index(f"r_{part}")]
    return {f"{part}_slide_mm": foot_slide_mm(here[:, k], there[:, k], known[:, k], torch.from_numpy(runs(rows)))}


def _followed(rows: Rows) -> Bool[Tensor, " n"]:
    """Whether the next row is the next frame of the same run."""
    run = torch.from_numpy(runs(rows))
    return torch.cat([run[1:] == run[:-1], torch.zeros(min(len(run), 1), dtype=torch.bool)])


def _chunks(count: int) -> Iterator[slice]:
    return (slice(at, at + CHUNK) for at in range(0, count, CHUNK))


def _listed(protocol: Protocol) -> Bool[Tensor, " j"]:
    return torch.tensor([j in protocol.joints for j in range(protocol.num_joints)])


def value_name(alignment: Alignment, protocol: Protocol) -> str:
    """MPJPE is called by its root, because three roots stand in one table."""
    if alignment != "root":
        return METRIC_NAMES[alignment]
    return {(): "mpjpe_origin_mm", (0,): "mpjpe_pelvis_mm"}.get(protocol.root, "mpjpe_root_mm")
