"""Bodies and joints measured: against plain loops of the numbers, and in cases whose answer is known."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from aign.body.assets import BodyAssets, load_body
from aign.body.skinning import rest_joints, skin
from aign.evaluation.bodies import about_model_origin_m, joints_cam_m, surfaces_m
from aign.evaluation.image_evidence import ImageEvidence
from aign.evaluation.mocap import Joints, MocapReport, image_values, measure_bodies, measure_joints
from aign.evaluation.mocap_report import runs
from aign.evaluation.protocol import resolve
from aign.evaluation.rows import Rows
from aign.framework.errors import UserError
from aign.geometry.skeleton import H36M17, SMPL24

from .mocap_fixtures import CLIP, WHO, estimate, matrices, rows, said, truth
from .test_alignment import numpy_distance

ORIGIN, PELVIS = resolve("aign-nips17-mesh24/smpl-origin"), resolve("aign-nips17-mesh24/pelvis")
N = 2 * CLIP
BODY = load_body()
FAR_ORIGIN = dataclasses.replace(BODY, v_template_m=BODY.v_template_m - torch.tensor([0.0, 0.22, -0.03]))
"""A body whose pelvis rests where SMPL's does: 22 cm below the model's origin."""


def report(*, body: BodyAssets = BODY, **other: object) -> MocapReport:
    fields: dict[str, object] = {"estimate": estimate(), "truth": truth(), "rows": rows(), "protocol": PELVIS}
    return measure_bodies(provenance=WHO, body=body, **{**fields, **other})  # type: ignore[arg-type]


def test_every_number_against_a_loop_over_frames() -> None:
    measured = report(body=FAR_ORIGIN)
    mine, real = (
        skin(FAR_ORIGIN, b.rotmats, b.betas, b.pelvis_cam_m - rest_joints(FAR_ORIGIN, b.betas)[:, 0])
        for b in (estimate(), truth())
    )
    joints, true_joints = mine.joints_m.double().numpy(), real.joints_m.double().numpy()
    surface, true_surface = mine.vertices_m.double().numpy(), real.vertices_m.double().numpy()
    expected: dict[str, list[float]] = {}
    for i in range(N):
        centred = joints[i] - joints[i, 0], true_joints[i] - true_joints[i, 0]
        frame = {
            "mpjpe_pelvis_mm": np.linalg.norm(centred[0] - centred[1], axis=1).mean(),
            "mpjpe_absolute_mm": np.linalg.norm(joints[i] - true_joints[i], axis=1).mean(),
            "pa_mpjpe_mm": numpy_distance(joints[i], true_joints[i], True, False),
            "pve_mm": np.linalg.norm(
                (surface[i] - joints[i, 0]) - (true_surface[i] - true_joints[i, 0]), axis=1
            ).mean(),
            "pa_pve_mm": numpy_distance(surface[i], true_surface[i], True, False),
        }
        for name, value in frame.items():
            expected.setdefault(name, []).append(1000 * float(value))
    for name, values in expected.items():
        assert measured.numbers[name] == pytest.approx(np.mean(values), rel=1e-5), name
        for clip in range(2):
            mean = np.mean(values[clip * CLIP : (clip + 1) * CLIP])
            assert measured.per_clip[f"walk {clip}@left"][name] == pytest.approx(mean, rel=1e-5)
            assert measured.per_action["Walk" if clip == 0 else "Run"][name] == pytest.approx(mean, rel=1e-5)
    assert (measured.num_frames, measured.num_skipped, measured.frames_per_clip["walk 1@left"]) == (N, 0, CLIP)
    assert measured.headline == measured.numbers["mpjpe_pelvis_mm"]
    assert report(protocol=ORIGIN, body=FAR_ORIGIN).headline == measured.numbers["mpjpe_origin_mm"]
    ends = {"acceleration_m_per_s2": N - 4, "acceleration_mm_per_frame2": N - 4}
    assert {name: measured.frames[name] for name in ends} == ends
    assert 1e6 / 900 * measured.numbers["acceleration_m_per_s2"] / 1000 == pytest.approx(
        measured.numbers["acceleration_mm_per_frame2"]
    )


def test_convention_vertices_of_the_camera_are_those_of_skinning() -> None:
    bodies = truth(4)
    own, in_camera = surfaces_m(FAR_ORIGIN, bodies)
    pelvis = rest_joints(FAR_ORIGIN, bodies.betas)[:, 0]
    reference = skin(FAR_ORIGIN, bodies.rotmats, bodies.betas, bodies.pelvis_cam_m - pelvis)
    torch.testing.assert_close(in_camera, reference.vertices_m, atol=2e-6, rtol=0)
    torch.testing.assert_close(joints_cam_m(FAR_ORIGIN, bodies), reference.joints_m, atol=2e-6, rtol=0)
    assert own[..., 1].amax() < 1.5, "upright, about the rest position"


def test_convention_the_models_origin_is_that_of_the_released_code() -> None:
    """R J + 0, where the model's own root is at half a turn about x and R turns about the origin."""
    bodies = truth(3)
    half_turn = matrices(np.array([[math.pi, 0, 0]]))[0]
    inner = bodies.rotmats.clone()
    inner[:, 0] = half_turn
    model = skin(FAR_ORIGIN, inner, bodies.betas, torch.zeros(3, 3)).joints_m
    outer = bodies.rotmats[:, 0] @ half_turn.mT
    torch.testing.assert_close(about_model_origin_m(FAR_ORIGIN, bodies), model @ outer.mT, atol=2e-6, rtol=0)
    centred = joints_cam_m(BODY, bodies) - bodies.pelvis_cam_m[:, None]
    assert (about_model_origin_m(BODY, bodies) - centred).norm(dim=-1).max() < 0.005, "the default body's is its pelvis"


def test_a_pure_rotation_costs_nothing_in_the_body_frame_or_after_alignment() -> None:
    real = truth()
    turned = real.rotmats.clone()
    turned[:, 0] = matrices(np.array([[0.3, -0.5, 0.2]])) @ turned[:, 0]
    measured = report(estimate=said(real, rotmats=turned)).numbers
    assert measured["surface_canonical_mm"] == 0
    assert max(measured["pa_mpjpe_mm"], measured["pa_pve_mm"]) < 1e-2
    assert min(measured["mpjpe_pelvis_mm"], measured["mpjpe_origin_mm"], measured["pve_mm"]) > 50


def test_a_pure_translation_costs_only_what_is_absolute() -> None:
    real = truth()
    moved = said(real, pelvis_cam_m=real.pelvis_cam_m + torch.tensor([0.3, 0.0, 0.4]))
    measured = report(estimate=moved, body=FAR_ORIGIN).numbers
    assert measured["mpjpe_absolute_mm"] == pytest.approx(500, rel=1e-4)
    for name in ("mpjpe_pelvis_mm", "mpjpe_origin_mm", "pve_mm", "surface_canonical_mm", "pa_mpjpe_mm"):
        assert measured[name] < 1e-2, name
    assert measured["acceleration_m_per_s2"] < 1e-2


def test_where_the_origin_is_matters_to_a_wrong_rotation() -> None:
    real = truth()
    turned = real.rotmats.clone()
    turned[:, 0] = matrices(np.array([[0.0, 0.0, 1.0]])) @ turned[:, 0]
    numbers = report(estimate=said(real, rotmats=turned), body=FAR_ORIGIN).numbers
    assert abs(numbers["mpjpe_origin_mm"] - numbers["mpjpe_pelvis_mm"]) > 5


def test_what_is_perfect_is_zero_and_standing_feet_do_not_slide() -> None:
    one = truth(1)
    still = type(one)(**{name: value.expand(N, *value.shape[1:]) for name, value in vars(one).items()})
    exact = report(estimate=said(still), truth=still)
    assert max(exact.numbers.values()) < 1e-3
    assert exact.frames["foot_slide_mm"] == N - 2
    drift = 0.01 * torch.arange(N)[:, None] * torch.tensor([0.0, 0, 1])
    moving = report(estimate=said(still, pelvis_cam_m=still.pelvis_cam_m + drift), truth=still)
    assert moving.numbers["foot_slide_mm"] == pytest.approx(10, rel=1e-3)


def test_frames_beyond_one_chunk_are_measured_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = report(evidence=evidence())
    monkeypatch.setattr("aign.evaluation.mocap.CHUNK", 3)
    parts = report(evidence=evidence())
    assert parts.numbers == pytest.approx(whole.numbers, rel=1e-6)
    assert parts.frames == whole.frames


def evidence(**other: torch.Tensor | None) -> ImageEvidence:
    rng = np.random.default_rng(5)
    fields: dict[str, torch.Tensor | None] = {
        "intrinsics_px": torch.tensor([60.0, 60.0, 15.5, 15.5]).repeat(N, 1),
        "keypoints_px": torch.from_numpy(rng.uniform(0, 32, (N, 24, 2))).float(),
        "keypoints_valid": torch.from_numpy(rng.random((N, 24)) < 0.7),
        "mask": torch.from_numpy(rng.random((N, 32, 32)) < 0.5),
        "flow_px": torch.from_numpy(rng.normal(size=(N, 32, 32, 2))).float(),
        "flow_ok": torch.ones(N, 32, 32, dtype=torch.bool),
    }
    return ImageEvidence(**{**fields, **other})  # type: ignore[arg-type]


def test_evidence_adds_its_numbers_and_flow_stays_within_clips() -> None:
    measured = report(evidence=evidence())
    assert {"reprojection_px", "mask_iou", "flow_error_px"} <= set(measured.numbers)
    assert (measured.frames["mask_iou"], measured.frames["flow_error_px"]) == (N, N - 2)
    alone = image_values(estimate(), rows(), evidence(mask=None, flow_px=None))
    assert set(alone) == {"reprojection_px"}
    masks = image_values(estimate(), rows(), evidence(flow_ok=None))
    assert set(masks) == {"reprojection_px", "mask_iou"}
    with pytest.raises(UserError, match="evidence of 10 frames; allowed is one per row: 5"):
        image_values(estimate(5), rows(5), evidence())


def test_runs_end_with_the_clip_the_camera_and_a_gap() -> None:
    where = Rows(
        sequence=np.array(["a", "a", "a", "a", "b", "b"]),
        subject=np.array(["s"] * 6),
        action=np.array(["x"] * 6),
        camera=np.array(["l", "l", "l", "l", "l", "r"]),
        frame=np.array([0, 1, 3, 4, 5, 6]),
    )
    assert runs(where).tolist() == [1, 1, 2, 2, 3, 4]


def test_json_and_back() -> None:
    measured = report(evidence=evidence())
    assert MocapReport.from_json(measured.to_json()) == measured
    for name, number in measured.numbers.items():
        assert sum(m * w for m, w in measured.units[name].values()) == pytest.approx(number, rel=1e-6)
    assert (measured.method, measured.protocol_hash) == ("toy", PELVIS.hash)
    for text in ("{}", "nonsense", "[1]", '{"method": "x"}'):
        with pytest.raises(UserError, match="not a motion-capture report"):
            MocapReport.from_json(text)


def test_a_report_of_actions_takes_the_mean_of_their_means() -> None:
    where = rows(clip=4)
    by_action = report(rows=where, protocol=dataclasses.replace(PELVIS, aggregation="actions"))
    name = "mpjpe_pelvis_mm"
    assert by_action.numbers[name] == pytest.approx(np.mean([m[name] for m in by_action.per_action.values()]))
    assert by_action.numbers[name] != pytest.approx(report(rows=where).numbers[name])


def nan(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x[:-1], torch.full_like(x[-1:], torch.nan)])


@pytest.mark.parametrize(
    ("other", "said_of_it"),
    [
        ({"protocol": resolve("vp3d-p1")}, "of h36m17 joints; bodies allow those of smpl24"),
        ({"rows": rows(5)}, "allowed is one per row: 5"),
        ({"estimate": said(truth(), betas=nan(truth().betas))}, "1 frames of the estimate with NaN .* betas"),
        ({"estimate": said(truth(), rotmats=nan(truth().rotmats))}, "NaN or infinity in rotmats"),
        ({"truth": dataclasses.replace(truth(), pelvis_cam_m=nan(truth().pelvis_cam_m))}, "of the truth with NaN"),
        (
            {"estimate": said(truth(), pelvis_cam_m=1000 * truth().pelvis_cam_m)},
            "estimate 3982 from .* allowed are metres",
        ),
        ({"truth": dataclasses.replace(truth(), pelvis_cam_m=1000 * truth().pelvis_cam_m)}, "the truth .*mm given"),
        ({"estimate": said(truth(), rotmats=1.1 * truth().rotmats)}, "240 matrices in the estimate's rotmats"),
        ({"estimate": said(truth(), rotmats=-truth().rotmats)}, "no rotations"),
        ({"protocol": dataclasses.replace(PELVIS, subjects=("B",))}, "no frame that"),
    ],
)
def test_what_cannot_be_is_refused(other: dict[str, object], said_of_it: str) -> None:
    with pytest.raises(UserError, match=said_of_it) as error:
        report(**other)
    assert "\n" not in str(error.value)


H36M = resolve("open-video/pseudo-truth/j17/root0")


def joints(seed: int, joint_set: str = "smpl24", missing: float = 0.0) -> Joints:
    positions = joints_cam_m(BODY, truth(N, seed)).double()
    valid = torch.from_numpy(np.random.default_rng(seed).random(positions.shape[:2]) >= missing)
    return Joints(joints_cam_m=torch.where(valid[..., None], positions, torch.nan), valid=valid, joint_set=joint_set)


def test_joints_against_a_loop_over_what_both_have() -> None:
    mine, real = joints(0), joints(1, missing=0.1)
    measured = measure_joints(mine, real, rows(), PELVIS, WHO)
    plain, aligned = [], []
    for p, t, valid in zip(mine.joints_cam_m.numpy(), real.joints_cam_m.numpy(), real.valid.numpy(), strict=True):
        if valid[0] and valid.sum() >= 4:
            plain.append(1000 * np.linalg.norm((p - p[0]) - (t - t[0]), axis=1)[valid].mean())
            aligned.append(1000 * numpy_distance(p[valid], t[valid], True, False))
    assert 0 < len(plain) <= N
    assert measured.numbers["mpjpe_pelvis_mm"] == pytest.approx(np.mean(plain), rel=1e-6)
    assert measured.numbers["pa_mpjpe_mm"] == pytest.approx(np.mean(aligned), rel=1e-6)
    assert (measured.num_frames, measured.num_skipped) == (len(plain), N - len(plain))


def test_smpl_joints_meet_human36m_joints_where_both_have_them() -> None:
    """SMPL has no nose and no top of the head: what a truth says of them cannot be held against it."""
    mine = joints(0)
    at, valid = mine.converted(H36M17)
    assert {H36M17.joints[j] for j in range(17) if not valid[:, j].any()} == {"nose", "head_top"}
    at[:, H36M17.index("nose", "head_top")] = 1.0
    real = Joints(joints_cam_m=at + 0.25, valid=torch.ones_like(valid), joint_set="h36m17")
    measured = measure_joints(mine, real, rows(), H36M, WHO)
    assert set(measured.numbers) >= {"pa_mpjpe_mm", "mpjpe_pelvis_mm", "n_mpjpe_mm", "rigid_mpjpe_mm", "flip_rate"}
    assert max(v for name, v in measured.numbers.items() if name.endswith("mpjpe_mm")) < 1e-3
    assert measured.headline == measured.numbers["pa_mpjpe_mm"]
    fourteen = measure_joints(mine, real, rows(), resolve("open-motion/heldout/j14/mid-hip"), WHO)
    assert fourteen.headline_name == "mpjpe_root_mm"
    assert fourteen.headline < 1e-3


def test_an_unknown_joint_holds_anything() -> None:
    real = joints(1, missing=0.2)
    zeros = dataclasses.replace(real, joints_cam_m=torch.where(real.valid[..., None], real.joints_cam_m, 0.0))
    one, other = (measure_joints(joints(0), t, rows(), PELVIS, WHO) for t in (real, zeros))
    assert one == other


def test_values_of_the_pictures_stand_beside_joints() -> None:
    beside = image_values(estimate(), rows(), evidence())
    measured = measure_joints(joints(0), joints(1), rows(), PELVIS, WHO, beside=beside)
    assert measured.numbers["mask_iou"] == pytest.approx(float(beside["mask_iou"].mean()))
    assert "foot_slide_mm" in measured.numbers or measured.numbers["acceleration_mm_per_frame2"] > 0


@pytest.mark.parametrize(
    ("mine", "said_of_it"),
    [
        (dataclasses.replace(joints(0), joint_set="h36m17"), "10 rows of 17 joints of h36m17"),
        (dataclasses.replace(joints(0), joint_set="mine"), "unknown skeleton"),
        (dataclasses.replace(joints(0), joints_cam_m=1000 * joints(0).joints_cam_m), "allowed are metres"),
        (dataclasses.replace(joints(0), joints_cam_m=torch.full((N, 24, 3), torch.nan)), "240 estimates that are NaN"),
        (dataclasses.replace(joints(0), valid=torch.zeros(N, 24, dtype=torch.bool)), "10 frames, none with joints"),
    ],
)
def test_joints_that_cannot_be_are_refused(mine: Joints, said_of_it: str) -> None:
    with pytest.raises(UserError, match=said_of_it):
        measure_joints(mine, joints(1), rows(), PELVIS, WHO)


def test_feet_are_named_by_what_the_joint_set_has() -> None:
    still = joints(0)
    still = dataclasses.replace(still, joints_cam_m=still.joints_cam_m[:1].expand(N, -1, -1))
    assert "foot_slide_mm" in measure_joints(still, still, rows(), PELVIS, WHO).numbers
    ankles = measure_joints(still, still, rows(), H36M, WHO).numbers
    assert "ankle_slide_mm" in ankles
    assert "foot_slide_mm" not in ankles
    assert SMPL24.index("l_foot", "r_foot")
