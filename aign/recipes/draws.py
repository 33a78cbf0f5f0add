"""The numbers of a search's trials, one after the other: at random, or where Optuna expects good ones.

A draw is a function of the seed, the trial's number and what is known so far, and of nothing else. So a search that was
killed goes on by asking again, and two searches at random with one seed are the same however their trials end.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from aign.framework.errors import UserError
from aign.recipes.search import Space

Method: TypeAlias = Literal["random", "optuna"]
STARTUP = 10
"""So many trials are drawn at random before Optuna has something to go by."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """A trial so far: its numbers and what it came to; None while it runs, infinity where it failed."""

    values: Mapping[str, float]
    loss: float | None


def draw(method: Method, space: Space, seed: int, number: int, known: Sequence[Known]) -> dict[str, float]:
    """The numbers of a trial.

    Args:
        method: "random", or "optuna": its TPE sampler, after `STARTUP` random ones.
        space: where.
        seed: of the search.
        number: of the trial.
        known: the other trials so far.
    """
    if method == "optuna" and number >= STARTUP:
        return _by_optuna(space, seed, number, known)
    random = np.random.default_rng((seed, number)).uniform(size=len(space))
    return {
        name: math.exp(math.log(r.low) + share * (math.log(r.high) - math.log(r.low)))
        for (name, r), share in zip(space.items(), random.tolist(), strict=True)
    }


def check(method: Method) -> None:
    """Refuse a search whose package is not there.

    Raises:
        UserError: naming it.
    """
    if method == "optuna":
        _optuna()


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UserError(
            "got --search optuna, and Optuna is not installed: pip install 'aign[tune-optuna]'; allowed without it: "
            "--search random"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _by_optuna(space: Space, seed: int, number: int, known: Sequence[Known]) -> dict[str, float]:
    """Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NIPS 2011; a running trial keeps others away."""
    optuna = _optuna()
    ranges = {name: optuna.distributions.FloatDistribution(r.low, r.high, log=True) for name, r in space.items()}
    mixed = int(np.random.default_rng((seed, number)).integers(2**31))
    sampler = optuna.samplers.TPESampler(seed=mixed, n_startup_trials=1, constant_liar=True)
    study = optuna.create_study(direction="minimize", sampler=sampler)
    state = optuna.trial.TrialState
    finite = [k.loss for k in known if k.loss is not None and math.isfinite(k.loss)]
    for one in known:
        # What failed is as bad as the worst: left out, the sampler would look there again.
        loss = max(finite, default=0.0) if one.loss == math.inf else one.loss
        values = {name: float(np.clip(one.values[name], r.low, r.high)) for name, r in space.items()}
        told = optuna.trial.create_trial(
            params=values, distributions=ranges, value=loss, state=state.RUNNING if loss is None else state.COMPLETE
        )
        study.add_trial(told)
    return dict(study.ask(ranges).params)
