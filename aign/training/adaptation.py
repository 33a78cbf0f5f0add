"""Adaptation of an encoder to one clip without labels: the paper's test-time training, with a brake.

Tung et al. (NIPS 2017; papers.md 2.6) go on training on the clip's own keypoints, masks and motion. Here blocks of the
clip are held out, and of their keypoints some are hidden: the step that explains those best is kept, and if none does
so clearly and for every kind of evidence, the encoder stays as it was. A gain alone would be no proof: a body in the
middle is nearer to random points than another, so hidden keypoints must count as found, too. No label is used.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from aign.body.assets import BodyAssets
from aign.data.progress import progress
from aign.framework.aign import Aign
from aign.framework.errors import UserError
from aign.geometry.skeleton import Skeleton
from aign.tasks.motion_capture import MotionCaptureConfig, build, weights
from aign.tasks.motion_capture.adaptation import (
    HIDDEN,
    OF_EVIDENCE,
    ClipEvidence,
    Windows,
    evidence_of,
    guessed,
    hold_out,
)
from aign.tasks.motion_capture.clips import CapturedClip, capture, observed
from aign.tasks.motion_capture.factors import BodyFactors
from aign.tasks.motion_capture.feed import Augmentation
from aign.tasks.motion_capture.memory import BodyMemory
from aign.tasks.motion_capture.nets import Encoder, encoder_of
from aign.tasks.motion_capture.observation import Observation
from aign.tasks.motion_capture.render import BodyRender
from aign.tasks.motion_capture.terms import KEYPOINT_SCALE
from aign.training.fit import FitConfig, start, train_step

TINY = 1e-9
REPEATS = 4
"""Of each held-out window, every time with other keypoints hidden."""
OUTLIERS = KEYPOINT_SCALE / 2
"""Half of the most that the term `keypoints` can be: there a keypoint is as much an outlier as it is none. An encoder
that guesses hidden keypoints no better has not found the person, whatever it gained on random points."""
JUDGED = 12
"""Held-out windows that are looked at, evenly over the clip, so that a look at a long clip costs no more."""


@dataclass(frozen=True, kw_only=True)
class AdaptConfig:
    """How far an encoder may go for a clip.

    Attributes:
        weights: of the terms and critics in `aign.tasks.motion_capture.NAMES`; `teacher` holds it to what it was.
        frames: of a window, for an encoder of single frames; another takes its own number.
        batch: windows of a step.
        steps: at most.
        lr: of the encoder.
        critic_lr: of the critics.
        ema: decay of the averaged encoder, which is the one that is judged and returned.
        check_every: steps between two looks at the held-out windows.
        patience: looks without a new best after which it stops.
        margin: the held-out loss must fall by this share, or the encoder stays as it was.
        tolerance: no kind of evidence may end worse by more than this share.
        least_confidence: keypoints of a lower mean confidence are not worth adapting to.
        augmentation: random changes of what the encoder sees.
        seed: of the windows, their changes and the critics.
    """

    weights: dict[str, float] = field(
        default_factory=lambda: weights(
            keypoints=10.0, segmentation=2.0, motion=2.0, smooth=1.0, teacher=1.0, pose_critic=0.1, shape_critic=0.02
        )
    )
    frames: int = 3
    batch: int = 8
    steps: int = 240
    lr: float = 1e-4
    critic_lr: float = 2e-4
    ema: float = 0.9
    check_every: int = 20
    patience: int = 4
    margin: float = 0.02
    tolerance: float = 0.02
    least_confidence: float = 0.2
    augmentation: Augmentation = Augmentation()
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"frames": 2, "batch": 1, "steps": 1, "check_every": 1, "patience": 1}
        for name, lowest in least.items():
            if vars(self)[name] < lowest:
                raise UserError(f"got {name} {vars(self)[name]} for adaptation; allowed are {lowest} and more")


@dataclass(frozen=True, kw_only=True)
class Look:
    """The held-out windows at one step.

    Attributes:
        step: after so many.
        losses: mean of each kind of evidence.
        ratio: mean over the kinds that were not 0 at step 0 of the loss as a share of what it was; 1 if there are none.
        worst: the largest of these shares.
    """

    step: int
    losses: Mapping[str, float]
    ratio: float
    worst: float


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """What adaptation ends with.

    Attributes:
        encoder: adapted, or a copy of the given one.
        bodies: of all frames [n, 1, ...] by that encoder.
        history: the held-out windows while it ran.
        kept: step of the encoder that is returned; 0: as it was.
        notes: a line for everything that was left out, or why nothing was changed.
    """

    encoder: Encoder
    bodies: BodyFactors
    history: tuple[Look, ...]
    kept: int
    notes: tuple[str, ...]


class ClipFeed:
    """Endless batches of windows of one clip.

    Args:
        evidence: the clip.
        starts: first frames of the windows.
        length: frames of a window.
        config: batch, augmentation and seed.
        where: side of the encoder's picture, body of the renders, device.
    """

    def __init__(
        self,
        evidence: ClipEvidence,
        starts: Int64[Tensor, " n"],
        length: int,
        config: AdaptConfig,
        where: tuple[int, BodyAssets, torch.device],
    ) -> None:
        self._evidence, self._starts, self._length, self._config = evidence, starts, length, config
        self._side_px, self._body, self._device = where
        self._random = torch.Generator().manual_seed(config.seed)

    def next(self) -> Observation:
        """The next batch."""
        drawn = torch.randint(len(self._starts), (self._config.batch,), generator=self._random)
        seed = torch.randint(2**62, (self._config.batch,), generator=self._random)
        windows = Windows(starts=self._starts[drawn], length=self._length, seed=seed)
        return self._evidence.observe(windows, self._side_px, self._body, self._config.augmentation).to(self._device)

    def state_dict(self) -> dict[str, Any]:
        """Where it is."""
        return {"random": self._random.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go there."""
        self._random.set_state(state["random"])


def adapt(
    encoder: Encoder,
    clip: CapturedClip,
    source: Skeleton,
    body: BodyAssets,
    memory: BodyMemory,
    config: AdaptConfig,
) -> Adapted:
    """Adapt a copy of an encoder to a clip.

    Args:
        encoder: trained; it is not changed.
        clip: with PICTURE_COLUMNS, and what there is of EVIDENCE_COLUMNS.
        source: joint set of its store.
        body: that is rendered.
        memory: of the critics that are on.
        config: how far it may go.

    Raises:
        UserError: keypoints that are not finite or nowhere to be found, a clip that is too short, weights that nothing
            in it answers, or a loss that is not finite.
    """
    evidence = evidence_of(clip, source, config.weights)
    device = next(encoder.parameters()).device
    side_px = encoder.config.side_px
    length = encoder.config.frames if encoder.config.frames > 1 else config.frames
    train, held = hold_out(evidence.frames, length)
    if reason := _too_weak(evidence, config):
        return _as_it_was(encoder, evidence, body, (), (*evidence.notes, reason))
    body = body.to(device)
    left = {name: evidence.weights.get(name, 0.0) for name in config.weights}
    task = MotionCaptureConfig(encoder=encoder.config, teacher_decay=1.0, weights=left)
    aign = build(task, copy.deepcopy(encoder), body, memory, seed=config.seed)
    feed = ClipFeed(evidence, train, length, config, (side_px, body, device))
    some = torch.linspace(0, len(held) - 1, min(len(held), JUDGED)).round().long()
    repeated = held[some].repeat_interleave(REPEATS)
    windows = Windows(starts=repeated, length=length, seed=torch.arange(len(repeated)))
    judged = guessed(evidence.observe(windows, side_px, body, HIDDEN).to(device))
    best, history = _run(aign, feed, judged, config)
    if best is None:
        return _as_it_was(encoder, evidence, body, history, (*evidence.notes, _not_enough(history, config)))
    kept, adapted = best
    return Adapted(
        encoder=adapted, bodies=_bodies(adapted, evidence, body), history=history, kept=kept, notes=evidence.notes
    )


def _run(
    aign: Aign[Observation, BodyFactors, BodyRender], feed: ClipFeed, judged: Observation, config: AdaptConfig
) -> tuple[tuple[int, Encoder] | None, tuple[Look, ...]]:
    """Train until the held-out windows gain no more; the best step and its encoder, None where none was good enough."""
    fit = FitConfig(steps=config.steps, lr=config.lr, critic_lr=config.critic_lr, ema=config.ema)
    state = start(aign, feed, fit, judged.conf.device)
    first = _look(state.aign, encoder_of(state.aign.encode), judged, 0, None)
    history, best, lowest = [first], None, 1 - config.margin
    with progress(config.steps, "adapt", "steps") as advance:
        for step in range(1, config.steps + 1):
            train_step(state, state.aign, fit, watched=False)
            state.step = step
            advance(1)
            if step % config.check_every and step != config.steps:
                continue
            averaged = encoder_of(state.ema.module)
            look = _look(state.aign, averaged, judged, step, first)
            history.append(look)
            found = look.losses.get("keypoints", 0.0) <= OUTLIERS
            if look.ratio < lowest and look.worst <= 1 + config.tolerance and found:
                best, lowest = (step, copy.deepcopy(averaged)), look.ratio
            lowest_at = min(history, key=lambda one: one.ratio).step
            if step - lowest_at >= config.patience * config.check_every:
                break
    return best, tuple(history)


@torch.no_grad()
def _look(
    aign: Aign[Observation, BodyFactors, BodyRender],
    encoder: Encoder,
    judged: Observation,
    step: int,
    first: Look | None,
) -> Look:
    """The kinds of evidence that are on, on the held-out windows."""
    on = {name: weight if name in OF_EVIDENCE else 0.0 for name, weight in aign.weights.items()}
    losses = replace(aign, weights=on).generator_losses(judged, encoder(judged))
    means = {name: float(value.mean()) for name, value in losses.items()}
    base = means if first is None else first.losses
    # A kind that says nothing of the held-out windows is 0 at every step, which is no gain.
    shares = [value / base[name] for name, value in means.items() if base[name] > TINY] or [1.0]
    return Look(step=step, losses=means, ratio=sum(shares) / len(shares), worst=max(shares))


def _too_weak(evidence: ClipEvidence, config: AdaptConfig) -> str:
    """Why the clip is not worth adapting to; "" where it is."""
    conf = evidence.clip.columns["kp2d_conf"]
    mean = float(conf[conf > 0].mean())
    if mean >= config.least_confidence:
        return ""
    return f"the keypoints' mean confidence is {mean:.2f}, less than {config.least_confidence}: nothing was adapted"


def _not_enough(history: tuple[Look, ...], config: AdaptConfig) -> str:
    """Why no step was good enough, by the one that explains most."""
    best = min(history, key=lambda look: look.ratio)
    return (
        f"no step is good enough. At the best, {best.step}, the held-out loss is {best.ratio - 1:+.1%} (needed: "
        f"{-config.margin:+.1%}), its worst kind of evidence {best.worst - 1:+.1%} (allowed: {config.tolerance:+.1%}), "
        f"hidden keypoints {best.losses.get('keypoints', 0.0):.3f} (allowed: {OUTLIERS:g}): the encoder stays as it was"
    )


def _as_it_was(
    encoder: Encoder, evidence: ClipEvidence, body: BodyAssets, history: tuple[Look, ...], notes: tuple[str, ...]
) -> Adapted:
    same = copy.deepcopy(encoder)
    return Adapted(encoder=same, bodies=_bodies(same, evidence, body), history=history, kept=0, notes=notes)


def _bodies(encoder: Encoder, evidence: ClipEvidence, body: BodyAssets) -> BodyFactors:
    config = encoder.config
    seen = observed(evidence.clip, config.frames, evidence.source, config.side_px, body.to("cpu"))
    was_training = encoder.training
    encoder.eval()
    bodies = capture(encoder, seen, next(encoder.parameters()).device)
    encoder.train(was_training)
    return bodies
