"""Load of the machine while it trains, by MLflow's own monitors, whose own thread gives up when a server goes away."""

from contextlib import suppress
from typing import Any

from aign.registry.client import quieten


class SystemMetrics:
    """CPU, memory, disk, network, and NVIDIA GPUs where pynvml is installed."""

    def __init__(self) -> None:
        quieten()
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        self._monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        with suppress(ImportError, RuntimeError):  # no pynvml, or no GPU
            self._monitors.append(GPUMonitor())

    def read(self) -> dict[str, float]:
        """By the names under which MLflow's page shows them."""
        found: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            found |= {f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        return found
