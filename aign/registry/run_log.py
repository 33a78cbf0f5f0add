"""Metrics of a run over its steps: in batches, nothing twice, nothing missing, whatever the server does meanwhile."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aign.framework.errors import StorageError
from aign.registry.client import client_of, told
from aign.registry.system_metrics import SystemMetrics
from aign.registry.tracking import Tracking, check_there

METRICS_PER_BATCH = 500
FLUSH_SECONDS = 5.0
UNTRACKED = "cosine/"
"""Metrics that stay in metrics.jsonl: one for each two terms would bury the others, under names no server takes."""
RETRY_SECONDS = 10.0
"""After a failure; a server that hangs costs one health check (at most ten seconds) each time."""
SAMPLE_SECONDS = 10.0


@dataclass
class RunLog:
    """Metrics of one run over its steps, sent in batches while it trains, with the machine's own beside them.

    A resumed training repeats the steps since its checkpoint; whatever the run holds already is not logged again. A
    store that fails does not stop a training: what could not be sent waits, and `sync` at the end sends what no process
    was left to send.

    Attributes:
        tracking: where.
        run_id: of the run.
        system: reads the machine's metrics; None: nobody asked.
    """

    tracking: Tracking
    run_id: str
    system: SystemMetrics | None = None
    _last: dict[str, int] | None = field(init=False, default=None)
    _waiting: list[Any] = field(init=False, default_factory=list)
    _next: float = field(init=False, default_factory=lambda: time.monotonic() + FLUSH_SECONDS)
    _next_sample: float = field(init=False, default=0.0)
    _down: bool = field(init=False, default=False)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of a step; a metric at or before its own last step is already there and is dropped.

        Cosines of gradients stay out.
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        kept = {name: value for name, value in metrics.items() if not name.startswith(UNTRACKED)}
        self._waiting += [Metric(name, float(value), now, step) for name, value in kept.items()]
        if self.system and time.monotonic() >= self._next_sample:
            self._next_sample = time.monotonic() + SAMPLE_SECONDS
            # At the training's own steps, so that both stand on one axis.
            self._waiting += [Metric(name, value, now, step) for name, value in self.system.read().items()]
        due = len(self._waiting) >= METRICS_PER_BATCH and not self._down
        if due or time.monotonic() >= self._next:
            self.flush()

    def flush(self) -> None:
        """Send what waits; on failure it goes on waiting, and one line says so."""
        try:
            self._send()
        except StorageError as error:
            if not self._down:
                print(f"{error}; the training goes on, its metrics are sent later", file=sys.stderr, flush=True)
            self._down, self._next = True, time.monotonic() + RETRY_SECONDS
            return
        if self._down:
            print(f"metrics are in {self.tracking.uri} again", file=sys.stderr, flush=True)
        self._down, self._next = False, time.monotonic() + FLUSH_SECONDS

    def _send(self) -> None:
        if not self._waiting:
            return
        # MLflow itself would try for minutes, and the training would wait for it.
        check_there(self.tracking)
        client = client_of(self.tracking.uri)
        if self._last is None:
            with told(f"read run {self.run_id} from {self.tracking.uri}"):
                known = client.get_run(self.run_id).data.metrics
                self._last = {k: max(m.step for m in client.get_metric_history(self.run_id, k)) for k in known}
        while self._waiting:
            batch = self._waiting[:METRICS_PER_BATCH]
            new = [metric for metric in batch if metric.step > self._last.get(metric.key, -1)]
            with told(f"log metrics to {self.tracking.uri}"):
                client.log_batch(self.run_id, metrics=new)
            self._last |= {metric.key: metric.step for metric in new}
            del self._waiting[: len(batch)]


def sync(tracking: Tracking, run_id: str, rows: Sequence[Mapping[str, Any]]) -> int:
    """Send what a run lacks of a training's own log, for example because a worker died while the server was away.

    Args:
        tracking: where.
        run_id: of the run.
        rows: of metrics.jsonl: "step", and metrics by name.

    Returns:
        How many numbers were missing.

    Raises:
        StorageError: the store fails.
    """
    from mlflow.entities import Metric

    client = client_of(tracking.uri)
    with told(f"log metrics to {tracking.uri}"):
        known = client.get_run(run_id).data.metrics
        there = {(name, m.step) for name in known for m in client.get_metric_history(run_id, name)}
        now = int(time.time() * 1000)
        missing = [
            Metric(name, float(value), now, int(row["step"]))
            for row in rows
            for name, value in row.items()
            if name != "step" and not name.startswith(UNTRACKED) and (name, int(row["step"])) not in there
        ]
        for start in range(0, len(missing), METRICS_PER_BATCH):
            client.log_batch(run_id, metrics=missing[start : start + METRICS_PER_BATCH])
    return len(missing)
