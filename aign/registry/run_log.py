"""Metrics of a run over its steps: in batches, nothing twice, nothing missing."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aign.registry.client import client_of, told
from aign.registry.tracking import Tracking

METRICS_PER_BATCH = 500
FLUSH_SECONDS = 5.0
UNTRACKED = "cosine/"
"""Metrics that stay in metrics.jsonl: one for each two terms would bury the others, under names no server takes."""


@dataclass
class RunLog:
    """Metrics of one run over its steps, sent in batches.

    A resumed training repeats the steps since its checkpoint; whatever the run holds already is not logged again. So
    that nothing is missing either, call `flush` before each checkpoint is saved, and at the end.

    Attributes:
        tracking: where.
        run_id: of the run.
    """

    tracking: Tracking
    run_id: str
    _last: dict[str, int] = field(init=False)
    _waiting: list[Any] = field(init=False, default_factory=list)
    _sent_at: float = field(init=False)

    def __post_init__(self) -> None:
        client = client_of(self.tracking.uri)
        with told(f"read run {self.run_id} from {self.tracking.uri}"):
            known = client.get_run(self.run_id).data.metrics
            self._last = {k: max(m.step for m in client.get_metric_history(self.run_id, k)) for k in known}
        self._sent_at = time.monotonic()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of a step; a metric at or before its own last step is already there and is dropped.

        Cosines of gradients stay out.
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        for name, value in metrics.items():
            if name.startswith(UNTRACKED):
                continue
            if step > self._last.get(name, -1):
                self._last[name] = step
                self._waiting.append(Metric(name, float(value), now, step))
        if len(self._waiting) >= METRICS_PER_BATCH or time.monotonic() - self._sent_at > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what waits; on failure it goes on waiting."""
        while self._waiting:
            batch = self._waiting[:METRICS_PER_BATCH]
            with told(f"log metrics to {self.tracking.uri}"):
                client_of(self.tracking.uri).log_batch(self.run_id, metrics=batch)
            del self._waiting[: len(batch)]
        self._sent_at = time.monotonic()
