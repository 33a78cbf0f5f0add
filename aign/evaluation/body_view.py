"""Clips of a store as a method of motion capture sees them, and for the judge alone the true bodies."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from aign.body.assets import BodyAssets, load_body
from aign.body.skinning import rest_joints
from aign.data.decoding import flow_from_64ths
from aign.data.progress import progress
from aign.data.store import Selection, Store
from aign.data.store.reader import Columns
from aign.evaluation.image_evidence import ImageEvidence
from aign.evaluation.mocap import BodyEstimate, BodyTruth, measure_bodies
from aign.evaluation.mocap_report import MocapReport
from aign.evaluation.protocol import resolve
from aign.evaluation.report import Provenance
from aign.evaluation.rows import Rows
from aign.geometry.rotation import from_axis_angle
from aign.geometry.skeleton import Skeleton, skeleton
from aign.tasks.motion_capture.clips import CapturedClip, capture, observed, read_clips
from aign.tasks.motion_capture.factors import BodyFactors
from aign.tasks.motion_capture.feed import BODY_COLUMNS, PICTURE_COLUMNS, keypoints_in_frame
from aign.tasks.motion_capture.nets import encoder_of
from aign.tasks.motion_capture.observation import KEYPOINTS

EVIDENCE: Columns = {"masks": ("mask_png",), "flow": ("flow_zst",)}


@dataclass(frozen=True, kw_only=True)
class BodyView:
    """Frames, clip after clip.

    Attributes:
        clips: pictures, keypoints, masks and flow.
        source: joint set of the store.
        rows: where each frame comes from.
        evidence: what renders are compared with, for the judge.
        truth: the bodies; None where the store has none.
    """

    clips: tuple[CapturedClip, ...]
    source: Skeleton
    rows: Rows
    evidence: ImageEvidence
    truth: BodyTruth | None


BodyMethod = Callable[[CapturedClip, Skeleton], BodyFactors]
"""Any way to get bodies [n, 1, ...] of the n frames of a clip."""


def load_body_view(
    store: Store, selection: Selection | None, *, more: Columns | None = None, body: BodyAssets | None = None
) -> BodyView:
    """All selected clips of a store, with what they have of masks, flow and true bodies.

    Args:
        store: with pictures and keypoints.
        selection: which clips.
        more: further columns that the methods need.
        body: whose pelvis the truth is told of; None: the default body.
    """
    there = set(store.manifest.tables)
    wanted = {**PICTURE_COLUMNS, **EVIDENCE, **BODY_COLUMNS, **(more or {})}
    columns = {table: names for table, names in wanted.items() if table in there}
    clips = tuple(read_clips(store, columns, selection))
    source = skeleton(store.manifest.skeleton)
    joined = {name: torch.cat([clip.columns[name] for clip in clips]) for name in clips[0].columns}
    return BodyView(
        clips=clips, source=source, rows=_rows(clips), evidence=_evidence(joined, source), truth=_truth(joined, body)
    )


def _rows(clips: tuple[CapturedClip, ...]) -> Rows:
    keys = [clip.key for clip in clips]
    index = np.repeat(np.arange(len(keys)), [key.num_frames for key in keys])
    names = {f: np.array([getattr(key, f) for key in keys])[index] for f in ("sequence", "subject", "action", "camera")}
    return Rows(
        **names,
        frame=np.concatenate([np.arange(key.frame_start, key.frame_start + key.num_frames) for key in keys]),
        fps=np.array([key.fps for key in keys], dtype=np.float64)[index],
    )


def _evidence(joined: dict[str, Tensor], source: Skeleton) -> ImageEvidence:
    kp_px, conf = keypoints_in_frame(joined, source)
    points, there = kp_px.new_zeros(len(kp_px), 24, 2), torch.zeros(len(kp_px), 24, dtype=torch.bool)
    points[:, list(KEYPOINTS)], there[:, list(KEYPOINTS)] = kp_px[:, 0], conf[:, 0] > 0
    flow, ok = (None, None)
    if "flow_64th_px" in joined:
        planes, ok = flow_from_64ths(joined["flow_64th_px"][:, 0])
        flow = planes.permute(0, 2, 3, 1)
    return ImageEvidence(
        intrinsics_px=joined["frame_intrinsics_px"],
        keypoints_px=points,
        keypoints_valid=there,
        mask=joined["mask"][:, 0] if "mask" in joined else None,
        flow_px=flow,
        flow_ok=ok,
    )


def _truth(joined: dict[str, Tensor], body: BodyAssets | None) -> BodyTruth | None:
    if "body_pose_rad" not in joined:
        return None
    betas = joined["betas"][:, 0]
    rest = rest_joints(body or load_body(), betas)[:, 0]
    return BodyTruth(
        rotmats=from_axis_angle(joined["body_pose_rad"][:, 0]),
        betas=betas,
        pelvis_cam_m=joined["body_trans_cam_m"][:, 0] + rest,
    )


def encoder_method(net: nn.Module, device: torch.device, body: BodyAssets | None = None) -> BodyMethod:
    """A network as a method; its answers come back to the CPU."""
    encoder = encoder_of(net)

    def method(clip: CapturedClip, source: Skeleton) -> BodyFactors:
        was_training = encoder.training
        encoder.eval()
        seen = observed(clip, encoder.config.frames, source, encoder.config.side_px, body or load_body())
        bodies = capture(encoder, seen, device)
        encoder.train(was_training)
        return bodies

    return method


def _silent(_: int) -> None:
    """Nobody is told."""


def estimate(method: BodyMethod, view: BodyView, label: str | None = None) -> BodyEstimate:
    """Run a method on every clip, with a progress bar if it has a label."""
    found = []
    with progress(len(view.clips), label, "clips") if label else nullcontext(_silent) as advance:
        for clip in view.clips:
            found.append(method(clip, view.source))
            advance(1)
    return BodyEstimate(
        rotmats=torch.cat([z.rotmats[:, 0] for z in found]),
        betas=torch.cat([z.betas for z in found]),
        pelvis_cam_m=torch.cat([z.pelvis_cam_m[:, 0] for z in found]),
    )


def measure_view(bodies: BodyEstimate, view: BodyView, protocol: str, provenance: Provenance) -> MocapReport:
    """Judge estimated bodies by the true ones.

    Raises:
        UserError: unknown protocol, or it counts none of the frames.
    """
    assert view.truth is not None, "bodies are judged by true bodies"
    return measure_bodies(bodies, view.truth, view.rows, resolve(protocol), provenance, evidence=view.evidence)
