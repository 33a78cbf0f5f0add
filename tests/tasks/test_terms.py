"""Each term alone pulls a spoiled answer back, reads what it may read, and has a gradient at the ugly points."""

import dataclasses
import itertools
from functools import partial

import pytest
import torch
from torch.autograd import gradcheck

from aign.framework.errors import UserError
from aign.geometry.rotation import from_6d, to_6d
from aign.geometry.skeleton import H36M17
from aign.losses.points import bone_lengths
from aign.tasks.lifting import (
    GAMES,
    LifterConfig,
    LiftingConfig,
    bones,
    build,
    render,
    reprojection,
    supervised,
    symmetry,
)
from aign.tasks.lifting.factors import PoseFactors, remember
from aign.tasks.lifting.observation import Augmentation, Observation, augment, observe
from aign.tasks.lifting.views import joint_angles
from tests.tasks.scenes import DOUBLE, REST, Oracle, people, scene


def changed(seen: Observation, **values) -> Observation:
    return Observation(**{**vars(seen), **values})


def truth(there) -> PoseFactors:
    seen, rot = observe(*there.window, there.camera)
    return Oracle(there.joints_cam_m, rot)(seen)


def spoiled(z: PoseFactors, size: float = 0.08):
    """Free parameters near the truth, and the factors they mean."""
    generator = torch.Generator().manual_seed(1)

    def noisy(value):
        noise = torch.randn(value.shape, generator=generator, dtype=DOUBLE)
        return (value + size * noise).detach().requires_grad_()

    pose, rot, trans = noisy(z.canonical_m), noisy(to_6d(z.rot)), noisy(z.trans_m)
    return (pose, rot, trans), lambda: PoseFactors(canonical_m=pose, rot=from_6d(rot), trans_m=trans)


def descend(parameters, loss, steps=300, lr=0.01):
    optimizer = torch.optim.Adam(parameters, lr=lr)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps)
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def test_supervised_pulls_the_joints_to_the_label():
    there = scene(4)
    seen, z = there.observed(), truth(there)
    assert supervised(seen, z, render(z, seen)).max() < 1e-6
    parameters, now = spoiled(z)
    before = supervised(seen, now(), render(now(), seen))
    assert (before > 0.05).all()
    descend(parameters, lambda: supervised(seen, now(), render(now(), seen)).sum())
    assert (supervised(seen, now(), render(now(), seen)) < 0.01 * before.min()).all()
    assert (now().centred_m - seen.joints_m).norm(dim=-1).max() < 0.005


def test_supervised_is_the_mean_distance_in_metres():
    there = scene(3)
    seen, z = there.observed(), truth(there)
    moved = dataclasses.replace(z, canonical_m=z.canonical_m + torch.tensor([0.03, 0, -0.04]))
    torch.testing.assert_close(
        supervised(seen, moved, render(z, seen)), torch.full((3,), 0.05, dtype=DOUBLE), atol=1e-5, rtol=0
    )


def test_reprojection_pulls_the_keypoints_to_what_was_seen():
    there = scene(4)
    seen, z = there.observed(), truth(there)
    assert reprojection(seen, z, render(z, seen)).max() < 1e-6
    parameters, now = spoiled(z)
    before = reprojection(seen, now(), render(now(), seen))
    assert (before > 0.03).all()
    descend(parameters, lambda: reprojection(seen, now(), render(now(), seen)).sum())
    assert (reprojection(seen, now(), render(now(), seen)) < 0.02 * before.min()).all()


def test_symmetry_makes_left_and_right_limbs_alike():
    seen = scene(4).observed()
    pose = people(4).requires_grad_()
    eye = torch.eye(3, dtype=DOUBLE).expand(4, 3, 3)

    def now():
        return PoseFactors(canonical_m=pose, rot=eye, trans_m=pose[:, 0])

    def gap():
        left = tuple((c, p) for c, p in H36M17.bones if H36M17.joints[c].startswith("l_"))
        twin = H36M17.mirrored
        a, b = bone_lengths(pose, left), bone_lengths(pose, tuple((twin[c], twin[p]) for c, p in left))
        return (a - b).abs().amax(1)

    before = symmetry(seen, now(), seen.target2d)
    assert (gap() > 0.05).all()
    descend([pose], lambda: symmetry(seen, now(), seen.target2d).sum())
    assert (symmetry(seen, now(), seen.target2d) < 1e-3 * before).all()
    assert (gap() < 0.01).all()
    straight = dataclasses.replace(now(), canonical_m=REST.expand(4, 17, 3))
    assert symmetry(seen, straight, seen.target2d).max() < 1e-9


def prior():
    lengths = bone_lengths(people(200), H36M17.bones)
    return {"mean_m": lengths.mean(0), "std_m": lengths.std(0)}


def test_bones_counts_standard_deviations_of_the_memory_and_at_least_a_centimetre():
    seen, pose, known = scene(3).observed(), people(3), prior()
    known["std_m"][:4] = 1e-4  # the hips of one person: no deviation at all
    eye = torch.eye(3, dtype=DOUBLE).expand(3, 3, 3)
    z = PoseFactors(canonical_m=pose, rot=eye, trans_m=pose[:, 0])
    got = bones(seen, z, seen.target2d, **known)
    for i in range(3):
        total = 0.0
        for number, (child, parent) in enumerate(H36M17.bones):
            length = float((pose[i, child] - pose[i, parent]).norm())
            total += ((length - float(known["mean_m"][number])) / max(float(known["std_m"][number]), 0.01)) ** 2
        assert float(got[i]) == pytest.approx(total / 16, rel=1e-4)


def test_bones_makes_limbs_as_long_as_the_memorys():
    seen, pose, known = scene(4).observed(), (1.4 * people(4)).requires_grad_(), prior()
    eye = torch.eye(3, dtype=DOUBLE).expand(4, 3, 3)

    def now():
        return bones(seen, PoseFactors(canonical_m=pose, rot=eye, trans_m=pose[:, 0]), seen.target2d, **known)

    before = now()
    descend([pose], lambda: now().sum())
    assert (now() < 1e-2 * before).all()
    assert (bone_lengths(pose, H36M17.bones) - known["mean_m"]).abs().max() < 0.02


def test_bones_of_a_problem_are_its_memorys():
    poses = people(40)
    straight = torch.eye(3, dtype=DOUBLE).expand(40, 2, 3, 3)
    weights = {**dict.fromkeys(NAMES, 0.0), "bones": 1.0}
    config = LiftingConfig(lifter=LifterConfig(components=8, width=16, blocks=1), critic_width=8, weights=weights)
    small, large = (build(config, remember(size * poses, straight)) for size in (1.0, 1.3))
    eye = torch.eye(3, dtype=DOUBLE).expand(40, 3, 3)
    z = PoseFactors(canonical_m=poses, rot=eye, trans_m=poses[:, 0])
    seen = scene(40).observed()
    near, far = (aign.generator_losses(seen, z)["bones"] for aign in (small, large))
    # The memory itself lies a standard deviation from its mean; when all of it is longer, further off.
    assert 0.9 < near.mean() < 1.0
    assert far.mean() > 1.5 * near.mean()


def test_supervised_ignores_what_has_no_label():
    there = scene(4)
    valid = torch.ones(4, 17, dtype=torch.bool)
    valid[1] = False  # no label at all
    valid[2, 6] = False  # an ankle without one
    seen = there.observed(valid)
    (parameters, now) = spoiled(truth(there))
    loss = supervised(seen, now(), render(now(), seen))
    assert loss[1] == 0
    wild = changed(seen, joints_m=torch.where(valid.unsqueeze(-1), seen.joints_m, torch.full_like(seen.joints_m, 50)))
    assert torch.equal(supervised(wild, now(), render(now(), seen)), loss)
    loss.sum().backward()
    assert (parameters[0].grad[1] == 0).all()
    assert (parameters[0].grad[2, 6] == 0).all()
    assert (parameters[0].grad[0].abs().sum(-1) > 0).all()


def test_reprojection_judges_what_was_seen_not_what_was_left_of_it():
    there = scene(6)
    seen, z = there.observed(), truth(there)
    hidden = augment(seen, torch.arange(6), Augmentation(flip=0.0, roll_deg=0.0, drop=0.5, noise=0.2))
    assert (hidden.conf == 0).flatten(1).any(1).all()
    _, now = spoiled(z)
    got = reprojection(hidden, now(), render(now(), hidden))
    assert torch.equal(got, reprojection(seen, now(), render(now(), seen)))
    assert (reprojection(changed(seen, target2d=seen.target2d + 1), now(), render(now(), seen)) != got).all()


def test_reprojection_counts_by_confidence():
    there = scene(2)
    seen, z = there.observed(), truth(there)
    off = changed(seen, target2d=seen.target2d + torch.tensor([0.3, 0.4]))
    sure = torch.zeros(2, 17, dtype=DOUBLE)
    sure[:, 2] = 1.0
    half = changed(seen, target2d=torch.cat((off.target2d[:, :3], seen.target2d[:, 3:]), 1), target2d_weight=sure)
    torch.testing.assert_close(
        reprojection(half, z, render(z, seen)), torch.full((2,), 0.5, dtype=DOUBLE), atol=1e-5, rtol=0
    )
    nothing = changed(off, target2d_weight=torch.zeros(2, 17, dtype=DOUBLE))
    assert torch.equal(reprojection(nothing, z, render(z, seen)), torch.zeros(2, dtype=DOUBLE))


UGLY = ["plain", "zero weights", "true", "coincident joints", "on the camera plane", "behind the camera"]


@pytest.mark.parametrize("term", [supervised, reprojection, symmetry, partial(bones, **prior())])
@pytest.mark.parametrize("point", UGLY)
def test_gradcheck_at_ugly_points(term, point):
    there = scene(2)
    seen, z = there.observed(), truth(there)
    pose, rot, trans = z.canonical_m, to_6d(z.rot), z.trans_m.clone()
    if point == "plain":
        pose = pose + 0.05 * torch.randn(2, 17, 3, dtype=DOUBLE)
    if point == "zero weights":
        nothing = torch.zeros(2, 17, dtype=DOUBLE)
        seen = changed(seen, target2d_weight=nothing, joints_weight=nothing)
    if point == "coincident joints":
        pose = torch.zeros_like(pose)
    if point == "on the camera plane":
        trans[:, 2] = 0
        rot = to_6d(torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=DOUBLE)).expand(2, 3, 3))
        pose = pose.clone()
        pose[:, :, 2] = 0
    if point == "behind the camera":
        trans[:, 2] = -3

    def loss(pose, rot, trans):
        now = PoseFactors(canonical_m=pose, rot=from_6d(rot), trans_m=trans)
        return term(seen, now, render(now, seen))

    inputs = tuple(v.detach().clone().requires_grad_() for v in (pose, rot, trans))
    value = loss(*inputs)
    grads = torch.autograd.grad(value.sum(), inputs, allow_unused=True)
    assert value.isfinite().all()
    assert all(g is None or g.isfinite().all() for g in grads)
    # Differences must stay on the scale of SMOOTH (1e-6), inside which a distance is rounded off at 0.
    steep = point in ("true", "coincident joints")
    assert gradcheck(loss, inputs, eps=1e-8 if steep else 1e-6, atol=1e-2 if steep else 1e-4, rtol=1e-2)


def problem(**weights):
    there = people(40)
    memory = remember(there, torch.eye(3, dtype=DOUBLE).expand(40, 2, 3, 3))
    config = LiftingConfig(lifter=LifterConfig(components=8, width=16, blocks=1), critic_width=8)
    config = dataclasses.replace(config, weights={**config.weights, **weights})
    aign = build(config, memory)
    aign.encode.double()
    for critic in aign.critics.values():
        critic.net.double()
    return aign


NAMES = tuple(LiftingConfig().weights)
CRITICS = ("pose", "camera", "chain", "joints", "picture")


@pytest.mark.parametrize("off", NAMES)
def test_weight_zero_is_not_evaluated_and_the_rest_trains(off):
    aign, seen = problem(**{**dict.fromkeys(NAMES, 1.0), off: 0.0}), scene(4).observed()
    z = aign.encode(seen)
    losses = aign.generator_losses(seen, z)
    assert set(losses) == set(NAMES) - {off}
    joints = len(joint_angles(REST.unsqueeze(0)))
    assert all(value.shape == (4 * joints if name == "joints" else 4,) for name, value in losses.items())
    aign.total(losses).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in aign.encode.parameters())
    assert set(aign.critic_losses(seen, z)) == set(CRITICS) - {off}


@pytest.mark.parametrize("name", NAMES)
def test_each_name_alone_trains(name):
    aign, seen = problem(**{**dict.fromkeys(NAMES, 0.0), name: 1.0}), scene(4).observed()
    aign.total(aign.generator_losses(seen, aign.encode(seen))).backward()
    assert sum(float(p.grad.abs().sum()) for p in aign.encode.parameters()) > 0


@pytest.mark.parametrize("name", ["Supervised", "reprojektion"])
def test_an_unknown_weight_is_refused(name):
    with pytest.raises(UserError, match=name):
        problem(**{name: 1.0})


@pytest.mark.parametrize("game", list(GAMES))
def test_both_games_teach_the_critics_to_tell_memory_from_made(game):
    lifter, weights = LifterConfig(components=8, width=16, blocks=1), dict.fromkeys(NAMES, 1.0)
    config = LiftingConfig(lifter=lifter, critic_width=32, game=game, weights=weights)
    memory = remember(people(100), torch.eye(3, dtype=DOUBLE).expand(100, 2, 3, 3))
    aign = build(config, memory)
    seen = scene(32).observed()
    for net in (aign.encode, *(critic.net for critic in aign.critics.values())):
        net.double()
    z = aign.encode(seen)
    odd = 0.3 * torch.randn(17, 3, dtype=DOUBLE)
    made = PoseFactors(canonical_m=(z.canonical_m + odd).detach(), rot=z.rot.detach(), trans_m=z.trans_m.detach())
    assert set(aign.playing) == set(CRITICS)
    for name, critic in aign.playing.items():
        optimizer = torch.optim.Adam(critic.net.parameters(), lr=1e-2)
        for _ in range(80):
            optimizer.zero_grad()
            aign.critic_losses(seen, made)[name].backward()
            optimizer.step()
        fake = critic.view(made, seen)
        real, wrong = critic.net(critic.memory.sample(fake)), critic.net(fake)
        assert real.mean() > wrong.mean() + 0.5
        assert critic.game.generator(real).mean() < critic.game.generator(wrong).mean()


def test_critics_see_of_the_memory_what_they_see_of_the_factors_and_sample_apart():
    aign, seen = problem(**dict.fromkeys(CRITICS, 1.0)), scene(4).observed()
    z = aign.encode(seen)
    widths = {"pose": 51, "camera": 6, "chain": 136, "joints": 19, "picture": 34}
    rows = {"pose": 80, "camera": 160, "chain": 80, "joints": 80 * 13, "picture": 80}
    assert {n: c.view(z, seen).shape[1] for n, c in aign.critics.items()} == widths
    assert {n: c.memory.values.shape for n, c in aign.critics.items()} == {n: (rows[n], widths[n]) for n in CRITICS}
    draws = [torch.randint(1000, (8,), generator=c.memory.generator) for c in aign.critics.values()]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(draws, 2))


def test_the_seed_decides_the_networks_and_leaves_the_global_state_alone():
    state = torch.get_rng_state()
    a, b = problem(), problem()
    assert torch.equal(torch.get_rng_state(), state)
    for p, q in zip(a.encode.parameters(), b.encode.parameters(), strict=True):
        assert torch.equal(p, q)
    memory = remember(people(40), torch.eye(3, dtype=DOUBLE).expand(40, 2, 3, 3))
    other = build(LiftingConfig(lifter=LifterConfig(components=8, width=16, blocks=1)), memory, seed=1)
    assert not torch.equal(other.encode.head.last.weight.double(), a.encode.head.last.weight)


def test_rank_and_world_reach_the_memories():
    memory = remember(people(40), torch.eye(3, dtype=DOUBLE).expand(40, 2, 3, 3))
    whole, first, second = (build(LiftingConfig(), memory, rank, world) for rank, world in ((0, 1), (0, 2), (1, 2)))
    for name, critic in whole.critics.items():
        all_ = critic.memory.sample(torch.zeros(8))
        parts = [a.critics[name].memory.sample(torch.zeros(4)) for a in (first, second)]
        assert torch.equal(all_, torch.cat(parts))
