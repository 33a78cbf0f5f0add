"""A whole training on real motion: it learns, it stops, it goes on, exactly."""

import dataclasses
import json
import math
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
import torch

from aign.evaluation.lifting import lifter_method, load_view, measure
from aign.evaluation.report import Provenance
from aign.framework.errors import UserError
from aign.recipes.lifting import VALIDATION_PROTOCOL, forward, interpreter, prepare
from aign.training import LocalHooks, fit
from aign.training.checkpoint import load_state
from tests.training.runs import DyingHooks, KilledError, small, train, weighted

ROOT = Path(__file__).parents[2]


def logged(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same(a, b, path="checkpoint"):
    """Bit for bit, through containers."""
    assert type(a) is type(b), path
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, path
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert list(a) == list(b), path
        for key in a:
            assert_same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}/{i}")
    else:
        assert a == b, path


def assert_same_run(folder, other):
    assert_same(load_state(folder / "checkpoint.pt"), load_state(other / "checkpoint.pt"))
    assert logged(folder) == logged(other)
    assert [p.name for p in sorted(folder.iterdir())] == ["checkpoint.pt", "metrics.jsonl"], "nothing is left behind"


@pytest.fixture(scope="module")
def unbroken(demo_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train(small(), demo_store, LocalHooks(folder))
    return folder


def test_the_loss_and_the_error_go_down(demo_store, tmp_path):
    recipe = small(steps=100, log_every=1, validate_every=20, lr=3e-3, ema=0.9)
    result = train(recipe, demo_store, LocalHooks(tmp_path))
    rows = logged(tmp_path)
    for name in ("loss/supervised", "loss/reprojection"):
        losses = [row[name] for row in rows if name in row]
        assert sum(losses[-10:]) / 10 < 0.75 * sum(losses[:3]) / 3, name
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert result.steps_per_second > 1
    errors = [row["val/mpjpe_mm"] for row in rows if "val/mpjpe_mm" in row]
    assert len(errors) == 5
    assert errors[-1] == result.metrics["val/mpjpe_mm"] < 0.9 * errors[0]
    assert result.metrics["val/pa_mpjpe_mm"] < 150


def test_every_step_is_logged_once_and_in_order(unbroken):
    rows = logged(unbroken)
    losses = [row["step"] for row in rows if "loss/supervised" in row]
    validations = [row["step"] for row in rows if "val/mpjpe_mm" in row]
    assert losses == [2, 4, 6, 8, 10, 12]
    assert validations == [5, 10, 12]
    assert [row["step"] for row in rows] == sorted(losses + validations)
    names = {"supervised", "reprojection", "symmetry", "pose", "camera", "critic/pose", "critic/camera"}
    pulls = {f"gradient/{n}" for n in names if not n.startswith("critic/")}
    terms = ("supervised", "reprojection", "symmetry", "pose", "camera")
    directions = {f"cosine/{one}|{other}" for one, other in combinations(terms, 2)}
    want = {"step", *pulls, *directions, *(f"loss/{n}" for n in names)}
    assert all(set(row) == want for row in rows if "loss/pose" in row)
    assert all(-1.000001 <= row[name] <= 1.000001 for row in rows if "loss/pose" in row for name in directions)


def test_the_checkpoint_holds_everything(unbroken):
    state = load_state(unbroken / "checkpoint.pt")
    assert state["step"] == 12
    critics = {"pose", "camera", "chain", "joints", "picture"}
    assert set(state["nets"]) == set(state["optimizers"]) == critics | {"encode"}
    assert set(state["memories"]) == critics
    assert set(state["feed"]) == {"labelled", "unlabelled"}
    assert state["config"]["task.lifter.width"] == 24
    assert state["metrics"].keys() >= {"val/mpjpe_mm", "val/pa_mpjpe_mm", "val/flip_rate"}


@pytest.mark.parametrize("step", [2, 6, 8, 12])
def test_a_broken_run_that_goes_on_equals_an_unbroken_one(demo_store, unbroken, tmp_path, step):
    with pytest.raises(KilledError):
        train(small(), demo_store, DyingHooks(tmp_path, at_log=step))
    torch.manual_seed(99 if step > 5 else 0)  # with a checkpoint it does not matter which process goes on
    result = train(small(), demo_store, LocalHooks(tmp_path))
    assert_same_run(tmp_path, unbroken)
    assert result.metrics == load_state(unbroken / "checkpoint.pt")["metrics"]


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_a_killed_process_goes_on_exactly(demo_store, unbroken, tmp_path, moment):
    """SIGKILL at the second checkpoint: before it, written but not published, and after it."""
    command = [sys.executable, "-m", "tests.training.runs", demo_store.url, str(tmp_path), "10", moment]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -9, done.stderr
    assert load_state(tmp_path / "checkpoint.pt")["step"] == (10 if moment == "after" else 5)
    for unpublished in tmp_path.glob(".checkpoint.pt.*"):
        assert moment == "during"
        unpublished.unlink()  # what SIGKILL leaves is a hidden temporary file, never a half checkpoint
    train(small(), demo_store, LocalHooks(tmp_path))
    assert_same_run(tmp_path, unbroken)


def test_a_line_that_was_being_written_does_not_stop_a_resumed_run(demo_store, unbroken, tmp_path):
    with pytest.raises(KilledError):
        train(small(), demo_store, DyingHooks(tmp_path, at_log=8))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "loss/sup')
    train(small(), demo_store, LocalHooks(tmp_path))
    assert_same_run(tmp_path, unbroken)


def test_a_finished_run_is_not_trained_again(demo_store, unbroken, tmp_path):
    for name in ("checkpoint.pt", "metrics.jsonl"):
        (tmp_path / name).write_bytes((unbroken / name).read_bytes())
    result = train(small(), demo_store, LocalHooks(tmp_path))
    assert_same_run(tmp_path, unbroken)
    assert result.metrics == load_state(unbroken / "checkpoint.pt")["metrics"]
    for name, value in result.ema.state_dict().items():
        assert torch.equal(value, load_state(unbroken / "checkpoint.pt")["ema"][f"module.{name}"])


def test_another_configuration_is_refused_by_name(demo_store, unbroken, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes((unbroken / "checkpoint.pt").read_bytes())
    other = dataclasses.replace(weighted(small(), symmetry=0.3), seed=4)
    with pytest.raises(UserError, match=r"different: seed, task\.weights\.symmetry;") as refused:
        train(other, demo_store, LocalHooks(tmp_path))
    assert "\n" not in str(refused.value)
    assert (tmp_path / "checkpoint.pt").read_bytes() == (unbroken / "checkpoint.pt").read_bytes()


def test_the_same_seed_trains_the_same_and_another_does_not(demo_store, unbroken, tmp_path):
    train(small(), demo_store, LocalHooks(tmp_path / "again"))
    assert_same_run(tmp_path / "again", unbroken)
    train(dataclasses.replace(small(), seed=1), demo_store, LocalHooks(tmp_path / "other"))
    assert logged(tmp_path / "other") != logged(unbroken)


@pytest.mark.parametrize("name", ["supervised", "pose", "critics"])
def test_weight_zero_trains_and_its_loss_is_absent(demo_store, tmp_path, name):
    off = {"pose": 0.0, "camera": 0.0} if name == "critics" else {name: 0.0}
    train(weighted(small(steps=3, log_every=1), **off), demo_store, LocalHooks(tmp_path))
    for row in logged(tmp_path):
        assert not any(key.split("/")[-1] in off for key in row)
    state = load_state(tmp_path / "checkpoint.pt")
    assert all(not state["optimizers"][n]["state"] for n in off if n in state["optimizers"]), "a silent critic rests"


def test_all_weights_zero_is_refused(demo_store, tmp_path):
    recipe = weighted(small(), **dict.fromkeys(small().task.weights, 0.0))
    with pytest.raises(UserError, match="every weight is 0"):
        train(recipe, demo_store, LocalHooks(tmp_path))


@pytest.mark.parametrize("style", [forward, interpreter])
def test_baselines_train(demo_store, tmp_path, style):
    train(style(small(steps=4)), demo_store, LocalHooks(tmp_path))
    state = load_state(tmp_path / "checkpoint.pt")
    assert set(state["feed"]) == ({"labelled"} if style is forward else {"labelled", "unlabelled"})


def spoil(training, step, where):
    """From `step` on a loss, or only its gradient, is not finite."""
    real = training.aign.terms["supervised"]
    calls = []

    def term(batch, z, render):
        calls.append(1)
        value = real(batch, z, render)
        if len(calls) <= step:
            return value
        if where == "loss":
            return value * torch.nan
        return value + (z.trans_m[:, 0] * 0).abs().sqrt()  # 0, with an infinite slope: its gradient is NaN

    return dataclasses.replace(training.aign, terms={**training.aign.terms, "supervised": term})


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_loss_that_is_not_finite_stops_with_the_last_checkpoint_untouched(demo_store, tmp_path, where):
    recipe = small()
    hooks = LocalHooks(tmp_path)
    training = prepare(recipe, demo_store, hooks)
    aign = spoil(training, 9, where)
    with pytest.raises(UserError) as stopped:
        fit(aign, training.feed, recipe.fit, hooks, training.validate, {})
    training.feed.close()
    message = str(stopped.value)
    assert "not finite at step 9" in message
    assert ("supervised" if where == "loss" else "gradient") in message
    assert "\n" not in message
    state = load_state(tmp_path / "checkpoint.pt")
    assert state["step"] == 5
    for net in state["nets"].values():
        assert all(value.isfinite().all() for value in net.values())
    for _, parameter in aign.encode.named_parameters():
        assert parameter.isfinite().all(), "the networks were not touched either"


def test_the_average_is_what_is_evaluated_and_returned(demo_store, tmp_path):
    recipe = small(steps=6, validate_every=3, ema=0.5)
    seen = []
    hooks = LocalHooks(tmp_path)
    training = prepare(recipe, demo_store, hooks)

    def validate(net):
        seen.append({name: value.clone() for name, value in net.state_dict().items()})
        return training.validate(net)

    result = fit(training.aign, training.feed, recipe.fit, hooks, validate, {})
    training.feed.close()
    state = load_state(tmp_path / "checkpoint.pt")
    last = {name: state["ema"][f"module.{name}"] for name in seen[-1]}
    assert_same(seen[-1], last)
    assert_same(dict(result.ema.state_dict()), last)
    assert any(not torch.equal(value, state["nets"]["encode"][name]) for name, value in last.items())
    # The same number as measuring it by hand.
    view = load_view(demo_store, recipe.roles.validation)
    provenance = Provenance(method="m", data="d", store_hash="s")
    report = measure(lifter_method(result.ema, torch.device("cpu")), view, VALIDATION_PROTOCOL, provenance)
    assert report.scores["root"].mean_actions == result.metrics["val/mpjpe_mm"]


def test_the_average_is_an_exponential_one(demo_store, tmp_path):
    """mean_t = decay mean_(t-1) + (1 - decay) theta_t, from theta_1."""
    recipe = small(steps=4, ema=0.8, validate_every=1)
    hooks = LocalHooks(tmp_path)
    training = prepare(recipe, demo_store, hooks)
    raw, averages = [], []

    def validate(net):
        raw.append(training.aign.encode.head.last.bias.detach().clone())
        averages.append(net.head.last.bias.detach().clone())
        return {}

    fit(training.aign, training.feed, recipe.fit, hooks, validate, {})
    training.feed.close()
    mean = raw[0]
    for theta, average in zip(raw, averages, strict=True):
        mean = 0.8 * mean + 0.2 * theta
        torch.testing.assert_close(average, mean)


def test_the_generator_steps_against_frozen_critics_and_is_clipped(demo_store, tmp_path):
    recipe = small(steps=1, clip_norm=1e-8, lr=1e-3)
    hooks = LocalHooks(tmp_path)
    training = prepare(recipe, demo_store, hooks)
    before = {n: p.detach().clone() for n, p in training.aign.encode.named_parameters()}
    critics = [p for critic in training.aign.playing.values() for p in critic.net.parameters()]
    learning = []

    def term(*_):
        learning.append(any(p.requires_grad for p in critics))
        return training.aign.terms["symmetry"](*_)

    aign = dataclasses.replace(training.aign, terms={**training.aign.terms, "symmetry": term})
    fit(aign, training.feed, recipe.fit, hooks, lambda _: {}, {})
    training.feed.close()
    assert learning == [False], "frozen while the generator steps"
    assert all(p.requires_grad and p.grad is not None for p in critics)
    norm = torch.stack([p.grad.norm() for p in training.aign.encode.parameters()]).norm()
    assert norm <= 1.001e-8
    assert any(not torch.equal(before[n], p) for n, p in training.aign.encode.named_parameters())


def test_the_learning_rate_falls_along_a_cosine_to_a_hundredth(demo_store, tmp_path):
    seen = []

    @dataclasses.dataclass
    class Watching(LocalHooks):
        def save(self, step, state, metrics):
            seen.append(state["optimizers"]["encode"]["param_groups"][0]["lr"])

    recipe = small(steps=5, validate_every=1, lr=0.1)
    train(recipe, demo_store, Watching(tmp_path))
    want = [0.1 * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / 5))) for step in range(5)]
    assert seen == pytest.approx(want)


def test_a_step_of_no_batch_is_refused():
    with pytest.raises(UserError, match=r"got accumulate 0; allowed is at least 1"):
        small(accumulate=0)


class Reclaimed(LocalHooks):
    """Is told at its third watched step that its machine will be taken away, and dies at its fifth."""

    asked = 0

    def leaving(self):
        self.asked += 1
        return self.asked == 3

    def log(self, step, metrics):
        if step == 10:
            raise KilledError
        super().log(step, metrics)


def test_a_process_that_is_given_notice_saves_at_once(demo_store, unbroken, tmp_path):
    """Steps 2, 4 and 6 are watched; 5 is a checkpoint with its validation; that of 6 takes its place."""
    with pytest.raises(KilledError):
        train(small(), demo_store, Reclaimed(tmp_path))
    saved = load_state(tmp_path / "checkpoint.pt")
    assert saved["step"] == 6
    (validated,) = (row for row in logged(tmp_path) if "val/mpjpe_mm" in row)
    assert {"step": 5, **saved["metrics"]} == validated
    train(small(), demo_store, LocalHooks(tmp_path))
    assert_same_run(tmp_path, unbroken)
