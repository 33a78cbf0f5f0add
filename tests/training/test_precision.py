"""Networks in bfloat16: nearly the same losses, float32 everywhere else, and exact to resume."""

import json
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from aign.framework.game import NonSaturating, RealGradient
from aign.nets.image_critic import ImageCritic
from aign.nets.image_generator import Upscaler
from aign.recipes.faces import prepare_superresolution
from aign.recipes.faces_runs import superresolution_tiny
from aign.tasks.faces.inpainting import InpainterConfig, MaskedPicture, new_inpainter
from aign.training import FitConfig, LocalHooks, fit
from aign.training.checkpoint import load_state
from aign.training.precision import InBfloat16
from tests.tasks.toy_faces import toy_store
from tests.training.runs import DyingHooks, KilledError

STEPS = 6


@pytest.mark.parametrize(
    ("net", "inputs"),
    [
        (ImageCritic(32, 8, patches=True), (torch.rand(4, 3, 32, 32),)),
        (Upscaler(16, 2), (torch.rand(4, 3, 8, 8),)),
        (nn.Sequential(nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 4)), (torch.rand(5, 32),)),
    ],
)
def test_an_answer_is_nearly_the_same_and_float32(net, inputs):
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))  # the last layer of some starts at 0
    want, got = net(*inputs), InBfloat16(net)(*inputs)
    assert got.dtype == torch.float32
    assert not torch.equal(got, want), "it was computed otherwise"
    torch.testing.assert_close(got, want, rtol=0.1, atol=0.1 * want.abs().max().item())
    got.square().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in net.parameters())


def test_every_tensor_of_an_answer_is_widened():
    @dataclass(frozen=True)
    class Two:
        one: torch.Tensor
        none: None
        count: torch.Tensor

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            one = self.layer(x)
            assert one.dtype == torch.bfloat16
            return Two(one=one, none=None, count=torch.arange(2))

    answer = InBfloat16(Net())(torch.ones(1, 3))
    assert (answer.one.dtype, answer.none, answer.count.dtype) == (torch.float32, None, torch.int64)


def test_a_penalty_on_the_gradient_is_nearly_the_same():
    """Twice backward through bfloat16; a penalty that is strong enough to be most of the gradient."""
    torch.manual_seed(0)
    net, game = ImageCritic(32, 8), NonSaturating()
    real, fake = torch.rand(8, 3, 32, 32), torch.rand(8, 3, 32, 32)

    def gradient(net, game):
        net.zero_grad()
        game.critic(net, real, fake).backward()
        return torch.cat([p.grad.flatten() for p in net.parameters()])

    want = gradient(net, RealGradient(game, 1000.0))
    assert (gradient(net, game) - want).norm() > 0.5 * want.norm()
    assert (gradient(InBfloat16(net), RealGradient(game, 1000.0)) - want).norm() < 0.1 * want.norm()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_store(str(tmp_path_factory.mktemp("faces") / "store"))


def run(store, hooks, bfloat16):
    options = {"steps": STEPS, "log_every": 1, "validate_every": 3, "lr": 2e-3, "critic_lr": 1e-3}
    recipe = superresolution_tiny()
    recipe = replace(recipe, batch=8, fit=FitConfig(**options, bfloat16=bfloat16))
    training = prepare_superresolution(recipe, store, hooks, lambda _: {})
    try:
        return fit(training.aign, training.feed, recipe.fit, hooks, training.validate, {})
    finally:
        training.feed.close()


def losses(folder, name):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row[name] for row in rows if name in row]


def test_a_training_goes_nearly_the_same_way_and_keeps_float32(store, tmp_path):
    for bfloat16 in (False, True):
        run(store, LocalHooks(tmp_path / str(bfloat16)), bfloat16)
    for name in ("loss/render", "loss/critic", "loss/critic/critic"):
        want, got = (torch.tensor(losses(tmp_path / kind, name)) for kind in ("False", "True"))
        assert not torch.equal(got, want)
        torch.testing.assert_close(got, want, rtol=0.1, atol=1e-4)
    kept = load_state(tmp_path / "True" / "checkpoint.pt")["nets"]
    assert {value.dtype for net in kept.values() for value in net.values()} == {torch.float32}


def test_resumed_it_is_as_unbroken(store, tmp_path):
    run(store, LocalHooks(tmp_path / "unbroken"), True)
    with pytest.raises(KilledError):
        run(store, DyingHooks(tmp_path / "resumed", at_log=5), True)
    run(store, LocalHooks(tmp_path / "resumed"), True)
    one, other = (load_state(tmp_path / kind / "checkpoint.pt")["nets"] for kind in ("unbroken", "resumed"))
    assert all(torch.equal(one[net][name], other[net][name]) for net in one for name in one[net])


def test_outside_of_the_hole_nothing_is_rounded():
    net = InBfloat16(new_inpainter(InpainterConfig(side_px=32, channels=8, blocks=1)))
    truth, keep = torch.rand(2, 3, 32, 32), (torch.rand(2, 1, 32, 32) > 0.3).float()
    filled = net(MaskedPicture(given=truth * keep, keep=keep, box_px=torch.zeros(2, 4), truth=truth))
    assert torch.equal(filled.picture * keep, truth * keep)
    assert filled.picture.dtype == filled.whole.dtype == torch.float32
