import dataclasses
import json

import pytest
import torch

from aign.framework.errors import UserError
from aign.inference.package import CARD, WEIGHTS, ModelCard, load_card, load_package, save_package
from aign.nets.mlp import ResidualTrunk
from aign.tasks.lifting import LifterConfig, build_lifter
from tests.tasks.scenes import film

CONFIG = LifterConfig(components=5, width=32, blocks=1)
KINDS = [
    dataclasses.replace(CONFIG, input=given, frames=frames, head=head)
    for given, frames in (("coordinates", 1), ("coordinates", 9), ("heatmaps", 1))
    for head in ("basis", "direct")
]
MODEL = ModelCard(
    lifter=CONFIG,
    recipe="lifting-demo",
    store_hash="s" * 64,
    sequences={"memory": ("demo/run",), "test": ("demo/walk", "demo/jump")},
    licences=("Apache-2.0", "zlib"),
    protocol="open/x p1",
    metrics={"mpjpe_mm": 80.25},
)


@pytest.fixture
def package(tmp_path):
    save_package(tmp_path / "package", build_lifter(CONFIG, 0.3 * torch.randn(50, 17, 3)), MODEL)
    return tmp_path / "package"


@pytest.mark.parametrize("config", KINDS, ids=lambda c: f"{c.input}-{c.frames}-{c.head}")
def test_round_trip(tmp_path, config):
    lifter, card = build_lifter(config, 0.3 * torch.randn(50, 17, 3)), dataclasses.replace(MODEL, lifter=config)
    save_package(tmp_path / "package", lifter, card)
    assert sorted(p.name for p in (tmp_path / "package").iterdir()) == [CARD, WEIGHTS]
    loaded, read = load_package(tmp_path / "package")
    assert read == card
    assert not loaded.training
    assert loaded.frames == config.frames
    assert loaded.state_dict().keys() == lifter.state_dict().keys()
    for name, value in lifter.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    seen = film([4]).observed(count=config.frames)
    seen = type(seen)(**{name: value.float() for name, value in vars(seen).items()})
    assert torch.equal(loaded(seen).joints_m, lifter(seen).joints_m)


def test_loading_leaves_the_random_state_of_a_training_alone_in_the_basis(package):
    """The blank basis that a lifter is built with comes from its own generator and is overwritten."""
    first, _ = load_package(package)
    torch.manual_seed(123)
    second, _ = load_package(package)
    assert torch.equal(first.head.components_m, second.head.components_m)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / WEIGHTS).unlink(), "does not hold this lifter"),
        (lambda f: (f / WEIGHTS).write_bytes(b""), "does not hold this lifter"),
        (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-4]), "does not hold this lifter"),
        (lambda f: (f / WEIGHTS).write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR."), "does not hold this lifter"),
        (lambda f: torch.save({}, f / WEIGHTS), "does not hold this lifter"),
        (lambda f: (f / CARD).unlink(), "not a packaged lifter.*lifter.json"),
        (lambda f: (f / CARD).write_text(""), "not a packaged lifter"),
        (lambda f: (f / CARD).write_text("{"), "not a packaged lifter"),
        (lambda f: (f / CARD).write_text("[1]"), "not a packaged lifter"),
    ],
)
def test_damaged(package, damage, message):
    damage(package)
    with pytest.raises(UserError, match=message) as refusal:
        load_package(package)
    assert "\n" not in str(refusal.value)


def rewrite(package, **changes):
    card = json.loads((package / CARD).read_text())
    (package / CARD).write_text(json.dumps({**card, **changes}))


def test_other_format(package):
    """Format 1 was of lifters before there were trunks and heads; its weights have other names."""
    for number in (1, 3, "2"):
        rewrite(package, format=number)
        with pytest.raises(UserError, match=f"has format {number}; allowed is 2"):
            load_card(package)


def test_unknown_field(package):
    rewrite(package, code="import os")
    with pytest.raises(UserError, match="not a packaged lifter"):
        load_card(package)


@pytest.mark.parametrize(
    "changes",
    [{"width": 64}, {"components": 6}, {"blocks": 2}, {"head": "direct"}, {"input": "heatmaps"}, {"frames": 3}],
)
def test_description_of_another_network(package, changes):
    rewrite(package, lifter={**dataclasses.asdict(CONFIG), **changes})
    with pytest.raises(UserError, match="does not hold this lifter"):
        load_package(package)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 5}, "3, 9, 27, 81 or 243 frames; got 5"),
        ({"frames": 2}, "3, 9, 27, 81 or 243 frames; got 2"),
        ({"input": "heatmaps", "frames": 9}, "a lifter of heatmaps sees 1 frame; got 9"),
    ],
)
def test_description_of_no_network(package, changes, message):
    rewrite(package, lifter={**dataclasses.asdict(CONFIG), **changes})
    with pytest.raises(UserError, match=message) as refusal:
        load_package(package)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(LifterConfig)])
def test_description_that_leaves_something_out(package, name):
    lifter = dataclasses.asdict(CONFIG)
    del lifter[name]
    rewrite(package, lifter=lifter)
    with pytest.raises(UserError, match=f"not a packaged lifter: '{name}'"):
        load_package(package)


def test_weights_of_another_network(package, tmp_path):
    save_package(tmp_path / "other", ResidualTrunk(4, 8, 1), MODEL)
    with pytest.raises(UserError, match="does not hold this lifter"):
        load_package(tmp_path / "other")


@pytest.mark.parametrize("text", [b"3", b"null", b"\xff\xfe{", b"[" * 100000, b'{"format": 2, "lifter": [1]}'])
def test_hostile_description(package, text):
    (package / CARD).write_bytes(text)
    with pytest.raises(UserError, match="not a packaged lifter") as refusal:
        load_package(package)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"head": "evil"}, {"head": 3}, {"head": ["basis"]}, {"head": None}, {"input": "picture"}, {"input": {}},
        {"frames": 10**9}, {"frames": 0}, {"frames": -9}, {"frames": 9.0}, {"frames": "9"}, {"frames": None},
        {"frames": True}, {"frames": 244}, {"components": 10**13}, {"components": 0}, {"components": "5"},
        {"width": 10**10}, {"width": -4}, {"width": 32.0}, {"blocks": 10**9}, {"blocks": True},
    ],
)  # fmt: skip
def test_hostile_sizes(package, changes):
    rewrite(package, lifter={**dataclasses.asdict(CONFIG), **changes})
    with pytest.raises(UserError, match=f"lifter {next(iter(changes))} .*allowed are"):
        load_package(package)


@pytest.mark.parametrize(
    "changes",
    [
        {"licences": "MIT"},
        {"licences": [1, {}]},
        {"metrics": [1]},
        {"metrics": {"a": "x"}},
        {"store_hash": 5},
        {"version": None},
    ],
)
def test_hostile_fields(package, changes):
    rewrite(package, **changes)
    with pytest.raises(UserError, match=r"lifter\.json has .* that are no"):
        load_package(package)
