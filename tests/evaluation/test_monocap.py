"""The dictionary is sparse and nonnegative; the fit finds what was planted, and is a minimum of what it minimises."""

import itertools
import math

import pytest
import torch

from aign.evaluation.alignment import aligned_distance
from aign.evaluation.baselines import monocap as module
from aign.evaluation.baselines import pose_dictionary
from aign.evaluation.baselines.exemplar import mean_pose, nearest_pose
from aign.evaluation.baselines.monocap import monocap, viterbi
from aign.evaluation.baselines.pose_dictionary import encode, learn_dictionary
from aign.evaluation.lifting import load_view, measure, metrics
from aign.evaluation.report import Provenance
from aign.framework.errors import UserError
from aign.geometry.camera import Pinhole, project
from aign.geometry.rotation import from_axis_angle, geodesic_rad
from aign.recipes.lifting import VALIDATION_PROTOCOL, lifting_demo, load_memory
from aign.tasks.lifting.frames import Frames, neighbours
from aign.tasks.lifting.observation import observe
from tests.tasks.scenes import REST

FACING = torch.tensor([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])
LIMBS = ((1, (2, 3)), (2, (3,)), (4, (5, 6)), (5, (6,)), (11, (12, 13)), (12, (13,)), (14, (15, 16)), (15, (16,)))
FLEX = (-1.3, 1.4, -1.3, 1.4, -1.6, -1.6, -1.6, -1.6)
"""Knees bend backwards, hips, shoulders and elbows forwards: else depth would be anybody's guess."""


def generator(seed):
    return torch.Generator().manual_seed(seed)


def bent(share):
    """REST with its limbs bent the way limbs bend by a share (0..1) of what they can, [n, 8] to [n, 17, 3]."""
    turns = torch.zeros(*share.shape, 3)
    turns[..., 0] = share * torch.tensor(FLEX)
    poses = REST.float().expand(len(turns), 17, 3).clone()
    for limb, (joint, moved) in enumerate(LIMBS):
        about = poses[:, joint : joint + 1]
        poses[:, list(moved)] = (poses[:, list(moved)] - about) @ from_axis_angle(turns[:, limb]).mT + about
    return poses


def actors(count, seed=0):
    return bent(torch.rand(count, 8, generator=generator(seed)))


def walk(count, seed):
    """One person who moves slowly from one pose to another."""
    ends = torch.rand(2, 8, generator=generator(seed))
    return bent(torch.lerp(ends[:1], ends[1:], torch.linspace(0, 1, count)[:, None]))


def filmed(poses, yaw_deg, clip=None, noise_px=0.0):
    """People turned about the vertical, far before a long lens; joints in the camera and what is seen."""
    yaw = torch.zeros(len(poses), 3)
    yaw[:, 1] = torch.as_tensor(yaw_deg) * math.pi / 180
    joints = poses @ from_axis_angle(yaw).mT @ FACING.mT + torch.tensor((0.3, 0.1, 30.0))
    camera = Pinhole.of(torch.tensor([[8000.0, 8000, 500, 500]]).expand(len(poses), 4).contiguous())
    px = project(joints, camera)
    px = px + noise_px * torch.randn(px.shape, generator=generator(9))
    clip = torch.zeros(len(poses), dtype=torch.int64) if clip is None else torch.tensor(clip)
    return joints, Frames(kp2d_px=px, conf=torch.ones(len(poses), 17), camera=camera, clip=clip)


def centred(joints):
    return joints - joints[:, :1]


@pytest.fixture(scope="module")
def memory():
    return actors(600)


@pytest.fixture(scope="module")
def method(memory):
    return monocap(memory)


def with_conf(frames, conf, px=None):
    px = frames.kp2d_px if px is None else px
    return Frames(kp2d_px=px, conf=conf, camera=frames.camera, clip=frames.clip)


# The dictionary.


def test_coefficients_satisfy_the_conditions_of_a_minimum():
    """Karush, Kuhn, Tucker: no slope where a coefficient is used, none downhill where it is 0."""
    atoms = torch.randn(12, 20, generator=generator(0), dtype=torch.float64)
    targets = torch.randn(7, 20, generator=generator(1), dtype=torch.float64)
    weight = 1.5
    codes = encode(targets, atoms, weight, torch.zeros(7, 12, dtype=torch.float64), 3000)
    slope = (codes @ atoms - targets) @ atoms.T + weight
    assert (codes >= 0).all()
    assert 0 < (codes > 0).double().mean() < 0.7
    assert slope[codes > 0].abs().max() < 1e-6
    assert slope.min() > -1e-6


def test_a_dictionary_explains_new_poses_with_few_atoms_and_coefficients_of_mean_one(memory):
    book = learn_dictionary(memory, 48)
    new = actors(200, seed=5)
    flat, none = book.atoms_m.flatten(1), torch.zeros(200, 48)
    codes = encode((new - book.mean_m).flatten(1), flat, 1e-4, none, 300)
    left = (book.pose_m(codes) - new).norm(dim=-1).mean()
    assert left < 0.5 * (book.mean_m - new).norm(dim=-1).mean()
    assert (codes > 0).float().mean() < 0.6
    learnt = encode((memory - book.mean_m).flatten(1), flat, 1e-4, torch.zeros(600, 48), 300)
    assert 0.3 < learnt.mean() < 3


def test_planted_atoms_are_found():
    """Few coefficients of unlike atoms: the dictionary learnt is the one the poses were made of, but for the mean."""
    atoms = torch.nn.functional.normalize(torch.randn(6, 51, generator=generator(0)), dim=1)
    used = torch.rand(800, 6, generator=generator(1)) < 0.25
    codes = used * (0.5 + torch.rand(800, 6, generator=generator(2)))
    poses = REST.float() + (codes @ atoms).reshape(-1, 17, 3)
    book = learn_dictionary(poses, 10)
    found = torch.nn.functional.normalize(book.atoms_m.flatten(1), dim=1)
    assert ((found @ atoms.T).amax(0) > 0.9).all()


def test_the_same_poses_and_seed_give_the_same_dictionary(memory):
    one, same, other = (learn_dictionary(memory, 20, seed) for seed in (3, 3, 4))
    assert torch.equal(one.atoms_m, same.atoms_m)
    assert not torch.allclose(one.atoms_m, other.atoms_m)


def test_a_large_memory_is_thinned_evenly(memory, monkeypatch):
    monkeypatch.setattr(pose_dictionary, "POSES", 101)
    thinned = learn_dictionary(memory, 8)
    kept = memory[torch.linspace(0, 599, 101).round().long()]
    assert torch.equal(thinned.atoms_m, learn_dictionary(kept, 8).atoms_m)


@pytest.mark.parametrize("atoms", [0, 21])
def test_more_atoms_than_poses_or_none_are_refused(atoms):
    with pytest.raises(UserError, match=f"20 poses has 1 to 20 atoms; got {atoms}"):
        learn_dictionary(actors(20), atoms)


def test_poses_all_alike_give_the_mean_and_nothing_else():
    book = learn_dictionary(REST.float().expand(30, 17, 3), 5)
    torch.testing.assert_close(book.pose_m(torch.ones(2, 5)), REST.float().expand(2, 17, 3), atol=1e-5, rtol=0)


# The fit.


def test_convention_planted_people_are_found_where_they_are(method):
    """Convention: camera frame +x right, +y down, +z forward, metres; orthographic pictures of unseen poses."""
    yaw = [0.0, 80.0, 170.0, 250.0, 305.0, 40.0]
    truth, frames = filmed(actors(6, seed=8), yaw, clip=range(6))
    found = method(frames)
    distance = (centred(found) - centred(truth)).norm(dim=-1).mean(1)
    assert distance.median() < 0.05
    assert distance.max() < 0.12
    # The picture is explained, and the distance follows from the size.
    assert (project(found, frames.camera) - frames.kp2d_px).norm(dim=-1).mean() < 0.01 * 8000 / 30
    torch.testing.assert_close(found[:, 0], truth[:, 0], atol=2.0, rtol=0.0)
    torch.testing.assert_close(found[:, 0, :2], truth[:, 0, :2], atol=0.05, rtol=0.0)


def test_it_beats_the_look_up_and_the_mean_on_new_poses(method, memory):
    truth, frames = filmed(actors(60, seed=11), torch.arange(60) * 37.0, clip=range(60))
    error = {
        name: float((centred(how(frames)) - centred(truth)).norm(dim=-1).mean())
        for name, how in (("fit", method), ("nearest", nearest_pose(memory)), ("mean", mean_pose(memory)))
    }
    assert error["fit"] < 0.75 * error["nearest"] < 0.75 * error["mean"]


def test_the_body_is_never_mirrored(method):
    truth, frames = filmed(actors(40, seed=12), torch.arange(40) * 50.0, clip=range(40))
    found = method(frames)
    hips, spine = found[:, 4] - found[:, 1], found[:, 8] - found[:, 0]
    forward = torch.linalg.cross(hips, spine)
    nose = found[:, 9] - found[:, 8]
    # REST's nose is before its neck: left x up = forward, in a right-handed body only.
    assert ((forward * nose).sum(1) > 0).all()
    assert aligned_distance(found, truth, None, scale=True, reflection=False).mean() < 0.05


def test_hidden_joints_do_not_vote_wherever_they_are(method):
    truth, frames = filmed(actors(5, seed=3), [20.0, 90, 180, 270, 330], clip=range(5))
    conf = frames.conf.clone()
    conf[:, [6, 13]] = 0
    far = frames.kp2d_px.clone()
    far[:, [6, 13]] = 1e5
    found = method(with_conf(frames, conf))
    assert torch.equal(found, method(with_conf(frames, conf, far)))
    assert (centred(found) - centred(truth)).norm(dim=-1).mean() < 0.1


def test_a_wrong_joint_of_little_confidence_does_less_harm(method):
    truth, frames = filmed(actors(8, seed=4), torch.arange(8) * 45.0, clip=range(8))
    wrong = frames.kp2d_px.clone()
    wrong[:, 16] += 60.0  # 0.22 m
    error = []
    for trust in (1.0, 0.02):
        conf = frames.conf.clone()
        conf[:, 16] = trust
        error.append((centred(method(with_conf(frames, conf, wrong))) - centred(truth))[:, :16].norm(dim=-1).mean())
    assert error[1] < 0.9 * error[0]


def test_where_nothing_is_seen_the_mean_pose_stands(method, memory):
    _, frames = filmed(walk(9, seed=1), 30.0)
    conf = frames.conf.clone()
    conf[4] = 0
    conf[6, 1:] = 0
    dark = with_conf(frames, conf)
    found = method(dark)
    assert found.isfinite().all()
    torch.testing.assert_close(found[4], mean_pose(memory)(dark)[4], atol=1e-5, rtol=0)
    unseen = method(with_conf(frames, torch.zeros_like(conf)))
    torch.testing.assert_close(unseen, mean_pose(memory)(dark)[4].expand(9, 17, 3), atol=1e-5, rtol=0)


def test_no_frames_give_no_joints(method):
    _, frames = filmed(actors(2), 0.0)
    assert method(frames.part(slice(0, 0))).shape == (0, 17, 3)


def test_a_memory_smaller_than_the_dictionary_is_refused():
    with pytest.raises(UserError, match="30 poses"):
        monocap(actors(30))


# Time.


def test_the_chain_is_the_cheapest_of_all_paths():
    own = torch.rand(6, 3, generator=generator(0))
    moved = torch.rand(6, 3, 3, generator=generator(1))

    def cost(path):
        return sum(own[t, s] for t, s in enumerate(path)) + sum(moved[t, path[t - 1], path[t]] for t in range(1, 6))

    best = min(itertools.product(range(3), repeat=6), key=cost)
    assert viterbi(own, moved).tolist() == list(best)


def test_steps_cost_movement_within_a_clip_and_nothing_between_clips(monkeypatch):
    book = learn_dictionary(actors(40), 8)
    _, frames = filmed(walk(5, seed=3), 10.0, clip=[0, 0, 0, 1, 1])
    count = 5 * module.STARTS
    codes = torch.rand(count, 8, generator=generator(0))
    fits = module._Fit(codes=codes, rot=torch.eye(3).expand(count, 3, 3), scale=torch.ones(count))
    seen = module._Seen(kp2d=torch.zeros(count, 17, 2), conf=torch.ones(count, 17))
    given = {}

    def record(own, moved):
        given["moved"] = moved
        return torch.zeros(len(own), dtype=torch.int64)

    monkeypatch.setattr(module, "viterbi", record)
    module._chain(seen, fits, book, neighbours(frames.clip, 1))
    moved, poses = given["moved"], book.pose_m(codes).reshape(5, module.STARTS, 17, 3)
    assert (moved[3] == 0).all()
    want = module.MOVE / 2 * (poses[1, 4] - poses[2, 1]).square().sum()
    torch.testing.assert_close(moved[2, 4, 1], want)


def test_noise_is_smoothed_along_a_clip(method):
    truth, together = filmed(walk(60, seed=2), 25.0, noise_px=3.0)
    alone = Frames(kp2d_px=together.kp2d_px, conf=together.conf, camera=together.camera, clip=torch.arange(60))
    error, shake = {}, {}
    for name, frames in (("together", together), ("alone", alone)):
        found = centred(method(frames))
        error[name] = float((found - centred(truth)).norm(dim=-1).mean())
        shake[name] = float(found.diff(dim=0).norm(dim=-1).mean())
    assert error["together"] < error["alone"]
    assert shake["together"] < 0.5 * shake["alone"]


def test_clips_know_nothing_of_one_another_however_they_are_grouped(method, monkeypatch):
    poses = torch.cat((walk(7, seed=1), walk(5, seed=2), walk(9, seed=3)))
    _, frames = filmed(poses, 40.0, clip=[0] * 7 + [1] * 5 + [2] * 9, noise_px=2.0)
    whole = method(frames)
    parts = [method(frames.part(slice(*ends))) for ends in ((0, 7), (7, 12), (12, 21))]
    torch.testing.assert_close(whole, torch.cat(parts), atol=2e-3, rtol=0)
    monkeypatch.setattr(module, "GROUP", 3)
    monkeypatch.setattr(module, "CHUNK", 4)
    torch.testing.assert_close(method(frames), whole, atol=2e-3, rtol=0)


@pytest.mark.parametrize("smooth", [False, True])
def test_the_descent_ends_where_no_small_change_helps(memory, monkeypatch, smooth):
    """Against the sum in the module's docstring, written out plainly."""
    book = learn_dictionary(memory.double(), 12)
    _, frames = filmed(walk(4, seed=6), 15.0)
    window, _ = observe(frames.kp2d_px.unsqueeze(1), frames.conf.unsqueeze(1), frames.camera)
    conf = 0.2 + 0.8 * torch.rand(4, 17, generator=generator(2), dtype=torch.float64)
    seen = module._Seen(kp2d=window.kp2d[:, 0].double(), conf=conf)
    near = neighbours(frames.clip, 1)[:, [0, 2]] if smooth else None

    def total(fit):
        cost = 0.0
        for t in range(4):
            pose = book.mean_m + torch.einsum("k,kjd->jd", fit.codes[t], book.atoms_m)
            off = seen.kp2d[t] - fit.scale[t] * (pose @ fit.rot[t].T)[:, :2]
            off = off - (conf[t, :, None] * off).sum(0) / conf[t].sum()
            cost += module.DATA * (conf[t, :, None] * off.square()).sum() / 2 + fit.codes[t].sum()
            if smooth and t:
                cost += module.CODES * (fit.codes[t] - fit.codes[t - 1]).square().sum() / 2
                cost += module.TURN * (fit.rot[t] - fit.rot[t - 1]).square().sum() / 4
        return float(cost)

    start = module._Fit(
        codes=torch.zeros(4, 12, dtype=torch.float64),
        rot=FACING.double().expand(4, 3, 3).clone(),
        scale=torch.ones(4, dtype=torch.float64),
    )
    monkeypatch.setattr(module, "ROUNDS", 300)
    end = module._descend(seen, start, book, near)
    low = total(end)
    assert low < 0.2 * total(start)
    draw = generator(7)
    for _ in range(200):
        size = 10 ** (-1 - 2 * torch.rand(1, generator=draw).item())
        other = module._Fit(
            codes=(end.codes + size * torch.randn(4, 12, generator=draw).double()).clamp_min(0),
            rot=from_axis_angle(0.1 * size * torch.randn(4, 3, generator=draw).double()) @ end.rot,
            scale=end.scale * (1 + 0.1 * size * torch.randn(4, generator=draw).double()),
        )
        assert total(other) > low - 1e-4
    if smooth:
        still = module._descend(seen, start, book, None)
        turned = [geodesic_rad(f.rot[1:], f.rot[:-1]).sum() for f in (end, still)]
        assert turned[0] < turned[1]


def test_it_beats_the_other_baselines_on_the_embedded_motions(demo_store):
    roles = lifting_demo().roles
    view = load_view(demo_store, roles.validation)
    memory = load_memory(demo_store, roles.memory).canonical_m
    source = Provenance(method="m", data="d", store_hash="s")
    error = {
        name: metrics(measure(how, view, VALIDATION_PROTOCOL, source))
        for name, how in (("fit", monocap(memory)), ("nearest", nearest_pose(memory)), ("mean", mean_pose(memory)))
    }
    for name in ("pa_mpjpe_mm", "mpjpe_mm"):
        assert error["fit"][name] < min(error["nearest"][name], error["mean"][name])
    assert error["fit"]["flip_rate"] < 0.05
