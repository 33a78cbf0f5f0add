"""A term that does nothing is told by name; measuring changes nothing."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from aign.framework.aign import Aign
from aign.recipes.lifting import prepare
from aign.training import LocalHooks, fit
from aign.training.checkpoint import load_state
from aign.training.gradients import (
    DEAD,
    FAINT,
    cosines,
    dead_terms,
    dead_warning,
    louder,
    shares,
    squares,
    term_products,
)
from tests.training.runs import DyingHooks, KilledError, small, train, weighted
from tests.training.test_fit import assert_same, logged

AUTHORS = 1e-19
"""The weight of the silhouettes in the released code of Tung et al. (NIPS 2017)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Factors:
    pose: torch.Tensor
    shape: torch.Tensor
    known: torch.Tensor


def problem(terms, weights=None):
    weights = dict.fromkeys(terms, 1.0) if weights is None else weights
    return Aign(encode=nn.Identity(), render=lambda z, _: None, terms=terms, critics={}, weights=weights)


def factors(b=6):
    torch.manual_seed(0)
    made = torch.randn(b, 4, requires_grad=True), torch.randn(b, 2, requires_grad=True)
    return Factors(pose=2 * made[0], shape=made[1] + 1, known=torch.ones(b))


TERMS = {
    "both": lambda _, z, __: z.pose.square().sum(1) * z.shape.prod(1),
    "shape": lambda _, z, __: z.shape.square().sum(1) * z.known,
    "rows": lambda _, z, __: z.pose.sin().flatten(),  # more rows than samples, as a critic of each joint alone
    "last": lambda _, z, __: z.pose[4:].square().sum(1),  # of the last samples only
}
WEIGHTS = {"both": 0.3, "shape": 2.0, "rows": 1.0, "last": 0.5}


def products(z, terms=TERMS, weights=WEIGHTS):
    aign = problem(terms, weights)
    return term_products(aign, aign.generator_losses(None, z), z)


def measured(z, terms=TERMS, weights=WEIGHTS):
    return squares(products(z, terms, weights))


@pytest.mark.parametrize("name", list(TERMS))
def test_it_is_the_mean_over_samples_of_the_squared_gradient_of_each_samples_share_of_the_loss(name):
    z = factors()
    got = measured(z)[name]
    assert got.dtype == torch.float64
    want = torch.zeros(2, dtype=torch.float64)
    for i in range(6):
        one = [value[i].detach().clone().requires_grad_() for value in (z.pose, z.shape)]
        pose, shape = (
            torch.cat((v[:i].detach(), o[None], v[i + 1 :].detach()))
            for v, o in zip((z.pose, z.shape), one, strict=True)
        )
        moved = dataclasses.replace(z, pose=pose, shape=shape)
        loss = 6 * WEIGHTS[name] * TERMS[name](None, moved, None).mean()  # what of the batch's sum is this sample's
        for f, g in enumerate(torch.autograd.grad(loss, one, allow_unused=True)):
            want[f] += 0 if g is None else g.double().square().sum() / 6
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-12)


def test_the_mean_over_two_ranks_is_that_of_the_whole_batch():
    z = factors()
    halves = [
        dataclasses.replace(z, **{name: value[part] for name, value in vars(z).items()})
        for part in (slice(0, 3), slice(3, 6))
    ]
    alike = {name: TERMS[name] for name in ("both", "shape", "rows")}
    whole, *ranks = (products(part, alike, {n: WEIGHTS[n] for n in alike}) for part in (z, *halves))
    for name, value in whole.items():
        torch.testing.assert_close(sum(rank[name] for rank in ranks) / 2, value)


def test_a_tensor_is_factors_too_and_what_needs_no_gradient_does_not_count():
    z = torch.ones(5, 3, requires_grad=True)
    aign = problem({"a": lambda _, z, __: 3 * z.sum(1)})
    torch.testing.assert_close(measured(z, aign.terms, aign.weights)["a"], torch.tensor([27.0], dtype=torch.float64))
    fixed = measured(torch.ones(5, 3), aign.terms, aign.weights)
    assert fixed["a"].shape == (0,)
    assert shares(fixed) == {"a": 0.0}


def test_products_are_those_of_the_gradients():
    z = factors()
    got = products(z)
    sums = {name: WEIGHTS[name] * TERMS[name](None, z, None).mean() for name in TERMS}
    for f, field in enumerate((z.pose, z.shape)):
        pulls = {}
        for name, loss in sums.items():
            (g,) = torch.autograd.grad(loss, field, retain_graph=True, allow_unused=True)
            pulls[name] = torch.zeros_like(field) if g is None else g
        for name, row in got.items():
            for other, value in zip(TERMS, row[:, f], strict=True):
                want = 6 * (pulls[name].double() * pulls[other].double()).sum()
                torch.testing.assert_close(value, want, rtol=1e-6, atol=1e-12)


def test_cosines_tell_who_pulls_with_whom_whatever_the_weights():
    terms = {
        "up": lambda _, z, __: z.pose.sum(1),
        "also_up": lambda _, z, __: 7 * z.pose.sum(1),
        "down": lambda _, z, __: -z.pose.sum(1),
        "across": lambda _, z, __: z.pose @ torch.tensor([1.0, -1.0, 0.0, 0.0]),
        "elsewhere": lambda _, z, __: z.shape.sum(1),
        "nowhere": lambda _, z, __: z.pose.detach().sum(1),
    }
    for weight in (1.0, 1e-4, AUTHORS):
        got = cosines(products(factors(), terms, {**dict.fromkeys(terms, 1.0), "down": weight}))
        assert got["up|also_up"] == pytest.approx(1)
        assert (got["up|down"], got["also_up|down"]) == pytest.approx((-1, -1))
        assert (got["up|across"], got["up|elsewhere"]) == pytest.approx((0, 0))
        assert not any("nowhere" in pair for pair in got), "what has no gradient has no direction"
        assert len(got) == 10
    assert cosines(products(torch.ones(5, 3), {"a": lambda _, z, __: z.sum(1)}, {"a": 1.0})) == {}


def test_an_output_of_small_gradients_counts_as_much_as_one_of_large_ones():
    terms = {
        "one": lambda _, z, __: 1e6 * z.pose.sum(1) + 1e-3 * z.shape.sum(1),
        "other": lambda _, z, __: 1e6 * z.pose.sum(1) - 1e-3 * z.shape.sum(1),
    }
    assert cosines(products(factors(), terms, dict.fromkeys(terms, 1.0))) == {"one|other": pytest.approx(0, abs=1e-6)}


def test_nothing_is_left_behind_and_the_graph_is_still_there():
    z = factors()
    leaf = torch.zeros(6, 4, requires_grad=True)
    z = dataclasses.replace(z, pose=z.pose + leaf)
    aign = problem(TERMS, WEIGHTS)
    losses = aign.generator_losses(None, z)
    term_products(aign, losses, z)
    assert leaf.grad is None
    aign.total(losses).backward()
    again = dataclasses.replace(factors(), pose=factors().pose + (other := torch.zeros(6, 4, requires_grad=True)))
    aign.total(aign.generator_losses(None, again)).backward()
    assert torch.equal(leaf.grad, other.grad)


def share_of(terms, weights):
    return shares(measured(factors(), terms, weights))


def test_the_authors_weight_is_dead_and_a_small_weight_is_not():
    got = share_of(TERMS, {**WEIGHTS, "both": AUTHORS, "last": 0.05})
    assert 0 < got["both"] < 1e-17
    assert got["last"] > DEAD
    assert dead_terms(got) == ("both",)


def test_a_cut_graph_is_dead_wherever_it_is_cut():
    cut = {
        "before": lambda _, z, __: z.pose.detach().square().sum(1),
        "half": lambda _, z, __: (z.pose.detach() * z.shape[:, :1]).sum(1),  # one factor still feels it
        "flat": lambda _, z, __: (z.pose > 0).float().sum(1) + 0 * z.pose.sum(1),
    }
    got = share_of({**TERMS, **cut}, {**WEIGHTS, **dict.fromkeys(cut, 1.0)})
    assert dead_terms(got) == ("before", "flat")


def test_a_weak_prior_on_what_the_others_hardly_touch_is_alive():
    terms = {
        "strong": lambda _, z, __: 1e4 * z.pose.sum(1) + 0.1 * z.shape.sum(1),
        "prior": lambda _, z, __: z.shape.square().sum(1),
    }
    got = share_of(terms, {"strong": 1.0, "prior": 0.1})
    assert got["prior"] == 1.0
    assert dead_terms(got) == ()


def test_a_dead_term_is_dead_where_it_is_alone():
    """It has the largest gradient on its own output, and that is none."""
    terms = {"pose": lambda _, z, __: z.pose.sum(1), "shape": lambda _, z, __: z.shape.sum(1)}
    assert dead_terms(share_of(terms, {"pose": 1.0, "shape": AUTHORS})) == ("shape",)
    assert dead_terms(share_of(terms, {"pose": 1.0, "shape": 0.1 * DEAD * FAINT})) == ("shape",)
    assert dead_terms(share_of(terms, {"pose": 1.0, "shape": 10 * FAINT})) == ()


def test_all_cut_are_all_dead():
    assert dead_terms(share_of({"a": lambda _, z, __: z.known}, {"a": 1.0})) == ("a",)


def test_once_is_enough_to_be_alive():
    loudest = louder({}, {"a": 0.5, "b": 1e-5})
    loudest = louder(loudest, {"a": 0.0, "b": 1e-4})
    assert loudest == {"a": 0.5, "b": 1e-4}
    assert dead_terms(loudest) == ("b",)


def test_the_warning_is_one_line_with_the_names():
    line = dead_warning(("silhouette", "motion"))
    assert "silhouette, motion had no effect" in line
    assert "\n" not in line
    assert dead_warning(()) == ""


# In a whole training.


def fitted(recipe, store, folder, change=lambda aign: aign):
    hooks = LocalHooks(folder)
    training = prepare(recipe, store, hooks)
    try:
        return fit(change(training.aign), training.feed, recipe.fit, hooks, lambda _: {}, {})
    finally:
        training.feed.close()


@pytest.mark.parametrize("name", ["symmetry", "camera"])
def test_a_run_tells_which_term_or_critic_did_nothing(demo_store, tmp_path, name):
    recipe = weighted(small(steps=4), **{name: AUTHORS})
    result = fitted(recipe, demo_store, tmp_path)
    assert result.dead == (name,)
    rows = logged(tmp_path)
    assert all(0 < row[f"gradient/{name}"] < 1e-17 for row in rows if "loss/pose" in row), "no underflow"
    assert all(row["gradient/supervised"] > 1e-3 for row in rows if "loss/pose" in row)
    assert fitted(recipe, demo_store, tmp_path).dead == (name,), "of a finished run too"


def cut(name):
    def change(aign):
        real = aign.terms[name]
        return dataclasses.replace(aign, terms={**aign.terms, name: lambda *seen: real(*seen).detach()})

    return change


def test_a_term_with_a_cut_graph_is_told(demo_store, tmp_path):
    assert fitted(small(steps=4), demo_store, tmp_path, cut("symmetry")).dead == ("symmetry",)
    assert all(row["loss/symmetry"] > 0 == row["gradient/symmetry"] for row in logged(tmp_path) if "loss/pose" in row)


def test_a_run_of_live_terms_has_no_dead_ones_and_weight_zero_is_no_term(demo_store, tmp_path):
    assert small().task.weights["bones"] == 0
    result = fitted(weighted(small(steps=4), symmetry=0.0), demo_store, tmp_path)
    assert result.dead == ()
    names = {"supervised", "reprojection", "pose", "camera"}
    assert {key.removeprefix("gradient/") for key in logged(tmp_path)[0] if "gradient" in key} == names


def test_what_was_heard_before_a_break_counts_after_it(demo_store, tmp_path):
    """Live up to step 5 and silent since; the run breaks at 8 and goes on from the checkpoint of 5."""
    calls = []

    def change(aign):
        real = aign.terms["symmetry"]

        def term(*seen):
            calls.append(1)
            return real(*seen) if len(calls) <= 5 else real(*seen).detach()

        return dataclasses.replace(aign, terms={**aign.terms, "symmetry": term})

    recipe = small()
    hooks = DyingHooks(tmp_path, at_log=8)
    training = prepare(recipe, demo_store, hooks)
    with pytest.raises(KilledError):
        fit(change(training.aign), training.feed, recipe.fit, hooks, lambda _: {}, {})
    training.feed.close()
    assert fitted(recipe, demo_store, tmp_path, change).dead == ()
    state = load_state(tmp_path / "checkpoint.pt")
    assert state["loudest"]["symmetry"] > DEAD
    assert math.isclose(max(state["loudest"].values()), 1.0)


def test_a_checkpoint_from_before_there_were_gradients_goes_on(demo_store, tmp_path):
    with pytest.raises(KilledError):
        train(small(), demo_store, DyingHooks(tmp_path, at_log=8))
    state = load_state(tmp_path / "checkpoint.pt")
    del state["loudest"]
    torch.save(state, tmp_path / "checkpoint.pt")
    assert train(small(), demo_store, LocalHooks(tmp_path)).dead == ()


def test_measuring_changes_no_number_of_the_training(demo_store, tmp_path):
    for every in (1, 1000):
        train(small(steps=6, validate_every=6, log_every=every), demo_store, LocalHooks(tmp_path / str(every)))
    often, once = (load_state(tmp_path / name / "checkpoint.pt") for name in ("1", "1000"))
    for what in ("nets", "ema", "optimizers", "memories", "rng"):
        assert_same(often[what], once[what])
