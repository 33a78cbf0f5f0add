"""Adaptation to one clip: by evidence alone, judged by what was held out, and given up where that says nothing."""

import copy
from dataclasses import replace

import pytest
import torch

from aign.data.datasets.synthetic import SyntheticOptions
from aign.framework.errors import UserError
from aign.geometry.skeleton import SMPL24
from aign.recipes.mocap import load_bodies, new_encoder
from aign.tasks.motion_capture import weights
from aign.tasks.motion_capture.nets import EncoderConfig
from aign.training.adaptation import AdaptConfig, adapt
from tests.conftest import build_people_store
from tests.tasks.captured import BODY, FLOW, MASK, blind, changed, clips_of, cut, garbage, memory_of, without

CONFIG = AdaptConfig(
    weights=weights(keypoints=10.0, smooth=1.0, teacher=0.1, pose_critic=0.1),
    batch=4, steps=30, lr=1e-3, check_every=10, ema=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def memory(people_store):
    return memory_of(people_store)


@pytest.fixture(scope="module")
def encoder(people_store):
    torch.manual_seed(0)
    return new_encoder(EncoderConfig(side_px=32, channels=8, width=64), load_bodies(people_store, None))


@pytest.fixture(scope="module")
def clip(people_store, tmp_path_factory):
    """24 frames; the fixture of the small store has the backgrounds fetched."""
    options = SyntheticOptions(frames=24, clip_frames=24, side_px=64, seed=7)
    return clips_of(build_people_store(str(tmp_path_factory.mktemp("long") / "store"), options))[0]


def run(encoder, clip, memory, **other):
    return adapt(encoder, clip, SMPL24, BODY, memory, replace(CONFIG, **other))


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_it_explains_what_was_held_out_better_and_repeats_without_labels(encoder, clip, memory):
    before = copy.deepcopy(encoder)
    first = run(encoder, clip, memory)
    assert same(before, encoder), "the given encoder is not changed"
    assert first.kept > 0
    assert not same(first.encoder, encoder)
    look = next(look for look in first.history if look.step == first.kept)
    assert look.losses["keypoints"] < 0.98 * first.history[0].losses["keypoints"]
    torch.manual_seed(99)
    again = run(encoder, garbage(clip), memory)
    assert again.history == first.history
    assert same(again.encoder, first.encoder)
    assert all(torch.equal(value, vars(again.bodies)[name]) for name, value in vars(first.bodies).items())


@pytest.mark.parametrize("other", [{"margin": 0.999}, {"tolerance": -0.999}, {"lr": 0.0, "critic_lr": 0.0}])
def test_without_a_clear_gain_the_encoder_stays_as_it_was(other, encoder, clip, memory):
    found = run(encoder, clip, memory, **{"steps": 6, "check_every": 2, "patience": 2, **other})
    assert found.kept == 0
    assert "stays as it was" in found.notes[-1]
    assert same(found.encoder, encoder)
    if "lr" in other:
        assert [look.step for look in found.history] == [0, 2, 4], "patience"


def test_random_keypoints_teach_nothing(encoder, clip, memory):
    """A body drawn to the middle is nearer to them than it was, on the held-out windows too."""
    crop = clip.columns["crop_xyxy_px"][0]
    anywhere = crop[:2] + torch.rand(clip.columns["kp2d_px"].shape) * (crop[2:] - crop[:2])
    found = run(encoder, changed(clip, kp2d_px=anywhere), memory)
    assert min(look.ratio for look in found.history) < 0.98
    assert found.kept == 0
    assert same(found.encoder, encoder)
    assert "hidden keypoints" in found.notes[-1]


def test_keypoints_of_low_confidence_are_not_adapted_to(encoder, clip, memory):
    found = run(encoder, changed(clip, kp2d_conf=0.1 * clip.columns["kp2d_conf"]), memory)
    assert (found.kept, found.history) == (0, ())
    assert "mean confidence" in found.notes[-1]
    assert same(found.encoder, encoder)


def test_held_out_windows_without_keypoints_are_no_gain(encoder, clip, memory):
    found = run(encoder, blind(clip, 6, 7, 8, 21, 22, 23), memory, steps=4, check_every=2)
    assert found.kept == 0
    assert {look.ratio for look in found.history} == {1.0}


def test_missing_evidence_is_noted(encoder, clip, memory):
    on = weights(keypoints=1.0, segmentation=1.0, motion=1.0)
    found = run(encoder, without(clip, *MASK, *FLOW), memory, weights=on, steps=2)
    assert [what in note for what, note in zip(("no masks", "no flow"), found.notes, strict=False)] == [True, True]


def test_what_cannot_be_adapted_to_is_refused(encoder, clip, memory):
    with pytest.raises(UserError, match="needs at least 6"):
        run(encoder, cut(clip, 5), memory)
    with pytest.raises(UserError, match="no keypoint with confidence"):
        run(encoder, blind(clip, *range(24)), memory)
    with pytest.raises(UserError, match="got frames 1"):
        AdaptConfig(frames=1)
