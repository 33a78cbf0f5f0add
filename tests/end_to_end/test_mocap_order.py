"""The slides' order in minutes: on people it was not trained on, a supervised model loses to itself plus their video.

Source and target differ in clothes, light, background, camera height, shape and motion; of the target there are
detected keypoints, masks and flow, never a label. The control goes on with the source alone for as many steps.
"""

from dataclasses import replace

import pytest
import torch

from aign.data.datasets.synthetic import SyntheticOptions
from aign.evaluation.body_view import encoder_method, estimate, load_body_view, measure_view
from aign.evaluation.report import Provenance
from aign.recipes.mocap import MocapRecipe, Shares, parts, prepare
from aign.tasks.motion_capture import MotionCaptureConfig, weights
from aign.tasks.motion_capture.nets import EncoderConfig, encoder_of
from aign.training import FitConfig, LocalHooks, fit
from tests.conftest import build_people_store

SUPERVISED = {"rotations": 10.0, "shape": 0.1, "pose": 10.0, "place": 2.0}
SOURCE_MOTIONS = ("walk_forward", "run", "turn_right", "kick", "punch", "dance_a")
TARGET_MOTIONS = ("walk", "turn_left", "dance_b", "jump")
NET = EncoderConfig(side_px=32, channels=8, width=256)


@pytest.fixture(scope="module")
def stores(people_store, tmp_path_factory):
    """`people_store` is asked for because it pulls the photographs, or skips."""
    folder = tmp_path_factory.mktemp("domains")
    common = {"side_px": 64, "clip_frames": 8, "keypoints": "detector"}
    source = SyntheticOptions(domain="source", frames=2048, seed=1, **common)
    target = SyntheticOptions(domain="target", frames=1024, seed=2, **common)
    return build_people_store(str(folder / "source"), source), build_people_store(str(folder / "target"), target)


def trained(recipe, store, folder, start=None):
    training = prepare(recipe, store, LocalHooks(folder))
    if start is not None:
        encoder_of(training.aign.encode).load_state_dict(start)
    try:
        done = fit(training.aign, training.feed, recipe.fit, LocalHooks(folder), lambda _: {}, {"name": recipe.name})
    finally:
        training.feed.close()
    return encoder_of(done.ema)


def error_mm(encoder, store, shares):
    view = load_body_view(store, parts(store, shares).test)
    bodies = estimate(encoder_method(encoder, torch.device("cpu")), view)
    about = Provenance(method="", data="target", store_hash=store.hash)
    return measure_view(bodies, view, "aign-nips17-mesh24/pelvis", about).headline


def test_video_without_labels_lowers_the_error_on_people_like_those_in_it(stores, tmp_path):
    source, target = stores
    shares = Shares(validation=0.1, test=0.3, actions=TARGET_MOTIONS)
    pretrain = MocapRecipe(
        name="pretrain",
        task=MotionCaptureConfig(encoder=NET, weights=weights(**SUPERVISED)),
        shares=Shares(validation=0.05, test=0.05, actions=SOURCE_MOTIONS),
        labelled_batch=32,
        fit=FitConfig(steps=400, lr=1e-3, validate_every=400),
    )
    supervised = trained(pretrain, source, tmp_path / "pretrain")
    control = replace(
        pretrain,
        name="control",
        shares=shares,
        replay=source.url,
        replay_actions=SOURCE_MOTIONS,
        frames=2,
        labelled_batch=8,
        fit=FitConfig(steps=150, lr=1e-3, validate_every=150, ema=0.98),
    )
    seen = {"keypoints": 20.0, "segmentation": 2.0, "motion": 1.0}
    selfsup = replace(
        control,
        name="selfsup",
        unlabelled_batch=8,
        task=replace(control.task, weights=weights(**SUPERVISED, **seen)),
    )
    start = supervised.state_dict()
    alone = trained(control, target, tmp_path / "control", start)
    both = trained(selfsup, target, tmp_path / "selfsup", start)
    before, without, adapted = (error_mm(net, target, shares) for net in (supervised, alone, both))
    print(f"supervised {before:.0f} mm, the source alone for longer {without:.0f} mm, with video {adapted:.0f} mm")
    assert adapted < 0.95 * min(before, without)
