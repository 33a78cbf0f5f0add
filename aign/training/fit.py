"""Alternating training of a generator and its critics."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from aign.data.progress import progress
from aign.framework.aign import Aign
from aign.framework.errors import UserError
from aign.training.gradients import cosines, dead_terms, louder, shares, squares, term_products
from aign.training.hooks import Hooks
from aign.training.precision import InBfloat16
from aign.training.state import Feed, TrainState, averaged, nets

BETAS = (0.5, 0.999)
"""Adam's moments; the first is the author code's (papers.md 2.4)."""


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How long and how fast.

    Attributes:
        steps: generator steps; critics step as often.
        lr: learning rate of the generator at the start; it falls to a hundredth along a cosine.
        critic_lr: constant learning rate of the critics.
        clip_norm: the generator's gradient is clipped to this norm.
        ema: decay of the averaged generator.
        log_every: steps between logged losses and gradients of the terms.
        validate_every: steps between validations and checkpoints.
        accumulate: batches of a step. Their gradients are averaged before the networks are updated once, so that a
            step learns from so many times the recipe's batch with the memory of one.
        bfloat16: whether the networks compute in it; their parameters, the renderer and the losses stay float32.
    """

    steps: int = 2000
    lr: float = 1e-3
    critic_lr: float = 2e-4
    clip_norm: float = 1.0
    ema: float = 0.995
    log_every: int = 20
    validate_every: int = 500
    accumulate: int = 1
    bfloat16: bool = False

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise UserError(f"got accumulate {self.accumulate}; allowed is at least 1")


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """What a training ends with.

    Attributes:
        ema: the averaged generator.
        metrics: of the last validation.
        steps_per_second: of the loop alone, without validation.
        dead: terms and critics whose gradient never counted (aign.training.gradients); `dead_warning` says it.
    """

    ema: nn.Module
    metrics: dict[str, float]
    steps_per_second: float
    dead: tuple[str, ...]


def _parameters(state: TrainState, name: str) -> list[nn.Parameter]:
    """Of one network, as its optimizer holds them: to walk its modules again costs more than most of its layers."""
    found: list[nn.Parameter] = state.optimizers[name].param_groups[0]["params"]
    return found


def _freeze(state: TrainState, frozen: bool) -> None:
    for name in state.aign.playing:
        for parameter in _parameters(state, name):
            parameter.requires_grad_(not frozen)


def _check_finite(step: int, values: Mapping[str, Tensor]) -> None:
    """One question to the device for all of them."""
    if not torch.stack(list(values.values())).isfinite().all():
        bad = {name: float(value) for name, value in values.items() if not value.isfinite()}
        raise UserError(
            f"the loss is not finite at step {step}: {bad}; no network was updated and the last checkpoint is "
            "good. Lower --fit.lr or the weight of what is named"
        )


def _backward(
    state: TrainState, bare: Aign[Any, Any, Any], wrapped: Aign[Any, Any, Any], share: float, watched: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:  # the two updates share one generator pass
    """Add `share` of the next batch's gradients to every network's; its mean losses and its `term_products`."""
    batch = state.feed.next()
    z = wrapped.encode(batch)
    _freeze(state, True)
    losses = bare.generator_losses(batch, z)
    pulls = term_products(bare, losses, z) if watched else {}
    (share * bare.total(losses)).backward()  # type: ignore[no-untyped-call]
    _freeze(state, False)
    critic_losses = wrapped.critic_losses(batch, z)
    for loss in critic_losses.values():
        (share * loss).backward()  # type: ignore[no-untyped-call]
    means = {name: value.detach().mean() for name, value in losses.items()}
    return means | {f"critic/{name}": value.detach() for name, value in critic_losses.items()}, pulls


def _computed(aign: Aign[Any, Any, Any], config: FitConfig) -> Aign[Any, Any, Any]:
    """The same networks in the precision that is asked for."""
    return aign.map_nets(InBfloat16) if config.bfloat16 else aign


@contextmanager
def _unshared(aign: Aign[Any, Any, Any], still: bool) -> Iterator[None]:
    """While it is `still` so, gradients add up in each rank; they cross the network with the last batch."""
    with ExitStack() as stack:
        for net in nets(aign).values():
            if still and isinstance(net, DistributedDataParallel):
                stack.enter_context(net.no_sync())
        yield


def _mean(of: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Name by name."""
    return of[0] if len(of) == 1 else {name: torch.stack([one[name] for one in of]).mean(0) for name in of[0]}


def train_step(
    state: TrainState, wrapped: Aign[Any, Any, Any], config: FitConfig, watched: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """One step of the generator and one of the critics on the same factors, of the feed's next batch or batches.

    The generator's losses go through the bare, frozen critics, so no critic gradient is averaged in that step; the
    critics' go through the wrapped ones. No network is updated before every loss and gradient is known to be finite.

    Returns:
        The mean losses, detached; and of a step that is watched the `term_products`, which change nothing.
    """
    playing = ("encode", *state.aign.playing)
    for name in playing:
        state.optimizers[name].zero_grad(set_to_none=True)
    bare, found = _computed(state.aign, config), []
    for left in reversed(range(config.accumulate)):
        with _unshared(wrapped, left > 0):
            found.append(_backward(state, bare, wrapped, 1 / config.accumulate, watched))
    means, pulls = _mean([one for one, _ in found]), _mean([one for _, one in found])
    norms = {"gradient": nn.utils.clip_grad_norm_(_parameters(state, "encode"), config.clip_norm)}
    for name in state.aign.playing:
        gradients = [p.grad for p in _parameters(state, name) if p.grad is not None]
        norms[f"critic/{name} gradient"] = nn.utils.get_total_norm(gradients)
    # Checked after the backward passes: averaging has carried one rank's NaN to all, so that all stop and none waits.
    _check_finite(state.step, {**means, **norms})
    for name in playing:
        state.optimizers[name].step()
    state.ema.update_parameters(state.aign.encode)
    return means, pulls


def _cosine(start: float, step: int, steps: int) -> float:
    return start * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / max(steps, 1))))


def _mean_over_ranks(values: Mapping[str, Tensor], world: int) -> dict[str, Tensor]:
    """One reduction for all values of one shape, and one device synchronisation."""
    stacked = torch.stack([v.double() for v in values.values()])
    if world > 1:
        torch.distributed.all_reduce(stacked)
        stacked = stacked / world
    return dict(zip(values, stacked.cpu(), strict=True))


def _logged(losses: Mapping[str, Tensor], pulls: Mapping[str, Tensor]) -> dict[str, float]:
    """Losses, the root mean square over the samples of each term's weighted gradient at the outputs, their cosines."""
    gradients = {f"gradient/{name}": float(value.sum().sqrt()) for name, value in squares(pulls).items()}
    directions = {f"cosine/{pair}": value for pair, value in cosines(pulls).items()}
    return {f"loss/{name}": float(value) for name, value in losses.items()} | gradients | directions


def _adam(net: nn.Module, lr: float) -> torch.optim.Adam:
    """All parameters in one pass: a fifth of the time of one after the other, on a processor too."""
    return torch.optim.Adam(net.parameters(), lr=lr, betas=BETAS, fused=True)


def _channels_last(net: nn.Module) -> nn.Module:
    moved: nn.Module = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    return moved


def start(aign: Aign[Any, Any, Any], feed: Feed, config: FitConfig, device: torch.device) -> TrainState:
    """A training at step 0: networks and memories on the device, optimizers made."""
    if config.bfloat16:  # the layout of pixels that such convolutions are fastest in
        aign = aign.map_nets(_channels_last)
    optimizers = {"encode": _adam(aign.encode.to(device), config.lr)}
    critics = {}
    for name, critic in aign.critics.items():
        optimizers[name] = _adam(critic.net.to(device), config.critic_lr)
        memory = dataclasses.replace(critic.memory, values=critic.memory.values.to(device))
        critics[name] = dataclasses.replace(critic, memory=memory)
    aign = dataclasses.replace(aign, critics=critics)
    return TrainState(aign=aign, ema=averaged(aign.encode, config.ema), optimizers=dict(optimizers), feed=feed)


def fit(
    aign: Aign[Any, Any, Any],
    feed: Feed,
    config: FitConfig,
    hooks: Hooks,
    validate: Callable[[nn.Module], dict[str, float]],
    identity: Mapping[str, Any],
) -> FitResult:
    """Train, validate, checkpoint; resumes exactly when the hooks have a checkpoint.

    Args:
        aign: the problem, with bare networks.
        feed: batches of this rank.
        config: how long and how fast.
        hooks: where it runs.
        validate: protocol metrics of a generator (the averaged one is given); asked of rank 0 only.
        identity: the configuration as plain data; resuming under another is refused.

    Raises:
        UserError: a loss or gradient that is not finite, or a checkpoint of another configuration.
    """
    state = start(aign, feed, config, hooks.device)
    if (saved := hooks.restore()) is not None:
        state.load_state_dict(saved, identity)
    wrapped = _computed(state.aign, config).map_nets(hooks.wrap)
    metrics, loudest = (dict((saved or {}).get(name, {})) for name in ("metrics", "loudest"))
    seconds, first = 0.0, state.step
    with progress(config.steps - first, "train", "steps") as advance:
        while state.step < config.steps:
            began = time.perf_counter()
            state.optimizers["encode"].param_groups[0]["lr"] = _cosine(config.lr, state.step, config.steps)
            watched = (state.step + 1) % config.log_every == 0 or state.step + 1 == config.steps
            losses, pulls = train_step(state, wrapped, config, watched)
            state.step += 1
            if watched:
                losses, pulls = (_mean_over_ranks(values, hooks.world) for values in (losses, pulls))
                loudest = louder(loudest, shares(squares(pulls)))
                hooks.log(state.step, _logged(losses, pulls))
            seconds += time.perf_counter() - began
            due = state.step % config.validate_every == 0 or state.step == config.steps
            if due:
                metrics = validate(state.ema.module) if hooks.rank == 0 else {}
                hooks.log(state.step, metrics)
            if due or (watched and hooks.leaving()):  # at a watched step the ranks have met anyway
                saved = {**state.state_dict(identity), "metrics": metrics, "loudest": loudest}
                hooks.save(state.step, saved, metrics if due else {})
            advance(1)
    speed = (state.step - first) / max(seconds, 1e-9)
    return FitResult(ema=state.ema.module, metrics=metrics, steps_per_second=speed, dead=dead_terms(loudest))
