"""Everything a training is made of at one moment, and how it is saved and put back exactly."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from aign.framework.aign import Aign
from aign.framework.errors import UserError


@runtime_checkable
class Feed(Protocol):
    """An endless stream of batches that knows where it is."""

    def next(self) -> Any:
        """The next batch of this rank."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where it is."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go there."""
        ...


@dataclass
class TrainState:
    """The moving parts of a training. `aign` holds the bare networks."""

    aign: Aign[Any, Any, Any]
    ema: AveragedModel
    optimizers: dict[str, torch.optim.Optimizer]
    feed: Feed
    step: int = 0

    def state_dict(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """All of it, with the configuration it belongs to."""
        return {
            "step": self.step,
            "config": dict(config),
            "nets": {name: net.state_dict() for name, net in nets(self.aign).items()},
            "ema": self.ema.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "memories": {name: c.memory.generator.get_state() for name, c in self.aign.critics.items()},
            "feed": self.feed.state_dict(),
            "rng": torch.get_rng_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Go on exactly where `state` was; another configuration is refused, because it would be another run."""
        changed = {k for k in config.keys() | state["config"].keys() if config.get(k) != state["config"].get(k)}
        if changed:
            raise UserError(
                f"this run was started with another configuration; different: {', '.join(sorted(changed))}; "
                "give the run a new name, or the old configuration to resume it"
            )
        for name, net in nets(self.aign).items():
            net.load_state_dict(state["nets"][name])
        self.ema.load_state_dict(state["ema"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        for name, critic in self.aign.critics.items():
            critic.memory.generator.set_state(state["memories"][name])
        self.feed.load_state_dict(state["feed"])
        torch.set_rng_state(state["rng"])
        self.step = state["step"]


def nets(aign: Aign[Any, Any, Any]) -> dict[str, nn.Module]:
    """Every network by name; the generator is "encode"."""
    return {"encode": aign.encode, **{name: critic.net for name, critic in aign.critics.items()}}


def averaged(net: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of a network: the model that is evaluated, tuned on and registered."""
    return AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]
