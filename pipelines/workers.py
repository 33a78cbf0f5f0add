"""How many Ray Train workers, and of what: always numbers of them that share a recipe's streams equally."""

from dataclasses import dataclass
from typing import Any

import ray.train as rt
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy

from aign.framework.errors import UserError
from infra.cluster import cpus, gpus


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Workers of a training.

    Attributes:
        least: so few are enough to train.
        most: so many are used where they can be had.
        gpus: of each, 0 to 1; a part of one is shared with others.
    """

    least: int
    most: int
    gpus: float = 0.0

    @staticmethod
    def fixed(count: int) -> "Workers":
        """So many, without GPUs."""
        return Workers(least=count, most=count)

    @staticmethod
    def parse(text: str, gpus: float = 0.0) -> "Workers":
        """From "2", or "1:4" for as many as there are.

        Raises:
            UserError: it is neither, or the GPUs are more than a worker can use.
        """
        least, _, most = text.partition(":")
        if not (least.isdecimal() and (most or least).isdecimal()) or int(least) > int(most or least):
            raise UserError(f"got --workers {text}; allowed are a number, 2, and a range, 1:4")
        if ":" in text and not int(least):
            raise UserError(f"got --workers {text}; allowed is a range from at least 1")
        if not 0 <= gpus <= 1:
            raise UserError(
                f"got --gpus-per-worker {gpus:g}; allowed is 0 to 1: a worker uses one GPU, take more workers"
            )
        return Workers(least=int(least), most=int(most or least), gpus=gpus)

    @property
    def shown(self) -> str:
        """As the user says it."""
        return str(self.most) if self.least == self.most else f"{self.least}:{self.most}"

    def check(self, streams: int, local: bool) -> None:
        """Refuse what could never run; asked of the connected cluster.

        Args:
            streams: of the recipe's loaders.
            local: the cluster is this machine and stays as it is; another one may still grow.

        Raises:
            UserError: as said.
        """
        usable = [count for count in divisors(streams) if self.least <= count <= self.most]
        if not usable or (self.least == self.most and self.most not in usable):
            allowed = ", ".join(map(str, divisors(streams)))
            raise UserError(
                f"got --workers {self.shown}; allowed are divisors of loader_streams ({streams}): {allowed}"
            )
        if not local:
            return
        if usable[0] > cpus():
            raise UserError(f"got --workers {self.shown}, of one CPU each; this machine has {cpus()}")
        if usable[0] * self.gpus > gpus():
            raise UserError(f"got {usable[0]} workers of {self.gpus:g} GPUs; Ray finds {gpus():g} on this machine")

    @property
    def scaling(self) -> rt.ScalingConfig:
        """For Ray."""
        number = self.most if self.least == self.most else (self.least, self.most)
        resources = {"CPU": 1.0} | ({"GPU": self.gpus} if self.gpus else {})
        return rt.ScalingConfig(num_workers=number, use_gpu=self.gpus > 0, resources_per_worker=resources)

    @property
    def torch(self) -> TorchConfig:
        """NCCL wants a whole GPU for each rank; gloo averages everything else."""
        return TorchConfig(backend="nccl" if self.gpus == 1 else "gloo")


def divisors(streams: int) -> list[int]:
    """The numbers of workers that share them equally."""
    return [count for count in range(1, streams + 1) if streams % count == 0]


class _EqualShares(ElasticScalingPolicy):  # type: ignore[misc]
    """As many workers as there is place for and as share the streams equally: of 8 streams 1, 2, 4 or 8."""

    def __init__(self, scaling: rt.ScalingConfig, streams: int) -> None:
        super().__init__(scaling)
        self._streams = streams

    def _count_possible_workers(self, reserved_resources: Any) -> int:
        possible = super()._count_possible_workers(reserved_resources)
        return max((count for count in divisors(self._streams) if count <= possible), default=0)


class EqualTrainer(TorchTrainer):  # type: ignore[misc]
    """Ray's trainer; where the number of workers is elastic, with the policy above.

    Args:
        streams: of the recipe's loaders.
        more: Ray's.
    """

    def __init__(self, *, streams: int, **more: Any) -> None:
        super().__init__(**more)
        self._streams = streams

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        if self.scaling_config.elasticity_enabled:  # Ray has no public way to say which numbers are allowed
            parts["scaling_policy"] = _EqualShares(self.scaling_config, self._streams)
        return super()._initialize_and_run_controller(**parts)
