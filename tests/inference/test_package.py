import dataclasses
import json

import pytest
import torch

from aign.framework.errors import UserError
from aign.inference.package import CARD, KINDS, WEIGHTS, ModelCard, load_as, load_card, load_package, save_package
from aign.nets.mlp import ResidualTrunk
from aign.tasks.lifting import LifterConfig, build_lifter
from aign.tasks.lifting.nets import Lifter
from aign.tasks.motion_capture.nets import Encoder, EncoderConfig
from tests.tasks.scenes import film

CONFIG = LifterConfig(components=5, width=32, blocks=1)
LIFTERS = [
    dataclasses.replace(CONFIG, input=given, frames=frames, head=head)
    for given, frames in (("coordinates", 1), ("coordinates", 9), ("heatmaps", 1))
    for head in ("basis", "direct")
]
MODEL = ModelCard(
    network=CONFIG,
    recipe="lifting-demo",
    store_hash="s" * 64,
    sequences={"memory": ("demo/run",), "test": ("demo/walk", "demo/jump")},
    licences=("Apache-2.0", "zlib"),
    protocol="open/x p1",
    metrics={"mpjpe_mm": 80.25},
)


ENCODER = EncoderConfig(side_px=32, channels=8, width=16)
BODY = dataclasses.replace(MODEL, network=ENCODER, recipe="mocap-pretrain", body="default_body")


def body_package(folder):
    save_package(folder, Encoder(ENCODER, torch.randn(24, 6)), BODY)
    return folder


@pytest.fixture
def package(tmp_path):
    save_package(tmp_path / "package", build_lifter(CONFIG, 0.3 * torch.randn(50, 17, 3)), MODEL)
    return tmp_path / "package"


@pytest.mark.parametrize("config", LIFTERS, ids=lambda c: f"{c.input}-{c.frames}-{c.head}")
def test_round_trip(tmp_path, config):
    lifter, card = build_lifter(config, 0.3 * torch.randn(50, 17, 3)), dataclasses.replace(MODEL, network=config)
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


@pytest.mark.parametrize("changes", [{}, {"frames": 5}, {"head": "direct"}, {"picture": False}], ids=str)
def test_round_trip_of_a_body_model(tmp_path, changes):
    config = dataclasses.replace(ENCODER, **changes)
    encoder, card = Encoder(config, torch.randn(24, 6)), dataclasses.replace(BODY, network=config)
    save_package(tmp_path / "package", encoder, card)
    before = torch.get_rng_state()
    loaded, read = load_package(tmp_path / "package")
    assert torch.equal(torch.get_rng_state(), before), "loading draws no random number of the process's own"
    assert (read, read.task) == (card, "motion_capture")
    assert json.loads((tmp_path / "package" / CARD).read_text())["task"] == "motion_capture"
    assert not loaded.training
    assert loaded.config == config
    for name, value in encoder.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_a_model_of_the_other_task_is_named_with_what_is_needed(package, tmp_path):
    other = body_package(tmp_path / "body")
    with pytest.raises(
        UserError, match=r"holds a model of lifting \(recipe lifting-demo\); needed is one of motion_capt"
    ):
        load_as(Encoder, package)
    with pytest.raises(
        UserError, match=r"holds a model of motion_capture \(recipe mocap-pretrain\); needed .* lifting"
    ):
        load_as(Lifter, other)
    assert isinstance(load_as(Lifter, package)[0], Lifter)
    assert isinstance(load_as(Encoder, other)[0], Encoder)


def test_an_older_package_is_said_to_be_old(tmp_path):
    (tmp_path / "lifter.json").write_text("{}")
    with pytest.raises(UserError, match=r"package of format 2 \(lifter.json\); allowed is 3: train"):
        load_card(tmp_path)


def test_weights_that_are_not_finite(package):
    lifter, card = load_package(package)
    next(lifter.parameters()).data[0] = torch.inf
    save_package(package, lifter, card)
    with pytest.raises(UserError, match="weights that are not finite"):
        load_package(package)


@pytest.mark.parametrize(
    "changes",
    [
        {"side_px": 64.0}, {"side_px": 2**20}, {"side_px": 33}, {"channels": 10**6}, {"channels": 4},
        {"channels": True},
        {"width": 10**9}, {"width": 0}, {"width": "5"}, {"head": "basis"}, {"head": None}, {"frames": 65},
        {"frames": 0}, {"picture": 1}, {"picture": "no"},
    ],
)  # fmt: skip
def test_hostile_sizes_of_a_body_model(tmp_path, changes):
    body_package(tmp_path)
    rewrite(tmp_path, network={**dataclasses.asdict(ENCODER), **changes})
    with pytest.raises(UserError, match=f"motion_capture {next(iter(changes))} .*allowed are"):
        load_card(tmp_path)


@pytest.mark.parametrize("task", ["flying", "", None, ["lifting"], "motion_capture"])
def test_a_task_that_does_not_fit_the_network(package, task):
    rewrite(package, task=task)
    with pytest.raises(UserError, match=r"has task .*; allowed are lifting, motion_capture|has motion_capture head"):
        load_card(package)


def test_the_largest_models_that_a_card_may_describe_are_bounded():
    for kind in KINDS.values():
        checked_by_itself = {"bias"}  # a short text of a few forms, which decides no size
        assert set(kind.allowed) == {field.name for field in dataclasses.fields(kind.config)} - checked_by_itself


def test_loading_leaves_the_random_state_of_a_training_alone_in_the_basis(package):
    """The blank basis that a lifter is built with comes from its own generator and is overwritten."""
    first, _ = load_package(package)
    torch.manual_seed(123)
    second, _ = load_package(package)
    assert torch.equal(first.head.components_m, second.head.components_m)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / WEIGHTS).unlink(), "does not hold this model"),
        (lambda f: (f / WEIGHTS).write_bytes(b""), "does not hold this model"),
        (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-4]), "does not hold this model"),
        (lambda f: (f / WEIGHTS).write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR."), "does not hold this model"),
        (lambda f: torch.save({}, f / WEIGHTS), "does not hold this model"),
        (lambda f: (f / CARD).unlink(), "not a packaged model.*model.json"),
        (lambda f: (f / CARD).write_text(""), "not a packaged model"),
        (lambda f: (f / CARD).write_text("{"), "not a packaged model"),
        (lambda f: (f / CARD).write_text("[1]"), "not a packaged model"),
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
    for number in (1, 2, 4, "3"):
        rewrite(package, format=number)
        with pytest.raises(UserError, match=f"has format {number}; allowed is 3"):
            load_card(package)


def test_unknown_field(package):
    rewrite(package, code="import os")
    with pytest.raises(UserError, match="not a packaged model"):
        load_card(package)


@pytest.mark.parametrize(
    "changes",
    [{"width": 64}, {"components": 6}, {"blocks": 2}, {"head": "direct"}, {"input": "heatmaps"}, {"frames": 3}],
)
def test_description_of_another_network(package, changes):
    rewrite(package, network={**dataclasses.asdict(CONFIG), **changes})
    with pytest.raises(UserError, match="does not hold this model"):
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
    rewrite(package, network={**dataclasses.asdict(CONFIG), **changes})
    with pytest.raises(UserError, match=message) as refusal:
        load_package(package)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(LifterConfig)])
def test_description_that_leaves_something_out(package, name):
    lifter = dataclasses.asdict(CONFIG)
    del lifter[name]
    rewrite(package, network=lifter)
    with pytest.raises(UserError, match=f"not a packaged model: '{name}'"):
        load_package(package)


def test_weights_of_another_network(package, tmp_path):
    save_package(tmp_path / "other", ResidualTrunk(4, 8, 1), MODEL)
    with pytest.raises(UserError, match="does not hold this model"):
        load_package(tmp_path / "other")


@pytest.mark.parametrize("text", [b"3", b"null", b"\xff\xfe{", b"[" * 100000, b'{"format": 3, "network": [1]}'])
def test_hostile_description(package, text):
    (package / CARD).write_bytes(text)
    with pytest.raises(UserError, match="not a packaged model") as refusal:
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
    rewrite(package, network={**dataclasses.asdict(CONFIG), **changes})
    with pytest.raises(UserError, match=f"lifting {next(iter(changes))} .*allowed are"):
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
    with pytest.raises(UserError, match=r"model\.json has .* that are no"):
        load_package(package)
