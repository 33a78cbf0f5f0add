"""Recipes of motion capture by name: pretrained on rendered people, then on videos nobody labelled, or both at once."""

from dataclasses import replace

from aign.recipes.mocap import MocapRecipe
from aign.tasks.motion_capture import MotionCaptureConfig, weights
from aign.training import FitConfig

_SUPERVISED = {"rotations": 10.0, "shape": 0.1, "pose": 10.0, "place": 2.0}
_SEEN = {"keypoints": 20.0, "segmentation": 10.0, "motion": 2.0}
_CRITICS = {"pose_critic": 3.0, "shape_critic": 0.05, "motion_critic": 0.1}


def mocap_pretrain() -> MocapRecipe:
    """Supervised, single frames, on a store of rendered people."""
    return MocapRecipe(
        name="mocap-pretrain",
        task=MotionCaptureConfig(weights=weights(**_SUPERVISED)),
        fit=FitConfig(steps=6000, lr=1e-3, log_every=100, validate_every=1000, ema=0.998),
    )


def mocap_joint() -> MocapRecipe:
    """From nothing: labelled windows of one store (--replay), and windows of another whose labels nobody reads."""
    pretrain = mocap_pretrain()
    return replace(
        pretrain,
        name="mocap-joint",
        task=replace(pretrain.task, weights=weights(**_SUPERVISED, **_SEEN, **_CRITICS)),
        frames=2,
        labelled_batch=16,
        unlabelled_batch=16,
    )


def mocap_selfsup() -> MocapRecipe:
    """Goes on from a pretrained model (--start) on unlabelled video, with source replay (--replay) and a teacher."""
    joint = mocap_joint()
    return replace(
        joint,
        name="mocap-selfsup",
        task=replace(joint.task, weights={**joint.task.weights, "teacher": 0.1}),
        fit=FitConfig(steps=1500, lr=1e-3, critic_lr=5e-4, log_every=100, validate_every=500, ema=0.98),
    )
