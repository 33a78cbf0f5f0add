"""The bound that sees the truth: exact where the basis can, and never worse than any other pose of the basis."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from aign.evaluation.baselines.oracle import TORSO, measure_oracle, nearest_in_basis
from aign.evaluation.lifting import View
from aign.evaluation.report import Provenance
from aign.evaluation.rows import Rows
from aign.framework.errors import UserError
from aign.geometry.camera import Pinhole
from aign.geometry.rotation import from_axis_angle
from aign.geometry.skeleton import H36M17
from aign.geometry.torso import canonical
from aign.recipes.lifting import VALIDATION_PROTOCOL
from aign.tasks.lifting.factors import PoseBasis, pca
from aign.tasks.lifting.frames import Frames
from tests.tasks.scenes import people

SOURCE = Provenance(method="bound", data="d", store_hash="s")


def poses(count=200, seed=5):
    """Canonical poses, very unlike one another."""
    noise = 0.1 * torch.randn(count, 17, 3, generator=torch.Generator().manual_seed(seed))
    return canonical((people(count) + noise).double(), H36M17)[0]


def placed(canonical_m):
    """Turned and moved in front of a camera."""
    n = len(canonical_m)
    generator = torch.Generator().manual_seed(1)
    rot = from_axis_angle(2 * torch.rand(n, 3, generator=generator).double())
    return canonical_m @ rot.mT + torch.tensor([0.2, -0.1, 5.0]).double()


def view(joints, valid=None):
    n = len(joints)
    frames = Frames(
        kp2d_px=torch.zeros(n, 17, 2), conf=torch.ones(n, 17),
        camera=Pinhole.of(torch.tensor([[1000.0, 1000, 500, 500]]).expand(n, 4).contiguous()),
        clip=torch.zeros(n, dtype=torch.int64),
    )  # fmt: skip
    words = {name: np.array(["S9"] * n) for name in ("sequence", "subject", "action", "camera")}
    return View(
        frames=frames, joints_cam_m=joints, valid=torch.ones(n, 17, dtype=torch.bool) if valid is None else valid,
        rows=Rows(**words, frame=np.arange(n)),
    )  # fmt: skip


def single(basis):
    """In the precision of a store's poses."""
    return PoseBasis(mean_m=basis.mean_m.float(), components_m=basis.components_m.float(), explained=basis.explained)


def everything(n):
    return torch.ones(n, 17, dtype=torch.bool)


def test_convention_a_pose_of_the_basis_is_found_where_it_stands():
    """Convention: answers are in the frame of the truth."""
    basis = pca(poses(), 8)
    coefficients = torch.randn(20, 8, generator=torch.Generator().manual_seed(0)).double()
    made = basis.mean_m + torch.einsum("nk,kjd->njd", coefficients, basis.components_m)
    # Principal components of torso frames keep the torso's own coordinates, so what is made is canonical already.
    torch.testing.assert_close(canonical(made, H36M17)[0], made, atol=1e-9, rtol=0)
    truth = placed(made)
    torch.testing.assert_close(nearest_in_basis(truth, everything(20), basis), truth, atol=1e-9, rtol=0)


def test_the_answer_is_a_plain_least_squares_of_every_pose():
    known = poses(300)
    basis, truth = pca(known[:200], 6), placed(known[200:230])
    got = nearest_in_basis(truth, everything(30), basis)
    own, rot = canonical(truth, H36M17)
    design = basis.components_m.flatten(1).T.numpy()
    for i in range(30):
        offset = (own[i] - basis.mean_m).flatten().numpy()
        solution = np.linalg.lstsq(design, offset, rcond=None)[0]
        want = (basis.mean_m + torch.from_numpy(design @ solution).reshape(17, 3)) @ rot[i].T + truth[i, 0]
        torch.testing.assert_close(got[i], want, atol=1e-9, rtol=0)


def test_joints_that_are_not_known_do_not_pull():
    known = poses(300)
    basis, truth = pca(known[:200], 6), placed(known[200:210])
    valid = everything(10)
    wrist, ankle = H36M17.index("l_wrist", "r_ankle")
    valid[:5, [wrist, ankle]] = False
    wild = truth.clone()
    wild[:5, [wrist, ankle]] = math.nan
    got = nearest_in_basis(wild, valid, basis)
    assert got.isfinite().all()
    # A plain least squares over the joints that are known, for the first; the others are as if nothing was missing.
    own, rot = canonical(truth, H36M17)
    keep = valid[0].repeat_interleave(3).numpy()
    design = basis.components_m.flatten(1).T.numpy()
    solution = np.linalg.lstsq(design[keep], (own[0] - basis.mean_m).flatten().numpy()[keep], rcond=None)[0]
    want = (basis.mean_m + torch.from_numpy(design @ solution).reshape(17, 3)) @ rot[0].T + truth[0, 0]
    torch.testing.assert_close(got[0], want, atol=1e-7, rtol=0)
    whole = nearest_in_basis(truth, everything(10), basis)
    torch.testing.assert_close(got[5:], whole[5:], atol=1e-7, rtol=0)


def test_more_components_come_nearer_and_the_report_says_so():
    known = poses(300)
    there = view(placed(known[200:]).float())
    errors = [
        measure_oracle(single(pca(known[:200], k)), there, VALIDATION_PROTOCOL, SOURCE).scores["similarity"].mean_frames
        for k in (1, 5, 20, 40)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 3 * errors[-1]


def test_poses_without_a_torso_are_skipped_and_counted():
    known = poses(60).float()
    basis, truth = pca(known, 4), placed(known.double()).float()
    valid = everything(60)
    valid[:7, TORSO[1]] = False
    truth[:7, TORSO[1]] = 0
    report = measure_oracle(basis, view(truth, valid), VALIDATION_PROTOCOL, SOURCE)
    assert (report.num_frames, report.num_skipped) == (53, 7)
    clean = measure_oracle(basis, view(truth[7:]), VALIDATION_PROTOCOL, SOURCE)
    assert dataclasses.replace(report, num_skipped=0).headline == pytest.approx(clean.headline, rel=1e-6)


def test_nobody_with_a_torso_is_an_error():
    valid = everything(3)
    valid[:, TORSO[0]] = False
    with pytest.raises(UserError, match="got 3 poses without pelvis, thorax and both hips"):
        measure_oracle(single(pca(poses(), 4)), view(placed(poses(3)).float(), valid), VALIDATION_PROTOCOL, SOURCE)
