"""Our skinning equals smplx's in values and gradients; its conventions are SMPL's."""

import itertools

import numpy as np
import pytest
import smplx
import torch

from aign.body.assets import DEFAULT_BODY, load_body
from aign.body.skinning import (
    SAMPLES_AT_ONCE,
    forward_kinematics,
    joints_only,
    levels,
    rest_joints,
    skin,
    world_rotations,
)
from aign.framework.errors import UserError
from aign.geometry.rotation import from_axis_angle
from aign.geometry.skeleton import SMPL24
from tests.body.toy_body import smpl_shaped_arrays, toy_arrays


@pytest.fixture(scope="module", params=["default", "toy", "smpl"])
def path(request, tmp_path_factory):
    if request.param == "default":
        return DEFAULT_BODY
    path = tmp_path_factory.mktemp("bodies") / f"{request.param}.npz"
    np.savez(path, **(toy_arrays() if request.param == "toy" else smpl_shaped_arrays()))
    return path


def inputs(dtype, batch=SAMPLES_AT_ONCE + 2, seed=0):
    """By default more samples than are blended at once."""
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
    assert (body.pose_dirs is None) == (path == DEFAULT_BODY)
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


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "tiny.npz"
    np.savez(path, **toy_arrays(vertices=6))
    return load_body(path).to(dtype=torch.float64)


def test_gradients_are_those_of_finite_differences(tiny):
    def posed(angles, betas, trans):
        out = skin(tiny, from_axis_angle(angles), betas, trans)
        return out.vertices_m.sum(1), out.joints_m[:, ::5]

    angles = 0.5 * torch.randn(1, 24, 3, dtype=torch.float64)
    angles[0, :12] = 0.0
    given = [angles.requires_grad_(), torch.zeros(1, 10, dtype=torch.float64, requires_grad=True)]
    assert torch.autograd.gradcheck(posed, (*given, torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)))


def test_gradients_of_every_vertex_for_more_samples_than_are_blended_at_once(tiny):
    given = [x.detach().requires_grad_() for x in inputs(torch.float64, batch=SAMPLES_AT_ONCE + 1)]
    assert torch.autograd.gradcheck(lambda *x: skin(tiny, *x).vertices_m, given, fast_mode=True)
    assert torch.autograd.gradcheck(lambda *x: skin(tiny, *x).vertices_m[:, ::2].mT.contiguous(), given, fast_mode=True)


def test_joints_can_be_differentiated_twice_and_vertices_say_that_they_cannot(tiny):
    given = [x.detach().requires_grad_() for x in inputs(torch.float64, batch=2)]
    assert torch.autograd.gradgradcheck(lambda *x: joints_only(tiny, *x), given, fast_mode=True)
    with pytest.raises(UserError, match="second derivatives"):
        torch.autograd.grad(skin(tiny, *given).vertices_m.sum(), given[0], create_graph=True)


def test_what_is_kept_for_the_gradient_is_little_more_than_the_vertices():
    body = load_body()
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        vertices = skin(body, *inputs(torch.float32, batch=16)).vertices_m
    for mine in (*body.vertex_rows, body.weight_rows, body.joint_shape_dirs):
        kept.pop(mine.untyped_storage().data_ptr(), None)
    assert vertices.nbytes <= sum(kept.values()) < 1.5 * vertices.nbytes


def test_body_first_used_in_inference_can_be_trained(tiny):
    fresh = tiny.to(dtype=torch.float32)
    given = inputs(torch.float32)
    parents = (-1, *range(len(SMPL24.parents) - 1))  # a tree that nothing else asks for
    with torch.inference_mode():
        skin(fresh, *given)
        forward_kinematics(given[0], given[0][:, :, 0], parents)
    skin(fresh, *given).vertices_m.sum().backward()
    forward_kinematics(given[0], given[0][:, :, 0], parents)[1].sum().backward()
    assert given[0].grad.abs().sum() > 0


def test_no_sample_and_a_shared_translation():
    body = load_body()
    rot, betas, trans = (x.detach() for x in inputs(torch.float32))
    assert skin(body, rot[:0], betas[:0], trans[:0]).vertices_m.shape == (0, 6890, 3)
    shared = skin(body, rot, betas, trans[:1].expand(len(rot), 3)).vertices_m
    torch.testing.assert_close(shared[0], skin(body, rot, betas, trans).vertices_m[0])
    torch.testing.assert_close(shared[1], skin(body, rot, betas, trans.roll(1, 0)).vertices_m[1])


def test_fewer_shape_coefficients_are_zero_padded():
    body = load_body()
    rot, betas, trans = (x.detach() for x in inputs(torch.float32))
    padded = torch.cat([betas[:, :4], torch.zeros(len(betas), 6)], 1)
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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_equals_cpu(path):
    body = load_body(path).to(dtype=torch.float64)
    ours = inputs(torch.float64)
    theirs = [x.detach().cuda().requires_grad_() for x in ours]
    got, want = skin(body.to("cuda"), *theirs), skin(body, *ours)
    torch.testing.assert_close(got.vertices_m.cpu(), want.vertices_m, atol=1e-10, rtol=0)
    got.vertices_m.square().sum().backward()
    want.vertices_m.square().sum().backward()
    for a, b in zip(theirs, ours, strict=True):
        torch.testing.assert_close(a.grad.cpu(), b.grad, atol=1e-7, rtol=1e-9)
