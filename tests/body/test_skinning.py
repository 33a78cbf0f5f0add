"""Our skinning equals smplx's in values and gradients; its conventions are SMPL's."""

import itertools

import numpy as np
import pytest
import smplx
import torch

from aign.body.assets import DEFAULT_BODY, load_body
from aign.body.skinning import joints_only, levels, rest_joints, skin, world_rotations
from aign.geometry.rotation import from_axis_angle
from aign.geometry.skeleton import SMPL24
from tests.body.toy_body import toy_arrays


@pytest.fixture(scope="module", params=["default", "toy"])
def path(request, tmp_path_factory):
    if request.param == "default":
        return DEFAULT_BODY
    path = tmp_path_factory.mktemp("toy") / "toy.npz"
    np.savez(path, **toy_arrays())
    return path


def inputs(dtype, batch=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    angles = torch.randn(batch, 24, 3, generator=generator, dtype=torch.float64)
    angles[0, 3] = 0.0  # a joint at rest
    angles[1, 4] = torch.tensor([torch.pi, 0, 0])  # and one turned right round
    betas = torch.randn(batch, 10, generator=generator, dtype=torch.float64)
    trans = 3 * torch.randn(batch, 3, generator=generator, dtype=torch.float64)
    return [x.to(dtype).requires_grad_() for x in (from_axis_angle(angles), betas, trans)]


def smplx_model(path, dtype):
    with np.load(path) as file:
        struct = smplx.utils.Struct(**{k: file[k] for k in file.files})
    if len(struct.v_template) != 6890:  # smplx picks face and finger vertices by SMPL's ids
        ids = dict.fromkeys(smplx.vertex_ids.vertex_ids["smplh"], 0)
        return smplx.SMPL(str(path), data_struct=struct, dtype=dtype, vertex_ids=ids)
    return smplx.SMPL(str(path), data_struct=struct, dtype=dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_equals_smplx_in_values_and_gradients(path, dtype, tolerance):
    body, model = load_body(path).to(dtype=dtype), smplx_model(path, dtype)
    ours = inputs(dtype)
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    got = skin(body, *ours)
    want = model(
        global_orient=theirs[0][:, :1], body_pose=theirs[0][:, 1:], betas=theirs[1], transl=theirs[2], pose2rot=False
    )
    scale = want.vertices.detach().abs().max()
    torch.testing.assert_close(got.vertices_m, want.vertices, atol=float(tolerance * scale), rtol=0)
    torch.testing.assert_close(got.joints_m, want.joints[:, :24], atol=float(tolerance * scale), rtol=0)
    pull = torch.randn(got.vertices_m.shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
    for vertices, joints in ((got.vertices_m, got.joints_m), (want.vertices, want.joints[:, :24])):
        ((vertices * pull).sum() + joints.square().sum()).backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=float(tolerance * b.grad.abs().max()), rtol=0)


def test_joints_only_equals_skin(path):
    body = load_body(path).to(dtype=torch.float64)
    given = inputs(torch.float64)
    torch.testing.assert_close(joints_only(body, *given), skin(body, *given).joints_m, atol=1e-12, rtol=0)


def test_gradients_are_those_of_finite_differences(tmp_path):
    np.savez(tmp_path / "toy.npz", **toy_arrays(vertices=6))
    body = load_body(tmp_path / "toy.npz").to(dtype=torch.float64)

    def posed(angles, betas, trans):
        out = skin(body, from_axis_angle(angles), betas, trans)
        return out.vertices_m.sum(1), out.joints_m[:, ::5]

    angles = 0.5 * torch.randn(1, 24, 3, dtype=torch.float64)
    angles[0, :12] = 0.0
    given = [angles.requires_grad_(), torch.zeros(1, 10, dtype=torch.float64, requires_grad=True)]
    assert torch.autograd.gradcheck(posed, (*given, torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)))


def test_fewer_shape_coefficients_are_zero_padded():
    body = load_body()
    rot, betas, trans = (x.detach() for x in inputs(torch.float32))
    padded = torch.cat([betas[:, :4], torch.zeros(3, 6)], 1)
    torch.testing.assert_close(
        skin(body, rot, betas[:, :4], trans).vertices_m, skin(body, rot, padded, trans).vertices_m
    )


def test_convention_global_rotation_turns_about_the_pelvis_joint():
    body = load_body()
    rot = torch.eye(3).repeat(1, 24, 1, 1)
    rot[0, 0] = from_axis_angle(torch.tensor([0.0, torch.pi / 2, 0.0]))
    betas = torch.tensor([[1.5, *[0.0] * 9]])
    out = skin(body, rot, betas, torch.tensor([[1.0, 2.0, 3.0]]))
    torch.testing.assert_close(out.joints_m[:, 0], rest_joints(body, betas)[:, 0] + torch.tensor([[1.0, 2.0, 3.0]]))
    left_wrist = out.joints_m[0, 20] - out.joints_m[0, 0]
    assert left_wrist[2] < -0.6  # +90 degrees about y takes +x to -z


def test_convention_bent_left_elbow_brings_the_left_hand_forward():
    body = load_body()
    rot = torch.eye(3).repeat(1, 24, 1, 1)
    elbow = SMPL24.joints.index("l_elbow")
    rot[0, elbow] = from_axis_angle(torch.tensor([0.0, -torch.pi / 2, 0.0]))
    joints = joints_only(body, rot, torch.zeros(1, 10), torch.zeros(1, 3))[0]
    forearm = joints[SMPL24.joints.index("l_wrist")] - joints[elbow]
    assert forearm[2] > 0.2
    assert abs(forearm[0]) < 0.02


def test_world_rotations_follow_the_chain():
    rot = from_axis_angle(torch.randn(2, 24, 3, dtype=torch.float64))
    world = world_rotations(rot, SMPL24.parents)
    chain = rot[:, 0] @ rot[:, 2] @ rot[:, 5] @ rot[:, 8] @ rot[:, 11]
    torch.testing.assert_close(world[:, 11], chain)


def test_levels_put_parents_first():
    tree = levels(SMPL24.parents)
    assert sorted(j for level in tree for j in level) == list(range(24))
    for above, level in itertools.pairwise(tree):
        assert all(SMPL24.parents[j] in above for j in level)
